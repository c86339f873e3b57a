package run

import (
	"sync"

	"gameday/clusters/upgrade"
)

// phases tells those who wait for a phase that it began or ended. A phase may
// come more than once (a blocked step is run again); the first time counts.
type phases struct {
	mu    sync.Mutex
	began map[string]chan struct{}
	ended map[string]chan struct{}
	over  chan struct{} // no more phases will come
	once  sync.Once
}

func newPhases() *phases {
	return &phases{began: map[string]chan struct{}{}, ended: map[string]chan struct{}{}, over: make(chan struct{})}
}

// gate returns the channel that is closed when the phase reaches the state.
func (p *phases) gate(path string, state upgrade.State) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gateLocked(path, state)
}

func (p *phases) gateLocked(path string, state upgrade.State) chan struct{} {
	m := p.began
	if state == upgrade.Ended {
		m = p.ended
	}
	c, ok := m[path]
	if !ok {
		c = make(chan struct{})
		m[path] = c
	}
	return c
}

// publish opens the gate of the phase's state.
func (p *phases) publish(path string, state upgrade.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.gateLocked(path, state)
	select {
	case <-c:
	default:
		close(c)
	}
}

// finish says that no phase will come any more.
func (p *phases) finish() { p.once.Do(func() { close(p.over) }) }
