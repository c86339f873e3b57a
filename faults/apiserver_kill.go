package faults

import (
	"context"
	"fmt"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/process"
)

var apiserverKill = Kind{
	Name: "apiserver.kill",
	Doc:  "Kills the kube-apiserver process of the targets, as the kernel does when memory runs out.",
	Rehearses: "An API server that crashes or is killed for its memory: its clients' connections are reset, its watches " +
		"must resume elsewhere, and the load balancer must notice. A whole fleet of them went down under load at " +
		"OpenAI on 2024-12-11 (https://status.openai.com/incidents/ctrsv3lwd797).",
	Mechanism:   "SIGKILL by pidfd to the kube-apiserver below the node's first process",
	Undo:        "none needed: the kubelet restarts the static pod",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapProcesses},
	Cost:        Cost{APIServers: 1},
	ProveWithin: 10 * time.Second,
	// The kubelet restarts it after its back-off, at most 5 min between crashes:
	// k8s.io/kubernetes@v1.37.0 pkg/kubelet/kubelet.go MaxCrashLoopBackOff.
	GoneWithin: 7 * time.Minute,
	Instant:    true,
	Trials:     []Trial{{Name: "apiserver-kill", Target: Target{Pick: PickOne}}},
	New:        func() Fault { return &APIServerKill{} },
}

// APIServerKill is the fault apiserver.kill. It has no parameters.
type APIServerKill struct{}

// victims are the processes that were killed, by node.
type victims map[string][]process.Ref

// Describe implements Describer.
func (*APIServerKill) Describe(targets []string) []string {
	return each(targets, "%s: pidfd_send_signal(kube-apiserver, SIGKILL)")
}

// Inject notes the processes before it kills them.
func (*APIServerKill) Inject(ctx context.Context, env Env) error {
	v := victims{}
	if _, err := env.Notes.Load(&v); err != nil {
		return err
	}
	for _, n := range env.Targets {
		if len(v[n.Name()]) > 0 {
			continue // a second Inject kills nobody else
		}
		refs, err := find(ctx, n, "kube-apiserver")
		if err != nil {
			return err
		}
		if len(refs) == 0 {
			return fmt.Errorf("%s: no kube-apiserver runs there that could be killed", n.Name())
		}
		v[n.Name()] = refs
	}
	if err := env.Notes.Save(v); err != nil {
		return err
	}
	var all []process.Ref
	for _, n := range env.Targets {
		all = append(all, v[n.Name()]...)
	}
	return kill(ctx, all)
}

// Heal has nothing to take back.
func (*APIServerKill) Heal(context.Context, Env) error { return nil }

// Prove asks /readyz of the target from here, and looks for the process.
func (*APIServerKill) Prove(ctx context.Context, env Env) (Effect, error) {
	v := victims{}
	if _, err := env.Notes.Load(&v); err != nil {
		return Effect{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rest := others(env)
	well := make(chan string, 1)
	go func() {
		text, err := control(ctx, rest, "answers /readyz", func(ctx context.Context, n clusters.Node) error {
			return readyz(ctx, env.Cluster, n)
		})
		if err != nil {
			text = ""
		}
		well <- text
	}()
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		answer := readyz(ctx, env.Cluster, n)
		if answer != nil && ctx.Err() != nil {
			return seen{}, ctx.Err()
		}
		dead := v[n.Name()]
		ended, err := gone(dead)
		if err != nil {
			return seen{}, err
		}
		if answer == nil {
			return seen{whole: ended, evidence: "/readyz ok" + map[bool]string{true: ", by a new process"}[len(dead) > 0 && ended]}, nil
		}
		return seen{broken: ended, evidence: fmt.Sprintf("process %s gone, %v", pids(dead), answer)}, nil
	})
	if err != nil {
		return e, err
	}
	e.At = time.Now()
	if e.Control = <-well; e.Control == "" && len(rest) > 0 && e.Active {
		e.Active = false
		e.Evidence += "; but no other API server answers either"
	}
	return e, nil
}

// each says the same of every target.
func each(targets []string, format string) []string {
	var out []string
	for _, t := range targets {
		out = append(out, fmt.Sprintf(format, t))
	}
	return out
}
