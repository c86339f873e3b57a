package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/harness/slo"
)

// finding is a line of the list of departures.
type finding struct {
	moment
	From, To                     float64
	Level, Class, What, Evidence string

	begin time.Duration
}

// findings are all departures from what was expected, in the order of time.
func findings(h *history.History, d slo.Document) []finding {
	var out []finding
	add := func(from, to time.Duration, level, what, evidence string) {
		class := map[string]string{"fail": "fail", "inconclusive": "inconclusive"}[level]
		out = append(out, finding{at(h, from), toMs(from), toMs(to), level, class, what, evidence, from})
	}
	for _, f := range h.Findings {
		add(f.At, f.At, f.V.Level, f.V.What, f.V.Evidence)
	}
	for _, s := range h.Stages {
		// What these found is told already: by a finding of its own.
		if s.V.Error != "" && !slices.Contains([]string{"upgrade", "run", "collect"}, s.V.Name) {
			add(s.At, s.At, "inconclusive", "stage "+s.V.Name+" failed", s.V.Error)
		}
	}
	for _, s := range d.SLOs {
		if s.Verdict == slo.Pass {
			continue
		}
		add(h.Last, h.Last, string(s.Verdict), s.Name+": "+s.Reason, "")
		for i, e := range s.Evidence {
			const most = 10
			if i == most {
				add(e.From, e.To, string(s.Verdict), fmt.Sprintf("%s: %d more like this", s.Name, len(s.Evidence)-i), "")
				break
			}
			level := string(s.Verdict)
			if e.Beside {
				level = "note"
			}
			text := e.Text
			if len(e.During) > 0 {
				text += ", during " + strings.Join(e.During, ", ")
			}
			add(e.From, e.To, level, s.Name, text)
		}
	}
	for _, p := range d.Phases {
		if p.Departed != "" {
			add(fromMs(p.Began), fromMs(p.Ended), string(p.Verdict), p.Name+": "+p.Departed, p.Seen)
		}
	}
	for _, f := range d.Faults {
		if f.Verdict != slo.Pass {
			evidence := f.Error
			if strings.Contains(f.Reason, evidence) {
				evidence = ""
			}
			add(fromMs(f.RequestedAt), fromMs(f.RequestedAt), string(f.Verdict), "fault "+f.Name+": "+f.Reason, evidence)
		}
	}
	if h.End == nil {
		add(h.Last, h.Last, "inconclusive", "the harness died: the record ends here", "")
	} else if h.End.V.Interrupted {
		add(h.End.At, h.End.At, "inconclusive", "the run was interrupted", h.End.V.Reason)
	}
	slices.SortStableFunc(out, func(a, b finding) int { return cmp.Compare(a.begin, b.begin) })
	return out
}
