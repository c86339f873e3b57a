package faults

import (
	"context"
	"errors"
	"sync"
	"time"

	"gameday/faults/mechanism/cut"
)

// heldCut is a cut on the wire that lasts for as long as this process keeps it: made
// by the first Inject, set anew by each other one, refreshed until its deadline.
type heldCut struct {
	mu       sync.Mutex
	cut      *cut.Cut
	deadline time.Time
	stop     context.CancelFunc
	done     chan struct{}
}

// set makes the cut if there is none, and sets what is lost.
func (h *heldCut) set(ctx context.Context, env Env, open func() (*cut.Cut, error), lose func(*cut.Cut, time.Duration) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cut == nil {
		c, err := open()
		if err != nil {
			return err
		}
		h.cut, h.deadline = c, time.Now().Add(env.MaxHold)
		keep, stop := context.WithDeadline(context.WithoutCancel(ctx), h.deadline)
		h.stop, h.done = stop, make(chan struct{})
		go refresh(keep, c.Refresh, h.deadline, h.done, env.Log)
	}
	return lose(h.cut, life(h.deadline))
}

// held says whether this process made the cut.
func (h *heldCut) held() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cut != nil
}

// heal ends the cut. In another process it has nothing to do where the kernel knows
// the owner of the table: it went with that one. If that one only hangs what is lost
// expires, and the proof waits for that. Elsewhere (Linux before 5.12) it removes the
// table.
func (h *heldCut) heal(ctx context.Context, env Env) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cut != nil {
		h.stop()
		<-h.done
		err := h.cut.Close()
		h.cut = nil
		return err
	}
	return sweepCuts(ctx, env)
}

// sweepCuts removes what no living process owns.
func sweepCuts(ctx context.Context, env Env) error {
	var errs []error
	swept := map[string]bool{}
	for _, n := range env.Targets {
		l, err := link(ctx, n)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if swept[l.BridgeNetNS] {
			continue
		}
		swept[l.BridgeNetNS] = true
		left, err := cut.Sweep(l.BridgeNetNS, env.Tag)
		for _, t := range left {
			if t.Held {
				env.Log("the table bridge %s belongs to a living process; its pairs expire within %s", t.Table, cutTTL)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
