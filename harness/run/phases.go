package run

import (
	"strings"
	"sync"

	"gameday/clusters/upgrade"
)

// phases tells those who wait for a phase that it began or ended. A phase may
// come more than once (a blocked step is run again): of its beginnings the first
// counts, and when it begins again its end, and its parts', is still to come.
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
		if state == upgrade.Ended && p.within(path) {
			close(c)
		}
	}
	return c
}

// within says whether a phase that the path is a part of has ended.
func (p *phases) within(path string) bool {
	for whole, c := range p.ended {
		if strings.HasPrefix(path, whole+"/") && closed(c) {
			return true
		}
	}
	return false
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// publish opens the gate of the phase's state. The end of a phase is the end of
// its parts, whether theirs was observed or not: nothing goes on in them.
func (p *phases) publish(path string, state upgrade.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if state == upgrade.Began {
		for part, c := range p.ended {
			if (part == path || strings.HasPrefix(part, path+"/")) && closed(c) {
				delete(p.ended, part)
			}
		}
	}
	open := []chan struct{}{p.gateLocked(path, state)}
	if state == upgrade.Ended {
		for part, c := range p.ended {
			if strings.HasPrefix(part, path+"/") {
				open = append(open, c)
			}
		}
	}
	for _, c := range open {
		if !closed(c) {
			close(c)
		}
	}
}

// finish says that no phase will come any more.
func (p *phases) finish() { p.once.Do(func() { close(p.over) }) }
