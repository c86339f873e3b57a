package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/process"
)

// The processes of these tests are real ones: this program once more, as a server that
// is started again when it ends.

const serverEnv = "GAMEDAY_TEST_SERVER"

func TestServerProcess(t *testing.T) {
	addr := os.Getenv(serverEnv)
	if addr == "" {
		t.Skip("it is a process of other tests")
	}
	t.Fatal(http.ListenAndServe(addr, http.NotFoundHandler()))
}

// serverOn runs a server until the end of the test, and starts it again a moment after
// each end of it.
func serverOn(t *testing.T, name string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestServerProcess$")
			cmd.Args[0] = name
			cmd.Env = append(os.Environ(), serverEnv+"="+addr)
			if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(err.Error(), "killed") && ctx.Err() == nil {
				t.Errorf("%s: %v: %s", name, err, out)
			}
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return addr
}

// hostNode is a node whose processes are in the namespace of the test.
type hostNode struct{ *fakeNode }

func (hostNode) InitPID(context.Context) (int, error) { return os.Getpid(), nil }

// kept are notes in memory.
type kept struct{ b []byte }

func (k *kept) Save(v any) (err error) { k.b, err = json.Marshal(v); return err }

func (k *kept) Load(v any) (bool, error) {
	if k.b == nil {
		return false, nil
	}
	return true, json.Unmarshal(k.b, v)
}

func serviceOf(t *testing.T) (service, Env) {
	t.Helper()
	name := fmt.Sprintf("gameday-victim-%d-%s", os.Getpid(), t.Name())
	addr := serverOn(t, name)
	w := &world{t: t}
	w.nodes = []*fakeNode{{w: w, i: 0}}
	s := service{
		name: "it", programs: []string{name},
		meet: func(ctx context.Context, _ Env, _ clusters.Node) (met, string, error) {
			return meet(ctx, fromHere, "http://"+addr)
		},
		control: func(context.Context, Env) (string, error) { return "somebody else is well", nil },
	}
	env := Env{Cluster: w.cluster(), Targets: []clusters.Node{hostNode{w.nodes[0]}}, Tag: "run-x", MaxHold: time.Minute, Notes: &kept{}, Log: t.Logf}
	soon(t, 20*time.Second, "it is up", func() bool {
		m, _, err := s.meet(t.Context(), env, env.Targets[0])
		return err == nil && m == speaks
	})
	return s, env
}

func soon(t *testing.T, d time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !is(); {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", d, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func proof(t *testing.T, f Fault, env Env) Effect {
	t.Helper()
	e, err := f.Prove(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	if e.Active && e.Gone {
		t.Fatalf("active and gone: %s", e.Evidence)
	}
	return e
}

func untilActive(t *testing.T, f Fault, env Env) Effect {
	t.Helper()
	var e Effect
	soon(t, 20*time.Second, "active", func() bool { e = proof(t, f, env); return e.Active })
	if e.Control == "" {
		t.Error("no control")
	}
	return e
}

func untilGone(t *testing.T, f Fault, env Env) Effect {
	t.Helper()
	var e Effect
	soon(t, 20*time.Second, "gone", func() bool { e = proof(t, f, env); return e.Gone })
	return e
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPausing(t *testing.T) {
	s, env := serviceOf(t)
	f := &pausing{of: s}
	ok(t, f.Heal(t.Context(), env))
	if e := proof(t, f, env); e.Active || !e.Gone {
		t.Errorf("before: %+v", e)
	}
	ok(t, f.Inject(t.Context(), env))
	untilActive(t, f, env)
	ok(t, f.Inject(t.Context(), env))
	untilActive(t, f, env)

	// Somebody kills it, and it is started again: it must be seen to be lost, and be
	// paused again.
	notes, err := notesOf(env)
	ok(t, err)
	ok(t, kill(t.Context(), notes.Processes["cp0"]))
	soon(t, 20*time.Second, "lost", func() bool { return !proof(t, f, env).Active })
	soon(t, 20*time.Second, "paused again", func() bool { return f.Inject(t.Context(), env) == nil && proof(t, f, env).Active })

	// Another process heals.
	g := &pausing{of: s}
	ok(t, g.Heal(t.Context(), env))
	ok(t, g.Heal(t.Context(), env))
	untilGone(t, g, env)
	if e := proof(t, f, env); e.Active || !e.Gone {
		t.Errorf("after: %+v", e)
	}
}

// A proof of the no-op twin must stay negative: notes alone prove nothing.
func TestPausingNobody(t *testing.T) {
	s, env := serviceOf(t)
	notes := struck{}
	notes.Processes = map[string][]process.Ref{}
	refs, err := s.running(t.Context(), env.Targets[0])
	ok(t, err)
	notes.add(env.Targets[0], refs)
	ok(t, env.Notes.Save(notes))
	for _, f := range []Fault{&pausing{of: s}, &killing{of: s}, &crashing{of: s}} {
		if e := proof(t, f, env); e.Active {
			t.Errorf("%T: %+v", f, e)
		}
	}
	s.programs = []string{"gameday-no-such-program"}
	if err := (&pausing{of: s}).Inject(t.Context(), Env{Targets: env.Targets, Notes: &kept{}}); err == nil {
		t.Error("nobody was paused, and that is no error")
	}
}

func TestKilling(t *testing.T) {
	s, env := serviceOf(t)
	f := &killing{of: s}
	if e := proof(t, f, env); e.Active || !e.Gone {
		t.Errorf("before: %+v", e)
	}
	ok(t, f.Inject(t.Context(), env))
	untilActive(t, f, env)
	first, err := notesOf(env)
	ok(t, err)
	e := untilGone(t, f, env)
	ok(t, f.Inject(t.Context(), env))
	if again := proof(t, &killing{of: s}, env); !again.Gone {
		t.Errorf("a second Inject killed the next one: %s, after %s", again.Evidence, e.Evidence)
	}
	second, err := notesOf(env)
	ok(t, err)
	if len(second.Processes["cp0"]) != len(first.Processes["cp0"]) {
		t.Errorf("a second Inject noted others: %v", second)
	}
}

func TestCrashing(t *testing.T) {
	s, env := serviceOf(t)
	f := &crashing{of: s}
	ok(t, f.Inject(t.Context(), env))
	untilActive(t, f, env)
	soon(t, 20*time.Second, "killed again, twice", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.kills >= 2 })
	untilActive(t, f, env)
	ok(t, f.Inject(t.Context(), env))
	ok(t, f.Heal(t.Context(), env))
	ok(t, f.Heal(t.Context(), env))
	untilGone(t, f, env)

	// Without anybody to heal it ends by itself.
	env.Notes, env.MaxHold = &kept{}, 2*time.Second
	f = &crashing{of: s}
	ok(t, f.Inject(t.Context(), env))
	untilActive(t, f, env)
	untilGone(t, f, env)
	if !f.over() {
		t.Error("it is said to be gone, and goes on")
	}
}

func TestGap(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	was := leaseSeen{Holder: "cp0_a", Node: "cp0", Acquired: at(-100), Renewed: at(0)}
	for _, tc := range []struct {
		name  string
		now   leaseSeen
		want  time.Duration
		moved bool
	}{
		{"nobody yet", was, 0, false},
		{"released", leaseSeen{}, 0, false},
		{"another node", leaseSeen{Holder: "cp1_b", Acquired: at(17.5), Renewed: at(40)}, 17500 * time.Millisecond, true},
		{"the same node, started anew", leaseSeen{Holder: "cp0_c", Acquired: at(15), Renewed: at(15)}, 15 * time.Second, true},
	} {
		if got, moved := was.gap(tc.now); got != tc.want || moved != tc.moved {
			t.Errorf("%s: %s, %v", tc.name, got, moved)
		}
	}
}

func TestEndedProcessesAreNoTrouble(t *testing.T) {
	s, env := serviceOf(t)
	refs, err := s.running(t.Context(), env.Targets[0])
	ok(t, err)
	ok(t, kill(t.Context(), refs))
	ok(t, errors.Join(stop(refs), resume(refs), kill(t.Context(), refs)))
	if text, err := stillPaused(refs); err != nil || text != "" {
		t.Errorf("got %q, %v", text, err)
	}
	if text, err := stillThere(refs); err != nil || text != "" {
		t.Errorf("got %q, %v", text, err)
	}
}
