package clock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"gameday/faults/mechanism/process"
)

// target is a process whose vDSO is open.
type target struct {
	held *process.Process
	mem  *os.File
	base int64 // of the vDSO
	layout
}

func open(ref process.Ref) (_ *target, err error) {
	held, err := process.Open(ref)
	if err != nil {
		return nil, err
	}
	t := &target{held: held}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	own, err := ownVDSO()
	if err != nil {
		return t, err
	}
	if t.layout, err = layOut(own); err != nil {
		return t, err
	}
	// The file stays that of this process, whoever gets its pid: proc_pid_mem(5).
	if t.mem, err = os.OpenFile(filepath.Join("/proc", strconv.Itoa(ref.PID), "mem"), os.O_RDWR, 0); err != nil {
		return t, fmt.Errorf("memory of %s (root is needed): %w", ref, err)
	}
	lo, hi, err := vdso(strconv.Itoa(ref.PID))
	if err != nil {
		return t, err
	}
	if hi-lo != int64(len(own)) {
		return t, fmt.Errorf("%w: the vDSO of %s has %d bytes, and that of this process %d", ErrUnsupported, ref, hi-lo, len(own))
	}
	t.base = lo
	alive, err := held.Alive()
	if err == nil && !alive {
		err = fmt.Errorf("%s: %w", ref, process.ErrGone)
	}
	return t, err
}

func (t *target) close() error {
	err := t.held.Close()
	if t.mem != nil {
		err = errors.Join(err, t.mem.Close())
	}
	return err
}

func ownVDSO() ([]byte, error) {
	lo, hi, err := vdso("self")
	if err != nil {
		return nil, err
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return nil, err
	}
	b := make([]byte, hi-lo)
	_, err = mem.ReadAt(b, lo)
	return b, errors.Join(err, mem.Close())
}

// vdso says where the kernel has mapped it.
func vdso(pid string) (lo, hi int64, err error) {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "maps"))
	if err != nil {
		return 0, 0, fmt.Errorf("memory map of process %s: %w", pid, err)
	}
	for line := range bytes.Lines(b) {
		if bytes.HasSuffix(bytes.TrimSpace(line), []byte(" [vdso]")) {
			if _, err := fmt.Sscanf(string(line), "%x-%x", &lo, &hi); err != nil {
				return 0, 0, fmt.Errorf("memory map of process %s: %q: %w", pid, line, err)
			}
			return lo, hi, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: process %s has no vDSO (the kernel may have been told so: vdso=0)", ErrUnsupported, pid)
}

func monotonic() (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0, fmt.Errorf("monotonic clock: %w", err)
	}
	return ts.Sec, nil
}

func (t *target) state() (State, error) {
	copied := make([]byte, len(t.image))
	if _, err := t.mem.ReadAt(copied, t.base); err != nil {
		return State{}, fmt.Errorf("vDSO of %s: %w", t.held.Ref(), err)
	}
	now, err := monotonic()
	if err != nil {
		return State{}, err
	}
	s, err := t.understand(copied, now)
	if err != nil {
		return s, fmt.Errorf("%s: %w", t.held.Ref(), err)
	}
	return s, nil
}

func (t *target) skew(ctx context.Context, c Change) error {
	return t.stopped(ctx, func() error {
		s, err := t.state()
		if err != nil {
			return err
		}
		if s.Changed && !s.Ours(c.Owner) && s.Left > 0 {
			return fmt.Errorf("%s: %w", t.held.Ref(), ErrTaken)
		}
		now, err := monotonic()
		if err != nil {
			return err
		}
		// The jump is taken away first and comes last, so that a thread never sees half a stub.
		return errors.Join(t.write(t.entry, t.image[t.entry:t.entry+jumpSize]),
			t.write(t.layout.stub, stub(c.Offset, now+int64((c.For+time.Second-1)/time.Second), ownerID(c.Owner))),
			t.write(t.entry, t.jump()))
	})
}

func (t *target) restore(ctx context.Context, owner string) error {
	s, err := t.state()
	if err != nil {
		return err
	}
	if !s.Ours(owner) {
		return nil
	}
	return t.stopped(ctx, func() error {
		return errors.Join(t.write(t.entry, t.image[t.entry:t.entry+jumpSize]),
			t.write(t.layout.stub, t.image[t.layout.stub:t.layout.stub+stubSize]))
	})
}

func (t *target) write(at int, b []byte) error {
	if _, err := t.mem.WriteAt(b, t.base+int64(at)); err != nil {
		return fmt.Errorf("change the vDSO of %s: %w", t.held.Ref(), err)
	}
	return nil
}

// stopBound is how long a thread may take to stop. One that runs does so at once; one that waits for a disk when that has
// answered.
const stopBound = 5 * time.Second

// stopped runs f while every thread of the process stands still, none of them within the bytes that are changed. (A thread
// that was taken out of them by a signal, and is still in its handler, is not seen; the stub takes a microsecond, and the
// jump is one instruction.)
func (t *target) stopped(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, stopBound)
	defer cancel()
	done := make(chan error, 1)
	go onThread(func() { done <- t.trace(ctx, f) })
	return <-done
}

// onThread runs f on a thread that ends with it: the kernel lets go of all that it traces then, whatever happened. The main
// thread of a process cannot end, and is passed over.
func onThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return // locked, which ends the thread
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		onThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

func (t *target) trace(ctx context.Context, f func() error) (err error) {
	stopped := map[int]halted{}
	defer func() {
		for tid, h := range stopped {
			err = errors.Join(err, ignoreEnded(ptrace(unix.PTRACE_DETACH, tid, uintptr(h.signal))))
			for _, sig := range h.owed {
				err = errors.Join(err, ignoreEnded(unix.Tgkill(t.held.Ref().PID, tid, sig)))
			}
		}
	}()
	tasks := filepath.Join("/proc", strconv.Itoa(t.held.Ref().PID), "task")
	for more := true; more; { // a thread may start others until it stands still
		more = false
		threads, err := os.ReadDir(tasks)
		if err != nil {
			return fmt.Errorf("threads of %s: %w", t.held.Ref(), err)
		}
		for _, thread := range threads {
			tid, err := strconv.Atoi(thread.Name())
			if err != nil {
				return fmt.Errorf("thread of %s: %w", t.held.Ref(), err)
			}
			if _, ok := stopped[tid]; ok {
				continue
			}
			h, ok, err := t.halt(ctx, tid)
			if err != nil {
				return err
			}
			if ok {
				stopped[tid], more = h, true
			}
		}
	}
	// The threads were found by the pid. It was the target's all the time if the target still lives.
	alive, err := t.held.Alive()
	if err == nil && !alive {
		err = fmt.Errorf("%s: %w", t.held.Ref(), process.ErrGone)
	}
	if err != nil {
		return err
	}
	return f()
}

// halted is a thread that stands still.
type halted struct {
	// signal is the one that it was about to get, owed are earlier ones that it
	// was kept from getting while it was moved.
	signal unix.Signal
	owed   []unix.Signal
}

// halt stops a thread outside the bytes that are changed; false if it has ended.
func (t *target) halt(ctx context.Context, tid int) (h halted, ok bool, err error) {
	err = ptrace(unix.PTRACE_SEIZE, tid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return h, false, nil
	case err != nil:
		return h, false, fmt.Errorf("stop %s (root is needed; nobody else may trace it, as a debugger or a slow fsync does; kernel.yama.ptrace_scope must not be 3): %w", t.held.Ref(), err)
	}
	if err := ptrace(unix.PTRACE_INTERRUPT, tid, 0); err != nil {
		return h, false, ignoreEnded(err)
	}
	for {
		if h.signal, ok, err = t.await(ctx, tid); err != nil || !ok {
			return h, false, err
		}
		var regs unix.PtraceRegsAmd64
		if err := unix.PtraceGetRegsAmd64(tid, &regs); err != nil {
			return h, false, ignoreEnded(err)
		}
		at := int64(regs.Rip) - t.base
		// At the first byte of the jump it will run what stands there then.
		if !within(at, t.entry+1, t.entry+jumpSize) && !within(at, t.layout.stub, t.layout.stub+stubSize) {
			return h, true, nil
		}
		if h.signal != 0 {
			h.owed = append(h.owed, h.signal)
		}
		if err := ptrace(unix.PTRACE_SINGLESTEP, tid, 0); err != nil {
			return h, false, ignoreEnded(err)
		}
	}
}

func within(at int64, begin, end int) bool { return at >= int64(begin) && at < int64(end) }

// await waits until a thread stands still. The signal is one that was on its way to it.
func (t *target) await(ctx context.Context, tid int) (sig unix.Signal, ok bool, err error) {
	soon := time.NewTicker(50 * time.Microsecond)
	defer soon.Stop()
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(tid, &status, unix.WALL|unix.WNOTHREAD|unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return 0, false, nil // ended
		case err != nil:
			return 0, false, fmt.Errorf("wait for a thread of %s: %w", t.held.Ref(), err)
		case got == tid && !status.Stopped():
			return 0, false, nil // ended
		case got == tid:
			// A stop of our asking, by PTRACE_INTERRUPT or PTRACE_SINGLESTEP, is a SIGTRAP: ptrace(2).
			if s := unix.Signal(status.StopSignal()); s != unix.SIGTRAP && status>>16 == 0 {
				return s, true, nil
			}
			return 0, true, nil
		}
		if ctx.Err() != nil {
			return 0, false, fmt.Errorf("a thread of %s did not stop: %w", t.held.Ref(), context.Cause(ctx))
		}
		<-soon.C // there is nothing to wait on that ctx could end
	}
}

func ptrace(request, tid int, data uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// ignoreEnded is for orders to a thread that may have been killed since it stopped.
func ignoreEnded(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
