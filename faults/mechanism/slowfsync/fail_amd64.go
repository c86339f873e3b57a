package slowfsync

import "golang.org/x/sys/unix"

// skipSyscall makes a thread that is stopped at the beginning of a system call do none: the number -1 is of none (ptrace(2),
// "Syscall-stops").
func skipSyscall(tid int) error {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil {
		return err
	}
	r.Orig_rax = ^uint64(0)
	return unix.PtraceSetRegs(tid, &r)
}

// setResult gives a thread that is stopped at the end of a system call an error for its result.
func setResult(tid int, errno unix.Errno) error {
	var r unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &r); err != nil {
		return err
	}
	r.Rax = -uint64(errno)
	return unix.PtraceSetRegs(tid, &r)
}
