// Package ballast uses up the bytes or the inodes of a file system that can be spared for it.
//
// A file system that this machine itself lives on is refused ([Own]): the fault would be the machine's, and everything on it,
// not the victim's alone.
package ballast

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// keepFree is what the machine's own disk must have left if a file system in an image file on it were filled to the brim.
const keepFree = 20 << 30

// Space is what a file system has.
type Space struct {
	Bytes, FreeBytes   uint64
	Inodes, FreeInodes uint64
}

// Look reads the space of the file system that a folder is on. FreeBytes are what those may use that are not root, as df
// and the kubelet count.
func Look(dir string) (Space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Space{}, fmt.Errorf("file system of %s: %w", dir, err)
	}
	return Space{s.Blocks * uint64(s.Bsize), s.Bavail * uint64(s.Bsize), s.Files, s.Ffree}, nil
}

// Own says whether a folder is on a file system that can be filled: one on a loop device that does not hold anything of this
// machine's, and whose image file the machine's disk has room for. The error wraps errors.ErrUnsupported and says why not.
func Own(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("file system of %s: %w", dir, err)
	}
	major, minor := unix.Major(st.Dev), unix.Minor(st.Dev)
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("mounts of this machine: %w", err)
	}
	defer mounts.Close()
	device := strconv.Itoa(int(major)) + ":" + strconv.Itoa(int(minor))
	points := bufio.NewScanner(mounts)
	for points.Scan() {
		// proc_pid_mountinfo(5): the third field is the device, the fifth where it is mounted.
		f := strings.Fields(points.Text())
		if len(f) > 4 && f[2] == device && (f[4] == "/" || f[4] == "/var" || f[4] == "/var/lib/docker" || f[4] == "/home" || f[4] == "/tmp") {
			return fmt.Errorf("it is on the file system of this machine's own %s, and to fill that would break the machine: %w", f[4], errors.ErrUnsupported)
		}
	}
	if err := points.Err(); err != nil {
		return fmt.Errorf("mounts of this machine: %w", err)
	}
	const loopMajor = 7 // linux Documentation/admin-guide/devices.txt
	if major != loopMajor {
		return fmt.Errorf("it is on device %s, which is no loop device, so that it may be shared with others: %w", device, errors.ErrUnsupported)
	}
	image, err := os.ReadFile("/sys/dev/block/" + device + "/loop/backing_file")
	if err != nil {
		return fmt.Errorf("image file of the loop device %s: %w", device, err)
	}
	within, err := Look(dir)
	if err != nil {
		return err
	}
	around, err := Look(filepath.Dir(strings.TrimSpace(string(image))))
	if err != nil {
		return err
	}
	if around.FreeBytes < within.FreeBytes+keepFree {
		return fmt.Errorf("this machine's disk has %d GiB left, and filling the image file could leave less than %d: %w", around.FreeBytes>>30, keepFree>>30, errors.ErrUnsupported)
	}
	return nil
}

// Bytes makes a file in a folder of its own, so that so many bytes stay free. What is too little free already stays so.
func Bytes(folder string, leave uint64) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("ballast: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(folder, "ballast"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("ballast: %w", err)
	}
	err = grow(f, leave)
	return errors.Join(err, f.Close())
}

func grow(f *os.File, leave uint64) error {
	s, err := Look(f.Name())
	if err != nil || s.FreeBytes <= leave {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("ballast: %w", err)
	}
	// The file system takes a little more for itself than it is asked for.
	if err := unix.Fallocate(int(f.Fd()), 0, info.Size(), int64(s.FreeBytes-leave)); err != nil && !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("ballast: allocate %d bytes: %w", s.FreeBytes-leave, err)
	}
	return nil
}

// mostInodes bounds how many files are made.
const mostInodes = 1 << 20

// Inodes makes empty files in a folder of its own, so that so many inodes stay free.
func Inodes(ctx context.Context, folder string, leave uint64) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("ballast: %w", err)
	}
	s, err := Look(folder)
	if err != nil {
		return err
	}
	switch {
	case s.Inodes == 0:
		return fmt.Errorf("its file system makes inodes as they are needed: %w", errors.ErrUnsupported)
	case s.FreeInodes <= leave:
		return nil
	case s.FreeInodes-leave > mostInodes:
		return fmt.Errorf("%d files would have to be made, and %d are the most: %w", s.FreeInodes-leave, mostInodes, errors.ErrUnsupported)
	}
	for left, i := s.FreeInodes-leave, 0; left > 0; i++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f, err := os.OpenFile(filepath.Join(folder, strconv.Itoa(i)), os.O_CREATE|os.O_EXCL, 0o600)
		switch {
		case errors.Is(err, fs.ErrExist):
			continue // of an earlier call
		case errors.Is(err, unix.ENOSPC):
			return nil
		case err != nil:
			return fmt.Errorf("ballast: %w", err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("ballast: %w", err)
		}
		left--
	}
	return nil
}

// Remove takes the ballast away. None is no error.
func Remove(folder string) error {
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("ballast: %w", err)
	}
	return nil
}
