package slo

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/scenarios"
)

// ServiceAvailability promises that what runs in the cluster reaches what it
// needs: pods on other nodes (service.mesh), Services (service.cluster-ip) and the
// cluster's DNS (service.dns), as pods on every node see it all the time.
//
// An outage that a fault explains does not count while the fault acts, nor for
// Recovery after; what of it is longer does. Which faults explain what is in
// explains: one that only stops a kubelet explains no lost packet.
type ServiceAvailability struct {
	// Mesh, ClusterIP and DNS are the longest outages that are allowed: from any
	// node to any other, to any Service, to the DNS.
	Mesh      time.Duration `yaml:"mesh"`
	ClusterIP time.Duration `yaml:"clusterIP"`
	DNS       time.Duration `yaml:"dns"`
	// Available is the least share, in percent, of good samples of each series,
	// without the longest stretch of bad ones, which is judged by its length.
	Available float64 `yaml:"available"`
	// P99 of the answer times of good samples of each series; 0 only tells it. It
	// must be below their deadline of 1 s.
	P99 time.Duration `yaml:"p99"`
	// Recovery is how long after a fault is gone its effects may last.
	Recovery time.Duration `yaml:"recovery"`
	// During gives larger limits to phases and faults that are known to cost more.
	During []ServiceDuring `yaml:"during"`
	// Late is how late a sample may start before it is left out.
	Late time.Duration `yaml:"late"`
	// Min is the least number of samples of each series.
	Min int `yaml:"min"`
}

// ServiceDuring are limits of their own for outages that meet some phases or
// faults. What of such an outage lies outside of all of them is judged by the
// common limits.
type ServiceDuring struct {
	// Phases by their paths; * stands for anything in one part: upgrade/*/kubelet.
	Phases []string `yaml:"phases"`
	// Faults by their ids, each from its injection until it is proven gone.
	Faults []string `yaml:"faults"`
	// After is how long after its end a phase's or a fault's effects last.
	After time.Duration `yaml:"after"`
	// Mesh, ClusterIP and DNS as outside of the phases; 0: as there.
	Mesh      time.Duration `yaml:"mesh"`
	ClusterIP time.Duration `yaml:"clusterIP"`
	DNS       time.Duration `yaml:"dns"`
}

func newServiceAvailability() Checker {
	return &ServiceAvailability{
		Mesh: 3 * time.Second, ClusterIP: 5 * time.Second, DNS: 5 * time.Second,
		Available: 99, Recovery: 60 * time.Second, Late: LateBound, Min: 100,
	}
}

// The kinds of probes, as the agent names them, in the order of the results.
const (
	kindMesh      = "mesh"
	kindClusterIP = "cluster-ip"
	kindDNS       = "dns"
)

var probeKinds = []string{kindMesh, kindClusterIP, kindDNS}

// probeDeadline is how long a sample of a probing pod waits for its answer.
const probeDeadline = time.Second

// Validate implements Validator.
func (c *ServiceAvailability) Validate() []error {
	errs := positive(map[string]time.Duration{"mesh": c.Mesh, "clusterIP": c.ClusterIP, "dns": c.DNS, "late": c.Late})
	errs = append(errs, notNegative(map[string]time.Duration{"p99": c.P99, "recovery": c.Recovery})...)
	if c.P99 >= probeDeadline {
		errs = append(errs, fmt.Errorf("p99: the deadline of the samples is %s: %s could never be exceeded", probeDeadline, c.P99))
	}
	if c.Available < 0 || c.Available > 100 {
		errs = append(errs, fmt.Errorf("available: %v is not between 0 and 100", c.Available))
	}
	if c.Min < 1 {
		errs = append(errs, fmt.Errorf("min: %d samples prove nothing; give at least 1", c.Min))
	}
	for i, d := range c.During {
		if len(d.Phases)+len(d.Faults) == 0 {
			errs = append(errs, fmt.Errorf("during[%d]: neither phases nor faults are named", i))
		}
		if d.Mesh == 0 && d.ClusterIP == 0 && d.DNS == 0 {
			errs = append(errs, fmt.Errorf("during[%d]: nothing is other than outside; give mesh, clusterIP or dns", i))
		}
		for _, err := range notNegative(map[string]time.Duration{"after": d.After, "mesh": d.Mesh, "clusterIP": d.ClusterIP, "dns": d.DNS}) {
			errs = append(errs, fmt.Errorf("during[%d].%w", i, err))
		}
	}
	return errs
}

// Fits implements scenarios.Fitter.
func (c *ServiceAvailability) Fits(run scenarios.Shape) []error {
	var errs []error
	for i, d := range c.During {
		errs = append(errs, fits("during", i, d.Phases, d.Faults, run)...)
	}
	return errs
}

// explains are the families of faults, by the beginnings of their names, that can
// cost samples of a kind from or to a node that they hit:
//
//   - packets are lost by the network itself, and where nobody comes to run;
//   - a Service also leads to pods that are killed, that a runtime does not start,
//     and that a kubelet cannot report as gone;
//   - the DNS is a Service with faults of its own.
var explains = map[string][]string{
	kindMesh:      {"network.", "node.", "cpu.", "memory.", "pids."},
	kindClusterIP: {"network.", "node.", "cpu.", "memory.", "pids.", "pod.", "kubelet.", "containerd."},
	kindDNS:       {"network.", "node.", "cpu.", "memory.", "pids.", "pod.", "kubelet.", "containerd.", "dns."},
}

// probeKey is a series of the probes.
type probeKey struct{ kind, conn, node, to string }

// probeSeries are its samples in the order of their starts.
type probeSeries struct {
	key     probeKey
	period  time.Duration
	bar     time.Duration // of the clocks, at its largest
	samples []history.Timed[history.Sample]
}

// probed takes the samples of all pods together, by series.
func probed(h *history.History) map[probeKey]*probeSeries {
	out := map[probeKey]*probeSeries{}
	for _, p := range h.Probes {
		for _, s := range p.V.Series {
			key := probeKey{s.Kind, s.Conn, p.V.Node, s.To}
			x := out[key]
			if x == nil {
				x = &probeSeries{key: key}
				out[key] = x
			}
			x.period, x.bar = max(x.period, p.V.Period), max(x.bar, p.V.Bar)
			for i, start := range s.Start {
				v := history.Sample{OK: true, Late: time.Duration(s.Late[i]) * time.Microsecond, Err: s.Bad[i]}
				if i < len(s.Took) {
					v.Took = time.Duration(s.Took[i]) * time.Microsecond
				}
				v.OK = v.Err == ""
				x.samples = append(x.samples, history.Timed[history.Sample]{At: p.V.Until + time.Duration(start)*time.Microsecond, V: v})
			}
		}
	}
	for _, x := range out {
		slices.SortStableFunc(x.samples, func(a, b history.Timed[history.Sample]) int { return cmp.Compare(a.At, b.At) })
	}
	return out
}

// Check implements Checker.
func (c *ServiceAvailability) Check(h *history.History) []Result {
	w := serviceWork{h: h, around: look(h), series: probed(h), places: map[string]string{}}
	w.in, w.why = measured(h)
	for _, n := range h.Nodes {
		w.places[n.V.Name] = n.V.Place
	}
	for _, n := range lastNodes(h) {
		w.nodes = append(w.nodes, n.Name)
	}
	var out []Result
	for _, kind := range probeKinds {
		out = append(out, c.kind(w, kind))
	}
	return out
}

// serviceWork is what the promises share.
type serviceWork struct {
	h      *history.History
	around surroundings
	in     span
	why    string // nothing was measured
	series map[probeKey]*probeSeries
	places map[string]string
	nodes  []string // that are there in the end
}

func (w serviceWork) place(node string) string { return cmp.Or(w.places[node], node) }

// name of a series for the reader.
func (w serviceWork) name(k probeKey) string {
	from := "from " + w.place(k.node) + " to "
	switch k.kind {
	case kindMesh:
		return from + w.place(k.to)
	case kindClusterIP:
		return fmt.Sprintf("%s%s (%s connections)", from, k.to, k.conn)
	}
	return "of " + k.to + " " + from + "the DNS"
}

// behind says whether a series needs one of some nodes at some moment of a span:
// where it begins, and where those are who answer.
func (w serviceWork) behind(k probeKey, nodes []string, in span) bool {
	service := k.to
	switch {
	case slices.Contains(nodes, k.node):
		return true
	case k.kind == kindMesh:
		return slices.Contains(nodes, k.to)
	case k.kind == kindDNS:
		service = "kube-dns"
	}
	for i, e := range w.h.Endpoints {
		if e.V.Service != service || e.V.Deleted {
			continue
		}
		until := w.h.Last
		for _, next := range w.h.Endpoints[i+1:] {
			if next.V.Namespace == e.V.Namespace && next.V.Slice == e.V.Slice {
				until = next.At
				break
			}
		}
		if !in.touches(span{e.At, until}) {
			continue
		}
		if slices.ContainsFunc(slices.Concat(e.V.Ready, e.V.Other), func(n string) bool { return slices.Contains(nodes, n) }) {
			return true
		}
	}
	return false
}

func (c *ServiceAvailability) limit(kind string) time.Duration {
	return map[string]time.Duration{kindMesh: c.Mesh, kindClusterIP: c.ClusterIP, kindDNS: c.DNS}[kind]
}

func (d ServiceDuring) limit(kind string) time.Duration {
	return map[string]time.Duration{kindMesh: d.Mesh, kindClusterIP: d.ClusterIP, kindDNS: d.DNS}[kind]
}

// allowed are the limits of During, for all series of a kind.
func (c *ServiceAvailability) allowed(kind string, around surroundings) limits {
	l := limits{base: c.limit(kind)}
	for _, d := range c.During {
		l.in = append(l.in, limit{around.window(d.Phases, d.Faults, d.After), max(l.base, d.limit(kind))})
	}
	return l
}

// excused adds the faults that explain what a series may see.
func (c *ServiceAvailability) excused(l limits, w serviceWork, s *probeSeries) limits {
	l.in = slices.Clone(l.in)
	slack := watchSlack + s.bar
	for _, f := range w.around.faults {
		known := slices.ContainsFunc(explains[s.key.kind], func(family string) bool { return strings.HasPrefix(f.Fault, family) })
		if !known || f.acting == (span{}) {
			continue
		}
		wide := span{f.acting.from - slack, f.acting.to + c.Recovery + slack}
		if !w.behind(s.key, f.Nodes, wide) {
			continue
		}
		x := window{name: "fault " + f.Name, wide: []span{wide}}
		if n := (span{f.acting.from + slack, f.acting.to + c.Recovery - slack}); n.from < n.to {
			x.narrow = []span{n}
		}
		if f.GoneAt == nil {
			x.open = f.Name
		}
		l.in = append(l.in, limit{x, forever})
	}
	return l
}

// serviceSum is what all series of a kind come to.
type serviceSum struct {
	outages, explained int
	worst              time.Duration // p99
	worstAt            string
	least              float64 // share of good samples
	leastAt            string
}

func (c *ServiceAvailability) kind(w serviceWork, kind string) Result {
	r := Result{Name: "service." + kind, Unit: "s", Budget: seconds(c.limit(kind)), Promise: c.promise(kind), Allowed: c.windows(kind)}
	var g grounds
	if w.why != "" {
		g.doubt("%s", w.why)
	}
	base := c.allowed(kind, w.around)
	worst := newParts(base)
	keys := slices.SortedFunc(maps.Keys(w.series), func(a, b probeKey) int {
		return cmp.Or(cmp.Compare(w.place(a.node), w.place(b.node)), cmp.Compare(w.place(a.to), w.place(b.to)), cmp.Compare(a.conn, b.conn))
	})
	keys = slices.DeleteFunc(keys, func(k probeKey) bool { return k.kind != kind })
	sum := serviceSum{least: 100}
	for _, k := range keys {
		c.series(&g, &r, worst, &sum, w, w.series[k], len(base.in))
	}
	for _, name := range w.absent(kind, keys) {
		g.doubt("no sample %s", name)
	}
	for _, gap := range gaps(w.h, w.in, "probe/", "watch/endpoints") {
		g.note("%s", gapText([]history.Gap{gap})) // what is missing by it is found by its time
	}
	worst.take(&r)
	if len(keys) > 0 {
		g.note("%s in %d samples of %s, %d more explained by faults", count(sum.outages, "outage", "outages"), r.Samples, count(len(keys), "series", "series"), sum.explained)
		g.note("%.2f %% available at least%s", sum.least, sum.leastAt)
		g.note("p99 of good answers %s at most%s", length(sum.worst), sum.worstAt)
		g.note("%s", w.cost())
	}
	g.decide(&r)
	return r
}

// series judges one series. Of its limits the first few are those of During.
func (c *ServiceAvailability) series(g *grounds, r *Result, worst *parts, sum *serviceSum, w serviceWork, s *probeSeries, during int) {
	name := w.name(s.key)
	by := c.excused(c.allowed(s.key.kind, w.around), w, s)
	t := tell(s.samples, s.period, w.in, rules{late: c.Late})
	r.Samples += t.judged
	r.Excluded += t.late + t.outside
	for _, o := range t.outages {
		rule := by.rule(o)
		text := fmt.Sprintf("%s %s down for %s (+-%s): %s", s.key.kind, name, length(o.Length()), length(o.ErrorBar()), o.text())
		explained := rule.part >= during && !rule.fails && rule.most <= by.base && rule.open == ""
		if explained {
			text += ", explained by the " + by.in[rule.part].name
		}
		n := len(r.Evidence)
		w.around.evidence(r, o.span(), text)
		if explained {
			sum.explained++
			if n < maxEvidence {
				r.Evidence[n].Beside = true
			}
			continue
		}
		sum.outages++
		say := fmt.Sprintf("outage of %s (+-%s) %s at %s", length(o.Length()), length(o.ErrorBar()), name, clock(o.FirstBad))
		seen := newParts(by)
		by.judge(g, seen, o, say, "probes")
		worst.merge(seen)
	}
	c.blind(g, w, s, by, name, t)
	if t.starved() {
		g.doubt("the pod was starved: of %d samples %s %d started more than %s late", t.judged+t.late, name, t.late, length(c.Late))
	}
	c.share(g, sum, w, s, by, during, name, t.outages)
}

// blind finds the times without a sample, outside of what faults and phases
// explain, in which an outage longer than is allowed could hide.
func (c *ServiceAvailability) blind(g *grounds, w serviceWork, s *probeSeries, by limits, name string, t tally) {
	last := w.in.from
	look := func(at time.Duration) {
		hole := span{last, at}
		hidden := slices.ContainsFunc(t.outages, func(o Outage) bool { return o.FirstBad <= hole.from && hole.to <= o.LastBad })
		if d := by.outside(hole, false); d > by.base && !hidden { // within an outage it changes nothing
			g.doubt("no sample %s for %s from %s on: an outage could hide there", name, length(d), clock(last))
		}
		last = at
	}
	for _, x := range s.samples {
		if x.At >= w.in.from && x.At <= w.in.to && x.V.Late <= c.Late {
			look(x.At)
		}
	}
	look(w.in.to)
}

// share judges how many of the samples were good, and how late their answers
// came, outside of what faults and phases allow.
func (c *ServiceAvailability) share(g *grounds, sum *serviceSum, w serviceWork, s *probeSeries, by limits, during int, name string, outages []Outage) {
	longest := span{-1, -1}
	for _, o := range outages {
		for _, x := range o.stretches {
			if limit, _ := by.of(x, false); limit < forever && x.to-x.from >= longest.to-longest.from {
				longest = x
			}
		}
	}
	good, all, allowed := 0, 0, 0
	var took []time.Duration
	for _, x := range s.samples {
		if x.At < w.in.from || x.At > w.in.to || x.V.Late > c.Late {
			continue
		}
		if _, part := by.of(span{x.At, x.At}, false); part >= 0 {
			if part < during {
				allowed++
			}
			continue
		}
		if x.At >= longest.from && x.At <= longest.to {
			allowed++
			continue
		}
		all++
		if x.V.OK {
			good++
			took = append(took, x.V.Took)
		}
	}
	if n := all + allowed; n < c.Min {
		g.doubt("%s %s that no fault excuses, at least %d are needed", count(n, "sample", "samples"), name, c.Min)
	}
	if all == 0 {
		return
	}
	share := 100 * float64(good) / float64(all)
	if share < sum.least {
		sum.least, sum.leastAt = share, " "+name
	}
	if share < c.Available {
		g.fail("%d of %d samples %s were good (%.2f %%), without the longest stretch of bad ones", good, all, name, share)
	}
	p := percentile(took, 0.99)
	if p > sum.worst {
		sum.worst, sum.worstAt = p, " "+name
	}
	if c.P99 > 0 && p > c.P99 {
		g.fail("p99 of good answers %s is %s", name, length(p))
	}
}

// absent names the series of a kind that must be there and are not: from every
// node, to all other nodes, or to whatever any node has asked.
func (w serviceWork) absent(kind string, have []probeKey) []string {
	var out []string
	miss := func(k probeKey) {
		if !slices.Contains(have, k) {
			out = append(out, w.name(k))
		}
	}
	if kind == kindMesh {
		if len(w.nodes) < 2 {
			return []string{"between nodes: the record knows of fewer than two"}
		}
		for _, n := range w.nodes {
			if !slices.ContainsFunc(have, func(k probeKey) bool { return k.node == n }) {
				out = append(out, "from "+w.place(n))
				continue
			}
			for _, to := range w.nodes {
				if to != n {
					miss(probeKey{kindMesh, "", n, to})
				}
			}
		}
		return out
	}
	if len(have) == 0 {
		return []string{map[string]string{kindClusterIP: "of a Service: the workload needs Deployments, which have one each", kindDNS: "of the DNS"}[kind]}
	}
	asked := map[probeKey]bool{}
	for _, k := range have {
		k.node = ""
		asked[k] = true
	}
	for _, n := range w.nodes {
		if !slices.ContainsFunc(have, func(k probeKey) bool { return k.node == n }) {
			out = append(out, "from "+w.place(n))
			continue
		}
		for k := range asked {
			k.node = n
			miss(k)
		}
	}
	slices.Sort(out)
	return out
}

// cost says what the probing pods took.
func (w serviceWork) cost() string {
	type process struct{ node, id string }
	first, last := map[process]history.Probes{}, map[process]history.Probes{}
	for _, p := range w.h.Probes {
		id := process{p.V.Node, p.V.Process}
		if _, ok := first[id]; !ok {
			first[id] = p.V
		}
		last[id] = p.V
	}
	share, bar := 0.0, time.Duration(0)
	for id, l := range last {
		f := first[id]
		if d := l.Until - f.Until; d > 0 {
			share += float64(l.CPU-f.CPU) / float64(d)
		}
		bar = max(bar, l.Bar)
	}
	return fmt.Sprintf("the probing pods took %.1f %% of a core, their clocks were known within %s", 100*share, length(bar))
}

// windows are the budgets of those that have their own, in words.
func (c *ServiceAvailability) windows(kind string) []string {
	var out []string
	for _, d := range c.During {
		if d.limit(kind) > 0 {
			out = append(out, allowedIn(d.Phases, d.Faults, d.After, length(d.limit(kind))))
		}
	}
	return out
}

func (c *ServiceAvailability) promise(kind string) string {
	p := "no outage longer than " + length(c.limit(kind))
	p += fmt.Sprintf(", but by faults of the nodes on the way and %s after", length(c.Recovery))
	if c.Available > 0 {
		p += fmt.Sprintf(", %v %% of the samples good", c.Available)
	}
	if c.P99 > 0 {
		p += ", p99 of good answers <= " + length(c.P99)
	}
	return p
}
