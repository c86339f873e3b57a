package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gameday/clusters"
)

var loadbalancerPause = Kind{
	Name: "loadbalancer.pause",
	Doc:  "Pauses the load balancer of the API servers: it takes connections, and passes nothing on.",
	Rehearses: "A load balancer that hangs, or is short of processors: every client of the API waits for its own timeout, kubelets cannot " +
		"renew their leases although no API server is ill, and connections that were open stay so (https://github.com/kubernetes/kubernetes/pull/52176).",
	Mechanism:   "SIGSTOP by pidfd to envoy, or haproxy, below the first process of the load balancer's container",
	Undo:        "the guard, or gameday heal, sends SIGCONT to the processes in the journal that still live",
	Roles:       []clusters.Role{clusters.LoadBalancer},
	Needs:       []clusters.Capability{clusters.CapProcesses},
	Cost:        Cost{LoadBalancers: 1},
	ProveWithin: 20 * time.Second,
	GoneWithin:  time.Minute,
	Trials:      []Trial{{Name: "loadbalancer-pause", Target: Target{Pick: PickAll}}},
	New:         func() Fault { return &LoadBalancerPause{pausing{of: loadbalancer()}} },
}

// LoadBalancerPause is the fault loadbalancer.pause. It has no parameters.
type LoadBalancerPause struct {
	pausing `yaml:"-" json:"-"`
}

// loadbalancer is what kind puts in front of several API servers: Envoy, or a stand-in
// of its name that runs haproxy (clusters/nodeimage/envoy).
func loadbalancer() service {
	return service{
		name: "the load balancer", programs: []string{"envoy", "haproxy"}, alternatives: true,
		meet: func(ctx context.Context, _ Env, n clusters.Node) (met, string, error) {
			return meet(ctx, fromHere, at("https", n, apiserverPort, "/livez/ping"))
		},
		serves: func(ctx context.Context, env Env, _ clusters.Node) error {
			for _, e := range env.Cluster.Endpoints() {
				if e.Node != nil {
					continue
				}
				if err := readyzAt(ctx, e.Config); err != nil {
					return fmt.Errorf("through it: %w", err)
				}
				return nil
			}
			return errors.New("no endpoint leads through the load balancer")
		},
		control: readyElsewhere,
	}
}
