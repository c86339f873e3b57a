package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/harness/history"
	"gameday/harness/slo"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

// golden holds a text to testdata. A difference is a change of what a reader or
// a CI system sees: look at it, then `go test ./harness/report -update`.
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

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// aRun is the first event of the tests' records.
func aRun() history.Event {
	return history.Event{Run: &history.Run{
		APIVersion: history.APIVersion, ID: "1a2b3c", Scenario: "example", Began: began, Seed: 8231, Gameday: "test",
		Provider: "kind", Strategy: "kubeadm", From: "v1.36.1", To: "v1.37.0", Rerun: "gameday run example --seed=8231 --provider=kind",
	}}
}

// after is an event so many ms after the run began.
func after(ms int, e history.Event) history.Event {
	e.At = time.Duration(ms) * time.Millisecond
	return e
}

// load reads events as if a run had written them.
func load(t *testing.T, events ...history.Event) *history.History {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for i, e := range events {
		e.Seq = int64(i + 1)
		if err := enc.Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	h, err := history.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func stage(ms int, name, state, text, err string) history.Event {
	return after(ms, history.Event{Stage: &history.Stage{Name: name, State: state, Text: text, Error: err}})
}

func phase(ms int, path, state, outcome, expected, seen string) history.Event {
	return after(ms, history.Event{Phase: &history.Phase{Path: path, Node: "gd-1a2b3c-control-plane2", State: state, Outcome: outcome, Expected: expected, Seen: seen}})
}

func injection(ms int, id, state string, with history.Injection) history.Event {
	with.ID, with.State = id, state
	with.Fault, with.Targets, with.Phase = "etcd.stop", []string{"control-plane[0]"}, "upgrade/control-plane[1]/etcd"
	return after(ms, history.Event{Injection: &with})
}

// events are a run in which one of everything happened.
func events() []history.Event {
	return []history.Event{
		aRun(),
		stage(100, "create", "began", "", ""),
		stage(58100, "create", "ended", "kind gd-1a2b3c: 3 control planes + 2 workers, v1.36.1", ""),
		stage(58200, "workload", "began", "", ""),
		stage(60000, "workload", "ended", "12 cronjobs", ""),
		stage(60000, "steady", "began", "", ""),
		stage(80000, "steady", "ended", "2 series", ""),
		stage(80000, "upgrade", "began", "", ""),
		phase(80100, "upgrade", "began", "", "", ""),
		phase(80200, "upgrade/control-plane[1]", "began", "", "proceed", "attempt 1"),
		phase(81000, "upgrade/control-plane[1]/etcd", "began", "", "", ""),
		injection(82000, "drop-etcd", "requested", history.Injection{Params: map[string]any{"hold": "30s"}}),
		injection(82000, "drop-etcd", "armed", history.Injection{}),
		injection(82010, "drop-etcd", "injected", history.Injection{}),
		injection(82084, "drop-etcd", "proven", history.Injection{Proof: "member unhealthy, port refused", Control: "control-plane[2] serves"}),
		injection(90000, "drop-etcd", "lost", history.Injection{Proof: "serves again"}),
		injection(91000, "drop-etcd", "rearmed", history.Injection{Proof: "port refused"}),
		injection(100000, "drop-etcd", "healing", history.Injection{}),
		injection(101000, "drop-etcd", "healed", history.Injection{}),
		injection(101900, "drop-etcd", "gone", history.Injection{Proof: "serves again"}),
		phase(110000, "upgrade/control-plane[1]/etcd", "ended", "proceeded", "", "member serves 3.7.0"),
		phase(120000, "upgrade/control-plane[1]", "ended", "blocked", "proceed", "kubeadm gave up"),
		injection(121000, "nobody", "unproven", history.Injection{Error: "the target matches no node"}),
		phase(122000, "upgrade", "ended", "failed", "", "gave up"),
		stage(122100, "upgrade", "ended", "", "it gave up"),
		after(122200, history.Event{Gap: &history.Gap{Source: "audit/gd-cp", From: 80 * time.Second, To: 95 * time.Second, Reason: "rotated away"}}),
		after(122300, history.Event{Finding: &history.Finding{Level: "fail", What: "the upgrade did not reach its end", Evidence: "it gave up"}}),
		after(125000, history.Event{End: &history.End{}}),
	}
}

// results are judged promises of each kind.
func results() []slo.Result {
	return []slo.Result{
		{Name: "api.write", Verdict: slo.Fail, Budget: 5, Observed: 9.99, ErrorBar: 0.005, Unit: "s", Promise: "no outage longer than 5.00 s (lb)", Samples: 400, Excluded: 3, Reason: "outage of 9.99 s", Evidence: []slo.Evidence{
			{From: 90 * time.Second, To: 105 * time.Second, Text: "write via lb down for 15.0 s", During: []string{"drop-etcd", "upgrade/control-plane[1]/etcd"}},
			{From: 95 * time.Second, To: 96 * time.Second, Text: "write via lb down for 1.0 s", During: []string{"drop-etcd"}},
			{From: 123 * time.Second, To: 124 * time.Second, Text: "write via lb down for 1.0 s"},
			{From: 90 * time.Second, To: 120 * time.Second, Text: "at gd-cp 1 outage", Beside: true, During: []string{"drop-etcd"}},
		}},
		{Name: "cron.missed", Verdict: slo.Pass, Unit: "count", Promise: "no slot missed", Samples: 24, Reason: "0 missed of 24 slots"},
		{Name: "writes.kept", Verdict: slo.Inconclusive, Unit: "count", Promise: "0 acknowledged writes lost", Reason: "nobody looked"},
	}
}
