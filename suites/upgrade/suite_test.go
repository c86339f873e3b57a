// Package upgrade runs whole scenarios on real clusters. Nightly CI names one:
//
//	ginkgo ./suites/upgrade -- --scenario=upgrade-under-fire --provider=kind
//	ginkgo --dry-run -v ./suites/upgrade -- --scenario=upgrade-under-fire
//
// The dry run prints the plan and touches nothing. `make test` selects the label
// kind, which adds the bad days: what gameday does when it is interrupted,
// killed, or asked for what cannot be.
package upgrade

import (
	"flag"
	"os"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"gameday/clusters/local"
	"gameday/faults/mechanism/child"
	"gameday/harness/run"
	"gameday/suites/specs"
)

var (
	scenario = flag.String("scenario", "upgrade-under-fire", "a name from the library, or the path of a file")
	provider = flag.String("provider", "kind", "where clusters come from")
	runs     = flag.String("runs", "../../runs", "folder that runs are kept in")
)

func TestMain(m *testing.M) {
	// The guard and what holds a fault in the kernel are this binary again.
	child.Main(run.Children())
	local.Main()
	os.Exit(m.Run())
}

func TestUpgrade(t *testing.T) {
	RegisterFailHandler(Fail)
	suite, reporter := GinkgoConfiguration()
	asked := suite.LabelFilter != "" || suite.DryRun
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "scenario" })
	if !asked {
		t.Skip("makes real clusters: name a -scenario, or ask with -ginkgo.label-filter=kind")
	}
	if suite.LabelFilter == "" {
		suite.LabelFilter = "scenario"
	}
	specs.Run(t, "Scenarios on real clusters", suite, reporter)
}
