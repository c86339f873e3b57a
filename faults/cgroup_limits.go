package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gameday/clusters"
	"gameday/faults/mechanism/cgroup"
)

// group is a node's control group. A container that was re-created has another.
func group(ctx context.Context, n clusters.Node) (cgroup.Group, error) {
	c, ok := n.(clusters.Cgroups)
	if !ok {
		return cgroup.Group{}, fmt.Errorf("%s does not show its control group (capability %s)", n.Name(), clusters.CapCgroup)
	}
	g, err := c.Cgroup(ctx)
	return cgroup.Group{Unified: g.Unified, Controllers: g.Controllers}, err
}

// lowered are the limits that were lowered, by node, as they were. A node has
// more than one if its container was re-created.
type lowered map[string][]cgroup.Limit

// lower lowers a limit of each target: noted and marked before.
func lower(ctx context.Context, env Env, r cgroup.Resource, set func(clusters.Node, cgroup.Group, cgroup.Limit) error) error {
	notes := lowered{}
	if _, err := env.Notes.Load(&notes); err != nil {
		return err
	}
	for _, n := range env.Targets {
		g, err := group(ctx, n)
		if err != nil {
			return err
		}
		l, err := g.Read(r)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		i := slices.IndexFunc(notes[n.Name()], func(o cgroup.Limit) bool { return o.Folder == l.Folder })
		if i >= 0 && l.Marked(env.Tag) {
			l = notes[n.Name()][i] // again: what it says now is ours
		} else {
			if i >= 0 { // noted, but interrupted before anything was changed
				notes[n.Name()] = slices.Delete(notes[n.Name()], i, i+1)
			}
			notes[n.Name()] = append(notes[n.Name()], l)
			if err := env.Notes.Save(notes); err != nil {
				return err
			}
		}
		if err := l.Mark(env.Tag); err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		if err := set(n, g, l); err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
	}
	return nil
}

// raise puts the old limits back.
func raise(ctx context.Context, env Env) error {
	notes := lowered{}
	if _, err := env.Notes.Load(&notes); err != nil {
		return err
	}
	var errs []error
	for name, limits := range notes {
		for _, l := range limits {
			if err := l.Restore(ctx, env.Tag); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// restNodes are the nodes that are no target.
func restNodes(env Env) []clusters.Node {
	return slices.DeleteFunc(env.Cluster.Nodes(), func(n clusters.Node) bool {
		return n.Role() == clusters.LoadBalancer || isTarget(env, n)
	})
}
