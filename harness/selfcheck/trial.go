package selfcheck

import (
	"time"

	"gameday/harness/sample"
)

// Trial is one known outage before one series.
type Trial struct {
	Kind string
	Way  sample.Way
	// Length of the outage; of kind none, of the time in which none may be seen.
	Length time.Duration
}

// kinds of outages that are made.
var kinds = []string{kindRefused, kindReset, kindBlackHoled, kindSlow}

// lengths that are tried: the shortest is what the densest series is to see.
var lengths = []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, time.Second}

// sure says whether a series cannot miss an outage of a length: it must outlast
// the period, with something to spare.
func sure(w sample.Way, length time.Duration) bool { return length >= w.Period*5/4 }

// Quick are the trials before a run, 4 s long: every kind and length before the
// densest series, the long ones before the densest with new connections.
func Quick() []Trial {
	var out []Trial
	reused, fresh := densest("reused"), densest("new")
	for _, k := range kinds {
		for _, l := range lengths {
			out = append(out, Trial{k, reused, l})
		}
		out = append(out, Trial{k, fresh, time.Second})
	}
	return append(out, Trial{kindNone, reused, control}, Trial{kindNone, fresh, control})
}

// control is the time in which no outage may be seen where none was made.
const control = 3 * time.Second

// densest is the series with such connections that is sampled most often.
func densest(conn string) sample.Way {
	var best sample.Way
	for _, w := range sample.Ways() {
		if w.Conn == conn && (best.Period == 0 || w.Period < best.Period) {
			best = w
		}
	}
	return best
}

// Full are the trials of every series of a run: each kind and each length that the
// series cannot miss.
func Full() []Trial {
	var out []Trial
	for _, w := range sample.Ways() {
		for _, k := range kinds {
			some := false
			for _, l := range lengths {
				if sure(w, l) {
					out, some = append(out, Trial{k, w, l}), true
				}
			}
			if !some {
				out = append(out, Trial{k, w, 2 * w.Period})
			}
		}
		out = append(out, Trial{kindNone, w, max(control, 3*w.Period)})
	}
	return out
}

// bound is the largest error bar that the paces of the series explain. The
// outage begins somewhere between two samples, a Period apart. It ends between two
// that are Fast apart, if it was noticed while it lasted: at once when
// the samples fail, after Suspect when they only hang. Half of both is the error
// bar of the length; the rest is how late all of it may be. For the densest series
// (40 ms, 25 ms) that is 42.5 ms, and 50 ms for what hangs for less than 140 ms.
//
// An error bar of 10 ms would need samples 10 ms apart. One costs 0.44 ms of CPU
// then (BenchmarkSample in harness/sample, 2 CPUs): 100 a second are 4.4 % of a
// core, four times what the densest series costs, and more than all samplers
// together are to cost. The kernel could tell more sharply when a connection was
// closed, but not when one began to hang, nor when either ended.
func (t Trial) bound() time.Duration {
	end := t.Way.Period
	switch {
	case t.Kind == kindRefused, t.Kind == kindReset:
		end = t.Way.Fast
	case t.Way.Suspect > 0 && t.Length > t.Way.Period+t.Way.Suspect:
		end = t.Way.Fast
	}
	return (t.Way.Period+end)/2 + starvedAt
}

// starvedAt is how late this process may be with anything before what it saw says
// nothing about the samplers: by so much the shortest outage outlasts the densest
// period.
const starvedAt = 10 * time.Millisecond
