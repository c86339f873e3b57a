package slo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
)

// PhaseFact is what became of one phase of the upgrade. Times are ms since the
// run began.
type PhaseFact struct {
	// Name is the path of the phase: upgrade/control-plane[1]/etcd.
	Name string `json:"name"`
	Node string `json:"node"`
	// Place is the part of the path that names the node's position, if it does.
	Place string `json:"place,omitempty"`
	// Began of the first attempt, Ended of the last; a phase that did not end
	// goes to the end of the record.
	Began float64 `json:"began"`
	Ended float64 `json:"ended"`
	// Expected is what the scenario declared: proceed | blocked | roll back.
	Expected string `json:"expected"`
	// Outcome of the first attempt, the one that is judged: proceeded, blocked,
	// rolled back, failed, skipped, "did not end".
	Outcome string `json:"outcome"`
	// Attempts are all outcomes in order, if there were several.
	Attempts []string `json:"attempts,omitempty"`
	// Seen is the observation behind the end of the first attempt.
	Seen string `json:"seen,omitempty"`
	// Departed says how it departed from what was expected; empty if it did not.
	Departed string `json:"departed,omitempty"`
	// Verdict: fail if it departed, inconclusive if the expectation was not put
	// to the test.
	Verdict Verdict `json:"verdict"`

	spans []span // of the attempts
}

// The words of the record about phases, as clusters/upgrade publishes them.
const (
	stateBegan        = "began"
	outcomeProceeded  = "proceeded"
	outcomeBlocked    = "blocked"
	outcomeRolledBack = "rolled back"
	outcomeSkipped    = "skipped"
	// didNotEnd is the outcome of a phase of which no end is recorded, notSaid
	// of one that ended without an outcome.
	didNotEnd = "did not end"
	notSaid   = "not said"
)

// Phases tells what became of each phase, in the order in which they first
// began.
func Phases(h *history.History) []PhaseFact {
	var out []PhaseFact
	at := map[string]int{}
	type attempt struct {
		began time.Duration
		open  bool
	}
	now := map[string]attempt{}
	var list [][]history.Timed[history.Phase] // ends, by phase
	for _, p := range h.Phases {
		i, ok := at[p.V.Path]
		if !ok {
			i = len(out)
			at[p.V.Path] = i
			out = append(out, PhaseFact{Name: p.V.Path, Place: placeOf(p.V.Path), Began: millis(p.At)})
			list = append(list, nil)
		}
		f := &out[i]
		if p.V.Node != "" {
			f.Node = p.V.Node
		}
		if p.V.Expected != "" {
			f.Expected = p.V.Expected
		}
		if p.V.State == stateBegan {
			if a := now[p.V.Path]; a.open { // its end is missing
				f.spans = append(f.spans, span{a.began, p.At})
				list[i] = append(list[i], history.Timed[history.Phase]{At: p.At, V: history.Phase{Outcome: didNotEnd}})
			}
			now[p.V.Path] = attempt{p.At, true}
			continue
		}
		a := now[p.V.Path]
		if !a.open {
			a.began = p.At // its beginning was not seen
		}
		now[p.V.Path] = attempt{}
		f.spans = append(f.spans, span{a.began, p.At})
		list[i] = append(list[i], p)
	}
	for i := range out {
		f := &out[i]
		if a := now[f.Name]; a.open {
			f.spans = append(f.spans, span{a.began, h.Last})
			list[i] = append(list[i], history.Timed[history.Phase]{At: h.Last, V: history.Phase{Outcome: didNotEnd}})
		}
		ends := list[i]
		f.Ended = millis(ends[len(ends)-1].At)
		f.Outcome, f.Seen = ends[0].V.Outcome, ends[0].V.Seen
		if f.Outcome == "" {
			f.Outcome = notSaid
		}
		if len(ends) > 1 {
			for _, e := range ends {
				f.Attempts = append(f.Attempts, e.V.Outcome)
			}
		}
		f.Verdict, f.Departed = f.judge()
	}
	return out
}

// meets lists the outcomes that are what each expectation asks for.
var meets = map[string]string{
	"proceed":   outcomeProceeded,
	"blocked":   outcomeBlocked,
	"roll back": outcomeRolledBack,
}

// judge compares the first attempt with what was expected, and the last with
// what every step must come to: a step that was blocked is run again after the
// heal.
func (f PhaseFact) judge() (Verdict, string) {
	expected := f.Expected
	if expected == "" {
		if strings.Count(f.Name, "/") > 1 || f.Outcome == outcomeSkipped {
			return Pass, "" // a part is judged by its step
		}
		expected = "proceed"
	}
	last := f.Outcome
	if n := len(f.Attempts); n > 0 {
		last = f.Attempts[n-1]
	}
	want, known := meets[expected]
	switch {
	case !known:
		return Inconclusive, fmt.Sprintf("expected %q, which is no outcome that gameday knows", expected)
	case f.Outcome == didNotEnd || f.Outcome == notSaid:
		return Inconclusive, fmt.Sprintf("expected %s, but its end is not in the record", expected)
	case f.Outcome == outcomeSkipped:
		return Inconclusive, fmt.Sprintf("expected %s, but there was nothing to do: the node was at the target already", expected)
	case f.Outcome != want:
		return Fail, fmt.Sprintf("expected %s, %s", expected, f.Outcome)
	case last == didNotEnd:
		return Inconclusive, fmt.Sprintf("%s as expected, but the end of its last attempt is not in the record", f.Outcome)
	case last != outcomeProceeded && last != outcomeSkipped:
		return Fail, fmt.Sprintf("%s as expected, but never went through after the heal: %s", f.Outcome, last)
	}
	return Pass, ""
}

// placeOf is the control-plane[1] of upgrade/control-plane[1]/etcd.
func placeOf(path string) string {
	if parts := strings.Split(path, "/"); len(parts) > 1 && strings.HasSuffix(parts[1], "]") {
		return parts[1]
	}
	return ""
}

// boundTo are the spans of a phase that a fault's window is bound to. A
// scenario without an upgrade has one phase that is not recorded as such, the
// whole stretch of the run.
func boundTo(h *history.History, phases []PhaseFact, path string) []span {
	for _, p := range phases {
		if p.Name == path {
			return p.spans
		}
	}
	if path != "run" {
		return nil
	}
	var out []span
	for _, s := range h.Stages {
		if s.V.Name != "run" && s.V.Name != "upgrade" {
			continue
		}
		if s.V.State == stateBegan {
			out = append(out, span{s.At, h.Last})
		} else if n := len(out); n > 0 {
			out[n-1].to = s.At
		}
	}
	return out
}

// onNode says whether any phase of the upgrade of a node was open at a moment,
// give or take slack.
func onNode(phases []PhaseFact, node string, at, slack time.Duration) bool {
	return slices.ContainsFunc(phases, func(p PhaseFact) bool {
		return p.Node == node && node != "" && slices.ContainsFunc(p.spans, func(s span) bool {
			return s.touches(span{at - slack, at + slack})
		})
	})
}
