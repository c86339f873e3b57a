package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gameday/clusters"
)

var loadbalancerDeadBackend = Kind{
	Name: "loadbalancer.dead-backend",
	Doc:  "Cuts the load balancer off from the API servers of the targets, in silence: all others still reach them.",
	Rehearses: "A backend that is dead to the load balancer alone: until a health check has failed often enough it goes on sending every n-th " +
		"client there, which waits and must try again (https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/high-availability/" +
		"#create-load-balancer-for-kube-apiserver). What is connected through it hangs until it gives up.",
	Mechanism:   "as network.partition, between the load balancer and the targets, both ways",
	Undo:        "the kernel: the table goes with the process that owns it, and each pair expires 10 s after its last refresh",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapNetwork, clusters.CapProcesses},
	Cost:        Cost{APIServers: 1},
	ProveWithin: 20 * time.Second,
	GoneWithin:  time.Minute,
	Trials:      []Trial{{Name: "loadbalancer-dead-backend", Target: Target{Pick: PickOne}}},
	New:         func() Fault { return &DeadBackend{} },
}

const (
	// throughBalancer is how many requests are made through the load balancer to see
	// what clients get; each has askTime.
	throughBalancer = 6
)

// DeadBackend is the fault loadbalancer.dead-backend. It has no parameters.
type DeadBackend struct{ cut Partition }

// Describe implements Describer.
func (f *DeadBackend) Describe(targets []string) []string { return f.partition().Describe(targets) }

// partition is the fault that does it.
func (f *DeadBackend) partition() *Partition {
	f.cut.From, f.cut.Direction = Peers{"load-balancer[0]"}, "both"
	return &f.cut
}

// Inject cuts.
func (f *DeadBackend) Inject(ctx context.Context, env Env) error {
	return f.partition().Inject(ctx, env)
}

// Heal lifts the cut.
func (f *DeadBackend) Heal(ctx context.Context, env Env) error { return f.partition().Heal(ctx, env) }

// Prove connects from inside the load balancer, asks the API server from here, and sees
// what clients get through the load balancer.
func (f *DeadBackend) Prove(ctx context.Context, env Env) (Effect, error) {
	balancers := clusters.ByRole(env.Cluster.Nodes(), clusters.LoadBalancer)
	if len(balancers) == 0 {
		return Effect{}, errors.New("the cluster has no load balancer")
	}
	lb := balancers[0]
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		open, err := peerOpen(ctx, lb, n, apiserverPort)
		if err != nil {
			return seen{}, err
		}
		ready := readyz(ctx, env.Cluster, n)
		if ready != nil && ctx.Err() != nil {
			return seen{}, ctx.Err()
		}
		way := map[bool]string{true: "the load balancer reaches it", false: "silent for the load balancer"}[open]
		if ready != nil {
			return seen{evidence: way + "; but it is not ready: " + ready.Error()}, nil
		}
		return seen{broken: !open, whole: open, evidence: way + ", ready for others"}, nil
	})
	if err != nil {
		return e, err
	}
	e.At = time.Now()
	e.Evidence += "; " + f.clients(ctx, env)
	rest := others(env)
	if !e.Active || len(rest) == 0 {
		return e, nil
	}
	e.Control, err = control(ctx, rest, "is reached by the load balancer", func(ctx context.Context, n clusters.Node) error {
		open, err := peerOpen(ctx, lb, n, apiserverPort)
		if err == nil && !open {
			err = fmt.Errorf("%s is silent for the load balancer too", n.Name())
		}
		return err
	})
	if err != nil {
		e.Active = false
		e.Evidence += fmt.Sprintf("; but it reaches nobody else either: %v", err)
	}
	return e, nil
}

// clients says what requests through the load balancer get.
func (*DeadBackend) clients(ctx context.Context, env Env) string {
	for _, end := range env.Cluster.Endpoints() {
		if end.Node != nil {
			continue
		}
		answered := 0
		var longest time.Duration
		for range throughBalancer {
			began := time.Now()
			if readyzAt(ctx, end.Config) == nil {
				answered++
			}
			longest = max(longest, time.Since(began))
		}
		return fmt.Sprintf("%d of %d requests through the load balancer answered, the longest took %.0f ms", answered, throughBalancer, ms(longest))
	}
	return "the load balancer has no endpoint"
}
