package kind

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gameday/clusters"
)

func TestNodesOf(t *testing.T) {
	raw := `[
	 {"Id":"1","Name":"/gd-worker2","Config":{"Labels":{"io.x-k8s.kind.role":"worker"}},"NetworkSettings":{"Networks":{"kind":{"IPAddress":"172.18.0.6"}}}},
	 {"Id":"2","Name":"/gd-external-load-balancer","Config":{"Labels":{"io.x-k8s.kind.role":"external-load-balancer"}},"NetworkSettings":{"Networks":{"kind":{"IPAddress":"172.18.0.2","Gateway":"172.18.0.1"}},"Ports":{"6443/tcp":[{"HostIp":"127.0.0.1","HostPort":"40000"}]}}},
	 {"Id":"3","Name":"/gd-control-plane2","Config":{"Labels":{"io.x-k8s.kind.role":"control-plane"}},"NetworkSettings":{"Networks":{"kind":{"IPAddress":""}}}},
	 {"Id":"4","Name":"/gd-worker","Config":{"Labels":{"io.x-k8s.kind.role":"worker"}},"NetworkSettings":{"Networks":{}}},
	 {"Id":"5","Name":"/gd-control-plane","Config":{"Labels":{"io.x-k8s.kind.role":"control-plane"}},"NetworkSettings":{"Networks":{"kind":{"IPAddress":"172.18.0.3"}}}}]`
	var cs []container
	if err := json.Unmarshal([]byte(raw), &cs); err != nil {
		t.Fatal(err)
	}
	for _, local := range []bool{true, false} {
		nodes, err := nodesOf("gd", cs, local)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range nodes {
			got = append(got, clusters.Place(n)+" "+n.Name()+" "+kindNode(n).published)
			for cap, want := range map[clusters.Capability]bool{
				clusters.CapExec: true, clusters.CapFiles: true, clusters.CapProcesses: local, clusters.CapNetwork: local,
			} {
				if clusters.Has(n, cap) != want {
					t.Errorf("local %v: %s has %s: %v", local, n.Name(), cap, !want)
				}
			}
		}
		want := []string{
			"control-plane[0] gd-control-plane ", "control-plane[1] gd-control-plane2 ",
			"worker[0] gd-worker ", "worker[1] gd-worker2 ",
			"load-balancer[0] gd-external-load-balancer 127.0.0.1:40000",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if nodes[1].IP().IsValid() || nodes[0].IP().String() != "172.18.0.3" {
			t.Errorf("addresses are %s and %s", nodes[0].IP(), nodes[1].IP())
		}
	}
}

func TestPlaceRefuses(t *testing.T) {
	for _, c := range [][2]string{
		{"gd-worker", "strange"}, {"other-worker", "worker"}, {"gd-workerx", "worker"}, {"gd-worker1", "worker"},
	} {
		if role, i, err := place("gd", c[0], c[1]); err == nil {
			t.Errorf("%v is %s %d", c, role, i)
		}
	}
}

func TestCheckSpec(t *testing.T) {
	good := clusters.Spec{Name: "gd-1", Run: "2026-r1", Version: "v1.36.1", ControlPlanes: 1}
	if err := checkSpec(good); err != nil {
		t.Error(err)
	}
	bad := clusters.Spec{Name: "Up/er", Run: "a b", Version: "1.36", Workers: -1}
	err := checkSpec(bad)
	if err == nil {
		t.Fatal("nothing found")
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 5 {
		t.Errorf("%d obstacles, want all 5:\n%v", n, err)
	}
}

func TestLowLimits(t *testing.T) {
	dir := t.TempDir()
	write := func(name, value string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("max_user_instances", "100\n")
	write("max_user_watches", "1000000\n")
	low, err := lowLimits(dir, 5)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]limit{{filepath.Join(dir, "max_user_instances"), 100, 120}}, low, cmp.AllowUnexported(limit{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var said []string
	if err := raiseInotify(dir, 5, func(f string, _ ...any) { said = append(said, f) }); err != nil || len(said) != 1 {
		t.Errorf("raising: %v, said %q", err, said)
	}
	if low, err := lowLimits(dir, 5); err != nil || len(low) != 0 {
		t.Errorf("still low: %v, %v", low, err)
	}
	write("max_user_watches", "many")
	if _, err := lowLimits(dir, 5); err == nil {
		t.Error("a limit that is no number passed")
	}
}
