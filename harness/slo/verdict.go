package slo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
)

// Exit codes of gameday. 4, bad input, never has a verdict.
const (
	ExitPass         = 0
	ExitFail         = 1 // a promise or an expectation was broken
	ExitInconclusive = 2 // it was not measured well enough to say
	ExitNotUndone    = 3 // a fault could not be undone
	ExitHarness      = 5 // the harness itself failed
)

// Document is verdict.json, an interface for other programs: fields are added
// within an apiVersion, never renamed or removed. All times are milliseconds
// since Began on the harness's monotonic clock, except those of evidence, which
// are nanoseconds as in the history; lengths say their unit in their name. Lists
// are in a stable order: slos as in the scenario, faults by request, phases by
// their first beginning, nodes by place.
type Document struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`

	Verdict  Verdict `json:"verdict"`
	ExitCode int     `json:"exitCode"`
	// Reason is the worst ground in one sentence.
	Reason string `json:"reason"`

	SLOs   []Result    `json:"slos"`
	Faults []FaultFact `json:"faults"`
	Phases []PhaseFact `json:"phases"`
	// Findings are departures that are no SLO.
	Findings []history.Finding `json:"findings"`

	Cluster  Cluster   `json:"cluster"`
	Run      string    `json:"run"`
	Scenario string    `json:"scenario"`
	Began    time.Time `json:"began"`
	Seed     uint64    `json:"seed"`
	Gameday  string    `json:"gameday"`
	Rerun    string    `json:"rerun"`
	Usage    Usage     `json:"usage"`
	// SelfChecks are what the samplers made of outages that were known, before
	// they measured anything.
	SelfChecks []SelfCheck `json:"selfChecks"`
	// Timings are the seconds that each stage took, by its name.
	Timings map[string]float64 `json:"timings"`
}

// Cluster that was upgraded.
type Cluster struct {
	Provider string `json:"provider"`
	Strategy string `json:"strategy,omitempty"`
	From     string `json:"from"`
	To       string `json:"to"`
	Nodes    []Node `json:"nodes"`
}

// Node as it was last seen.
type Node struct {
	Name    string `json:"name"`
	Place   string `json:"place"`
	Version string `json:"version"`
	Ready   string `json:"ready"`
}

// Usage of the harness itself, from the first moment that it recorded: when the
// node images are there. What building them takes is no cost of a run.
type Usage struct {
	CPUSeconds  float64 `json:"cpuSeconds"`
	MaxRSSBytes int64   `json:"maxRSSBytes"`
	WallSeconds float64 `json:"wallSeconds"`
}

// DocumentKind is the kind of verdict.json.
const DocumentKind = "Verdict"

// Make builds the verdict from the record and the judged promises.
//
// The worst ground decides: a fault that could not be undone (3), a promise or
// an expectation broken (1), a stage that failed and is the harness's own (5),
// something not measured (2). A run that did not come to its end, or was
// interrupted, is inconclusive whatever its checkers say: nobody knows how it
// would have gone on.
func Make(h *history.History, results []Result) Document {
	d := Document{
		APIVersion: history.APIVersion, Kind: DocumentKind,
		SLOs: results, Faults: Faults(h), Phases: Phases(h), Findings: []history.Finding{},
		Cluster: Cluster{Provider: h.Run.Provider, Strategy: h.Run.Strategy, From: h.Run.From, To: h.Run.To, Nodes: lastNodes(h)},
		Run:     h.Run.ID, Scenario: h.Run.Scenario, Began: h.Run.Began.Round(0), Seed: h.Run.Seed,
		Gameday: h.Run.Gameday, Rerun: h.Run.Rerun,
		SelfChecks: selfChecks(h), Timings: timings(h),
	}
	if d.SLOs == nil {
		d.SLOs = []Result{}
	}
	if d.Phases == nil {
		d.Phases = []PhaseFact{}
	}
	for _, f := range h.Findings {
		d.Findings = append(d.Findings, f.V)
	}
	for _, u := range h.Usage {
		first := h.Usage[0]
		d.Usage.WallSeconds = seconds(h.Last - first.At)
		d.Usage.CPUSeconds = max(d.Usage.CPUSeconds, seconds(u.V.CPU-first.V.CPU))
		d.Usage.MaxRSSBytes = max(d.Usage.MaxRSSBytes, u.V.MaxRSS)
	}
	d.decide(h)
	return d
}

// decide sets verdict, exit code and reason.
func (d *Document) decide(h *history.History) {
	var stuck, failed, broken, doubts []string
	for _, f := range d.Faults {
		switch {
		case f.State == "stuck":
			stuck = append(stuck, fmt.Sprintf("fault %s: %s", f.Name, f.Reason))
		case f.Verdict == Inconclusive:
			doubts = append(doubts, fmt.Sprintf("fault %s: %s", f.Name, f.Reason))
		}
	}
	if h.End != nil {
		for _, id := range h.End.V.NotUndone {
			if !mentions(stuck, "fault "+id+":") {
				stuck = append(stuck, fmt.Sprintf("fault %s: it could not be undone", id))
			}
		}
	}
	for _, s := range d.SLOs {
		switch s.Verdict {
		case Fail:
			failed = append(failed, s.Name+": "+s.Reason)
		case Inconclusive:
			doubts = append(doubts, s.Name+": "+s.Reason)
		}
	}
	for _, p := range d.Phases {
		switch p.Verdict {
		case Fail:
			failed = append(failed, p.Name+": "+p.Departed)
		case Inconclusive:
			doubts = append(doubts, p.Name+": "+p.Departed)
		}
	}
	for _, f := range h.Findings {
		text := f.V.What
		if f.V.Evidence != "" {
			text += ": " + f.V.Evidence
		}
		switch f.V.Level {
		case "fail":
			failed = append(failed, text)
		case "inconclusive":
			doubts = append(doubts, text)
		}
	}
	if h.Run.To != "" {
		failed = append(failed, notAtTarget(h.Run.To, d.Phases, d.Cluster.Nodes)...)
	}
	f, i := stageErrors(h)
	broken, doubts = append(broken, f...), append(doubts, i...)
	if len(d.SLOs) == 0 {
		doubts = append(doubts, "no promise was judged")
	}
	if h.Run.To != "" && len(d.Phases) == 0 {
		doubts = append(doubts, fmt.Sprintf("no phase of the upgrade to %s is in the record", h.Run.To))
	}

	sofar := ""
	if n := len(failed); n > 0 {
		sofar = fmt.Sprintf(" (%s by then: %s)", count(n, "failure", "failures"), failed[0])
	}
	switch {
	case len(stuck) > 0:
		d.Verdict, d.ExitCode, d.Reason = Fail, ExitNotUndone, told(stuck)
	case h.End == nil:
		d.Verdict, d.ExitCode, d.Reason = Inconclusive, ExitInconclusive, died(h)+sofar
	case h.End.V.Interrupted:
		d.Verdict, d.ExitCode, d.Reason = Inconclusive, ExitInconclusive, "the run ended early: "+said(h.End.V.Reason)+sofar
	case len(failed) > 0:
		d.Verdict, d.ExitCode, d.Reason = Fail, ExitFail, told(failed)
	case len(broken) > 0:
		d.Verdict, d.ExitCode, d.Reason = Inconclusive, ExitHarness, told(broken)
	case len(doubts) > 0:
		d.Verdict, d.ExitCode, d.Reason = Inconclusive, ExitInconclusive, told(doubts)
	default:
		d.Verdict, d.ExitCode = Pass, ExitPass
		d.Reason = fmt.Sprintf("all %s held", count(len(d.SLOs), "promise", "promises"))
		if n := len(d.Faults); n > 0 {
			d.Reason += fmt.Sprintf(" under %s, each proven and gone", count(n, "fault", "faults"))
		}
	}
}

// told is the first ground, and how many there are besides.
func told(list []string) string {
	if n := len(list) - 1; n > 0 {
		return fmt.Sprintf("%s (and %d more)", list[0], n)
	}
	return list[0]
}

func mentions(list []string, prefix string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(s, prefix) })
}

// ownStages are those whose errors are the harness's own: before anything can be
// judged, and after everything was. What the others found is in findings and
// results too.
var ownStages = []string{"prepare", "images", "create", "preload", "workload", "delete"}

func stageErrors(h *history.History) (broken, doubts []string) {
	for _, s := range h.Stages {
		if s.V.State == stateBegan || s.V.Error == "" {
			continue
		}
		text := fmt.Sprintf("stage %s: %s", s.V.Name, s.V.Error)
		switch {
		case slices.Contains(ownStages, s.V.Name):
			broken = append(broken, text)
		case s.V.Name != "collect": // logs prove nothing
			doubts = append(doubts, text)
		}
	}
	return broken, doubts
}

// timings sums the time of each stage, in seconds. One that did not end goes to
// the end of the record.
func timings(h *history.History) map[string]float64 {
	open := map[string]time.Duration{}
	sum := map[string]time.Duration{}
	for _, s := range h.Stages {
		if s.V.State == stateBegan {
			open[s.V.Name] = s.At
			continue
		}
		if at, ok := open[s.V.Name]; ok {
			sum[s.V.Name] += s.At - at
			delete(open, s.V.Name)
		}
	}
	for name, at := range open {
		sum[name] += h.Last - at
	}
	out := make(map[string]float64, len(sum))
	for name, d := range sum {
		out[name] = seconds(d)
	}
	return out
}
