package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/process"
)

// HoardChild is the name of the entry point RunHoard, for child.Main.
const HoardChild = "hoard"

type hoardArgs struct {
	Join string // cgroup.procs
	MiB  int
}

// hoardPause is between two reads of a MiB: slow enough to leave the processor to others, fast enough that a group which has
// less memory than is read gives pages back all the time.
const hoardPause = 10 * time.Millisecond

// RunHoard is a process that joins a group and reads a file over and over, whose pages the kernel wants to keep. The file is
// one big hole: nothing is written to a disk, and nothing read from one.
func RunHoard(ctx context.Context, c *child.Conn) (err error) {
	var args hoardArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	// Should memory run out all the same it is this process that is killed, and no other.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0); err != nil {
		return fmt.Errorf("offer myself to the out-of-memory killer: %w", err)
	}
	if err := write(filepath.Dir(args.Join), filepath.Base(args.Join), strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	// Not in /tmp, which may be a tmpfs: its holes take no memory.
	f, err := os.CreateTemp("/var/tmp", "gameday-hoard-")
	if err != nil {
		return fmt.Errorf("a file to read: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := errors.Join(os.Remove(f.Name()), f.Truncate(int64(args.MiB)<<20)); err != nil {
		return fmt.Errorf("a file to read: %w", err)
	}
	if err := c.Ready(nil); err != nil {
		return err
	}
	tick := time.NewTicker(hoardPause)
	defer tick.Stop()
	buf := make([]byte, 1<<20)
	for i := 0; ; i = (i + 1) % args.MiB {
		if _, err := f.ReadAt(buf, int64(i)<<20); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the file: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Hoard starts a process that wants so many MiB of file pages, in the group that marks the limit. It ends with this process,
// after maxHold, or with the mark.
func (l Limit) Hoard(ctx context.Context, owner string, mib int, maxHold time.Duration) (*child.Process, error) {
	return child.Start(ctx, child.Command{
		Name: HoardChild, MaxHold: maxHold,
		Args: hoardArgs{Join: filepath.Join(l.mark(owner), "cgroup.procs"), MiB: mib},
	})
}

// endTime bounds the wait for the end of a killed process.
const endTime = 5 * time.Second

// end kills the processes in a group of ours.
func end(ctx context.Context, dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("processes of a control group: %w", err)
	}
	var errs []error
	for _, f := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			return fmt.Errorf("processes of a control group: %w", err)
		}
		if err := endOne(ctx, pid, filepath.Base(dir)); err != nil && !errors.Is(err, process.ErrGone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// endOne kills a process if it is still in the group: the pid may be another's now.
func endOne(ctx context.Context, pid int, group string) error {
	ref, err := process.Of(pid)
	if err != nil {
		return err
	}
	in, err := process.InCgroup(ref, []string{"/" + group})
	if err != nil || !in {
		return err
	}
	p, err := process.Open(ref)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	err = p.Kill()
	if err == nil {
		err = p.Wait(ctx)
	}
	return errors.Join(err, p.Close())
}
