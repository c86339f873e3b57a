// Package slowfsync makes fsync and fdatasync of a running process slow, as on a bad disk, or lets them fail, as on a
// broken one ([StartFailing]), without preparing the process and at no cost while it is off.
//
// A child process (package child) attaches to all threads of the target with ptrace, holds back each call for the asked
// time before the kernel begins it, and lets everything else pass. What the target does then is its own: it has waited and
// the data is on disk. While it is attached every system call of the target takes some 10 µs longer.
//
// The kernel detaches when the child ends in any way, and a call that was being held back goes on at once. So the effect
// ends when [Holder.Stop] is called, when the starter dies (the child's lease), at the longest hold time, and, if the child
// itself hangs or is paused, a second after that time, by a kernel timer that kills it. While it is paused the target's
// system calls hang altogether; killing the process [Holder.Ref] ends that at any time.
//
// Limits: Linux 5.3+ (PTRACE_GET_SYSCALL_INFO); one tracer at a time, so not together with a debugger or another
// slowfsync; not with kernel.yama.ptrace_scope=3.
package slowfsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/process"
)

// Child is the name of the entry point Run, for child.Main.
const Child = "slowfsync"

// Options say what to slow down.
type Options struct {
	// Process whose calls are held back, with all its threads.
	Process process.Ref
	// Shape says how long each call is held back. Zero: attached, but nothing is held back.
	Shape Shape
	// Match picks the files: those whose path contains it, as the target's /proc/PID/fd shows the path. Empty: all files.
	Match string
	// MaxHold ends it, whatever happens.
	MaxHold time.Duration
	// Log receives the child's complaints; nil: stderr.
	Log *os.File
}

// Stats are what a Holder has done so far.
type Stats struct {
	// Delay is the one that holds for the next call, without its jitter.
	Delay time.Duration
	// Delayed counts the calls that were held back and let go, Waiting those that are being held back now.
	Delayed, Waiting int
	// Mean is how long those that were let go were held back on average.
	Mean time.Duration
}

// Holder is a child that slows a process down.
type Holder struct{ tracing }

// tracing is a child whose effect ends with it.
type tracing struct {
	child *child.Process
	ref   process.Ref
}

// Start attaches to a process. When it returns, every later call of the process is held back. ctx bounds the start only.
func Start(ctx context.Context, o Options) (*Holder, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	h := &Holder{}
	var err error
	h.child, err = child.Start(ctx, child.Command{
		Name: Child, MaxHold: o.MaxHold, Log: o.Log, Ready: &h.ref,
		Args: settings{Process: o.Process, Shape: o.Shape, Match: o.Match, MaxHold: o.MaxHold},
	})
	if err != nil {
		return nil, fmt.Errorf("slow fsync of %s: %w", o.Process, err)
	}
	return h, nil
}

func (o Options) check() error {
	var errs []error
	if err := o.Shape.check(); err != nil {
		errs = append(errs, err)
	}
	if o.MaxHold <= 0 {
		errs = append(errs, fmt.Errorf("longest hold time of a slow fsync: %v is not positive", o.MaxHold))
	}
	return errors.Join(errs...)
}

// Ref names the child. To kill it is a safe way to end the effect, for those who do not have the Holder.
func (h *tracing) Ref() process.Ref { return h.ref }

// Set changes the shape, also for calls that are being held back: it counts from the beginning of the call.
func (h *Holder) Set(ctx context.Context, s Shape) error {
	if err := s.check(); err != nil {
		return err
	}
	return h.child.Call(ctx, request{Shape: &s}, nil)
}

// SetDelay is Set with the same delay for each call.
func (h *Holder) SetDelay(ctx context.Context, d time.Duration) error {
	return h.Set(ctx, Shape{Delay: d})
}

// Stats asks the child for its figures.
func (h *Holder) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	err := h.child.Call(ctx, request{}, &s)
	return s, err
}

// Done is closed when the child has ended, and with it the effect: after Stop, or earlier for the reason in Err.
func (h *tracing) Done() <-chan struct{} { return h.child.Done() }

// Err says why the child ended; it wraps nothing. It is valid once Done is closed, and nil if it was asked to end.
func (h *tracing) Err() error { return h.child.Err() }

// Stop ends the effect and waits for its end. A child that does not end before ctx does is killed, which does the same.
func (h *tracing) Stop(ctx context.Context) error {
	stopErr := h.child.Stop(ctx)
	select {
	case <-h.child.Done():
		return nil // why it ended is no matter any more; Err has it
	default:
	}
	kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	if err := h.child.Kill(kill); err != nil {
		return fmt.Errorf("end the tracing process %s: %w", h.ref, errors.Join(stopErr, err))
	}
	return nil
}

// killTime bounds the wait for a killed child, which takes milliseconds.
const killTime = 10 * time.Second

// TracedBy says which process traces this one, 0 if none does.
func TracedBy(pid int) (int, error) {
	tid, err := statusNumber(pid, "TracerPid")
	if err != nil || tid == 0 {
		return 0, err
	}
	return statusNumber(tid, "Tgid") // what it says is the tracer's thread
}

// statusNumber reads a number from /proc/PID/status of a process or thread (proc_pid_status(5)).
func statusNumber(pid int, name string) (int, error) {
	file := fmt.Sprintf("/proc/%d/status", pid)
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("%s of a process: %w", name, err)
	}
	n, err := parseNumber(b, name)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return n, nil
}

func parseNumber(status []byte, name string) (int, error) {
	for line := range bytes.Lines(status) {
		if v, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			return strconv.Atoi(string(bytes.TrimSpace(v)))
		}
	}
	return 0, fmt.Errorf("no %s", name)
}
