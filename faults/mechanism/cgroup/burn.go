package cgroup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gameday/faults/mechanism/child"
)

// Child is the name of the entry point Run, for child.Main.
const Child = "burn"

type burnArgs struct {
	Join    []string // cgroup.procs files
	Threads int
	For     time.Duration
}

// Run is a process that joins a group and wants all processors for a moment.
func Run(ctx context.Context, c *child.Conn) error {
	var args burnArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	for _, file := range args.Join {
		if err := write(filepath.Dir(file), filepath.Base(file), strconv.Itoa(os.Getpid())); err != nil {
			return err
		}
	}
	if err := c.Ready(nil); err != nil {
		return err
	}
	end := time.Now().Add(args.For)
	done := make(chan struct{})
	for range args.Threads {
		go func() {
			for ctx.Err() == nil && time.Now().Before(end) {
			}
			done <- struct{}{}
		}()
	}
	for range args.Threads {
		<-done
	}
	return nil
}

// Want makes somebody in the group want all processors for a moment, and says what the group used and how often it was
// throttled meanwhile: what it can have is seen only when it is wanted.
func (g Group) Want(ctx context.Context, owner string, d time.Duration) (used CPUUse, took time.Duration, err error) {
	dir, v2, err := g.folder(CPU)
	if err != nil {
		return used, 0, err
	}
	join := []string{filepath.Join(dir, "cgroup.procs"), filepath.Join(g.Controllers["cpuacct"], "cgroup.procs")}
	if v2 {
		// There only a group without others below it may hold processes.
		leaf := filepath.Join(dir, "gameday-burn-"+owner)
		if err := os.Mkdir(leaf, 0o755); err != nil && !os.IsExist(err) {
			return used, 0, fmt.Errorf("make a control group: %w", err)
		}
		defer func() {
			if rerr := RemoveMark(ctx, leaf); err == nil {
				err = rerr
			}
		}()
		join = []string{filepath.Join(leaf, "cgroup.procs")}
	}
	p, err := child.Start(ctx, child.Command{Name: Child, Args: burnArgs{Join: join, Threads: Processors(), For: d}, MaxHold: d + time.Minute})
	if err != nil {
		return used, 0, err
	}
	began := time.Now()
	before, err := g.CPUUse()
	if err != nil {
		return used, 0, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return used, 0, fmt.Errorf("%w: %w", context.Cause(ctx), p.Kill(kill))
	}
	if p.Err() != nil {
		return used, 0, p.Err()
	}
	after, err := g.CPUUse()
	return CPUUse{after.Microseconds - before.Microseconds, after.Throttled - before.Throttled}, time.Since(began), err
}
