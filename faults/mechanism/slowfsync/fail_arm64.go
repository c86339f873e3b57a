package slowfsync

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ntARMSystemCall is the register set with the number of the system call: NT_ARM_SYSTEM_CALL in linux
// include/uapi/linux/elf.h.
const ntARMSystemCall = 0x404

// skipSyscall makes a thread that is stopped at the beginning of a system call do none: the number -1 is of none (ptrace(2),
// "Syscall-stops").
func skipSyscall(tid int) error {
	none := int32(-1)
	v := unix.Iovec{Base: (*byte)(unsafe.Pointer(&none)), Len: uint64(unsafe.Sizeof(none))}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SETREGSET, uintptr(tid), ntARMSystemCall, uintptr(unsafe.Pointer(&v)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// setResult gives a thread that is stopped at the end of a system call an error for its result.
func setResult(tid int, errno unix.Errno) error {
	const general = 1 // NT_PRSTATUS
	var r unix.PtraceRegsArm64
	if err := unix.PtraceGetRegSetArm64(tid, general, &r); err != nil {
		return err
	}
	r.Regs[0] = -uint64(errno)
	return unix.PtraceSetRegSetArm64(tid, general, &r)
}
