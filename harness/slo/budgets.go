package slo

import (
	"cmp"
	"fmt"
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

// byOwner sorts the pods by their owners and by the budgets they count for.
func (b *books) byOwner() {
	for _, e := range b.h.Budgets {
		if list := b.owners[e.V.Namespace]; !slices.Contains(list, e.V.Owner) {
			b.owners[e.V.Namespace] = append(list, e.V.Owner)
		}
	}
	for _, list := range b.owners {
		slices.SortFunc(list, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	}
	budget := map[string]string{} // by namespace/owner
	for _, p := range b.pods {
		key := p.Namespace + "/" + p.Owner
		if len(b.siblings[key]) == 0 {
			budget[key] = b.budgetOwner(p)
		}
		b.siblings[key] = append(b.siblings[key], p)
		if owner := budget[key]; owner != "" {
			b.owned[p.Namespace+"/"+owner] = append(b.owned[p.Namespace+"/"+owner], p)
		}
	}
}

// budgetOwner finds the budget that a pod counts for: the one with the longest
// name, since web-1 is also the beginning of web-1-canary.
func (b *books) budgetOwner(p *pod) string {
	for _, owner := range b.owners[p.Namespace] {
		if ownedBy(p.Owner, owner) {
			return owner
		}
	}
	return ""
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

// step is a change of the ready pods: one came or went.
type step struct {
	at    time.Duration
	uid   string
	ready bool
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
	promised := map[key][]history.Timed[history.Budget]{}
	for _, e := range b.h.Budgets {
		k := key{e.V.Namespace, e.V.Owner}
		promised[k] = append(promised[k], e)
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
		pods := b.owned[k.ns+"/"+k.owner]
		steps := b.steps(pods)
		from, ok := settled(steps, int(latest[k].Desired), b.stop)
		if !ok {
			g.doubt("%s never had its %d pods ready", who, latest[k].Desired)
			continue
		}
		list := b.deficits(pods, steps, promised[k], from, c.Recovery)
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

// steps tell which pods of an owner were ready, and not on their way out, over
// time. What is ordered is the sequence of the record; its times may step
// back a little.
func (b *books) steps(pods []*pod) []step {
	var mine []int32
	for _, p := range pods {
		mine = append(mine, p.changes...)
	}
	slices.Sort(mine)
	ready := map[string]bool{}
	var out []step
	var now time.Duration
	for _, i := range mine {
		e := &b.h.Pods[i]
		now = max(now, b.at[i])
		is := e.V.Ready && e.V.Deleting.IsZero() && !e.V.Deleted && e.V.Phase == "Running"
		if is != ready[e.V.UID] {
			ready[e.V.UID] = is
			out = append(out, step{now, e.V.UID, is})
		}
	}
	return out
}

// settled is when an owner first had all its pods ready: before that it was
// being set up.
func settled(steps []step, desired int, stop time.Duration) (time.Duration, bool) {
	n := 0
	for i, s := range steps {
		if s.ready {
			n++
		} else {
			n--
		}
		// What happens at one moment counts together.
		if last := i+1 == len(steps) || steps[i+1].at != s.at; last && n >= desired {
			return s.at, s.at < stop
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
func (b *books) deficits(pods []*pod, steps []step, promised []history.Timed[history.Budget], from, recovery time.Duration) []deficit {
	excuses := b.excuses(pods, recovery)
	// Nothing changes between two edges.
	edges := []time.Duration{from, b.stop}
	for _, s := range steps {
		edges = append(edges, s.at)
	}
	for _, e := range excuses {
		edges = append(edges, e.from, e.to)
	}
	for _, e := range promised {
		edges = append(edges, e.At)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	var out []deficit
	ready := map[string]bool{}
	next := 0
	for i := 0; i+1 < len(edges); i++ {
		in := span{edges[i], edges[i+1]}
		for next < len(steps) && steps[next].at <= in.from {
			if s := steps[next]; s.ready {
				ready[s.uid] = true
			} else {
				delete(ready, s.uid)
			}
			next++
		}
		if in.from < from || in.to > b.stop {
			continue
		}
		short := least(promised, in.from) - len(ready)
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
func least(promised []history.Timed[history.Budget], at time.Duration) int {
	n := 0
	for _, e := range promised {
		if e.At <= at {
			if n = int(e.V.MinAvailable); e.V.Deleted {
				n = 0
			}
		}
	}
	return n
}
