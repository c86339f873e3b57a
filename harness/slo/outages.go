package slo

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"gameday/harness/history"
)

// Outage is a run of bad samples, and of good ones between them that were none
// for long: a target that answers now and then is not up. It began between LastGood and FirstBad and
// ended between LastBad and FirstGood. All but the last are starts of samples;
// FirstGood is when the first good sample was answered, because a request that
// was held until the target was well again says nothing about the time in which
// it waited.
type Outage struct {
	LastGood, FirstBad, LastBad, FirstGood time.Duration
	// Open says that no good sample came after it: then FirstGood is the edge of
	// what was measured, as LastGood is of one that none came before.
	Open bool
	// Bad counts its bad samples, Good the good ones between them, Late those left out of it because they started
	// late: the harness's own fault.
	Bad, Good, Late int
	// Cause is what the first bad sample said.
	Cause string

	// stretches of bad samples without a good one or a hole among them.
	stretches []span
}

// calmFor is how long all samples must be good before an outage has ended, but
// at least for calmPeriods: what a person would call up again.
const (
	calmFor     = time.Second
	calmPeriods = 3
)

// lateShare is how many of the samples around an outage, or of a series, may be
// late before its numbers cannot be trusted.
const lateShare = 0.05

// starved says that too many samples of the outage itself were late: then the
// failures may be the harness's own.
func (o Outage) starved() bool { return float64(o.Late) > lateShare*float64(o.Bad+o.Late) }

// Least is how long it surely lasted.
func (o Outage) Least() time.Duration {
	if o.starved() {
		return 0
	}
	var sum time.Duration
	for _, s := range o.stretches {
		sum += s.to - s.from
	}
	return sum
}

// Most is how long it can have lasted, as far as was measured.
func (o Outage) Most() time.Duration { return o.FirstGood - o.LastGood }

// Length is the middle of Least and Most, ErrorBar half of what lies between.
func (o Outage) Length() time.Duration { return (o.Least() + o.Most()) / 2 }

// ErrorBar is half of what lies between Least and Most.
func (o Outage) ErrorBar() time.Duration { return (o.Most() - o.Least()) / 2 }

// least is how long it surely lasted without a break.
func (o Outage) least() time.Duration {
	if o.starved() {
		return 0
	}
	var longest time.Duration
	for _, s := range o.stretches {
		longest = max(longest, s.to-s.from)
	}
	return longest
}

// text says how it was, for the evidence.
func (o Outage) text() string {
	if o.Good > 0 {
		return fmt.Sprintf("on and off (%d good among %d bad), at first %s", o.Good, o.Bad, o.Cause)
	}
	return o.Cause
}

func (o Outage) span() span { return span{o.FirstBad, max(o.LastBad, o.FirstBad)} }

// LateBound is how late a sample may start before it is left out: an order
// above the scheduling delay of an idle machine, and well below the outages
// that promises are about. (OpenShift's monitors learned to tell a starved
// poller from an outage: github.com/openshift/origin pull 27250.)
const LateBound = 100 * time.Millisecond

// SlowBound is how long an answer may take before it is bad: what Kubernetes
// promises of a request of a single object (github.com/kubernetes/community
// sig-scalability/slos/api_call_latency.md, p99 <= 1 s).
const SlowBound = time.Second

// rules say which samples are judged and which are good.
type rules struct {
	// late is how late a judged sample may start.
	late time.Duration
	// slow is how long a good answer may take; 0: as long as the deadline.
	slow time.Duration
}

// bad says why a sample is bad, or "".
func (r rules) bad(s history.Sample) string {
	switch {
	case !s.OK:
		return cmp.Or(s.Err, "no reason recorded")
	case r.slow > 0 && s.Took > r.slow:
		return "answered after " + length(s.Took)
	}
	return ""
}

// Outages finds the outages of a series over the whole record, by the default
// rules.
func Outages(h *history.History, series int) []Outage {
	return outages(h, series, rules{late: LateBound, slow: SlowBound})
}

func outages(h *history.History, series int, by rules) []Outage {
	return tell(h.Samples[series], h.Series[series].Period, span{0, max(h.Last, 0)}, by).outages
}

// tally is what a series says about a span of the run.
type tally struct {
	outages []Outage
	// judged samples; late and unsent ones were left out, outside ones are not
	// of the span.
	judged, late, unsent, outside int
	// blind is the longest time between two good samples in which an outage
	// could hide; blindAt is where it begins.
	blind, blindAt time.Duration
	// hidden is all time outside outages in which no sample was judged.
	hidden time.Duration
	// took are the answer times of all that were answered well, slow or not.
	took []time.Duration
}

// starved says that the harness itself was too slow to be trusted.
func (t tally) starved() bool {
	return float64(t.late+t.unsent) > lateShare*float64(t.judged+t.late+t.unsent)
}

// tell reads a series. Samples must be in the order of their starts.
func tell(samples []history.Timed[history.Sample], period time.Duration, in span, by rules) tally {
	var t tally
	// A hole is longer than what lost or late samples explain.
	hole := 3*period + by.late
	last := in.from // start of the sample before
	calm := max(calmFor, calmPeriods*period)
	lastGood := in.from
	out := 0 // late samples since the last one that was judged
	var o *Outage
	var calmFrom time.Duration // since when the samples after o are good
	over := false              // they are
	good := 0                  // how many
	blind := func(to time.Duration) {
		d := to - last
		if d > t.blind {
			t.blind, t.blindAt = d, last
		}
		if d > hole {
			t.hidden += d
		}
	}
	for i := range samples {
		s := &samples[i]
		if s.At < in.from || s.At > in.to {
			t.outside++
			continue
		}
		if s.V.Err == history.NotSent {
			t.unsent++
			continue
		}
		if s.V.Late > by.late {
			t.late++
			out++
			continue
		}
		t.judged++
		if s.V.OK {
			t.took = append(t.took, s.V.Took)
		}
		why := by.bad(s.V)
		switch {
		case why == "":
			switch {
			case o == nil:
				blind(s.At)
			case !over:
				over, calmFrom, good = true, s.At, 1
				o.FirstGood, o.Late = s.At+s.V.Took, o.Late+out
			default:
				good++
				blind(s.At)
				if s.At-calmFrom >= calm {
					t.outages = append(t.outages, *o)
					o, over = nil, false
				}
			}
			lastGood = s.At
		case o == nil:
			o = &Outage{LastGood: lastGood, FirstBad: s.At, LastBad: s.At, Bad: 1, Late: out, Cause: why, stretches: []span{{s.At, s.At}}}
		default:
			o.Bad++
			o.Late += out
			if over {
				o.Good += good
			}
			if over || s.At-last > hole {
				o.stretches = append(o.stretches, span{s.At, s.At})
			}
			over = false
			o.LastBad = s.At
			o.stretches[len(o.stretches)-1].to = s.At
		}
		out = 0
		last = s.At
	}
	if o != nil && !over {
		o.FirstGood, o.Open, o.Late = in.to, true, o.Late+out
	} else {
		blind(in.to)
	}
	if o != nil {
		t.outages = append(t.outages, *o)
	}
	return t
}

// percentile is the smallest of the values that at least the share p of all do
// not exceed (nearest rank). It sorts values.
func percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[rank(len(values), p)-1]
}

// enough is how many values it takes until the p-th percentile leaves one out.
func enough(p float64) int {
	over := 1_000_000 - int64(p*1e6+0.5)
	return int((1_000_000 + over - 1) / over)
}

// rank is the place, from 1, of the p-th percentile among n values. The product
// is taken in whole millionths: 0.99*100 must not become 99.00000000000001.
func rank(n int, p float64) int {
	part := int64(p*1e6 + 0.5)
	r := (part*int64(n) + 1e6 - 1) / 1e6
	return int(min(max(r, 1), int64(n)))
}
