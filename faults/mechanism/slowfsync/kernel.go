package slowfsync

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below have no wrapper in golang.org/x/sys/unix.

// nativeArch is the AUDIT_ARCH of this machine's own system calls, whose numbers we know: linux include/uapi/linux/audit.h.
var nativeArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]

// ptrace is ptrace(2) without an address. It must be called on the tracer's thread.
func ptrace(request, tid, data int) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, uintptr(data), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// resume lets a stopped thread go on to the beginning or end of its next system call, with a signal or 0.
func resume(tid, signal int) error {
	return ignoreEnded(ptrace(unix.PTRACE_SYSCALL, tid, signal))
}

// ignoreEnded is for orders to a thread that may have been killed since it stopped; its end is reported by wait4.
func ignoreEnded(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// info is the beginning of struct ptrace_syscall_info, for a stop at the entry: linux include/uapi/linux/ptrace.h.
type info struct {
	op     uint8
	_      [3]uint8
	arch   uint32
	ip, sp uint64
	nr     uint64
	args   [6]uint64
}

func syscallInfo(tid int) (info, error) {
	var i info
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(i), uintptr(unsafe.Pointer(&i)), 0, 0)
	switch errno {
	case 0, unix.ESRCH: // killed: an info of zeros is that of no system call
		return i, nil
	case unix.EIO:
		return i, fmt.Errorf("which system call a thread is in (Linux 5.3 or later is needed): %w", errno)
	}
	return i, fmt.Errorf("which system call a thread is in: %w", errno)
}

// interruptible makes a signal end a blocking system call of the thread that gets it. Go sets SA_RESTART on all signals, so
// that wait4 would go on.
func interruptible(sig unix.Signal) error {
	var action struct { // struct kernel_sigaction of amd64 and arm64
		handler, flags, restorer uintptr
		mask                     uint64
	}
	const (
		saRestart = 0x10000000
		maskSize  = unsafe.Sizeof(action.mask)
	)
	if _, _, errno := unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&action)), maskSize, 0, 0); errno != 0 {
		return fmt.Errorf("read the handler of %s: %w", unix.SignalName(sig), errno)
	}
	action.flags &^= saRestart
	if _, _, errno := unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, maskSize, 0, 0); errno != 0 {
		return fmt.Errorf("change the handler of %s: %w", unix.SignalName(sig), errno)
	}
	return nil
}

// hurry lets this thread go before others: a tracer that waits for the processor makes the delays longer than asked, and
// every other system call too. Without the right to do so (CAP_SYS_NICE) it is only less exact.
func hurry() {
	const first = -20
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), first); err != nil {
		fmt.Fprintf(os.Stderr, "slow fsync: delays will be too long while the machine is busy: raise the priority: %v\n", err)
	}
}

// killAfter makes the kernel kill this process after d, even if it hangs or is paused then: timer_create(2).
func killAfter(d time.Duration) error {
	event := struct { // struct sigevent
		value          uintptr
		signal, notify int32
		_              [48]byte
	}{signal: int32(unix.SIGKILL)} // notify 0 is SIGEV_SIGNAL
	var id int32
	if _, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&id))); errno != 0 {
		return fmt.Errorf("make a kernel timer: %w", errno)
	}
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}
	if _, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(id), 0, uintptr(unsafe.Pointer(&at)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("set a kernel timer: %w", errno)
	}
	return nil
}
