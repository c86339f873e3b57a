package slo

import (
	"fmt"
	"path"
	"slices"
	"sort"

	"gameday/harness/history"
)

// WatchComplete promises that the watch through each API server, and through the
// load balancer, tells what etcd's own history has: every change (watch.complete),
// once, as what it is, and in the order of revisions, which never go back, whatever
// server the watch was opened at again (watch.order). A bookmark says that all up
// to its revision was told.
type WatchComplete struct {
	// Min is the least number of changes that each watch must have been due to tell.
	Min int `yaml:"min"`
}

func newWatchComplete() Checker { return &WatchComplete{Min: 100} }

// Validate implements Validator.
func (c *WatchComplete) Validate() []error {
	if c.Min < 1 {
		return []error{fmt.Errorf("min: %d changes prove nothing; give at least 1", c.Min)}
	}
	return nil
}

// Types of a change in the record; that of a creation is empty there.
const typeAdded = "ADDED"

// change is one of an object.
type change struct {
	revision int64
	key      string
}

// truth is etcd's own history of the canaries.
type truth struct {
	list    []history.Change // in the order of revisions
	what    map[change]string
	covered []span64 // what is known without a hole
	// disordered counts changes that etcd's own watch told out of order.
	disordered int
}

func etcdTruth(h *history.History) truth {
	t := truth{what: map[change]string{}}
	last := int64(0)
	for _, c := range h.Changes {
		if n := len(t.covered); n > 0 && t.covered[n-1].to == c.V.From {
			t.covered[n-1].to = c.V.To
		} else {
			t.covered = append(t.covered, span64{c.V.From, c.V.To})
		}
		for _, one := range c.V.List {
			at := change{one.Revision, one.Key}
			if _, twice := t.what[at]; twice || one.Revision < last {
				t.disordered++
			}
			last = max(last, one.Revision)
			t.what[at] = one.Type
			t.list = append(t.list, one)
		}
	}
	slices.SortStableFunc(t.list, func(a, b history.Change) int { return int(a.Revision - b.Revision) })
	return t
}

// knows says whether all at a revision is known.
func (t truth) knows(revision int64) bool {
	return slices.ContainsFunc(t.covered, func(s span64) bool { return s.after < revision && revision <= s.to })
}

// after are the changes after a revision, up to another.
func (t truth) after(from, to int64) []history.Change {
	find := func(rev int64) int {
		return sort.Search(len(t.list), func(i int) bool { return t.list[i].Revision > rev })
	}
	return t.list[find(from):max(find(from), find(to))]
}

// odd is an event that should not be.
type odd struct {
	at   history.Timed[history.Watch]
	text string
}

// observed is what a watch told.
type observed struct {
	missed            []history.Change
	odd               []odd
	expected, pending int
	// unknown counts events of revisions of which etcd's history is not known.
	unknown int
	hidden  bool // a 410 hid a part
}

// compare follows the watch on an endpoint.
func (t truth) compare(h *history.History, endpoint string) observed {
	var o observed
	told := map[change]bool{}
	var hidden []span64
	var first, top, booked int64
	begun, again := false, 0
	lost := gaps(h, span{0, h.Last}, "watch/canary/"+endpoint)
	slices.SortStableFunc(lost, func(a, b history.Gap) int { return int(a.To - b.To) })
	wrong := func(w history.Timed[history.Watch], format string, args ...any) {
		o.odd = append(o.odd, odd{w, fmt.Sprintf(format, args...)})
	}
	for _, w := range h.Watches {
		if w.V.Endpoint != endpoint {
			continue
		}
		rev := w.V.Revision
		switch w.V.State {
		case "opened":
			if !begun {
				begun, first, top = true, rev, rev
			}
			for again < len(lost) && lost[again].To <= w.At {
				hidden = append(hidden, span64{top, rev})
				top = max(top, rev)
				again++
			}
		case "bookmark":
			if rev < top {
				wrong(w, "a bookmark of revision %d after revision %d was told", rev, top)
			}
			top, booked = max(top, rev), max(booked, rev)
		case "event":
			at := change{rev, path.Base(w.V.Key)}
			is, there := t.what[at]
			switch {
			case told[at]:
				wrong(w, "%s of revision %d was told twice", at.key, rev)
			case rev <= booked:
				wrong(w, "%s of revision %d was told after the bookmark of revision %d", at.key, rev, booked)
			case rev < top, rev == top && rev == first:
				wrong(w, "%s of revision %d was told after revision %d", at.key, rev, top)
			}
			switch {
			case !t.knows(rev):
				o.unknown++
			case !there:
				wrong(w, "%s of revision %d was told, which etcd does not have", at.key, rev)
			case is != w.V.Type:
				wrong(w, "%s of revision %d was told as %s and is %s", at.key, rev, typeOf(w.V.Type), typeOf(is))
			}
			told[at] = true
			top = max(top, rev)
		}
	}
	o.hidden = len(hidden) > 0
	if !begun {
		return o
	}
	for _, c := range t.after(first, top) {
		switch {
		case slices.ContainsFunc(hidden, func(s span64) bool { return s.after < c.Revision && c.Revision <= s.to }):
		case told[change{c.Revision, c.Key}]:
			o.expected++
		default:
			o.expected++
			o.missed = append(o.missed, c)
		}
	}
	for _, c := range t.list {
		if c.Revision > top {
			o.pending++
		}
	}
	return o
}

func typeOf(t string) string {
	if t == "" {
		return typeAdded
	}
	return t
}

// Check implements Checker.
func (c *WatchComplete) Check(h *history.History) []Result {
	all := Result{Name: "watch.complete", Unit: "count", Promise: "the watch through each API server and the load balancer tells of every change that etcd has (0 left out)"}
	order := Result{Name: "watch.order", Unit: "count", Promise: "no watch tells of a change twice, out of order, as what it is not, after its bookmark, or of one that etcd does not have (0 events)"}
	var ga, gb grounds
	both := func(format string, args ...any) {
		ga.doubt(format, args...)
		gb.doubt(format, args...)
	}
	around := look(h)
	t := etcdTruth(h)
	switch n := len(t.covered); {
	case n == 0:
		both("the record does not have etcd's own history")
	case n > 1:
		ga.doubt("etcd's own history is not known from revision %d to %d", t.covered[0].to, t.covered[1].after)
	}
	if list := gaps(h, span{0, h.Last}, "watch/changes"); len(list) > 0 {
		ga.doubt("%s", gapText(list))
	}
	// What was acknowledged is there: else the history that all is compared with has
	// a hole itself.
	newest := int64(0)
	for _, a := range acknowledged(h) {
		newest = max(newest, a.revision)
		if is, there := t.what[change{a.revision, path.Base(a.key)}]; t.knows(a.revision) && (!there || is != "") {
			ga.fail("%s, acknowledged at revision %d, is not created there in etcd's own history", a.key, a.revision)
			around.evidence(&all, span{a.began, a.at}, fmt.Sprintf("%s, acknowledged at revision %d, was not told by etcd's own watch", a.key, a.revision))
			all.Observed++
		}
	}
	if n := len(t.covered); n > 0 && t.covered[n-1].to < newest {
		ga.doubt("etcd's own history is known up to revision %d, and %d was acknowledged", t.covered[n-1].to, newest)
	}
	if t.disordered > 0 {
		gb.fail("%s by etcd's own watch", count(t.disordered, "change was told twice or out of order", "changes were told twice or out of order"))
		order.Observed += float64(t.disordered)
	}

	endpoints := watched(h)
	for _, e := range c.absent(h, endpoints) {
		both("no watch is in the record %s", e)
	}
	places := map[string]string{}
	for _, n := range h.Nodes {
		places[n.V.Name] = n.V.Place
	}
	hidden, pending := 0, 0
	for _, e := range endpoints {
		name := "watch " + via(e, places)
		o := t.compare(h, e)
		all.Samples += o.expected
		order.Samples += o.expected
		order.Excluded += o.unknown
		all.Excluded += o.pending
		pending += o.pending
		if o.hidden {
			hidden++
		}
		if len(o.missed) > 0 {
			ga.fail("%s left out by the %s", count(len(o.missed), "change was", "changes were"), name)
		}
		for _, m := range o.missed {
			all.Observed++
			around.evidence(&all, span{0, h.Last}, fmt.Sprintf("%s %s at revision %d was never told by the %s, which went on", m.Key, typeOf(m.Type), m.Revision, name))
		}
		for i, x := range o.odd {
			order.Observed++
			if i == 0 {
				gb.fail("%s by the %s, the first: %s", count(len(o.odd), "event", "events"), name, x.text)
			}
			around.evidence(&order, span{x.at.At, x.at.At}, fmt.Sprintf("%s: %s", name, x.text))
		}
		if o.expected < c.Min {
			both("the %s had %s to tell, at least %d are needed", name, count(o.expected, "change", "changes"), c.Min)
		}
		if top := latest(h, e); len(t.covered) > 0 && top < newest {
			ga.doubt("the %s had come to revision %d when it stopped, and %d was acknowledged", name, top, newest)
		}
	}
	if len(ga.failed) == 0 {
		ga.note("none of %d left out by %s", all.Samples, count(len(endpoints), "watch", "watches"))
	}
	if len(gb.failed) == 0 {
		gb.note("%d in order on %s", order.Samples, count(len(endpoints), "watch", "watches"))
	}
	if hidden > 0 {
		ga.note("but for what is lost lawfully when a watch begins anew (410): %s", count(hidden, "watch", "watches"))
	}
	if pending > 0 {
		ga.note("%s not yet told when the watches stopped", count(pending, "change was", "changes were"))
	}
	ga.decide(&all)
	gb.decide(&order)
	return []Result{all, order}
}

// latest is the highest revision that the watch on an endpoint came to.
func latest(h *history.History, endpoint string) int64 {
	top := int64(0)
	for _, w := range h.Watches {
		if w.V.Endpoint == endpoint && (w.V.State == "event" || w.V.State == "bookmark") {
			top = max(top, w.V.Revision)
		}
	}
	return top
}

// absent are the API servers, and the load balancer where there is something to
// balance, that were not watched.
func (c *WatchComplete) absent(h *history.History, have []string) []string {
	servers, known := etcdMembers(h) // kubeadm puts both on each control plane
	if !known {
		return []string{": it does not say which API servers there are"}
	}
	if len(servers) > 1 {
		servers = append(servers, endpointLB)
	}
	var out []string
	for _, s := range servers {
		if !slices.Contains(have, s) {
			out = append(out, "at "+s)
		}
	}
	return out
}
