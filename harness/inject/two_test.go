package inject

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Two runs on one machine share the index of open journals, and nothing else.

func TestTwoRunsOnOneMachine(t *testing.T) {
	state, a, b := t.TempDir(), t.TempDir(), t.TempDir()
	first, guard := startRun(t, runArgs{Dir: a, Lease: time.Hour, Run: "first", State: state})
	second, _ := startRun(t, runArgs{Dir: b, Lease: time.Hour, Run: "second", State: state})
	isBroken := func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "broken"))
		return err == nil
	}
	// A sweep by hand while both live touches neither.
	reports, err := HealDead(t.Context(), openFake, t.Logf)
	if err != nil || len(reports) > 0 || !isBroken(a) || !isBroken(b) {
		t.Fatalf("%v, %v; broken %v, %v", reports, err, isBroken(a), isBroken(b))
	}
	// The first dies with its guard; only what it left is healed.
	for _, pid := range []int{first.PID(), guard.Guard} {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(syscall.Kill(guard.Guard, syscall.SIGKILL), first.Kill(t.Context())); err != nil {
		t.Fatal(err)
	}
	reports, err = healer{openFake, lookupFake, t.Logf}.dead(t.Context())
	if err != nil || len(reports) != 1 || reports[0].Run != "first" || isBroken(a) || !isBroken(b) {
		t.Fatalf("%v, %v; broken %v, %v", reports, err, isBroken(a), isBroken(b))
	}
	var s State
	if err := second.Call(t.Context(), "state", &s); err != nil || s != Active {
		t.Errorf("the second run is %s, %v", s, err)
	}
	// It ends as if the first had never been.
	if err := second.Call(t.Context(), "stop", nil); err != nil || isBroken(b) {
		t.Errorf("%v, broken %v", err, isBroken(b))
	}
	if found, err := OpenJournals(); err != nil || len(found) != 0 {
		t.Errorf("index: %v, %v", found, err)
	}
}

func TestAGuardHealsItsOwnRunOnly(t *testing.T) {
	state, a, b := t.TempDir(), t.TempDir(), t.TempDir()
	first, guard := startRun(t, runArgs{Dir: a, Lease: time.Hour, Run: "first", State: state})
	startRun(t, runArgs{Dir: b, Lease: time.Hour, Run: "second", State: state})
	if err := first.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "healed", func() bool { return len(openIDs(t, filepath.Join(a, "journal.jsonl"))) == 0 })
	untilGone(t, guard.Guard)
	if _, err := os.Stat(filepath.Join(b, "broken")); err != nil {
		t.Errorf("the guard of another run healed it: %v", err)
	}
	if open := openIDs(t, filepath.Join(b, "journal.jsonl")); open["a"] != Active {
		t.Errorf("its journal: %v", open)
	}
}

func TestOneNameForTwoRuns(t *testing.T) {
	j := newTestJournal(t) // of this process, which is alive
	h := Header{Run: "r", Provider: "fake", Cluster: "c"}
	other := filepath.Join(t.TempDir(), "journal.jsonl")
	if _, err := OpenJournal(other, h); err == nil || !strings.Contains(err.Error(), "another run r") {
		t.Errorf("a second run took the name of one that is alive: %v", err)
	}
	found, err := OpenJournals()
	if err != nil || len(found) != 1 || found[0].Path != j.path {
		t.Errorf("index: %v, %v", found, err)
	}
	// One that takes itself out takes nobody else out.
	if err := removeFromIndex("r", other); err != nil {
		t.Fatal(err)
	}
	if found, err := OpenJournals(); err != nil || len(found) != 1 {
		t.Errorf("index: %v, %v", found, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	// Healed, it is free.
	again, err := OpenJournal(filepath.Join(t.TempDir(), "journal.jsonl"), h)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
