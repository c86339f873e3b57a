package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
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
	//go:embed style.css
	style string
)

// Style is how every page of gameday looks, in light, in the dark and in print.
func Style() template.CSS { return template.CSS(style) } //nolint:gosec // our own style sheet

// HTML renders the page: one self-contained file, no network. It answers, in
// this order: did it hold, what broke and when because of which fault, can the
// measurement be trusted, how is it run again.
func HTML(h *history.History, d slo.Document) ([]byte, error) {
	data, err := json.Marshal(timeline(h, d))
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	t, err := template.New("page").Funcs(template.FuncMap{
		"mark": mark, "amount": amount, "ms": millis, "at": func(ms float64) moment { return at(h, fromMs(ms)) },
		"deref": func(ms *float64) float64 { return *ms }, "words": func(list []string) string { return strings.Join(list, ", then ") },
		"measured": measured, "unmeasured": unmeasured,
	}).Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	began := "an unknown time"
	if !h.Run.Began.IsZero() {
		began = h.Run.Began.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Word": word(d), "Class": string(d.Verdict), "Doc": d, "Run": h.Run,
		"Began": began, "Lasted": short(h.Last), "Nodes": len(d.Cluster.Nodes),
		"Spans": spans(d), "Spent": spent(d), "Findings": findings(h, d), "Steps": steps(d), "Params": params(h), "Trust": trust(h, d),
		// json.Marshal escapes <, > and &, so the data cannot end the script element.
		"Data": template.JS(data), "Script": template.JS(pageJS), "Style": Style(), //nolint:gosec // our own script, and escaped JSON
	})
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return out.Bytes(), nil
}

// word is the verdict as banner and terminal say it; exit code 3 is more than a
// verdict.
func word(d slo.Document) string {
	if d.ExitCode == slo.ExitNotUndone {
		return "not undone"
	}
	return string(d.Verdict)
}

// mark tells verdicts apart without colour.
func mark(v slo.Verdict) string {
	return map[slo.Verdict]string{slo.Pass: "✓", slo.Fail: "✗", slo.Inconclusive: "?"}[v]
}

// amount is a number with its unit; counts have none.
func amount(v float64, unit string) string {
	if unit == "count" {
		unit = ""
	}
	return strings.TrimSpace(strconv.FormatFloat(v, 'f', -1, 64) + " " + unit)
}

// unmeasured says that the number of a promise stands for nothing.
func unmeasured(r slo.Result) bool { return r.Samples == 0 && r.Verdict == slo.Inconclusive }

func millis(ms float64) string { return short(fromMs(ms)) }

func fromMs(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

func toMs(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// clock is the time since the run began, as the timeline's axis says it.
func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%05.2f", int(d.Minutes()), (d - time.Duration(int(d.Minutes()))*time.Minute).Seconds())
}

// moment is a time as the page shows it: since the run began, and the wall
// clock on hover.
type moment struct{ Clock, Wall string }

func at(h *history.History, d time.Duration) moment {
	m := moment{Clock: clock(d)}
	if !h.Run.Began.IsZero() {
		m.Wall = h.Run.Began.Add(d).UTC().Format("2006-01-02 15:04:05.000 UTC")
	}
	return m
}

func measured(f slo.FaultFact) string {
	return fmt.Sprintf("%.4g %s, asked %.4g %s", f.Measured, f.Unit, f.Asked, f.Unit)
}

// params are what each fault was told to do, by its id.
func params(h *history.History) map[string]string {
	out := map[string]string{}
	for _, i := range h.Injections {
		if len(i.V.Params) == 0 {
			continue
		}
		if text, err := json.Marshal(i.V.Params); err == nil { // it was JSON in the record
			out[i.V.ID] = strings.NewReplacer(`"`, "", "{", "", "}", "", ",", ", ", ":", " ").Replace(string(text))
		}
	}
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
