package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/harness/slo"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.js
	pageJS string
)

// HTML renders the page: one self-contained file, no network. It answers, in
// this order: did it hold, what broke and when because of which fault, can the
// measurement be trusted, how is it run again.
func HTML(h *history.History, d slo.Document) ([]byte, error) {
	data, err := json.Marshal(timeline(h, d))
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	t, err := template.New("page").Funcs(template.FuncMap{
		"mark": mark, "amount": amount, "ms": millis, "clockms": func(ms *float64) string { return clock(fromMs(*ms)) },
		"spent": spent, "measured": measured,
	}).Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Word": word(d), "Class": string(d.Verdict), "Doc": d, "Run": h.Run,
		"Began": h.Run.Began.UTC().Format("2006-01-02 15:04:05 UTC"), "Lasted": short(h.Last),
		"Spans": spans(d), "Findings": findings(h, d), "Steps": steps(d), "Trust": trust(h, d),
		// json.Marshal escapes <, > and &, so the data cannot end the script element.
		"Data": template.JS(data), "Script": template.JS(pageJS), //nolint:gosec // our own script, and escaped JSON
	})
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return out.Bytes(), nil
}

// word is the verdict as the banner says it; exit code 3 is more than a verdict.
func word(d slo.Document) string {
	if d.ExitCode == 3 {
		return "not undone"
	}
	return string(d.Verdict)
}

// mark tells verdicts apart without colour.
func mark(v slo.Verdict) string {
	return map[slo.Verdict]string{slo.Pass: "✓", slo.Fail: "✗", slo.Inconclusive: "?"}[v]
}

func amount(v float64, unit string) string {
	return strings.TrimSpace(strconv.FormatFloat(v, 'f', -1, 64) + " " + unit)
}

func millis(ms float64) string { return short(fromMs(ms)) }

func fromMs(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

func toMs(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// clock is the time since the run began, as the timeline's axis says it.
func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%05.2f", int(d.Minutes()), (d - time.Duration(int(d.Minutes()))*time.Minute).Seconds())
}

func measured(f slo.FaultFact) string {
	return fmt.Sprintf("%.4g %s, asked %.4g %s", f.Measured, f.Unit, f.Asked, f.Unit)
}

// spent says how much of a promise's evidence fell into each fault and phase.
func spent(list []slo.Evidence) []string {
	sum := map[string]time.Duration{}
	for _, e := range list {
		for _, d := range e.During {
			sum[d] += e.To - e.From
		}
	}
	names := make([]string, 0, len(sum))
	for n := range sum {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		if c := int(sum[b] - sum[a]); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	for i, n := range names {
		names[i] = fmt.Sprintf("%s: %s", n, short(sum[n]))
	}
	if len(names) > 6 {
		names = append(names[:6], fmt.Sprintf("and %d more", len(names)-6))
	}
	return names
}

// span is what a click on a promise shows: its worst evidence.
type span struct{ From, To float64 }

func spans(d slo.Document) map[string]*span {
	out := map[string]*span{}
	for _, s := range d.SLOs {
		for _, e := range s.Evidence {
			if p := out[s.Name]; p == nil || toMs(e.To)-toMs(e.From) > p.To-p.From {
				out[s.Name] = &span{toMs(e.From), toMs(e.To)}
			}
		}
	}
	return out
}

// finding is a line of the list of departures.
type finding struct {
	at                                  time.Duration
	Clock, Level, Class, What, Evidence string
}

func findings(h *history.History, d slo.Document) []finding {
	var out []finding
	add := func(at time.Duration, level, what, evidence string) {
		class := map[string]string{"fail": "fail", "inconclusive": "inconclusive"}[level]
		out = append(out, finding{at, clock(at), level, class, what, evidence})
	}
	for _, f := range h.Findings {
		add(f.At, f.V.Level, f.V.What, f.V.Evidence)
	}
	for _, s := range d.SLOs {
		if s.Verdict == slo.Pass {
			continue
		}
		if len(s.Evidence) == 0 {
			add(h.Last, string(s.Verdict), s.Name+": "+s.Reason, "")
		}
		for i, e := range s.Evidence {
			if i == 10 {
				add(e.From, string(s.Verdict), fmt.Sprintf("%s: %d more like this", s.Name, len(s.Evidence)-i), "")
				break
			}
			text := e.Text
			if len(e.During) > 0 {
				text += ", during " + strings.Join(e.During, ", ")
			}
			add(e.From, string(s.Verdict), s.Name, text)
		}
	}
	for _, p := range d.Phases {
		if p.Departed != "" {
			add(fromMs(p.Began), string(p.Verdict), p.Name+": "+p.Departed, p.Seen)
		}
	}
	for _, f := range d.Faults {
		if f.Verdict != slo.Pass {
			add(fromMs(f.RequestedAt), string(f.Verdict), "fault "+f.Name+": "+f.Reason, f.Error)
		}
	}
	if h.End == nil {
		add(h.Last, "inconclusive", "the harness died: the record ends here", "")
	}
	slices.SortStableFunc(out, func(a, b finding) int { return int(a.at - b.at) })
	return out
}

// step is a row of the table of expectations.
type step struct {
	slo.PhaseFact
	Took string
}

func steps(d slo.Document) []step {
	var out []step
	for _, p := range d.Phases {
		if p.Expected != "" {
			out = append(out, step{p, millis(p.Ended - p.Began)})
		}
	}
	return out
}

// fact is a row of "Can I trust it?".
type fact struct{ What, Value string }

func trust(h *history.History, d slo.Document) []fact {
	var late, all, capped int
	var worst time.Duration
	for _, list := range h.Samples {
		for _, s := range list {
			all++
			worst = max(worst, s.V.Late)
			if s.V.Late > 100*time.Millisecond {
				late++
			}
		}
	}
	ended := "no: the harness died, or the last line is torn"
	if h.End != nil {
		ended = "yes"
		if h.End.V.Interrupted {
			ended = "ended early: " + h.End.V.Reason
		}
	}
	out := []fact{
		{"record complete", ended},
		{"samples", fmt.Sprintf("%d in %d series", all, len(h.Series))},
		{"sampler lateness", fmt.Sprintf("worst %s; %d samples (%.2f %%) started more than 100 ms after they were due", short(worst), late, 100*float64(late)/float64(max(1, all)))},
	}
	if capped > 0 {
		out = append(out, fact{"samples not sent", fmt.Sprint(capped)})
	}
	gaps := "none"
	if len(h.Gaps) > 0 {
		var list []string
		for i, g := range h.Gaps {
			if i == 10 {
				list = append(list, fmt.Sprintf("and %d more", len(h.Gaps)-i))
				break
			}
			list = append(list, fmt.Sprintf("%s at %s for %s (%s)", g.V.Source, clock(g.V.From), short(g.V.To-g.V.From), g.V.Reason))
		}
		gaps = strings.Join(list, "; ")
	}
	out = append(out, fact{"gaps in the record", gaps})
	var ok, unknown int
	for _, w := range h.Writes {
		switch w.V.Outcome {
		case "ok":
			ok++
		case "unknown":
			unknown++
		}
	}
	out = append(out, fact{"acknowledged writes", fmt.Sprintf("%d, outcome unknown %d", ok, unknown)})
	if wall := d.Usage.WallSeconds; wall > 0 {
		out = append(out, fact{"gameday itself", fmt.Sprintf("%.1f s of CPU in %s (%.1f %% of a core), at most %d MiB", d.Usage.CPUSeconds, short(h.Last), 100*d.Usage.CPUSeconds/wall, d.Usage.MaxRSSBytes>>20)})
	}
	for _, name := range slices.Sorted(maps.Keys(d.Timings)) {
		out = append(out, fact{"stage " + name, fmt.Sprintf("%.1f s", d.Timings[name])})
	}
	return out
}
