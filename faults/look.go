package faults

import (
	"context"
	"errors"
	"strings"
	"sync"

	"gameday/clusters"
)

// seen is what a proof saw of one target.
type seen struct {
	// broken: it shows the fault. whole: it shows nothing of it and serves.
	broken, whole bool
	evidence      string
}

// lookAt looks at all targets at the same time, and says whether all are broken,
// or all whole.
func lookAt(ctx context.Context, targets []clusters.Node, look func(context.Context, clusters.Node) (seen, error)) (Effect, error) {
	found := make([]seen, len(targets))
	errs := make([]error, len(targets))
	var all sync.WaitGroup
	for i, n := range targets {
		all.Go(func() { found[i], errs[i] = look(ctx, n) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return Effect{}, err
	}
	e := Effect{Active: len(targets) > 0, Gone: true}
	var lines []string
	for i, s := range found {
		e.Active, e.Gone = e.Active && s.broken, e.Gone && s.whole
		lines = append(lines, clusters.Place(targets[i])+": "+s.evidence)
	}
	e.Evidence = strings.Join(lines, "; ")
	return e, nil
}

// control asks nodes, all at the same time, until one answers well, and says so
// in a line. It is the negative control: that what was broken is the target, and
// not what the proof goes through. The error says why none did.
func control(ctx context.Context, nodes []clusters.Node, what string, ask func(context.Context, clusters.Node) error) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		n   clusters.Node
		err error
	}
	answers := make(chan answer, len(nodes))
	for _, n := range nodes {
		go func() { answers <- answer{n, ask(ctx, n)} }()
	}
	var errs []error
	for range nodes {
		a := <-answers
		if a.err == nil {
			return clusters.Place(a.n) + " " + what, nil
		}
		errs = append(errs, a.err)
	}
	return "", errors.Join(errs...)
}
