package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/clusters"
	"gameday/clusters/upgrade"
	"gameday/faults"
	"gameday/harness/plan"
	"gameday/scenarios"
)

const (
	step = "upgrade/worker[0]"
	part = step + "/kubeadm"
)

// TestPlanned: the nodes that a target is drawn from are those of the plan, whatever an
// upgrade has added or removed: the same draw hits the same place.
func TestPlanned(t *testing.T) {
	s := &scenarios.Scenario{Cluster: scenarios.Cluster{ControlPlanes: 1, Workers: 3}}
	got := planned(s, []clusters.Node{
		fakeNode{"cp", clusters.ControlPlane, 0}, fakeNode{"w2", clusters.Worker, 1}, fakeNode{"w3", clusters.Worker, 2},
		fakeNode{"surge", clusters.Worker, 3}, fakeNode{"lb", clusters.LoadBalancer, 0},
	})
	want := []string{"control-plane[0] cp", "worker[0] worker[0]", "worker[1] w2", "worker[2] w3", "load-balancer[0] lb"}
	var names []string
	for _, n := range got {
		names = append(names, clusters.Place(n)+" "+n.Name())
	}
	if d := cmp.Diff(want, names); d != "" {
		t.Error(d)
	}
	r := &runner{scenario: s, cluster: fakeCluster{}, cfg: Config{Seed: 1}}
	f := scenarios.Fault{ID: "f", Target: faults.Target{Nodes: []string{"worker[2]"}}}
	k := faults.Kind{Name: "x", Roles: []clusters.Role{clusters.Worker}}
	if hit, err := r.resolve(t.Context(), k, f); err == nil || !strings.Contains(err.Error(), "worker[2] is not there just now") {
		t.Errorf("%v %v", hit, err)
	}
	f.Target.Nodes = []string{"worker[1]"}
	if hit, err := r.resolve(t.Context(), k, f); err != nil || len(hit) != 1 || hit[0].Name() != "gd-r-w2" {
		t.Errorf("%v %v", hit, err)
	}
}

func TestLeft(t *testing.T) {
	r := &runner{cluster: fakeCluster{}}
	if got := r.left(); len(got) > 0 {
		t.Error(got)
	}
	r.meet(r.cluster.Nodes()...)
	r.meet(fakeNode{"gd-r-w3", clusters.Worker, 2}, fakeNode{"gd-r-w", clusters.Worker, 0})
	if d := cmp.Diff([]string{"gd-r-w3"}, r.left()); d != "" {
		t.Error(d)
	}
}

// whole is the life of a fault that came and went as it should.
var whole = []string{"requested", "armed", "injected", "proven", "healing", "healed", "gone"}

func (b *bench) wantWhole(id string) {
	b.t.Helper()
	got := slices.DeleteFunc(b.states(id), func(s string) bool { return s == "reproven" })
	if d := cmp.Diff(whole, got); d != "" {
		b.t.Errorf("life of %s (-want +got):\n%s", id, d)
	}
}

func (b *bench) wantLast(id, state, text string) {
	b.t.Helper()
	if l := b.last(id); l.State != state || !strings.Contains(l.Error, text) {
		b.t.Errorf("%s ends %s (%s), want %s (... %s ...)", id, l.State, l.Error, state, text)
	}
}

func TestWindowForAWhile(t *testing.T) {
	b := newBench(t, t.Context(), nil, scenarios.Fault{ID: "f", Begin: scenarios.Begin{Phase: part, After: 20 * time.Millisecond}, End: scenarios.End{For: 20 * time.Millisecond}})
	b.start()
	b.phases.publish(step, upgrade.Began)
	if s := b.states("f"); s != nil {
		t.Errorf("the window is not open, but the fault is %v", s)
	}
	b.phases.publish(part, upgrade.Began)
	b.wait("f")
	b.wantWhole("f")
	if stuck := b.healAll(b.ctx); stuck != nil {
		t.Errorf("stuck: %v", stuck)
	}
}

func TestWindowUntilThePhaseEnds(t *testing.T) {
	b := newBench(t, t.Context(), nil, scenarios.Fault{ID: "f", Begin: scenarios.Begin{Phase: part}, End: scenarios.End{Phase: part}})
	b.start()
	b.phases.publish(step, upgrade.Began)
	b.phases.publish(part, upgrade.Began)
	b.reach("f", "proven")
	if closed(b.done["f"]) || slices.Contains(b.states("f"), "healing") {
		t.Fatal("the phase has not ended, the fault has")
	}
	b.phases.publish(part, upgrade.Ended)
	b.wait("f")
	b.wantWhole("f")
}

// A phase that never ends (its end was not seen, or the upgrade died) must not
// hold a fault: maxHold ends it.
func TestWindowEndsAtMaxHold(t *testing.T) {
	b := newBench(t, t.Context(), nil, scenarios.Fault{ID: "f", Begin: scenarios.Begin{Phase: part}, End: scenarios.End{Phase: part}, MaxHold: 300 * time.Millisecond})
	b.start()
	b.phases.publish(part, upgrade.Began)
	b.wait("f")
	b.wantWhole("f")
}

func TestWindowEndsWithTheRun(t *testing.T) {
	b := newBench(t, t.Context(), nil, scenarios.Fault{ID: "f", Begin: scenarios.Begin{Phase: part}, End: scenarios.End{Phase: part}})
	b.start()
	b.phases.publish(part, upgrade.Began)
	b.reach("f", "proven")
	b.phases.finish()
	b.wait("f")
	b.wantWhole("f")
}

// What is not injected must be in the record: what it does not mention would
// not be missed by the verdict.
func TestWindowThatNeverOpens(t *testing.T) {
	for _, tc := range []struct {
		name        string
		fault       scenarios.Fault
		open        func(b *bench)
		state, text string
	}{
		{"its phase does not begin", scenarios.Fault{Begin: scenarios.Begin{Phase: part}},
			func(b *bench) { b.phases.publish(step, upgrade.Began); b.phases.finish() }, "unproven", part + " did not begin"},
		{"its step is over before its time", scenarios.Fault{Begin: scenarios.Begin{Phase: part, After: time.Hour}},
			func(b *bench) { b.phases.publish(part, upgrade.Began); b.phases.publish(step, upgrade.Ended) }, "unproven", step + " ended within 1h0m0s"},
		{"the run heals before its time", scenarios.Fault{Begin: scenarios.Begin{Phase: part, After: time.Hour}},
			func(b *bench) { b.phases.publish(part, upgrade.Began); b.healAll(b.ctx) }, "unproven", "never opened"},
		{"its target is nobody", scenarios.Fault{Begin: scenarios.Begin{Phase: part}, Target: faults.Target{Nodes: []string{"worker[9]"}}},
			func(b *bench) { b.phases.publish(part, upgrade.Began) }, "unproven", faults.ErrNoTarget.Error()},
		{"its target cannot have it", scenarios.Fault{Begin: scenarios.Begin{Phase: part}, Fault: "fake.exec"},
			func(b *bench) { b.phases.publish(part, upgrade.Began) }, "skipped", "lacks exec"},
		{"nobody knows it", scenarios.Fault{Begin: scenarios.Begin{Phase: part}, Fault: "fake.none"},
			func(b *bench) { b.phases.publish(part, upgrade.Began) }, "unproven", "no such fault"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.fault.ID = "f"
			b := newBench(t, t.Context(), nil, tc.fault)
			b.start()
			tc.open(b)
			b.wait("f")
			b.wantLast("f", tc.state, tc.text)
			if stuck := b.healAll(b.ctx); stuck != nil {
				t.Errorf("stuck: %v", stuck)
			}
		})
	}
}

func TestHealAllInTheMiddleOfAnInjection(t *testing.T) {
	f := &fakeFault{hang: true, injecting: make(chan struct{})}
	b := newBench(t, t.Context(), nil, scenarios.Fault{ID: "f", Begin: scenarios.Begin{Phase: part}, With: f})
	b.start()
	b.phases.publish(part, upgrade.Began)
	<-f.injecting
	if stuck := b.healAll(b.ctx); stuck != nil {
		t.Errorf("stuck: %v", stuck)
	}
	if f.broken {
		t.Error("the fault was left")
	}
	if s := b.states("f"); !slices.Contains(s, "unproven") || s[len(s)-1] != "gone" {
		t.Errorf("its life: %v", s)
	}
}

// Ctrl-C ends the ctx of the run.
func TestInterruptHealsAll(t *testing.T) {
	ctx, interrupt := context.WithCancelCause(t.Context())
	f := &fakeFault{}
	b := newBench(t, ctx, nil,
		scenarios.Fault{ID: "f", Begin: scenarios.Begin{Phase: part}, End: scenarios.End{Phase: part}, With: f},
		scenarios.Fault{ID: "later", Begin: scenarios.Begin{Phase: "upgrade/worker[1]"}})
	b.start()
	b.phases.publish(part, upgrade.Began)
	b.reach("f", "proven")
	interrupt(errors.New("interrupted"))
	b.wait("f")
	b.wait("later")
	b.wantWhole("f")
	b.wantLast("later", "unproven", "did not begin")
	if f.broken {
		t.Error("the fault was left")
	}
}

// A window that opens in the moment in which the run heals is either a fault
// that came and went, or one that the record calls unproven; never nothing.
func TestEveryFaultIsInTheRecord(t *testing.T) {
	var list []scenarios.Fault
	for i := range 40 {
		list = append(list, scenarios.Fault{ID: fmt.Sprint(i), Begin: scenarios.Begin{Phase: part}})
	}
	b := newBench(t, t.Context(), nil, list...)
	b.phases.publish(part, upgrade.Began)
	b.endings(errors.New("the run heals everything"))
	b.start()
	if stuck := b.healAll(b.ctx); stuck != nil {
		t.Errorf("stuck: %v", stuck)
	}
	for _, f := range list {
		if b.last(f.ID).State == "requested" {
			t.Errorf("%s: %v", f.ID, b.states(f.ID))
		}
	}
}

func TestStuckIsTold(t *testing.T) {
	b := newBench(t, t.Context(), nil,
		scenarios.Fault{ID: "f", Fault: "fake.stick", With: &fakeFault{sticks: true}, Begin: scenarios.Begin{Phase: part}},
		scenarios.Fault{ID: "g", Begin: scenarios.Begin{Phase: part}})
	b.start()
	b.phases.publish(part, upgrade.Began)
	b.reach("f", "proven")
	b.reach("g", "proven")
	if d := cmp.Diff([]string{"f"}, b.healAll(b.ctx)); d != "" {
		t.Errorf("stuck (-want +got):\n%s", d)
	}
	b.wantLast("f", "stuck", "it sticks")
	b.wantWhole("g")
}

// A fault that does not come back must not hold the run for ever, and is not
// called undone.
func TestHealAllIsBounded(t *testing.T) {
	release := make(chan struct{})
	b := newBench(t, t.Context(), nil,
		scenarios.Fault{ID: "f", With: &fakeFault{hangs: release}, Begin: scenarios.Begin{Phase: part}},
		scenarios.Fault{ID: "g", Begin: scenarios.Begin{Phase: part}})
	b.start()
	b.phases.publish(part, upgrade.Began)
	b.reach("f", "proven")
	b.reach("g", "proven")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-b.done["g"]
		cancel()
	}()
	if d := cmp.Diff([]string{"f"}, b.healAll(ctx)); d != "" {
		t.Errorf("not undone (-want +got):\n%s", d)
	}
	close(release)
	b.wait("f")
	b.wantWhole("g")
}

// A fault whose window follows another's is injected only when that one is
// proven gone.
func TestWindowWaitsForThoseBefore(t *testing.T) {
	steps := []plan.Step{{ID: step, Kind: plan.KindNode, Steps: []plan.Step{{Kind: plan.KindFault, Fault: &plan.Injection{ID: "second", Waits: []string{"first"}}}}}}
	b := newBench(t, t.Context(), steps,
		scenarios.Fault{ID: "first", Begin: scenarios.Begin{Phase: step}, End: scenarios.End{Phase: part}},
		scenarios.Fault{ID: "second", Begin: scenarios.Begin{Phase: part}, End: scenarios.End{For: time.Millisecond}})
	b.start()
	b.phases.publish(step, upgrade.Began)
	b.reach("first", "proven")
	b.phases.publish(part, upgrade.Began)
	if s := b.states("second"); s != nil {
		t.Errorf("the first fault is there, and the second is %v", s)
	}
	b.phases.publish(part, upgrade.Ended)
	b.wait("second")
	b.wantWhole("first")
	b.wantWhole("second")
	if first, second := b.line("first", "gone"), b.line("second", "requested"); second < first {
		t.Errorf("the second was requested (line %d) before the first was gone (line %d)", second, first)
	}
}

func TestGone(t *testing.T) {
	b := newBench(t, t.Context(), nil,
		scenarios.Fault{ID: "open", Begin: scenarios.Begin{Phase: part}, End: scenarios.End{Phase: part}},
		scenarios.Fault{ID: "later", Begin: scenarios.Begin{Phase: "upgrade/worker[1]"}})
	b.start()
	b.phases.publish(part, upgrade.Began)
	b.reach("open", "proven")
	if err := b.gone(t.Context(), []string{"later", "unknown"}); err != nil {
		t.Errorf("a fault whose window did not open is waited for: %v", err)
	}
	// The bound of the upgrade ends the wait of a step that was blocked.
	bound := errors.New("the upgrade took longer than its bound")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, bound)
	defer cancel()
	if err := b.idle(ctx); !errors.Is(err, bound) {
		t.Errorf("idle with an open fault: %v", err)
	}
	b.phases.publish(part, upgrade.Ended)
	if err := b.idle(t.Context()); err != nil || !closed(b.done["open"]) {
		t.Errorf("idle: %v", err)
	}
	b.healAll(b.ctx)
}
