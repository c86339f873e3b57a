package plan

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gameday/clusters"
	"gameday/scenarios"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

// goldenSeed is the seed of the golden plans.
const goldenSeed = 8231

// TestLibraryPlans holds the plan of every scenario of the library, made with
// the real catalogues, to testdata. A difference is a change of what a run does:
// look at it, then `go test ./harness/plan -update`.
func TestLibraryPlans(t *testing.T) {
	all := []clusters.Capability{clusters.CapExec, clusters.CapFiles, clusters.CapProcesses, clusters.CapNetwork, clusters.CapCgroup, clusters.CapPower, clusters.CapKubelet}
	facts := Facts{Provider: "kind", Known: Known(), Capabilities: map[clusters.Role][]clusters.Capability{
		clusters.ControlPlane: append(slices.Clone(all), clusters.CapDisk), clusters.Worker: all, clusters.LoadBalancer: all,
	}}
	plain := Facts{Provider: "local", Known: facts.Known, Capabilities: map[clusters.Role][]clusters.Capability{
		clusters.ControlPlane: {clusters.CapExec, clusters.CapFiles, clusters.CapProcesses, clusters.CapNetwork, clusters.CapCgroup, clusters.CapPower, clusters.CapComponents},
		clusters.Worker:       {clusters.CapComponents}, clusters.LoadBalancer: {clusters.CapNetwork, clusters.CapCgroup, clusters.CapPower},
	}}
	library, err := scenarios.Library()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d", goldenSeed)
	for _, e := range library {
		t.Run(e.Name, func(t *testing.T) {
			s, err := scenarios.Load(e.Data, e.File, facts.Known)
			if err != nil {
				t.Fatal(err)
			}
			facts := facts
			if s.Upgrade != nil && s.Upgrade.Strategy == "binaries" {
				if _, err := Make(s, goldenSeed, facts); err == nil {
					t.Error("components are replaced one by one on nodes that cannot do that")
				}
				facts = plain
			}
			if s, err = Draw(s, goldenSeed, facts); err != nil {
				t.Fatal(err)
			}
			p, err := Make(s, goldenSeed, facts)
			if err != nil {
				t.Fatal(err)
			}
			got := []byte(p.String())
			path := filepath.Join("testdata", e.Name+".golden")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want, got) {
				t.Errorf("-want +got:\n%s", cmp.Diff(string(want), string(got)))
			}

			// What a run writes beside its record reads back to the same plan.
			out, err := s.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			again, err := scenarios.Load(out, "scenario.yaml", facts.Known)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			p2, err := Make(again, goldenSeed, facts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p, p2); diff != "" {
				t.Errorf("the resolved scenario is planned otherwise, -first +second:\n%s", diff)
			}
		})
	}
}
