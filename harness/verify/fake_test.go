package verify

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"gameday/clusters"
	"gameday/faults"
	"gameday/faults/mechanism/child"
	"gameday/harness/inject"
)

func TestMain(m *testing.M) {
	child.Main(map[string]child.Func{
		inject.GuardEntry: inject.GuardingWith(openFake, lookupFake),
		VictimEntry:       Victim([]faults.Kind{fakeKind()}, openFake),
	})
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

// execNode has a capability.
type execNode struct{ fakeNode }

func (execNode) Exec(context.Context, clusters.Command) error { return errors.ErrUnsupported }

type fakeCluster struct{ nodes []clusters.Node }

func (c fakeCluster) Name() string                   { return "c" }
func (c fakeCluster) Run() string                    { return "r" }
func (c fakeCluster) Provider() string               { return "fake" }
func (c fakeCluster) Nodes() []clusters.Node         { return c.nodes }
func (c fakeCluster) REST() *rest.Config             { return &rest.Config{} }
func (c fakeCluster) Endpoints() []clusters.Endpoint { return nil }
func (c fakeCluster) LoadImages(context.Context, clusters.Node, io.Reader) error {
	return errors.ErrUnsupported
}
func (c fakeCluster) Collect(context.Context, string) error { return errors.ErrUnsupported }

func testCluster() fakeCluster {
	return fakeCluster{[]clusters.Node{
		fakeNode{"c-control-plane", clusters.ControlPlane, 0},
		execNode{fakeNode{"c-worker", clusters.Worker, 0}},
		execNode{fakeNode{"c-worker2", clusters.Worker, 1}},
	}}
}

func openFake(context.Context, string, string) (clusters.Cluster, error) { return testCluster(), nil }

// fakeFault breaks a file: it is broken while the file is there, so that other
// processes see it too.
type fakeFault struct {
	Dir string `yaml:"dir"`
	// Defect is how it breaks its contract.
	Defect string `yaml:"defect"`

	mu    sync.Mutex
	looks int
}

func (f *fakeFault) file(env faults.Env) string { return filepath.Join(f.Dir, env.Tag) }

func (f *fakeFault) Inject(_ context.Context, env faults.Env) error {
	if err := env.Notes.Save("injected"); err != nil {
		return err
	}
	_, err := os.Stat(f.file(env))
	switch {
	case f.Defect == "unsupported":
		return errors.ErrUnsupported
	case f.Defect == "no second inject" && err == nil:
		return errors.New("it is broken already")
	case f.Defect == "leaves something":
		if err := os.WriteFile(filepath.Join(f.Dir, "left"), nil, 0o600); err != nil {
			return err
		}
	case f.Defect == "nothing":
		return nil
	}
	return os.WriteFile(f.file(env), nil, 0o600)
}

func (f *fakeFault) Heal(_ context.Context, env faults.Env) error {
	_, err := os.Stat(f.file(env))
	if err != nil && f.Defect == "no second heal" {
		return errors.New("it is whole already")
	}
	if f.Defect == "cannot be undone" {
		return errors.New("no")
	}
	return os.RemoveAll(f.file(env))
}

func (f *fakeFault) Prove(_ context.Context, env faults.Env) (faults.Effect, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	_, err := os.Stat(f.file(env))
	broken := err == nil
	injected, err := env.Notes.Load(new(string))
	if err != nil {
		return faults.Effect{}, err
	}
	e := faults.Effect{Active: broken, Gone: !broken, At: time.Now(), Control: "c-worker2 is well", Evidence: "seen"}
	switch f.Defect {
	case "always active":
		e.Active, e.Gone = true, false
	case "active later": // as one that is not sure
		e.Active = broken || f.looks > 2
	case "no control":
		e.Control = ""
	case "does not last":
		if broken && injected && f.looks > 2 {
			e.Active = false
		}
	case "blind":
		return faults.Effect{}, errors.New("no answer")
	case "measure":
		e.Asked, e.Measured, e.Unit = 50, 51, "ms"
	}
	return e, nil
}

// fakeDir is where faults of fakeKind break their files; other processes have it
// from the environment.
const fakeDir = "VERIFY_TEST_DIR"

func fakeKind() faults.Kind {
	return faults.Kind{
		Name: "fake.break", Roles: []clusters.Role{clusters.Worker}, Needs: []clusters.Capability{clusters.CapExec},
		ProveWithin: 2 * time.Second, GoneWithin: 3 * time.Second,
		New: func() faults.Fault { return &fakeFault{Dir: os.Getenv(fakeDir)} },
		Trials: []faults.Trial{
			{Name: "fake-break", Target: faults.Target{Nodes: []string{"worker[0]"}}},
			{Name: "fake-break-other", Target: faults.Target{Nodes: []string{"worker[1]"}}},
		},
	}
}

func lookupFake(name string) (faults.Kind, bool) { return fakeKind(), name == "fake.break" }

// newTestVerifier is one whose cluster is whole, and whose snapshot are the files
// in the folder of the faults.
func newTestVerifier(t *testing.T) *Verifier {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv(fakeDir, dir)
	v := &Verifier{cfg: Config{Cluster: testCluster(), Run: "r", Dir: t.TempDir(), Seed: 1, Say: t.Logf}, tries: map[string]int{}}
	v.whole = func(context.Context, time.Duration) error { return nil }
	v.facts = func(context.Context, faults.Kind, faults.Target) (faults.Facts, error) { return faults.Facts{}, nil }
	v.settleFor, v.hold = time.Second, 50*time.Millisecond
	v.take = func(context.Context) (Snapshot, error) {
		list, err := os.ReadDir(dir)
		s := Snapshot{}
		for _, e := range list {
			s.add("folder", "%s", e.Name())
		}
		return s, err
	}
	if err := v.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(context.WithoutCancel(t.Context())); err != nil && !strings.Contains(err.Error(), "could not be undone") {
			t.Log(err)
		}
	})
	return v
}

func fakeTrial(t *testing.T, defect string) Trial {
	t.Helper()
	k := fakeKind()
	b, err := json.Marshal(map[string]string{"defect": defect})
	if err != nil {
		t.Fatal(err)
	}
	return Trial{Kind: k, Trial: faults.Trial{Name: "fake-break", Target: k.Trials[0].Target, With: string(b)}}
}
