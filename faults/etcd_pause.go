package faults

import (
	"context"
	"time"

	"gameday/clusters"
)

var etcdPause = Kind{
	Name: "etcd.pause",
	Doc:  "Pauses the etcd process of the targets: it takes connections and answers nothing.",
	Rehearses: "A member that hangs, or whose machine is paused for a live migration or a snapshot: its peers see no broken " +
		"connection. When it was the leader the others elect a new one after the election timeout, and it must step down when it " +
		"goes on (https://etcd.io/docs/v3.6/op-guide/failures/#leader-failure).",
	Mechanism:   "SIGSTOP by pidfd; one that its liveness probe restarts (after about two minutes) is paused again",
	Undo:        "the guard, or gameday heal, sends SIGCONT to the processes in the journal that still live",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapProcesses},
	Cost:        Cost{EtcdMembers: 1, APIServers: 1},
	ProveWithin: 20 * time.Second,
	GoneWithin:  7 * time.Minute, // as for etcd.stop: it may have been restarted meanwhile
	Trials: []Trial{
		{Name: "etcd-pause-leader", Target: Target{Pick: PickLeader}},
		{Name: "etcd-pause-follower", Target: Target{Pick: PickFollower}},
	},
	New: func() Fault { return &EtcdPause{pausing{of: etcdMemberService()}} },
}

// EtcdPause is the fault etcd.pause. It has no parameters.
type EtcdPause struct {
	pausing `yaml:"-" json:"-"`
}

func etcdMemberService() service {
	return service{
		name: "etcd", programs: []string{"etcd"},
		meet: func(ctx context.Context, _ Env, n clusters.Node) (met, string, error) {
			// Nothing is served there, which the process says without its peers.
			return meet(ctx, fromHere, at("http", n, etcdMetrics, "/"))
		},
		serves:  serves,
		control: well,
	}
}
