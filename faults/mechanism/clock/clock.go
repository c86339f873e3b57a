// Package clock makes one running process see another time of day, without preparing the process: the others on the machine,
// and the process's own monotonic clock, stay right.
//
// A program asks for the time without entering the kernel, by code that the kernel maps into each process (the vDSO,
// vdso(7)). [Skew] writes a jump over the beginning of __vdso_clock_gettime in the process's private copy. It leads to a stub
// in the unused rest of the vDSO's last page, which asks the kernel and adds the offset, for CLOCK_REALTIME and
// CLOCK_REALTIME_COARSE only. The stub compares the kernel's monotonic clock with a deadline in its own code, so that the skew
// ends at that time whatever becomes of us. [Restore] writes the pristine bytes back, which every process has: this one's own
// copy is the same image. For both, all threads of the process are stopped with ptrace, for about a millisecond.
//
// Limits: amd64. Programs that ask by clock_gettime (Go's do; C's gettimeofday and time are not changed). A process that is
// being traced (a debugger, package slowfsync) cannot be changed meanwhile, but the other way round works. While it is skewed
// a question for the time costs a system call: about 0.4 µs in place of 0.1.
package clock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gameday/faults/mechanism/process"
)

// Errors of this package.
var (
	// ErrUnsupported is wrapped, with the reason, where this machine or this process has no vDSO that could be changed.
	ErrUnsupported = fmt.Errorf("the clock of a single process cannot be skewed here: %w", errors.ErrUnsupported)
	// ErrTaken is wrapped when somebody else has changed the process's vDSO already.
	ErrTaken = errors.New("the process's clock is skewed already, by somebody else")
)

// Change is what a process is to see.
type Change struct {
	// Owner says who asks, so that one owner's Restore does not undo another's Skew.
	Owner string
	// Offset is added to the time of day.
	Offset time.Duration
	// For is after how long the skew ends by itself, to the second.
	For time.Duration
}

// State is what stands in a process's vDSO.
type State struct {
	// Changed says that a stub of this package stands there, expired or not.
	Changed bool
	// Offset that it adds.
	Offset time.Duration
	// Left is for how long yet; negative when it has expired.
	Left time.Duration

	owner uint64
}

// Ours says whether the stub is this owner's.
func (s State) Ours(owner string) bool { return s.Changed && s.owner == ownerID(owner) }

// Look reads a process's vDSO and changes nothing.
func Look(ref process.Ref) (State, error) {
	t, err := open(ref)
	if err != nil {
		return State{}, err
	}
	s, err := t.state()
	return s, errors.Join(err, t.close())
}

// Skew changes the clock of a process, or changes it once more: the last call of an owner counts. ctx bounds the wait for
// threads that cannot stop at once, as one that waits for a disk.
func Skew(ctx context.Context, ref process.Ref, c Change) error {
	if c.For <= 0 {
		return fmt.Errorf("skew of %s for %s: it must be bounded", ref, c.For)
	}
	t, err := open(ref)
	if err != nil {
		return err
	}
	return errors.Join(t.skew(ctx, c), t.close())
}

// Restore writes the pristine vDSO back. It does nothing to a process whose clock is not skewed, or by another owner.
func Restore(ctx context.Context, ref process.Ref, owner string) error {
	t, err := open(ref)
	if err != nil {
		return err
	}
	return errors.Join(t.restore(ctx, owner), t.close())
}
