// Package late holds back packets that come in to a network namespace: for a fixed time, for one that goes up and down, for
// as long as a slow link would take, or only some of them, so that the others overtake them.
//
// A rule (see package intake) hands the packets to a netfilter queue, and a child process gives the verdicts when they are
// due. It needs no netem, which many kernels lack, leaves the qdiscs of the node as they are, and is undone by the kernel:
//   - The rules go with the child that made them, and the child with its parent. A queue without a listener lets pass.
//   - A child that hangs keeps them for the time to live of the rules.
//
// What waits in the queue when the child is killed is lost; when it ends as asked it is let through.
//
// The delay counts once for each round trip: what the namespace sends is not touched. It is later than asked by 0.1 to 0.3 ms.
package late

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/intake"
	"gameday/faults/mechanism/process"
)

// Child is the name of the entry point Run.
const Child = "late"

// killTime bounds the wait for a killed child, which takes milliseconds.
const killTime = 10 * time.Second

// Target is a namespace, and which packets are held back there.
type Target struct {
	// NetNS is a path of it that the child can open too.
	NetNS string
	// Rules say which; their Lose and Queue are not given.
	Rules []intake.Rule
}

// Options say what is held back.
type Options struct {
	// Tag names the tables.
	Tag     string
	Targets []Target
	Shape   Shape
	// MaxHold ends it by itself.
	MaxHold time.Duration
	// TTL is how long the rules live without a refresh; the child refreshes them each fifth of it.
	TTL time.Duration
	// Log receives the child's stderr; nil: the parent's own.
	Log *os.File
}

// Stats are what the child has seen.
type Stats struct {
	// Held counts the packets that were held back and let go, Dropped those that were too many for the backlog of a slow
	// link, Waiting those that wait now.
	Held, Dropped, Waiting int
	// Lost counts how often packets came faster than they could be read.
	Lost int
}

// Holder is a child that holds packets back.
type Holder struct {
	child *child.Process
	ref   process.Ref
}

// Start begins; when it returns every later packet is held back. ctx bounds the start only.
func Start(ctx context.Context, o Options) (*Holder, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	h := &Holder{}
	var err error
	h.child, err = child.Start(ctx, child.Command{
		Name: Child, MaxHold: o.MaxHold, Log: o.Log, Ready: &h.ref,
		Args: settings{Tag: o.Tag, Targets: o.Targets, Shape: o.Shape, MaxHold: o.MaxHold, TTL: o.TTL},
	})
	if err != nil {
		return nil, fmt.Errorf("hold packets back: %w", err)
	}
	return h, nil
}

func (o Options) check() error {
	errs := []error{o.Shape.Check()}
	if o.MaxHold <= 0 || o.TTL <= 0 {
		errs = append(errs, fmt.Errorf("longest hold time %v and time to live %v must be positive", o.MaxHold, o.TTL))
	}
	if len(o.Targets) == 0 {
		errs = append(errs, errors.New("no namespace to hold packets back in"))
	}
	return errors.Join(errs...)
}

// Ref names the child. To kill it is a safe way to end the effect, for those who do not have the Holder.
func (h *Holder) Ref() process.Ref { return h.ref }

// Set changes the shape, for packets that come from now on.
func (h *Holder) Set(ctx context.Context, s Shape) error {
	if err := s.Check(); err != nil {
		return err
	}
	return h.child.Call(ctx, request{Shape: &s}, nil)
}

// Stats asks the child for its figures.
func (h *Holder) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	err := h.child.Call(ctx, request{}, &s)
	return s, err
}

// Done is closed when the child has ended, and with it the effect.
func (h *Holder) Done() <-chan struct{} { return h.child.Done() }

// Stop lets all go and waits for the end of the child. One that does not end before ctx does is killed, which has the same
// effect but for the packets that wait.
func (h *Holder) Stop(ctx context.Context) error {
	stopErr := h.child.Stop(ctx)
	select {
	case <-h.child.Done():
		return nil
	default:
	}
	kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	if err := h.child.Kill(kill); err != nil {
		return fmt.Errorf("end the process that holds packets back, %s: %w", h.ref, errors.Join(stopErr, err))
	}
	return nil
}
