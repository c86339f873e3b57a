package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/process"
)

var loadbalancerKill = Kind{
	Name: "loadbalancer.kill",
	Doc:  "Kills the load balancer of the API servers and keeps it down: connections are reset, new ones refused.",
	Rehearses: "The single load balancer in front of a control plane that was made highly available in all but that: every API server is " +
		"well and nobody reaches one (https://github.com/kubernetes/kubeadm/blob/main/docs/ha-considerations.md).",
	Mechanism: "SIGKILL by pidfd to envoy, or haproxy, after SIGSTOP to the first process of its container, which would start it again",
	// kind's first process is a shell that starts Envoy again a second after its end:
	// sigs.k8s.io/kind@v0.33.0 pkg/cluster/internal/loadbalancer/config.go.
	Undo:        "the guard, or gameday heal, sends SIGCONT to the first process, which starts the load balancer again",
	Roles:       []clusters.Role{clusters.LoadBalancer},
	Needs:       []clusters.Capability{clusters.CapProcesses},
	Cost:        Cost{LoadBalancers: 1},
	ProveWithin: 20 * time.Second,
	GoneWithin:  time.Minute,
	Trials:      []Trial{{Name: "loadbalancer-kill", Target: Target{Pick: PickAll}}},
	New:         func() Fault { return &LoadBalancerKill{} },
}

// LoadBalancerKill is the fault loadbalancer.kill. It has no parameters.
type LoadBalancerKill struct{}

// Describe implements Describer.
func (*LoadBalancerKill) Describe(targets []string) []string {
	return append(each(targets, "%s: pidfd_send_signal(its first process, SIGSTOP)"),
		each(targets, "%s: pidfd_send_signal(envoy, haproxy, SIGKILL)")...)
}

// Inject notes the first process, pauses it, and kills what it has started. The notes
// hold what is paused: the rest is started again by it.
func (*LoadBalancerKill) Inject(ctx context.Context, env Env) error {
	notes, err := notesOf(env)
	if err != nil {
		return err
	}
	fresh := false
	var starters []process.Ref
	for _, n := range env.Targets {
		pid, err := initPID(ctx, n)
		if err != nil {
			return err
		}
		first, err := process.Of(pid)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		starters = append(starters, first)
		fresh = notes.add(n, []process.Ref{first}) || fresh
	}
	if fresh {
		if err := env.Notes.Save(notes); err != nil {
			return err
		}
	}
	if err := stop(starters); err != nil {
		return err
	}
	s := loadbalancer()
	for _, n := range env.Targets {
		for _, program := range s.programs {
			refs, err := find(ctx, n, program)
			if err != nil {
				return err
			}
			if err := kill(ctx, refs); err != nil {
				return err
			}
		}
	}
	return nil
}

// Heal lets the first process go on.
func (*LoadBalancerKill) Heal(_ context.Context, env Env) error {
	notes, err := notesOf(env)
	if err != nil {
		return err
	}
	var errs []error
	for _, refs := range notes.Processes {
		errs = append(errs, resume(refs))
	}
	return errors.Join(errs...)
}

// Prove connects to the load balancer, and asks an API server without it.
func (*LoadBalancerKill) Prove(ctx context.Context, env Env) (Effect, error) {
	return loadbalancer().prove(ctx, env, func(m met, refs []process.Ref) (bool, error) {
		return m == refusing && len(refs) > 0, nil
	}, stillPaused)
}
