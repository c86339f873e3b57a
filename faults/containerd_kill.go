package faults

import (
	"context"
	"time"

	"gameday/clusters"
)

var containerdKill = Kind{
	Name: "containerd.kill",
	Doc:  "Kills containerd on the targets, which systemd starts again; the containers go on under their shims.",
	Rehearses: "A container runtime that crashes or is upgraded: the kubelet loses it for seconds, must not take its pods for dead, and no " +
		"container may end with it (https://github.com/containerd/containerd/blob/main/docs/ops.md#systemd).",
	Mechanism:   "SIGKILL by pidfd to containerd below the node's first process",
	Undo:        "none needed: systemd restarts it after a second",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapProcesses, clusters.CapKubelet},
	Cost:        Cost{Kubelets: 1},
	ProveWithin: 20 * time.Second,
	GoneWithin:  2 * time.Minute,
	Instant:     true,
	Trials:      []Trial{{Name: "containerd-kill", Target: Target{Pick: PickOne, Role: "worker"}}},
	New: func() Fault {
		meetIt := func(ctx context.Context, _ Env, n clusters.Node) (met, string, error) { return meetContainerd(ctx, n) }
		return &ContainerdKill{killing{of: service{
			name: "containerd", programs: []string{"containerd"}, meet: meetIt, serves: nodeServes,
			control: elsewhere(machines, "has a containerd that answers", meetIt),
		}}}
	},
}

// ContainerdKill is the fault containerd.kill. It has no parameters.
type ContainerdKill struct {
	killing `yaml:"-" json:"-"`
}
