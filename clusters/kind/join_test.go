package kind

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"gameday/clusters"
)

// inspected is the part of docker inspect that is used, as kind's nodes have it on a
// machine with proxies and a device.
const inspected = `[
 {"Id":"1","Name":"/gd-control-plane","Config":{"Labels":{"io.x-k8s.kind.role":"control-plane","io.x-k8s.kind.cluster":"gd","gameday.cluster":"gd","gameday.run":"r1","gameday.provider":"kind","gameday.kubernetes":"v1.36.1"}},
  "HostConfig":{"Binds":["/var/lib/gameday/kind/gd/control-plane-0/mount/etcd:/var/lib/etcd","/lib/modules:/lib/modules:ro"]},
  "NetworkSettings":{"Networks":{"kind":{"IPAddress":"172.18.0.2"}}}},
 {"Id":"2","Name":"/gd-worker","Config":{"Labels":{"io.x-k8s.kind.role":"worker","io.x-k8s.kind.cluster":"gd","gameday.cluster":"gd","gameday.run":"r1","gameday.provider":"kind","gameday.kubernetes":"v1.36.1","gameday.key":"x"},
   "Env":["HTTP_PROXY=http://p:1","no_proxy=172.18.0.0/16","PATH=/usr/bin","container=docker"]},
  "HostConfig":{"Binds":["/lib/modules:/lib/modules:ro","/dev/mapper:/dev/mapper"],"UsernsMode":"host","Devices":[{"PathOnHost":"/dev/fuse"}]},
  "NetworkSettings":{"Networks":{"kind":{"IPAddress":"172.18.0.3"}}}}]`

func containers(t *testing.T) []container {
	t.Helper()
	var all []container
	if err := json.Unmarshal([]byte(inspected), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWorkerArgs(t *testing.T) {
	all := containers(t)
	like, err := model(all, "gd", "gd-worker2")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(`--name gd-worker2 --hostname gd-worker2 --tty --net kind
		--restart=on-failure:1 --init=false --cgroupns=private
		--privileged --security-opt seccomp=unconfined --security-opt apparmor=unconfined
		--tmpfs /tmp --tmpfs /run --volume /var
		--label gameday.cluster=gd --label gameday.kubernetes=v1.36.1 --label gameday.provider=kind --label gameday.run=r1
		--label io.x-k8s.kind.cluster=gd --label io.x-k8s.kind.role=worker
		--volume /lib/modules:/lib/modules:ro --volume /dev/mapper:/dev/mapper --userns=host --device /dev/fuse
		-e HTTP_PROXY=http://p:1 -e no_proxy=172.18.0.0/16 node:v1.37.0`)
	if d := cmp.Diff(want, workerArgs("gd-worker2", like, "node:v1.37.0")); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}

	// Without a worker a control plane is the model, but not its disk.
	like, err = model(all[:1], "gd", "gd-worker")
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Join(workerArgs("gd-worker", like, "i"), " ")
	if strings.Contains(args, "/var/lib/etcd") || !strings.Contains(args, "--label io.x-k8s.kind.role=worker") || !strings.Contains(args, "/lib/modules") {
		t.Error(args)
	}
	for name, from := range map[string][]container{"gd-worker": all, "gd-worker2": nil} {
		if _, err := model(from, "gd", name); err == nil {
			t.Errorf("a model for %s of %d containers", name, len(from))
		}
	}
}

// TestPlacesStay: what is made for a place is found in it again, whatever else is there.
func TestPlacesStay(t *testing.T) {
	c := &cluster{name: "gd"}
	for _, i := range []int{0, 1, 2, 11} {
		role, index, err := place("gd", workerName("gd", i), "worker")
		if err != nil || role != clusters.Worker || index != i {
			t.Errorf("worker[%d] is found as %s[%d]: %v", i, role, index, err)
		}
		c.enter(&node{name: workerName("gd", i), role: role, index: index})
	}
	c.enter(&node{name: "gd-control-plane", role: clusters.ControlPlane})
	where := func() []string {
		var out []string
		for _, n := range c.Nodes() {
			out = append(out, clusters.Place(n))
		}
		return out
	}
	held := c.Nodes()
	c.leave("gd-worker")
	if d := cmp.Diff([]string{"control-plane[0]", "worker[1]", "worker[2]", "worker[11]"}, where()); d != "" {
		t.Error(d)
	}
	c.enter(&node{name: "gd-worker", role: clusters.Worker, id: "another"})
	if d := cmp.Diff([]string{"control-plane[0]", "worker[0]", "worker[1]", "worker[2]", "worker[11]"}, where()); d != "" {
		t.Error(d)
	}
	if len(held) != 5 || held[1].Name() != "gd-worker" {
		t.Error("a list that was given out has changed")
	}
}

func TestRestricted(t *testing.T) {
	for name, c := range map[string]struct{ conf, want string }{
		"set already":       {"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  restrict_oom_score_adj = false\n  x = 1\n", "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  restrict_oom_score_adj = true\n  x = 1\n"},
		"table is there":    {"version = 3\n[plugins.\"io.containerd.cri.v1.runtime\"]\n  x = 1\n", "version = 3\n[plugins.\"io.containerd.cri.v1.runtime\"]\n  restrict_oom_score_adj = true\n  x = 1\n"},
		"no such table":     {"version = 3\n", "version = 3\n\n[plugins.\"io.containerd.cri.v1.runtime\"]\n  restrict_oom_score_adj = true\n"},
		"unknown version":   {"version = 4\n", ""},
		"no version at all": {"", ""},
	} {
		got, err := restricted(c.conf)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestJoinConfiguration(t *testing.T) {
	n := &node{name: "gd-worker3", ip: netip.MustParseAddr("172.18.0.9")}
	got, err := joinConfiguration("gd", n, clusters.NewWorker{
		Index: 2, Labels: map[string]string{"gameday.run": "r1", "a": "b"},
		Taints: []corev1.Taint{{Key: "canary", Value: "yes", Effect: corev1.TaintEffectNoSchedule}},
	}, "abcdef.0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/join.yaml"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("run with UPDATE_GOLDEN=1 if this is meant:\n%s", d)
	}
	// Without taints it must be none, not kubeadm's default.
	got, err = joinConfiguration("gd", n, clusters.NewWorker{}, "t")
	if err != nil || !strings.Contains(string(got), "taints: []") {
		t.Errorf("%s %v", got, err)
	}
	token := bootstrapToken("abcdef", "s", time.Unix(0, 0))
	if token.StringData["expiration"] != time.Unix(0, 0).Add(tokenLife).UTC().Format(time.RFC3339) || token.Name != "bootstrap-token-abcdef" {
		t.Errorf("%+v", token)
	}
}

func TestPodNodesNow(t *testing.T) {
	nodes := []clusters.Node{
		&node{name: "gd-control-plane", role: clusters.ControlPlane, ip: netip.MustParseAddr("172.18.0.2")},
		&node{name: "gd-worker", role: clusters.Worker, ip: netip.MustParseAddr("172.18.0.3")},
		&node{name: "gd-worker2", role: clusters.Worker, ip: netip.MustParseAddr("172.18.0.4")},
	}
	cs := fake.NewClientset()
	add := func(name, cidr string) {
		t.Helper()
		if _, err := cs.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: cidr}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	add("gd-control-plane", "10.244.0.0/24")
	add("gd-worker", "10.244.1.0/24")
	add("gd-worker2", "")
	add("of-somebody-else", "10.244.9.0/24")
	if got, err := podNodesNow(t.Context(), cs, nodes, nodes[2]); err == nil {
		t.Errorf("gd-worker2 has no podCIDR yet: %v", got)
	}
	got, err := podNodesNow(t.Context(), cs, nodes, nodes[1])
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, k := range got {
		names = append(names, k.name+" "+k.cidr.String()+" "+k.ip.String())
	}
	slices.Sort(names)
	if d := cmp.Diff([]string{"gd-control-plane 10.244.0.0/24 172.18.0.2", "gd-worker 10.244.1.0/24 172.18.0.3"}, names); d != "" {
		t.Error(d)
	}
	if got, err := podNodesNow(t.Context(), cs, nodes, nil); err != nil || len(got) != 2 {
		t.Errorf("%v %v", got, err)
	}
}

func TestRemoveWorkerRefusesControlPlanes(t *testing.T) {
	if err := (&cluster{name: "gd"}).RemoveWorker(t.Context(), &node{name: "gd-control-plane", role: clusters.ControlPlane}); err == nil || !strings.Contains(err.Error(), "only workers") {
		t.Error(err)
	}
}
