package slo

import (
	"fmt"
	"slices"
	"testing"

	"gameday/harness/history"
)

// truth is etcd's own history of the writes that told tells of: one each second.
func (b *book) truth(end float64) *book {
	for from := 1.; from < end; from += 50 {
		to := min(from+50, end)
		c := history.Changes{From: revision(from), To: revision(to)}
		for at := from + 1; at <= to; at++ {
			c.List = append(c.List, history.Change{Revision: revision(at), Key: canary(at)})
		}
		add(b, &b.h.Changes, to, c)
	}
	return b
}

func TestWatchComplete(t *testing.T) {
	endpoints := []string{"cp0", "cp1", "cp2", "lb"}
	well := func(b *book) {
		b.truth(200).writes(2, 200)
		for _, e := range endpoints {
			b.told(e, 200, nil)
		}
	}
	// event is something that the watch at cp1 tells between two seconds.
	event := func(b *book, at float64, key string, rev int64, kind string) {
		w := history.Timed[history.Watch]{At: sec(at), V: history.Watch{Endpoint: "cp1", State: "event", Key: key, Revision: rev, Type: kind}}
		i := slices.IndexFunc(b.h.Watches, func(o history.Timed[history.Watch]) bool { return o.V.Endpoint == "cp1" && o.At > w.At })
		if i < 0 {
			i = len(b.h.Watches)
		}
		b.h.Watches = slices.Insert(b.h.Watches, i, w)
	}
	state := func(b *book, at float64, state string, rev int64) {
		event(b, at, "", rev, "")
		i := slices.IndexFunc(b.h.Watches, func(o history.Timed[history.Watch]) bool {
			return o.At == sec(at) && o.V.Endpoint == "cp1" && o.V.Key == ""
		})
		b.h.Watches[i].V.State = state
	}
	// without drops what cp1 tells of a write.
	without := func(b *book, at float64) {
		b.h.Watches = slices.DeleteFunc(b.h.Watches, func(o history.Timed[history.Watch]) bool {
			return o.V.Endpoint == "cp1" && o.V.State == "event" && o.V.Key == canary(at)
		})
	}
	// truly changes what etcd has of a write.
	truly := func(b *book, at float64, change func(c *history.Change)) {
		for i := range b.h.Changes {
			for k := range b.h.Changes[i].V.List {
				if c := &b.h.Changes[i].V.List[k]; c.Key == canary(at) {
					change(c)
				}
			}
		}
	}
	for _, c := range []struct {
		name     string
		make     func(b *book)
		complete Verdict
		order    Verdict
		reason   string
		observed float64
	}{
		{name: "all told", make: well, complete: Pass, order: Pass, reason: "none of 796 left out by 4 watches"},
		{name: "bookmarks", make: func(b *book) { well(b); state(b, 60.5, "bookmark", 600); state(b, 90.5, "bookmark", 905) }, complete: Pass, order: Pass},
		{name: "updates and deletes", make: func(b *book) {
			well(b)
			truly(b, 50, func(c *history.Change) { c.Key, c.Type = "shared-0-0", "MODIFIED" })
			b.h.Writes[48].V.Outcome = writeUnknown
			for i := range b.h.Watches {
				if w := &b.h.Watches[i].V; w.Key == canary(50) {
					w.Key, w.Type = "/registry/configmaps/ns/shared-0-0", "MODIFIED"
				}
			}
		}, complete: Pass, order: Pass},
		{name: "opened again", make: func(b *book) { well(b); state(b, 60.4, "closed", 600); state(b, 60.6, "opened", 600) }, complete: Pass, order: Pass},
		{name: "hidden by a 410", make: func(b *book) {
			well(b)
			without(b, 61)
			without(b, 62)
			state(b, 60.4, "closed", 600)
			b.gap("watch/canary/cp1", 60.4, 62.5)
			state(b, 62.6, "opened", 625)
		}, complete: Pass, order: Pass, reason: "none of 794 left out by 4 watches; but for what is lost lawfully when a watch begins anew (410): 1 watch"},

		{name: "an event left out", make: func(b *book) { well(b); without(b, 50) }, complete: Fail, order: Pass, reason: "1 change was left out by the watch", observed: 1},
		{name: "left out while it was closed", make: func(b *book) {
			well(b)
			without(b, 61)
			without(b, 62)
			state(b, 60.4, "closed", 600)
			state(b, 62.6, "opened", 600)
		}, complete: Fail, order: Pass, reason: "2 changes were left out", observed: 2},
		{name: "left out before a bookmark, with nothing after it", make: func(b *book) {
			well(b)
			without(b, 200)
			state(b, 200.5, "bookmark", 2005)
		}, complete: Fail, order: Pass, reason: "1 change was left out", observed: 1},
		{name: "a write of unknown outcome that etcd has, left out", make: func(b *book) {
			well(b)
			without(b, 50)
			b.h.Writes[48].V.Outcome = writeUnknown
		}, complete: Fail, order: Pass, reason: "1 change was left out", observed: 1},

		{name: "told twice", make: func(b *book) { well(b); event(b, 50.5, canary(50), revision(50), "") }, complete: Pass, order: Fail, reason: "k50 of revision 500 was told twice", observed: 1},
		{name: "out of order", make: func(b *book) {
			well(b)
			without(b, 50)
			event(b, 51.5, canary(50), revision(50), "")
		}, complete: Pass, order: Fail, reason: "k50 of revision 500 was told after revision 510", observed: 1},
		{name: "back in time when opened again", make: func(b *book) {
			well(b)
			state(b, 60.4, "closed", 600)
			state(b, 60.6, "opened", 600)
			event(b, 60.7, canary(59), revision(59), "")
			event(b, 60.8, canary(60), revision(60), "")
		}, complete: Pass, order: Fail, reason: "2 events by the watch", observed: 2},
		{name: "after its bookmark", make: func(b *book) {
			well(b)
			without(b, 60)
			state(b, 60.5, "bookmark", 605)
			event(b, 60.6, canary(60), revision(60), "")
		}, complete: Pass, order: Fail, reason: "k60 of revision 600 was told after the bookmark of revision 605", observed: 1},
		{name: "a bookmark that goes back", make: func(b *book) { well(b); state(b, 60.5, "bookmark", 590) }, complete: Pass, order: Fail, reason: "a bookmark of revision 590 after revision 600 was told", observed: 1},
		{name: "what etcd does not have", make: func(b *book) { well(b); event(b, 60.5, "ghost", 605, "") }, complete: Pass, order: Fail, reason: "ghost of revision 605 was told, which etcd does not have", observed: 1},
		{name: "as what it is not", make: func(b *book) {
			well(b)
			truly(b, 50, func(c *history.Change) { c.Type = "MODIFIED" })
			b.h.Writes[48].V.Outcome = writeUnknown
			for i := range b.h.Watches {
				if w := &b.h.Watches[i].V; w.Key == canary(50) && w.Endpoint != "cp1" {
					w.Type = "MODIFIED"
				}
			}
		}, complete: Pass, order: Fail, reason: "k50 of revision 500 was told as ADDED and is MODIFIED", observed: 1},
		{name: "etcd's own watch goes back", make: func(b *book) {
			well(b)
			l := b.h.Changes[1].V.List
			l[3], l[4] = l[4], l[3]
		}, complete: Pass, order: Fail, reason: "1 change was told twice or out of order by etcd's own watch", observed: 1},
		{name: "etcd's own watch leaves out a write", make: func(b *book) {
			well(b)
			b.h.Changes[0].V.List = slices.Delete(b.h.Changes[0].V.List, 8, 9)
		}, complete: Fail, order: Fail, reason: "k10, acknowledged at revision 100, is not created there in etcd's own history", observed: 1},

		{name: "etcd's history has a hole", make: func(b *book) { well(b); b.h.Changes = slices.Delete(b.h.Changes, 1, 2) }, complete: Inconclusive, order: Pass, reason: "etcd's own history is not known from revision 510 to 1010"},
		{name: "etcd's history ends too early", make: func(b *book) { well(b); b.h.Changes = b.h.Changes[:3] }, complete: Inconclusive, order: Pass, reason: "known up to revision 1510, and 2000 was acknowledged"},
		{name: "compacted", make: func(b *book) { well(b); b.gap("watch/changes", 50, 60) }, complete: Inconclusive, order: Pass, reason: "watch/changes has no data"},
		{name: "no history of etcd", make: func(b *book) { well(b); b.h.Changes = nil }, complete: Inconclusive, order: Inconclusive, reason: "does not have etcd's own history"},
		{name: "an API server was not watched", make: func(b *book) {
			b.truth(200).writes(2, 200).told("lb", 200, nil).told("cp0", 200, nil).told("cp1", 200, nil)
		}, complete: Inconclusive, order: Inconclusive, reason: "no watch is in the record at cp2"},
		{name: "one stopped early", make: func(b *book) {
			b.truth(200).writes(2, 200).told("lb", 200, nil).told("cp0", 200, nil).told("cp1", 200, nil).told("cp2", 150, nil)
		}, complete: Inconclusive, order: Pass, reason: "had come to revision 1500 when it stopped, and 2000 was acknowledged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(200)
			c.make(b)
			list := newWatchComplete().Check(b.h)
			all, order := named(t, list, "watch.complete"), named(t, list, "watch.order")
			want(t, all, c.complete, "")
			want(t, order, c.order, "")
			judged := all // the one that the reason is of
			if c.complete == Pass && c.order != Pass {
				judged = order
			}
			want(t, judged, judged.Verdict, c.reason)
			if judged.Observed != c.observed || (len(judged.Evidence) > 0) != (judged.Verdict == Fail && c.name != "etcd's own watch goes back") {
				t.Errorf("%+v", judged)
			}
		})
	}
	if errs := (&WatchComplete{}).Validate(); len(errs) != 1 {
		t.Errorf("%v", errs)
	}
	r := named(t, newWatchComplete().Check(newBook(20).told("lb", 20, nil).truth(20).h), "watch.complete")
	want(t, r, Inconclusive, fmt.Sprintf("had %d changes to tell, at least 100 are needed", 19))
}
