package slowfsync

import (
	"sync"
	"time"
)

// held are the calls that are being held back. Its methods may be called concurrently.
type held struct {
	// changed has a value when next may have become earlier.
	changed chan struct{}

	mu      sync.Mutex
	shape   Shape
	draws   *draws
	waiting map[int]call // by thread
	delayed int
	total   time.Duration // of those that were let go
}

// call is one that a thread waits in.
type call struct {
	began time.Time
	off   float64 // its part of the jitter, from -1 to 1
}

// end is when a call is let go.
func (c call) end(s Shape) time.Time {
	return c.began.Add(s.At(c.began) + time.Duration(c.off*float64(s.Jitter)))
}

func newHeld(s Shape) *held {
	return &held{changed: make(chan struct{}, 1), shape: s, draws: newDraws(uint64(s.Delay)), waiting: map[int]call{}}
}

// hold takes down that a thread has begun a call on a file (its number), and says whether to hold it back.
func (h *held) hold(tid int, file int32, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shape.off() {
		return false
	}
	c := call{began: now}
	if h.shape.Jitter > 0 {
		c.off = h.draws.next(file)
	}
	h.waiting[tid] = c
	h.change()
	return true
}

// forget is for a thread that has ended.
func (h *held) forget(tid int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiting, tid)
}

// set changes the shape.
func (h *held) set(s Shape) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shape = s
	h.change()
}

func (h *held) change() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// due removes and returns the threads that have waited long enough.
func (h *held) due(now time.Time) (tids []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for tid, c := range h.waiting {
		if !c.end(h.shape).After(now) {
			tids = append(tids, tid)
			delete(h.waiting, tid)
			h.delayed++
			h.total += now.Sub(c.began)
		}
	}
	return tids
}

// next says how long it is until the first one is due; it may be in the past. False: none waits.
func (h *held) next(now time.Time) (d time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.waiting {
		if left := c.end(h.shape).Sub(now); !ok || left < d {
			d, ok = left, true
		}
	}
	return d, ok
}

func (h *held) stats(now time.Time) Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Stats{Delay: h.shape.At(now), Delayed: h.delayed, Waiting: len(h.waiting)}
	if h.delayed > 0 {
		s.Mean = h.total / time.Duration(h.delayed)
	}
	return s
}
