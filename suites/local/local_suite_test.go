// Package local makes clusters of plain processes, breaks and upgrades them, and sees
// that nothing is left of them.
//
// It needs root and no Docker, takes about a minute, fails where it cannot run, and
// runs only when asked for by label:
//
//	go test ./suites/local -ginkgo.label-filter='root && !upgrades' -ginkgo.v
//
// What is upgraded needs the programs of two versions, and minutes; make leaves it to a
// person:
//
//	go test ./suites/local -ginkgo.label-filter=upgrades -ginkgo.v
package local

import (
	"context"
	"fmt"
	"os"
	"testing"

	"gameday/clusters/local"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

func TestMain(m *testing.M) {
	local.Main()
	if os.Getenv(upgrades) != "" {
		if err := upgradeAll(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
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
