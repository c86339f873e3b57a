package verify

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	before, after := Snapshot{}, Snapshot{}
	for _, s := range []Snapshot{before, after} {
		s.add("worker[0]", "queue %s on %s", "noqueue", "eth0")
	}
	before.add("etcd", "member a")
	before.add("worker[0]", "cgroup . cpu.max = max")
	after.add("worker[0]", "cgroup . cpu.max = 1000")
	want := []string{"gone: etcd: member a", "new: worker[0]: cgroup . cpu.max = 1000", "gone: worker[0]: cgroup . cpu.max = max"}
	if diff := cmp.Diff(want, before.Diff(after)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := before.Diff(before); len(got) > 0 {
		t.Errorf("from itself: %v", got)
	}
}

func TestMounts(t *testing.T) {
	got := parseMounts(`36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
41 35 0:33 / /run/netns/cni-1 rw - nsfs nsfs rw
not a line
`)
	want := []mount{{"/mnt2", "ext3", "/dev/root", "rw,noatime"}, {"/run/netns/cni-1", "nsfs", "nsfs", "rw"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mount{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNodeGroup(t *testing.T) {
	id := strings.Repeat("0a", 32)
	for in, want := range map[string]string{
		"/docker/" + id + "/init.scope":                    "/docker/" + id,
		"/docker/" + id:                                    "/docker/" + id,
		"/system.slice/docker-" + id + ".scope/init.scope": "/system.slice/docker-" + id + ".scope",
		"/": "/",
	} {
		if got := nodeGroup(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	mounts := []mount{{"/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cgroup", "rw"}, {"/sys/fs/cgroup/unified", "cgroup2", "cgroup2", "rw"}}
	for in, want := range map[string]string{"cpuacct,cpu": "/sys/fs/cgroup/cpu,cpuacct", "": "/sys/fs/cgroup/unified", "name=systemd": ""} {
		if got, ok := hierarchy(mounts, in); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", in, got, ok)
		}
	}
}

// TestLimits is about control groups inside a node: pods are told without their
// ids, a limit that changes is seen, and what the kubelet gives its pods together
// is its own.
func TestLimits(t *testing.T) {
	top := t.TempDir()
	write := func(name, value string) {
		t.Helper()
		p := filepath.Join(top, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	take := func() Snapshot {
		t.Helper()
		s := Snapshot{}
		if err := limitLines(top, "worker[0]", s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	pod := "kubelet.slice/kubepods-pod0f3a6d1c_0000_0000_0000_000000000001.slice/" + strings.Repeat("ab", 32)
	write("cpu.max", "max 100000")
	write("system.slice/kubelet.service/cpu.max", "max 100000")
	write(pod+"/cpu.max", "max 100000")
	write(pod+"/io.max", "")
	write("kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/cpu.weight", "34")
	write("kubelet/kubepods/burstable/cpu.shares", "870")
	write("kubelet/kubepods/burstable/memory.limit_in_bytes", "4096")
	before := take()
	want := Snapshot{
		"worker[0]: cgroup . cpu.max = max 100000": true, "worker[0]: cgroup system.slice/kubelet.service cpu.max = max 100000": true,
		"pods: cgroup cpu.max max 100000": true, "pods: cgroup memory.limit_in_bytes 4096": true,
	}
	if diff := cmp.Diff(want, before); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	write(pod+"/cpu.max", "1000 100000")
	write("cpu.max", "2000 100000")
	if got := before.Diff(take()); len(got) != 4 {
		t.Errorf("%v", got)
	}
}

func TestStoppedAndLeftProcesses(t *testing.T) {
	s := Snapshot{}
	if err := children("machine", s); err != nil || len(s) > 0 {
		t.Errorf("before: %v, %v", s, err)
	}
	newTestVerifier(t) // with its guard
	if err := children("machine", s); err != nil || !s["machine: process guard"] || len(s) != 1 {
		t.Errorf("with a guard: %v, %v", s, err)
	}
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sleep.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := sleep.Wait(); err == nil {
			t.Error("it ended by itself")
		}
	})
	if err := sleep.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		s := Snapshot{}
		stateLines(strconv.Itoa(sleep.Process.Pid), "worker[0]", s)
		if s["worker[0]: process sleep is stopped (T (stopped))"] {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %v", s)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "etc/kubernetes/manifests"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "etc/kubernetes/manifests/etcd.yaml")
	take := func(data string) Snapshot {
		t.Helper()
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		s := Snapshot{}
		if err := hashLines(root, "etc/kubernetes", "x", s); err != nil {
			t.Fatal(err)
		}
		if err := hashLines(root, "etc/cni", "x", s); err != nil {
			t.Errorf("a folder that is not there: %v", err)
		}
		return s
	}
	a, b := take("a"), take("b")
	if diff := take("- etcd\n    - --initial-cluster=a=x\n    - --name=a\n").Diff(
		take("- etcd\n    - --initial-cluster=a=x,b=y\n    - --initial-cluster-state=existing\n    - --name=a\n")); len(diff) > 0 {
		t.Errorf("a member that joined anew differs: %v", diff)
	}
	if len(a) != 3 || len(a.Diff(b)) != 2 {
		t.Errorf("%v, %v", a, a.Diff(b))
	}
}
