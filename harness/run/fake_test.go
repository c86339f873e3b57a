package run

import (
	"context"
	"errors"
	"io"
	"log"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"gameday/clusters"
	"gameday/faults"
	"gameday/faults/mechanism/child"
	"gameday/harness/history"
	"gameday/harness/inject"
	"gameday/harness/plan"
	"gameday/scenarios"
)

func TestMain(m *testing.M) {
	// The guards that the tests start are this binary again.
	child.Main(map[string]child.Func{inject.GuardEntry: inject.Guarding(
		func(context.Context, string, string) (clusters.Cluster, error) { return nil, clusters.ErrNotFound },
	)})
	os.Exit(m.Run())
}

type fakeNode struct {
	name string
	role clusters.Role
	i    int
}

func (n fakeNode) Name() string        { return n.name }
func (n fakeNode) Role() clusters.Role { return n.role }
func (n fakeNode) Index() int          { return n.i }
func (n fakeNode) IP() netip.Addr      { return netip.AddrFrom4([4]byte{127, 0, 0, byte(n.i + 2)}) }

type fakeCluster struct {
	collect func() error
}

func (c fakeCluster) Name() string     { return "gd-r" }
func (c fakeCluster) Run() string      { return "r" }
func (c fakeCluster) Provider() string { return "fake" }
func (c fakeCluster) Nodes() []clusters.Node {
	return []clusters.Node{fakeNode{"gd-r-cp", clusters.ControlPlane, 0}, fakeNode{"gd-r-w", clusters.Worker, 0}, fakeNode{"gd-r-w2", clusters.Worker, 1}}
}
func (c fakeCluster) REST() *rest.Config             { return &rest.Config{Host: "https://127.0.0.1:1"} }
func (c fakeCluster) Endpoints() []clusters.Endpoint { return nil }
func (c fakeCluster) LoadImages(context.Context, clusters.Node, io.Reader) error {
	return errors.ErrUnsupported
}
func (c fakeCluster) Collect(context.Context, string) error {
	if c.collect == nil {
		return nil
	}
	return c.collect()
}

// fakeFault breaks nothing but a flag.
type fakeFault struct {
	mu     sync.Mutex
	broken bool
	// hang makes Inject wait for the end of its ctx; sticks makes Heal fail.
	hang, sticks bool
	injecting    chan struct{} // closed when Inject begins, if not nil
	hangs        chan struct{} // Heal waits for it, whatever its ctx says, if not nil
}

func (f *fakeFault) Inject(ctx context.Context, _ faults.Env) error {
	f.mu.Lock()
	f.broken = true
	f.mu.Unlock()
	if f.injecting != nil {
		close(f.injecting)
	}
	if f.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (f *fakeFault) Heal(context.Context, faults.Env) error {
	if f.hangs != nil {
		<-f.hangs
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sticks {
		return errors.New("it sticks")
	}
	f.broken = false
	return nil
}

func (f *fakeFault) Prove(context.Context, faults.Env) (faults.Effect, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return faults.Effect{Active: f.broken, Gone: !f.broken, Evidence: "looked"}, nil
}

// kinds are the faults that the tests know: one that any node can have, one
// that needs what no fake node can do.
func kinds(name string) (faults.Kind, bool) {
	k := faults.Kind{
		Name: name, Roles: []clusters.Role{clusters.Worker},
		ProveWithin: 20 * time.Second, GoneWithin: 20 * time.Second,
	}
	switch name {
	case "fake.break":
	case "fake.stick":
		k.GoneWithin = 50 * time.Millisecond
	case "fake.exec":
		k.Needs = []clusters.Capability{clusters.CapExec}
	default:
		return faults.Kind{}, false
	}
	return k, true
}

// bench is a run reduced to its faults.
type bench struct {
	*windows
	t    *testing.T
	ctx  context.Context
	path string
}

// newBench has faults wait for their windows, which the test opens by
// publishing phases. steps are the plan's.
func newBench(t *testing.T, ctx context.Context, steps []plan.Step, list ...scenarios.Fault) *bench {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dir := t.TempDir()
	b := &bench{t: t, ctx: ctx, path: filepath.Join(dir, "history.jsonl")}
	rec, err := history.Create(b.path, history.Run{ID: "r"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	journal, err := inject.OpenJournal(filepath.Join(dir, "journal.jsonl"), inject.Header{Run: "r", Provider: "fake", Cluster: "gd-r"})
	if err != nil {
		t.Fatal(err)
	}
	guard, err := inject.StartGuard(t.Context(), journal, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(guard.Stop(context.WithoutCancel(t.Context())), journal.Close()); err != nil {
			t.Error(err)
		}
	})
	for i := range list {
		if list[i].Fault == "" {
			list[i].Fault = "fake.break"
		}
		if list[i].With == nil {
			list[i].With = &fakeFault{}
		}
		if list[i].MaxHold == 0 {
			list[i].MaxHold = time.Minute
		}
		if list[i].Target.Pick == "" && list[i].Target.Nodes == nil {
			list[i].Target.Pick = faults.PickOne
		}
	}
	r := &runner{
		cfg:      Config{ID: "r", Plan: &plan.Plan{Steps: append(steps, plan.Step{Kind: plan.KindNode, ID: step})}},
		scenario: &scenarios.Scenario{Cluster: scenarios.Cluster{ControlPlanes: 1, Workers: 2}, Faults: list},
		rec:      rec, journal: journal, guard: guard, cluster: fakeCluster{}, log: log.New(t.Output(), "", 0),
	}
	b.windows = newWindows(ctx, r, newPhases())
	b.lookup = kinds
	return b
}

// wait waits until the fault's life is over.
func (b *bench) wait(id string) {
	b.t.Helper()
	select {
	case <-b.done[id]:
	case <-time.After(30 * time.Second):
		b.t.Fatalf("%s is not over after 30 s: %v", id, b.states(id))
	}
}

// reach waits until the record says that the fault has come to a state.
func (b *bench) reach(id, state string) {
	b.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-tick.C {
		for _, s := range b.states(id) {
			if s == state {
				return
			}
		}
	}
	b.t.Fatalf("%s is not %s after 30 s: %v", id, state, b.states(id))
}

func (b *bench) steps(id string) []history.Injection {
	b.t.Helper()
	h, err := history.Load(b.path)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []history.Injection
	for _, i := range h.Injections {
		if i.V.ID == id {
			out = append(out, i.V)
		}
	}
	return out
}

func (b *bench) states(id string) []string {
	b.t.Helper()
	var out []string
	for _, i := range b.steps(id) {
		out = append(out, i.State)
	}
	return out
}

// last is the last thing that the record says of a fault.
func (b *bench) last(id string) history.Injection {
	b.t.Helper()
	all := b.steps(id)
	if len(all) == 0 {
		b.t.Fatalf("the record says nothing of %s", id)
	}
	return all[len(all)-1]
}

// line is where the record says that a fault came to a state.
func (b *bench) line(id, state string) int64 {
	b.t.Helper()
	h, err := history.Load(b.path)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, i := range h.Injections {
		if i.V.ID == id && i.V.State == state {
			return i.Seq
		}
	}
	b.t.Fatalf("%s never was %s", id, state)
	return 0
}
