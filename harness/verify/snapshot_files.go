package verify

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hashed are files and folders whose contents a fault may change and must put back.
var hashed = []string{
	"etc/kubernetes", "var/lib/kubelet/config.yaml", "var/lib/kubelet/kubeadm-flags.env", "etc/containerd", "etc/resolv.conf",
	"etc/hosts", "etc/cni", "etc/systemd/system", "run/systemd/system", "home/envoy", "usr/local/etc/haproxy",
}

// listed are folders in which a fault may leave something: their names are listed,
// those that carry ours in all, of etcd's own every one.
var listed = map[string]func(name string) bool{
	".": ours, "tmp": ours, "run": ours, "var/tmp": ours, "var/lib": ours, "var/lib/kubelet": ours, "etc": ours, "root": ours,
	"usr/local/bin": ours, "dev/shm": ours,
	"var/lib/etcd": func(string) bool { return true },
}

func ours(name string) bool { return strings.Contains(name, "gameday") }

// tooLong is a file that is not read.
const tooLong = 1 << 20

// fileLines are the files of a node.
func fileLines(pid int, where string, s Snapshot) (err error) {
	root, err := os.OpenRoot("/proc/" + strconv.Itoa(pid) + "/root")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, top := range hashed {
		if err := hashLines(root, top, where, s); err != nil {
			return err
		}
	}
	for dir, want := range listed {
		list, err := fs.ReadDir(root.FS(), dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range list {
			if want(e.Name()) {
				s.add(where, "/%s", path.Join(dir, e.Name()))
			}
		}
	}
	return nil
}

// joined are the flags that say whom an etcd without data joins. They do not count:
// a member that was replaced has those of its second beginning, one that kubeadm
// made those of its first, and with data etcd looks at neither
// (https://etcd.io/docs/v3.6/op-guide/clustering/#static).
var joined = regexp.MustCompile(`(?m)^\s*- ['"]?--initial-cluster(-state)?=.*\n`)

func hashLines(root *os.Root, top, where string, s Snapshot) error {
	return fs.WalkDir(root.FS(), top, func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it need not be there, or was removed just now
		case err != nil:
			return err
		case d.Type()&fs.ModeSymlink != 0:
			to, err := root.Readlink(name)
			if err == nil {
				s.add(where, "/%s -> %s", name, to)
			}
			return ignoreGone(err)
		case d.IsDir():
			s.add(where, "/%s/", name)
			return nil
		case !d.Type().IsRegular():
			s.add(where, "/%s (%s)", name, d.Type())
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err)
		}
		if info.Size() > tooLong {
			s.add(where, "/%s of %d bytes", name, info.Size())
			return nil
		}
		b, err := root.ReadFile(name)
		if err != nil {
			return ignoreGone(err)
		}
		sum := sha256.Sum256(joined.ReplaceAll(b, nil))
		s.add(where, "/%s %s %x", name, info.Mode().Perm(), sum[:6])
		return nil
	})
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// limits are the files of control groups by which a fault takes something away, of
// cgroup v1 and v2: linux Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
var limits = []string{
	"cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares", "cpu.max", "cpu.weight", "cpuset.cpus",
	"memory.limit_in_bytes", "memory.max", "memory.high", "pids.max", "freezer.state", "cgroup.freeze",
	"blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device", "blkio.throttle.read_iops_device",
	"blkio.throttle.write_iops_device", "io.max",
}

// ids are what tells one pod or container from the next in the name of its control
// group.
var ids = regexp.MustCompile(`[0-9a-f]{64}|[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32}`)

// burstable is the control group of all pods with requests that are not guaranteed.
// Its share of the CPU is the sum of their requests, which the kubelet writes once a
// minute and when one of them is admitted: a pod that moved from one node to another
// shows there up to a minute late (k8s.io/kubernetes@v1.37.0
// pkg/kubelet/cm/qos_container_manager_linux.go, periodicQOSCgroupUpdateInterval and
// setCPUCgroupConfig). So it is the kubelet's own and does not count; the shares of
// each pod do.
var burstable = regexp.MustCompile(`(^|[/-])burstable(\.slice)?$`)

// cgroupLines are the limits of a node's own control groups, and of those inside it
// without the ids of pods and containers. What holds for the pods is not told by
// node: pods move.
func cgroupLines(groups []string, where string, s Snapshot) error {
	for _, g := range groups {
		if err := limitLines(g, where, s); err != nil {
			return err
		}
	}
	return nil
}

// groupsOf are the folders of a node's control groups, one in each hierarchy.
func groupsOf(pid int) ([]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := mountsOf("self")
	if err != nil {
		return nil, err
	}
	var out []string
	for l := range strings.Lines(string(b)) {
		// hierarchy:controllers:path, cgroups(7).
		part := strings.SplitN(strings.TrimSpace(l), ":", 3)
		if len(part) != 3 {
			continue
		}
		dir, ok := hierarchy(mounts, part[1])
		if top := nodeGroup(part[2]); ok && top != "/" { // else it has no group of its own
			out = append(out, path.Join(dir, top))
		}
	}
	return out, nil
}

// inside are the processes in control groups and below them. A process that moved
// in one hierarchy is still found in another.
func inside(groups []string) ([]string, error) {
	var out []string
	for _, g := range groups {
		err := fs.WalkDir(os.DirFS(g), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return ignoreGone(err)
			}
			if d.Name() != "cgroup.procs" {
				return nil
			}
			b, err := os.ReadFile(path.Join(g, name))
			if errors.Is(err, unix.ENODEV) { // the group was removed just now
				return nil
			}
			out = append(out, strings.Fields(string(b))...)
			return ignoreGone(err)
		})
		if err != nil {
			return nil, err
		}
	}
	return sorted(out), nil
}

// hierarchy is where one is mounted on this machine: by a controller (v1), or the
// unified one.
func hierarchy(mounts []mount, controllers string) (string, bool) {
	first, _, _ := strings.Cut(controllers, ",")
	for _, m := range mounts {
		switch {
		case controllers == "" && m.fstype == "cgroup2":
			return m.point, true
		case controllers != "" && m.fstype == "cgroup" && slices.Contains(strings.Split(path.Base(m.point), ","), first):
			return m.point, true
		}
	}
	return "", false
}

// nodeGroup is the group of the container in the path of its first process, which
// may have moved further down (systemd's init.scope).
func nodeGroup(p string) string {
	at := ids.FindStringIndex(p)
	if at == nil {
		return p
	}
	end := strings.IndexByte(p[at[1]:], '/')
	if end < 0 {
		return p
	}
	return p[:at[1]+end]
}

func limitLines(top, where string, s Snapshot) error {
	return fs.WalkDir(os.DirFS(top), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreGone(err)
		}
		if !d.IsDir() {
			return nil
		}
		for _, l := range limits {
			b, err := os.ReadFile(path.Join(top, name, l))
			if err != nil {
				continue // not of this controller, or the group is gone
			}
			value := strings.Join(strings.Fields(string(b)), " ")
			switch generic := ids.ReplaceAllString(name, "*"); {
			case value == "": // no device is throttled
			case burstable.MatchString(name) && (l == "cpu.shares" || l == "cpu.weight"):
			case generic != name || strings.Contains(name, "kubepods"):
				s.add("pods", "cgroup %s %s", l, value)
			case name == "." || strings.HasSuffix(name, ".slice") || strings.HasSuffix(name, ".service") || strings.Contains(name, "kubelet"):
				s.add(where, "cgroup %s %s = %s", name, l, value)
			}
		}
		return nil
	})
}

// errPart names the part of a snapshot that failed.
func errPart(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
