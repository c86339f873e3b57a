package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/harness/slo"
)

const lateBound = slo.LateBound

// fact is a row of "Can I trust it?".
type fact struct{ What, Value string }

func trust(h *history.History, d slo.Document) []fact {
	out := []fact{{"record complete", ended(h)}, {"self-check of the samplers", checked(d)}}
	out = append(out, sampled(h)...)
	if len(h.Sources) > 0 {
		out = append(out, fact{"alerts", alerts(h)})
	}
	out = append(out,
		fact{"gaps in the record", gaps(h)},
		fact{"acknowledged writes", writes(h)},
		fact{"clock", "one monotonic clock for everything that gameday saw; times that objects of the API carry (slots, starts of containers) come from the nodes, to the second, and their offset is not measured"},
		fact{"etcd's fsync", "not sampled; measured only as the proof of disk.slow-fsync"},
	)
	itself := "not measured"
	if wall := d.Usage.WallSeconds; wall > 0 && len(h.Usage) > 0 {
		itself = fmt.Sprintf("%.1f s of CPU in %s (%.1f %% of a core), at most %d MiB", d.Usage.CPUSeconds, short(time.Duration(wall*float64(time.Second))), 100*d.Usage.CPUSeconds/wall, d.Usage.MaxRSSBytes>>20)
	}
	out = append(out, fact{"gameday itself", itself})
	var stages []string
	for _, s := range h.Stages { // in the order in which they were
		if s.V.State == "began" && !slices.Contains(stages, s.V.Name) {
			stages = append(stages, s.V.Name)
		}
	}
	for _, name := range stages {
		out = append(out, fact{"stage " + name, fmt.Sprintf("%.1f s", d.Timings[name])})
	}
	return out
}

// ended says whether the record goes to the end of the run.
func ended(h *history.History) string {
	switch {
	case h.Torn:
		return "no: the harness died in the middle of a line"
	case h.End == nil:
		return "no: the harness died"
	case h.End.V.Reason != "":
		return "to its end, which came early: " + h.End.V.Reason
	}
	return "yes"
}

// checked says how the samplers did on outages that were known.
func checked(d slo.Document) string {
	var list []string
	for _, c := range d.SelfChecks {
		text := fmt.Sprintf("%s: %s, in %s", c.Verdict, c.Reason, millis(c.TookMs))
		var sharpest slo.SelfTest
		for _, t := range c.Trials {
			if t.ErrorBarMs > 0 && (sharpest.ErrorBarMs == 0 || t.ErrorBarMs < sharpest.ErrorBarMs) {
				sharpest = t
			}
		}
		if sharpest.ErrorBarMs > 0 {
			text += fmt.Sprintf("; the sharpest error bar of an outage was %s (%s for %s)", millis(sharpest.ErrorBarMs), sharpest.Kind, millis(sharpest.AskedMs))
		}
		list = append(list, text)
	}
	if list == nil {
		return "none was made"
	}
	return strings.Join(list, "; ")
}

// sampled says how many samples there are, and how well they were taken.
func sampled(h *history.History) []fact {
	var late, all, unsent int
	var worst time.Duration
	for _, list := range h.Samples {
		for _, s := range list {
			all++
			worst = max(worst, s.V.Late)
			switch {
			case s.V.Err == history.NotSent:
				unsent++
			case s.V.Late > lateBound:
				late++
			}
		}
	}
	if all == 0 {
		return []fact{{"samples", "none: nothing is known of the API"}}
	}
	per := func(n int) string { return fmt.Sprintf("%d (%.2f %%)", n, 100*float64(n)/float64(all)) }
	return []fact{
		{"samples", fmt.Sprintf("%d in %d series", all, len(h.Series))},
		{"sampler lateness", fmt.Sprintf("worst %s; %s started more than %s after they were due and are left out", short(worst), per(late), short(lateBound))},
		{"samples not sent", per(unsent) + ": too many were waiting for an answer"},
	}
}

// alerts says how well they were asked for.
func alerts(h *history.History) string {
	last := h.Sources[len(h.Sources)-1].V
	text := fmt.Sprintf("%d answers of %s, %d changes of state", last.Polls, last.Kind, len(h.Alerts))
	if !last.Ended {
		text += "; until when is not known"
	}
	return text
}

func gaps(h *history.History) string {
	const most = 10
	var list []string
	for i, g := range h.Gaps {
		if i == most {
			list = append(list, fmt.Sprintf("and %d more", len(h.Gaps)-i))
			break
		}
		list = append(list, fmt.Sprintf("%s at %s for %s (%s)", g.V.Source, clock(g.V.From), short(g.V.To-g.V.From), g.V.Reason))
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, "; ")
}

// writes says what became of the canaries' writes.
func writes(h *history.History) string {
	count := map[string]int{}
	for _, w := range h.Writes {
		count[w.V.Outcome]++
	}
	if len(h.Writes) == 0 {
		return "none were tried"
	}
	text := fmt.Sprintf("%d", count["ok"])
	for _, outcome := range slices.Sorted(maps.Keys(count)) {
		if outcome != "ok" {
			text += fmt.Sprintf(", %s %d", outcome, count[outcome])
		}
	}
	if len(h.Kept) == 0 {
		return text + "; whether they were kept was not looked at"
	}
	return text + fmt.Sprintf("; looked for on %d members", len(h.Kept))
}
