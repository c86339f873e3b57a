package kind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"gameday/clusters"
)

func TestMountPoints(t *testing.T) {
	const table = `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
77 27 7:3 / /var/lib/gameday/kind/a/control-plane-0/mount rw,nodev - ext4 /dev/loop3 rw
78 27 7:3 /etcd /with\040a\134space rw shared:1 master:2 - ext4 /dev/loop3 rw
79 27 7:30 / /other rw - ext4 /dev/loop30 rw
`
	n, err := deviceNumber("/dev/loop3")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/var/lib/gameday/kind/a/control-plane-0/mount", `/with a\space`}
	if diff := cmp.Diff(want, mountPoints(table, n)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, d := range []string{"/dev/sda", "/dev/loopx", "loop1"} {
		if n, err := deviceNumber(d); err == nil {
			t.Errorf("%s has number %x", d, n)
		}
	}
}

func TestDisksThatAreNotThere(t *testing.T) {
	root := t.TempDir()
	if err := errors.Join(thawDisks(root, "gd"), removeDisks(t.Context(), root, "gd")); err != nil {
		t.Error(err)
	}
	n := &localNode{node: &node{name: "gd-control-plane", role: clusters.ControlPlane}}
	nodes := []clusters.Node{n}
	if withDisks(root, "gd", nodes); clusters.Has(nodes[0], clusters.CapDisk) {
		t.Error("the node has a disk")
	}
	// Only the place says so: this one was never mounted.
	d := diskOf(root, "gd", 0)
	if err := errors.Join(os.MkdirAll(d.dir, 0o700), os.WriteFile(d.image(), nil, 0o600), os.Mkdir(d.mount(), 0o700)); err != nil {
		t.Fatal(err)
	}
	if withDisks(root, "gd", nodes); !clusters.Has(nodes[0], clusters.CapDisk) || kindNode(nodes[0]) != n.node {
		t.Error("the node has no disk")
	}
	if got, err := nodes[0].(clusters.Disks).EtcdDisk(t.Context()); err == nil {
		t.Errorf("got %+v", got)
	}
	if err := errors.Join(thawDisks(root, "gd"), removeDisks(t.Context(), root, "gd")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, "gd")); err == nil {
		t.Error("it was left")
	}
}

// TestDisk needs root, loop devices and mkfs.ext4. A process with a mount namespace
// of its own stands for the node.
func TestDisk(t *testing.T) {
	root := t.TempDir()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	t.Cleanup(func() {
		// The test's own context has ended by now.
		if err := errors.Join(thawDisks(root, "gd"), removeDisks(context.Background(), root, "gd")); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	bind, err := tryDisks(t.Context(), root, "gd", 3)
	if err != nil {
		t.Skipf("not on this machine: %v", err)
	}
	t.Logf("three disks made in %s", time.Since(began))
	folder := filepath.Join(t.TempDir(), "etcd")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	d := diskOf(root, "gd", 1)
	node := exec.Command("sh", "-c", `mount --bind "$0" "$1" && echo && exec sleep 60`, bind[1], folder)
	node.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} // no Pdeathsig: threads end here
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Process.Kill(); _ = node.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	inside := func(name string) string {
		return filepath.Join(fmt.Sprintf("/proc/%d/root", node.Process.Pid), folder, name)
	}
	entries := func() []string {
		t.Helper()
		list, err := os.ReadDir(inside(""))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range list {
			names = append(names, e.Name())
		}
		return names
	}
	if got := entries(); len(got) != 0 {
		t.Errorf("the new disk holds %v", got)
	}
	device, err := d.mounted()
	if err != nil {
		t.Fatal(err)
	}

	f, err := os.Create(inside("synced"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close(), os.WriteFile(inside("not-synced"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	// EXT4_IOC_SHUTDOWN without a flush of the log.
	dir, err := os.Open(d.mount())
	if err != nil {
		t.Fatal(err)
	}
	noFlush := uint32(2)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), 0x8004587d, uintptr(unsafe.Pointer(&noFlush))); errno != 0 {
		t.Fatal(errno)
	}
	dir.Close()
	began = time.Now()
	if err := errors.Join(d.thaw(), d.detach(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := entries(); len(got) != 0 {
		t.Errorf("without its disk the node sees %v", got)
	}
	if err := errors.Join(d.attach(), d.bindInto(node.Process.Pid, folder)); err != nil {
		t.Fatal(err)
	}
	t.Logf("renewed in %s", time.Since(began))
	if got := entries(); !slices.Equal(got, []string{"synced"}) {
		t.Errorf("after the loss of power it holds %v", got)
	}
	// Below the mount, so that an etcd without its disk cannot start.
	if b, err := os.ReadFile(filepath.Join(folder, blocker)); err != nil || string(b) != noDisk {
		t.Errorf("blocker: %q, %v", b, err)
	}

	// A frozen disk in use does not keep the cluster from being removed.
	dir, err = os.Open(d.mount())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(dir.Fd()), 0xc0045877, 0); err != nil { // FIFREEZE
		t.Fatal(err)
	}
	dir.Close()
	began = time.Now()
	if err := removeDisks(t.Context(), root, "gd"); err != nil {
		t.Fatal(err)
	}
	t.Logf("removed in %s", time.Since(began))
	if left, err := filepath.Glob(root + "/gd*"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if b, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "loop/backing_file")); err == nil {
		t.Errorf("%s still holds %s", device, b)
	}
}
