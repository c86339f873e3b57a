package slo

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"gameday/harness/history"
)

// silent is how long after its acknowledgement a watch may tell of a write
// before that counts as silence: the watch gap allowed in the steady state.
const silent = time.Second

// watchOutages finds the times in which the watch on an endpoint was closed, or
// did not tell of a write that was acknowledged, and counts how often it did.
func watchOutages(h *history.History, endpoint string, in span) (list []Outage, told int) {
	var o *Outage
	writes := acknowledged(h)
	lastSign, seen := in.from, false
	add := func(n Outage) {
		// What a watch tells late after it was opened again belongs to the same
		// outage, as do all writes that it held back together.
		if k := len(list) - 1; k >= 0 && n.FirstBad <= list[k].FirstGood {
			p := &list[k]
			p.FirstBad, p.LastGood = min(p.FirstBad, n.FirstBad), min(p.LastGood, n.LastGood)
			p.LastBad, p.FirstGood = max(p.LastBad, n.LastBad), max(p.FirstGood, n.FirstGood)
			p.Bad, p.Open = p.Bad+n.Bad, p.Open || n.Open
			return
		}
		list = append(list, n)
	}
	for _, w := range h.Watches {
		if w.V.Endpoint != endpoint || w.At > in.to {
			continue
		}
		switch w.V.State {
		case "opened", "event":
			if w.V.State == "event" {
				told++
			}
			if o != nil {
				o.LastBad, o.FirstGood = w.At, w.At // closed is closed until it is opened
				add(*o)
				o, lastSign = nil, w.At
			} else if !seen && w.At > in.from+silent {
				add(Outage{LastGood: in.from, FirstBad: in.from, LastBad: w.At, FirstGood: w.At, Bad: 1, Cause: "not yet opened"})
			}
			if w.V.Delay > silent {
				from := w.At - w.V.Delay
				add(Outage{LastGood: min(lastSign, from), FirstBad: from, LastBad: w.At, FirstGood: w.At, Bad: 1,
					Cause: fmt.Sprintf("told of a write %s after it was acknowledged", length(w.V.Delay))})
			}
			if w.At-lastSign > silent && o == nil && seen {
				// It goes on after a silence, and may never tell what it left out.
				if at, ok := writes.untold(lastSign, w.At-silent); ok {
					add(Outage{LastGood: lastSign, FirstBad: at, LastBad: w.At, FirstGood: w.At, Bad: 1,
						Cause: fmt.Sprintf("silent for %s while there was something to tell", length(w.At-at))})
				}
			}
			lastSign, seen = w.At, true
		case "closed", "failed":
			if o == nil {
				o = &Outage{LastGood: lastSign, FirstBad: w.At, LastBad: w.At, Cause: w.V.State}
				if w.V.Err != "" {
					o.Cause += ": " + w.V.Err
				}
			}
			o.Bad++
			o.LastBad = w.At
		}
	}
	switch {
	case o != nil:
		o.FirstGood, o.Open = in.to, true
		add(*o)
	case told > 0:
		if at, ok := writes.untold(lastSign, in.to-silent); ok {
			add(Outage{LastGood: lastSign, FirstBad: at, LastBad: in.to, FirstGood: in.to, Open: true, Bad: 1, Cause: "did not tell of a write any more"})
		}
	}
	list = slices.DeleteFunc(list, func(o Outage) bool { return o.FirstGood < in.from })
	for i := range list {
		list[i].LastGood = max(list[i].LastGood, in.from)
		list[i].FirstBad = max(list[i].FirstBad, in.from)
		list[i].stretches = []span{list[i].span()}
	}
	return list, told
}

// ack is an acknowledged write: when it began and when it was acknowledged.
type ack struct {
	began, at time.Duration
	revision  int64
	key       string
	// first is the earliest acknowledgement of this and all writes that began
	// later.
	first time.Duration
}

// acks are the acknowledged writes in the order of their beginnings.
type acks []ack

func acknowledged(h *history.History) acks {
	var out acks
	for _, w := range h.Writes {
		if w.V.Outcome == writeOK {
			out = append(out, ack{began: w.At, at: w.At + w.V.Took, revision: w.V.Revision, key: w.V.Key})
		}
	}
	slices.SortStableFunc(out, func(a, b ack) int { return cmp.Compare(a.began, b.began) })
	for i := len(out) - 1; i >= 0; i-- {
		if out[i].first = out[i].at; i+1 < len(out) {
			out[i].first = min(out[i].at, out[i+1].first)
		}
	}
	return out
}

// untold is when the first write that began after a moment was acknowledged, if
// that was before another moment.
func (a acks) untold(after, before time.Duration) (time.Duration, bool) {
	i := sort.Search(len(a), func(i int) bool { return a[i].began > after })
	if i == len(a) || a[i].first >= before {
		return before, false
	}
	return a[i].first, true
}

// missedEvents are the acknowledged writes that the watch on an endpoint passed
// over: it told of a later revision, and never of theirs. Those that an answer
// of 410 kept from it are not among them. disorder counts events that went back
// in time, pending the writes that it may still have told of.
func missedEvents(h *history.History, endpoint string, writes acks) (missed acks, disorder, pending, expected int) {
	told := map[string]bool{}
	var lost []span64    // revisions that 410 hid
	var first, top int64 // revisions that it began after, and that it came to
	begun, again := false, 0
	list := gaps(h, span{0, h.Last}, "watch/canary/"+endpoint)
	slices.SortStableFunc(list, func(a, b history.Gap) int { return cmp.Compare(a.To, b.To) })
	for _, w := range h.Watches {
		if w.V.Endpoint != endpoint {
			continue
		}
		switch w.V.State {
		case "opened":
			if !begun {
				begun, first, top = true, w.V.Revision, w.V.Revision
			}
			for again < len(list) && list[again].To <= w.At {
				lost = append(lost, span64{top, w.V.Revision})
				again++
			}
		case "event":
			if w.V.Revision <= top && begun {
				disorder++
			}
			top = max(top, w.V.Revision)
			told[w.V.Key] = true
		}
	}
	for _, a := range writes {
		switch {
		case !begun || a.revision <= first:
		case slices.ContainsFunc(lost, func(s span64) bool { return s.after < a.revision && a.revision <= s.to }):
		case told[a.key]:
			expected++
		case a.revision < top:
			expected++
			missed = append(missed, a)
		default:
			pending++
		}
	}
	return missed, disorder, pending, expected
}

// span64 are the revisions after one and up to another.
type span64 struct{ after, to int64 }

// missed promises that no watch leaves out a write, as Kubernetes promises of
// every watch: all changes after a revision, in their order
// (https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes).
func (c *APIAvailability) missed(h *history.History, why string, places map[string]string, around surroundings) Result {
	r := Result{Name: "api.watch-missed", Unit: "count", Promise: fmt.Sprintf("no acknowledged write left out by a watch, none told twice or out of order (%s)", strings.Join(c.Endpoints, ", "))}
	var g grounds
	if why != "" {
		g.doubt("%s", why)
	}
	writes := acknowledged(h)
	endpoints := watched(h)
	missed, disorders := 0, 0
	for _, e := range endpoints {
		if !c.judges(e, places) {
			continue
		}
		name := "watch " + via(e, places)
		list, disorder, pending, expected := missedEvents(h, e, writes)
		r.Samples += expected
		r.Excluded += len(writes) - expected
		missed += len(list)
		disorders += disorder
		if len(list) > 0 {
			g.fail("%s left out by the %s", count(len(list), "acknowledged write was", "acknowledged writes were"), name)
		}
		for _, a := range list {
			around.evidence(&r, span{a.began, a.at}, fmt.Sprintf("%s of revision %d was never told by the %s, which went on", a.key, a.revision, name))
		}
		if disorder > 0 {
			g.fail("%s by the %s", count(disorder, "event was told twice or out of order", "events were told twice or out of order"), name)
		}
		switch {
		case expected == 0:
			g.doubt("the %s never told of a write", name)
		case pending > 0:
			g.doubt("%s not told by the %s when it stopped", count(pending, "write was", "writes were"), name)
		}
	}
	for _, e := range c.absent(h, endpoints, places) {
		g.doubt("no watch is in the record %s", e)
	}
	if len(g.failed) == 0 {
		g.note("none of %d left out", r.Samples)
	}
	if list := gaps(h, span{0, h.Last}, "watch/canary/"); len(list) > 0 {
		g.note("but for what is lost lawfully when a watch begins anew (410)")
	}
	r.Observed = float64(missed + disorders)
	g.decide(&r)
	return r
}

// watched are the endpoints that were watched.
func watched(h *history.History) []string {
	var out []string
	for _, w := range h.Watches {
		if !slices.Contains(out, w.V.Endpoint) {
			out = append(out, w.V.Endpoint)
		}
	}
	slices.Sort(out)
	return out
}

func (c *APIAvailability) watch(h *history.History, in span, why string, places map[string]string, around surroundings) Result {
	r := Result{Name: "api.watch", Unit: "s", Budget: seconds(c.Watch), Promise: fmt.Sprintf("no watch closed or silent for longer than %s", length(c.Watch))}
	for _, d := range c.During {
		if d.Watch > 0 {
			r.Allowed = append(r.Allowed, allowedIn(d.Phases, d.Faults, d.After, length(d.Watch)))
		}
	}
	r.Promise += " (" + strings.Join(c.Endpoints, ", ") + ")"
	var g grounds
	if why != "" {
		g.doubt("%s", why)
	}
	endpoints := watched(h)
	by := c.limited(c.Watch, around, func(d APIDuring) time.Duration { return d.Watch })
	worst := newParts(by)
	judged, outages := 0, 0
	for _, e := range endpoints {
		list, told := watchOutages(h, e, in)
		name := "watch " + via(e, places)
		if !c.judges(e, places) {
			if len(list) > 0 {
				around.apart(&r, name, tally{outages: list})
			}
			continue
		}
		judged++
		outages += len(list)
		r.Samples += told
		if told == 0 {
			g.doubt("the %s never told of a write", name)
		}
		for _, o := range list {
			by.judge(&g, worst, o, fmt.Sprintf("%s gone for %s (+-%s) at %s", name, length(o.Length()), length(o.ErrorBar()), clock(o.FirstBad)), "watches")
			around.evidence(&r, o.span(), fmt.Sprintf("%s gone for %s (+-%s): %s", name, length(o.Length()), length(o.ErrorBar()), o.Cause))
		}
	}
	for _, e := range c.absent(h, endpoints, places) {
		g.doubt("no watch is in the record %s", e)
	}
	if judged > 0 {
		g.note("%s, %d writes told", count(outages, "time gone", "times gone"), r.Samples)
	}
	if list := gaps(h, in, "watch/canary/"); len(list) > 0 {
		g.note("%s begun anew (410), which is lawful", count(len(list), "watch was", "watches were"))
	}
	worst.take(&r)
	g.decide(&r)
	return r
}
