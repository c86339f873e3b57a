package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gameday/clusters"
	"gameday/faults/mechanism/process"
)

// find names the processes of a program on a node, as processes of this machine.
func find(ctx context.Context, n clusters.Node, program string) ([]process.Ref, error) {
	p, ok := n.(clusters.Processes)
	if !ok {
		return nil, fmt.Errorf("%s does not show its processes (capability %s)", n.Name(), clusters.CapProcesses)
	}
	init, err := p.InitPID(ctx)
	if err != nil {
		return nil, err
	}
	refs, err := process.Find(init, process.Named(program))
	if err != nil {
		return nil, fmt.Errorf("%s: find %s: %w", n.Name(), program, err)
	}
	return refs, nil
}

// kill ends processes with SIGKILL. One that is gone already is no error.
func kill(refs []process.Ref) error {
	var errs []error
	for _, ref := range refs {
		p, err := process.Open(ref)
		if err == nil {
			err = errors.Join(p.Kill(), p.Close())
		}
		if err != nil && !errors.Is(err, process.ErrGone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// gone says whether all the processes have ended.
func gone(refs []process.Ref) (bool, error) {
	for _, ref := range refs {
		p, err := process.Open(ref)
		if errors.Is(err, process.ErrGone) {
			continue
		}
		if err == nil {
			err = p.Close()
		}
		return false, err
	}
	return true, nil
}

// others are the control planes that are no target.
func others(env Env) []clusters.Node {
	return slices.DeleteFunc(clusters.ByRole(env.Cluster.Nodes(), clusters.ControlPlane), func(n clusters.Node) bool {
		return isTarget(env, n)
	})
}

func isTarget(env Env, n clusters.Node) bool {
	return slices.ContainsFunc(env.Targets, func(t clusters.Node) bool { return t.Name() == n.Name() })
}

func pids(refs []process.Ref) string {
	if len(refs) == 0 {
		return "none"
	}
	var out []string
	for _, r := range refs {
		out = append(out, fmt.Sprint(r.PID))
	}
	return strings.Join(out, " ")
}
