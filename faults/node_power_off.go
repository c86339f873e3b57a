package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gameday/clusters"
)

var nodePowerOff = Kind{
	Name: "node.power-off",
	Doc:  "Switches the targets off, as by pulling the plug, and on again at the end.",
	Rehearses: "A node that dies without a goodbye: nobody drains it, its pods stay on it by name until they are evicted, and volumes stay " +
		"attached; then it comes back with an old view of the world " +
		"(https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown).",
	Mechanism: "docker kill of the node's container, docker start at the end, with its address kept and checked",
	Undo:      "the guard, or gameday heal, switches it on",
	Roles:     machines,
	Needs:     []clusters.Capability{clusters.CapPower, clusters.CapKubelet},
	Cost:      Cost{Nodes: 1},
	// Docker's answer, on a loaded machine.
	ProveWithin: time.Minute,
	// systemd, containerd, the kubelet and the static pods from nothing.
	GoneWithin: 7 * time.Minute,
	Trials: []Trial{
		{Name: "node-power-off", Target: Target{Pick: PickOne, Role: "worker"}},
		{Name: "node-power-off-control-plane", Target: Target{Pick: PickOne, Role: "control-plane"}},
	},
	New: func() Fault { return &NodePowerOff{} },
}

// NodePowerOff is the fault node.power-off. It has no parameters.
type NodePowerOff struct{}

// switched are the nodes that were switched off by us.
type switched map[string]bool

// Describe implements Describer.
func (*NodePowerOff) Describe(targets []string) []string {
	return append(each(targets, "%s: docker kill CONTAINER"), each(targets, "%s: at the end: docker start CONTAINER")...)
}

func power(n clusters.Node) (clusters.Power, error) {
	p, ok := n.(clusters.Power)
	if !ok {
		return nil, fmt.Errorf("%s cannot be switched off (capability %s)", n.Name(), clusters.CapPower)
	}
	return p, nil
}

// Inject switches all targets off at once.
func (*NodePowerOff) Inject(ctx context.Context, env Env) error {
	s := switched{}
	for _, n := range env.Targets {
		s[n.Name()] = true
	}
	if err := env.Notes.Save(s); err != nil {
		return err
	}
	return atOnce(env.Targets, func(n clusters.Node) error {
		p, err := power(n)
		if err != nil {
			return err
		}
		return p.PowerOff(ctx)
	})
}

// Heal switches on what Inject switched off.
func (*NodePowerOff) Heal(ctx context.Context, env Env) error {
	s := switched{}
	if ok, err := env.Notes.Load(&s); err != nil || !ok {
		return err // nothing was switched off
	}
	return atOnce(env.Targets, func(n clusters.Node) error {
		p, err := power(n)
		if err != nil {
			return err
		}
		return p.PowerOn(ctx)
	})
}

// atOnce does something to all nodes at the same time.
func atOnce(nodes []clusters.Node, do func(clusters.Node) error) error {
	errs := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() { errs <- do(n) }()
	}
	var all []error
	for range nodes {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// Prove looks for anything at the node's address that answers, its kernel among it.
func (*NodePowerOff) Prove(ctx context.Context, env Env) (Effect, error) {
	s := switched{}
	if _, err := env.Notes.Load(&s); err != nil {
		return Effect{}, err
	}
	return proveNode(ctx, env, func(n clusters.Node, m met) bool { return m == absent && s[n.Name()] })
}
