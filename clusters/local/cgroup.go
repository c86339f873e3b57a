package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters"
)

// A cluster has a control group, and each of its machines one below it, in each
// hierarchy of the first version in which something can be limited, below the group
// of the program that made it: whatever it is limited to counts for the cluster too.
// With the second version it is below the top, since a group with processes in it can
// have none below (https://docs.kernel.org/admin-guide/cgroup-v2.html#no-internal-process-constraint).

// controllers are those of the first version that faults act through.
var controllers = []string{"cpu", "memory", "freezer", "pids", "blkio"}

// unified is the key of the second version among the groups.
const unified = ""

// groupName is the folder of a cluster.
func groupName(cluster string) string { return "gameday-local-" + cluster }

// ownGroups are the folders in which clusters of this process get theirs, by
// controller.
func ownGroups(procCgroup, mountinfo string) (map[string]string, error) {
	points, second := map[string]string{}, ""
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if !ok || len(b) < 5 || len(a) < 3 {
			continue
		}
		switch a[0] {
		case "cgroup2":
			second = b[4]
		case "cgroup":
			for _, c := range strings.Split(a[2], ",") {
				if slices.Contains(controllers, c) {
					// What is mounted may be a part only: paths count from there.
					points[c] = b[4] + "\x00" + b[3]
				}
			}
		}
	}
	out := map[string]string{}
	for line := range strings.Lines(procCgroup) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, c := range strings.Split(f[1], ",") {
			point, root, ok := strings.Cut(points[c], "\x00")
			if !ok {
				continue
			}
			below, ok := strings.CutPrefix(f[2], strings.TrimSuffix(root, "/"))
			if !ok {
				return nil, fmt.Errorf("the group %s of this process is outside of what is mounted at %s", f[2], point)
			}
			out[c] = path.Join(point, below)
		}
	}
	if len(out) == 0 && second != "" {
		out[unified] = second
	}
	if len(out) == 0 {
		return nil, errors.New("no hierarchy of control groups is mounted")
	}
	return out, nil
}

// makeGroups makes the groups of a cluster, and returns their folders by controller.
func makeGroups(cluster string, machines []string) (map[string]string, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	tops, err := ownGroups(string(own), string(mounts))
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for c, top := range tops {
		out[c] = filepath.Join(top, groupName(cluster))
		for _, m := range append([]string{""}, machines...) {
			if err := os.MkdirAll(filepath.Join(out[c], m), 0o755); err != nil {
				return out, fmt.Errorf("control group: %w", err)
			}
			if c == unified && m == "" {
				if err := delegate(out[c]); err != nil {
					return out, err
				}
			}
		}
	}
	return out, nil
}

// delegate lets groups below one of the second version be limited.
func delegate(dir string) error {
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte("+cpu +memory +pids +io"), 0o644); err != nil {
			return fmt.Errorf("control group: %w", err)
		}
	}
	return nil
}

// enter puts a process, and what it will start, into the groups of a machine.
func enter(groups []string, machine string, pid int) error {
	for _, g := range groups {
		if err := os.WriteFile(filepath.Join(g, machine, "cgroup.procs"), []byte(fmt.Sprint(pid)), 0o644); err != nil {
			return fmt.Errorf("enter the control group: %w", err)
		}
	}
	return nil
}

// thaw lets go on what is frozen: a frozen process does not end.
func thaw(groups map[string]string) error {
	var errs []error
	err := each(groups, func(dir string) error {
		for file, text := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
			f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0) // never made: a control group takes no files
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				_, err = f.WriteString(text)
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("thaw %s: %w", dir, err))
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

// each visits the groups of a cluster and all below, the deepest first.
func each(groups map[string]string, do func(dir string) error) error {
	for _, top := range groups {
		var dirs []string
		err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return err
		})
		if err != nil {
			return err
		}
		slices.Reverse(dirs)
		for _, d := range dirs {
			if err := do(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// groupEvery is between two tries to remove groups.
const groupEvery = 20 * time.Millisecond

// removeGroups removes the groups of a cluster, and ends what is left in them.
func removeGroups(ctx context.Context, groups map[string]string) error {
	tick := time.NewTicker(groupEvery)
	defer tick.Stop()
	for {
		var last error
		err := each(groups, func(dir string) error {
			rm := os.Remove(dir)
			switch {
			case rm == nil, errors.Is(rm, fs.ErrNotExist):
			case errors.Is(rm, unix.EBUSY), errors.Is(rm, unix.ENOTEMPTY):
				last = errors.Join(fmt.Errorf("%s is in use", dir), killIn(dir))
			default:
				return rm
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("remove control groups: %w", err)
		}
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove control groups: %w: %w", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// killIn ends the processes of a group.
func killIn(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	var errs []error
	for _, word := range strings.Fields(string(b)) {
		var pid int
		if _, err := fmt.Sscan(word, &pid); err != nil || pid <= 1 {
			continue // 0: of a pid namespace that cannot be seen from here
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("end process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// groupOf is the group of one machine, as faults want it.
func groupOf(groups map[string]string, machine string) clusters.Cgroup {
	g := clusters.Cgroup{Controllers: map[string]string{}}
	for c, dir := range groups {
		if c == unified {
			g.Unified = filepath.Join(dir, machine)
		} else {
			g.Controllers[c] = filepath.Join(dir, machine)
		}
	}
	return g
}
