package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gameday/clusters"
)

var etcdStop = Kind{
	Name: "etcd.stop",
	Doc:  "Stops the etcd member of the targets and keeps it down.",
	Rehearses: "A member that is gone for a while: a failed disk, a node under repair, a static pod that does not start. " +
		"The API server beside it loses its only etcd. Two of three down at once is the loss of quorum " +
		"(https://etcd.io/docs/v3.6/op-guide/failures/).",
	Mechanism: "etcd's static pod manifest is moved out of the kubelet's folder, and its process killed by pidfd",
	Undo:      "the guard, or gameday heal, puts the manifest back; a newer one that stands there stays",
	Roles:     []clusters.Role{clusters.ControlPlane},
	Needs:     []clusters.Capability{clusters.CapFiles, clusters.CapProcesses, clusters.CapKubelet},
	Cost:      Cost{EtcdMembers: 1, APIServers: 1},
	// The kubelet looks at its folder at once (inotify), or after 20 s:
	// k8s.io/kubernetes@v1.37.0 pkg/kubelet/apis/config/v1beta1/defaults.go FileCheckFrequency.
	ProveWithin: 30 * time.Second,
	// Once the manifest is back it takes the kubelet half a minute to three minutes
	// (measured): it began to delete the mirror pod when the manifest went, in the
	// one loop that also looks for new manifests, and the API server of its own
	// node, which has lost its only etcd, lets it wait for 34 s, again and again
	// (k8s.io/kubernetes@v1.36.1 pkg/kubelet/kubelet_pods.go HandlePodCleanups). That
	// API server may itself have been restarted for its liveness probe so often that
	// it is in back-off, at most 5 min between two starts.
	GoneWithin: 7 * time.Minute,
	Trials:     []Trial{{Name: "etcd-stop", Target: Target{Pick: PickOne}}},
	New:        func() Fault { return &EtcdStop{} },
}

// EtcdStop is the fault etcd.stop. It has no parameters.
type EtcdStop struct{}

// Describe implements Describer.
func (*EtcdStop) Describe(targets []string) []string {
	return append(each(targets, "%s: mv "+standing+" "+parked("TAG")),
		each(targets, "%s: pidfd_send_signal(etcd, SIGKILL)")...)
}

// Inject takes the manifest away first, so that the kubelet does not restart what is
// killed then.
func (*EtcdStop) Inject(ctx context.Context, env Env) error {
	for _, n := range env.Targets {
		if err := park(ctx, n, env.Tag); err != nil {
			return err
		}
		if err := killEtcd(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// killEtcd ends the member on a node at once; the kubelet would take some seconds
// to stop its pod.
func killEtcd(ctx context.Context, n clusters.Node) error {
	refs, err := find(ctx, n, "etcd")
	if err != nil {
		return err
	}
	return kill(ctx, refs)
}

// Heal puts the manifest back. When the kubelet takes it up is the cluster's own
// time, and is measured.
func (*EtcdStop) Heal(ctx context.Context, env Env) error {
	var errs []error
	for _, n := range env.Targets {
		errs = append(errs, unpark(ctx, n, env.Tag))
	}
	return errors.Join(errs...)
}

// Prove asks the member itself, and another one whether the rest works.
func (*EtcdStop) Prove(ctx context.Context, env Env) (Effect, error) {
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		down := refuses(ctx, n)
		if down != nil && ctx.Err() != nil {
			return seen{}, ctx.Err()
		}
		away, err := isParked(ctx, n, env.Tag)
		if err != nil {
			return seen{}, err
		}
		if down != nil {
			// A member that is about to be started refuses too.
			return seen{broken: away, evidence: down.Error()}, nil
		}
		if away {
			return seen{evidence: "its manifest is away, but the member answers still, or again"}, nil
		}
		if err := serves(ctx, env, n); err != nil {
			return seen{evidence: err.Error()}, nil
		}
		return seen{whole: true, evidence: "voter in sync, API server ready"}, nil
	})
	if err != nil {
		return e, err
	}
	if e.Active {
		if e.Control, err = well(ctx, env); err != nil {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but the others do not work either: %v", err)
		}
	}
	e.At = time.Now()
	return e, nil
}
