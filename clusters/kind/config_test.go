package kind

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"gameday/clusters"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestConfig(t *testing.T) {
	ha := clusters.Spec{Name: "gd", Run: "r1", Version: "v1.36.1", ControlPlanes: 3, Workers: 2}
	with := func(version string) clusters.Spec { s := ha; s.Version = version; return s }
	zoned := ha
	zoned.Zones = []string{"a", "b"}
	for _, c := range []struct {
		name  string
		spec  clusters.Spec
		shape shape
	}{
		{"registry-full-v2", ha, shape{image: "img", kindnetd: true, cgroupV2: true, sysResource: true}},
		{"registry-full-v1", ha, shape{image: "img", kindnetd: true, sysResource: true}},
		{"registry-restricted-v2", ha, shape{image: "img", kindnetd: true, cgroupV2: true}},
		{"registry-restricted-v1", ha, shape{image: "img", kindnetd: true}},
		{"built-full-v2", ha, shape{image: "img", cgroupV2: true, sysResource: true}},
		{"built-full-v1", ha, shape{image: "img", sysResource: true}},
		{"built-restricted-v2", ha, shape{image: "img", cgroupV2: true}},
		{"built-restricted-v1", ha, shape{image: "img"}},
		{"disks", ha, shape{image: "img", kindnetd: true, cgroupV2: true, sysResource: true, disks: []string{"/d/0/mount/etcd", "/d/1/mount/etcd", "/d/2/mount/etcd"}}},
		{"zones", zoned, shape{image: "img", kindnetd: true, cgroupV2: true, sysResource: true}},
		{"kubeadm-v1beta3", with("v1.35.4"), shape{image: "img", cgroupV2: true, sysResource: true}},
		{"kubelet-before-failCgroupV1", with("v1.30.4"), shape{image: "img", sysResource: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := config(c.spec, c.shape)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "config", c.name+".yaml")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("-want +got (go test -run TestConfig -update writes it anew):\n%s", diff)
			}
		})
	}
}

func TestAuditPolicyIsYAML(t *testing.T) {
	var p struct {
		Kind  string
		Rules []struct{ Level string }
	}
	if err := yaml.Unmarshal(clusters.AuditPolicy, &p); err != nil {
		t.Fatal(err)
	}
	// The last rule takes every request that no other one did.
	if p.Kind != "Policy" || len(p.Rules) == 0 || p.Rules[len(p.Rules)-1].Level != "Metadata" {
		t.Errorf("policy is %+v", p)
	}
}
