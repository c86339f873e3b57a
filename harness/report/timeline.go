package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/harness/slo"
)

// axis is the timeline as the page's script draws it. All times are ms since
// the run began.
type axis struct {
	Began int64   `json:"began"` // wall clock, ms since 1970
	Total float64 `json:"total"`
	// From is where the first view begins: making images and a cluster may take
	// longer than the run itself.
	From   float64 `json:"from"`
	Groups []group `json:"groups"`
}

type group struct {
	Name  string `json:"name"`
	Lanes []lane `json:"lanes"`
}

type lane struct {
	Name   string `json:"name"`
	Depth  int    `json:"depth,omitempty"`
	Height int    `json:"height,omitempty"`
	Bars   []bar  `json:"bars,omitempty"`
	Dots   []dot  `json:"dots,omitempty"`
	Band   *band  `json:"band,omitempty"`
}

// bar is an interval; Lo and Hi are the outer ends of its error bar.
type bar struct {
	A     float64  `json:"a"`
	B     float64  `json:"b"`
	Class string   `json:"cls"`
	Label string   `json:"label,omitempty"`
	Tip   string   `json:"tip"`
	Lo    *float64 `json:"lo,omitempty"`
	Hi    *float64 `json:"hi,omitempty"`
}

// dot is a moment; Y is its height from 0 to 1.
type dot struct {
	T     float64 `json:"t"`
	Y     float64 `json:"y,omitempty"`
	Class string  `json:"cls"`
	Tip   string  `json:"tip"`
}

// band is the latency of good answers in buckets of Step ms: the page never sees
// single samples, so a million of them cost it nothing.
type band struct {
	Step float64 `json:"step"`
	P50  []int   `json:"p50"` // ms
	Max  []int   `json:"max"`
	Good []int   `json:"good"`
	Bad  []int   `json:"bad"`
}

// A lane holds at most so many buckets, bars and dots, however long the run:
// more than a screen has pixels for, and as many as a page can be quick with.
const (
	maxBuckets = 1800
	maxBars    = 1500
	maxDots    = 3000
)

// bucket of a latency band: a second, unless there would be too many of them.
func bucket(last time.Duration) time.Duration {
	return (last/(maxBuckets*time.Second) + 1) * time.Second
}

func timeline(h *history.History, d slo.Document) axis {
	a := axis{
		Began: h.Run.Began.UnixMilli(), Total: max(1, toMs(h.Last)),
		Groups: []group{
			{"Run", stageLanes(h)},
			{"Upgrade", phaseLanes(h)},
			{"Faults", faultLanes(h, d)},
			{"Promises: what was spent of them, and when", promiseLanes(d)},
			{"Nodes", nodeLanes(h)},
			{"API: latency (1 ms to 10 s) and outages", apiLanes(h)},
			{"etcd", etcdLanes(h)},
			{"Cron slots: height is lateness (0 to 60 s)", cronLanes(h)},
			{"Pods of the workload", podLanes(h)},
		},
	}
	for _, s := range h.Stages {
		if s.V.Name == "workload" && s.V.State == "began" {
			a.From = toMs(s.At)
		}
	}
	for _, g := range a.Groups {
		for i := range g.Lanes {
			g.Lanes[i].bound()
		}
	}
	return a
}

// bound keeps a lane within its limits. What is drawn together says so, and
// nothing that went wrong is hidden behind what went well.
func (l *lane) bound() {
	if n := (len(l.Bars) + maxBars - 1) / maxBars; n > 1 {
		var few []bar
		for some := range slices.Chunk(l.Bars, n) {
			b := some[0]
			b.Lo, b.Hi, b.Label = nil, nil, ""
			for _, o := range some[1:] {
				b.A, b.B = min(b.A, o.A), max(b.B, o.B)
				if o.Class == "b-bad" && b.Class != o.Class {
					b.Class, b.Tip = o.Class, o.Tip
				}
			}
			b.Tip = fmt.Sprintf("%d together, one of them: %s", len(some), b.Tip)
			few = append(few, b)
		}
		l.Bars = few
	}
	if len(l.Dots) <= maxDots {
		return
	}
	var well, wrong []dot
	for _, d := range l.Dots {
		if d.Class == "d-miss" || d.Class == "d-lost" {
			wrong = append(wrong, d)
		} else {
			well = append(well, d)
		}
	}
	all := len(l.Dots)
	l.Dots = append(every(well, maxDots/2), every(wrong, maxDots/2)...)
	l.Name += fmt.Sprintf(" (%d of %d drawn)", len(l.Dots), all)
}

// every takes at most n of a list, evenly.
func every(list []dot, n int) []dot {
	if len(list) <= n {
		return list
	}
	out := make([]dot, 0, n)
	for i := range n {
		out = append(out, list[i*len(list)/n])
	}
	return out
}

// stageLanes show what the run itself did.
func stageLanes(h *history.History) []lane {
	l := lane{Name: "stages"}
	open := map[string]time.Duration{}
	add := func(s history.Stage, from, to time.Duration, class string) {
		l.Bars = append(l.Bars, bar{A: toMs(from), B: toMs(to), Class: class, Label: s.Name, Tip: strings.TrimSpace("stage " + s.Name + "\n" + s.Text + s.Error)})
	}
	for _, s := range h.Stages {
		if s.V.State == "began" {
			open[s.V.Name] = s.At
			continue
		}
		class := "b-stage"
		if s.V.Error != "" {
			class = "b-bad"
		}
		add(s.V, open[s.V.Name], s.At, class)
		delete(open, s.V.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(open)) {
		add(history.Stage{Name: name, Error: "did not end"}, open[name], h.Last, "b-bad")
	}
	if l.Bars == nil {
		return nil
	}
	return []lane{l}
}

// promiseLanes show the evidence of each promise: what counted for it in one
// way, what only stands beside it in another.
func promiseLanes(d slo.Document) []lane {
	var lanes []lane
	for _, s := range d.SLOs {
		l := lane{Name: mark(s.Verdict) + " " + s.Name}
		for _, e := range s.Evidence {
			b := bar{A: toMs(e.From), B: toMs(e.To), Class: "b-spent", Tip: s.Name + ": " + e.Text}
			if e.Beside {
				b.Class = "b-beside"
			}
			if len(e.During) > 0 {
				b.Tip += "\nduring " + strings.Join(e.During, ", ")
			}
			l.Bars = append(l.Bars, b)
		}
		if l.Bars != nil {
			lanes = append(lanes, l)
		}
	}
	return lanes
}

func phaseLanes(h *history.History) []lane {
	var lanes []lane
	at := map[string]int{}
	began := map[string]history.Timed[history.Phase]{}
	for _, p := range h.Phases {
		i, ok := at[p.V.Path]
		if !ok {
			i = len(lanes)
			at[p.V.Path] = i
			parts := strings.Split(p.V.Path, "/")
			lanes = append(lanes, lane{Name: parts[len(parts)-1], Depth: len(parts) - 1})
		}
		if p.V.State == "began" {
			began[p.V.Path] = p
			continue
		}
		b := began[p.V.Path]
		delete(began, p.V.Path)
		lanes[i].Bars = append(lanes[i].Bars, phaseBar(b.At, p.At, p.V))
	}
	for _, path := range slices.Sorted(maps.Keys(began)) {
		b := began[path]
		b.V.Outcome = "did not end"
		lanes[at[path]].Bars = append(lanes[at[path]].Bars, phaseBar(b.At, h.Last, b.V))
	}
	return lanes
}

func phaseBar(from, to time.Duration, p history.Phase) bar {
	b := bar{A: toMs(from), B: toMs(to), Class: "b-phase", Label: p.Outcome, Tip: strings.TrimSpace(p.Path + " " + p.Node + "\n" + p.Outcome + "\n" + p.Seen)}
	if strings.Count(p.Path, "/") > 1 && p.Expected == "" { // no step
		b.Class = "b-phase2"
		b.Label = ""
	}
	switch p.Outcome {
	case "", "proceeded", "skipped":
	default:
		b.Class = "b-bad"
		b.Label = ""
	}
	return b
}

func faultLanes(h *history.History, d slo.Document) []lane {
	var lanes []lane
	last := map[string]history.Timed[history.Injection]{}
	for _, i := range h.Injections {
		last[i.V.ID] = i
	}
	for _, f := range d.Faults {
		l := lane{Name: f.Name}
		end := toMs(h.Last)
		switch i, ok := last[f.Name]; {
		case f.GoneAt != nil:
			end = *f.GoneAt
		case f.HealedAt != nil:
			end = *f.HealedAt
		case !ok || i.V.State == "unproven" || i.V.State == "skipped": // it never was there
			end = max(f.RequestedAt, toMs(i.At))
		}
		who := f.Fault + " on " + f.Target
		if f.ProvenAt == nil {
			l.Bars = append(l.Bars, bar{A: f.RequestedAt, B: max(end, f.RequestedAt+1), Class: "b-asked", Tip: who + "\nNOT PROVEN: " + f.Error})
			lanes = append(lanes, l)
			continue
		}
		l.Bars = append(l.Bars,
			bar{A: f.RequestedAt, B: end, Class: "b-asked", Tip: who + "\nasked until proven gone"},
			bar{A: *f.ProvenAt, B: end, Class: "b-fault", Label: f.Fault, Tip: who + "\nproven: " + f.Proof})
		if f.HealedAt != nil {
			l.Dots = append(l.Dots, dot{T: *f.HealedAt, Y: .5, Class: "d-ok", Tip: "healed"})
		}
		lanes = append(lanes, l)
	}
	return lanes
}

func nodeLanes(h *history.History) []lane {
	return byKey(h, h.Nodes, func(n history.Node) string { return n.Place }, func(l *lane, n history.Node, from, to float64) {
		if n.Deleted {
			return
		}
		class := "b-old"
		if n.Version != "" && n.Version == h.Run.To {
			class = "b-new"
		}
		b := bar{A: from, B: to, Class: class, Label: n.Version, Tip: n.Name + " " + n.Version}
		if n.Ready != "True" {
			b.Label = "" // it would be below the hatching
		}
		l.Bars = append(l.Bars, b)
		if n.Unschedulable {
			l.Bars = append(l.Bars, bar{A: from, B: to, Class: "b-cordon", Tip: n.Name + " cordoned"})
		}
		if n.Ready != "True" {
			l.Bars = append(l.Bars, bar{A: from, B: to, Class: "b-bad", Tip: n.Name + " Ready=" + n.Ready + " " + strings.Join(n.Taints, " ")})
		}
	})
}

// placesOf are the places of the nodes, which say more than their names.
func placesOf(h *history.History) map[string]string {
	out := map[string]string{}
	for _, n := range h.Nodes {
		out[n.V.Name] = n.V.Place
	}
	return out
}

func etcdLanes(h *history.History) []lane {
	places := placesOf(h)
	return byKey(h, h.Etcd, func(e history.Etcd) string { return cmp.Or(places[e.Node], e.Node) }, func(l *lane, e history.Etcd, from, to float64) {
		b := bar{A: from, B: to, Class: "b-member", Tip: e.Node + " " + e.Version}
		switch {
		case !e.Healthy:
			b.Class, b.Tip = "b-bad", b.Tip+" unhealthy: "+e.Err
		case e.Leader:
			b.Class, b.Label, b.Tip = "b-leader", "leader "+e.Version, b.Tip+" leader"
		case e.Learner:
			b.Class, b.Label, b.Tip = "b-cordon", "learner", b.Tip+" learner"
		}
		l.Bars = append(l.Bars, b)
	})
}

// byKey draws states that last until the next one of the same key.
func byKey[T any](h *history.History, list []history.Timed[T], key func(T) string, draw func(l *lane, v T, from, to float64)) []lane {
	last := map[string]history.Timed[T]{}
	lanes := map[string]*lane{}
	end := func(k string, to time.Duration) {
		if p, ok := last[k]; ok {
			draw(lanes[k], p.V, toMs(p.At), toMs(to))
		}
	}
	for _, e := range list {
		k := key(e.V)
		if lanes[k] == nil {
			lanes[k] = &lane{Name: k}
		}
		end(k, e.At)
		last[k] = e
	}
	var out []lane
	for _, k := range slices.Sorted(maps.Keys(lanes)) {
		end(k, h.Last)
		out = append(out, *lanes[k])
	}
	return out
}

func apiLanes(h *history.History) []lane {
	ids := slices.SortedFunc(maps.Keys(h.Series), func(a, b int) int {
		x, y := h.Series[a], h.Series[b]
		lb := func(s history.Series) int {
			if s.Endpoint == "lb" {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(lb(x), lb(y)), cmp.Compare(x.Endpoint, y.Endpoint), cmp.Compare(x.Verb, y.Verb), cmp.Compare(x.Conn, y.Conn))
	})
	places := placesOf(h)
	var lanes []lane
	for _, id := range ids {
		s := h.Series[id]
		l := lane{Name: fmt.Sprintf("%s %s, %s", cmp.Or(places[s.Endpoint], s.Endpoint), s.Verb, s.Conn), Height: 20, Band: latency(h, id)}
		for _, o := range slo.Outages(h, id) {
			lo, hi := toMs(o.LastGood), toMs(o.FirstGood)
			l.Bars = append(l.Bars, bar{A: toMs(o.FirstBad), B: max(toMs(o.LastBad), toMs(o.FirstBad)+1), Lo: &lo, Hi: &hi, Class: "b-bad", Tip: l.Name + " down: " + o.Cause})
		}
		lanes = append(lanes, l)
	}
	return lanes
}

func latency(h *history.History, series int) *band {
	step := bucket(h.Last)
	n := int(h.Last/step) + 1
	b := &band{Step: toMs(step), P50: make([]int, n), Max: make([]int, n), Good: make([]int, n), Bad: make([]int, n)}
	took := make([][]int, n)
	for _, s := range h.Samples[series] {
		i := int(s.At / step)
		switch {
		case s.At < 0 || s.V.Err == history.NotSent:
		case s.V.OK:
			took[i] = append(took[i], int(s.V.Took.Milliseconds()))
		default:
			b.Bad[i]++
		}
	}
	for i, v := range took {
		if len(v) == 0 {
			continue
		}
		slices.Sort(v)
		b.P50[i], b.Max[i], b.Good[i] = max(1, v[len(v)/2]), max(1, v[len(v)-1]), len(v)
	}
	return b
}

// cronLanes shows a dot for each slot that a CronJob promised, and for each Job
// that none promised for sure, at the time of the slot.
func cronLanes(h *history.History) []lane {
	l := lane{Name: "all CronJobs", Height: 34}
	add := func(cronJob string, at, started time.Time, lost string) {
		d := dot{T: toMs(at.Sub(h.Run.Began)), Class: "d-miss", Tip: cronJob + ": " + lost}
		if !started.IsZero() {
			late := started.Sub(at)
			d.Y, d.Class, d.Tip = min(1, max(0, late.Seconds()/60)), "d-ok", fmt.Sprintf("%s started %s after its slot", cronJob, short(late))
		}
		l.Dots = append(l.Dots, d)
	}
	drawn := map[string]bool{} // Jobs
	// A schedule that cannot be read is told by its promise.
	slots, _, _ := slo.Slots(h, slo.Stopped(h))
	for _, s := range slots {
		lost := "no container was seen to start"
		if len(s.Jobs) == 0 {
			lost = "no Job was made"
		}
		add(s.CronJob, s.At, s.Started, lost)
		for _, uid := range s.Jobs {
			drawn[uid] = true
		}
	}
	started := map[string]time.Time{} // by Job
	for _, p := range h.Pods {
		if !p.V.Started.IsZero() {
			if t, ok := started[p.V.Owner]; !ok || p.V.Started.Before(t) {
				started[p.V.Owner] = p.V.Started
			}
		}
	}
	for _, j := range h.Jobs {
		if j.V.CronJob != "" && !j.V.Slot.IsZero() && !drawn[j.V.UID] {
			drawn[j.V.UID] = true
			add(j.V.CronJob, j.V.Slot, started["Job/"+j.V.Name], "no container was seen to start")
		}
	}
	if len(l.Dots) == 0 {
		return nil
	}
	return []lane{l}
}

// podLanes shows, for each controller, when its pods came, went, and were lost,
// as the ledger accounts for them.
func podLanes(h *history.History) []lane {
	lanes := map[string]*lane{}
	for _, p := range slo.Ledger(h) {
		owner, _, _ := strings.Cut(p.Owner, "/")
		if owner == "" {
			owner = "no owner"
		}
		l := lanes[owner]
		if l == nil {
			l = &lane{Name: owner}
			lanes[owner] = l
		}
		l.Dots = append(l.Dots, dot{T: max(0, toMs(p.Created)), Y: .2, Class: "d-ok", Tip: p.Name + " created"})
		switch p.Cause {
		case slo.CauseAlive, slo.CauseOver, slo.CauseFinished:
			continue
		}
		d := dot{T: toMs(p.Ended), Y: .8, Class: "d-move", Tip: p.Name + " ended: " + p.Cause}
		if p.Why != "" {
			d.Tip += ", " + p.Why
		}
		if p.Cause == slo.CauseUnknown || p.Cause == slo.CauseUnseen {
			d.Class = "d-lost"
		}
		l.Dots = append(l.Dots, d)
	}
	var out []lane
	for _, k := range slices.Sorted(maps.Keys(lanes)) {
		out = append(out, *lanes[k])
	}
	return out
}
