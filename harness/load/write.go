package load

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"gameday/harness/history"
	"gameday/harness/report"
	"gameday/harness/slo"
)

//go:embed page.html
var pageHTML string

// Write draws load.json and load.html from the record in dir, beside it.
func Write(dir string, budget time.Duration) (Document, error) {
	h, err := history.Load(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return Document{}, err
	}
	d := Analyse(h, budget)
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return d, fmt.Errorf("load.json: %w", err)
	}
	page, err := d.HTML()
	if err != nil {
		return d, err
	}
	for name, text := range map[string][]byte{"load.json": append(data, '\n'), "load.html": page} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return d, fmt.Errorf("write the load: %w", err)
		}
	}
	return d, nil
}

// HTML renders the load as a page: one self-contained file, no network, no script.
func (d Document) HTML() ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"mark": mark, "seconds": seconds, "rate": rate, "machine": machine, "series": report.SeriesClass,
	}).Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, map[string]any{"Doc": d, "Style": report.Style(), "Charts": d.charts()}); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return out.Bytes(), nil
}

func (d Document) charts() []report.Chart {
	const x = "CronJobs a minute"
	latency := report.Chart{Title: "Start latency", X: x, Y: "s", Limit: d.Budget, Lines: []report.Line{{Name: "p99", Dots: true}, {Name: "p50", Dots: true}}}
	starts := report.Chart{Title: "Starts of pods a second, while there was something to start", X: x, Y: "a second", Lines: []report.Line{{Name: "starts", Dots: true}}}
	way := report.Chart{Title: "Where the time went, on average", X: x, Y: "s"}
	for _, name := range hopNames {
		way.Lines = append(way.Lines, report.Line{Name: name, Dots: true})
	}
	add := func(l *report.Line, at int, v *float64) {
		if v != nil {
			l.Points = append(l.Points, report.Point{X: float64(at), Y: *v})
		}
	}
	for _, s := range d.Steps {
		add(&latency.Lines[0], s.Rate, s.P99)
		add(&latency.Lines[1], s.Rate, s.P50)
		add(&starts.Lines[0], s.Rate, s.PerSecond)
		for i, hop := range s.Hops {
			add(&way.Lines[i], s.Rate, &hop.Mean)
		}
	}
	return []report.Chart{latency, starts, way}
}

// Text writes the load as a table for a terminal.
func (d Document) Text(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "A MINUTE\tSTARTED\tP50\tP99\tLONGEST\tA SECOND\tAND NODE\tMACHINE\t")
	for _, s := range d.Steps {
		fmt.Fprintf(w, "%d\t%d of %d\t%s\t%s\t%s\t%s\t%s\t%s\t%s %s\n", s.Rate, s.Started, s.Slots, seconds(s.P50), seconds(s.P99), seconds(s.Max), rate(s.PerSecond), rate(s.PerNode), machine(s.Busy), mark(s.Verdict), s.Reason)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the load: %w", err)
	}
	for _, why := range d.Why {
		fmt.Fprintln(out, "  ", why)
	}
	_, err := fmt.Fprintf(out, "saturated: %s\n%s: %s\n", d.Saturated, strings.ToUpper(string(d.Verdict)), d.Reason)
	return err
}

func mark(v slo.Verdict) string {
	return map[slo.Verdict]string{slo.Pass: "✓", slo.Fail: "✗", slo.Inconclusive: "?"}[v]
}

func seconds(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%g s", *v)
}

func rate(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", *v)
}

func machine(b *history.Busy) string {
	if b == nil || b.Cores == 0 || b.Used == 0 {
		return "not known"
	}
	return fmt.Sprintf("%.1f of %d cores", b.Used, b.Cores)
}
