package slowfsync

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Shape is how long calls are held back, in the course of time.
type Shape struct {
	// Delay of each call. Zero: nothing is held back.
	Delay time.Duration
	// Jitter is by how much single calls miss it, evenly spread in both directions.
	// Of each two calls on the same file one is as much too long as the other is too
	// short: the mean is the asked one over a few calls already.
	Jitter time.Duration
	// GrowTo is the delay that is reached, evenly, in the time Over from Since on. No
	// growth if Over is zero.
	GrowTo, Over time.Duration
	Since        time.Time
}

func (s Shape) check() error {
	var errs []error
	if s.Delay < 0 {
		errs = append(errs, fmt.Errorf("delay of fsync: %v is negative", s.Delay))
	}
	if s.Jitter < 0 || s.Jitter > s.Delay {
		errs = append(errs, fmt.Errorf("jitter of fsync: %v is not between 0 and the delay %v", s.Jitter, s.Delay))
	}
	if s.GrowTo < 0 || s.Over < 0 {
		errs = append(errs, fmt.Errorf("growth of the delay of fsync: to %v over %v is negative", s.GrowTo, s.Over))
	}
	return errors.Join(errs...)
}

// At is the delay, without its jitter, of a call that begins at t.
func (s Shape) At(t time.Time) time.Duration {
	if s.Over <= 0 {
		return s.Delay
	}
	done := min(1, max(0, float64(t.Sub(s.Since))/float64(s.Over)))
	return s.Delay + time.Duration(done*float64(s.GrowTo-s.Delay))
}

// off is zero if nothing is ever held back.
func (s Shape) off() bool { return s.Delay == 0 && (s.Over <= 0 || s.GrowTo == 0) }

// draws are the random parts of the jitter, from -1 to 1.
type draws struct {
	rng  *rand.Rand
	last map[int32]float64 // by file number: what has no counterpart yet
}

func newDraws(seed uint64) *draws {
	return &draws{rng: rand.New(rand.NewPCG(seed, 0)), last: map[int32]float64{}}
}

func (d *draws) next(file int32) float64 {
	if u, ok := d.last[file]; ok {
		delete(d.last, file)
		return -u
	}
	u := 2*d.rng.Float64() - 1
	d.last[file] = u
	return u
}
