package compare

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/harness/report"
	"gameday/harness/slo"
)

//go:embed page.html
var pageHTML string

// HTML renders a comparison as a page: one self-contained file, no network and no
// script.
func HTML(list []*Record, d Document) ([]byte, error) {
	var names []string
	for _, r := range d.Runs {
		names = append(names, r.Scenario+" "+r.ID)
	}
	return page(map[string]any{"Title": "Compared: " + strings.Join(names, ", "), "Doc": d, "Charts": charts(list)})
}

// HTML renders what the pairs say as a page. The records are those that count, in
// the order of the comparison.
func (p Paired) HTML(name string, list []*Record) ([]byte, error) {
	d, drawn := Document{}, []report.Chart(nil)
	if p.Comparison != nil {
		d, drawn = *p.Comparison, charts(list)
	}
	return page(map[string]any{"Title": name + ": with and without its faults", "Doc": d, "Paired": p, "Charts": drawn})
}

// Counted are the records that Judge takes, in the order of its comparison.
func Counted(without, with []*Record) []*Record {
	var out []*Record
	for _, list := range [][]*Record{without, with} {
		for _, r := range list {
			if unfinished(r) == "" {
				out = append(out, r)
			}
		}
	}
	return out
}

func page(data map[string]any) ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"mark": mark, "versions": versions, "series": report.SeriesClass, "label": label, "side": side,
		"tables": Document.tables, "title": Row.title, "budget": Row.budget,
		"words":   func(list []string) string { return strings.Join(list, ", ") },
		"percent": func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) },
		"plain":   func(v Value, unit string) string { v.Verdict = ""; return v.String(unit) },
	}).Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("comparison: %w", err)
	}
	data["Style"] = report.Style()
	if _, ok := data["Paired"]; !ok {
		data["Paired"] = nil
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("comparison: %w", err)
	}
	return out.Bytes(), nil
}

// charts draw the runs over one another, each from the moment at which its upgrade
// (or what stands for one) began.
func charts(list []*Record) []report.Chart {
	out := []report.Chart{phaseChart(list)}
	for _, verb := range []string{"read", "quorum-read", "write"} {
		for _, conn := range []string{"reused", "new"} {
			if c := latencyChart(list, verb, conn); c.Lines != nil {
				out = append(out, c)
			}
		}
	}
	out = append(out, outageChart(list), cronChart(list))
	var drawn []report.Chart
	for _, c := range out {
		if c.Rows != nil || c.Lines != nil {
			drawn = append(drawn, c)
		}
	}
	return drawn
}

// zero is when what is compared began.
func zero(h *history.History) time.Duration {
	for _, s := range h.Stages {
		if s.V.State == "began" && (s.V.Name == "upgrade" || s.V.Name == "run") {
			return s.At
		}
	}
	return 0
}

const sinceZero = "s since the upgrade, or the run phase, began"

func phaseChart(list []*Record) report.Chart {
	c := report.Chart{Title: "Steps of the upgrade", X: sinceZero, Series: len(list)}
	at := map[string]int{}
	for i, r := range list {
		from := zero(r.History).Seconds()
		for _, p := range r.Verdict.Phases {
			if strings.Count(p.Name, "/") != 1 && p.Expected == "" {
				continue // the parts of a step are in the table
			}
			n, ok := at[p.Name]
			if !ok {
				n = len(c.Rows)
				at[p.Name] = n
				c.Rows = append(c.Rows, report.Row{Name: p.Name})
			}
			a, b := p.Began/1000-from, p.Ended/1000-from
			c.Rows[n].Bars = append(c.Rows[n].Bars, report.Bar{From: a, To: b, Series: i, Tip: fmt.Sprintf("%s: %s, %s, %.1f s", label(i), p.Name, p.Outcome, b-a)})
		}
	}
	return c
}

// buckets is into how many pieces a chart cuts the time: what a screen can show.
const buckets = 400

// latencyChart is the longest answer of each piece of time through the load
// balancer, or of the one API server where there is no load balancer.
func latencyChart(list []*Record, verb, conn string) report.Chart {
	c := report.Chart{Title: fmt.Sprintf("API: %s on a %s connection, longest good answer", verb, conn), X: sinceZero, Y: "ms", Log: true}
	some := false
	for i, r := range list {
		line := report.Line{Name: label(i)}
		if id, ok := way(r.History, verb, conn); ok {
			some = true
			line.Points = longest(r.History, id)
		}
		c.Lines = append(c.Lines, line)
	}
	if !some {
		c.Lines = nil
	}
	return c
}

// way is the series by which a client comes to the API.
func way(h *history.History, verb, conn string) (id int, ok bool) {
	best := ""
	for n, s := range h.Series {
		if s.Verb != verb || s.Conn != conn {
			continue
		}
		if !ok || s.Endpoint == lb || best != lb && s.Endpoint < best {
			id, best, ok = n, s.Endpoint, true
		}
	}
	return id, ok
}

func longest(h *history.History, series int) []report.Point {
	from := zero(h)
	width := max(time.Second, (h.Last-from)/buckets)
	top := make([]float64, (h.Last-from)/width+1)
	for _, s := range h.Samples[series] {
		if s.V.OK && s.At >= from {
			i := (s.At - from) / width
			top[i] = max(top[i], float64(s.V.Took.Microseconds())/1000)
		}
	}
	out := make([]report.Point, 0, len(top))
	for i, v := range top {
		if v == 0 {
			v = math.NaN() // no good answer: the line is broken there
		}
		out = append(out, report.Point{X: (time.Duration(i) * width).Seconds(), Y: v})
	}
	return out
}

func outageChart(list []*Record) report.Chart {
	c := report.Chart{Title: "API: outages, as a client sees them", X: sinceZero, Series: len(list)}
	for _, verb := range []string{"read", "quorum-read", "write"} {
		for _, conn := range []string{"reused", "new"} {
			row, known := report.Row{Name: verb + ", " + conn}, false
			for i, r := range list {
				id, ok := way(r.History, verb, conn)
				if !ok {
					continue
				}
				known = true
				from := zero(r.History)
				for _, o := range slo.Outages(r.History, id) {
					if o.LastBad < from {
						continue
					}
					a, b := max(0, o.FirstBad-from), o.LastBad-from
					row.Bars = append(row.Bars, report.Bar{From: a.Seconds(), To: b.Seconds(), Series: i, Tip: fmt.Sprintf("%s: %.2f s: %s", label(i), (b - a).Seconds(), o.Cause)})
				}
			}
			if known {
				c.Rows = append(c.Rows, row)
			}
		}
	}
	return c
}

// cronChart is, for each latency, the share of the slots that had started by then.
// A line that does not reach 100 % has slots that never started.
func cronChart(list []*Record) report.Chart {
	c := report.Chart{Title: "Cron slots: share that had started within", X: "s after the slot", Y: "% of the slots"}
	some := false
	for i, r := range list {
		line := report.Line{Name: label(i)}
		// A schedule that cannot be read is told by its promise.
		slots, _, _ := slo.Slots(r.History, slo.Stopped(r.History))
		count, last := map[int]int{}, 0
		for _, s := range slots {
			if !s.Started.IsZero() {
				late := int(max(0, s.Started.Sub(s.At).Seconds()))
				count[late]++
				last = max(last, late)
			}
		}
		sum := 0
		for t := 0; t <= last && len(slots) > 0; t++ {
			some = true
			line.Points = append(line.Points, report.Point{X: float64(t), Y: 100 * float64(sum) / float64(len(slots))})
			sum += count[t]
			line.Points = append(line.Points, report.Point{X: float64(t), Y: 100 * float64(sum) / float64(len(slots))})
		}
		c.Lines = append(c.Lines, line)
	}
	if !some {
		c.Lines = nil
	}
	return c
}
