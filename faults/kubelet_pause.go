package faults

import (
	"time"

	"gameday/clusters"
)

var kubeletPause = Kind{
	Name: "kubelet.pause",
	Doc:  "Pauses the kubelet of the targets: the node goes NotReady after 40 s, its pods go on.",
	Rehearses: "A kubelet that hangs, as it did when the list of containers took too long or a volume did not answer: no probe, " +
		"no start and no end of a pod on that node, and eviction of what runs there after five minutes more " +
		"(https://kubernetes.io/docs/concepts/architecture/nodes/#node-heartbeats).",
	Mechanism:   "SIGSTOP by pidfd; one that was restarted is paused again",
	Undo:        "the guard, or gameday heal, sends SIGCONT to the processes in the journal that still live",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapProcesses, clusters.CapKubelet},
	Cost:        Cost{Kubelets: 1},
	ProveWithin: 20 * time.Second,
	GoneWithin:  2 * time.Minute,
	Trials:      []Trial{{Name: "kubelet-pause", Target: Target{Pick: PickOne, Role: "worker"}}},
	New:         func() Fault { return &KubeletPause{pausing{of: kubelet()}} },
}

// KubeletPause is the fault kubelet.pause. It has no parameters.
type KubeletPause struct {
	pausing `yaml:"-" json:"-"`
}
