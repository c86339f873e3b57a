package slowfsync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/process"
)

// settings are the child's arguments.
type settings struct {
	Process process.Ref
	Shape   Shape
	Match   string
	MaxHold time.Duration
}

// request is what the child is asked while it runs; the answer is always Stats.
type request struct {
	Shape *Shape `json:",omitempty"` // a new one
}

// grace is how much longer than the longest hold time a child may live that does not end by itself.
const grace = time.Second

// Run is the child's entry point.
func Run(ctx context.Context, c *child.Conn) error {
	var s settings
	if err := c.Args(&s); err != nil {
		return err
	}
	if err := killAfter(s.MaxHold + grace); err != nil {
		return err
	}
	target, err := process.Open(s.Process)
	if err != nil {
		return err
	}
	self, err := process.Of(os.Getpid())
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := &tracer{pid: s.Process.PID, match: s.Match, held: newHeld(s.Shape)}
	attached := make(chan struct{})
	go func() { cancel(t.run(attached)) }()
	select {
	case <-attached:
	case <-ctx.Done():
		return reason(ctx)
	}
	// The threads were found by the pid. It was the target's all the time if the target still lives.
	alive, err := target.Alive()
	if err := errors.Join(err, target.Close()); err != nil {
		return err
	}
	if !alive {
		return fmt.Errorf("%s: %w", s.Process, process.ErrGone)
	}
	if err := c.Ready(self); err != nil {
		return err
	}
	go func() {
		if err := t.clock(ctx); err != nil {
			cancel(err)
		}
	}()
	err = c.Serve(ctx, func(raw json.RawMessage) (any, error) {
		var r request
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, fmt.Errorf("request to a slow fsync: %w", err)
		}
		if r.Shape != nil {
			t.held.set(*r.Shape)
		}
		return t.held.stats(time.Now()), nil
	})
	// The tracer thread is left as it is: its end, with this process, is what makes the kernel detach.
	return errors.Join(err, reason(ctx))
}

// reason is why ctx ended, or nil if that was asked for.
func reason(ctx context.Context) error {
	err := context.Cause(ctx)
	for _, asked := range []error{child.ErrLeaseEnded, child.ErrMaxHold, child.ErrSignal} {
		if errors.Is(err, asked) {
			return nil
		}
	}
	return err
}
