package run

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"gameday/harness/history"
	"gameday/harness/slo"
	"gameday/scenarios"
)

// A gate's looks are recorded when they change in kind, and never one that was
// cut off.
func TestLooking(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	rec, err := history.Create(path, history.Run{ID: "r"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{rec: rec}
	answers := []string{"a is not ready", "b is not ready", "", "", "a is not ready"}
	look := r.looking("converge", time.Second, func(context.Context) string {
		a := answers[0]
		answers = answers[1:]
		return a
	})
	ctx, cancel := context.WithCancel(t.Context())
	for range 4 {
		look(ctx)
	}
	cancel()
	look(ctx)
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	h, err := history.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Looks) != 2 || h.Looks[0].V.Why != "a is not ready" || h.Looks[0].V.Back != 0 || h.Looks[1].V.Why != "" || h.Looks[1].V.Back != time.Second {
		t.Errorf("%+v", h.Looks)
	}
}

func TestSought(t *testing.T) {
	var list []scenarios.SLO
	for _, k := range slo.Catalogue() {
		list = append(list, scenarios.SLO{Name: k.Name, With: k.New()})
	}
	got := sought(list)
	if len(got) != 2 || got[1] != slo.PanicPattern && got[0] != slo.PanicPattern {
		t.Errorf("what components and logs seek, each once: %q", got)
	}
}
