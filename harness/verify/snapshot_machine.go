package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gameday/clusters"
	"gameday/harness/inject"
)

// machineSnapshot is what this machine has of the cluster or the run beside its
// nodes. Other clusters and other runs come and go here: theirs is left out.
func machineSnapshot(ctx context.Context, c clusters.Cluster, run string, s Snapshot) error {
	const where = "machine"
	found, err := inject.OpenJournals()
	if err != nil {
		return err
	}
	others := func(table string) bool {
		for _, f := range found {
			if f.Run != run && strings.HasPrefix(table, "gameday-"+inject.Tag(f.Run, "")) {
				return true
			}
		}
		return false
	}
	var errs []error
	seen := map[string]bool{}
	for _, n := range c.Nodes() {
		net, ok := n.(clusters.Network)
		if !ok {
			continue
		}
		link, err := net.Link(ctx)
		if err != nil {
			return err
		}
		if !seen[link.BridgeNetNS] {
			seen[link.BridgeNetNS] = true
			errs = append(errs, nftLines(link.BridgeNetNS, where, func(table string) bool {
				return strings.HasPrefix(table, "gameday-") && !others(table)
			}, s))
		}
		errs = append(errs, peerLines(link, where+": "+clusters.Place(n), s))
	}
	ours := func(text string) bool { return strings.Contains(text, c.Name()) || strings.Contains(text, run) }
	return errors.Join(append(errs, ourMounts(where, ours, s), loops(where, ours, s), children(where, s))...)
}

// ourMounts are the mounts of this machine that carry our name.
func ourMounts(where string, ours func(string) bool, s Snapshot) error {
	all, err := mountsOf("self")
	if err != nil {
		return err
	}
	for _, m := range all {
		if ours(m.point) || ours(m.source) {
			s.add(where, "mount %s", m)
		}
	}
	return nil
}

// loops are the loop devices whose file carries our name.
func loops(where string, ours func(string) bool, s Snapshot) error {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if name := strings.TrimSpace(string(b)); ours(name) {
			s.add(where, "loop device of %s", name)
		}
	}
	return nil
}

// children are the processes that this program started of itself, and those that
// outlived the one that started them.
func children(where string, s Snapshot) error {
	me, err := os.Stat("/proc/self/exe")
	if err != nil {
		return err
	}
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range names {
		argv := argvOf(dir)
		// child.Start's first argument.
		if len(argv) < 3 || argv[1] != "gameday-child" || !sameExe(dir, me) {
			continue
		}
		parent, err := strconv.Atoi(statusOf(dir, "PPid"))
		if err != nil {
			continue // it has ended
		}
		if parent == os.Getpid() || !sameExe(fmt.Sprintf("/proc/%d", parent), me) {
			s.add(where, "process %s", argv[2])
		}
	}
	return nil
}

func sameExe(dir string, me fs.FileInfo) bool {
	exe, err := os.Stat(filepath.Join(dir, "exe"))
	return err == nil && os.SameFile(exe, me)
}

// argvOf is empty for a process that has ended.
func argvOf(dir string) []string {
	b, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// statusOf is a field of /proc/PID/status: proc_pid_status(5). It is empty for a
// process that has ended.
func statusOf(dir, field string) string {
	b, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return ""
	}
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(l, field+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// processLines are the processes of a node that are traced or stopped.
func processLines(groups []string, where string, s Snapshot) error {
	pids, err := inside(groups)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		stateLines(pid, where, s)
	}
	return nil
}

func stateLines(pid, where string, s Snapshot) {
	dir := "/proc/" + pid
	name := statusOf(dir, "Name")
	if t := statusOf(dir, "TracerPid"); t != "" && t != "0" {
		s.add(where, "process %s is traced", name)
	}
	if st := statusOf(dir, "State"); strings.HasPrefix(st, "T") || strings.HasPrefix(st, "t") {
		s.add(where, "process %s is stopped (%s)", name, st)
	}
}

// mount is a line of mountinfo: proc_pid_mountinfo(5).
type mount struct{ point, fstype, source, options string }

func (m mount) String() string {
	return fmt.Sprintf("%s %s %s (%s)", m.point, m.fstype, m.source, m.options)
}

func mountsOf(pid string) ([]mount, error) {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "mountinfo"))
	if err != nil {
		return nil, err
	}
	return parseMounts(string(b)), nil
}

func parseMounts(text string) []mount {
	var out []mount
	for l := range strings.Lines(text) {
		before, after, ok := strings.Cut(l, " - ")
		a, b := strings.Fields(before), strings.Fields(after)
		if !ok || len(a) < 6 || len(b) < 2 {
			continue
		}
		out = append(out, mount{point: a[4], options: a[5], fstype: b[0], source: b[1]})
	}
	return out
}

// passing are the folders whose mounts come and go with pods and containers, and
// credentials that systemd mounts for a service while it starts.
var passing = []string{
	"/run/containerd/", "/var/lib/containerd/", "/var/lib/kubelet/pods/", "/run/netns/", "/var/run/netns/", "/run/credentials/",
	"/run/user/",
}

func mountLines(pid int, where string, s Snapshot) error {
	all, err := mountsOf(strconv.Itoa(pid))
	if err != nil {
		return err
	}
	for _, m := range all {
		if !slices.ContainsFunc(passing, func(p string) bool { return strings.HasPrefix(m.point, p) }) {
			s.add(where, "mount %s", m)
		}
	}
	return nil
}
