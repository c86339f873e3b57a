package faults

import (
	"context"
	"errors"
	"time"

	"gameday/clusters"
)

var apiserverStop = Kind{
	Name: "apiserver.stop",
	Doc:  "Stops the API server of the targets and keeps it down.",
	Rehearses: "A static pod that does not start, or that was taken away for maintenance: the load balancer must leave it out for as " +
		"long, and clients that know only this one, as its node's kubelet, are on their own " +
		"(https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/#dynamic-addition-and-removal-of-static-pods).",
	Mechanism: "kube-apiserver's static pod manifest is moved out of the kubelet's folder, and its process killed by pidfd",
	Undo:      "the guard, or gameday heal, puts the manifest back; a newer one that stands there stays",
	Roles:     []clusters.Role{clusters.ControlPlane},
	Needs:     []clusters.Capability{clusters.CapFiles, clusters.CapProcesses, clusters.CapKubelet},
	Cost:      Cost{APIServers: 1},
	// As for etcd.stop, whose node's kubelet talks to the same API server.
	ProveWithin: 30 * time.Second,
	GoneWithin:  7 * time.Minute,
	Trials:      []Trial{{Name: "apiserver-stop", Target: Target{Pick: PickOne}}},
	New:         func() Fault { return &APIServerStop{} },
}

// APIServerStop is the fault apiserver.stop. It has no parameters.
type APIServerStop struct{}

// Describe implements Describer.
func (*APIServerStop) Describe(targets []string) []string {
	return append(each(targets, "%s: mv "+apiserverManifest.standing()+" "+apiserverManifest.parked("TAG")),
		each(targets, "%s: pidfd_send_signal(kube-apiserver, SIGKILL)")...)
}

// Inject takes the manifest away first, so that the kubelet does not restart what is
// killed then.
func (*APIServerStop) Inject(ctx context.Context, env Env) error {
	for _, n := range env.Targets {
		if err := apiserverManifest.park(ctx, n, env.Tag); err != nil {
			return err
		}
		refs, err := find(ctx, n, "kube-apiserver")
		if err != nil {
			return err
		}
		if err := kill(ctx, refs); err != nil {
			return err
		}
	}
	return nil
}

// Heal puts the manifest back. When the kubelet takes it up is the cluster's own
// time, and is measured.
func (*APIServerStop) Heal(ctx context.Context, env Env) error {
	var errs []error
	for _, n := range env.Targets {
		errs = append(errs, apiserverManifest.unpark(ctx, n, env.Tag))
	}
	return errors.Join(errs...)
}

// Prove asks the API server itself, and another one.
func (*APIServerStop) Prove(ctx context.Context, env Env) (Effect, error) {
	s := apiserver()
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		m, text, err := s.meet(ctx, env, n)
		if err != nil {
			return seen{}, err
		}
		away, err := apiserverManifest.isParked(ctx, n, env.Tag)
		if err != nil {
			return seen{}, err
		}
		switch {
		case m != speaks:
			// One that is about to be started refuses too.
			return seen{broken: away && m == refusing, evidence: m.String() + ": " + text}, nil
		case away:
			return seen{evidence: "its manifest is away, but it answers still, or again"}, nil
		}
		if err := s.serves(ctx, env, n); err != nil {
			return seen{evidence: err.Error()}, ctx.Err()
		}
		return seen{whole: true, evidence: "/readyz ok"}, nil
	})
	if err != nil {
		return e, err
	}
	e.At = time.Now()
	return s.withControl(ctx, env, e), nil
}
