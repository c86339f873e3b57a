// Package loopdisk does to a mounted ext4 file system what happens to disks: it fills up, it hangs, and it is gone at once
// with all that had not reached it. The file system must be one that nothing else lives on, on a loop device for instance.
//
//   - [Fill] takes all free space by a file without content, in milliseconds; [Empty] removes it.
//   - [StartFreeze] stops all writes; whoever writes waits, and cannot even be killed until the file system is thawed. A
//     child process (package child) holds the freeze and thaws when its parent lets go, is killed, or at the longest hold
//     time. The kernel does not thaw when the child itself is killed: [Thaw] does, from any process. A sync(2) of all file
//     systems, by anybody on the machine, waits as well.
//   - [Shutdown] loses the power: what was not synced is lost, also from the memory of this machine, and every later
//     operation fails with EIO. Only a new mount, of which the kernel recovers the journal, brings the file system back.
package loopdisk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/process"

	"golang.org/x/sys/unix"
)

// Numbers of ioctl(2) that golang.org/x/sys/unix does not have.
const (
	fiFreeze     = 0xc0045877 // FIFREEZE, linux include/uapi/linux/fs.h
	fiThaw       = 0xc0045878 // FITHAW
	ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN, linux include/uapi/linux/ext4.h
	// noLogFlush is EXT4_GOING_FLAGS_NOLOGFLUSH: what the journal has in memory is lost.
	noLogFlush = 2
)

// Shutdown loses the power of the file system that is mounted at a path.
func Shutdown(mount string) error {
	d, err := os.Open(mount)
	if err != nil {
		return err
	}
	defer d.Close()
	how := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		if errno == unix.ENOTTY || errno == unix.EOPNOTSUPP {
			return fmt.Errorf("shut %s down: its file system cannot: %w: %w", mount, errno, errors.ErrUnsupported)
		}
		return fmt.Errorf("shut %s down: %w", mount, errno)
	}
	return nil
}

// IsShutDown says whether the file system below a path was shut down: then it refuses to sync a folder, which changes
// nothing on one that was not.
func IsShutDown(path string) (bool, error) {
	d, err := os.Open(path)
	if errors.Is(err, unix.EIO) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.EROFS) {
		return true, nil
	}
	return false, err
}

// Space is what a file system has.
type Space struct{ Free, Size uint64 }

// SpaceOf asks the file system below a path for its space, as an ordinary process sees it.
func SpaceOf(path string) (Space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return Space{Free: s.Bavail * uint64(s.Bsize), Size: s.Blocks * uint64(s.Bsize)}, nil
}

// ballast is the file that takes the space.
func ballast(mount, tag string) string { return filepath.Join(mount, "gameday-"+tag) }

// Fill takes all free space of the file system that is mounted at a path. A second Fill takes what came free meanwhile.
func Fill(mount, tag string) error {
	f, err := os.OpenFile(ballast(mount, tag), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	// Larger pieces first; the last ones are as small as a block.
	for piece := int64(1 << 30); piece >= 1<<12; {
		err := unix.Fallocate(int(f.Fd()), 0, size, piece)
		switch {
		case err == nil:
			size += piece
		case errors.Is(err, unix.ENOSPC):
			piece /= 2
		case errors.Is(err, unix.EINTR):
		default:
			return fmt.Errorf("fill %s: %w", mount, err)
		}
	}
	return nil
}

// Empty gives back what Fill took for a tag. Nothing is no error.
func Empty(mount, tag string) error {
	if err := os.Remove(ballast(mount, tag)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Thaw ends a freeze. A file system that is not frozen is left as it is.
func Thaw(mount string) error {
	d, err := os.Open(mount)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.IoctlSetInt(int(d.Fd()), fiThaw, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("thaw %s: %w", mount, err)
	}
	return nil
}

// Child is the name of the entry point Run, for child.Main.
const Child = "freezedisk"

// Freezer is a child that holds a freeze.
type Freezer struct {
	child *child.Process
	ref   process.Ref
}

type freeze struct{ Mount string }

// StartFreeze stops all writes to the file system that is mounted at a path, until Stop, maxHold or the end of this
// process. One that is frozen already is an error, for it is not known whose that freeze is.
func StartFreeze(ctx context.Context, mount string, maxHold time.Duration) (*Freezer, error) {
	if maxHold <= 0 {
		return nil, fmt.Errorf("longest hold time of a frozen disk: %v is not positive", maxHold)
	}
	f := &Freezer{}
	var err error
	f.child, err = child.Start(ctx, child.Command{Name: Child, MaxHold: maxHold, Ready: &f.ref, Args: freeze{mount}})
	if err != nil {
		return nil, fmt.Errorf("freeze %s: %w", mount, err)
	}
	return f, nil
}

// Ref names the child. When it is killed the file system stays frozen until it is thawed.
func (f *Freezer) Ref() process.Ref { return f.ref }

// Done is closed when the child has ended.
func (f *Freezer) Done() <-chan struct{} { return f.child.Done() }

// Err says why the child ended; nil if it was asked to.
func (f *Freezer) Err() error { return f.child.Err() }

// Stop thaws.
func (f *Freezer) Stop(ctx context.Context) error { return f.child.Stop(ctx) }

// Run is the child's entry point.
func Run(ctx context.Context, c *child.Conn) (err error) {
	var o freeze
	if err := c.Args(&o); err != nil {
		return err
	}
	self, err := process.Of(os.Getpid())
	if err != nil {
		return err
	}
	d, err := os.Open(o.Mount)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.IoctlSetInt(int(d.Fd()), fiFreeze, 0); err != nil {
		return fmt.Errorf("freeze %s: %w", o.Mount, err)
	}
	defer func() {
		// Somebody else may have thawed it.
		if thawErr := unix.IoctlSetInt(int(d.Fd()), fiThaw, 0); thawErr != nil && !errors.Is(thawErr, unix.EINVAL) {
			err = errors.Join(err, fmt.Errorf("thaw %s: %w", o.Mount, thawErr))
		}
	}()
	if err := c.Ready(self); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
