package report

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// maxQueued is how many lines wait for a terminal that takes none (Ctrl-S, a
	// pipe whose reader sleeps): a run of an hour shows fewer.
	maxQueued = 4096
	// flushWithin is how long the end of a run waits for them.
	flushWithin = 5 * time.Second
)

// queue writes lines in order, and never makes who gives them wait: the run
// samples and heals whether or not somebody reads what it says.
type queue struct {
	w io.Writer

	mu      sync.Mutex
	lines   []string
	dropped int           // lines after those, which found the queue full
	idle    chan struct{} // closed when all is written; nil if nothing is under way
}

func (q *queue) put(line string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) >= maxQueued {
		q.dropped++
		return
	}
	q.lines = append(q.lines, line)
	if q.idle == nil {
		q.idle = make(chan struct{})
		go q.write()
	}
}

// write writes until nothing is left. Only one is at work at a time.
func (q *queue) write() {
	for {
		q.mu.Lock()
		lines, dropped := q.lines, q.dropped
		q.lines, q.dropped = nil, 0
		if len(lines) == 0 { // so none was dropped either
			close(q.idle)
			q.idle = nil
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		if dropped > 0 {
			lines = append(lines, fmt.Sprintf("%6s  %-8s %d lines are missing here, which the terminal did not take; the record has them\n", "", "dropped", dropped))
		}
		for _, l := range lines {
			// A terminal that is gone is no reason to end: the record has it all.
			_, _ = io.WriteString(q.w, l)
		}
	}
}

// flush waits until all is written, but not for longer than the bound.
func (q *queue) flush(bound time.Duration) {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	if idle == nil {
		return
	}
	t := time.NewTimer(bound)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
	}
}
