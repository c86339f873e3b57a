package compare

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gameday/harness/history"
	"gameday/harness/plan"
	"gameday/harness/report"
	"gameday/harness/slo"
	"gameday/scenarios"
)

// Record is a run as it is compared: what is in its folder, judged by today's
// checkers, so that all are judged by the same.
type Record struct {
	Dir      string
	History  *history.History
	Scenario *scenarios.Scenario
	Verdict  slo.Document
}

// ErrNoRecord is wrapped when a folder holds no run that can be read.
var ErrNoRecord = errors.New("no record to compare")

// Load reads the folder of a run and changes nothing in it. It is judged by the
// promises of its own scenario, or by those of another one.
func Load(dir string, by *scenarios.Scenario) (*Record, error) {
	path := filepath.Join(dir, "scenario.yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not the folder of a run: %w", ErrNoRecord, dir, err)
	}
	s, err := scenarios.Load(data, path, plan.Known())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	h, err := history.Load(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	if by != nil {
		s.SLOs = by.SLOs
	}
	doc, err := report.Judge(h, s)
	if err != nil {
		return nil, err
	}
	return &Record{Dir: dir, History: h, Scenario: s, Verdict: doc}, nil
}
