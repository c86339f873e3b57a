package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Find lists the processes in the pid namespace of the process initPID and in the namespaces below it, for which match is
// true. In kind every container of a node has a namespace of its own below the node's; what was started in a container
// from outside (docker exec) is not a descendant of its first process, but it is in its namespace.
//
// match gets the command line, never an empty one: a kernel thread and a zombie have none. It may be called twice.
// Root is needed to see the namespaces of others' processes.
func Find(initPID int, match func(cmdline []string) bool) ([]Ref, error) {
	f := finder{proc: procfs, above: namespacesAbove, inside: map[string]bool{}}
	return f.find(initPID, match)
}

// Named matches processes by the last part of their argv[0], as in Named("etcd").
func Named(name string) func(cmdline []string) bool {
	return func(cmdline []string) bool { return filepath.Base(cmdline[0]) == name }
}

type finder struct {
	proc string
	// above names the pid namespaces above the one that the link leads to, as far as they can be seen from here.
	above func(link string) ([]string, error)
	// inside remembers for each namespace (its name: what the link says) whether it is the wanted one or below it.
	inside map[string]bool
	// depth is how many pid namespaces the wanted one is below this one, itself included.
	depth int
}

func (f *finder) find(initPID int, match func([]string) bool) ([]Ref, error) {
	boot, err := bootID(f.proc)
	if err != nil {
		return nil, err
	}
	top, err := os.Readlink(f.link(initPID))
	if err != nil {
		return nil, fmt.Errorf("pid namespace of process %d: %w", initPID, gone(f.dir(initPID), err))
	}
	f.inside[top] = true
	if f.depth, err = f.depthOf(initPID); err != nil {
		return nil, err
	}

	entries, err := os.Open(f.proc)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	names, err := entries.Readdirnames(-1) // no sorting and no stat of a thousand entries
	if err := errors.Join(err, entries.Close()); err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []Ref
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue // not a process
		}
		ok, err := f.matches(pid, match)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		ref, ok, err := f.name(pid, boot, match)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, ref)
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].PID < found[j].PID })
	return found, nil
}

// name takes the start time of a process that matched. Since the pid could have changed hands between the two, the process
// is looked at once more, between two readings of the start time.
func (f *finder) name(pid int, boot string, match func([]string) bool) (Ref, bool, error) {
	before, _, err := stat(f.dir(pid))
	if errors.Is(err, ErrGone) {
		return Ref{}, false, nil
	}
	if err != nil {
		return Ref{}, false, err
	}
	ok, err := f.matches(pid, match)
	if err != nil || !ok {
		return Ref{}, false, err
	}
	after, _, err := stat(f.dir(pid))
	if errors.Is(err, ErrGone) || err == nil && after != before {
		return Ref{}, false, nil
	}
	return Ref{PID: pid, StartTime: before, BootID: boot}, err == nil, err
}

func (f *finder) matches(pid int, match func([]string) bool) (bool, error) {
	in, err := f.isInside(pid)
	if errors.Is(err, fs.ErrPermission) {
		// Some processes are closed even to root. That matters only where one is deep enough, and looks like a wanted one.
		if d, depthErr := f.depthOf(pid); depthErr != nil || d < f.depth {
			return false, ignoreGone(depthErr, "depth of process %d", pid)
		}
		if ok, cmdErr := f.matchesCommand(pid, match); cmdErr != nil || !ok {
			return false, cmdErr
		}
		return false, fmt.Errorf("pid namespace of process %d, which may be a wanted one (root is needed): %w", pid, err)
	}
	if err != nil {
		return false, ignoreGone(err, "pid namespace of process %d", pid)
	}
	if !in {
		return false, nil
	}
	return f.matchesCommand(pid, match)
}

func (f *finder) matchesCommand(pid int, match func([]string) bool) (bool, error) {
	b, err := os.ReadFile(filepath.Join(f.dir(pid), "cmdline"))
	if err != nil {
		return false, ignoreGone(gone(f.dir(pid), err), "command line of process %d", pid)
	}
	if len(b) == 0 {
		return false, nil
	}
	return match(strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")), nil
}

// isInside says whether a process is in the wanted namespace or below it.
func (f *finder) isInside(pid int) (bool, error) {
	ns, err := os.Readlink(f.link(pid))
	if err != nil {
		return false, gone(f.dir(pid), err)
	}
	in, known := f.inside[ns]
	if !known {
		names, err := f.above(f.link(pid))
		if err != nil {
			return false, err
		}
		in = slices.ContainsFunc(names, func(ns string) bool { return f.inside[ns] })
		f.inside[ns] = in
	}
	return in, nil
}

// namespacesAbove asks the kernel (NS_GET_PARENT, ioctl_ns(2), Linux 4.9+).
func namespacesAbove(link string) (names []string, err error) {
	fd, err := unix.Open(link, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for {
		if err != nil {
			return nil, gone(link, err)
		}
		var up int
		up, err = unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
		err = errors.Join(err, unix.Close(fd))
		if errors.Is(err, unix.EPERM) { // our own namespace, or one that is not below it
			return names, nil
		}
		if err != nil {
			return nil, fmt.Errorf("namespace above %s: %w", link, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(up, &st); err != nil {
			return nil, errors.Join(fmt.Errorf("namespace above %s: %w", link, err), unix.Close(up))
		}
		names = append(names, fmt.Sprintf("pid:[%d]", st.Ino))
		fd = up
	}
}

func (f *finder) dir(pid int) string  { return filepath.Join(f.proc, strconv.Itoa(pid)) }
func (f *finder) link(pid int) string { return filepath.Join(f.dir(pid), "ns/pid") }

// depthOf is in how many pid namespaces, of those that can be seen from here, a process has an id: NSpid of
// proc_pid_status(5), which may be read where the namespace itself may not.
func (f *finder) depthOf(pid int) (int, error) {
	b, err := os.ReadFile(filepath.Join(f.dir(pid), "status"))
	if err != nil {
		return 0, gone(f.dir(pid), err)
	}
	for line := range strings.Lines(string(b)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return len(strings.Fields(ids)), nil
		}
	}
	return 0, fmt.Errorf("status of process %d has no NSpid", pid)
}

func ignoreGone(err error, format string, args ...any) error {
	if err == nil || errors.Is(err, ErrGone) {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
