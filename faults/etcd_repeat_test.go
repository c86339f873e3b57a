package faults

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

func TestRepeater(t *testing.T) {
	var r repeater
	if err := r.stop(t.Context()); err != nil { // before it began
		t.Error(err)
	}
	var calls, running atomic.Int64
	do := func(ctx context.Context) {
		if running.Add(1) > 1 {
			t.Error("two at a time")
		}
		calls.Add(1)
		running.Add(-1)
	}
	reach := func(n int64) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); calls.Load() < n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d calls, want %d", calls.Load(), n)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.start(ctx, time.Minute, time.Millisecond, do)
	r.start(ctx, time.Minute, time.Millisecond, do)
	cancel() // the injection is over, the fault is not
	reach(3)
	if err := r.stop(t.Context()); err != nil {
		t.Error(err)
	}
	was := calls.Load()
	r.start(t.Context(), 20*time.Millisecond, time.Millisecond, do) // again, until its longest time
	reach(was + 1)
	<-r.done
	if err := r.stop(t.Context()); err != nil {
		t.Error(err)
	}
	// One that does not end is waited for, but not for ever.
	stuck := make(chan struct{})
	r.start(t.Context(), time.Minute, time.Millisecond, func(context.Context) { <-stuck })
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.stop(short); err == nil {
		t.Error("one that goes on has ended")
	}
	close(stuck)
	if err := r.stop(t.Context()); err != nil {
		t.Error(err)
	}
}
