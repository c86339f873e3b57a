package slo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
)

// ownedBy says whether a pod's owner is that of a budget: the same, or a
// ReplicaSet that a Deployment made, whose name has a hash behind it.
func ownedBy(owner, budget string) bool {
	return owner == budget || strings.HasPrefix(owner, budget+"-")
}

// budgetOwner finds the budget that a pod counts for: the one with the longest
// name, since web-1 is also the beginning of web-1-canary.
func budgetOwner(h *history.History, p *pod) string {
	best := ""
	for _, b := range h.Budgets {
		if b.V.Namespace == p.Namespace && ownedBy(p.Owner, b.V.Owner) && len(b.V.Owner) > len(best) {
			best = b.V.Owner
		}
	}
	return best
}

// excuse is the time in which a fault explains that its victims are missing.
type excuse struct {
	span
	victims []*pod // of the owner, on the nodes that it hit when it began
}

// deficit is a time in which an owner had fewer ready pods than it may.
type deficit struct {
	span
	short   int           // most at a time, beyond what is excused
	area    time.Duration // replica time
	excused time.Duration // replica time that faults explain
}

// step is a change of the ready pods.
type step struct {
	at    time.Duration
	ready map[string]bool // by UID
}

func (c *PodsLedger) belowBudget(b *books, _ []PodFact, g *grounds, r *Result) {
	r.Unit, r.Budget = "replica-s", seconds(c.Allow)
	r.Promise = fmt.Sprintf("ready replicas >= minAvailable, but for those on a node under fault and %s after", length(c.Recovery))
	if c.Allow > 0 {
		r.Promise += fmt.Sprintf("; at most %s replica-seconds short", length(c.Allow))
	}
	type key struct{ ns, owner string }
	var order []key
	latest := map[key]history.Budget{}
	for _, e := range b.h.Budgets {
		k := key{e.V.Namespace, e.V.Owner}
		if _, ok := latest[k]; !ok {
			order = append(order, k)
		} else if e.V.Deleted {
			continue // what it promised while it was there counts
		}
		latest[k] = e.V
	}
	if len(order) == 0 {
		g.doubt("no budget is in the record")
	}
	var excused time.Duration
	for _, k := range order {
		r.Samples++
		who := k.ns + "/" + k.owner
		pods := b.of(k.ns, k.owner)
		from, ok := b.settled(pods, int(latest[k].Desired))
		if !ok {
			g.doubt("%s never had its %d pods ready", who, latest[k].Desired)
			continue
		}
		list := b.deficits(pods, k.ns, k.owner, from, c.Recovery)
		var area time.Duration
		for _, d := range list {
			area += d.area
			excused += d.excused
			if d.area > 0 {
				b.around.evidence(r, d.span, fmt.Sprintf("%s was short of up to %s for %s (%.1f replica-s)", who, count(d.short, "replica", "replicas"), length(d.to-d.from), d.area.Seconds()))
			}
		}
		if seconds(area) > r.Observed {
			r.Observed = seconds(area)
		}
		if area > c.Allow {
			g.fail("%s was %.1f replica-s below its budget of %d", who, area.Seconds(), latest[k].MinAvailable)
		}
	}
	if len(g.failed) == 0 && len(order) > 0 {
		g.note("none of %s below its budget", count(len(order), "owner", "owners"))
	}
	if excused > 0 {
		g.note("%.1f replica-s excused by faults on the pods' nodes", excused.Seconds())
	}
}

// of are the pods that count for a budget.
func (b *books) of(ns, owner string) []*pod {
	var out []*pod
	for _, p := range b.pods {
		if p.Namespace == ns && budgetOwner(b.h, p) == owner {
			out = append(out, p)
		}
	}
	return out
}

// steps tell which pods of an owner were ready, and not on their way out, over
// time. What is ordered is the sequence of the record; its times may step
// back a little.
func (b *books) steps(pods []*pod) []step {
	mine := make(map[string]bool, len(pods))
	for _, p := range pods {
		mine[p.UID] = true
	}
	ready := map[string]bool{}
	var out []step
	var now time.Duration
	for _, e := range b.h.Pods {
		if !mine[e.V.UID] {
			continue
		}
		now = max(now, e.At)
		is := e.V.Ready && e.V.Deleting.IsZero() && !e.V.Deleted && e.V.Phase == "Running"
		if is == ready[e.V.UID] {
			continue
		}
		if ready = maps.Clone(ready); is {
			ready[e.V.UID] = true
		} else {
			delete(ready, e.V.UID)
		}
		if n := len(out); n > 0 && out[n-1].at == now {
			out[n-1].ready = ready
		} else {
			out = append(out, step{now, ready})
		}
	}
	return out
}

// settled is when an owner first had all its pods ready: before that it was
// being set up.
func (b *books) settled(pods []*pod, desired int) (time.Duration, bool) {
	for _, s := range b.steps(pods) {
		if len(s.ready) >= desired {
			return s.at, s.at < b.stop
		}
	}
	return 0, false
}

// excuses are the faults that may take pods of an owner away.
func (b *books) excuses(pods []*pod, recovery time.Duration) []excuse {
	var out []excuse
	for _, f := range b.around.faults {
		if f.acting == (span{}) {
			continue
		}
		e := excuse{span: span{f.acting.from, f.acting.to + recovery}}
		for _, p := range pods {
			if slices.Contains(f.Nodes, p.Node) && p.first <= f.acting.from && (p.ended() == 0 || p.ended() > f.acting.from) {
				e.victims = append(e.victims, p)
			}
		}
		if len(e.victims) > 0 {
			out = append(out, e)
		}
	}
	return out
}

// deficits integrates what was missing below the budget, from a moment to the
// end of the watches.
func (b *books) deficits(pods []*pod, ns, owner string, from, recovery time.Duration) []deficit {
	steps := b.steps(pods)
	excuses := b.excuses(pods, recovery)
	// Nothing changes between two edges.
	edges := []time.Duration{from, b.stop}
	for _, s := range steps {
		edges = append(edges, s.at)
	}
	for _, e := range excuses {
		edges = append(edges, e.from, e.to)
	}
	for _, e := range b.h.Budgets {
		edges = append(edges, e.At)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	var out []deficit
	var ready map[string]bool
	next := 0
	for i := 0; i+1 < len(edges); i++ {
		in := span{edges[i], edges[i+1]}
		for next < len(steps) && steps[next].at <= in.from {
			ready = steps[next].ready
			next++
		}
		if in.from < from || in.to > b.stop {
			continue
		}
		short := b.least(ns, owner, in.from) - len(ready)
		if short <= 0 {
			continue
		}
		excused := min(excusable(excuses, pods, ready, in), short)
		d := deficit{
			span: in, short: short - excused,
			area: time.Duration(short-excused) * (in.to - in.from), excused: time.Duration(excused) * (in.to - in.from),
		}
		if n := len(out); n > 0 && out[n-1].to == in.from && (out[n-1].area > 0) == (d.area > 0) {
			last := &out[n-1]
			last.to, last.short = in.to, max(last.short, d.short)
			last.area, last.excused = last.area+d.area, last.excused+d.excused
			continue
		}
		out = append(out, d)
	}
	return out
}

// excusable is how many pods faults explain to be missing: their victims that
// are not ready, each once, less those in whose place a new pod is ready.
func excusable(excuses []excuse, pods []*pod, ready map[string]bool, in span) int {
	victims := map[*pod]bool{}
	since := in.from
	for _, e := range excuses {
		if e.from <= in.from && in.to <= e.to {
			since = min(since, e.from)
			for _, v := range e.victims {
				victims[v] = true
			}
		}
	}
	if len(victims) == 0 {
		return 0
	}
	missing, replaceable, instead := 0, 0, 0
	for _, p := range pods {
		ended := p.ended() > 0 && p.ended() <= in.from
		switch {
		case victims[p] && !ready[p.UID]:
			missing++
			if ended {
				replaceable++
			}
		case p.first > since && ready[p.UID]:
			instead++
		case p.first <= since && ended && p.ended() > since && !victims[p]:
			instead-- // one of the new pods is there for this one
		}
	}
	return missing - min(replaceable, max(instead, 0))
}

// least is how many pods of an owner must be ready at a moment.
func (b *books) least(ns, owner string, at time.Duration) int {
	n := 0
	for _, e := range b.h.Budgets {
		if e.V.Namespace == ns && e.V.Owner == owner && e.At <= at {
			if n = int(e.V.MinAvailable); e.V.Deleted {
				n = 0
			}
		}
	}
	return n
}
