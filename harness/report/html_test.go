package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/faults"
	"gameday/harness/history"
	"gameday/harness/slo"
	"gameday/scenarios"
)

func page(t *testing.T, h *history.History, d slo.Document) string {
	t.Helper()
	out, err := HTML(h, d)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("the page does not say %q", w)
		}
	}
}

var (
	url  = regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]{2,}`)
	tags = regexp.MustCompile(`(?i)<(script|link|img|iframe|style|base|form|object|embed)\b[^>]*>`)
)

func TestPageIsOneFile(t *testing.T) {
	h := load(t, events()...)
	text := page(t, h, slo.Make(h, results()))
	for _, u := range url.FindAllString(text, -1) {
		if u != "http://www.w3.org" { // the name of SVG's namespace: nobody goes there
			t.Errorf("the page names %s", u)
		}
	}
	want := []string{"<style>", `<script type="application/json" id="data">`, "<script>"}
	if d := cmp.Diff(want, tags.FindAllString(text, -1)); d != "" {
		t.Errorf("what a browser could load or run (-want +got):\n%s", d)
	}
}

// Whatever a cluster says ends up in the page: none of it may become a part of it.
func TestPageHoldsDataOnly(t *testing.T) {
	const evil = `</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>"'` + "\u2028"
	list := events()
	for i := range list {
		e := &list[i]
		switch {
		case e.Run != nil:
			e.Run.Rerun, e.Run.Scenario, e.Run.Gameday = evil, evil, evil
		case e.Stage != nil:
			e.Stage.Text = evil
		case e.Phase != nil:
			e.Phase.Seen, e.Phase.Node = evil, evil
		case e.Injection != nil:
			e.Injection.Proof, e.Injection.Error, e.Injection.Control = evil, evil, evil
			e.Injection.Params = map[string]any{evil: evil}
		case e.Finding != nil:
			e.Finding.What, e.Finding.Evidence = evil, evil
		case e.Gap != nil:
			e.Gap.Source, e.Gap.Reason = evil, evil
		}
	}
	end := list[len(list)-1]
	list = append(list[:len(list)-1],
		after(1000, history.Event{Node: &history.Node{Name: evil, Place: evil, Ready: evil, Version: evil}}),
		after(1000, history.Event{Etcd: &history.Etcd{Node: evil, Err: evil}}),
		after(1000, history.Event{Pod: &history.Pod{Name: evil, UID: "p", Owner: evil + "/x"}}),
		after(1000, history.Event{Series: &history.Series{ID: 1, Endpoint: evil, Verb: evil, Conn: evil}}), end)
	rs := results()
	for i := range rs {
		rs[i].Name, rs[i].Promise, rs[i].Reason, rs[i].Unit = evil, evil, evil, evil
		for j := range rs[i].Evidence {
			rs[i].Evidence[j].Text, rs[i].Evidence[j].During = evil, []string{evil}
		}
	}
	h := load(t, list...)
	text := page(t, h, slo.Make(h, rs))
	if n := strings.Count(text, "</script>"); n != 2 {
		t.Errorf("%d script elements end, not 2", n)
	}
	if len(tags.FindAllString(text, -1)) != 3 || strings.Contains(text, "<!--") {
		t.Errorf("data became markup: %q", tags.FindAllString(text, -1))
	}
	_, data, _ := strings.Cut(text, `id="data">`)
	data, _, _ = strings.Cut(data, "</script>")
	var a axis
	if err := json.Unmarshal([]byte(data), &a); err != nil {
		t.Errorf("the data cannot be read any more: %v", err)
	}
}

func TestPageTells(t *testing.T) {
	h := load(t, events()...)
	contains(t, page(t, h, slo.Make(h, results())),
		`<section class="banner fail" id="banner">`, `<span class="word">fail</span> example`, "v1.36.1 → v1.37.0", "gameday run example --seed=8231 --provider=kind",
		"9.99 s <span class=\"dim\">± 0.005 s</span>", `<span class="v">not measured</span>`, "drop-etcd: 2 of 3, longest 11.9 s (238 %)", "no fault, no phase: 1 of 3, longest 1.0 s (20 %)",
		`<abbr title="2026-03-01 12:01:22.084 UTC">1:22.08</abbr>`, "hold 30s", "84 ms after inject: member unhealthy, port refused", "<dt>lost</dt><dd>1 time,", "control-plane[2] serves",
		"<b>not proven</b>: the target matches no node", "expected proceed, blocked", "audit/gd-cp at 1:20.00 for 15.0 s (rotated away)", "none: nothing is known of the API")
}

func TestPageOfAnEmptyRecord(t *testing.T) {
	h := load(t, aRun())
	text := page(t, h, slo.Make(h, nil))
	contains(t, text, `<section class="banner inconclusive"`, "No promise was judged.", "No fault was part of this run.", "No upgrade was part of this run.", "no: the harness died", "gameday itself", "not measured")
	nothing := &history.History{}
	contains(t, page(t, nothing, slo.Make(nothing, nil)), "an unknown time")
}

func TestPageOfARunThatIsNotUndone(t *testing.T) {
	h := load(t, aRun(), injection(1000, "drop-etcd", "proven", history.Injection{}), injection(2000, "drop-etcd", "stuck", history.Injection{Error: "it sticks"}), after(3000, history.Event{End: &history.End{NotUndone: []string{"drop-etcd"}}}))
	contains(t, page(t, h, slo.Make(h, results())),
		`<section class="banner fail" id="banner">`, `<span class="word">not undone</span>`, "exit code <b>3</b>", "it could not be undone: it sticks", "<b>not seen to be gone</b>")
}

func TestFindingsAreInOrder(t *testing.T) {
	h := load(t, append(events()[:len(events())-1], stage(124000, "create", "ended", "", "no disk"), after(125000, history.Event{End: &history.End{Interrupted: true, Reason: "interrupt signal received"}}))...)
	last := time.Duration(0)
	var what []string
	for _, f := range findings(h, slo.Make(h, results())) {
		if f.begin < last {
			t.Errorf("%s (%s) comes after %s", f.What, f.Clock, clock(last))
		}
		last = f.begin
		what = append(what, f.Level+" "+f.What)
	}
	all := strings.Join(what, "\n")
	contains(t, all, "fail api.write", "note api.write", "inconclusive writes.kept: nobody looked", "fail the upgrade did not reach its end", "inconclusive fault nobody: it was not proven",
		"fail upgrade/control-plane[1]: expected proceed, blocked", "inconclusive stage create failed", "inconclusive the run was interrupted")
}

// A fault of the scenario that the record does not mention is not proven, so
// that a run that did not come to it is not called a pass.
func TestJudgeMissesNoFault(t *testing.T) {
	s := &scenarios.Scenario{Name: "example", Faults: []scenarios.Fault{
		{ID: "drop-etcd", Fault: "etcd.stop"},
		{ID: "later", Fault: "apiserver.kill", Target: faults.Target{Pick: faults.PickAll}, Begin: scenarios.Begin{Phase: "upgrade"}},
	}}
	h := load(t, events()...)
	before := len(h.Injections)
	d, err := Judge(h, s)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]slo.Verdict{}
	for _, f := range d.Faults {
		got[f.Name] = f.Verdict
	}
	if d := cmp.Diff(map[string]slo.Verdict{"drop-etcd": slo.Pass, "nobody": slo.Inconclusive, "later": slo.Inconclusive}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if len(h.Injections) != before {
		t.Error("the record was changed")
	}
	s.Name = "another" // the record is only judged by it
	if d, err = Judge(h, s); err != nil || len(d.Faults) != 2 {
		t.Errorf("%d faults, %v", len(d.Faults), err)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if _, err := Write(dir, &scenarios.Scenario{}); err == nil {
		t.Error("a folder without a record was judged")
	}
	var lines []byte
	for i, e := range events() {
		e.Seq = int64(i + 1)
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(append(lines, b...), '\n')
	}
	if err := os.WriteFile(filepath.Join(dir, "history.jsonl"), lines, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // at any time again
		if _, err := Write(dir, &scenarios.Scenario{}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	left, err := os.ReadDir(dir)
	for _, f := range left {
		names = append(names, f.Name())
	}
	if d := cmp.Diff([]string{"history.jsonl", "junit.xml", "report.html", "verdict.json"}, names); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}
