package kind

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"gameday/clusters"
	"gameday/clusters/docker"
)

// The etcd of each control plane has a disk of its own, so that it can be filled,
// frozen or lost without touching anything else: an ext4 file system in an image
// file, on a loop device, mounted on this machine and bound to etcd's folder in the
// node. Where this machine cannot do that the cluster is made without, and its
// nodes lack clusters.CapDisk.
//
// The disks of a cluster are found again by their place,
// diskRoot/CLUSTER/control-plane-INDEX. It is no cache, for they are in use as long
// as the cluster is.
const (
	diskTop  = "/var/lib/gameday"
	diskRoot = diskTop + "/kind"
	// diskSize is more than etcd's own limit, a database of 2 GB
	// (https://etcd.io/docs/v3.6/dev-guide/limit/), on top of its log. The image is
	// sparse: an empty one takes 2 MB.
	diskSize = 4 << 30
	// etcdFolder is where kubeadm lets etcd keep its data:
	// k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/apis/kubeadm/v1beta4/defaults.go.
	etcdFolder = "/var/lib/etcd"
	// blocker is what lies where the disk is not mounted: a file in the place of the
	// folder that etcd makes, so that it fails instead of starting without its data.
	blocker = "member"
)

// disk is a disk by its place.
type disk struct{ dir string }

func diskOf(root, cluster string, index int) disk {
	return disk{filepath.Join(root, cluster, fmt.Sprintf("%s-%d", clusters.ControlPlane, index))}
}

func (d disk) image() string { return filepath.Join(d.dir, "image") }
func (d disk) mount() string { return filepath.Join(d.dir, "mount") }

// data is what the node gets: not the root of the file system, because kubeadm
// wants an empty folder, and that one has lost+found.
func (d disk) data() string { return filepath.Join(d.mount(), "etcd") }

// exists says whether there is a disk in this place.
func (d disk) exists() bool {
	_, err := os.Stat(d.image())
	return err == nil
}

// makeDisks makes the disks of a cluster's control planes, and returns what is to
// be bound to etcd's folder of each; nothing where that cannot be done.
func makeDisks(ctx context.Context, spec clusters.Spec, facts docker.Facts, say clusters.Say) ([]string, error) {
	if err := removeDisks(ctx, diskRoot, spec.Name); err != nil {
		return nil, err
	}
	if !local(facts) {
		return nil, nil
	}
	bind, err := tryDisks(ctx, diskRoot, spec.Name, spec.ControlPlanes)
	if err == nil {
		return bind, nil
	}
	if rmErr := removeDisks(context.WithoutCancel(ctx), diskRoot, spec.Name); rmErr != nil {
		return nil, errors.Join(err, rmErr)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	say("kind: %s gets no disks of its own for etcd, faults that need them are not available: %v", spec.Name, err)
	return nil, nil
}

func tryDisks(ctx context.Context, root, cluster string, n int) ([]string, error) {
	bind := make([]string, n)
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			d := diskOf(root, cluster, i)
			bind[i], errs[i] = d.data(), d.create(ctx)
		})
	}
	all.Wait()
	return bind, errors.Join(errs...)
}

// create makes the disk and mounts it.
func (d disk) create(ctx context.Context) error {
	mkfs, err := findMkfs()
	if err != nil {
		return err
	}
	// Others than root may look for their clusters there.
	if err := os.MkdirAll(filepath.Dir(d.dir), 0o755); err != nil {
		return err
	}
	// Who is not root must be able to see that a cluster has none.
	if err := errors.Join(makeFolder(filepath.Dir(d.dir), 0o755), makeFolder(d.data(), 0o700)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.data(), blocker), []byte(noDisk), 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(d.image(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(diskSize), f.Close()); err != nil {
		return err
	}
	// Few inodes, so that all of them are written now and no thread of the kernel
	// does it later, beside etcd.
	out, err := exec.CommandContext(ctx, mkfs, "-q", "-F", "-m", "0", "-N", "4096",
		"-E", "lazy_itable_init=0,lazy_journal_init=1,nodiscard", d.image()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", mkfs, err, strings.TrimSpace(string(out)))
	}
	if err := d.attach(); err != nil {
		return err
	}
	if err := os.Mkdir(d.data(), 0o700); err != nil {
		return err
	}
	return seenByDocker(d.data())
}

// makeFolder is MkdirAll beside another process that removes the disks of another
// cluster, and the folders above with them.
func makeFolder(path string, mode fs.FileMode) error {
	var err error
	for range 5 {
		if err = os.MkdirAll(path, mode); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

const noDisk = "gameday: the disk of this etcd is not mounted\n"

// OffersDisks says why this machine cannot give etcd disks of its own, nil if it
// most likely can: for sure that is known when they are made.
func OffersDisks() error {
	if os.Geteuid() != 0 {
		return errors.New("root is needed to mount a disk")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return fmt.Errorf("loop devices: %w", err)
	}
	_, err := findMkfs()
	return err
}

func findMkfs() (string, error) {
	const name = "mkfs.ext4"
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} { // not in every PATH
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s is not installed (package e2fsprogs)", name)
}

// seenByDocker makes sure that Docker, which may run in a mount namespace of its
// own, sees the mount and not the folder below it.
func seenByDocker(path string) error {
	here, err := deviceOf(path)
	if err != nil {
		return err
	}
	processes, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	for _, p := range processes {
		comm, err := os.ReadFile(p)
		name := strings.TrimSpace(string(comm))
		if err != nil || name != "dockerd" && name != "containerd" {
			continue // ended while we looked, or somebody else
		}
		there, err := deviceOf(filepath.Join(filepath.Dir(p), "root", path))
		if errors.Is(err, unix.ESRCH) || err == nil && there == here {
			continue
		}
		// A containerd may also be one inside a node.
		if name == "containerd" && !sameRoot(filepath.Dir(p)) {
			continue
		}
		return errors.Join(fmt.Errorf("%s runs in a mount namespace of its own and does not see %s", name, path), err)
	}
	return nil
}

// sameRoot says whether a process (/proc/PID) has the root of this one.
func sameRoot(proc string) bool {
	a, errA := os.Stat(filepath.Join(proc, "root"))
	b, errB := os.Stat("/")
	return errA == nil && errB == nil && os.SameFile(a, b)
}

func deviceOf(path string) (uint64, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return uint64(s.Dev), nil //nolint:unconvert,nolintlint // of another size elsewhere
}

// disksOf are the disks that there are of a cluster.
func disksOf(root, cluster string) ([]disk, error) {
	entries, err := os.ReadDir(filepath.Join(root, cluster))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []disk
	for _, e := range entries {
		out = append(out, disk{filepath.Join(root, cluster, e.Name())})
	}
	return out, nil
}

// thawDisks lets the disks of a cluster go on, should they be frozen: no process
// that waits for one can be ended.
func thawDisks(root, cluster string) error {
	disks, err := disksOf(root, cluster)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range disks {
		errs = append(errs, d.thaw())
	}
	return errors.Join(errs...)
}

// removeDisks takes the disks of a cluster away from whoever still has them, and
// removes them. None is no error.
func removeDisks(ctx context.Context, root, cluster string) error {
	disks, err := disksOf(root, cluster)
	if err != nil {
		return err
	}
	for _, d := range disks {
		if err := errors.Join(d.thaw(), d.detach(ctx)); err != nil {
			return fmt.Errorf("removing the disk %s: %w", d.dir, err)
		}
		// What is mounted there, whatever it is, must not be emptied.
		if err := d.bare(); err != nil {
			return fmt.Errorf("removing the disk %s: %w", d.dir, err)
		}
	}
	if err := os.RemoveAll(filepath.Join(root, cluster)); err != nil {
		return err
	}
	// With the last cluster the folders above go too.
	for dir := root; strings.HasPrefix(dir, diskTop); dir = filepath.Dir(dir) {
		err := os.Remove(dir)
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST), errors.Is(err, fs.ErrPermission):
			return nil // of others
		default:
			return err
		}
	}
	return nil
}

// bare says that nothing is mounted at the disk's place.
func (d disk) bare() error {
	at, err := deviceOf(d.mount())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	below, berr := deviceOf(d.dir)
	if err := errors.Join(err, berr); err != nil {
		return err
	}
	if at != below {
		return fmt.Errorf("something is mounted at %s still: unmount it", d.mount())
	}
	return nil
}

// diskNode is a control plane on this machine whose etcd has a disk of its own.
type diskNode struct {
	*localNode
	disk disk
}

var _ clusters.Disks = (*diskNode)(nil)

// withDisks puts the nodes that have a disk in the place of themselves without.
func withDisks(root, cluster string, nodes []clusters.Node) {
	for i, n := range nodes {
		l, ok := n.(*localNode)
		if d := diskOf(root, cluster, n.Index()); ok && n.Role() == clusters.ControlPlane && d.exists() {
			nodes[i] = &diskNode{localNode: l, disk: d}
		}
	}
}

// EtcdDisk implements clusters.Disks.
func (n *diskNode) EtcdDisk(context.Context) (clusters.Disk, error) {
	device, err := n.disk.mounted()
	if err != nil {
		return clusters.Disk{}, fmt.Errorf("%s: the disk of its etcd: %w", n.name, err)
	}
	return clusters.Disk{Device: device, Mount: n.disk.mount(), Path: etcdFolder}, nil
}

// RenewEtcdDisk implements clusters.Disks.
func (n *diskNode) RenewEtcdDisk(ctx context.Context) error {
	pid, err := n.InitPID(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(n.disk.thaw(), n.disk.detach(ctx)); err != nil {
		return fmt.Errorf("%s: taking the disk of its etcd away: %w", n.name, err)
	}
	if err := n.disk.attach(); err != nil {
		return fmt.Errorf("%s: mounting the disk of its etcd: %w", n.name, err)
	}
	if err := n.disk.bindInto(pid, etcdFolder); err != nil {
		return fmt.Errorf("%s: giving it the disk of its etcd: %w", n.name, err)
	}
	return nil
}

// loopNumber is the N of /dev/loopN.
func loopNumber(device string) (int, error) {
	s, ok := strings.CutPrefix(device, "/dev/loop")
	if !ok {
		return 0, fmt.Errorf("%s is no loop device", device)
	}
	return strconv.Atoi(s)
}
