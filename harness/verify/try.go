package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults"
	"gameday/harness/history"
	"gameday/harness/inject"
)

// outcome is what a step of a trial ended with, if not well.
type outcome struct {
	verdict Verdict
	err     error
}

func (o *outcome) Error() string { return o.err.Error() }
func (o *outcome) Unwrap() error { return o.err }

func failed(format string, args ...any) error {
	return &outcome{Fail, fmt.Errorf(format, args...)}
}

func unclear(format string, args ...any) error {
	return &outcome{Inconclusive, fmt.Errorf(format, args...)}
}

// judge is the worst verdict of errors, and their text. What cannot be done here is
// not available; what was interrupted, or could not be seen, is inconclusive.
func judge(errs ...error) (Verdict, string) {
	worst := NotAvailable
	for _, err := range errs {
		if v := verdict(err); rank(v) > rank(worst) && err != nil {
			worst = v
		}
	}
	err := errors.Join(errs...)
	if err == nil {
		return Pass, ""
	}
	return worst, oneLine(err)
}

func verdict(err error) Verdict {
	var o *outcome
	switch {
	case err == nil:
		return Pass
	case errors.Is(err, inject.ErrStuck):
		return Stuck
	case errors.Is(err, errors.ErrUnsupported):
		return NotAvailable
	case errors.As(err, &o):
		return o.verdict
	}
	return Inconclusive
}

// Try makes one trial. It returns when the fault is healed and the cluster whole,
// or when that cannot be had; the end of ctx ends the trial early, not its healing.
func (v *Verifier) Try(ctx context.Context, t Trial) Row {
	r := Row{Fault: t.Kind.Name, Trial: t.Name, Asked: t.Target.String(), Instant: t.Kind.Instant}
	targets, before, err := v.ready(ctx, t, v.rand("verify/"+t.Name))
	r.Places = places(targets)
	if err != nil {
		r.Verdict, r.Reason = judge(err)
		return r
	}
	v.cfg.Say("%s: %s on %s", t.Name, t.Kind.Name, strings.Join(r.Places, ", "))
	r.Looks, err = v.negative(ctx, t, targets)
	if err == nil {
		err = v.live(ctx, t, targets, &r)
	}
	// Whatever became of it: the next trial begins on a whole cluster.
	settled := v.settle(ctx, before, &r.Whole, &r.SideEffects)
	r.Verdict, r.Reason = judge(err, settled)
	return r
}

// ready waits until the cluster is whole, and resolves the target on it.
func (v *Verifier) ready(ctx context.Context, t Trial, rng *rand.Rand) ([]clusters.Node, Snapshot, error) {
	if err := v.whole(ctx, convergeWithin); err != nil {
		return nil, nil, fmt.Errorf("before the trial: %w", err)
	}
	targets, err := v.resolve(ctx, t, rng)
	switch {
	case errors.Is(err, faults.ErrNoTarget):
		return nil, nil, &outcome{NotAvailable, err}
	case err != nil:
		return targets, nil, err
	}
	before, err := v.take(ctx)
	if err != nil {
		return targets, nil, fmt.Errorf("snapshot before the trial: %w", err)
	}
	return targets, before, nil
}

// env is where a fault acts outside of an injection: nothing is injected there.
func (v *Verifier) env(t Trial, targets []clusters.Node, notes faults.Notes) faults.Env {
	return faults.Env{
		Cluster: v.cfg.Cluster, Targets: targets, Tag: inject.Tag(v.cfg.Run, t.Name),
		MaxHold: maxHold, Notes: notes, Log: v.log(t.Name),
	}
}

func (v *Verifier) log(id string) func(string, ...any) {
	return func(format string, args ...any) { v.cfg.Say("%s: %s", id, fmt.Sprintf(format, args...)) }
}

// negative wants the proof to say no while nothing is broken: at once, after a
// Heal without an Inject, and for a moment of the no-op twin.
func (v *Verifier) negative(ctx context.Context, t Trial, targets []clusters.Node) (looks int, err error) {
	f, err := t.fault()
	if err != nil {
		return 0, err
	}
	env := v.env(t, targets, &memory{})
	look := func(ctx context.Context) (faults.Effect, error) {
		e, err := f.Prove(ctx, env)
		if err == nil {
			looks++
			if e.Active {
				return e, failed("its proof says that it bites although nothing was injected: %s", e.Evidence)
			}
		}
		return e, err
	}
	if err := seenGone(ctx, t.Kind.ProveWithin, look); err != nil {
		return looks, fmt.Errorf("before the injection: %w", err)
	}
	heal, cancel := context.WithTimeout(ctx, t.Kind.GoneWithin)
	err = f.Heal(heal, env)
	cancel()
	if err != nil {
		return looks, failed("a Heal without an Inject: %w", err)
	}
	last := faults.Effect{}
	for began, first := time.Now(), looks; looks-first < twinLooks || time.Since(began) < twin; {
		bound, cancel := context.WithTimeout(ctx, t.Kind.ProveWithin)
		last, err = look(bound)
		cancel()
		if err != nil {
			return looks, fmt.Errorf("while nothing is injected: %w", err)
		}
		if err := pause(ctx, twin/twinLooks); err != nil {
			return looks, err
		}
	}
	if !last.Gone {
		if err := seenGone(ctx, t.Kind.ProveWithin, look); err != nil {
			return looks, fmt.Errorf("while nothing is injected: %w", err)
		}
	}
	return looks, nil
}

// seenGone looks until the proof says gone. A look that fails is repeated; a
// proof of the opposite is not.
func seenGone(ctx context.Context, bound time.Duration, look func(context.Context) (faults.Effect, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("waited %s", bound))
	defer cancel()
	for {
		e, err := look(ctx)
		var o *outcome
		switch {
		case err == nil && e.Gone, errors.As(err, &o):
			return err
		case err == nil:
			err = failed("its proof does not say that it is gone: %s", e.Evidence)
		default:
			err = unclear("it could not be looked at: %w", err)
		}
		if perr := pause(ctx, 100*time.Millisecond); perr != nil {
			return errors.Join(err, perr)
		}
	}
}

// steps are the steps of an injection as recorded, with their times.
type steps struct {
	mu   sync.Mutex
	at   map[string]time.Time
	seen []history.Injection
}

func (s *steps) record(i history.Injection, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[string]time.Time{}
	}
	if _, again := s.at[i.State]; !again {
		s.at[i.State] = at
	}
	s.seen = append(s.seen, i)
}

// find is the first record of a state.
func (s *steps) find(state string) (history.Injection, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.seen, func(h history.Injection) bool { return h.State == state })
	if i < 0 {
		return history.Injection{}, false
	}
	return s.seen[i], true
}

// between is the time from one state to another; nil if one was not reached.
func (s *steps) between(from, to string) *float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.at[from]
	b, ok2 := s.at[to]
	if !ok || !ok2 {
		return nil
	}
	return millis(b.Sub(a))
}

func millis(d time.Duration) *float64 {
	f := float64(d.Round(10*time.Microsecond).Microseconds()) / 1000
	return &f
}

// live is the life of the fault, through harness/inject as in a run.
func (v *Verifier) live(ctx context.Context, t Trial, targets []clusters.Node, r *Row) error {
	in, s, err := v.injection(t, t.Name, targets)
	if err != nil {
		return err
	}
	err = in.Start(ctx)
	if err == nil {
		err = v.keep(ctx, t, targets, in, s)
	} else {
		err = started(err)
	}
	if serr := in.Stop(ctx); serr != nil {
		err = errors.Join(err, serr)
	}
	r.ProvenFromArmed, r.ProvenFromInjected = s.between("armed", "proven"), s.between("injected", "proven")
	r.Heal, r.Gone = s.between("healing", "healed"), s.between("healing", "gone")
	if t.Kind.Instant {
		r.Heal, r.Gone = nil, s.between("injected", "gone")
	}
	if p, ok := s.find("proven"); ok {
		r.Proof, r.Control, r.Measure = p.Proof, p.Control, measureOf(p)
	}
	if err != nil || ctx.Err() != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return v.again(ctx, t, in.Env())
}

// injection makes one of a trial.
func (v *Verifier) injection(t Trial, id string, targets []clusters.Node) (*inject.Injection, *steps, error) {
	f, err := t.fault()
	if err != nil {
		return nil, nil, err
	}
	id = v.nextID(id)
	s := &steps{}
	in, err := inject.New(inject.Config{
		ID: id, Kind: t.Kind, Fault: f, Journal: v.journal, Record: s.record,
		Env: faults.Env{
			Cluster: v.cfg.Cluster, Targets: targets, Tag: inject.Tag(v.cfg.Run, id), MaxHold: maxHold, Log: v.log(id),
		},
	})
	return in, s, err
}

// started is what an error of Start says of the fault. On a whole cluster the
// effect must come.
func started(err error) error {
	switch {
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, context.Canceled), errors.Is(err, inject.ErrNoGuard):
		return err
	case errors.Is(err, inject.ErrUnproven), errors.Is(err, inject.ErrBefore), errors.Is(err, context.DeadlineExceeded):
		return &outcome{Fail, err}
	}
	return failed("not injected: %w", err)
}

// keep holds a proven fault for a while, and injects it once more.
func (v *Verifier) keep(ctx context.Context, t Trial, targets []clusters.Node, in *inject.Injection, s *steps) error {
	p, _ := s.find("proven")
	var errs []error
	if p.Control == "" && !everybody(t.Kind, targets, v.cfg.Cluster.Nodes()) {
		errs = append(errs, failed("its proof names no control, although somebody is left out"))
	}
	window, cancel := context.WithTimeout(ctx, v.hold)
	in.Watch(window)
	cancel()
	if lost, ok := s.find("lost"); ok {
		errs = append(errs, failed("it did not last: %s%s", lost.Proof, lost.Error))
	}
	if err := in.Again(ctx); err != nil && ctx.Err() == nil {
		errs = append(errs, failed("%w", err))
	}
	return errors.Join(errs...)
}

// everybody says whether all nodes that the fault can hit are hit.
func everybody(k faults.Kind, targets, nodes []clusters.Node) bool {
	n := 0
	for _, node := range nodes {
		if slices.Contains(k.Roles, node.Role()) {
			n++
		}
	}
	return len(targets) == n
}

func measureOf(p history.Injection) *Measure {
	if p.Unit == "" {
		return nil
	}
	m := &Measure{Asked: p.Asked, Measured: p.Measured, Unit: p.Unit}
	if p.Asked != 0 {
		off := math.Round(10000*(p.Measured/p.Asked-1)) / 100
		m.Off = &off
	}
	return m
}

// again heals once more, with a fresh value as another process would, and wants
// the fault to be gone still.
func (v *Verifier) again(ctx context.Context, t Trial, env faults.Env) error {
	f, err := t.fault()
	if err != nil {
		return err
	}
	heal, cancel := context.WithTimeout(ctx, t.Kind.GoneWithin)
	defer cancel()
	if err := f.Heal(heal, env); err != nil {
		return failed("a second Heal, as from another process: %w", err)
	}
	look := func(ctx context.Context) (faults.Effect, error) {
		e, err := f.Prove(ctx, env)
		if err == nil && e.Active {
			return e, failed("its proof says that it bites although it is healed: %s", e.Evidence)
		}
		return e, err
	}
	// The bound is that of recovery: what serves may be disturbed once more by the
	// kubelet's own repair.
	if err := seenGone(heal, t.Kind.GoneWithin, look); err != nil {
		return fmt.Errorf("after a second Heal: %w", err)
	}
	return nil
}

// settle waits until the cluster is whole and nothing differs from before. It
// goes on after the end of ctx for as long as a heal may need.
func (v *Verifier) settle(ctx context.Context, before Snapshot, took **float64, side *[]string) error {
	began := time.Now()
	if err := v.whole(ctx, convergeWithin); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return failed("the cluster did not converge: %w", err)
	}
	*took = millis(time.Since(began))
	return v.same(ctx, before, side)
}

// same wants nothing to differ from before, within what the kubelet needs to clear
// up.
func (v *Verifier) same(ctx context.Context, before Snapshot, side *[]string) error {
	for began := time.Now(); ; {
		after, err := v.take(ctx)
		if err != nil && time.Since(began) > v.settleFor {
			return unclear("snapshot after it: %w", err)
		}
		if err == nil {
			diff := before.Diff(after)
			if len(diff) == 0 {
				return nil
			}
			if time.Since(began) > v.settleFor {
				*side = diff
				return failed("%d things differ from before, %s after the cluster was whole", len(diff), v.settleFor)
			}
		}
		if err := pause(ctx, settlePoll); err != nil {
			return err
		}
	}
}

// pause waits for d, or for the end of ctx, which is an error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
