package upgrade

import "sync"

// publisher hands phases on in the order in which they were observed, from a
// goroutine of its own: recording one may take a while (fsync), and whoever
// observes must not wait for it.
type publisher struct {
	publish func(Phase)

	mu    sync.Mutex
	queue []Phase
	busy  bool
	idle  *sync.Cond
}

func newPublisher(publish func(Phase)) *publisher {
	p := &publisher{publish: publish}
	p.idle = sync.NewCond(&p.mu)
	return p
}

// add queues a phase.
func (p *publisher) add(ph Phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, ph)
	if !p.busy {
		p.busy = true
		go p.drain()
	}
}

func (p *publisher) drain() {
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.busy = false
			p.idle.Broadcast()
			p.mu.Unlock()
			return
		}
		next := p.queue[0]
		p.queue = p.queue[1:]
		p.mu.Unlock()
		p.publish(next)
	}
}

// flush returns when everything added before was published.
func (p *publisher) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.busy {
		p.idle.Wait()
	}
}
