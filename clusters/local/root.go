package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// system are the folders of this machine that a machine of a cluster sees, for the
// few commands that are run on it; it cannot change them.
var system = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"}

// ownMounts keeps what is mounted from now on in this process's mount namespace to
// it.
func ownMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to oneself: %w", err)
	}
	return nil
}

// mountProc mounts the /proc of this process's pid namespace.
func mountProc(at string) error {
	if err := unix.Mount("proc", at, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return nil
}

// enterRoot makes the folder the root of this process, which is in a mount namespace
// of its own, with the binaries in their place. Nothing of it is to be seen from
// outside, and all of it goes with the namespace.
func enterRoot(root, binaries string) error {
	if err := ownMounts(); err != nil {
		return err
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", root, err)
	}
	for _, dir := range system {
		fi, err := os.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case fi.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(dir)
			if err != nil {
				return err
			}
			if err := os.Symlink(to, filepath.Join(root, dir)); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		default:
			if err := bind(dir, filepath.Join(root, dir), true); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(
		bind(binaries, filepath.Join(root, programs), true),
		bind("/dev", filepath.Join(root, "/dev"), false),
		os.MkdirAll(filepath.Join(root, "/proc"), 0o755), os.MkdirAll(filepath.Join(root, "/run"), 0o755),
		os.MkdirAll(filepath.Join(root, "/tmp"), 0o1777), os.MkdirAll(filepath.Join(root, "/.old"), 0o700),
	); err != nil {
		return err
	}
	if err := mountProc(filepath.Join(root, "/proc")); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, filepath.Join(root, "/.old")); err != nil {
		return fmt.Errorf("change the root to %s: %w", root, err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/.old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	return os.Remove("/.old")
}

func bind(from, to string, readOnly bool) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", from, to, err)
	}
	if !readOnly {
		return nil
	}
	if err := unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", to, err)
	}
	return nil
}
