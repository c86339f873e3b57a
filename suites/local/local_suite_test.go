// Package local makes clusters of plain processes, breaks them, and sees that nothing
// is left of them.
//
// It needs root and no Docker, takes about a minute, fails where it cannot run, and
// runs only when asked for by label:
//
//	go test ./suites/local -ginkgo.label-filter=root -ginkgo.v
package local

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

func TestLocal(t *testing.T) {
	RegisterFailHandler(Fail)
	if c, _ := GinkgoConfiguration(); c.LabelFilter == "" && !c.DryRun {
		t.Skip("needs root: ask for it with -ginkgo.label-filter=root")
	}
	RunSpecs(t, "Clusters of plain processes", Label("root"))
}

var _ = BeforeSuite(func() {
	Expect(os.Geteuid()).To(BeZero(), "this suite makes namespaces and control groups: run it as root")
})
