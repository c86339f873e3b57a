package slo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/scenarios"
)

// APIAvailability promises that the API answers: reads from the watch cache,
// quorum reads, writes and watches, each judged by itself (api.read,
// api.quorum-read, api.write, api.watch), and that no watch leaves anything out
// (api.watch-missed). An outage counts from the start of
// the first bad sample to the answer of the first good one. A sample that is
// refused by the API server, or answered later than Slow, counts as bad just as
// one that is not answered.
type APIAvailability struct {
	// Longest outage that is allowed on any judged series.
	Longest time.Duration `yaml:"longest"`
	// Pinned is the longest outage that is allowed on reused connections; 0: as
	// Longest. A pooled connection stays with one API server, also through a load
	// balancer, for as long as that server keeps it open, whatever it answers: an
	// API server whose own etcd member is down holds such a client for as long.
	Pinned time.Duration `yaml:"pinned"`
	// Total down time that is allowed on any judged series, with the time in which
	// nothing was seen; 0: what one outage may last (Longest, Pinned), for each
	// fault, for each control plane that was upgraded, and once besides.
	Total time.Duration `yaml:"total"`
	// P99 of the answer times of good requests; 0 only tells it. It must be below
	// the deadline of the samples, at which an answer is not good any more.
	P99 time.Duration `yaml:"p99"`
	// Slow is how long an answer may take before it is bad. It has no effect on
	// samples whose deadline is shorter.
	Slow time.Duration `yaml:"slow"`
	// Watch is the longest time that a watch may be closed or silent while
	// there was something to tell.
	Watch time.Duration `yaml:"watch"`
	// Endpoints that are judged: lb, direct (every API server by itself), or
	// places such as control-plane[1]. The others are told as evidence.
	Endpoints []string `yaml:"endpoints"`
	// During gives larger limits to phases that are known to cost more.
	During []APIDuring `yaml:"during"`
	// Late is how late a sample may start before it is left out.
	Late time.Duration `yaml:"late"`
	// Min is the least number of samples of each judged series.
	Min int `yaml:"min"`
}

// APIDuring are limits of their own for outages that meet some phases or faults. What
// of such an outage lies outside of all of them is judged by the common limits.
type APIDuring struct {
	// Phases by their paths; * stands for anything in one part: upgrade/*/etcd.
	Phases []string `yaml:"phases"`
	// Faults by their ids, each from its injection until it is proven gone.
	Faults []string `yaml:"faults"`
	// After is how long after its end a phase's or a fault's effects last.
	After time.Duration `yaml:"after"`
	// Longest, Pinned and Watch as outside of the phases; 0: as there.
	Longest time.Duration `yaml:"longest"`
	Pinned  time.Duration `yaml:"pinned"`
	Watch   time.Duration `yaml:"watch"`
}

// limits of outages on connections of a kind.
func (c *APIAvailability) limits(conn string, around surroundings) limits {
	return c.limited(c.longest(conn), around, func(d APIDuring) time.Duration {
		if conn == "reused" && d.Pinned > 0 {
			return d.Pinned
		}
		return d.Longest
	})
}

func (c *APIAvailability) limited(base time.Duration, around surroundings, budget func(APIDuring) time.Duration) limits {
	l := limits{base: base}
	for _, d := range c.During {
		l.in = append(l.in, limit{around.window(d.Phases, d.Faults, d.After), max(base, budget(d))})
	}
	return l
}

// Words of Endpoints.
const (
	endpointLB     = "lb"
	endpointDirect = "direct"
)

func newAPIAvailability() Checker {
	return &APIAvailability{
		Longest: 5 * time.Second, Slow: SlowBound, Watch: 60 * time.Second,
		Endpoints: []string{endpointLB}, Late: LateBound, Min: 100,
	}
}

// Validate implements Validator.
func (c *APIAvailability) Validate() []error {
	errs := notNegative(map[string]time.Duration{"total": c.Total, "p99": c.P99, "pinned": c.Pinned})
	errs = append(errs, positive(map[string]time.Duration{"longest": c.Longest, "watch": c.Watch, "slow": c.Slow, "late": c.Late})...)
	if c.Min < 1 {
		errs = append(errs, fmt.Errorf("min: %d samples prove nothing; give at least 1", c.Min))
	}
	if len(c.Endpoints) == 0 {
		errs = append(errs, fmt.Errorf("endpoints: none would be judged; name %s, %s or a place such as control-plane[0]", endpointLB, endpointDirect))
	}
	for i, d := range c.During {
		if len(d.Phases)+len(d.Faults) == 0 {
			errs = append(errs, fmt.Errorf("during[%d]: neither phases nor faults are named", i))
		}
		if d.Longest == 0 && d.Pinned == 0 && d.Watch == 0 {
			errs = append(errs, fmt.Errorf("during[%d]: nothing is other than outside; give longest, pinned or watch", i))
		}
		for _, err := range notNegative(map[string]time.Duration{"after": d.After, "longest": d.Longest, "pinned": d.Pinned, "watch": d.Watch}) {
			errs = append(errs, fmt.Errorf("during[%d].%w", i, err))
		}
	}
	for _, e := range c.Endpoints {
		if e != endpointLB && e != endpointDirect && !strings.HasSuffix(e, "]") {
			errs = append(errs, fmt.Errorf("endpoints: %q is neither %s, %s nor a place such as control-plane[0]", e, endpointLB, endpointDirect))
		}
	}
	return errs
}

// Fits implements scenarios.Fitter: there is a load balancer only where there is
// something to balance.
func (c *APIAvailability) Fits(run scenarios.Shape) []error {
	var errs []error
	for i, d := range c.During {
		errs = append(errs, fits("during", i, d.Phases, d.Faults, run)...)
	}
	if run.ControlPlanes == 1 && slices.Contains(c.Endpoints, endpointLB) {
		errs = append(errs, fmt.Errorf("endpoints: a cluster of one control plane has no load balancer; write endpoints: [%s]", endpointDirect))
	}
	return errs
}

// verbs in the order of their results.
var verbs = []string{"read", "quorum-read", "write"}

// Check implements Checker.
func (c *APIAvailability) Check(h *history.History) []Result {
	around := look(h)
	in, why := measured(h)
	blows := around.blows()
	places := map[string]string{} // place of each node
	for _, n := range h.Nodes {
		places[n.V.Name] = n.V.Place
	}
	out := make([]Result, 0, len(verbs)+2)
	for _, v := range verbs {
		out = append(out, c.verb(h, v, in, why, places, around, blows))
	}
	out = append(out, c.watch(h, in, why, places, around), c.missed(h, why, places, around))
	for i := range out {
		instrument(h, &out[i])
	}
	return out
}

// judges says whether the promise is about an endpoint.
func (c *APIAvailability) judges(endpoint string, places map[string]string) bool {
	return slices.ContainsFunc(c.Endpoints, func(e string) bool {
		return e == endpoint || e == endpointDirect && endpoint != endpointLB || e == places[endpoint]
	})
}

// absent says of which of the endpoints to be judged nothing is in the record;
// have are those of which there is something.
func (c *APIAvailability) absent(h *history.History, have []string, places map[string]string) []string {
	var out []string
	miss := func(endpoint string) {
		if name := via(endpoint, places); !slices.Contains(have, endpoint) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, e := range c.Endpoints {
		switch e {
		case endpointLB:
			miss(e)
		case endpointDirect:
			servers, known := etcdMembers(h) // kubeadm puts both on each control plane
			for _, s := range servers {
				miss(s)
			}
			if !known {
				out = append(out, e+": the record does not say which API servers there are")
			}
		default:
			found := false
			for _, node := range slices.Sorted(maps.Keys(places)) {
				if places[node] == e {
					found = true
					miss(node)
				}
			}
			if !found {
				out = append(out, "at "+e+": no such node is in the record")
			}
		}
	}
	return out
}

// via says how an endpoint is reached.
func via(endpoint string, places map[string]string) string {
	switch p := places[endpoint]; {
	case endpoint == endpointLB:
		return "via lb"
	case p != "":
		return "at " + p
	}
	return "at " + endpoint
}

func (c *APIAvailability) verb(h *history.History, verb string, in span, why string, places map[string]string, around surroundings, blows int) Result {
	r := Result{Name: "api." + verb, Unit: "s", Budget: seconds(c.Longest), Promise: c.promise(blows), Allowed: c.allowed()}
	var g grounds
	if why != "" {
		g.doubt("%s", why)
	}
	worst := newParts(c.limits("new", around))
	outages, judged := 0, 0
	var apart, sampled []string
	for _, id := range slices.Sorted(maps.Keys(h.Series)) {
		s := h.Series[id]
		if s.Verb != verb {
			continue
		}
		name := fmt.Sprintf("%s (%s)", via(s.Endpoint, places), s.Conn)
		t := tell(h.Samples[id], s.Period, in, rules{late: c.Late, slow: c.Slow})
		if !c.judges(s.Endpoint, places) {
			if len(t.outages) > 0 {
				apart = append(apart, name)
				around.apart(&r, name, t)
			}
			continue
		}
		judged++
		sampled = append(sampled, s.Endpoint)
		r.Samples += t.judged
		r.Excluded += t.late + t.unsent + t.outside
		outages += len(t.outages)
		c.series(&g, worst, name, t, c.limits(s.Conn, around), blows, s.Deadline, h, in)
		for _, o := range t.outages {
			around.evidence(&r, o.span(), fmt.Sprintf("%s %s down for %s (+-%s): %s", verb, name, length(o.Length()), length(o.ErrorBar()), o.text()))
		}
		leftOut(&g, name, t)
	}
	for _, e := range c.absent(h, sampled, places) {
		g.doubt("no %s was sampled %s", verb, e)
	}
	worst.take(&r)
	if outages == 0 && judged > 0 {
		g.note("no outage in %d samples", r.Samples)
	} else if judged > 0 {
		g.note("%s", count(outages, "outage", "outages"))
	}
	if len(apart) > 0 {
		g.note("not judged, but down for a while: %s", strings.Join(apart, ", "))
	}
	g.decide(&r)
	return r
}

// longest is the limit of an outage on connections of a kind.
func (c *APIAvailability) longest(conn string) time.Duration {
	if conn == "reused" && c.Pinned > 0 {
		return c.Pinned
	}
	return c.Longest
}

// total is what all outages of a series may last together.
func (c *APIAvailability) total(longest time.Duration, blows int) time.Duration {
	if c.Total > 0 {
		return c.Total
	}
	return longest * time.Duration(blows)
}

// blows counts what may cost an outage: faults that acted, control planes that
// were upgraded, and one that nobody knows of.
func (s surroundings) blows() int {
	n := 1
	for _, f := range s.faults {
		if f.acting != (span{}) {
			n++
		}
	}
	for _, p := range s.phases {
		if p.Name == "upgrade/"+p.Place && strings.HasPrefix(p.Place, "control-plane[") && p.Outcome != outcomeSkipped {
			n++
		}
	}
	return n
}

// judge judges one outage by its limits.
func (l limits) judge(g *grounds, worst *parts, o Outage, say, until string) ruling {
	r := l.rule(o)
	if r.part < 0 {
		worst.add(-1, o.Length(), o.ErrorBar(), l.base)
	} else {
		worst.add(r.part, o.Length(), o.ErrorBar(), r.limit)
		if r.most > 0 {
			worst.add(-1, r.length(), (r.most-r.least)/2, l.base)
		}
		say += fmt.Sprintf(", %s of it outside of %s", length(r.length()), l.in[r.part].name)
	}
	switch {
	case r.fails:
		g.fail("%s", say)
	case o.Open:
		g.doubt("%s, which had not ended when the %s stopped", say, until)
	case r.open != "":
		g.doubt("%s, but the end of %s is not in the record", say, r.open)
	case r.doubt && o.starved():
		g.doubt("%s, in which %s started late or not at all: the harness was starved", say, count(o.Late, "sample", "samples"))
	case r.doubt:
		g.doubt("%s: too close to the budget for its error bar", say)
	}
	return r
}

// series judges one series.
func (c *APIAvailability) series(g *grounds, worst *parts, name string, t tally, by limits, blows int, deadline time.Duration, h *history.History, in span) {
	total := c.total(by.base, blows)
	var least, most time.Duration
	for _, o := range t.outages {
		r := by.judge(g, worst, o, fmt.Sprintf("outage of %s (+-%s) %s at %s", length(o.Length()), length(o.ErrorBar()), name, clock(o.FirstBad)), "samplers")
		least, most = least+r.least, most+r.most
	}
	if len(t.outages) > 0 {
		most += t.hidden
		sum := (least + most) / 2
		say := fmt.Sprintf("down for %s (+-%s) in all %s, %.2f %% available", length(sum), length((most-least)/2), name, 100*(1-sum.Seconds()/(in.to-in.from).Seconds()))
		if len(by.in) > 0 {
			say += " outside of the phases that allow more"
		}
		g.limit(seconds(least), seconds(most), seconds(total), say)
	} else if t.hidden > total {
		g.doubt("nothing was seen %s for %s in all", name, length(t.hidden))
	}
	if longest, _ := by.of(span{t.blindAt, t.blindAt + t.blind}, true); t.blind > longest {
		g.doubt("no sample %s for %s from %s on: an outage could hide there", name, length(t.blind), clock(t.blindAt))
	}
	if t.judged < c.Min {
		g.doubt("%s %s, at least %d are needed", count(t.judged, "sample", "samples"), name, c.Min)
	}
	if t.starved() {
		g.doubt("the harness was starved: of %d samples %s %d started more than %s late and %d were not sent", t.judged+t.late+t.unsent, name, t.late, length(c.Late), t.unsent)
	}
	if len(t.took) > 0 {
		p := percentile(t.took, 0.99)
		say := fmt.Sprintf("p99 of good answers %s is %s", name, length(p))
		switch {
		case c.P99 > 0 && deadline > 0 && c.P99 >= deadline:
			g.doubt("%s, but their deadline is %s: a budget of %s could never be broken", say, length(deadline), length(c.P99))
		case c.P99 > 0 && p > c.P99 && t.starved():
			g.doubt("%s, but the harness was starved", say)
		case c.P99 > 0 && p > c.P99:
			g.fail("%s", say)
		default:
			g.note("%s", say)
		}
	}
	for _, gap := range gaps(h, in, "sampler", "sampler/") {
		hidden := slices.ContainsFunc(t.outages, func(o Outage) bool { return o.FirstBad <= gap.From && gap.To <= o.LastBad })
		if !hidden { // within an outage it changes nothing
			g.doubt("%s", gapText([]history.Gap{gap}))
		}
	}
}

// leftOut tells what was not judged of a series.
func leftOut(g *grounds, name string, t tally) {
	var parts []string
	if t.outside > 0 {
		parts = append(parts, fmt.Sprintf("%d outside the judged time", t.outside))
	}
	if t.late > 0 {
		parts = append(parts, fmt.Sprintf("%d late", t.late))
	}
	if t.unsent > 0 {
		parts = append(parts, fmt.Sprintf("%d not sent", t.unsent))
	}
	if len(parts) > 0 {
		g.note("left out %s: %s", name, strings.Join(parts, ", "))
	}
}

// apart tells in one piece of evidence what a series that is not judged saw.
func (s surroundings) apart(r *Result, name string, t tally) {
	var sum time.Duration
	var worst Outage
	for _, o := range t.outages {
		sum += o.Length()
		if o.Length() >= worst.Length() {
			worst = o
		}
	}
	n := len(r.Evidence)
	s.evidence(r, worst.span(), fmt.Sprintf("%s %s, %s in all, the longest %s (+-%s): %s", name,
		count(len(t.outages), "outage", "outages"), length(sum), length(worst.Length()), length(worst.ErrorBar()), worst.text()))
	if n < maxEvidence {
		r.Evidence[n].Beside = true
	}
}

// allowed are the budgets of requests in the windows that have their own.
func (c *APIAvailability) allowed() []string {
	var out []string
	for _, d := range c.During {
		var more []string
		for _, x := range []struct {
			what string
			d    time.Duration
		}{{"", d.Longest}, {" on reused connections", d.Pinned}} {
			if x.d > 0 {
				more = append(more, length(x.d)+x.what)
			}
		}
		if more != nil {
			out = append(out, allowedIn(d.Phases, d.Faults, d.After, strings.Join(more, ", ")))
		}
	}
	return out
}

func (c *APIAvailability) promise(blows int) string {
	p := "no outage longer than " + length(c.Longest)
	if c.Pinned > 0 {
		p += " (" + length(c.Pinned) + " on reused connections)"
	}
	switch {
	case c.Total > 0:
		p += ", no more than " + length(c.Total) + " in all"
	case blows > 1:
		p += fmt.Sprintf(", in all no more than %d times that (faults and control planes upgraded)", blows)
	default:
		p += ", nor all together"
	}
	p += ", answers later than " + length(c.Slow) + " are bad"
	if c.P99 > 0 {
		p += ", p99 of good answers <= " + length(c.P99)
	}
	return p + " (" + strings.Join(c.Endpoints, ", ") + ")"
}

// positive and notNegative check durations, by parameter name.
func positive(d map[string]time.Duration) []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(d)) {
		if d[name] <= 0 {
			errs = append(errs, fmt.Errorf("%s: %s is no bound; give a duration above 0", name, d[name]))
		}
	}
	return errs
}

func notNegative(d map[string]time.Duration) []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(d)) {
		if d[name] < 0 {
			errs = append(errs, fmt.Errorf("%s: %s is below 0", name, d[name]))
		}
	}
	return errs
}

func noneBelowZero(n map[string]int) []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(n)) {
		if n[name] < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is below 0", name, n[name]))
		}
	}
	return errs
}
