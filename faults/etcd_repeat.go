package faults

import (
	"context"
	"sync"
	"time"
)

// repeater does something again and again in this process, and ends with it.
type repeater struct {
	mu   sync.Mutex
	end  context.CancelFunc
	done chan struct{}
}

// start begins, unless it is at it already. ctx does not bound it, maxHold does.
func (r *repeater) start(ctx context.Context, maxHold, every time.Duration, do func(ctx context.Context)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done != nil {
		select {
		case <-r.done:
		default:
			return
		}
	}
	ctx, r.end = context.WithTimeout(context.WithoutCancel(ctx), maxHold)
	done := make(chan struct{})
	r.done = done
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			do(ctx)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
}

// stop ends it, and returns when nothing more will be done.
func (r *repeater) stop(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		return nil
	}
	r.end()
	select {
	case <-r.done:
		r.done = nil
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
