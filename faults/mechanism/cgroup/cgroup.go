// Package cgroup lowers limits of a control group that somebody else made (that of a container), and puts the old ones
// back: with version 1 and version 2 of control groups (cgroups(7)).
//
// The kernel keeps a limit until somebody writes another one, so the old value must be known to whoever undoes it: [Limit]
// says it before anything is changed, and it belongs in a journal. While it is lowered an empty group of ours stands below
// the limited one, as a mark: two who lower the same limit would put back each other's. It is removed with the limit.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrTaken is wrapped when somebody else has lowered the same limit.
var ErrTaken = errors.New("the limit is lowered already, by somebody else")

// Group is a control group: the folder of version 2, or those of version 1 by controller.
type Group struct {
	Unified     string
	Controllers map[string]string
}

// Resource is what can be limited.
type Resource string

// The resources, by the name of their controller.
const (
	CPU    Resource = "cpu"
	Memory Resource = "memory"
	PIDs   Resource = "pids"
)

// folder is where the resource of a group is controlled, and by which version.
func (g Group) folder(r Resource) (dir string, v2 bool, err error) {
	if dir, ok := g.Controllers[string(r)]; ok {
		return dir, false, nil
	}
	if g.Unified != "" {
		if _, err := os.Stat(filepath.Join(g.Unified, limitFile(r, true))); err == nil {
			return g.Unified, true, nil
		}
	}
	return "", false, fmt.Errorf("no control group has the controller %s: %w", r, errors.ErrUnsupported)
}

// limitFile is the file that holds the limit, and which is lowered.
func limitFile(r Resource, v2 bool) string {
	switch {
	case r == CPU && v2:
		return "cpu.max"
	case r == CPU:
		return "cpu.cfs_quota_us"
	case r == Memory && v2:
		// Not memory.max: above it processes are slowed down and memory is
		// reclaimed, but nobody is killed.
		return "memory.high"
	case r == Memory:
		return "memory.limit_in_bytes"
	}
	return "pids.max"
}

// Limit is a limit as it was.
type Limit struct {
	Resource Resource `json:"resource"`
	Folder   string   `json:"folder"`
	V2       bool     `json:"v2"`
	// Old is what the file said, OldPeriod (CPU with version 1 only) what that of
	// the period said.
	Old       string `json:"old"`
	OldPeriod string `json:"oldPeriod,omitempty"`
}

const periodFile = "cpu.cfs_period_us"

// Read says what the limit is, and changes nothing.
func (g Group) Read(r Resource) (Limit, error) {
	dir, v2, err := g.folder(r)
	if err != nil {
		return Limit{}, err
	}
	l := Limit{Resource: r, Folder: dir, V2: v2}
	if l.Old, err = read(dir, limitFile(r, v2)); err != nil {
		return Limit{}, err
	}
	if r == CPU && !v2 {
		l.OldPeriod, err = read(dir, periodFile)
	}
	return l, err
}

func (l Limit) mark(owner string) string {
	return filepath.Join(l.Folder, prefix(l.Resource)+owner)
}

func prefix(r Resource) string { return "gameday-" + string(r) + "-" }

// Mark takes the limit for an owner. It must be called before [Limit.Lower]; again is no error.
func (l Limit) Mark(owner string) error {
	entries, err := os.ReadDir(l.Folder)
	if err != nil {
		return fmt.Errorf("control group: %w", err)
	}
	for _, e := range entries {
		if by, ok := strings.CutPrefix(e.Name(), prefix(l.Resource)); ok && e.IsDir() && by != owner {
			return fmt.Errorf("%s in %s: %w (%s)", l.Resource, l.Folder, ErrTaken, by)
		}
	}
	if err := os.Mkdir(l.mark(owner), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("mark a control group (root is needed): %w", err)
	}
	return nil
}

// Marked says whether the mark of an owner stands there.
func (l Limit) Marked(owner string) bool {
	_, err := os.Stat(l.mark(owner))
	return err == nil
}

// Restore puts the old limit back and takes the mark away. Without the mark there is nothing to do: it was not lowered, or
// the group is gone.
func (l Limit) Restore(ctx context.Context, owner string) error {
	if !l.Marked(owner) {
		return nil
	}
	if l.OldPeriod != "" {
		// A quota of the old period could be refused with the new one, and the other
		// way round; without a quota any period is taken.
		if err := errors.Join(write(l.Folder, limitFile(l.Resource, l.V2), "-1"), write(l.Folder, periodFile, l.OldPeriod)); err != nil {
			return err
		}
	}
	if err := write(l.Folder, limitFile(l.Resource, l.V2), l.Old); err != nil {
		return err
	}
	return errors.Join(end(ctx, l.mark(owner)), RemoveMark(ctx, l.mark(owner)))
}

// RemoveMark removes a control group. A process that has just ended may be counted a moment longer.
func RemoveMark(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || ctx.Err() != nil {
			return fmt.Errorf("remove the control group %s: %w", dir, err)
		}
		<-tick.C
	}
}

// cpuPeriod is short, so that what is taken away is taken evenly.
const cpuPeriod = 20_000 // µs

// ErrLower is wrapped when the old limit is lower than what is asked for: nobody is given more.
var ErrLower = errors.New("the limit is lower already")

// LowerCPU leaves the group so many processors together, as 0.5.
func (l Limit) LowerCPU(processors float64) error {
	if had, limited := l.processors(); limited && had < processors {
		return fmt.Errorf("%w: %g processors, and %g are asked for", ErrLower, had, processors)
	}
	quota := strconv.Itoa(int(processors * cpuPeriod))
	if l.V2 {
		return write(l.Folder, limitFile(CPU, true), quota+" "+strconv.Itoa(cpuPeriod))
	}
	err := write(l.Folder, periodFile, strconv.Itoa(cpuPeriod))
	if err == nil {
		err = write(l.Folder, limitFile(CPU, false), quota)
	}
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("a group below it has more than the %g processors that would be left (a pod with a CPU limit?): steal less: %w", processors, err)
	}
	return err
}

// processors is what the old quota leaves; false: there was none.
func (l Limit) processors() (float64, bool) {
	quota, period := l.Old, l.OldPeriod
	if l.V2 {
		quota, period, _ = strings.Cut(l.Old, " ")
	}
	q, err := strconv.ParseFloat(quota, 64)
	p, perr := strconv.ParseFloat(period, 64)
	return q / p, err == nil && perr == nil && q > 0 && p > 0 // "max" and -1 are none
}

// Lower sets the limit of memory (bytes) or of processes.
func (l Limit) Lower(to int64) error {
	if had, err := strconv.ParseInt(l.Old, 10, 64); err == nil && had < to { // "max" is no number
		return fmt.Errorf("%w: %d, and %d is asked for", ErrLower, had, to)
	}
	err := write(l.Folder, limitFile(l.Resource, l.V2), strconv.FormatInt(to, 10))
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("so much memory is in use that cannot be taken back: leave more: %w", err)
	}
	return err
}

// CPUUse is what a group has used.
type CPUUse struct {
	Microseconds int64
	// Throttled is how often it had to wait for the next period because its quota
	// was used up.
	Throttled int64
}

// CPUUse reads the scheduler's accounts.
func (g Group) CPUUse() (CPUUse, error) {
	dir, v2, err := g.folder(CPU)
	if err != nil {
		return CPUUse{}, err
	}
	var u CPUUse
	if u.Throttled, err = number(dir, "cpu.stat", "nr_throttled"); err != nil {
		return u, err
	}
	if v2 {
		u.Microseconds, err = number(dir, "cpu.stat", "usage_usec")
		return u, err
	}
	acct, ok := g.Controllers["cpuacct"]
	if !ok {
		return u, fmt.Errorf("no control group has the controller cpuacct: %w", errors.ErrUnsupported)
	}
	ns, err := number(acct, "cpuacct.usage", "")
	u.Microseconds = ns / 1000
	return u, err
}

// MemoryUse is what a group holds.
type MemoryUse struct {
	// Bytes in use, and WorkingSet of them: without file pages that were not used
	// of late, which is how the kubelet counts
	// (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/).
	Bytes, WorkingSet int64
	// Hit is how often it ran into its limit; Killed how many processes were killed
	// for it.
	Hit, Killed int64
	// Refaults counts pages that were taken back and had to be read again.
	Refaults int64
}

// MemoryUse reads the kernel's accounts.
func (g Group) MemoryUse() (u MemoryUse, err error) {
	dir, v2, err := g.folder(Memory)
	if err != nil {
		return u, err
	}
	usage, inactive, hit, hitKey, kill := "memory.usage_in_bytes", "total_inactive_file", "memory.failcnt", "", "memory.oom_control"
	if v2 {
		usage, inactive, hit, hitKey, kill = "memory.current", "inactive_file", "memory.events", "high", "memory.events"
	}
	var idle int64
	for _, r := range []struct {
		to        *int64
		file, key string
	}{{&u.Bytes, usage, ""}, {&idle, "memory.stat", inactive}, {&u.Hit, hit, hitKey}, {&u.Killed, kill, "oom_kill"}} {
		if *r.to, err = number(dir, r.file, r.key); err != nil {
			return u, err
		}
	}
	u.WorkingSet = max(0, u.Bytes-idle)
	// Not all kernels count it for version 1.
	if n, err := number(dir, "memory.stat", "workingset_refault_file"); err == nil {
		u.Refaults = n
	}
	return u, nil
}

// Processes counts the processes and threads of a group.
func (g Group) Processes() (int64, error) {
	dir, _, err := g.folder(PIDs)
	if err != nil {
		return 0, err
	}
	return number(dir, "pids.current", "")
}

// Processors is how many this machine has.
func Processors() int { return runtime.NumCPU() }

func read(dir, file string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return "", fmt.Errorf("control group: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// write must not make a file: the folder may be gone, or be another thing.
func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("control group: %w", err)
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("control group: set %s to %s: %w", file, value, err)
	}
	return nil
}

// number reads a file with one number, or the one behind a key.
func number(dir, file, key string) (int64, error) {
	s, err := read(dir, file)
	if err != nil {
		return 0, err
	}
	if key != "" {
		found := false
		for line := range strings.Lines(s) {
			if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
				s, found = v, true
				break
			}
		}
		if !found {
			return 0, fmt.Errorf("control group: %s has no %s", filepath.Join(dir, file), key)
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("control group: %s: %w", filepath.Join(dir, file), err)
	}
	return n, nil
}
