package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gameday/harness/history"
	"gameday/harness/plan"
	"gameday/harness/sample"
	"gameday/harness/slo"
)

// Terminal shows a run while it goes: one line for each thing that happens,
// with the time since the run began. It is fed by the history's hook, so what
// it shows is what is recorded. Nobody ever waits for the terminal but Flush and
// Verdict, and they for 5 s at most.
type Terminal struct {
	lines *queue
	color bool

	mu      sync.Mutex
	began   time.Time
	series  map[int]history.Series
	outages map[int]*outage
	asked   map[string]time.Duration // injection id: when its injection began
	healing map[string]time.Duration
	running map[string]bool // injections proven and not yet gone
	stages  map[string]time.Duration
}

// lb is the endpoint of the load balancer.
const lb = "lb"

// outage is one that is under way on a series.
type outage struct {
	lastGood, firstBad, lastBad, firstGood time.Duration
	// flaps: good samples lie between the bad ones.
	flaps bool
}

// NewTerminal writes to w; color only if w is a terminal.
func NewTerminal(w io.Writer, color bool) *Terminal {
	return &Terminal{
		lines: &queue{w: w}, color: color, began: time.Now(),
		series: map[int]history.Series{}, outages: map[int]*outage{},
		asked: map[string]time.Duration{}, healing: map[string]time.Duration{}, running: map[string]bool{}, stages: map[string]time.Duration{},
	}
}

// Say shows a line of progress.
func (t *Terminal) Say(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line(time.Since(t.began), "", fmt.Sprintf(format, args...), "")
}

// Plan shows how large the run is and how long it may take.
func (t *Terminal) Plan(p *plan.Plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var faults int
	p.Each(func(s *plan.Step) {
		if s.Fault != nil {
			faults++
		}
	})
	b := p.Budget
	t.line(time.Since(t.began), "plan", fmt.Sprintf("%d steps, %d faults, at most %s; away at once: etcd %d of %d, API servers %d of %d, nodes %d of %d",
		p.Count, faults, p.Bound, b.Etcd.Most, b.Etcd.Of, b.APIServers.Most, b.APIServers.Of, b.Nodes.Most, b.Nodes.Of), "")
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
)

// line queues one line; it is called with mu held.
func (t *Terminal) line(at time.Duration, word, text, color string) {
	at = max(at, 0)
	stamp := fmt.Sprintf("%d:%02d", int(at.Minutes()), int(at.Seconds())%60)
	word = fmt.Sprintf("%-8s", word)
	if t.color && color != "" {
		word = "\x1b[" + color + "m" + word + "\x1b[0m"
	}
	t.lines.put(fmt.Sprintf("%6s  %s %s\n", stamp, word, text))
}

// Flush waits until what was to be shown is, within its bound.
func (t *Terminal) Flush() { t.lines.flush(flushWithin) }

// Event shows what is worth a line.
func (t *Terminal) Event(e history.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case e.Run != nil:
		t.began = e.Run.Began
		t.line(0, "run", fmt.Sprintf("%s %s, seed %d", e.Run.ID, e.Run.Scenario, e.Run.Seed), bold)
	case e.Stage != nil:
		t.stage(e)
	case e.Phase != nil:
		t.phase(e)
	case e.Injection != nil:
		t.injection(e)
	case e.Series != nil:
		t.series[e.Series.ID] = *e.Series
	case e.Sample != nil:
		t.sample(e)
	case e.Gap != nil:
		t.line(e.At, "gap", fmt.Sprintf("%s has no data for %s: %s", e.Gap.Source, short(e.Gap.To-e.Gap.From), e.Gap.Reason), yellow)
	case e.End != nil:
		t.notOver(e.At)
	case e.Finding != nil:
		t.line(e.At, "finding", fmt.Sprintf("%s: %s", e.Finding.What, e.Finding.Evidence), red)
	}
}

func (t *Terminal) stage(e history.Event) {
	s := e.Stage
	if s.State == "began" {
		t.stages[s.Name] = e.At
		return
	}
	took := short(e.At - t.stages[s.Name])
	if s.Error != "" {
		t.line(e.At, s.Name, fmt.Sprintf("failed after %s: %s", took, s.Error), red)
		return
	}
	if s.Text != "" {
		s.Text += ", "
	}
	t.line(e.At, s.Name, s.Text+took, "")
}

func (t *Terminal) phase(e history.Event) {
	p := e.Phase
	text := fmt.Sprintf("%-46s %s", p.Path+" "+p.State, p.Node)
	color := ""
	if p.Outcome != "" && p.Outcome != "proceeded" {
		text += " " + p.Outcome
		color = yellow
	}
	if p.State == "ended" && p.Seen != "" {
		text += " (" + p.Seen + ")"
	}
	t.line(e.At, "phase", strings.TrimRight(text, " "), color)
}

func (t *Terminal) injection(e history.Event) {
	i := e.Injection
	who := fmt.Sprintf("%s %s on %s", i.ID, i.Fault, strings.Join(i.Targets, ", "))
	switch i.State {
	case "armed": // from then on it is being injected
		t.asked[i.ID] = e.At
	case "proven":
		t.running[i.ID] = true
		t.line(e.At, "fault", fmt.Sprintf("%-46s proven %s (%s)", who, short(e.At-t.asked[i.ID]), i.Proof), yellow)
	case "rearmed", "lost":
		t.line(e.At, "fault", fmt.Sprintf("%-46s %s %s%s", who, i.State, i.Proof, i.Error), yellow)
	case "healing":
		t.healing[i.ID] = e.At
	case "gone":
		delete(t.running, i.ID)
		from, healed := t.healing[i.ID]
		if !healed { // the cluster mends it by itself, from when it was hit
			from = t.asked[i.ID]
		}
		t.line(e.At, "heal", fmt.Sprintf("%-46s gone %s (%s)", who, short(e.At-from), i.Proof), green)
	case "unproven", "stuck", "skipped":
		delete(t.running, i.ID)
		t.line(e.At, "fault", fmt.Sprintf("%-46s %s: %s", who, strings.ToUpper(i.State), i.Error), red)
	}
}

// sample shows outages of the way through the load balancer once they are over;
// the direct ways are in the report. Samples come in the order of their ends: an
// outage is over when a sample was good that began a whole deadline after the
// last bad one, so that none that is older can still fail.
func (t *Terminal) sample(e history.Event) {
	if e.Sample.Err == sample.NotSent || e.Sample.Late > lateBound {
		return // the harness's own fault: it says nothing of the cluster
	}
	s := t.series[e.Sample.Series]
	o := t.outages[e.Sample.Series]
	if o == nil {
		o = &outage{lastGood: e.At, firstBad: -1, firstGood: -1}
		t.outages[e.Sample.Series] = o
	}
	switch {
	case !e.Sample.OK:
		if o.firstBad < 0 || e.At < o.firstBad {
			o.firstBad = e.At
		}
		o.flaps = o.flaps || o.firstGood >= 0 && e.At > o.firstGood
		if o.lastBad = max(o.lastBad, e.At); o.firstGood < o.lastBad {
			o.firstGood = -1
		}
		return
	case o.firstBad < 0 || e.At < o.firstBad:
		o.lastGood = max(o.lastGood, e.At)
		return
	case e.At <= o.lastBad:
		return
	}
	if o.firstGood < 0 || e.At < o.firstGood {
		o.firstGood = e.At
	}
	if e.At-o.lastBad < s.Deadline {
		return
	}
	if s.Endpoint == lb {
		least, most := o.lastBad-o.firstBad, o.firstGood-min(o.lastGood, o.firstBad)
		text := fmt.Sprintf("%s %s via LB %s (+-%s)", s.Verb, s.Conn, short((least+most)/2), short((most-least)/2))
		if o.flaps {
			text = fmt.Sprintf("%s %s via LB on and off for %s", s.Verb, s.Conn, short(most))
		}
		if len(t.running) > 0 {
			text += " during " + strings.Join(slices.Sorted(maps.Keys(t.running)), ", ")
		}
		t.line(e.At, "outage", text, yellow)
	}
	*o = outage{lastGood: e.At, firstBad: -1, firstGood: -1}
}

// notOver shows the outages that sampling did not see the end of.
func (t *Terminal) notOver(at time.Duration) {
	for _, id := range slices.Sorted(maps.Keys(t.outages)) {
		o, s := t.outages[id], t.series[id]
		if s.Endpoint != lb || o.firstBad < 0 {
			continue
		}
		text := "not seen to be over"
		if o.firstGood >= 0 {
			text = "over at " + clock(o.firstGood) + ", if no later answer is missing"
		}
		t.line(at, "outage", fmt.Sprintf("%s %s via LB since %s, %s", s.Verb, s.Conn, clock(o.firstBad), text), yellow)
	}
}

// Verdict shows the last lines: the verdict, why, where the report is, and how
// to run it again.
func (t *Terminal) Verdict(d slo.Document, dir, rerun string) {
	defer t.Flush()
	t.mu.Lock()
	defer t.mu.Unlock()
	at := time.Since(t.began)
	for _, s := range d.SLOs {
		color := map[slo.Verdict]string{slo.Pass: green, slo.Fail: red, slo.Inconclusive: yellow}[s.Verdict]
		t.line(at, "slo", fmt.Sprintf("%s %-12s  %-20s %s: %s", mark(s.Verdict), s.Verdict, s.Name, s.Short(), s.Reason), color)
	}
	color := map[slo.Verdict]string{slo.Pass: green, slo.Fail: red}[d.Verdict]
	t.line(at, "verdict", fmt.Sprintf("%s (exit %d): %s", strings.ToUpper(word(d)), d.ExitCode, d.Reason), color)
	t.line(at, "report", dir+"/report.html", bold)
	t.line(at, "again", rerun, "")
}

// short is a duration as a person reads it.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}
