package faults

import (
	"time"

	"gameday/clusters"
)

var kubeletKill = Kind{
	Name: "kubelet.kill",
	Doc:  "Kills the kubelet of the targets, which systemd starts again; the pods go on.",
	Rehearses: "A kubelet that crashes, or is restarted for an upgrade: it must find the pods that run, and admit them again, without " +
		"restarting any (https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-upgrade/).",
	Mechanism:   "SIGKILL by pidfd to the kubelet below the node's first process",
	Undo:        "none needed: systemd restarts it after a second",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapProcesses, clusters.CapKubelet},
	Cost:        Cost{Kubelets: 1},
	ProveWithin: 20 * time.Second,
	GoneWithin:  2 * time.Minute,
	Instant:     true,
	Trials: []Trial{
		{Name: "kubelet-kill", Target: Target{Pick: PickOne, Role: "worker"}},
		{Name: "kubelet-kill-control-plane", Target: Target{Pick: PickOne, Role: "control-plane"}},
	},
	New: func() Fault { return &KubeletKill{killing{of: kubelet()}} },
}

// KubeletKill is the fault kubelet.kill. It has no parameters.
type KubeletKill struct {
	killing `yaml:"-" json:"-"`
}
