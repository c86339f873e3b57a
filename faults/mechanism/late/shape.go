package late

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Shape says how long packets are held back.
type Shape struct {
	// Delay of each packet.
	Delay time.Duration
	// Jitter is by how much the delay goes up and down, at most. It does so steadily, as the length of a queue does, so that
	// no packet overtakes another.
	Jitter time.Duration
	// Part of the packets that are held back, drawn one by one: the others pass at once, and overtake them. Zero means all.
	Part float64
	// Rate is that of a slow link in bytes a second: a packet is let go when those before it, and itself, would have been
	// sent. One that would wait longer than Backlog is dropped, as by a router whose buffer is full. Zero: no such link.
	Rate    uint64
	Backlog time.Duration
}

// Check says what is wrong with a shape.
func (s Shape) Check() error {
	var errs []error
	if s.Delay < 0 || s.Delay > time.Minute {
		errs = append(errs, fmt.Errorf("delay %v is not between 0 and a minute", s.Delay))
	}
	if s.Jitter < 0 || s.Jitter > s.Delay {
		errs = append(errs, fmt.Errorf("jitter %v is not between 0 and the delay, %v", s.Jitter, s.Delay))
	}
	if s.Part < 0 || s.Part > 1 {
		errs = append(errs, fmt.Errorf("part %v is not between 0 and 1", s.Part))
	}
	if s.Rate > 0 && s.Backlog <= 0 {
		errs = append(errs, fmt.Errorf("backlog %v of a slow link is not positive", s.Backlog))
	}
	if s.Delay == 0 && s.Rate == 0 {
		errs = append(errs, errors.New("nothing is to be held back: neither a delay nor a rate is given"))
	}
	return errors.Join(errs...)
}

// pass is what becomes of a packet.
type pass int

const (
	now pass = iota
	later
	never
)

// line is the way of packets through one queue: a shape, and what it must remember. Times are of a monotonic clock, in ns.
type line struct {
	shape Shape
	rng   *rand.Rand
	// from and to are the jitter (from -1 to 1) at the last turning point, at since, and at the next one.
	from, to float64
	since    int64
	// busy is until when the slow link sends what it has.
	busy int64
}

func newLine(s Shape, seed uint64) *line {
	return &line{shape: s, rng: rand.New(rand.NewPCG(seed, 0))}
}

// take says what becomes of a packet that comes at t and has size bytes.
func (l *line) take(t int64, size int) (pass, int64) {
	if l.shape.Part > 0 && l.rng.Float64() >= l.shape.Part {
		return now, 0
	}
	due := t
	if l.shape.Rate > 0 {
		start := max(t, l.busy)
		if start-t > int64(l.shape.Backlog) {
			return never, 0
		}
		l.busy = start + int64(uint64(size)*uint64(time.Second)/l.shape.Rate)
		due = l.busy
	}
	return later, due + int64(l.shape.Delay) + l.wander(t)
}

// wander is the jitter at t: a straight line from turning point to turning point. These are four times the jitter apart,
// while their heights differ by at most twice the jitter, so that what comes later is due later.
func (l *line) wander(t int64) int64 {
	if l.shape.Jitter == 0 {
		return 0
	}
	step := 4 * int64(l.shape.Jitter)
	if t-l.since > 2*step { // nothing came for long
		l.from, l.to, l.since = l.draw(), l.draw(), t
	}
	for t-l.since >= step {
		l.from, l.to, l.since = l.to, l.draw(), l.since+step
	}
	part := float64(t-l.since) / float64(step)
	return int64((l.from + (l.to-l.from)*part) * float64(l.shape.Jitter))
}

func (l *line) draw() float64 { return 2*l.rng.Float64() - 1 }
