package kind

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// detachBound is how long the kernel may take to let go of a disk that nobody uses.
const detachBound = 20 * time.Second

// fiThaw ends the freeze of a file system: FITHAW in linux include/uapi/linux/fs.h.
const fiThaw = 0xc0045878

// attach puts the image on a loop device and mounts it, with journal recovery if it
// was lost. The kernel frees the device when the last mount of it ends.
func (d disk) attach() error {
	image, err := os.OpenFile(d.image(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer image.Close()
	device, err := attachLoop(image)
	if err != nil {
		return err
	}
	defer device.Close()
	if err := unix.Mount(device.Name(), d.mount(), "ext4", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s at %s: %w", device.Name(), d.mount(), err)
	}
	return nil
}

// attachLoop finds a free loop device for an image. It is free again when the
// returned file is closed, unless it is mounted then.
func attachLoop(image *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop devices: %w", err)
	}
	defer control.Close()
	// Another process may take the free one first.
	for range 32 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("a free loop device: %w", err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		copy(config.Info.File_name[:len(config.Info.File_name)-1], image.Name())
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("set up %s (Linux 5.8 or later is needed): %w", device.Name(), err)
		}
	}
	return nil, errors.New("other processes took every free loop device first")
}

// loops are the loop devices that hold the image, none or (unless somebody else
// made one too) one.
func (d disk) loops() ([]string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
			continue // freed while we looked
		}
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimSpace(string(b)), " (deleted)")
		if name == d.image() {
			out = append(out, "/dev/"+filepath.Base(filepath.Dir(filepath.Dir(f))))
		}
	}
	return out, nil
}

// mounted is the loop device that is mounted where the disk belongs.
func (d disk) mounted() (string, error) {
	loops, err := d.loops()
	if err != nil {
		return "", err
	}
	here, err := deviceOf(d.mount())
	if err != nil {
		return "", err
	}
	for _, l := range loops {
		n, err := deviceNumber(l)
		if err != nil {
			return "", err
		}
		if n == here {
			return l, nil
		}
	}
	return "", fmt.Errorf("%s is not mounted at %s: %w", d.image(), d.mount(), fs.ErrNotExist)
}

func deviceNumber(device string) (uint64, error) {
	n, err := loopNumber(device)
	if err != nil {
		return 0, err
	}
	const loopMajor = 7 // linux Documentation/admin-guide/devices.txt
	return unix.Mkdev(loopMajor, uint32(n)), nil
}

// thaw ends a freeze. A disk that is not frozen, or not mounted, is left as it is.
func (d disk) thaw() error {
	if _, err := d.mounted(); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	f, err := os.Open(d.mount())
	if err != nil {
		return err
	}
	defer f.Close()
	// A file system that was shut down is not frozen either.
	if err := unix.IoctlSetInt(int(f.Fd()), fiThaw, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EIO) {
		return fmt.Errorf("thaw %s: %w", d.mount(), err)
	}
	return nil
}

// detach unmounts the disk wherever it is mounted, and waits until the kernel has
// given the device back: as long as one mount is left, or a file open, the file
// system lives on and a new mount would be of the same one.
func (d disk) detach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, detachBound)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		loops, err := d.loops()
		if err != nil || len(loops) == 0 {
			return err
		}
		for _, l := range loops {
			n, err := deviceNumber(l)
			if err != nil {
				return err
			}
			if err := unmountEverywhere(n); err != nil {
				return err
			}
			if err := clearLoop(l, d); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s is still in use by somebody: %w", strings.Join(loops, " "), context.Cause(ctx))
		}
	}
}

// clearLoop frees a loop device that was attached and, for the process died in
// between, never mounted. One that is in use is freed with its last use.
func clearLoop(device string, d disk) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if held, err := d.loops(); err != nil || !slices.Contains(held, device) {
		return err // freed meanwhile, and perhaps somebody else's by now
	}
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("free %s: %w", device, err)
	}
	return nil
}

// unmountEverywhere unmounts a device in each mount namespace of this machine: a
// node has its own, and what it runs has copies.
func unmountEverywhere(device uint64) error {
	tables, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, table := range tables {
		ns := filepath.Join(filepath.Dir(table), "ns/mnt")
		id, err := os.Readlink(ns)
		if err != nil || seen[id] {
			continue // the process ended while we looked
		}
		b, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		seen[id] = true
		points := mountPoints(string(b), device)
		if len(points) == 0 {
			continue
		}
		err = inMounts(ns, func() error {
			// Each may be gone already, with one that it was a copy of.
			for _, p := range slices.Backward(points) {
				if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
					return fmt.Errorf("unmount %s: %w", p, err)
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// mountPoints are the places where a device is mounted, of the lines of
// proc_pid_mountinfo(5).
func mountPoints(mountinfo string, device uint64) []string {
	want := fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
	var out []string
	for line := range strings.Lines(mountinfo) {
		if f := strings.Fields(line); len(f) > 4 && f[2] == want {
			out = append(out, strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[4]))
		}
	}
	return out
}

// bindInto mounts the data at a folder of the container whose first process
// this is, in place of what Docker had bound there when the container started.
func (d disk) bindInto(pid int, folder string) (err error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, d.data(), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open_tree %s: %w", d.data(), err)
	}
	defer func() { err = errors.Join(err, unix.Close(tree)) }()
	return inMounts(fmt.Sprintf("/proc/%d/ns/mnt", pid), func() error {
		// Now that nothing is mounted there.
		if err := os.WriteFile(filepath.Join(folder, blocker), []byte(noDisk), 0o600); err != nil {
			return err
		}
		if err := unix.MoveMount(tree, "", unix.AT_FDCWD, folder, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("move_mount to %s: %w", folder, err)
		}
		return nil
	})
}

// inMounts runs do in another mount namespace, on a thread that ends then.
func inMounts(ns string, do func() error) error {
	f, err := os.Open(ns)
	if err != nil {
		return err
	}
	defer f.Close()
	done := make(chan error, 1)
	go onThread(func() error {
		// A thread that shares its root and working directory may not change the
		// namespace: setns(2).
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("enter the mount namespace %s: %w", ns, err)
		}
		return do()
	}, done)
	return <-done
}

// onThread runs do on a thread that is never used again, and not on the first one:
// that one's namespaces are what /proc/self shows, and it does not end.
func onThread(do func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		defer runtime.UnlockOSThread()
		inner := make(chan error, 1)
		go onThread(do, inner)
		done <- <-inner
		return
	}
	done <- do()
}
