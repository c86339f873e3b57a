// Package process finds processes of this machine and sends them signals, and never hits another process that got the same
// pid in the meantime.
//
// A [Ref] names one process for good: it can be written to a journal and read by another process after a crash. [Open]
// turns it into a [Process], which is held by a pidfd (Linux 5.3+): the kernel delivers a signal sent through it to that
// process or to none. [Find] looks inside a container from outside, by its pid namespace.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// procfs is where the kernel shows processes.
const procfs = "/proc"

// ErrGone means that the process has ended (it may still be a zombie), or that its pid belongs to another one now.
var ErrGone = errors.New("the process is gone")

// Ref names one process: no other one, before or after, has the same three values.
type Ref struct {
	PID int `json:"pid"`
	// StartTime is in clock ticks since the boot, field 22 of /proc/PID/stat (proc_pid_stat(5)).
	StartTime uint64 `json:"startTime"`
	// BootID is /proc/sys/kernel/random/boot_id.
	BootID string `json:"bootID"`
}

func (r Ref) String() string { return fmt.Sprintf("process %d", r.PID) }

// Of names the process that has this pid now.
func Of(pid int) (Ref, error) {
	boot, err := bootID(procfs)
	if err != nil {
		return Ref{}, err
	}
	start, _, err := stat(filepath.Join(procfs, strconv.Itoa(pid)))
	if err != nil {
		return Ref{}, err
	}
	return Ref{PID: pid, StartTime: start, BootID: boot}, nil
}

// Process is a process that is held: its pid may be reused, but never for this Process.
type Process struct {
	ref Ref
	fd  int
}

// Open holds the process that ref names. The error wraps ErrGone if it has ended.
func Open(ref Ref) (*Process, error) {
	boot, err := bootID(procfs)
	if err != nil {
		return nil, err
	}
	if boot != ref.BootID {
		return nil, fmt.Errorf("%s of an earlier boot: %w", ref, ErrGone)
	}
	fd, err := unix.PidfdOpen(ref.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // EINVAL: the pid is now that of a thread
		return nil, fmt.Errorf("%s: %w", ref, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("hold %s: %w", ref, err)
	}
	p := &Process{ref: ref, fd: fd}
	// Only now: had the pid been reused before the pidfd was opened, the start time is another one, and after that it
	// cannot be reused without the pidfd showing the end.
	start, _, err := stat(filepath.Join(procfs, strconv.Itoa(ref.PID)))
	if err == nil && start != ref.StartTime {
		err = fmt.Errorf("%s: the pid belongs to another one: %w", ref, ErrGone)
	}
	if err == nil {
		var alive bool
		if alive, err = p.Alive(); err == nil && !alive {
			err = fmt.Errorf("%s: %w", ref, ErrGone)
		}
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Ref names the process.
func (p *Process) Ref() Ref { return p.ref }

// Close lets go of the process and does nothing to it.
func (p *Process) Close() error {
	if err := unix.Close(p.fd); err != nil {
		return fmt.Errorf("let go of %s: %w", p.ref, err)
	}
	return nil
}

// Signal sends a signal to the process as a whole. The error wraps ErrGone if it was reaped.
func (p *Process) Signal(sig unix.Signal) error {
	err := unix.PidfdSendSignal(p.fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to %s: %w", unix.SignalName(sig), p.ref, ErrGone)
	}
	if err != nil {
		return fmt.Errorf("send %s to %s: %w", unix.SignalName(sig), p.ref, err)
	}
	return nil
}

// Kill ends the process with SIGKILL; Wait sees when it has ended.
func (p *Process) Kill() error { return p.Signal(unix.SIGKILL) }

// Stop pauses the process with SIGSTOP; Stopped sees when it is paused. Its connections stay open: the kernel goes on
// acknowledging what is sent to it.
func (p *Process) Stop() error { return p.Signal(unix.SIGSTOP) }

// Cont lets a paused process go on, with SIGCONT. It does nothing to one that is not paused.
func (p *Process) Cont() error { return p.Signal(unix.SIGCONT) }

// Alive says whether the process has not ended; a zombie has.
func (p *Process) Alive() (bool, error) { return p.alive(0) }

// Wait returns when the process has ended.
func (p *Process) Wait(ctx context.Context) error {
	for {
		// A short poll at a time, so that the end of ctx is seen; the end of the process ends the poll at once.
		alive, err := p.alive(10 * time.Millisecond)
		if err != nil || !alive {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s has not ended: %w", p.ref, context.Cause(ctx))
		}
	}
}

// alive waits up to d for the end; a pidfd becomes readable then (pidfd_open(2)).
func (p *Process) alive(d time.Duration) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(d.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether %s is alive: %w", p.ref, err)
	}
	return n == 0, nil
}

// Stopped says whether every thread of the process is paused by a stop signal.
func (p *Process) Stopped() (bool, error) {
	dir := filepath.Join(procfs, strconv.Itoa(p.ref.PID), "task")
	threads, err := os.ReadDir(dir)
	if err != nil {
		return false, gone(dir, err)
	}
	for _, t := range threads {
		_, state, err := stat(filepath.Join(dir, t.Name()))
		if err != nil {
			return false, err
		}
		if state != 'T' {
			return false, nil
		}
	}
	// What was read was this process only if it is still there.
	alive, err := p.Alive()
	if err == nil && !alive {
		err = fmt.Errorf("%s: %w", p.ref, ErrGone)
	}
	return err == nil, err
}

func bootID(proc string) (string, error) {
	b, err := os.ReadFile(filepath.Join(proc, "sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("identity of this boot: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// stat reads the start time and the state letter of a process or thread from its folder in /proc (proc_pid_stat(5)).
func stat(dir string) (start uint64, state byte, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, 0, gone(dir, err)
	}
	// The second field is the name in brackets, which may itself hold brackets and spaces: what follows begins with the third.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const stateField, startField = 0, 22 - 3
	if len(fields) <= startField {
		return 0, 0, fmt.Errorf("%s/stat has an unknown format: %q", dir, b)
	}
	start, err = strconv.ParseUint(string(fields[startField]), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("start time in %s/stat: %w", dir, err)
	}
	return start, fields[stateField][0], nil
}

// gone turns the errors by which /proc says that a process has ended into ErrGone.
func gone(dir string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%s: %w", dir, ErrGone)
	}
	return err
}
