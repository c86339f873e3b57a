package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gameday/clusters/cache"
	"gameday/harness/inject"
)

// lockOf is the file that a run keeps locked (shared) as long as it uses a cluster.
// It is in the cache, not beside the index of journals: the run may have an index
// of its own (XDG_STATE_HOME).
func lockOf(cluster string) (string, error) {
	dir, err := cache.Dir("live")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, cluster), nil
}

// Claim says to everybody on this machine that a cluster is in use, until release
// or the end of this process.
func Claim(cluster string) (release func() error, err error) {
	path, err := lockOf(cluster)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("claim cluster %s: %w", cluster, err)
	}
	// Nobody but Live holds it otherwise, and for a moment.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		return nil, errors.Join(fmt.Errorf("claim cluster %s: %w", cluster, err), f.Close())
	}
	return f.Close, nil // which unlocks
}

// Live says who uses a cluster just now: a run, or what heals after one; "" if
// nobody does.
func Live(cluster string) (string, error) {
	found, err := inject.OpenJournals()
	if err != nil {
		return "", err
	}
	for _, f := range found {
		c, err := inject.ReadJournal(f.Path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && c.Holder.Cluster != cluster {
			continue
		}
		if err != nil {
			continue // heal tells of it; the lock below does not need it
		}
		busy, err := c.Holder.Busy()
		if err != nil {
			return "", err
		}
		if busy {
			return fmt.Sprintf("run %s (%s, %s)", c.Holder.Run, c.Holder.As, c.Holder.Process), nil
		}
	}
	path, err := lockOf(cluster)
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("who uses cluster %s: %w", cluster, err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return "a run that is under way", nil
	}
	if err != nil {
		return "", fmt.Errorf("who uses cluster %s: %w", cluster, err)
	}
	return "", nil
}
