package report

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"gameday/harness/history"
	"gameday/harness/slo"
)

// JUnit renders the verdict for CI systems. The names carry no numbers or ids
// that change from run to run, so that pass rates can be kept: one case for
// each SLO, for each fault (proven and undone), for each step of the upgrade,
// one for the harness itself, and one for the verdict, which fails whenever the
// exit code is not 0: some grounds (no convergence) are none of the others.
// Inconclusive is a failure of type "inconclusive".
func JUnit(h *history.History, d slo.Document) ([]byte, error) {
	suite := junit.Testsuite{Name: "gameday." + h.Run.Scenario, Time: seconds(h.Last.Seconds())}
	if !h.Run.Began.IsZero() {
		suite.Timestamp = h.Run.Began.UTC().Format("2006-01-02T15:04:05Z")
	}
	suite.AddProperty("seed", fmt.Sprint(d.Seed))
	suite.AddProperty("run", h.Run.ID)
	suite.AddProperty("rerun", h.Run.Rerun)
	add := func(class, name string, took float64, kind, message, detail string) {
		c := junit.Testcase{Classname: suite.Name + "." + class, Name: name, Time: seconds(took)}
		if kind != "" {
			c.Failure = &junit.Result{Type: kind, Message: message, Data: detail}
		}
		suite.AddTestcase(c)
	}
	for _, s := range d.SLOs {
		kind := ""
		if s.Verdict != slo.Pass {
			kind = string(s.Verdict)
		}
		add("slo", s.Name, 0, kind, strings.Join(append([]string{s.Promise}, s.Allowed...), "; ")+": "+s.Reason, evidence(s.Evidence))
	}
	for _, f := range d.Faults {
		kind, message := "", ""
		if f.Verdict != slo.Pass {
			kind, message = string(f.Verdict), f.Reason
		}
		var took float64
		if f.ProvenAt != nil && f.GoneAt != nil {
			took = (*f.GoneAt - *f.ProvenAt) / 1000
		}
		add("fault", f.Name+" ("+f.Fault+")", took, kind, message, f.Proof)
	}
	for _, p := range d.Phases {
		if p.Expected == "" {
			continue
		}
		kind, message := "", ""
		if p.Verdict != slo.Pass {
			kind, message = string(p.Verdict), p.Departed
		}
		add("phase", p.Name, (p.Ended-p.Began)/1000, kind, message, p.Seen)
	}
	kind, message := "", ""
	switch {
	case h.End == nil:
		kind, message = string(slo.Inconclusive), "the harness died: the history has no end"
	case d.ExitCode == slo.ExitHarness:
		kind, message = "harness", d.Reason
	case h.End.V.Reason != "":
		kind, message = string(slo.Inconclusive), h.End.V.Reason
	}
	add("harness", "came to its end", h.Last.Seconds(), kind, message, "")
	kind = ""
	if d.Verdict != slo.Pass {
		kind = word(d)
	}
	var found strings.Builder
	for _, f := range h.Findings {
		fmt.Fprintf(&found, "%s: %s: %s: %s\n", clock(f.At), f.V.Level, f.V.What, f.V.Evidence)
	}
	add("run", "verdict", h.Last.Seconds(), kind, d.Reason, found.String())

	var all junit.Testsuites
	all.AddSuite(suite)
	var out bytes.Buffer
	out.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	if err := all.WriteXML(&out); err != nil {
		return nil, fmt.Errorf("junit: %w", err)
	}
	return out.Bytes(), nil
}

func seconds(s float64) string { return fmt.Sprintf("%.3f", s) }

func evidence(list []slo.Evidence) string {
	var b strings.Builder
	for i, e := range list {
		if i == 20 {
			fmt.Fprintf(&b, "... and %d more, see report.html\n", len(list)-i)
			break
		}
		fmt.Fprintf(&b, "%s: ", clock(e.From))
		if e.Beside {
			b.WriteString("not judged: ")
		}
		b.WriteString(e.Text)
		if len(e.During) > 0 {
			fmt.Fprintf(&b, " (during %s)", strings.Join(e.During, ", "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
