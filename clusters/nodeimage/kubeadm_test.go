package nodeimage

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// constantsSource has the shape of cmd/kubeadm/app/constants/constants.go in
// k8s.io/kubernetes@v1.36.1.
const constantsSource = `package constants

const (
	// DefaultEtcdVersion indicates the default etcd version that kubeadm uses
	DefaultEtcdVersion = "3.6.8-0"
	Etcd = "etcd"
	CoreDNSVersion = "v1.14.2"
	PauseVersion = "3.10.2"
)

var (
	MinimumControlPlaneVersion = getSkewedKubernetesVersion(-1)
	SupportedEtcdVersion = map[uint8]string{
		34: "3.6.5-0",
		36: "3.6.9-0",
	}
)
`

func TestParsePins(t *testing.T) {
	for minor, etcd := range map[int]string{34: "3.6.5-0", 36: "3.6.9-0", 37: "3.6.8-0"} {
		got, err := parsePins([]byte(constantsSource), minor)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(pins{Etcd: etcd, CoreDNS: "v1.14.2", Pause: "3.10.2"}, got); diff != "" {
			t.Errorf("minor %d (-want +got)\n%s", minor, diff)
		}
	}
	without := strings.Replace(constantsSource, "PauseVersion", "OtherName", 1)
	if _, err := parsePins([]byte(without), 36); err == nil || !strings.Contains(err.Error(), "PauseVersion") {
		t.Errorf("a missing constant gave %v", err)
	}
	if _, err := parsePins([]byte("package"), 36); err == nil {
		t.Error("broken source was accepted")
	}
}

// kubeadmList is what kubeadm v1.36.1 prints.
const kubeadmList = `registry.k8s.io/kube-apiserver:v1.36.1
registry.k8s.io/kube-controller-manager:v1.36.1
registry.k8s.io/kube-scheduler:v1.36.1
registry.k8s.io/kube-proxy:v1.36.1
registry.k8s.io/coredns/coredns:v1.14.2
registry.k8s.io/pause:3.10.2
registry.k8s.io/etcd:3.6.8-0
`

func TestImageRefsAreKubeadmsOwnNames(t *testing.T) {
	want, err := parseImageList(kubeadmList)
	if err != nil {
		t.Fatal(err)
	}
	got := imageRefs("v1.36.1", pins{Etcd: "3.6.8-0", CoreDNS: "v1.14.2", Pause: "3.10.2"})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := parseImageList(strings.Replace(kubeadmList, "etcd", "other", 1)); err == nil {
		t.Error("a list without etcd was accepted")
	}
}

func TestParseFacts(t *testing.T) {
	f, err := parseFacts("v1.36.1\nsystemd 252 (252.39-1~deb12u1)\n" + kubeadmList)
	if err != nil {
		t.Fatal(err)
	}
	if f.version != "v1.36.1" || f.systemd != 252 || f.images[compEtcd] != "registry.k8s.io/etcd:3.6.8-0" {
		t.Errorf("got %+v", f)
	}
	for _, bad := range []string{"", "v1.36.1\n", "v1.36.1\nsystemd x\n" + kubeadmList, "v1.36.1\nsystemd 252\n"} {
		if _, err := parseFacts(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestChoose(t *testing.T) {
	images, err := parseImageList(kubeadmList)
	if err != nil {
		t.Fatal(err)
	}
	got, err := choose(images, []string{"etcd", "registry.k8s.io/kube-proxy:v1.36.1"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"kube-proxy", "etcd"}, got); diff != "" {
		t.Error(diff)
	}
	if got, err := choose(images, nil); err != nil || len(got) != 7 {
		t.Errorf("nil gives %v, %v; want all", got, err)
	}
	for _, bad := range []string{"kindnetd", "registry.k8s.io/etcd:3.5.0-0"} {
		if _, err := choose(images, []string{bad}); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func TestEtcdModuleVersion(t *testing.T) {
	if got := etcdModuleVersion("3.6.8-0"); got != "v3.6.8" {
		t.Errorf("got %s", got)
	}
}

func TestExecName(t *testing.T) {
	for pkg, want := range map[string]string{
		"k8s.io/kubernetes/cmd/kubelet": "kubelet",
		"go.etcd.io/etcd/server/v3":     "server",
		"go.etcd.io/etcd/etcdctl/v3":    "etcdctl",
		"github.com/coredns/coredns":    "coredns",
		"example.com/v":                 "v",
	} {
		if got := execName(pkg); got != want {
			t.Errorf("%s: %s, want %s", pkg, got, want)
		}
	}
}
