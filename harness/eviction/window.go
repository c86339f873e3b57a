package eviction

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Forever is later than any time of a case: what never ends, or never comes.
const Forever = time.Duration(math.MaxInt64)

// Window is when something happens: not before Earliest, and, if it must happen
// at all, not after Latest.
type Window struct{ Earliest, Latest time.Duration }

// Contains says whether a moment is in the window.
func (w Window) Contains(at time.Duration) bool { return w.Earliest <= at && at <= w.Latest }

// touches says whether two windows have a moment in common.
func (w Window) touches(o Window) bool { return w.Earliest <= o.Latest && o.Earliest <= w.Latest }

// hull is the smallest window that holds both.
func (w Window) hull(o Window) Window {
	return Window{min(w.Earliest, o.Earliest), max(w.Latest, o.Latest)}
}

// after is the window moved by a time that is known.
func (w Window) after(d time.Duration) Window {
	return Window{plus(w.Earliest, d), plus(w.Latest, d)}
}

func (w Window) String() string { return Clock(w.Earliest) + " to " + Clock(w.Latest) }

// MarshalJSON writes seconds since the cut; null is Forever.
func (w Window) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Earliest seconds `json:"earliest"`
		Latest   seconds `json:"latest"`
	}{seconds(w.Earliest), seconds(w.Latest)})
}

// seconds is a time as JSON has it.
type seconds time.Duration

// MarshalJSON implements json.Marshaler.
func (s seconds) MarshalJSON() ([]byte, error) {
	if time.Duration(s) == Forever {
		return []byte("null"), nil
	}
	return json.Marshal(math.Round(time.Duration(s).Seconds()*1000) / 1000)
}

// Clock is a moment after the cut as a person reads it: 0:52.3.
func Clock(d time.Duration) string {
	switch {
	case d == Forever:
		return "never"
	case d < 0:
		return "-" + Clock(-d)
	}
	d = d.Round(100 * time.Millisecond)
	return fmt.Sprintf("%d:%04.1f", int(d.Minutes()), (d % time.Minute).Seconds())
}

// plus adds without running over the end of time.
func plus(a, b time.Duration) time.Duration {
	if a == Forever || b == Forever || b > 0 && a > Forever-b {
		return Forever
	}
	return a + b
}

// tokens is how long a bucket takes to fill by n at a rate a second.
func tokens(n float64, rate float32) time.Duration {
	if n <= 0 {
		return 0
	}
	s := n / float64(rate)
	if rate <= 0 || s > Forever.Seconds()/2 {
		return Forever
	}
	return time.Duration(s * float64(time.Second))
}

// Count is how many there are, at least and at most.
type Count struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

func (c Count) String() string {
	if c.Min == c.Max {
		return fmt.Sprint(c.Min)
	}
	return fmt.Sprintf("%d to %d", c.Min, c.Max)
}
