// Package report tells what a run found: in the terminal while it runs, and as
// verdict.json, junit.xml and report.html, all drawn from the history alone, so
// that they can be written again at any time.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"gameday/harness/history"
	"gameday/harness/slo"
	"gameday/scenarios"
)

// RecordError says that there is no record to judge, or a damaged one.
type RecordError struct{ Err error }

func (e *RecordError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *RecordError) Unwrap() error { return e.Err }

// Write judges the history in dir against the scenario's SLOs and writes
// verdict.json, junit.xml and report.html beside it.
func Write(dir string, s *scenarios.Scenario) (slo.Document, error) {
	h, err := history.Load(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return slo.Document{}, &RecordError{err}
	}
	doc, err := Judge(h, s)
	if err != nil {
		return doc, err
	}
	verdict, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return doc, fmt.Errorf("verdict: %w", err)
	}
	if err := write(dir, "verdict.json", append(verdict, '\n')); err != nil {
		return doc, err
	}
	cases, err := JUnit(h, doc)
	if err != nil {
		return doc, err
	}
	if err := write(dir, "junit.xml", cases); err != nil {
		return doc, err
	}
	page, err := HTML(h, doc)
	if err != nil {
		return doc, err
	}
	return doc, write(dir, "report.html", page)
}

// Judge applies the scenario's SLOs to a history. A fault of the scenario that
// the record does not mention, because the run did not get so far, is not proven
// either: the verdict tells it, so that it has its case in junit.xml each time.
func Judge(h *history.History, s *scenarios.Scenario) (slo.Document, error) {
	var named []slo.Named
	for _, p := range s.SLOs {
		c, ok := p.With.(slo.Checker)
		if !ok {
			return slo.Document{}, fmt.Errorf("SLO %s has no checker", p.Name)
		}
		named = append(named, slo.Named{Name: p.Name, Checker: c})
	}
	whole := *h
	if s.Name == h.Run.Scenario { // not one that the record is only judged by
		whole.Injections = slices.Concat(h.Injections, unmentioned(h, s.Faults))
	}
	return slo.Make(&whole, slo.Judge(&whole, named)), nil
}

// unmentioned are the faults that the record does not mention.
func unmentioned(h *history.History, list []scenarios.Fault) []history.Timed[history.Injection] {
	var out []history.Timed[history.Injection]
	for _, f := range list {
		if slices.ContainsFunc(h.Injections, func(i history.Timed[history.Injection]) bool { return i.V.ID == f.ID }) {
			continue
		}
		out = append(out, history.Timed[history.Injection]{At: h.Last, V: history.Injection{
			ID: f.ID, Fault: f.Fault, Targets: []string{f.Target.String()}, Phase: f.Begin.Phase, State: "unproven",
			Error: "the run ended before it came",
		}})
	}
	return out
}

// write replaces a file of the run in one step.
func write(dir, name string, data []byte) error {
	tmp := filepath.Join(dir, "."+name)
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
