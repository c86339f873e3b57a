package slo

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"gameday/harness/history"
)

// canary is the key of the write that is told at a time, revision its revision.
func canary(at float64) string  { return fmt.Sprintf("k%g", at) }
func revision(at float64) int64 { return int64(at * 10) }

// told adds a watch that opens at 1 s and tells of a write each second, but for
// the times that skip names.
func (b *book) told(endpoint string, end float64, skip func(at float64) bool) *book {
	add(b, &b.h.Watches, 1, history.Watch{Endpoint: endpoint, State: "opened"})
	for at := 2.0; at <= end; at++ {
		if skip == nil || !skip(at) {
			add(b, &b.h.Watches, at, history.Watch{Endpoint: endpoint, State: "event", Key: canary(at), Revision: revision(at), Delay: 20 * time.Millisecond})
		}
	}
	return b
}

func (b *book) watched(at float64, endpoint, state string, delay time.Duration) *book {
	return add(b, &b.h.Watches, at, history.Watch{Endpoint: endpoint, State: state, Key: canary(at), Revision: revision(at), Delay: delay, Err: map[bool]string{true: "reset"}[state == "closed"]})
}

func (b *book) writes(from, to float64) *book {
	for at := from; at <= to; at++ {
		add(b, &b.h.Writes, at-.02, history.Write{Outcome: "ok", Key: canary(at), Revision: revision(at), Took: 10 * time.Millisecond})
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
		}, want: Fail, reason: "gone for 70.5 s", observed: 70.505, errorBar: .495},
		{name: "silent, then it goes on and never tells", make: func(b *book) {
			b.told("lb", 200, func(at float64) bool { return at >= 50 && at < 120 }).writes(2, 200)
		}, want: Fail, reason: "gone for 70.5 s", observed: 70.505, errorBar: .495},
		{name: "silent while nothing was written", make: func(b *book) {
			b.told("lb", 200, func(at float64) bool { return at >= 50 && at < 120 }).writes(2, 49).writes(120, 200)
		}, want: Pass, reason: "0 times gone"},
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
	if o, _ := watchOutages(b.h, "lb", span{0, b.h.Last}); len(o) != 1 || o[0].LastGood != sec(49) || o[0].FirstBad != sec(49.5) || o[0].FirstGood != sec(60) || o[0].Cause != "closed: reset" {
		t.Errorf("%+v", o)
	}
}

func TestWatchMissed(t *testing.T) {
	some := func(list ...float64) func(float64) bool {
		return func(at float64) bool { return slices.Contains(list, at) }
	}
	for _, c := range []struct {
		name   string
		make   func(b *book)
		want   Verdict
		reason string
		missed float64
		judged int
	}{
		{name: "all told", make: func(b *book) { b.told("lb", 200, nil).writes(2, 200) }, want: Pass, reason: "none of 199 left out", judged: 199},
		{name: "one left out", make: func(b *book) { b.told("lb", 200, some(50)).writes(2, 200) }, want: Fail, reason: "1 acknowledged write was left out by the watch via lb", missed: 1, judged: 199},
		{name: "unknown outcomes need not be told", make: func(b *book) {
			b.told("lb", 200, some(50)).writes(2, 200)
			b.h.Writes[48].V.Outcome = "unknown"
		}, want: Pass, reason: "none of 198", judged: 198},
		{name: "hidden by a 410", make: func(b *book) {
			b.told("lb", 49, nil).writes(2, 60).watched(49.5, "lb", "closed", 0).gap("watch/canary/lb", 49, 54.5).watched(54.6, "lb", "opened", 0)
			for at := 55.0; at <= 60; at++ {
				b.watched(at, "lb", "event", 0)
			}
		}, want: Pass, reason: "none of 54 left out; but for what is lost lawfully", judged: 54},
		{name: "closed and left out, without a 410", make: func(b *book) {
			b.told("lb", 49, nil).writes(2, 60).watched(49.5, "lb", "closed", 0).watched(54.6, "lb", "opened", 0)
			for at := 55.0; at <= 60; at++ {
				b.watched(at, "lb", "event", 0)
			}
		}, want: Fail, reason: "5 acknowledged writes were left out", missed: 5, judged: 59},
		{name: "told twice", make: func(b *book) { b.told("lb", 200, nil).writes(2, 200).watched(200, "lb", "event", 0) }, want: Fail, reason: "1 event was told twice or out of order", missed: 1, judged: 199},
		{name: "not yet told at the end", make: func(b *book) { b.told("lb", 190, nil).writes(2, 200) }, want: Inconclusive, reason: "10 writes were not told by the watch via lb when it stopped", judged: 189},
		{name: "before it was opened", make: func(b *book) {
			b.writes(2, 60).watched(30, "lb", "opened", 0)
			for at := 31.0; at <= 60; at++ {
				b.watched(at, "lb", "event", 0)
			}
		}, want: Pass, reason: "none of 30", judged: 30},
		{name: "another endpoint", make: func(b *book) { b.told("lb", 200, nil).told("cp0", 200, some(50)).writes(2, 200) }, want: Pass, reason: "none of 199", judged: 199},
		{name: "no watch", make: func(b *book) { b.writes(2, 200) }, want: Inconclusive, reason: "no watch is in the record via lb"},
		{name: "told of nothing", make: func(b *book) { b.watched(1, "lb", "opened", 0).writes(2, 20) }, want: Inconclusive, reason: "the watch via lb never told of a write"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(200)
			c.make(b)
			r := named(t, newAPIAvailability().Check(b.h), "api.watch-missed")
			want(t, r, c.want, c.reason)
			if r.Observed != c.missed || r.Samples != c.judged {
				t.Errorf("%v of %d, want %v of %d", r.Observed, r.Samples, c.missed, c.judged)
			}
		})
	}
}
