package slo

import (
	"testing"
	"time"

	"gameday/harness/history"
)

// told adds a watch that opens at 1 s and tells of a write each second, but for
// the times that skip names.
func (b *book) told(endpoint string, end float64, skip func(at float64) bool) *book {
	add(b, &b.h.Watches, 1, history.Watch{Endpoint: endpoint, State: "opened"})
	for at := 2.0; at <= end; at++ {
		if skip == nil || !skip(at) {
			add(b, &b.h.Watches, at, history.Watch{Endpoint: endpoint, State: "event", Delay: 20 * time.Millisecond})
		}
	}
	return b
}

func (b *book) watched(at float64, endpoint, state string, delay time.Duration) *book {
	return add(b, &b.h.Watches, at, history.Watch{Endpoint: endpoint, State: state, Delay: delay, Err: map[bool]string{true: "reset"}[state == "closed"]})
}

func (b *book) writes(from, to float64) *book {
	for at := from; at <= to; at++ {
		add(b, &b.h.Writes, at-.02, history.Write{Outcome: "ok", Key: "k", Took: 10 * time.Millisecond})
	}
	return b
}

func TestWatch(t *testing.T) {
	for _, c := range []struct {
		name     string
		make     func(b *book)
		want     Verdict
		reason   string
		observed float64
		errorBar float64
	}{
		{name: "all told", make: func(b *book) { b.told("lb", 200, nil).writes(2, 200) }, want: Pass, reason: "0 times gone, 199 writes told"},
		{name: "closed for a while", make: func(b *book) {
			b.told("lb", 49, nil).watched(49.5, "lb", "closed", 0).watched(50, "lb", "failed", 0).watched(60, "lb", "opened", 0)
			for at := 60.5; at < 200; at++ {
				b.watched(at, "lb", "event", 0)
			}
		}, want: Pass, reason: "1 time gone", observed: 10.75, errorBar: .25},
		{name: "closed for too long", make: func(b *book) {
			b.told("lb", 49, nil).watched(49.5, "lb", "closed", 0).watched(120, "lb", "failed", 0).watched(121, "lb", "opened", 0).watched(121.5, "lb", "event", 0)
		}, want: Fail, reason: "watch via lb gone for 71.8 s (+-250 ms) at 0:49.50", observed: 71.75, errorBar: .25},
		{name: "too close", make: func(b *book) {
			b.told("lb", 49, nil).watched(49.5, "lb", "closed", 0).watched(109, "lb", "failed", 0).watched(109.3, "lb", "opened", 0).watched(110.5, "lb", "event", 0)
		}, want: Inconclusive, reason: "too close", observed: 60.05, errorBar: .25},
		{name: "half open, told late", make: func(b *book) {
			b.told("lb", 49, nil).writes(2, 200)
			for i := range 70 { // all at once
				b.watched(120, "lb", "event", time.Duration(70-i)*time.Second)
			}
			for at := 121.0; at <= 200; at++ {
				b.watched(at, "lb", "event", 0)
			}
		}, want: Fail, reason: "gone for 70.5 s", observed: 70.5, errorBar: .5},
		{name: "never told again", make: func(b *book) { b.told("lb", 100, nil).writes(2, 200) }, want: Fail, reason: "gone for"},
		{name: "not told at the end", make: func(b *book) { b.told("lb", 190, nil).writes(2, 200) }, want: Inconclusive, reason: "had not ended", observed: 9.505, errorBar: .495},
		{name: "nothing to tell", make: func(b *book) { b.told("lb", 100, nil).writes(2, 100) }, want: Pass, reason: "0 times gone"},
		{name: "closed at the end", make: func(b *book) { b.told("lb", 190, nil).watched(191, "lb", "closed", 0) }, want: Inconclusive, reason: "had not ended"},
		{name: "opened late", make: func(b *book) {
			b.watched(100, "lb", "opened", 0)
			for at := 101.0; at < 200; at++ {
				b.watched(at, "lb", "event", 0)
			}
		}, want: Fail, reason: "gone for 90.0 s"},
		{name: "never told of anything", make: func(b *book) { b.watched(1, "lb", "opened", 0) }, want: Inconclusive, reason: "the watch via lb never told of a write"},
		{name: "no watch", make: func(*book) {}, want: Inconclusive, reason: "no watch is in the record via lb"},
		{name: "another endpoint is told", make: func(b *book) {
			b.told("lb", 200, nil).told("cp1", 40, nil).watched(41, "cp1", "closed", 0)
		}, want: Pass, reason: "0 times gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(200)
			c.make(b)
			r := named(t, newAPIAvailability().Check(b.h), "api.watch")
			want(t, r, c.want, c.reason)
			if c.observed != 0 && (r.Observed != c.observed || r.ErrorBar != c.errorBar) {
				t.Errorf("%v +- %v, want %v +- %v", r.Observed, r.ErrorBar, c.observed, c.errorBar)
			}
		})
	}
	b := newBook(200).told("lb", 49, nil).watched(49.5, "lb", "closed", 0).watched(60, "lb", "opened", 0)
	if o := WatchOutages(b.h, "lb"); len(o) != 1 || o[0].LastGood != sec(49) || o[0].FirstBad != sec(49.5) || o[0].FirstGood != sec(60) || o[0].Cause != "closed: reset" {
		t.Errorf("%+v", o)
	}
}
