package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/freezer"
)

var nodeFreeze = Kind{
	Name: "node.freeze",
	Doc:  "Freezes all processes of the targets, the pods' too: the kernel goes on taking connections, nobody answers.",
	Rehearses: "A virtual machine that its host pauses, for a live migration or for want of memory: it loses seconds without knowing, and " +
		"then goes on with what it believed before, leases that ran out among it " +
		"(https://cloud.google.com/compute/docs/instances/live-migration-process).",
	Mechanism:   "cgroup.freeze of the node's control group; freezer.state where the machine has cgroup v1 only",
	Undo:        "the guard, or gameday heal, thaws the group in the journal",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapCgroup, clusters.CapKubelet},
	Cost:        Cost{Nodes: 1},
	ProveWithin: 30 * time.Second,
	// Its probes failed while it was away, so that static pods may be restarted.
	GoneWithin: 7 * time.Minute,
	Trials: []Trial{
		{Name: "node-freeze", Target: Target{Pick: PickOne, Role: "worker"}},
		{Name: "node-freeze-control-plane", Target: Target{Pick: PickOne, Role: "control-plane"}},
	},
	New: func() Fault { return &NodeFreeze{} },
}

// NodeFreeze is the fault node.freeze. It has no parameters.
type NodeFreeze struct{}

// frozenGroups are the groups that were frozen, by node: a restarted container has
// another one.
type frozenGroups map[string][]freezer.Group

// Describe implements Describer.
func (*NodeFreeze) Describe(targets []string) []string {
	return each(targets, "%s: echo 1 >CGROUP/cgroup.freeze (cgroup v1: echo FROZEN >CGROUP/freezer.state)")
}

func freezerOf(ctx context.Context, n clusters.Node) (freezer.Group, error) {
	c, ok := n.(clusters.Cgroups)
	if !ok {
		return freezer.Group{}, fmt.Errorf("%s does not show its control group (capability %s)", n.Name(), clusters.CapCgroup)
	}
	g, err := c.Cgroup(ctx)
	if err != nil {
		return freezer.Group{}, err
	}
	f, err := freezer.Of(g.Unified, g.Controllers["freezer"])
	if err != nil {
		return f, fmt.Errorf("%s: %w", n.Name(), err)
	}
	return f, nil
}

// Inject freezes the group that the node has now. One that somebody else froze is not
// ours to thaw, and is refused.
func (*NodeFreeze) Inject(ctx context.Context, env Env) error {
	notes := frozenGroups{}
	if _, err := env.Notes.Load(&notes); err != nil {
		return err
	}
	var all []freezer.Group
	for _, n := range env.Targets {
		g, err := freezerOf(ctx, n)
		if err != nil {
			return err
		}
		all = append(all, g)
		ours := false
		for _, had := range notes[n.Name()] {
			ours = ours || had == g
		}
		if ours {
			continue
		}
		asked, err := g.Asked()
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		if asked {
			return fmt.Errorf("%s: %w, by somebody else", n.Name(), freezer.ErrFrozen)
		}
		notes[n.Name()] = append(notes[n.Name()], g)
	}
	if err := env.Notes.Save(notes); err != nil {
		return err
	}
	for i, g := range all {
		if err := g.Freeze(ctx); err != nil {
			return fmt.Errorf("%s: %w", env.Targets[i].Name(), err)
		}
	}
	return nil
}

// Heal thaws what Inject froze.
func (*NodeFreeze) Heal(_ context.Context, env Env) error {
	notes := frozenGroups{}
	if _, err := env.Notes.Load(&notes); err != nil {
		return err
	}
	var errs []error
	for _, groups := range notes {
		for _, g := range groups {
			errs = append(errs, g.Thaw())
		}
	}
	return errors.Join(errs...)
}

// Prove asks the kubelet, and on a control plane the API server and etcd too.
func (*NodeFreeze) Prove(ctx context.Context, env Env) (Effect, error) {
	notes := frozenGroups{}
	if _, err := env.Notes.Load(&notes); err != nil {
		return Effect{}, err
	}
	return proveNode(ctx, env, func(n clusters.Node, m met) bool { return m == mute && len(notes[n.Name()]) > 0 })
}

// servers are what is to be asked on a node to see whether all of it is away.
func servers(n clusters.Node) []service {
	if n.Role() == clusters.ControlPlane {
		return []service{kubelet(), apiserver(), etcdMemberService()}
	}
	return []service{kubelet()}
}

// proveNode looks at all that serves on the targets: each is broken when all of it
// meets its clients in that way, whole when all of it serves.
func proveNode(ctx context.Context, env Env, broken func(clusters.Node, met) bool) (Effect, error) {
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		all := servers(n)
		found := make([]seen, len(all))
		errs := make([]error, len(all))
		var g sync.WaitGroup
		for i, s := range all {
			g.Go(func() { found[i], errs[i] = serverSeen(ctx, env, n, s, broken) })
		}
		g.Wait()
		out := seen{broken: true, whole: true}
		var lines []string
		for _, f := range found {
			out.broken, out.whole = out.broken && f.broken, out.whole && f.whole
			lines = append(lines, f.evidence)
		}
		out.evidence = strings.Join(lines, ", ")
		return out, errors.Join(errs...)
	})
	if err != nil {
		return e, err
	}
	e.At = time.Now()
	return kubelet().withControl(ctx, env, e), nil
}

// serverSeen looks at one of the servers on a node.
func serverSeen(ctx context.Context, env Env, n clusters.Node, s service, broken func(clusters.Node, met) bool) (seen, error) {
	m, text, err := s.meet(ctx, env, n)
	if err != nil {
		return seen{}, err
	}
	out := seen{broken: broken(n, m), evidence: s.name + " " + m.String() + ": " + text}
	if m != speaks {
		return out, nil
	}
	if err := s.serves(ctx, env, n); err != nil {
		out.evidence += ", but " + err.Error()
		return out, ctx.Err()
	}
	out.whole = true
	return out, nil
}
