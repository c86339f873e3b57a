package run

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gameday/clusters"
	"gameday/clusters/upgrade"
	"gameday/faults"
	"gameday/harness/history"
	"gameday/harness/inject"
	"gameday/harness/plan"
	"gameday/scenarios"
)

// windows opens and closes the injections of a scenario as its phases go by.
type windows struct {
	r       *runner
	phases  *phases
	lookup  func(fault string) (faults.Kind, bool)
	wg      sync.WaitGroup
	done    map[string]chan struct{} // by id; closed when proven gone, stuck, or never opened
	mu      sync.Mutex
	stuck   []string
	opened  map[string]bool         // by id: its window has opened
	endings context.CancelCauseFunc // closes every window that is open
	ending  context.Context
}

func newWindows(ctx context.Context, r *runner, p *phases) *windows {
	w := &windows{r: r, phases: p, lookup: faults.Lookup, done: map[string]chan struct{}{}, opened: map[string]bool{}}
	w.ending, w.endings = context.WithCancelCause(ctx)
	for _, f := range r.scenario.Faults {
		w.done[f.ID] = make(chan struct{})
	}
	return w
}

// start lets every fault wait for its window.
func (w *windows) start() {
	for _, f := range w.r.scenario.Faults {
		w.wg.Go(func() {
			defer close(w.done[f.ID])
			w.one(w.ending, f)
		})
	}
}

// healAll closes every open window, waits until each fault is gone or stuck, and
// returns those that are not gone. Each has its own bound; ctx is for one that
// hangs regardless. The guard is left to deal with it.
func (w *windows) healAll(ctx context.Context) []string {
	w.endings(errors.New("the run heals everything"))
	var hang []string
	for _, f := range w.r.scenario.Faults {
		select {
		case <-w.done[f.ID]:
		case <-ctx.Done():
			if !closed(w.done[f.ID]) {
				w.r.log.Printf("%s: not healed: %v", f.ID, context.Cause(ctx))
				hang = append(hang, f.ID)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Concat(w.stuck, hang)
}

// gone waits until the faults are gone (or stuck, or never came): of those
// given, the ones whose phase has begun.
func (w *windows) gone(ctx context.Context, ids []string) error {
	for _, f := range w.r.scenario.Faults {
		if !slices.Contains(ids, f.ID) {
			continue
		}
		select {
		case <-w.phases.gate(f.Begin.Phase, upgrade.Began):
		default:
			continue // its window did not open
		}
		select {
		case <-w.done[f.ID]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// idle waits until no fault is open. Those whose window has yet to open are not
// waited for, nor those that last until the end of what waits here.
func (w *windows) idle(ctx context.Context) error {
	for _, f := range w.r.scenario.Faults {
		w.mu.Lock()
		open := w.opened[f.ID]
		w.mu.Unlock()
		if !open || f.End.Phase == scenarios.PhaseUpgrade {
			continue
		}
		select {
		case <-w.done[f.ID]:
		case <-ctx.Done():
			return fmt.Errorf("%s is open: %w", f.ID, context.Cause(ctx))
		}
	}
	return nil
}

// over waits until every fault has come and gone, or never came.
func (w *windows) over(ctx context.Context) error {
	for _, f := range w.r.scenario.Faults {
		select {
		case <-w.done[f.ID]:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", f.ID, context.Cause(ctx))
		}
	}
	return nil
}

// longest bounds all windows of a run without an upgrade together, their proofs
// and heals too.
func (w *windows) longest() time.Duration {
	var d time.Duration
	for _, f := range w.r.scenario.Faults {
		if k, ok := w.lookup(f.Fault); ok {
			d += f.Begin.After + k.ProveWithin + f.MaxHold + k.GoneWithin
		}
	}
	return d
}

// one is the life of one fault of the scenario.
func (w *windows) one(ctx context.Context, f scenarios.Fault) {
	record := func(state, text string) {
		w.r.rec.Add(history.Event{Injection: &history.Injection{
			ID: f.ID, Fault: f.Fault, Phase: f.Begin.Phase, State: state, Error: text,
		}})
	}
	if err := w.await(ctx, f); err != nil {
		record("unproven", fmt.Sprintf("its window never opened: %v", err))
		return
	}
	w.mu.Lock()
	w.opened[f.ID] = true
	w.mu.Unlock()
	// Those that the plan counts on to be gone by now.
	if err := w.gone(ctx, w.r.cfg.Plan.Waits(f.ID)); err != nil {
		record("unproven", err.Error())
		return
	}
	// Waiting took time: what is injected after its step would hit nothing.
	if step := w.r.cfg.Plan.StepOf(f.Begin.Phase); closed(w.phases.gate(step, upgrade.Ended)) {
		record("unproven", step+" ended before the faults that it waits for were gone")
		return
	}
	kind, ok := w.lookup(f.Fault)
	if !ok {
		record("unproven", "the catalogue has no such fault")
		return
	}
	targets, err := w.r.resolve(ctx, kind, f)
	if err != nil {
		record("unproven", err.Error())
		return
	}
	var places []string
	for _, n := range targets {
		places = append(places, clusters.Place(n))
		for _, c := range kind.Needs {
			if !clusters.Has(n, c) {
				record("skipped", fmt.Sprintf("provider %s cannot do this: %s lacks %s", w.r.cluster.Provider(), clusters.Place(n), c))
				return
			}
		}
	}
	in, err := inject.New(inject.Config{
		ID: f.ID, Kind: kind, Fault: f.With, Phase: f.Begin.Phase,
		Env: faults.Env{
			Cluster: w.r.cluster, Targets: targets, Tag: inject.Tag(w.r.cfg.ID, f.ID), MaxHold: f.MaxHold,
			Log: func(format string, args ...any) { w.r.log.Printf("%s: %s", f.ID, fmt.Sprintf(format, args...)) },
		},
		Journal: w.r.journal,
		Record:  func(i history.Injection, at time.Time) { w.r.rec.AddAt(at, history.Event{Injection: &i}) },
	})
	if err != nil {
		record("unproven", err.Error())
		return
	}
	// The window may end, or the run be interrupted, at any moment from here:
	// Stop always runs, and takes its own time.
	if err := in.Start(ctx); err != nil {
		w.r.log.Printf("%s on %v: %v", f.ID, places, err)
	} else {
		w.hold(ctx, f, in)
	}
	if err := in.Stop(ctx); err != nil {
		w.r.log.Printf("%s: heal: %v", f.ID, err)
		w.mu.Lock()
		w.stuck = append(w.stuck, f.ID)
		w.mu.Unlock()
	}
}

// await returns when the window opens; the error says why it never will.
func (w *windows) await(ctx context.Context, f scenarios.Fault) error {
	began := w.phases.gate(f.Begin.Phase, upgrade.Began)
	never := fmt.Errorf("%s did not begin", f.Begin.Phase)
	select {
	case <-began:
	case <-ctx.Done():
		return never
	case <-w.phases.over:
		if !closed(began) { // both were ready
			return never
		}
	}
	if f.Begin.After <= 0 {
		return nil
	}
	// A window opens only while the step of its phase is running.
	step := w.r.cfg.Plan.StepOf(f.Begin.Phase)
	t := time.NewTimer(f.Begin.After)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-w.phases.gate(step, upgrade.Ended):
		return fmt.Errorf("%s ended within %s of the beginning of %s", step, f.Begin.After, f.Begin.Phase)
	case <-ctx.Done():
		return fmt.Errorf("within %s of the beginning of %s %w", f.Begin.After, f.Begin.Phase, context.Cause(ctx))
	}
}

// hold keeps the fault until its window ends.
func (w *windows) hold(ctx context.Context, f scenarios.Fault, in *inject.Injection) {
	hold, cancel := context.WithTimeout(ctx, f.MaxHold)
	defer cancel()
	if f.End.For > 0 {
		hold, cancel = context.WithTimeout(hold, f.End.For)
		defer cancel()
	}
	if f.End.Phase != "" {
		go func() {
			select {
			case <-w.phases.gate(f.End.Phase, upgrade.Ended):
			case <-w.phases.over:
			case <-hold.Done():
			}
			cancel()
		}()
	}
	in.Watch(hold)
}

// resolve names the nodes that a fault hits now.
func (r *runner) resolve(ctx context.Context, k faults.Kind, f scenarios.Fault) ([]clusters.Node, error) {
	facts, err := faults.FactsOf(ctx, r.cluster, r.client, k, f.Target)
	if err != nil {
		return nil, err
	}
	nodes := planned(r.scenario, r.cluster.Nodes())
	for _, n := range nodes {
		if a, ok := n.(absent); ok && facts.Labels != nil {
			facts.Labels[a.Name()] = map[string]string{corev1.LabelTopologyZone: clusters.Zone(r.scenario.Cluster.Zones, a.Index())}
		}
	}
	targets, err := f.Target.Resolve(k, nodes, facts, plan.Rand(r.cfg.Seed, "fault/"+f.ID))
	if err != nil {
		return nil, err
	}
	for _, n := range targets {
		if _, ok := n.(absent); ok {
			return nil, fmt.Errorf("%s is not there just now: the upgrade has removed it, and another machine is to come into its place", clusters.Place(n))
		}
	}
	return targets, nil
}

// planned are the nodes in the places that the plan was made with, so that the same
// draw hits the same place: what an upgrade added is left out, and where it has
// removed a worker an absent one stands for it.
func planned(s *scenarios.Scenario, nodes []clusters.Node) []clusters.Node {
	var out []clusters.Node
	for _, p := range s.Places() {
		i := slices.IndexFunc(nodes, func(n clusters.Node) bool { return n.Role() == p.Role && n.Index() == p.Index })
		if i < 0 {
			out = append(out, absent{p})
			continue
		}
		out = append(out, nodes[i])
	}
	return append(out, clusters.ByRole(nodes, clusters.LoadBalancer)...)
}

// absent stands for a node that is not there.
type absent struct{ place upgrade.Place }

func (a absent) Name() string        { return a.place.String() }
func (a absent) Role() clusters.Role { return a.place.Role }
func (a absent) Index() int          { return a.place.Index }
func (a absent) IP() netip.Addr      { return netip.Addr{} }
