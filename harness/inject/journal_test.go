package inject

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/clusters"
)

func TestJournalSurvives(t *testing.T) {
	j := newTestJournal(t)
	in := Intent{Fault: "fake.break", Params: map[string]any{"file": "/x"}, Places: []string{"worker[0]"}, Nodes: []string{"c-worker"}, Tag: "r-a", Deadline: time.Now().Round(0)}
	n := j.notesOf("a")
	if ok, err := n.Load(new(int)); ok || err != nil {
		t.Errorf("notes before any: %v, %v", ok, err)
	}
	err := errors.Join(j.arm("a", in), n.Save(1), n.Save(2), j.mark("a", Active, nil), j.arm("b", in), j.mark("b", Healed, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.arm("a", in); err == nil {
		t.Error("an injection was armed twice")
	}
	var got int
	if ok, err := n.Load(&got); !ok || err != nil || got != 2 {
		t.Errorf("notes: %d, %v, %v", got, ok, err)
	}
	c, err := ReadJournal(j.path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Entry{{ID: "a", Intent: in, State: Active, Notes: []byte("2")}}, c.Open()); diff != "" {
		t.Errorf("open (-want +got):\n%s", diff)
	}
	if alive, err := c.Holder.Alive(); err != nil || !alive || c.Holder.Run != "r" || c.Holder.As != "harness" {
		t.Errorf("holder %+v: alive %v, %v", c.Holder, alive, err)
	}
}

func TestTornLines(t *testing.T) {
	j := newTestJournal(t)
	if err := j.arm("a", Intent{Fault: "fake.break"}); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	// A crash can leave any part of the last line.
	if err := j.arm("b", Intent{Fault: "fake.break"}); err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	for n := len(whole); n < len(all)-1; n++ {
		path := filepath.Join(t.TempDir(), "torn")
		if err := os.WriteFile(path, all[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := ReadJournal(path)
		if err != nil || len(c.Open()) != 1 || c.Torn != min(1, n-len(whole)) {
			t.Fatalf("%d bytes: %v, %v", n, c, err)
		}
		if n%10 > 0 {
			continue
		}
		// Who goes on with it begins a new line.
		taken, err := takeOver(t.Context(), path, "heal", "test")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(taken.mark("a", Healed, nil), taken.Close()); err != nil {
			t.Fatal(err)
		}
		if c, err = ReadJournal(path); err != nil || len(c.Open()) != 0 || c.Holder.As != "heal" {
			t.Fatalf("%d bytes, taken over: %v, %v", n, c, err)
		}
	}
}

func TestJournalThatIsNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadJournal(path); err == nil {
		t.Error("a file without a run was read")
	}
	if _, err := OpenJournal(path, Header{Run: "r"}); err == nil {
		t.Error("an existing file was made a journal")
	}
	if _, err := OpenJournal(path+"2", Header{Run: "../r"}); err == nil {
		t.Error("a wild name of a run was accepted")
	}
}

func TestIndex(t *testing.T) {
	j := newTestJournal(t)
	list := func() []Found {
		t.Helper()
		found, err := OpenJournals()
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if diff := cmp.Diff([]Found{{Run: "r", Path: j.path}}, list()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := j.arm("a", Intent{}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil || len(list()) != 1 {
		t.Errorf("a journal with an open entry left the index: %v", err)
	}
	taken, err := takeOver(t.Context(), j.path, "heal", "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(taken.mark("a", Healed, nil), taken.Close()); err != nil || len(list()) != 0 {
		t.Errorf("a healed journal is still in the index: %v, %v", list(), err)
	}
	if err := j.append(line{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
}

func TestWhoActsIsAlone(t *testing.T) {
	j := newTestJournal(t)
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	err := j.act(t.Context(), func() error {
		// Acts of one run do not wait for one another.
		if err := j.act(short(), func() error { return nil }); err != nil {
			return err
		}
		if _, err := takeOver(short(), j.path, "guard", "test"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("taken over in the middle of an act: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	taken, err := takeOver(t.Context(), j.path, "guard", "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := j.act(short(), func() error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an act while another process has the journal: %v", err)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.act(t.Context(), func() error { return nil }); !errors.Is(err, ErrTakenOver) {
		t.Errorf("an act after another process had the journal: %v", err)
	}
	if err := j.arm("a", Intent{}); !errors.Is(err, ErrTakenOver) {
		t.Errorf("a line after another process had the journal: %v", err)
	}
}

func TestHealAllRefusesWhileTheRunLives(t *testing.T) {
	j := newTestJournal(t)
	if _, err := HealAll(t.Context(), j.path, openFake, t.Logf); !errors.Is(err, ErrHeld) {
		t.Errorf("got %v, want ErrHeld", err)
	}
}

func TestHealEntries(t *testing.T) {
	j := newTestJournal(t)
	file := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in := Intent{Fault: "fake.break", Params: map[string]any{"file": file}, Nodes: []string{"c-worker"}, Deadline: time.Now()}
	unknown := in
	unknown.Fault = "no.such"
	if err := errors.Join(j.arm("a", in), j.mark("a", Active, nil), j.arm("b", unknown), j.arm("c", in)); err != nil {
		t.Fatal(err)
	}
	h := healer{openFake, lookupFake, t.Logf}
	for range 2 { // safe twice
		taken, err := takeOver(t.Context(), j.path, "heal", "test")
		if err != nil {
			t.Fatal(err)
		}
		r, err := h.entries(t.Context(), taken)
		if err != nil || r.Err() == nil || !strings.Contains(r.String(), "STUCK b") || len(r.Stuck) != 1 {
			t.Errorf("%s, %v", r, err)
		}
		if err := taken.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("not healed")
	}
	if diff := cmp.Diff(map[string]State{"b": Stuck}, openIDs(t, j.path)); diff != "" {
		t.Errorf("open (-want +got):\n%s", diff)
	}
}

func TestHealWithoutCluster(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	j, err := OpenJournal(filepath.Join(t.TempDir(), "journal.jsonl"), Header{Run: "r", Provider: "fake", Cluster: "gone"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.arm("a", Intent{Fault: "fake.break"}), j.Close()); err != nil {
		t.Fatal(err)
	}
	taken, err := takeOver(t.Context(), j.path, "heal", "test")
	if err != nil {
		t.Fatal(err)
	}
	r, err := healer{openFake, lookupFake, t.Logf}.entries(t.Context(), taken)
	if err := errors.Join(err, taken.Close()); err != nil || len(r.Healed) != 1 {
		t.Errorf("%s, %v", r, err)
	}
	if found, err := OpenJournals(); err != nil || len(found) != 0 {
		t.Errorf("index: %v, %v", found, err)
	}
}

func TestHealDead(t *testing.T) {
	j := newTestJournal(t) // of this process, which is alive
	dead := filepath.Join(t.TempDir(), "dead.jsonl")
	b := `{"seq":1,"holder":{"run":"dead","provider":"fake","cluster":"gone","as":"harness","process":{"pid":1,"startTime":1,"bootID":"another"}}}
{"seq":2,"injection":"a","state":"armed","intent":{"fault":"apiserver.kill"}}
`
	if err := errors.Join(os.WriteFile(dead, []byte(b), 0o600), addToIndex("dead", dead), addToIndex("lost", dead+"x")); err != nil {
		t.Fatal(err)
	}
	reports, err := HealDead(t.Context(), openFake, t.Logf)
	if err != nil || len(reports) != 1 || len(reports[0].Healed) != 1 {
		t.Errorf("%v, %v", reports, err)
	}
	found, err := OpenJournals()
	if err != nil || len(found) != 1 || found[0].Path != j.path {
		t.Errorf("index: %v, %v", found, err)
	}
}

func TestSweepRefusesWhileARunLives(t *testing.T) {
	newTestJournal(t)
	if err := Sweep(t.Context(), testCluster(), t.Logf); !errors.Is(err, ErrHeld) {
		t.Errorf("got %v, want ErrHeld", err)
	}
}

// A damaged line must not make a fault forgotten.
func TestDamagedLineOfAFault(t *testing.T) {
	holder := `{"seq":1,"holder":{"run":"dead","provider":"fake","cluster":"c","as":"harness","process":{"pid":1,"startTime":1,"bootID":"another"}}}` + "\n"
	damaged := `{"seq":2,"injection":"a","state":"ar\x00\x00\x00` + "\n"
	for _, tc := range []struct {
		name, rest string
		want       map[string]State
		torn       int
	}{
		{"active", `{"seq":3,"injection":"a","state":"active"}`, map[string]State{"a": Stuck}, 1},
		{"only notes", `{"seq":3,"injection":"a","notes":{"x":1}}`, map[string]State{"a": Stuck}, 1},
		{"healed by its run", `{"seq":3,"injection":"a","state":"active"}` + "\n" + `{"seq":4,"injection":"a","state":"healed"}`, map[string]State{}, 1},
		{"nothing more of it", `{"seq":3,"injection":"b","state":"armed","intent":{"fault":"fake.break"}}`, map[string]State{"b": Armed}, 1},
		{"no line of ours", `{}`, map[string]State{}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("XDG_STATE_HOME", t.TempDir())
			path := filepath.Join(t.TempDir(), "journal.jsonl")
			if err := os.WriteFile(path, []byte(holder+damaged+tc.rest+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, openIDs(t, path)); diff != "" {
				t.Errorf("open (-want +got):\n%s", diff)
			}
			if c, err := ReadJournal(path); err != nil || c.Torn != tc.torn {
				t.Errorf("%d torn, %v, want %d", c.Torn, err, tc.torn)
			}
			if tc.want["a"] != Stuck {
				return
			}
			if err := addToIndex("dead", path); err != nil {
				t.Fatal(err)
			}
			if left, err := Leftovers(); err != nil || len(left) != 1 || len(left[0].Open) != 1 {
				t.Errorf("left: %v, %v", left, err)
			}
			for range 2 { // it stays until somebody has looked
				r, err := HealAll(t.Context(), path, openFake, t.Logf)
				if err != nil || r.Err() == nil || !strings.Contains(r.String(), "look at the nodes") || !strings.Contains(r.String(), "one line") {
					t.Errorf("%s, %v", r, err)
				}
			}
			if diff := cmp.Diff(tc.want, openIDs(t, path)); diff != "" {
				t.Errorf("open after heal (-want +got):\n%s", diff)
			}
		})
	}
}

// Each thing is told once.
func TestHealDeadTellsOnce(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dir := t.TempDir()
	write := func(run, text string) {
		t.Helper()
		path := filepath.Join(dir, run)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), addToIndex(run, path)); err != nil {
			t.Fatal(err)
		}
	}
	write("unreadable", "nothing of ours\n")
	write("dead", `{"seq":1,"holder":{"run":"dead","provider":"fake","cluster":"c","as":"harness","process":{"pid":1,"startTime":1,"bootID":"another"}}}
{"seq":2,"injection":"a","state":"armed","intent":{"fault":"fake.break"}}
{"seq":3,"injection":"b","state":"armed","intent":{"fault":"fake.break"}}
`)
	broken := errors.New("permission denied")
	open := func(context.Context, string, string) (clusters.Cluster, error) { return nil, broken }
	reports, err := HealDead(t.Context(), open, t.Logf)
	if len(reports) != 1 || err == nil {
		t.Fatalf("%v, %v", reports, err)
	}
	all := reports[0].String() + "\n" + err.Error()
	for _, once := range []string{broken.Error(), "STUCK a", "STUCK b", "run unreadable: "} {
		if n := strings.Count(all, once); n != 1 {
			t.Errorf("%q is told %d times:\n%s", once, n, all)
		}
	}
	if c := reports[0].Err(); !errors.Is(c, ErrStuck) {
		t.Errorf("%v", c)
	}
}
