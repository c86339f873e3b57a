package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is a process that cannot be confused with a later one of the same
// pid: the kernel's start time (clock ticks since boot) is kept with it.
type process struct {
	pid   int
	start string
}

// lookProcess reads the start time and the command name of a pid.
// A zombie is fs.ErrNotExist: it has ended.
func lookProcess(pid int) (p process, comm string, err error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, "", err
	}
	comm, state, start, err := parseStat(string(stat))
	if err == nil && state == "Z" {
		err = fs.ErrNotExist
	}
	return process{pid, start}, comm, err
}

// parseStat takes the command name, the state and the start time (field 22) out of
// /proc/PID/stat. The name is in parentheses and may hold anything, so that
// fields are counted from the last one: proc(5).
func parseStat(stat string) (comm, state, start string, err error) {
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return "", "", "", fmt.Errorf("%q is no /proc/PID/stat", stat)
	}
	fields := strings.Fields(stat[end+1:])
	const startTime = 22 - 3 // the first field after the name is number 3
	if len(fields) <= startTime {
		return "", "", "", fmt.Errorf("%q is too short for /proc/PID/stat", stat)
	}
	return stat[open+1 : end], fields[0], fields[startTime], nil
}

// alive says whether this very process is there. One that has ended and that
// its parent has not waited for yet does not count.
func (p process) alive() bool {
	now, _, err := lookProcess(p.pid)
	return err == nil && now == p
}

// signal sends through a pidfd, after checking that it is still the process.
func (p process) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // a file descriptor that was only read
	if !p.alive() {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// findDaemon finds the one Docker daemon that runs on this machine.
func findDaemon() (process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return process{}, fmt.Errorf("looking for dockerd: %w", err)
	}
	var found []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p, comm, err := lookProcess(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // ended while we looked
		}
		if err != nil {
			return process{}, fmt.Errorf("looking for dockerd: %w", err)
		}
		if isDaemon(comm) && sameMountNamespace(pid) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return process{}, errors.New("dockerd answers but no process of that name is to be seen: it does not run on this machine")
	default:
		return process{}, fmt.Errorf("%d Docker daemons run on this machine and it is unclear which one answers: stop the others", len(found))
	}
}

// sameMountNamespace leaves out daemons that run inside containers.
func sameMountNamespace(pid int) bool {
	a, errA := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns/mnt"))
	b, errB := os.Readlink("/proc/self/ns/mnt")
	return errA == nil && errB == nil && a == b
}

// isDaemon says whether a command name is that of the Docker daemon.
func isDaemon(comm string) bool { return comm == "dockerd" }
