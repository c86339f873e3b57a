package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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

// kill ends processes with SIGKILL, all at once, and waits a moment for their end,
// which takes the kernel some milliseconds for each hundred megabytes. One that is
// gone already is no error; whether one lives on is for the proof to say.
func kill(ctx context.Context, refs []process.Ref) error {
	var errs []error
	var killed []*process.Process
	for _, ref := range refs {
		p, err := process.Open(ref)
		if err == nil {
			killed = append(killed, p)
			err = p.Kill()
		}
		if err != nil && !errors.Is(err, process.ErrGone) {
			errs = append(errs, err)
		}
	}
	wait, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, p := range killed {
		if err := p.Wait(wait); err != nil && wait.Err() == nil {
			errs = append(errs, err)
		}
		errs = append(errs, p.Close())
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
