package slo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
)

// silent is how long after its acknowledgement a watch may tell of a write
// before that counts as silence: the watch gap allowed in the steady state.
const silent = time.Second

// WatchOutages finds the times in which the watch on an endpoint was closed, or
// did not tell of a write that was acknowledged.
func WatchOutages(h *history.History, endpoint string) []Outage {
	list, _ := watchOutages(h, endpoint, span{0, h.Last})
	return list
}

// watchOutages also counts how often the watch told of a write.
func watchOutages(h *history.History, endpoint string, in span) (list []Outage, told int) {
	var o *Outage
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
				o = nil
			} else if !seen && w.At > in.from+silent {
				add(Outage{LastGood: in.from, FirstBad: in.from, LastBad: w.At, FirstGood: w.At, Begun: true, Bad: 1, Cause: "not yet opened"})
			}
			if w.V.Delay > silent {
				from := w.At - w.V.Delay
				add(Outage{LastGood: min(lastSign, from), FirstBad: from, LastBad: w.At, FirstGood: w.At, Bad: 1,
					Cause: fmt.Sprintf("told of a write %s after it was acknowledged", length(w.V.Delay))})
			}
			lastSign, seen = w.At, true
		case "closed", "failed":
			if o == nil {
				o = &Outage{LastGood: lastSign, FirstBad: w.At, LastBad: w.At, Begun: !seen, Cause: w.V.State}
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
		if at, ok := untold(h, lastSign, in.to-silent); ok {
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

// untold is when the first write after a moment was acknowledged, if that was
// before another moment.
func untold(h *history.History, after, before time.Duration) (time.Duration, bool) {
	first, ok := before, false
	for _, w := range h.Writes {
		if at := w.At + w.V.Took; w.V.Outcome == writeOK && w.At > after && at < first {
			first, ok = at, true
		}
	}
	return first, ok
}

func (c *APIAvailability) watch(h *history.History, in span, why string, places map[string]string, around surroundings) Result {
	r := Result{Name: "api.watch", Unit: "s", Budget: seconds(c.Watch), Promise: fmt.Sprintf("no watch closed or silent for longer than %s (%s)", length(c.Watch), strings.Join(c.Endpoints, ", "))}
	var g grounds
	if why != "" {
		g.doubt("%s", why)
	}
	var endpoints []string
	for _, w := range h.Watches {
		if !slices.Contains(endpoints, w.V.Endpoint) {
			endpoints = append(endpoints, w.V.Endpoint)
		}
	}
	slices.Sort(endpoints)
	var worst Outage
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
			if o.Length() >= worst.Length() {
				worst = o
			}
			say := fmt.Sprintf("%s gone for %s (+-%s) at %s", name, length(o.Length()), length(o.ErrorBar()), clock(o.FirstBad))
			switch {
			case o.least() > c.Watch:
				g.fail("%s", say)
			case o.Open:
				g.doubt("%s, which had not ended when the watches stopped", say)
			case o.Most() > c.Watch:
				g.doubt("%s: too close to the budget for its error bar", say)
			}
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
	r.Observed, r.ErrorBar = seconds(worst.Length()), seconds(worst.ErrorBar())
	g.decide(&r)
	return r
}
