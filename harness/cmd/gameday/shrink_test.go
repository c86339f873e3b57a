package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/harness/history"
	"gameday/harness/plan"
	"gameday/harness/shrink"
	"gameday/harness/slo"
	"gameday/scenarios"
)

func TestBrokenAndHeld(t *testing.T) {
	at := func(ms float64) *float64 { return &ms }
	doc := slo.Document{
		SLOs:     []slo.Result{{Name: "writes.kept", Verdict: slo.Fail}, {Name: "api.read", Verdict: slo.Inconclusive}, {Name: "pods", Verdict: slo.Pass}},
		Phases:   []slo.PhaseFact{{Name: "upgrade/worker[1]", Outcome: "proceeded", Verdict: slo.Fail}, {Name: "upgrade/worker[0]", Verdict: slo.Pass}},
		Findings: []history.Finding{{Level: "fail", What: "did not converge"}, {Level: "inconclusive", What: "a gap"}},
		Faults:   []slo.FaultFact{{Name: "a", ProvenAt: at(1500), HealedAt: at(4000)}, {Name: "b", ProvenAt: at(1500)}, {Name: "c"}},
	}
	if diff := cmp.Diff([]string{"writes.kept", "upgrade/worker[1] proceeded", "did not converge"}, broken(doc)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]time.Duration{"a": 2500 * time.Millisecond}, held(doc)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What a search writes is a scenario, and says how sure it is.
func TestWriteSmallest(t *testing.T) {
	s, err := readScenario("kill-all-apiservers")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "smallest.yaml")
	res := shrink.Result{Smallest: s, Reproduced: true, Complete: true, Why: "done",
		Best: shrink.Candidate{Name: "kill-all", Failed: 2, Passed: 1}}
	for range 2 { // a later search replaces it
		if err := writeSmallest(file, "runs/x", res); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	again, err := scenarios.Load(data, file, plan.Known())
	if err != nil || len(again.Faults) != 1 || !strings.Contains(string(data), "# kill-all (failed 2 of 3 tries): done\n") {
		t.Errorf("%v\n%s", err, data)
	}
	var out strings.Builder
	res.Tried = []shrink.Candidate{res.Best, {Name: "no fault", Passed: 2, Inconclusive: 1}}
	if err := tellSearch(&out, res); err != nil || !strings.Contains(out.String(), "A cluster is not deterministic") ||
		!strings.Contains(out.String(), "2       3         0             0          0       kill-all") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
