// Package planted judges the judges: it puts known mistakes into Kubernetes and looks
// whether the right promise is broken by each, with the right reason, and none without
// them. A mistake is a few lines in a copy of a module's source, which a run puts under
// test as anybody's patch: gameday run --replace.
//
// It needs root and no Docker, compiles parts of Kubernetes anew for each mistake, and
// takes about five minutes for each, so that it is run by hand, when a checker changes:
//
//	make planted
package planted

import (
	"os"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"gameday/clusters/local"
	"gameday/faults/mechanism/child"
	"gameday/harness/run"
	"gameday/suites/specs"
)

func TestMain(m *testing.M) {
	// The guard, and the machines of a cluster of processes, are this binary again.
	child.Main(run.Children())
	local.Main()
	os.Exit(m.Run())
}

func TestPlanted(t *testing.T) {
	RegisterFailHandler(Fail)
	if c, _ := GinkgoConfiguration(); c.LabelFilter == "" && !c.DryRun {
		t.Skip("makes clusters of patched programs: ask for it with -ginkgo.label-filter=planted")
	}
	specs.Run(t, "Planted mistakes")
}

var _ = BeforeSuite(func() {
	Expect(os.Geteuid()).To(BeZero(), "this suite makes namespaces and control groups: run it as root")
})
