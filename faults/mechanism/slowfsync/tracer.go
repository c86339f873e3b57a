package slowfsync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"gameday/faults/mechanism/process"

	"golang.org/x/sys/unix"
)

// tracer holds the threads of one process by ptrace(2). Only the thread that attached may give orders to them, so that
// thread (run) does nothing else: it waits for the kernel's reports, and is poked by clock when a call is due.
type tracer struct {
	pid   int
	match string
	// Calls are held back, or, if errno is set, fail with it before the kernel begins them.
	held   *held
	errno  unix.Errno
	failed *atomic.Int64
	tid    atomic.Int64 // of the thread of run

	failing map[int]bool // threads in a call that was taken away from the kernel
}

// errEnded means that the traced process has ended.
var errEnded = fmt.Errorf("the traced process has ended: %w", process.ErrGone)

// run attaches, closes attached, and then serves the kernel's reports until the process has ended. The kernel detaches
// when its thread ends.
func (t *tracer) run(attached chan<- struct{}) error {
	runtime.LockOSThread() // and never unlocked
	t.tid.Store(int64(unix.Gettid()))
	hurry()
	if err := interruptible(poke); err != nil {
		return err
	}
	if err := t.attach(); err != nil {
		return err
	}
	close(attached)
	for {
		for _, tid := range t.held.due(time.Now()) { // none if calls fail
			if err := resume(tid, 0); err != nil {
				return err
			}
		}
		var status unix.WaitStatus
		// Only this thread's tracees, never a child that another part of the program waits for.
		tid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR): // poked
		case errors.Is(err, unix.ECHILD):
			return errEnded
		case err != nil:
			return fmt.Errorf("wait for the threads of process %d: %w", t.pid, err)
		case status.Stopped():
			if err := t.stopped(tid, status); err != nil {
				return err
			}
		default: // the thread has ended
			t.held.forget(tid)
			delete(t.failing, tid)
		}
	}
}

// attach seizes all threads. Those that a seized thread starts are seized by the kernel.
func (t *tracer) attach() error {
	tasks := filepath.Join("/proc", strconv.Itoa(t.pid), "task")
	seized := map[string]bool{}
	for more := true; more; {
		threads, err := os.ReadDir(tasks)
		if err != nil {
			return errors.Join(errEnded, err)
		}
		more = false
		for _, thread := range threads {
			if seized[thread.Name()] {
				continue
			}
			seized[thread.Name()], more = true, true
			tid, err := strconv.Atoi(thread.Name())
			if err != nil {
				return fmt.Errorf("thread of process %d: %w", t.pid, err)
			}
			if err := t.seize(tid); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tracer) seize(tid int) error {
	err := ptrace(unix.PTRACE_SEIZE, tid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE)
	switch {
	case errors.Is(err, unix.ESRCH): // ended
		return nil
	case errors.Is(err, unix.EPERM):
		by, byErr := statusNumber(tid, "TracerPid")
		switch {
		case errors.Is(byErr, os.ErrNotExist) || byErr == nil && by == int(t.tid.Load()):
			return nil // ended, or the kernel was first
		case by != 0:
			return fmt.Errorf("process %d is traced already, by thread %d, perhaps of a debugger; end that one first", t.pid, by)
		}
		return fmt.Errorf("trace process %d (root is needed, and kernel.yama.ptrace_scope must not be 3): %w", t.pid, err)
	case err != nil:
		return fmt.Errorf("trace process %d: %w", t.pid, err)
	}
	// The thread stops before it runs any more of its program, and goes on with its system calls reported.
	return ignoreEnded(ptrace(unix.PTRACE_INTERRUPT, tid, 0))
}

// stopped lets a stopped thread go on, or not yet.
func (t *tracer) stopped(tid int, status unix.WaitStatus) error {
	const inSyscall = unix.SIGTRAP | 0x80 // PTRACE_O_TRACESYSGOOD
	event := int(status) >> 16
	switch sig := status.StopSignal(); {
	case sig == inSyscall:
		hold, err := t.syscall(tid)
		if err != nil || hold {
			return err
		}
		return resume(tid, 0)
	case event == unix.PTRACE_EVENT_STOP && sig != unix.SIGTRAP:
		// A stop signal has paused the process: it stays so until SIGCONT.
		return ignoreEnded(ptrace(unix.PTRACE_LISTEN, tid, 0))
	case event != 0:
		return resume(tid, 0)
	default: // a signal is on its way to the thread
		return resume(tid, int(sig))
	}
}

// syscall handles a thread that is stopped at the beginning or end of a system call, and says whether to hold it back.
func (t *tracer) syscall(tid int) (hold bool, err error) {
	info, err := syscallInfo(tid)
	if err != nil {
		return false, err
	}
	if info.op == unix.PTRACE_SYSCALL_INFO_EXIT && t.failing[tid] {
		delete(t.failing, tid)
		t.failed.Add(1)
		return false, ignoreEnded(setResult(tid, t.errno))
	}
	if info.op != unix.PTRACE_SYSCALL_INFO_ENTRY || info.arch != nativeArch || info.nr != unix.SYS_FSYNC && info.nr != unix.SYS_FDATASYNC {
		return false, nil
	}
	now := time.Now()
	file := int32(info.args[0])
	if ours, err := t.matches(tid, file); err != nil || !ours {
		return false, err
	}
	if t.errno == 0 {
		return t.held.hold(tid, file, now), nil
	}
	if err := skipSyscall(tid); err != nil {
		return false, ignoreEnded(err)
	}
	t.failing[tid] = true
	return false, nil
}

// matches says whether a file of a thread is one of those asked for.
func (t *tracer) matches(tid int, file int32) (bool, error) {
	if t.match == "" {
		return true, nil
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, file))
	if errors.Is(err, os.ErrNotExist) { // a bad file number, which the kernel will refuse, or the thread was killed
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("file of an fsync: %w", err)
	}
	return strings.Contains(path, t.match), nil
}

const (
	// poke is sent to the tracer's thread to end its wait. Go takes no notice of it.
	poke = unix.SIGUSR2
	// pokeAgain is the time to the next poke, should one have come just before the wait began.
	pokeAgain = 100 * time.Microsecond
	// coarse is how late Go's timers may be (about 1 ms); the rest of a wait is left to the kernel's.
	coarse = 1500 * time.Microsecond
)

// clock pokes the tracer when a call is due, until ctx ends.
func (t *tracer) clock(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	hurry()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		left, waiting := t.held.next(time.Now())
		switch {
		case !waiting || left > coarse:
			if waiting {
				timer.Reset(left - coarse)
			} else {
				timer.Stop()
			}
			select {
			case <-timer.C:
			case <-t.held.changed:
			case <-ctx.Done():
			}
			continue
		case left <= 0:
			if err := unix.Tgkill(os.Getpid(), int(t.tid.Load()), poke); err != nil {
				return fmt.Errorf("poke the tracer's thread: %w", err)
			}
			left = pokeAgain
		}
		pause := unix.NsecToTimespec(left.Nanoseconds())
		if err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &pause, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the end of a delay: %w", err)
		}
	}
	return nil
}
