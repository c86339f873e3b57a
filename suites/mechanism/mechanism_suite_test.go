// Package mechanism proves what acts on this machine, on this machine: each mechanism is switched on against namespaces and
// processes that the suite makes itself, its effect is seen from the victim's side, a bystander is seen to be untouched,
// and the effect is seen to end: when it is switched off, when the process that holds it is killed, and when that process
// hangs. The figures measured on the way are in the report, not in the assertions.
//
// It needs root and no Docker, takes about a minute, fails where it cannot run, and runs only when asked for by label:
//
//	go test ./suites/mechanism -ginkgo.label-filter=root -ginkgo.v
package mechanism

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/suites/specs"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

func TestMain(m *testing.M) {
	child.Main(entries)
	os.Exit(m.Run())
}

func TestMechanism(t *testing.T) {
	RegisterFailHandler(Fail)
	if c, _ := GinkgoConfiguration(); c.LabelFilter == "" && !c.DryRun {
		t.Skip("needs root: ask for it with -ginkgo.label-filter=root")
	}
	specs.Run(t, "Mechanisms on this machine", Label("root"))
}

var _ = BeforeSuite(func() {
	Expect(os.Geteuid()).To(BeZero(), "this suite makes network namespaces and traces processes: run it as root")
})

// figures collects measurements of one kind.
type figures []time.Duration

// median is what assertions are about: a busy machine may delay any single one.
func (f figures) median() time.Duration {
	slices.Sort(f)
	return f[len(f)/2]
}

func (f figures) report(name string) {
	us := time.Microsecond
	AddReportEntry(name, fmt.Sprintf("p50 %v, max %v of %d", f.median().Round(us), slices.Max(f).Round(us), len(f)))
}
