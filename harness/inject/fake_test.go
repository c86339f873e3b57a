package inject

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"gameday/clusters"
	"gameday/faults"
	"gameday/harness/history"
)

type fakeNode struct {
	name string
	role clusters.Role
	i    int
}

func (n fakeNode) Name() string        { return n.name }
func (n fakeNode) Role() clusters.Role { return n.role }
func (n fakeNode) Index() int          { return n.i }
func (n fakeNode) IP() netip.Addr      { return netip.AddrFrom4([4]byte{127, 0, 0, byte(n.i + 2)}) }

type fakeCluster struct{ nodes []clusters.Node }

func (c fakeCluster) Name() string                   { return "c" }
func (c fakeCluster) Run() string                    { return "r" }
func (c fakeCluster) Provider() string               { return "fake" }
func (c fakeCluster) Nodes() []clusters.Node         { return c.nodes }
func (c fakeCluster) REST() *rest.Config             { return nil }
func (c fakeCluster) Endpoints() []clusters.Endpoint { return nil }
func (c fakeCluster) LoadImages(context.Context, clusters.Node, io.Reader) error {
	return errors.ErrUnsupported
}
func (c fakeCluster) Collect(context.Context, string) error { return errors.ErrUnsupported }

func testCluster() fakeCluster {
	return fakeCluster{[]clusters.Node{
		fakeNode{"c-control-plane", clusters.ControlPlane, 0},
		fakeNode{"c-worker", clusters.Worker, 0},
		fakeNode{"c-worker2", clusters.Worker, 1},
	}}
}

// fakeFault breaks a file: it is broken while the file is there, so that other
// processes see it too.
type fakeFault struct {
	File string `yaml:"file"`
	// Slow makes Inject hang until ctx ends.
	Slow bool `yaml:"slow"`

	mu    sync.Mutex
	calls []string
	// fail decides whether a call fails; do runs in the middle of it.
	fail func(call string) error
	do   func(call string)
	// isBlind hides the effect.
	isBlind func() bool
}

func (f *fakeFault) call(c string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, c)
	if f.do != nil {
		f.do(c)
	}
	if f.fail != nil {
		return f.fail(c)
	}
	return nil
}

func (f *fakeFault) count(c string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, x := range f.calls {
		if c == "" || x == c {
			n++
		}
	}
	return n
}

func (f *fakeFault) broken() bool {
	_, err := os.Stat(f.File)
	return err == nil
}

func (f *fakeFault) Inject(ctx context.Context, env faults.Env) error {
	if err := env.Notes.Save(map[string]string{"made": f.File}); err != nil {
		return err
	}
	err := f.call("inject")
	if err == nil || errors.Is(err, errHalf) {
		if werr := os.WriteFile(f.File, []byte(env.Tag), 0o600); werr != nil {
			return werr
		}
	}
	if f.Slow {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (f *fakeFault) Heal(context.Context, faults.Env) error {
	if err := f.call("heal"); err != nil {
		return err
	}
	return os.RemoveAll(f.File)
}

func (f *fakeFault) Prove(context.Context, faults.Env) (faults.Effect, error) {
	if err := f.call("prove"); err != nil {
		return faults.Effect{}, err
	}
	b := f.broken()
	blind := f.isBlind != nil && f.isBlind()
	return faults.Effect{Active: b && !blind, Gone: !b, Evidence: map[bool]string{true: "broken", false: "whole"}[b]}, nil
}

var errHalf = errors.New("interrupted half way")

func fakeKind() faults.Kind {
	return faults.Kind{
		Name: "fake.break", Roles: []clusters.Role{clusters.Worker},
		ProveWithin: 5 * time.Second, GoneWithin: 20 * time.Second,
		New: func() faults.Fault { return &fakeFault{} },
	}
}

func lookupFake(name string) (faults.Kind, bool) { return fakeKind(), name == "fake.break" }

// recorder keeps what an injection records.
type recorder struct {
	mu     sync.Mutex
	events []history.Injection
}

func (r *recorder) record(i history.Injection, _ time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, i)
}

func (r *recorder) states() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		out = append(out, e.State)
	}
	return out
}

func newTestJournal(t *testing.T) *Journal {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	j, err := OpenJournal(filepath.Join(t.TempDir(), "journal.jsonl"), Header{Run: "r", Provider: "fake", Cluster: "c"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

// guardedBy gives the journal a guard that is only a channel; closing it loses
// the guard.
func guardedBy(j *Journal) chan struct{} {
	lost := make(chan struct{})
	j.mu.Lock()
	j.guard = &Guard{lost: lost}
	j.mu.Unlock()
	return lost
}

func newTestInjection(t *testing.T, j *Journal, id string, f *fakeFault) (*Injection, *recorder) {
	t.Helper()
	if f.File == "" {
		f.File = filepath.Join(t.TempDir(), "broken")
	}
	c := testCluster()
	r := &recorder{}
	i, err := New(Config{
		ID: id, Kind: fakeKind(), Fault: f, Journal: j, Record: r.record, Phase: "upgrade",
		Env: faults.Env{Cluster: c, Targets: c.nodes[1:2], Tag: Tag("r", id), MaxHold: time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	return i, r
}

// openIDs are the open entries of a journal file.
func openIDs(t *testing.T, path string) map[string]State {
	t.Helper()
	c, err := ReadJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]State{}
	for _, e := range c.Open() {
		out[e.ID] = e.State
	}
	return out
}
