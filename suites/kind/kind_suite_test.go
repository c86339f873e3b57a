// Package kind proves the kind provider on a small real cluster (one control plane, one worker) that it makes itself: each
// capability of a node, the labels by which everything is found again, the record that other parts rely on (audit log, etcd
// metrics), and that what is made is also undone, after an interruption too.
//
// It needs Docker and root on Linux, takes about two minutes, and runs only when asked for by label:
//
//	go test ./suites/kind -ginkgo.label-filter=kind -ginkgo.v
package kind

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"gameday/suites/specs"
)

func TestKind(t *testing.T) {
	RegisterFailHandler(Fail)
	if c, _ := GinkgoConfiguration(); c.LabelFilter == "" && !c.DryRun {
		t.Skip("makes real clusters: ask for it with -ginkgo.label-filter=kind")
	}
	specs.Run(t, "The kind provider", Label("kind"))
}

var _ = BeforeSuite(func() {
	Expect(os.Geteuid()).To(BeZero(), "this suite looks into nodes from outside: run it as root")
})

// version is the version of all clusters here: the one that the main job begins with.
const version = "v1.36.1"

// unique is a name that no other cluster has.
func unique(prefix string) string {
	return prefix + "-" + strings.ToLower(rand.Text()[:6])
}

// say shows progress in the suite's output.
func say(format string, args ...any) { GinkgoWriter.Printf(format+"\n", args...) }
