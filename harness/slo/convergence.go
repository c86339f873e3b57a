package slo

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/scenarios"
)

// Convergence promises that all is as before soon after each fault was healed
// (convergence.faults), and soon after the run came to its end and the last fault
// was healed (convergence.end): nodes Ready, schedulable and without taints of
// the node controller's, etcd members healthy voters, static pods ready, the
// workload's replicas ready, the API up.
//
// It counts from the end of the undo; of a fault that the cluster mends by itself
// from when it was proven. While another fault acts nobody knows whose trouble it
// is: that time is in the error bar. What a step of the upgrade does to its own
// node is not held against a fault, nor is what the API and the workload do while
// a step runs.
type Convergence struct {
	// Within is how long it may take.
	Within time.Duration `yaml:"within"`
	// During gives larger limits to phases or faults that are known to cost more.
	During []ConvergenceDuring `yaml:"during"`
}

// ConvergenceDuring is a limit of its own for some phases or faults.
type ConvergenceDuring struct {
	// Phases by their paths; * stands for anything in one part.
	Phases []string `yaml:"phases"`
	// Faults by their ids, each from its injection until it is proven gone.
	Faults []string `yaml:"faults"`
	// After is how long after its end a phase's or a fault's effects last.
	After time.Duration `yaml:"after"`
	// Within is how long it may take then.
	Within time.Duration `yaml:"within"`
}

func newConvergence() Checker { return &Convergence{Within: 60 * time.Second} }

// Validate implements Validator.
func (c *Convergence) Validate() []error {
	errs := positive(map[string]time.Duration{"within": c.Within})
	for i, d := range c.During {
		if len(d.Phases)+len(d.Faults) == 0 {
			errs = append(errs, fmt.Errorf("during[%d]: neither phases nor faults are named", i))
		}
		list := append(positive(map[string]time.Duration{"within": d.Within}), notNegative(map[string]time.Duration{"after": d.After})...)
		for _, err := range list {
			errs = append(errs, fmt.Errorf("during[%d].%w", i, err))
		}
	}
	return errs
}

// Fits implements scenarios.Fitter.
func (c *Convergence) Fits(run scenarios.Shape) []error {
	var errs []error
	for i, d := range c.During {
		errs = append(errs, fits("during", i, d.Phases, d.Faults, run)...)
	}
	return errs
}

// calmAfter is how long nothing may be amiss before all is as before, as the
// run's own gate has it.
const calmAfter = 10 * time.Second

// trouble is a time in which something was not as it should be. It is over at
// some moment of end.
type trouble struct {
	from time.Duration
	end  span
	open bool   // it was not over when the samplers stopped
	node string // whose it is; empty: nobody's
	what string
	// shared says that it is the API's or the workload's.
	shared bool
}

// Check implements Checker.
func (c *Convergence) Check(h *history.History) []Result {
	around := look(h)
	all := troubles(h)
	end := c.end(h, around, all)
	if len(around.faults) == 0 {
		return []Result{end}
	}
	return []Result{c.faults(h, around, all), end}
}

// start is a result, with what is missing in the record.
func (c *Convergence) start(h *history.History, around surroundings, name string) (Result, *grounds, limits) {
	r, g := Result{Name: "convergence." + name, Unit: "s", Promise: "all is as before within " + length(c.Within)}, &grounds{}
	l := limits{base: c.Within}
	for _, d := range c.During {
		l.in = append(l.in, limit{around.window(d.Phases, d.Faults, d.After), max(c.Within, d.Within)})
		r.Allowed = append(r.Allowed, allowedIn(d.Phases, d.Faults, d.After, length(d.Within)))
	}
	for _, x := range []struct {
		what string
		n    int
	}{{"node", len(h.Nodes)}, {"etcd member", len(h.Etcd)}, {"static pod", len(h.Components)}, {"sample of the API", len(h.Samples)}, {"pod of the workload", len(h.Pods)}} {
		if x.n == 0 {
			g.doubt("no %s is in the record", x.what)
		}
	}
	if list := gaps(h, span{0, Stopped(h)}, "watch/nodes", "watch/components", "watch/pods", "etcd/", "sampler", "sampler/"); len(list) > 0 {
		g.doubt("%s", gapText(list))
	}
	return r, g, l
}

// back is when all was as before.
type back struct {
	at   span
	what string // the last that was amiss
	open bool   // it never was
}

// after finds when all was as before that was to be as before from a moment on:
// nothing is amiss for a while, or until the next fault acts.
func after(from time.Duration, all []trouble, next time.Duration) back {
	b := back{at: span{from, from}}
	for again := true; again; {
		again = false
		calm := b.at.to + calmAfter
		if next >= b.at.to {
			calm = min(calm, next)
		}
		for _, t := range all {
			if t.from >= calm && t.from > b.at.to || t.end.to <= b.at.to {
				continue
			}
			b.at, b.what, b.open = span{max(t.end.from, b.at.from), t.end.to}, t.what, t.open
			again = true
			break
		}
	}
	return b
}

func (c *Convergence) faults(h *history.History, around surroundings, all []trouble) Result {
	r, g, l := c.start(h, around, "faults")
	worst := newParts(l)
	for i, f := range around.faults {
		begin, ok := f.healed()
		if !ok {
			r.Excluded++
			g.note("%s was never undone, or never there: %s", f.Name, f.State)
			continue
		}
		r.Samples++
		next, others := Stopped(h), []span{}
		for n, o := range around.faults {
			if n == i || o.acting == (span{}) {
				continue
			}
			others = append(others, o.acting)
			if o.acting.from >= begin.to {
				next = min(next, o.acting.from)
			}
		}
		mine := slices.DeleteFunc(slices.Clone(all), func(t trouble) bool { return around.excuses(f, t) })
		b := after(begin.to, mine, next)
		if f.GoneAt != nil { // its own proof waits until the victim serves
			b.at.to = max(b.at.to, time.Duration(*f.GoneAt*float64(time.Millisecond)))
		}
		least := outside(span{begin.to, b.at.from}, others)
		most := b.at.to - begin.from
		say := fmt.Sprintf("all was as before %s (+-%s) after %s was healed at %s", length((least+most)/2), length((most-least)/2), f.Name, clock(begin.to))
		if b.what != "" {
			say += ": " + b.what
		}
		l.within(g, worst, span{f.acting.from, b.at.to}, least, most, b.open, say)
		around.evidence(&r, span{begin.from, b.at.to}, say)
	}
	worst.take(&r)
	if len(g.failed)+len(g.doubts) == 0 {
		g.note("%s healed", count(r.Samples, "fault was", "faults were"))
	}
	if r.Samples == 0 {
		g.doubt("no fault was healed")
	}
	g.decide(&r)
	return r
}

// healed is when a fault was healed: between the beginning and the end of its
// undo, or of one that has none, between its act and its proof.
func (f FaultFact) healed() (span, bool) {
	at := func(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
	switch {
	case f.ProvenAt == nil || f.GoneAt == nil:
		return span{}, false
	case f.HealedAt != nil:
		return span{min(at(*f.GoneAt-f.HealMs), at(*f.HealedAt)), at(*f.HealedAt)}, true
	}
	return span{at(*f.ProvenAt - f.EffectMs), at(*f.ProvenAt)}, true
}

// excuses says whether a trouble is surely no fault's but of the upgrade's, or of
// another fault that acts on its node.
func (s surroundings) excuses(of FaultFact, t trouble) bool {
	in := span{t.from, t.end.to}
	for _, p := range s.phases {
		if p.Place == "" || p.Name != "upgrade/"+p.Place || p.Node != t.node && !t.shared {
			continue
		}
		if slices.ContainsFunc(p.spans, in.touches) {
			return true
		}
	}
	return slices.ContainsFunc(s.faults, func(f FaultFact) bool {
		return f.Name != of.Name && t.node != "" && !slices.Contains(of.Nodes, t.node) && f.hits(t.node, in)
	})
}

func (c *Convergence) end(h *history.History, around surroundings, all []trouble) Result {
	r, g, l := c.start(h, around, "end")
	worst := newParts(l)
	begin, ok := time.Duration(0), false
	for _, s := range h.Stages {
		if s.V.Name == "heal" && s.V.State != stateBegan && s.V.Error == "" {
			begin, ok = s.At, true
		}
	}
	var looks []history.Timed[history.Look]
	for _, k := range h.Looks {
		if k.V.Gate == "converge" {
			looks = append(looks, k)
		}
	}
	switch {
	case !ok:
		g.doubt("the record does not say that the last fault was healed")
	case len(looks) == 0:
		g.doubt("the looks of the converge gate are not in the record")
	default:
		r.Samples = len(looks)
		b := after(begin, all, Stopped(h))
		b.meet(begin, looks)
		least, most := max(0, b.at.from-begin), b.at.to-begin
		say := fmt.Sprintf("all was as before %s (+-%s) after the last heal", length((least+most)/2), length((most-least)/2))
		if b.open {
			say = fmt.Sprintf("not all was as before %s after the last heal", length(least))
		}
		if b.what != "" {
			say += ": " + b.what
		}
		in := span{begin, b.at.to}
		l.within(g, worst, in, least, most, b.open, say)
		around.evidence(&r, in, say)
		if len(g.failed)+len(g.doubts) == 0 {
			g.note("%s", say)
		}
	}
	worst.take(&r)
	g.decide(&r)
	return r
}

// meet joins what the record tells with what the run's own gate saw, which looks
// at more, but only now and then, and wants all to have been well for a while.
func (b *back) meet(begin time.Duration, looks []history.Timed[history.Look]) {
	last := looks[len(looks)-1]
	seen := last.At + last.V.Took
	if last.V.Why != "" {
		b.at, b.what, b.open = span{max(b.at.from, last.At), max(b.at.to, seen)}, last.V.Why, true
		return
	}
	if seen <= b.at.to+last.V.Back+lookSlack {
		return // the gate has seen nothing more
	}
	b.at.to = seen
	if n := len(looks) - 2; n >= 0 {
		b.at.from, b.what = max(b.at.from, begin, last.At-last.V.Back-lookSlack), cmp.Or(b.what, looks[n].V.Why)
	}
}

// lookSlack is between two looks of the gate (harness/gate, poll), and what a look
// at all takes at most when all is well.
const lookSlack = 2 * time.Second

// troubles are all that the record tells, in no order.
func troubles(h *history.History) []trouble {
	t := collector{h: h, commits: commitsOf(h), stop: Stopped(h)}
	t.nodes()
	t.members()
	t.static()
	t.workload()
	t.api()
	return t.all
}

// collector turns states into troubles.
type collector struct {
	h       *history.History
	commits commits
	stop    time.Duration
	all     []trouble
}

// state is what is wrong (or nothing) from a moment on.
type state struct {
	at   span
	node string
	why  string
}

// take makes troubles of the states of one thing, in their order.
func (c *collector) take(states []state, shared bool) {
	for i := 0; i < len(states); i++ {
		s := states[i]
		if s.why == "" || s.at.to >= c.stop {
			continue
		}
		t := trouble{from: s.at.to, end: span{c.stop, c.stop}, open: true, node: s.node, what: s.why, shared: shared}
		for i+1 < len(states) && states[i+1].why != "" {
			i++
			t.what = states[i].why
		}
		if i+1 < len(states) && states[i+1].at.to < c.stop {
			end := states[i+1].at
			t.end, t.open = span{max(end.from, t.from), max(end.to, t.from)}, false
		}
		c.all = append(c.all, t)
	}
}

func (c *collector) nodes() {
	by := map[string][]state{}
	phases := Phases(c.h)
	for _, n := range c.h.Nodes {
		s := state{at: c.commits.of(n.V.Revision, n.At), node: n.V.Name}
		who := cmp.Or(n.V.Place, n.V.Name)
		taint := slices.IndexFunc(n.V.Taints, func(t string) bool { return strings.HasPrefix(t, "node.kubernetes.io/") })
		switch {
		case n.V.Deleted && onNode(phases, n.V.Name, n.At, watchSlack):
			// The upgrade removed it: one that comes in its place shows itself.
		case n.V.Deleted:
			s.why = who + " is gone"
		case n.V.Ready != "True":
			s.why = who + " Ready=" + n.V.Ready
		case n.V.Unschedulable:
			s.why = who + " is cordoned"
		case taint >= 0:
			s.why = who + " is tainted " + n.V.Taints[taint]
		}
		by[n.V.Name] = append(by[n.V.Name], s)
	}
	for _, list := range by {
		c.take(list, false)
	}
}

func (c *collector) members() {
	by := map[string][]state{}
	for _, e := range c.h.Etcd {
		s := state{at: span{e.At - memberSlack, e.At}, node: e.V.Node}
		if !e.V.Healthy {
			s.why = "etcd on " + e.V.Node + " is no healthy voter"
		}
		by[e.V.Node] = append(by[e.V.Node], s)
	}
	for _, list := range by {
		c.take(list, false)
	}
}

// static looks at the pods that kubelets run from manifests: those of controllers
// come and go.
func (c *collector) static() {
	by := map[string][]state{}
	for _, e := range c.h.Components {
		if e.V.Manifest == "" {
			continue
		}
		s := state{at: c.commits.of(e.V.Revision, e.At), node: e.V.Node}
		switch {
		case e.V.Deleted:
			s.why = e.V.Pod + " is gone"
		case !e.V.Ready:
			s.why = e.V.Pod + " is not ready"
		}
		by[e.V.Pod] = append(by[e.V.Pod], s)
	}
	for _, list := range by {
		c.take(list, false)
	}
}

// workload looks at the replicas of each owner, once they were all there.
func (c *collector) workload() {
	b := newBooks(c.h, defaultToleration)
	desired := map[string]history.Budget{}
	for _, e := range c.h.Budgets {
		if !e.V.Deleted {
			desired[e.V.Namespace+"/"+e.V.Owner] = e.V
		}
	}
	for who, d := range desired {
		steps := b.steps(b.owned[who])
		var list []state
		ready, whole := 0, false
		for i, s := range steps {
			if s.ready {
				ready++
			} else {
				ready--
			}
			if i+1 < len(steps) && steps[i+1].at == s.at {
				continue // what happens at one moment counts together
			}
			short := int(d.Desired) - ready
			whole = whole || short <= 0
			one := state{at: span{s.at, s.at}}
			if short > 0 {
				one.why = fmt.Sprintf("%s is short of %s", who, count(short, "replica", "replicas"))
			}
			if whole {
				list = append(list, one)
			}
		}
		c.take(list, true)
	}
}

// api looks at the way that clients take: through the load balancer where there
// is one.
func (c *collector) api() {
	balanced := false
	for _, s := range c.h.Series {
		balanced = balanced || s.Endpoint == endpointLB
	}
	for id, s := range c.h.Series {
		if balanced && s.Endpoint != endpointLB {
			continue
		}
		for _, o := range Outages(c.h, id) {
			if o.FirstBad < c.stop {
				c.all = append(c.all, trouble{from: o.FirstBad, end: span{o.LastBad, o.FirstGood}, open: o.Open, what: fmt.Sprintf("%s via %s was down", s.Verb, s.Endpoint), shared: true})
			}
		}
	}
}
