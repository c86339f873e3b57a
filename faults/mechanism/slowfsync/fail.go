package slowfsync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/process"

	"golang.org/x/sys/unix"
)

// FailChild is the name of the entry point RunFailing, for child.Main.
const FailChild = "failfsync"

// findEvery is how often processes that were started meanwhile are looked for.
const findEvery = 50 * time.Millisecond

// FailOptions say what is to fail.
type FailOptions struct {
	// Init and Program name the processes: those of this program below that process, as in process.Find, now and
	// whenever one is started.
	Init    process.Ref
	Program string
	// Errno is the error. The kernel is not asked: nothing is written back.
	Errno unix.Errno
	// Match, MaxHold and Log as in Options.
	Match   string
	MaxHold time.Duration
	Log     *os.File `json:"-"`
}

// FailStats are what a Failer has done so far.
type FailStats struct {
	// Failed counts the calls, Processes those that they were of.
	Failed, Processes int
}

// Failer is a child that lets the calls of processes fail.
type Failer struct{ tracing }

// StartFailing attaches to the processes that there are. When it returns, each later call of theirs fails; those that are
// started later are attached to within some tens of milliseconds. ctx bounds the start only.
func StartFailing(ctx context.Context, o FailOptions) (*Failer, error) {
	if o.Errno == 0 || o.MaxHold <= 0 || o.Program == "" {
		return nil, fmt.Errorf("failing fsync: an error (%d), a program (%q) and a longest hold time (%v) are needed", int(o.Errno), o.Program, o.MaxHold)
	}
	f := &Failer{}
	var err error
	f.child, err = child.Start(ctx, child.Command{Name: FailChild, MaxHold: o.MaxHold, Log: o.Log, Ready: &f.ref, Args: o})
	if err != nil {
		return nil, fmt.Errorf("failing fsync of %s below %s: %w", o.Program, o.Init, err)
	}
	return f, nil
}

// Stats asks the child for its figures.
func (f *Failer) Stats(ctx context.Context) (FailStats, error) {
	var s FailStats
	err := f.child.Call(ctx, nil, &s)
	return s, err
}

// RunFailing is the child's entry point.
func RunFailing(ctx context.Context, c *child.Conn) error {
	var o FailOptions
	if err := c.Args(&o); err != nil {
		return err
	}
	if err := killAfter(o.MaxHold + grace); err != nil {
		return err
	}
	self, err := process.Of(os.Getpid())
	if err != nil {
		return err
	}
	init, err := process.Open(o.Init)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &failing{o: o, init: init, known: map[process.Ref]bool{}, cancel: cancel}
	if err := f.attach(ctx); err != nil {
		return err
	}
	if err := c.Ready(self); err != nil {
		return err
	}
	go func() {
		if err := f.follow(ctx); err != nil {
			cancel(err)
		}
	}()
	err = c.Serve(ctx, func(json.RawMessage) (any, error) {
		return FailStats{Failed: int(f.failed.Load()), Processes: int(f.attached.Load())}, nil
	})
	return errors.Join(err, reason(ctx), init.Close())
}

// failing is what the child does.
type failing struct {
	o                FailOptions
	init             *process.Process
	known            map[process.Ref]bool
	failed, attached atomic.Int64
	cancel           context.CancelCauseFunc
}

// follow attaches to what is started, until ctx ends.
func (f *failing) follow(ctx context.Context) error {
	tick := time.NewTicker(findEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := f.attach(ctx); err != nil {
			return err
		}
	}
}

// attach attaches to the processes that are not known yet.
func (f *failing) attach(ctx context.Context) error {
	refs, err := process.Find(f.o.Init.PID, process.Named(f.o.Program))
	if err != nil {
		return err
	}
	if alive, err := f.init.Alive(); err != nil || !alive {
		return errors.Join(fmt.Errorf("%s: %w", f.o.Init, process.ErrGone), err)
	}
	for _, ref := range refs {
		if f.known[ref] {
			continue
		}
		f.known[ref] = true
		t := &tracer{pid: ref.PID, match: f.o.Match, held: newHeld(Shape{}), errno: f.o.Errno, failed: &f.failed, failing: map[int]bool{}}
		attached := make(chan struct{})
		ended := make(chan error, 1)
		go func() { ended <- t.run(attached) }()
		select {
		case <-attached:
			f.attached.Add(1)
			go func() {
				if err := <-ended; !errors.Is(err, process.ErrGone) {
					f.cancel(err)
				}
			}()
		case err := <-ended:
			if !errors.Is(err, process.ErrGone) {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
