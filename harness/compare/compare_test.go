package compare

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/harness/history"
	"gameday/harness/plan"
	"gameday/harness/report"
	"gameday/harness/slo"
	"gameday/scenarios"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

// golden holds a text to testdata: `go test ./harness/compare -update` after a look.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("-want +got:\n%s", cmp.Diff(string(want), string(got)))
	}
}

const scenarioText = `apiVersion: gameday/v1alpha1
kind: Scenario
name: example
description: An upgrade of a worker.
cluster: {version: v1.36.1, controlPlanes: 3, workers: 2}
workload:
  cronJobs: {count: 1, schedule: "* * * * *", duration: 2s}
upgrade:
  to: v1.37.0
  expect:
    - {phase: "upgrade/worker[0]", outcome: proceed, because: nothing is in its way}
    - {phase: "upgrade/worker[1]", outcome: blocked, because: it is cut off}
faults:
  - id: cut
    fault: network.partition
    target: {nodes: ["worker[1]"]}
    with: {from: apiservers}
    begin: {phase: "upgrade/worker[1]"}
    end: {for: 10s}
slos:
  - cron.start-latency: {p99: 30s, min: 3}
  - writes.kept
`

// sketch is what the tests change of a run.
type sketch struct {
	id       string
	scenario string
	edit     func(h *history.History)
	late     time.Duration // of all slots
	clean    bool          // without the fault
}

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func timed[T any](s float64, v T) history.Timed[T] {
	return history.Timed[T]{At: time.Duration(s * float64(time.Second)), V: v}
}

// record is a run of ten minutes in which all that is judged was measured.
func record(t *testing.T, k sketch) *Record {
	t.Helper()
	text := scenarioText
	if k.scenario != "" {
		text = k.scenario
	}
	s, err := scenarios.Load([]byte(text), "example.yaml", plan.Known())
	if err != nil {
		t.Fatal(err)
	}
	if k.clean {
		s, _ = Twin(s)
	}
	h := &history.History{
		Run: history.Run{
			APIVersion: history.APIVersion, ID: k.id, Scenario: s.Name, Began: began, Seed: 7, Gameday: "test", Provider: "kind",
			Strategy: "kubeadm", From: "v1.36.1", To: "v1.37.0", Cores: 2,
		},
		Series:  map[int]history.Series{1: {ID: 1, Verb: "read", Conn: "reused", Endpoint: "lb", Period: time.Second, Deadline: time.Second}},
		Samples: map[int][]history.Timed[history.Sample]{},
		Last:    600 * time.Second, End: &history.Timed[history.End]{At: 600 * time.Second},
	}
	for i := range 600 {
		h.Samples[1] = append(h.Samples[1], timed(float64(i), history.Sample{Series: 1, OK: i < 300 || i > 305, Took: 3 * time.Millisecond}))
	}
	h.Stages = append(h.Stages, timed(0, history.Stage{Name: "upgrade", State: "began"}), timed(500, history.Stage{Name: "upgrade", State: "ended"}), timed(550, history.Stage{Name: "final", State: "began"}))
	step := func(path string, from, to float64, outcome, expected string) {
		h.Phases = append(h.Phases, timed(from, history.Phase{Path: path, State: "began"}), timed(to, history.Phase{Path: path, State: "ended", Outcome: outcome, Expected: expected}))
	}
	step("upgrade/worker[0]", 20, 50, "proceeded", "proceed")
	if k.clean {
		step("upgrade/worker[1]", 60, 100, "proceeded", "proceed")
	} else {
		step("upgrade/worker[1]", 60, 100, "blocked", "blocked")
		step("upgrade/worker[1]", 110, 150, "proceeded", "")
		for _, i := range []struct {
			at    float64
			state string
		}{{61, "requested"}, {61.5, "armed"}, {62, "injected"}, {63, "proven"}, {80, "healing"}, {81, "healed"}, {82, "gone"}} {
			h.Injections = append(h.Injections, timed(i.at, history.Injection{ID: "cut", Fault: "network.partition", State: i.state, Phase: "upgrade/worker[1]", Proof: "no answer"}))
		}
	}
	for i, place := range []string{"control-plane[0]", "control-plane[1]", "control-plane[2]", "worker[0]", "worker[1]"} {
		h.Nodes = append(h.Nodes, timed(0, history.Node{Name: fmt.Sprintf("n%d", i), Place: place, Ready: "True", Version: "v1.37.0"}))
	}
	h.CronJobs = append(h.CronJobs, timed(0, history.CronJob{Name: "c", UID: "c", Schedule: "* * * * *", TimeZone: "Etc/UTC", Policy: "Allow", Created: began.Add(-time.Second)}))
	for i := range 10 {
		slot, name := began.Add(time.Duration(i)*time.Minute), fmt.Sprintf("c-%d", i)
		at := float64(i*60) + k.late.Seconds()
		h.Jobs = append(h.Jobs, timed(at, history.Job{Name: name, UID: name, CronJob: "c", CronJobUID: "c", Slot: slot, Created: slot}))
		h.Pods = append(h.Pods, timed(at, history.Pod{Name: name, UID: name + "p", Owner: "Job/" + name, OwnerUID: name, Phase: "Running", Created: slot, Started: slot.Add(k.late)}))
	}
	for i := range 120 {
		h.Writes = append(h.Writes, timed(float64(i), history.Write{Key: fmt.Sprintf("c%d", i), Outcome: "ok", Revision: int64(i + 1)}))
	}
	for i := range 3 {
		h.Etcd = append(h.Etcd, timed(0, history.Etcd{Node: fmt.Sprintf("n%d", i), Healthy: true}))
		h.Kept = append(h.Kept, timed(551, history.Kept{Member: fmt.Sprintf("n%d", i), Read: 120, Revision: 120, Hash: 5}))
	}
	if k.edit != nil {
		k.edit(h)
	}
	doc, err := report.Judge(h, s)
	if err != nil {
		t.Fatal(err)
	}
	return &Record{Dir: "runs/" + k.id, History: h, Scenario: s, Verdict: doc}
}

func TestTables(t *testing.T) {
	list := []*Record{record(t, sketch{id: "a", clean: true, late: 4 * time.Second}), record(t, sketch{id: "b", late: 12 * time.Second}), record(t, sketch{id: "c", late: 45 * time.Second})}
	d, err := Runs(list)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := d.Text(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "table", text.Bytes())
	out, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "table.json", append(out, '\n'))
}

// A promise with parts is set side by side part by part: its own number is that of
// the part nearest to its budget.
func TestParts(t *testing.T) {
	parts := func(name string, a, b float64) *Record {
		r := record(t, sketch{id: name})
		r.Verdict.SLOs = []slo.Result{{Name: "api.read", Verdict: slo.Pass, Unit: "s", Observed: max(a, b), ErrorBar: 1, Parts: []slo.Part{
			{Name: "elsewhere", Budget: 7, Observed: a, ErrorBar: 1}, {Name: "upgrade/*/etcd", Budget: 92, Observed: b, ErrorBar: 1},
		}}}
		return r
	}
	d, err := Runs([]*Record{parts("a", 3, 60), parts("b", 4, 80)})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range d.SLOs {
		got = append(got, fmt.Sprintf("%s|%s|%s|%s", r.title(), r.budget(), r.Values[1].String(r.Unit), r.Values[1].Away(r.Unit)))
	}
	want := []string{"api.read||✓ 80 s ± 1|", "api.read (elsewhere)|7 s|4 s ± 1|+1 s (=)", "api.read (upgrade/*/etcd)|92 s|80 s ± 1|+20 s"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestRefusals(t *testing.T) {
	a := func() sketch { return sketch{id: "a"} }
	with := func(old, new string) sketch {
		if !strings.Contains(scenarioText, old) {
			t.Fatalf("%q is not in the scenario", old)
		}
		return sketch{id: "b", scenario: strings.Replace(scenarioText, old, new, 1)}
	}
	edit := func(f func(h *history.History)) sketch { return sketch{id: "b", edit: f} }
	for _, tc := range []struct {
		name string
		b    sketch
		want string // "": they can be compared
	}{
		{"nothing differs", sketch{id: "b"}, ""},
		{"other faults, and what is expected because of them", sketch{id: "b", clean: true}, ""},
		{"another version", with("to: v1.37.0", "to: v1.37.1"), ""},
		{"another way of the upgrade", with("to: v1.37.0", "to: v1.37.0\n  drain: none"), ""},
		{"a failed run", sketch{id: "b", late: 45 * time.Second}, ""},
		{"cores that one record does not say", edit(func(h *history.History) { h.Run.Cores = 0 }), ""},
		{"another workload", with("count: 1,", "count: 5,"), "another scenario: workload.cronJobs.count is 1; 5"},
		{"another size", with("workers: 2", "workers: 3"), "another scenario: cluster.workers is 2; 3"},
		{"other budgets", with("p99: 30s", "p99: 40s"), "other budgets: slos[cron.start-latency].p99 is 30s; 40s"},
		{"another promise", with("  - writes.kept\n", "  - pods.ledger\n"), "other budgets: slos[pods.ledger].allow is not set; "},
		{"another bound of convergence", with("slos:", "converge: 9m\nslos:"), "other budgets: converge is 3m0s; 9m0s"},
		{"another provider", edit(func(h *history.History) { h.Run.Provider = "local" }), "other providers: kind, local"},
		{"another machine", edit(func(h *history.History) { h.Run.Cores = 8 }), "other machines: 2 cores, 8 cores"},
		{"another rhythm", edit(func(h *history.History) {
			s := h.Series[1]
			s.Period = 5 * time.Second
			h.Series[1] = s
		}), "other budgets of the harness: read, reused, at the load balancer is sampled each 1s within 1s, each 5s within 1s"},
		{"no end", edit(func(h *history.History) { h.End = nil }), "B (runs/b): its record has no end"},
		{"torn", edit(func(h *history.History) { h.Torn = true }), "B (runs/b): its record has no end"},
		{"interrupted", edit(func(h *history.History) { h.End.V = history.End{Interrupted: true, Reason: "Ctrl-C"} }), "it was interrupted: Ctrl-C"},
		{"ended early", edit(func(h *history.History) { h.End.V.Reason = "no steady state" }), "it ended early: no steady state"},
		{"inconclusive", edit(func(h *history.History) { h.Kept = nil }), "B (runs/b): it is inconclusive: writes.kept"},
		{"a fault that is stuck", edit(func(h *history.History) { h.End.V.NotUndone = []string{"cut"} }), "a fault could not be undone: fault cut"},
		{"the same run", a(), "A and B are one and the same run, a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Runs([]*Record{record(t, a()), record(t, tc.b)})
			var refused *Refusal
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (!errors.As(err, &refused) || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
	if _, err := Runs([]*Record{record(t, a())}); err == nil {
		t.Error("one run was compared")
	}
}

var (
	url  = regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]{2,}`)
	tags = regexp.MustCompile(`(?i)<(script|link|img|iframe|style|base|form|object|embed)\b[^>]*>`)
)

// Whatever a record says ends up in the page: none of it may become a part of it.
func TestPageIsOneFile(t *testing.T) {
	const evil = `</title></svg><script>alert(1)</script><img src=x onerror=alert(1)>"'`
	b := record(t, sketch{id: "b", late: 45 * time.Second, edit: func(h *history.History) {
		h.Run.Gameday, h.Run.Scenario = evil, evil
		h.Phases = append(h.Phases, timed(200, history.Phase{Path: "upgrade/" + evil, State: "began"}), timed(210, history.Phase{Path: "upgrade/" + evil, State: "ended", Outcome: "proceeded"}))
		h.Samples[1][301].V.Err = evil
	}})
	b.Dir = evil
	list := []*Record{record(t, sketch{id: "a", clean: true}), b}
	d, err := Runs(list)
	if err != nil {
		t.Fatal(err)
	}
	page, err := HTML(list, d)
	if err != nil {
		t.Fatal(err)
	}
	if u := url.FindAllString(string(page), -1); u != nil {
		t.Errorf("the page names %s", u)
	}
	if got := tags.FindAllString(string(page), -1); len(got) != 1 || got[0] != "<style>" {
		t.Errorf("what a browser could load or run: %q", got)
	}
	for _, want := range []string{"Steps of the upgrade", "API: read on a reused connection", "API: outages", "Cron slots", `class="key s1"`, "✗", "upgrade.expect[upgrade/worker[1]]"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}
