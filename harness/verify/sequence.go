package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults"
	"gameday/harness/inject"
)

const (
	// quick is what a fault may need from its heal until the cluster is whole to be
	// tried together with others.
	quick = 15 * time.Second
	// togetherMost is how many faults overlap at most in a sequence, togetherTries
	// how often one that fits is looked for.
	togetherMost  = 4
	togetherTries = 20
	// spread is the longest time between the beginning of the first and the last.
	spread = 2 * time.Second
)

// Quick are the trials that passed, and whose cluster was whole again soon.
func Quick(trials []Trial, rows []Row) []Trial {
	var out []Trial
	for _, t := range trials {
		if r, ok := rowOf(rows, t.Name); ok && r.Verdict == Pass && r.lengthOf() <= quick {
			out = append(out, t)
		}
	}
	return out
}

// part is a fault of a sequence as it was drawn.
type part struct {
	trial   Trial
	targets []clusters.Node
	begin   time.Duration
	hold    time.Duration
}

// away is what is taken from the cluster while faults overlap.
type away struct{ etcd, apis, nodes map[string]bool }

// fits says whether a fault may join: a majority of etcd and one API server stay,
// and at most a third of the nodes is away.
func (a away) fits(k faults.Kind, targets, all []clusters.Node) bool {
	cps := len(clusters.ByRole(all, clusters.ControlPlane))
	nodes := cps + len(clusters.ByRole(all, clusters.Worker))
	then := away{maps.Clone(a.etcd), maps.Clone(a.apis), maps.Clone(a.nodes)}
	then.take(k, targets)
	return len(then.etcd) <= (cps-1)/2 && len(then.apis) <= max(1, cps-1) && len(then.nodes) <= max(1, nodes/3)
}

// take adds what a fault takes: a node that is away takes what runs on it along.
func (a away) take(k faults.Kind, targets []clusters.Node) {
	for _, t := range targets {
		with := k.Cost.Nodes > 0 && t.Role() == clusters.ControlPlane
		for _, x := range []struct {
			to    map[string]bool
			takes bool
		}{{a.etcd, k.Cost.EtcdMembers > 0 || with}, {a.apis, k.Cost.APIServers > 0 || with}, {a.nodes, k.Cost.Nodes+k.Cost.Kubelets > 0}} {
			if x.takes {
				x.to[t.Name()] = true
			}
		}
	}
}

// draw draws the faults of a sequence: two at least, as far as there are so many
// that fit together.
func (v *Verifier) draw(ctx context.Context, from []Trial, rng *rand.Rand) ([]part, error) {
	a := away{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	var out []part
	want := 2 + rng.IntN(togetherMost-1)
	for tries := 0; len(out) < want && tries < togetherTries; tries++ {
		t := from[rng.IntN(len(from))]
		p := part{trial: t, begin: time.Duration(rng.Int64N(int64(spread))), hold: time.Duration(1 + rng.Int64N(int64(hold)))}
		// A generator of its own: what the cluster says about its leader must not
		// change the draws that follow.
		targets, err := v.resolve(ctx, t, rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64())))
		if errors.Is(err, faults.ErrNoTarget) || errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !a.fits(t.Kind, targets, v.cfg.Cluster.Nodes()) {
			continue
		}
		// The same fault twice on one node is one that takes the place of the other.
		if slices.ContainsFunc(out, func(o part) bool { return o.trial.Kind.Name == t.Kind.Name && overlap(o.targets, targets) }) {
			continue
		}
		a.take(t.Kind, targets)
		p.targets = targets
		out = append(out, p)
	}
	if len(out) < 2 {
		return nil, fmt.Errorf("no two of %d trials fit together in the fault budget", len(from))
	}
	return out, nil
}

func overlap(a, b []clusters.Node) bool {
	return slices.ContainsFunc(a, func(n clusters.Node) bool {
		return slices.ContainsFunc(b, func(m clusters.Node) bool { return n.Name() == m.Name() })
	})
}

// Sequence lets faults overlap that are drawn from the seed, and wants nothing to
// differ from before afterwards. That each is proven is not wanted here: one may
// hide what another does.
func (v *Verifier) Sequence(ctx context.Context, number int, from []Trial) Sequence {
	s := Sequence{Number: number}
	s.Verdict, s.Reason = v.sequence(ctx, from, &s)
	return s
}

func (v *Verifier) sequence(ctx context.Context, from []Trial, s *Sequence) (Verdict, string) {
	if len(from) < 2 {
		return Inconclusive, "fewer than two trials passed that are over soon"
	}
	if err := v.whole(ctx, convergeWithin); err != nil {
		return judge(fmt.Errorf("before the sequence: %w", err))
	}
	parts, err := v.draw(ctx, from, v.rand(fmt.Sprintf("verify/sequence/%d", s.Number)))
	if err != nil {
		return judge(err)
	}
	before, err := v.take(ctx)
	if err != nil {
		return judge(fmt.Errorf("snapshot before the sequence: %w", err))
	}
	s.Members = make([]Member, len(parts))
	errs := make([]error, len(parts))
	began := time.Now()
	var all sync.WaitGroup
	for i, p := range parts {
		s.Members[i] = Member{Trial: p.trial.Name, Places: places(p.targets)}
		in, st, err := v.injection(p.trial, fmt.Sprintf("sequence-%d-%s", s.Number, p.trial.Name), p.targets)
		if err != nil {
			errs[i] = err
			continue
		}
		all.Go(func() { errs[i] = p.live(ctx, in, st, began, &s.Members[i]) })
	}
	var who []string
	for _, m := range s.Members {
		who = append(who, m.String())
	}
	v.cfg.Say("sequence %d: %s", s.Number, strings.Join(who, "; "))
	all.Wait()
	settled := v.settle(ctx, before, &s.Whole, &s.SideEffects)
	proven := slices.ContainsFunc(s.Members, func(m Member) bool { return m.Proven })
	if !proven && settled == nil {
		settled = unclear("none of its faults was proven")
	}
	return judge(append(errs, settled)...)
}

// live is the life of one of several faults. Only what cannot be undone is an
// error.
func (p part) live(ctx context.Context, in *inject.Injection, s *steps, began time.Time, m *Member) error {
	if err := pause(ctx, p.begin); err != nil {
		return err
	}
	m.Begin = *millis(time.Since(began))
	if err := in.Start(ctx); err != nil {
		m.Note = oneLine(err)
	} else {
		window, cancel := context.WithTimeout(ctx, p.hold)
		in.Watch(window)
		cancel()
	}
	_, m.Proven = s.find("proven")
	err := in.Stop(ctx)
	m.End = *millis(time.Since(began))
	return err
}
