package inject

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters"
	"gameday/faults"
	"gameday/faults/mechanism/child"
)

// bound is how long a test waits for what takes milliseconds on an idle machine.
const bound = 20 * time.Second

func openFake(_ context.Context, _, name string) (clusters.Cluster, error) {
	if name == "gone" {
		return nil, fmt.Errorf("cluster %s: %w", name, clusters.ErrNotFound)
	}
	return testCluster(), nil
}

func TestMain(m *testing.M) {
	child.Main(map[string]child.Func{
		GuardEntry: guarding(healer{openFake, lookupFake, func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, format+"\n", args...)
		}}),
		"run": run,
	})
	os.Exit(m.Run())
}

type runArgs struct {
	Dir   string
	Lease time.Duration
	// Hang makes Inject hang.
	Hang bool
	// Overdue has a second fault in the journal whose time is over, and which
	// nobody ends.
	Overdue bool
	// Run is its name, r by default; State another folder of the index.
	Run, State string
}

type runReady struct{ Guard int }

// run is a run with one fault; it is made to end in many ways.
func run(ctx context.Context, c *child.Conn) error {
	var args runArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	j, err := OpenJournal(filepath.Join(args.Dir, "journal.jsonl"), Header{Run: cmp.Or(args.Run, "r"), Provider: "fake", Cluster: "c"})
	if err != nil {
		return err
	}
	g, err := StartGuard(ctx, j, args.Lease)
	if err != nil {
		return err
	}
	cl := testCluster()
	f := &fakeFault{File: filepath.Join(args.Dir, "broken"), Slow: args.Hang}
	i, err := New(Config{
		ID: "a", Kind: fakeKind(), Fault: f, Journal: j, Record: (&recorder{}).record,
		Env: faults.Env{Cluster: cl, Targets: cl.nodes[1:2], Tag: "r-a", MaxHold: time.Hour},
	})
	if err != nil {
		return err
	}
	started := make(chan error, 1)
	go func() { started <- i.Start(ctx) }()
	if !args.Hang {
		if err := <-started; err != nil {
			return err
		}
	} else {
		for !f.broken() {
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
		}
	}
	if args.Overdue {
		file := filepath.Join(args.Dir, "overdue")
		if err := errors.Join(os.WriteFile(file, nil, 0o600), j.arm("b", Intent{
			Fault: "fake.break", Params: map[string]any{"file": file}, Nodes: []string{"c-worker"}, Deadline: time.Now().Add(-time.Hour),
		})); err != nil {
			return err
		}
	}
	if err := c.Ready(runReady{Guard: g.p.PID()}); err != nil {
		return err
	}
	err = c.Serve(ctx, func(req json.RawMessage) (any, error) {
		switch string(req) {
		case `"stop"`:
			return nil, errors.Join(i.Stop(ctx), g.Stop(ctx), j.Close())
		case `"leave"`: // with a fault open
			return nil, g.Stop(ctx)
		case `"state"`:
			return i.State(), nil
		}
		return nil, nil
	})
	return err
}

func startRun(t *testing.T, args runArgs) (*child.Process, runReady) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", cmp.Or(args.State, filepath.Join(args.Dir, "state")))
	log, err := os.Create(filepath.Join(args.Dir, "run.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var ready runReady
	p, err := child.Start(t.Context(), child.Command{Name: "run", Args: args, Ready: &ready, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(context.Background()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, f := range []string{"run.log", "guard.log", "journal.jsonl"} {
				b, err := os.ReadFile(filepath.Join(args.Dir, f))
				t.Logf("%s (%v):\n%s", f, err, b)
			}
		}
	})
	if _, err := os.Stat(filepath.Join(args.Dir, "broken")); err != nil {
		t.Fatal("nothing is broken, so nothing is shown by its being whole: ", err)
	}
	return p, ready
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(bound); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, bound)
		}
		if pause(t.Context(), time.Millisecond) != nil {
			return
		}
	}
}

func untilHealed(t *testing.T, dir, by string) {
	t.Helper()
	until(t, "healed", func() bool {
		_, err := os.Stat(filepath.Join(dir, "broken"))
		return err != nil && len(openIDs(t, filepath.Join(dir, "journal.jsonl"))) == 0
	})
	until(t, "the index is empty", func() bool {
		found, err := OpenJournals()
		return err == nil && len(found) == 0
	})
	c, err := ReadJournal(filepath.Join(dir, "journal.jsonl"))
	if err != nil || c.Holder.As != by {
		t.Errorf("healed by %s (%v), want %s", c.Holder.As, err, by)
	}
}

func untilGone(t *testing.T, pid int) {
	t.Helper()
	until(t, fmt.Sprintf("process %d has ended", pid), func() bool {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	})
}

func TestGuardHealsAfterSIGKILL(t *testing.T) {
	dir := t.TempDir()
	p, ready := startRun(t, runArgs{Dir: dir, Lease: time.Hour}) // the lease is not what ends it
	if sid, err := unix.Getsid(ready.Guard); err != nil || sid != ready.Guard {
		t.Errorf("the guard is in session %d (%v), where a Ctrl-C could reach it", sid, err)
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	untilHealed(t, dir, "guard")
	untilGone(t, ready.Guard)
}

func TestGuardHealsWhenTheRunHangs(t *testing.T) {
	dir := t.TempDir()
	const lease = 300 * time.Millisecond
	p, ready := startRun(t, runArgs{Dir: dir, Lease: lease})
	if pause(t.Context(), 3*lease) != nil || len(openIDs(t, filepath.Join(dir, "journal.jsonl"))) != 1 {
		t.Fatal("the guard healed although the run beats")
	}
	if err := syscall.Kill(p.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	untilHealed(t, dir, "guard")
	// The run was not in the middle of an act, so it lives; it wakes up and learns.
	if err := syscall.Kill(p.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	untilGone(t, ready.Guard) // reaped by the run
	until(t, "the run takes note", func() bool {
		var s State
		return p.Call(t.Context(), "state", &s) == nil && s == Healed
	})
	if c, err := ReadJournal(filepath.Join(dir, "journal.jsonl")); err != nil || c.Holder.As != "guard" || c.Torn > 0 {
		t.Errorf("journal: %+v, %v", c, err)
	}
}

func TestGuardHealsWhatIsOverdue(t *testing.T) {
	dir := t.TempDir()
	p, ready := startRun(t, runArgs{Dir: dir, Lease: 300 * time.Millisecond, Overdue: true})
	untilHealed(t, dir, "guard")
	if _, err := os.Stat(filepath.Join(dir, "overdue")); err == nil {
		t.Error("what was overdue is broken still")
	}
	untilGone(t, ready.Guard)
	until(t, "the run, which lives, heals its own", func() bool {
		var s State
		return p.Call(t.Context(), "state", &s) == nil && s == Healed
	})
}

func TestOverdue(t *testing.T) {
	j := newTestJournal(t)
	h := healer{openFake, lookupFake, t.Logf}
	k := fakeKind()
	deadline := time.Now()
	late := deadline.Add(k.ProveWithin + k.GoneWithin + time.Second)
	in := Intent{Fault: k.Name, Deadline: deadline}
	other := in
	other.Fault = "no.such"
	if err := errors.Join(j.arm("a", in), j.arm("other", other)); err != nil {
		t.Fatal(err)
	}
	look := func(at time.Time) string {
		t.Helper()
		err := h.overdue(j.path, at)
		if err != nil && !errors.Is(err, errOverdue) {
			t.Errorf("%v", err)
		}
		return fmt.Sprint(err)
	}
	if got := look(deadline.Add(k.GoneWithin)); got != "<nil>" {
		t.Errorf("it has time still: %s", got)
	}
	if got := look(late); !strings.HasSuffix(got, ": a") {
		t.Errorf("one is overdue: %s", got)
	}
	if got := look(deadline.Add(longestAct() + time.Second)); !strings.HasSuffix(got, ": a, other") {
		t.Errorf("both are: %s", got)
	}
	if err := errors.Join(j.mark("a", Stuck, nil), j.mark("other", Healed, nil)); err != nil {
		t.Fatal(err)
	}
	if got := look(late); got != "<nil>" {
		t.Errorf("the run has told their end: %s", got)
	}
	if err := h.overdue(j.path+"x", late); err != nil {
		t.Errorf("a journal that cannot be read: %v", err)
	}
}

func TestGuardEndsARunThatHangsInAnAct(t *testing.T) {
	dir := t.TempDir()
	p, _ := startRun(t, runArgs{Dir: dir, Lease: 300 * time.Millisecond, Hang: true})
	if err := syscall.Kill(p.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	untilHealed(t, dir, "guard")
	select {
	case <-p.Done():
	case <-time.After(bound):
		t.Error("the run could go on in the middle of its act")
	}
}

func TestGoodbye(t *testing.T) {
	dir := t.TempDir()
	p, ready := startRun(t, runArgs{Dir: dir, Lease: time.Minute})
	if err := p.Call(t.Context(), "stop", nil); err != nil {
		t.Fatal(err)
	}
	untilGone(t, ready.Guard)
	untilHealed(t, dir, "harness")
}

func TestGoodbyeWithAFaultOpen(t *testing.T) {
	dir := t.TempDir()
	p, ready := startRun(t, runArgs{Dir: dir, Lease: time.Minute})
	if err := p.Call(t.Context(), "leave", nil); err != nil {
		t.Fatal(err)
	}
	untilGone(t, ready.Guard)
	untilHealed(t, dir, "guard")
}

func TestGuardIsAskedToEnd(t *testing.T) {
	dir := t.TempDir()
	p, ready := startRun(t, runArgs{Dir: dir, Lease: time.Minute})
	if err := syscall.Kill(ready.Guard, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	untilHealed(t, dir, "guard")
	until(t, "the run takes note", func() bool {
		var s State
		return p.Call(t.Context(), "state", &s) == nil && s == Healed
	})
}

func TestGuardIsKilled(t *testing.T) {
	dir := t.TempDir()
	p, ready := startRun(t, runArgs{Dir: dir, Lease: time.Second})
	if err := syscall.Kill(ready.Guard, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the run heals itself", func() bool {
		var s State
		return p.Call(t.Context(), "state", &s) == nil && s == Healed
	})
	// The run ends without closing its journal: who asks later finds it healed.
	if err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := HealAll(t.Context(), filepath.Join(dir, "journal.jsonl"), openFake, t.Logf)
	if err != nil || !strings.Contains(r.String(), "nothing was open") {
		t.Errorf("%s, %v", r, err)
	}
	untilHealed(t, dir, "heal")
}

func TestHealAllAfterBothDied(t *testing.T) {
	dir := t.TempDir()
	p, ready := startRun(t, runArgs{Dir: dir, Lease: time.Minute})
	for _, pid := range []int{p.PID(), ready.Guard} { // neither can do anything any more
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(syscall.Kill(ready.Guard, syscall.SIGKILL), p.Kill(t.Context())); err != nil {
		t.Fatal(err)
	}
	h := healer{openFake, lookupFake, t.Logf}
	r, err := h.journal(t.Context(), filepath.Join(dir, "journal.jsonl"))
	if err != nil || r.Err() != nil || len(r.Healed) != 1 {
		t.Errorf("%s, %v", r, err)
	}
	untilHealed(t, dir, "heal")
}
