package report

import (
	"encoding/xml"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gameday/harness/history"
	"gameday/harness/slo"
)

func TestJUnit(t *testing.T) {
	h := load(t, events()...)
	out, err := JUnit(h, slo.Make(h, results()))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "junit", out)
}

type cases struct {
	Suites []struct {
		Failures int `xml:"failures,attr"`
		Cases    []struct {
			Class   string `xml:"classname,attr"`
			Name    string `xml:"name,attr"`
			Failure *struct {
				Type    string `xml:"type,attr"`
				Message string `xml:"message,attr"`
			} `xml:"failure"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// failures are the types of failure by case; "" is a pass.
func failures(t *testing.T, h *history.History, d slo.Document) map[string]string {
	t.Helper()
	out, err := JUnit(h, d)
	if err != nil {
		t.Fatal(err)
	}
	var c cases
	if err := xml.Unmarshal(out, &c); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	list := map[string]string{}
	for _, c := range c.Suites[0].Cases {
		name := strings.TrimPrefix(c.Class, "gameday.example.") + " " + c.Name
		if _, ok := list[name]; ok {
			t.Errorf("two cases are called %s", name)
		}
		list[name] = ""
		if c.Failure != nil {
			list[name] = c.Failure.Type
		}
	}
	return list
}

// Pass rates are kept by the names: they must not change from run to run.
func TestJUnitNamesAreStable(t *testing.T) {
	names := func(h *history.History) map[string]bool {
		out := map[string]bool{}
		for n := range failures(t, h, slo.Make(h, results())) {
			out[n] = true
		}
		return out
	}
	h := load(t, events()...)
	other := load(t, events()...)
	other.Run.ID, other.Run.Seed = "ffffff", 1
	for i := range other.Phases {
		other.Phases[i].V.Node = "gd-ffffff-control-plane2"
		other.Phases[i].At *= 2
	}
	if d := cmp.Diff(names(h), names(other)); d != "" {
		t.Errorf("names of two runs differ:\n%s", d)
	}
}

// What exits with a code other than 0 must not be green in a CI system that
// reads junit.xml, whatever the ground.
func TestJUnitTellsEveryVerdict(t *testing.T) {
	pass := []slo.Result{{Name: "cron.missed", Verdict: slo.Pass, Promise: "p", Samples: 1, Reason: "r"}}
	quiet := aRun()
	quiet.Run.To = ""
	end := func(e history.End) history.Event { return after(9000, history.Event{End: &e}) }
	for _, tc := range []struct {
		name   string
		events []history.Event
		code   int
		want   map[string]string
	}{
		{"pass", []history.Event{quiet, end(history.End{})}, slo.ExitPass,
			map[string]string{"slo cron.missed": "", "harness came to its end": "", "run verdict": ""}},
		{"no convergence", []history.Event{quiet, after(1000, history.Event{Finding: &history.Finding{Level: "fail", What: "the cluster did not converge after the heal"}}), end(history.End{})}, slo.ExitFail,
			map[string]string{"slo cron.missed": "", "harness came to its end": "", "run verdict": "fail"}},
		{"interrupted", []history.Event{quiet, end(history.End{Interrupted: true, Reason: "interrupt signal received"})}, slo.ExitInconclusive,
			map[string]string{"slo cron.missed": "", "harness came to its end": "inconclusive", "run verdict": "inconclusive"}},
		{"died", []history.Event{quiet, stage(1000, "steady", "began", "", "")}, slo.ExitInconclusive,
			map[string]string{"slo cron.missed": "", "harness came to its end": "inconclusive", "run verdict": "inconclusive"}},
		{"the harness failed", []history.Event{quiet, stage(1000, "create", "began", "", ""), stage(2000, "create", "ended", "", "no disk"), end(history.End{Reason: "create: no disk"})}, slo.ExitHarness,
			map[string]string{"slo cron.missed": "", "harness came to its end": "harness", "run verdict": "inconclusive"}},
		{"not undone", []history.Event{quiet, injection(1000, "f", "stuck", history.Injection{Error: "it sticks"}), end(history.End{Reason: "heal", NotUndone: []string{"f"}})}, slo.ExitNotUndone,
			map[string]string{"slo cron.missed": "", "fault f (etcd.stop)": "fail", "harness came to its end": "inconclusive", "run verdict": "not undone"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := load(t, tc.events...)
			d := slo.Make(h, pass)
			if d.ExitCode != tc.code {
				t.Fatalf("exit code %d (%s), want %d", d.ExitCode, d.Reason, tc.code)
			}
			if d := cmp.Diff(tc.want, failures(t, h, d)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
