package slo

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/harness/history"
)

// fixed is a checker that says what it is told to.
type fixed []Result

func (f fixed) Check(*history.History) []Result { return f }

type panics struct{}

func (panics) Check(*history.History) []Result {
	var list []Result
	return list[3:]
}

func TestJudge(t *testing.T) {
	h := newBook(60).h
	one := func(c Checker) Result { return Judge(h, []Named{{"n", c}})[0] }
	want(t, one(panics{}), Inconclusive, "the checker panicked: runtime error")
	want(t, one(fixed{}), Inconclusive, "judged nothing")
	want(t, one(fixed{{Name: "x", Reason: "why"}}), Inconclusive, `no verdict (""); why`)
	want(t, one(fixed{{Name: "x", Verdict: Pass, Observed: math.Inf(1)}}), Inconclusive, "not finite")
	want(t, one(fixed{{Name: "x", Verdict: Pass, Reason: "fine"}}), Pass, "fine")
	want(t, one(fixed{{Name: "x", Verdict: Fail}}), Fail, "")
	h.End, h.Torn = nil, true
	want(t, one(fixed{{Name: "x", Verdict: Pass, Reason: "fine"}}), Inconclusive, "the harness died at 1:02.00 (in the middle of a line); up to then: pass: fine")
	want(t, one(fixed{{Name: "x", Verdict: Fail, Reason: "bad"}}), Inconclusive, "up to then: fail: bad")
}

func TestWorst(t *testing.T) {
	r := func(v ...Verdict) []Result {
		var out []Result
		for _, v := range v {
			out = append(out, Result{Verdict: v})
		}
		return out
	}
	for _, c := range []struct {
		list []Result
		want Verdict
	}{{nil, Inconclusive}, {r(Pass, Pass), Pass}, {r(Pass, Inconclusive), Inconclusive}, {r(Inconclusive, Fail, Pass), Fail}} {
		if got := Worst(c.list); got != c.want {
			t.Errorf("%v: %s", c.list, got)
		}
	}
}

func TestMakeDecides(t *testing.T) {
	pass, fail, doubt := Result{Name: "a", Verdict: Pass}, Result{Name: "b", Verdict: Fail, Reason: "too late"}, Result{Name: "c", Verdict: Inconclusive, Reason: "too few"}
	for _, c := range []struct {
		name    string
		make    func(b *book)
		results []Result
		want    Verdict
		exit    int
		reason  string
	}{
		{"pass", func(b *book) { b.fault("f", "", "w0", 25, 29) }, []Result{pass, pass}, Pass, 0, "all 2 promises held under 1 fault, each proven and gone"},
		{"fail", nil, []Result{pass, doubt, fail}, Fail, 1, "b: too late"},
		{"several", nil, []Result{fail, fail, fail}, Fail, 1, "b: too late (and 2 more)"},
		{"inconclusive", nil, []Result{pass, doubt}, Inconclusive, 2, "c: too few"},
		{"no promise", nil, nil, Inconclusive, 2, "no promise was judged"},
		{"fault not proven", func(b *book) { b.inject("f", "", "w0", "unproven", 20) }, []Result{pass}, Inconclusive, 2, "fault f: it was not proven: because of f"},
		{"fault beside its phase", func(b *book) {
			b.step(20, 30, "upgrade/worker[0]", "w0", "proceeded", "").fault("f", "upgrade/worker[0]", "w0", 31, 32)
		}, []Result{pass}, Inconclusive, 2, "at no moment of"},
		{"fault stuck", func(b *book) { b.inject("f", "", "w0", "proven", 20, "stuck", 30) }, []Result{fail}, Fail, 3, "fault f: it could not be undone: because of f"},
		{"fault not undone", func(b *book) { b.h.End.V.NotUndone = []string{"g"} }, []Result{pass}, Fail, 3, "fault g: it could not be undone"},
		{"fault stuck and not undone is one", func(b *book) {
			b.inject("f", "", "w0", "proven", 20, "stuck", 30)
			b.h.End.V.NotUndone = []string{"f"}
		}, []Result{pass}, Fail, 3, "fault f: it could not be undone: because of f"},
		{"expectation", func(b *book) { b.step(20, 30, "upgrade/worker[0]", "w0", "blocked", "proceed") }, []Result{pass}, Fail, 1, "upgrade/worker[0]: expected proceed, blocked"},
		{"expectation not tested", func(b *book) { b.step(20, 30, "upgrade/worker[0]", "w0", "skipped", "proceed") }, []Result{pass}, Inconclusive, 2, "nothing to do"},
		{"no upgrade", func(b *book) { b.h.Run.To = "v1.37.0" }, []Result{pass}, Inconclusive, 2, "no phase of the upgrade to v1.37.0"},
		{"not at the target", func(b *book) {
			b.h.Run.To = "v1.37.0"
			b.step(20, 30, "upgrade/worker[0]", "w0", "proceeded", "proceed")
		}, []Result{pass}, Fail, 1, "worker[0] is at v1.36.1 in the end, though its upgrade to v1.37.0 proceeded"},
		{"at the target", func(b *book) {
			b.h.Run.To = "v1.37.0"
			b.step(20, 30, "upgrade/worker[0]", "w0", "proceeded", "proceed")
			b.node(29, history.Node{Name: "w0", Place: "worker[0]", Ready: "True", Version: "v1.37.0"})
		}, []Result{pass}, Pass, 0, "held"},
		{"finding", func(b *book) {
			add(b, &b.h.Findings, 20, history.Finding{Level: "fail", What: "did not converge", Evidence: "cp1 NotReady"})
		}, []Result{pass}, Fail, 1, "did not converge: cp1 NotReady"},
		{"doubtful finding", func(b *book) {
			add(b, &b.h.Findings, 20, history.Finding{Level: "inconclusive", What: "clock stepped"})
		}, []Result{pass}, Inconclusive, 2, "clock stepped"},
		{"note", func(b *book) { add(b, &b.h.Findings, 20, history.Finding{Level: "note", What: "fyi"}) }, []Result{pass}, Pass, 0, "all 1 promise held"},
		{"harness died", func(b *book) { b.h.End = nil }, []Result{fail}, Inconclusive, 2, "the harness died at 1:02.00 (1 failure by then: b: too late)"},
		{"interrupted", func(b *book) { b.h.End.V.Interrupted, b.h.End.V.Reason = true, "interrupt" }, []Result{pass, fail}, Inconclusive, 2, "the run ended early: interrupt (1 failure by then: b: too late)"},
		{"harness failed", func(b *book) { b.stage(1, "create", "ended", "no disk") }, []Result{doubt}, Inconclusive, 5, "stage create: no disk"},
		{"harness failed but a promise was broken", func(b *book) { b.stage(1, "create", "ended", "no disk") }, []Result{fail}, Fail, 1, "b: too late"},
		{"not steady", func(b *book) { b.stage(1, "steady", "ended", "timeout") }, []Result{pass}, Inconclusive, 2, "stage steady: timeout"},
		{"logs not collected", func(b *book) { b.stage(62, "collect", "ended", "no disk") }, []Result{pass}, Pass, 0, "all 1 promise held"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(60)
			if c.make != nil {
				c.make(b)
			}
			d := Make(b.h, c.results)
			if d.Verdict != c.want || d.ExitCode != c.exit || !strings.Contains(d.Reason, c.reason) {
				t.Errorf("%s, exit %d: %s\nwant %s, exit %d: %s", d.Verdict, d.ExitCode, d.Reason, c.want, c.exit, c.reason)
			}
		})
	}
}

// The keys of verdict.json are an interface: this file changes only by adding.
func TestDocument(t *testing.T) {
	b := newBook(60)
	b.h.Run.To, b.h.Run.Strategy, b.h.Run.Rerun, b.h.Run.Scenario = "v1.37.0", "kubeadm", "gameday run test --seed 7", "test"
	b.step(20, 30, "upgrade/worker[0]", "w0", "blocked", "blocked").step(40, 50, "upgrade/worker[0]", "w0", "proceeded", "blocked")
	b.fault("cut", "upgrade/worker[0]", "w0", 22, 28)
	b.h.Injections[len(b.h.Injections)-1].V.Error = "said once"
	b.inject("never", "upgrade/worker[0]", "w0", "requested", 23, "unproven", 24)
	add(b, &b.h.Findings, 20, history.Finding{Level: "note", What: "fyi"})
	add(b, &b.h.Usage, 10, history.Usage{CPU: time.Minute, MaxRSS: 1 << 20})
	add(b, &b.h.Usage, 30, history.Usage{CPU: time.Minute + 2500*time.Millisecond, MaxRSS: 100 << 20})
	b.node(50, history.Node{Name: "w0", Place: "worker[0]", Ready: "True", Version: "v1.37.0"})
	add(b, &b.h.SelfChecks, 1, history.SelfCheck{Verdict: "fail", Reason: "refused for 50ms: it was not seen", Took: 4 * time.Second, Trials: []history.SelfTrial{{
		Kind: "refused", Verb: "read", Conn: "reused", Where: "lb", Period: 40 * time.Millisecond, Asked: 50 * time.Millisecond, Made: 51 * time.Millisecond,
		Bound: 42500 * time.Microsecond, Late: time.Millisecond, Verdict: "fail", Reason: "it was not seen",
	}}})
	d := Make(b.h, []Result{{
		Name: "api.read", Verdict: Fail, Budget: 5, Observed: 6.05, ErrorBar: .05, Unit: "s", Promise: "no outage longer than 5 s",
		Samples: 1000, Excluded: 3, Reason: "too long",
		Evidence: []Evidence{{From: sec(22), To: sec(28), Text: "down", During: []string{"cut"}}, {From: sec(22), To: sec(28), Text: "direct", Beside: true}},
		Parts:    []Part{{Name: "elsewhere", Budget: 5, Observed: 6.05, ErrorBar: .05, Samples: 1}},
	}})
	got, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	const file = "testdata/verdict.json"
	if os.Getenv("GOLDEN") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("verdict.json changed (GOLDEN=1 writes it again):\n%s", diff)
	}
	text, err := os.ReadFile("VERDICT.md")
	if err != nil {
		t.Fatal(err)
	}
	var all any
	if err := json.Unmarshal(got, &all); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys(all, nil) {
		if key != "final" && key != "steady" && !strings.Contains(string(text), "`"+key+"`") && !strings.Contains(string(text), "`."+key+"`") &&
			!strings.Contains(string(text), "`"+key+"[]`") && !strings.Contains(string(text), "`."+key+"[]`") {
			t.Errorf("VERDICT.md does not tell of %s", key)
		}
	}
	empty, err := json.Marshal(Make(newBook(60).h, nil))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(empty), "null") {
		t.Errorf("a list must never be null: %s", empty)
	}
}

// keys are all keys of a document.
func keys(v any, list []string) []string {
	switch v := v.(type) {
	case map[string]any:
		for k, v := range v {
			list = keys(v, append(list, k))
		}
	case []any:
		for _, v := range v {
			list = keys(v, list)
		}
	}
	return list
}

func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Catalogue() {
		if seen[k.Name] || k.Doc == "" || k.Source == "" {
			t.Errorf("%+v", k)
		}
		seen[k.Name] = true
		found, ok := Lookup(k.Name)
		if !ok || found.Name != k.Name {
			t.Errorf("%s is not found", k.Name)
		}
		if k.New() == k.New() {
			t.Errorf("%s: two scenarios would share their parameters", k.Name)
		}
		if v, ok := k.New().(Validator); ok && v.Validate() != nil {
			t.Errorf("%s: its defaults are not valid: %v", k.Name, v.Validate())
		}
		// Of nothing nothing passes, and nothing panics.
		for _, h := range []*history.History{{}, newBook(60).h, newBook(0).h} {
			for _, r := range Judge(h, []Named{{k.Name, k.New()}}) {
				if r.Verdict != Inconclusive || strings.Contains(r.Reason, "panicked") {
					t.Errorf("%s of nothing: %s: %s", r.Name, r.Verdict, r.Reason)
				}
			}
		}
	}
	if _, ok := Lookup("nothing"); ok {
		t.Error("found nothing")
	}
}
