// Package eviction cuts nodes off a real node controller, and has it judged by its
// own settings and by others.
//
// It needs root and no Docker, takes less than a minute, fails where it cannot run,
// and runs only when asked for by label. The experiments, by which the rules were
// tried that package eviction inferred from the source, take a minute or two each and
// are run by hand:
//
//	go test ./suites/eviction -ginkgo.label-filter=root -ginkgo.v
//	go test ./suites/eviction -ginkgo.label-filter=experiment -ginkgo.v
package eviction

import (
	"os"
	"testing"

	"gameday/clusters/local"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

func TestMain(m *testing.M) {
	local.Main()
	os.Exit(m.Run())
}

func TestEviction(t *testing.T) {
	RegisterFailHandler(Fail)
	if c, _ := GinkgoConfiguration(); c.LabelFilter == "" && !c.DryRun {
		t.Skip("needs root: ask for it with -ginkgo.label-filter=root")
	}
	RunSpecs(t, "Evictions by real controllers")
}

var _ = BeforeSuite(func() {
	Expect(os.Geteuid()).To(BeZero(), "this suite makes namespaces and control groups: run it as root")
})
