package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// deleteBound is for ending all processes of a cluster and removing its files: less
// than a second on a quiet machine.
const deleteBound = time.Minute

// Delete implements clusters.Provider.
func (*Provider) Delete(ctx context.Context, name string) (err error) {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("%q is not the name of a cluster", name)
	}
	if err := checkFree(name); err == nil {
		return nil
	}
	if err := checkMachine(); err != nil {
		return err
	}
	unlock, err := lock(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	ctx, cancel := context.WithTimeout(ctx, deleteBound)
	defer cancel()
	return remove(ctx, name)
}

// remove is Delete with the name locked.
func remove(ctx context.Context, name string) error {
	l, err := readLabel(name)
	if err != nil {
		return err
	}
	if err := thaw(l.Groups); err != nil {
		return err
	}
	if err := endKeeper(ctx, name); err != nil {
		return err
	}
	if err := removeGroups(ctx, l.Groups); err != nil {
		return err
	}
	if err := disconnect(name); err != nil {
		return err
	}
	// The folder goes last: as long as anything is there, it says whose it is.
	if err := os.RemoveAll(dirOf(name)); err != nil {
		return fmt.Errorf("removing the files of cluster %s: %w", name, err)
	}
	return nil
}

// endKeeper kills the keeper, and returns when it has ended: then the kernel has ended
// all that was below it.
func endKeeper(ctx context.Context, name string) error {
	tick := time.NewTicker(groupEvery)
	defer tick.Stop()
	for {
		pid, start, err := processOf(name + "/" + keeperPart)
		if err != nil || pid == 0 {
			return err
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("the keeper %d: %w", pid, err)
		}
		if err == nil {
			if again, serr := startTime(pid); serr == nil && again == start {
				err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			}
			if err := errors.Join(err, unix.Close(fd)); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill the keeper %d: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the keeper %d has not ended: %w", pid, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
