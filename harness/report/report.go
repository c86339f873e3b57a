// Package report tells what a run found: in the terminal while it runs, and as
// verdict.json, junit.xml and report.html, all drawn from the history alone, so
// that they can be written again at any time.
package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"gameday/harness/history"
	"gameday/harness/slo"
	"gameday/scenarios"
)

// Write judges the history in dir against the scenario's SLOs and writes
// verdict.json, junit.xml and report.html beside it.
func Write(dir string, s *scenarios.Scenario) (slo.Document, error) {
	h, err := history.Load(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return slo.Document{}, err
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

// Judge applies the scenario's SLOs to a history.
func Judge(h *history.History, s *scenarios.Scenario) (slo.Document, error) {
	var named []slo.Named
	for _, p := range s.SLOs {
		c, ok := p.With.(slo.Checker)
		if !ok {
			return slo.Document{}, fmt.Errorf("SLO %s has no checker", p.Name)
		}
		named = append(named, slo.Named{Name: p.Name, Checker: c})
	}
	return slo.Make(h, slo.Judge(h, named)), nil
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
