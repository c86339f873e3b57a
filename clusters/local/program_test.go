package local

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A component that is told to stop ends and stays so until it is told to start.
func TestSupervisorStops(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c := component{Name: "sleep", Program: "/bin/sleep", Args: []string{"600"}}
	s := newSupervisor(c)
	type end struct {
		changed chan struct{}
		err     error
	}
	ended := make(chan end, 1)
	live := func() {
		changed, err := s.once(log)
		ended <- end{changed, err}
	}
	go live()
	c.Stopped = true
	if err := s.tell(c); err != nil { // at once, or when the process runs: either way it ends
		t.Fatal(err)
	}
	e := <-ended
	if !errors.Is(e.err, errStopped) {
		t.Fatalf("got %v", e.err)
	}
	if _, err := s.once(log); !errors.Is(err, errStopped) {
		t.Errorf("it was started although it is stopped: %v", err)
	}
	if closed(e.changed) {
		t.Error("nothing was told since, and it is said to be")
	}
	c.Stopped, c.Program = false, "/bin/true"
	if err := s.tell(c); err != nil {
		t.Fatal(err)
	}
	if !closed(e.changed) {
		t.Error("who waits does not hear of it")
	}
	if _, err := s.once(log); err != nil {
		t.Errorf("the other program: %v", err)
	}
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// What is put in a program's place is another file: who runs the old one keeps it.
func TestPut(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "root", "opt", "etcd")
	for _, version := range []string{"old", "new", "new"} {
		program := filepath.Join(dir, version)
		if err := os.WriteFile(program, []byte(version), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := put(program, at); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(at)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(at)
		if err != nil || string(b) != version || fi.Mode().Perm() != 0o755 {
			t.Errorf("it holds %q, %s, %v", b, fi.Mode(), err)
		}
		if old, err := os.ReadFile(filepath.Join(dir, "old")); err != nil || string(old) != "old" {
			t.Errorf("the old program was written to: %q, %v", old, err)
		}
		left, err := os.ReadDir(filepath.Dir(at))
		if err != nil || len(left) != 1 {
			t.Errorf("left beside it: %v, %v", left, err)
		}
	}
	if err := put(filepath.Join(dir, "none"), at); err == nil {
		t.Error("a program that is not there")
	}
}

// Of another version etcd has other flags, and the API server another environment; what
// was asked for at the creation stays.
func TestComponentOfAnotherVersion(t *testing.T) {
	m := member{"n", netip.MustParseAddr("10.213.0.11")}
	old := etcd(m, []member{m}, "v3.5.24")
	if d := cmp.Diff(etcd(m, []member{m}, "v3.7.0"), old.as("v3.7.0", m, []member{m})); d != "" {
		t.Error(d)
	}
	api := apiServer(m, "v1.35.8", Settings{APIServer: map[string]string{"v": "4"}}).as("v1.37.0", m, nil)
	if len(api.Env) != 1 || !slices.Contains(api.Args, "--v=4") {
		t.Errorf("got %v %v", api.Env, api.Args)
	}
}

// What is told of a machine that is off is so when it is switched on.
func TestOrdersOfAMachineThatIsOff(t *testing.T) {
	k := &keeper{cfg: keeperConfig{Machines: []machineConfig{{
		Name: "n", IP: netip.MustParseAddr("10.213.0.11"), Components: []component{{Name: "etcd"}, {Name: "kube-scheduler"}}, Kubelet: &hollowConfig{Version: "v1.36.1"},
	}}}, machines: map[string]*part{}, changed: map[string]machineConfig{}}
	c := &control{k}
	for _, err := range []error{
		c.StopComponent(ComponentOrder{Node: "n", Component: "kube-scheduler"}, nil),
		c.InstallComponent(ComponentOrder{Node: "n", Component: "etcd", Version: "v3.7.0", Program: "/opt/replaced/etcd"}, nil),
		c.InstallComponent(ComponentOrder{Node: "n", Component: "kubelet", Version: "v1.37.0"}, nil),
		c.StopComponent(ComponentOrder{Node: "n", Component: "kubelet"}, nil),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	m, err := k.configOf("n")
	if err != nil {
		t.Fatal(err)
	}
	if e := m.Components[0]; e.Program != "/opt/replaced/etcd" || !strings.Contains(strings.Join(e.Args, " "), "InitialCorruptCheck") {
		t.Errorf("etcd is %+v", e)
	}
	if !m.Components[1].Stopped || m.Kubelet.Version != "v1.37.0" || !m.Kubelet.Stopped {
		t.Errorf("got %+v, kubelet %+v", m.Components[1], m.Kubelet)
	}
	if was := k.cfg.Machines[0]; was.Components[0].Program != "" || was.Kubelet.Version != "v1.36.1" {
		t.Error("what the cluster was made of has changed")
	}
	if err := c.StopComponent(ComponentOrder{Node: "n", Component: "kube-proxy"}, nil); err == nil {
		t.Error("a component that is not there")
	}
	if err := c.StopComponent(ComponentOrder{Node: "x", Component: "etcd"}, nil); err == nil {
		t.Error("a machine that is not there")
	}
}
