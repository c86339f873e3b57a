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
	delay   time.Duration
	began   map[int]time.Time // of the call that a thread waits in
	delayed int
	total   time.Duration // of those that were let go
}

func newHeld(delay time.Duration) *held {
	return &held{changed: make(chan struct{}, 1), delay: delay, began: map[int]time.Time{}}
}

// hold takes down that a thread has begun a call, and says whether to hold it back.
func (h *held) hold(tid int, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.delay == 0 {
		return false
	}
	h.began[tid] = now
	h.change()
	return true
}

// forget is for a thread that has ended.
func (h *held) forget(tid int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.began, tid)
}

// set changes the delay.
func (h *held) set(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.delay = d
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
	for tid, began := range h.began {
		if waited := now.Sub(began); waited >= h.delay {
			tids = append(tids, tid)
			delete(h.began, tid)
			h.delayed++
			h.total += waited
		}
	}
	return tids
}

// next says how long it is until the first one is due; it may be in the past. False: none waits.
func (h *held) next(now time.Time) (d time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, began := range h.began {
		if left := began.Add(h.delay).Sub(now); !ok || left < d {
			d, ok = left, true
		}
	}
	return d, ok
}

func (h *held) stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := Stats{Delay: h.delay, Delayed: h.delayed, Waiting: len(h.began)}
	if h.delayed > 0 {
		s.Mean = h.total / time.Duration(h.delayed)
	}
	return s
}
