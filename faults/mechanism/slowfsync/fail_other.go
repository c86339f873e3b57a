//go:build !amd64 && !arm64

package slowfsync

import (
	"errors"

	"golang.org/x/sys/unix"
)

func skipSyscall(int) error           { return errors.ErrUnsupported }
func setResult(int, unix.Errno) error { return errors.ErrUnsupported }
