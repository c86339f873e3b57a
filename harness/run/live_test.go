package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gameday/clusters"
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
	// What could not be healed by us does not keep us from deleting its cluster.
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	text := `{"seq":1,"holder":{"run":"dead","provider":"fake","cluster":"gd-r","as":"harness","process":{"pid":1,"startTime":1,"bootID":"another"}}}
{"seq":2,"injection":"a","state":"armed","intent":{"fault":"no.such"}}
`
	index := filepath.Join(os.Getenv("XDG_STATE_HOME"), "gameday", "open", "dead")
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.WriteFile(index, []byte(path+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	open := func(context.Context, string, string) (clusters.Cluster, error) { return fakeCluster{}, nil }
	for range 2 {
		reports, err := inject.HealDead(t.Context(), open, func(format string, args ...any) {
			if s := fmt.Sprintf(format, args...); strings.Contains(s, "waiting") {
				t.Errorf("it waits for itself: %s", s)
			}
		})
		if err != nil || len(reports) != 1 || len(reports[0].Stuck) != 1 {
			t.Errorf("%v, %v", reports, err)
		}
		if got := who(); got != "" {
			t.Errorf("our own heal uses it: %q", got)
		}
		if left, err := inject.Leftovers(); err != nil || len(left) != 1 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}
