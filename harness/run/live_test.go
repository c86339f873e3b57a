package run

import (
	"path/filepath"
	"testing"

	"gameday/harness/inject"
)

func TestLive(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	who := func() string {
		t.Helper()
		s, err := Live("gd-r")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if got := who(); got != "" {
		t.Errorf("nobody was there: %q", got)
	}
	release, err := Claim("gd-r")
	if err != nil {
		t.Fatal(err)
	}
	also, err := Claim("gd-r") // one that runs faults on a cluster that is there
	if err != nil {
		t.Fatal(err)
	}
	// Also for those who look with another index of journals.
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	if got := who(); got != "a run that is under way" {
		t.Errorf("under way: %q", got)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if got := who(); got == "" {
		t.Error("another uses it still")
	}
	if err := also(); err != nil {
		t.Fatal(err)
	}
	if got := who(); got != "" {
		t.Errorf("it has ended: %q", got)
	}
	j, err := inject.OpenJournal(filepath.Join(t.TempDir(), "journal.jsonl"), inject.Header{Run: "r", Provider: "fake", Cluster: "gd-r"})
	if err != nil {
		t.Fatal(err)
	}
	if got := who(); got == "" {
		t.Error("its journal says that it lives")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := who(); got != "" {
		t.Errorf("its journal is closed: %q", got)
	}
}
