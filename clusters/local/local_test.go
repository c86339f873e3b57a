package local

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"

	"gameday/clusters"
	"gameday/clusters/nodeimage"
)

func TestBackOffIsTheKubelets(t *testing.T) {
	var b backOff
	for i, want := range []time.Duration{1, 10, 20, 40, 80, 160, 300, 300} {
		if got := b.next(time.Second); got != want*time.Second {
			t.Errorf("restart %d waits %s, not %s", i+1, got, want*time.Second)
		}
	}
	if got := b.next(11 * time.Minute); got != time.Second {
		t.Errorf("after a long life it waits %s", got)
	}
}

func TestFirstFreeNetwork(t *testing.T) {
	of := func(s ...string) []netip.Prefix {
		out := []netip.Prefix{{}} // an address without a network
		for _, p := range s {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	for want, taken := range map[string][]netip.Prefix{
		"10.213.0.0/24":  of("192.168.0.0/16", "10.214.0.0/16"),
		"10.213.1.0/24":  of("10.213.0.0/24"),
		"10.213.16.0/24": of("10.213.0.0/20"),
		"10.213.2.0/24":  of("10.213.0.7/32", "10.213.1.0/30"),
	} {
		if got, err := firstFree(taken); err != nil || got.String() != want {
			t.Errorf("%v: got %s, %v, want %s", taken, got, err, want)
		}
	}
	if got, err := firstFree(of("10.0.0.0/8")); err == nil {
		t.Errorf("all is taken, and %s is free", got)
	}
}

// The first version beside an empty second one, and the second alone.
func TestOwnGroups(t *testing.T) {
	const both = `30 1 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 1 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 1 0:28 /outer /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
33 1 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`
	for _, c := range []struct {
		own, mounts string
		want        map[string]string
		err         string
	}{
		{"7:memory:/a/b\n6:cpu,cpuacct:/\n5:freezer:/outer/c\n1:name=systemd:/x\n0::/\n", both, map[string]string{
			"memory": "/sys/fs/cgroup/memory/a/b", "cpu": "/sys/fs/cgroup/cpu,cpuacct", "freezer": "/sys/fs/cgroup/freezer/c",
		}, ""},
		{"0::/user.slice/x\n", "33 1 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", map[string]string{"": "/sys/fs/cgroup"}, ""},
		{"5:freezer:/other\n", both, nil, "outside"},
		{"0::/\n", "", nil, "no hierarchy"},
	} {
		got, err := ownGroups(c.own, c.mounts)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: got %v, %v", c.own, got, err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", c.own, err, diff)
		}
	}
}

func TestSecretsAreOfOneAuthority(t *testing.T) {
	s, err := newSecrets(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ip, front := netip.MustParseAddr("10.213.0.11"), netip.MustParseAddr("10.213.0.3")
	files, err := s.files("n", ip, front)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(files[pkiDir+"/ca.crt"]) {
		t.Fatal("ca.crt holds no certificate")
	}
	verify := func(file, host string, use x509.ExtKeyUsage) {
		t.Helper()
		p, err := tls.X509KeyPair(files[pkiDir+"/"+file+".crt"], files[pkiDir+"/"+file+".key"])
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return
		}
		if _, err := p.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			t.Errorf("%s for %q: %v", file, host, err)
		}
	}
	for _, host := range []string{"n", "localhost", "127.0.0.1", "10.213.0.11", "10.213.0.3", apiServiceIP, "kubernetes.default.svc"} {
		verify("apiserver", host, x509.ExtKeyUsageServerAuth)
	}
	for _, file := range []string{"etcd/server", "etcd/peer"} {
		verify(file, "10.213.0.11", x509.ExtKeyUsageServerAuth)
		verify(file, "", x509.ExtKeyUsageClientAuth)
	}
	for _, file := range []string{"apiserver-etcd-client", "apiserver-kubelet-client", "front-proxy-client", "etcd/healthcheck-client"} {
		verify(file, "", x509.ExtKeyUsageClientAuth)
	}
	for file, host := range map[string]string{
		adminConf: "https://10.213.0.3:6443", confDir + "/controller-manager.conf": "https://10.213.0.11:6443", confDir + "/scheduler.conf": "https://10.213.0.11:6443",
	} {
		cfg, err := clientcmd.RESTConfigFromKubeConfig(files[file])
		if err != nil || cfg.Host != host {
			t.Errorf("%s leads to %v, %v, not %s", file, cfg, err, host)
		}
	}
}

// Every file that a component is told of is there.
func TestComponentsHaveTheirFiles(t *testing.T) {
	s, err := newSecrets(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l := label{Subnet: netip.MustParsePrefix("10.213.0.0/24"), ControlPlanes: 3, Workers: 2}
	files, err := s.files("n", address(l.Subnet, controlPlaneByte), l.front())
	if err != nil {
		t.Fatal(err)
	}
	files[auditFile] = nil
	m := member{"n", address(l.Subnet, controlPlaneByte)}
	settings := Settings{ControllerManager: map[string]string{"node-eviction-rate": "1", "controllers": "*,-cronjob"}}
	for _, c := range []component{
		etcd(m, []member{m}, "v3.7.0"), etcd(m, []member{m}, "v3.5.24"), apiServer(m, "v1.37.0", settings), controllerManager(m, settings), scheduler(m),
	} {
		for _, arg := range c.Args {
			_, v, _ := strings.Cut(arg, "=")
			if filepath.Dir(v) != auditDir && strings.HasPrefix(v, confDir) && !slices.Contains(keys(files), v) {
				t.Errorf("%s %s: there is no such file", c.Name, arg)
			}
		}
	}
	got := controllerManager(m, settings).Args
	for _, want := range []string{"--node-eviction-rate=1", "--controllers=*,-cronjob", "--leader-elect=true"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not among %v", want, got)
		}
	}
}

func keys(m map[string][]byte) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

func TestLayout(t *testing.T) {
	var got []string
	for _, n := range layout("c", label{Subnet: netip.MustParsePrefix("10.213.4.0/24"), ControlPlanes: 3, Workers: 2}) {
		got = append(got, clusters.Place(n)+" "+n.Name()+" "+n.IP().String())
		for c, want := range map[clusters.Capability]bool{
			clusters.CapKubelet: false, clusters.CapDisk: false,
			clusters.CapProcesses: n.Role() == clusters.ControlPlane, clusters.CapNetwork: n.Role() != clusters.Worker,
		} {
			if clusters.Has(n, c) != want {
				t.Errorf("%s: %s is %t", n.Name(), c, !want)
			}
		}
	}
	want := []string{
		"control-plane[0] c-control-plane 10.213.4.11", "control-plane[1] c-control-plane2 10.213.4.12", "control-plane[2] c-control-plane3 10.213.4.13",
		"worker[0] c-worker 10.213.4.2", "worker[1] c-worker2 10.213.4.2", "load-balancer[0] c-external-load-balancer 10.213.4.3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if front := (label{Subnet: netip.MustParsePrefix("10.213.4.0/24"), ControlPlanes: 1}).front(); front.String() != "10.213.4.11" {
		t.Errorf("one control plane has no balancer, and clients go to %s", front)
	}
}

func TestConfigureLabelsWorkers(t *testing.T) {
	s, err := newSecrets(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l := label{Subnet: netip.MustParsePrefix("10.213.4.0/24"), ControlPlanes: 0, Workers: 3}
	cfg, err := configure(clusters.Spec{Name: "c", Run: "r", Workers: 3, Zones: []string{"x"}}, Settings{WorkerLabels: []map[string]string{{"z": "a"}, {"z": "b"}}}, l, s, nodeimage.Binaries{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range cfg.Workers.Nodes {
		got = append(got, n.Labels["z"]+n.Labels["topology.kubernetes.io/zone"])
	}
	if !slices.Equal(got, []string{"ax", "bx", "ax"}) {
		t.Errorf("labels are %v", got)
	}
}

func TestCheckSpec(t *testing.T) {
	for want, s := range map[string]clusters.Spec{
		"cluster name":    {Name: "A_b", Version: "v1.37.0", ControlPlanes: 1},
		"not of the form": {Name: "a", Version: "1.37", ControlPlanes: 1},
		"control planes":  {Name: "a", Version: "v1.37.0"},
		"workers":         {Name: "a", Version: "v1.37.0", ControlPlanes: 1, Workers: -1},
	} {
		if err := checkSpec(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
	}
	if err := checkSpec(clusters.Spec{Name: "a", Version: "v1.37.0", ControlPlanes: 3, Workers: 5000}); err != nil {
		t.Error(err)
	}
}

// A program that does not call Main cannot be started as a part of itself.
func TestMainMustBeCalled(t *testing.T) {
	if _, err := startPart(keeperPart, "c/keeper", filepath.Join(t.TempDir(), "log")); err == nil || !strings.Contains(err.Error(), "local.Main") {
		t.Errorf("got %v", err)
	}
}
