package selfcheck

import (
	"context"
	"sync"
	"time"
)

// pulse measures how late this process gets the CPU, apart from the samplers: it
// wakes up every beat and keeps each time that it was late by more.
type pulse struct {
	mu     sync.Mutex
	stalls []stall
}

type stall struct {
	from, to time.Time
}

const beat = 5 * time.Millisecond

// run beats until ctx ends.
func (p *pulse) run(ctx context.Context) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		if now.Sub(last) > 2*beat {
			p.mu.Lock()
			p.stalls = append(p.stalls, stall{last.Add(beat), now})
			p.mu.Unlock()
		}
		last = now
	}
}

// worst is the longest stall that touches a time.
func (p *pulse) worst(from, to time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var most time.Duration
	for _, s := range p.stalls {
		if s.from.Before(to) && s.to.After(from) {
			most = max(most, s.to.Sub(s.from))
		}
	}
	return most
}
