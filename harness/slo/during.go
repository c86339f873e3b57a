package slo

import (
	"strings"

	"gameday/harness/history"
)

// surroundings tell what else happened during an interval.
type surroundings struct {
	faults []FaultFact
	phases []PhaseFact
}

func look(h *history.History) surroundings { return surroundings{Faults(h), Phases(h)} }

// during names the faults, by their proven intervals until they were gone, and
// the innermost phases that overlap an interval.
func (s surroundings) during(in span) []string {
	var out []string
	for _, f := range s.faults {
		if len(f.effect) > 0 && (span{f.effect[0].from, f.acting.to}).touches(in) {
			out = append(out, f.Name)
		}
	}
	var open []string
	for _, p := range s.phases {
		for _, a := range p.spans {
			if a.touches(in) {
				open = append(open, p.Name)
				break
			}
		}
	}
	for _, p := range open {
		inner := false
		for _, q := range open {
			inner = inner || strings.HasPrefix(q, p+"/")
		}
		if !inner {
			out = append(out, p)
		}
	}
	return out
}

// maxEvidence bounds how much evidence stands beside a result.
const maxEvidence = 100

// evidence adds a piece of evidence with what happened around it. Beyond the
// bound only their number is kept.
func (s surroundings) evidence(r *Result, in span, text string) {
	switch n := len(r.Evidence); {
	case n < maxEvidence:
		r.Evidence = append(r.Evidence, Evidence{From: in.from, To: in.to, Text: text, During: s.during(in)})
	case n == maxEvidence:
		r.Evidence = append(r.Evidence, Evidence{From: in.from, To: in.to, Text: "and more of the same from here on"})
	default:
		r.Evidence[n-1].To = max(r.Evidence[n-1].To, in.to)
	}
}
