// Package faultcheck proves every fault of the catalogue on a real HA cluster: that its proof says no while nothing is
// broken, that it bites and is proven, that others are well meanwhile, that it goes away, and that it goes away too when the
// process that injected it is killed in the middle.
//
// It needs Docker and root on Linux, takes about fifteen minutes, and runs only when asked for by label. It makes a cluster
// of three control planes and two workers, or uses one that gameday made and leaves it as it was:
//
//	go test -timeout 30m ./suites/faultcheck -ginkgo.label-filter=kind -ginkgo.v
//	go test -timeout 30m ./suites/faultcheck -ginkgo.label-filter=kind -ginkgo.v -cluster=NAME
package faultcheck

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gameday/clusters"
	"gameday/clusters/kind"
	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/slowfsync"
	"gameday/harness/inject"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// version is the version of the cluster: the one that the main job begins with.
const version = "v1.36.1"

var existing = flag.String("cluster", os.Getenv("GAMEDAY_CLUSTER"), "use this cluster, which gameday made with three control planes and two workers, instead of making one")

func TestMain(m *testing.M) {
	child.Main(map[string]child.Func{
		slowfsync.Child:   slowfsync.Run,
		inject.GuardEntry: inject.Guarding(open),
		victimEntry:       victim,
	})
	flag.Parse()
	os.Exit(m.Run())
}

func open(ctx context.Context, provider, name string) (clusters.Cluster, error) {
	if provider != kind.New().Name() {
		return nil, fmt.Errorf("provider %q is not known here", provider)
	}
	return kind.New().Open(ctx, name)
}

func TestFaultcheck(t *testing.T) {
	RegisterFailHandler(Fail)
	if c, _ := GinkgoConfiguration(); c.LabelFilter == "" && !c.DryRun {
		t.Skip("breaks a real cluster: ask for it with -ginkgo.label-filter=kind")
	}
	RunSpecs(t, "Every fault on a real cluster", Label("kind"))
}

// cluster is the one that is broken; client-side things are made by each spec.
var cluster clusters.Cluster

var _ = BeforeSuite(func(ctx SpecContext) {
	Expect(os.Geteuid()).To(BeZero(), "this suite looks into nodes from outside: run it as root")
	p := kind.New()
	if *existing != "" {
		var err error
		cluster, err = p.Open(ctx, *existing)
		Expect(err).NotTo(HaveOccurred())
	} else {
		name := "gd-faultcheck-" + strings.ToLower(rand.Text()[:6])
		spec := clusters.Spec{Name: name, Run: name, Version: version, ControlPlanes: 3, Workers: 2}
		Expect(p.Check(ctx, spec)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(kind.New().Delete(ctx, name)).To(Succeed()) }, NodeTimeout(4*time.Minute))
		var err error
		cluster, err = p.Create(ctx, spec, say)
		Expect(err).NotTo(HaveOccurred())
	}
	Expect(clusters.ByRole(cluster.Nodes(), clusters.ControlPlane)).To(HaveLen(3))
	Expect(clusters.ByRole(cluster.Nodes(), clusters.Worker)).To(HaveLen(2))
}, NodeTimeout(10*time.Minute))

// say shows progress in the suite's output.
func say(format string, args ...any) { GinkgoWriter.Printf(format+"\n", args...) }

// place finds a node by its place.
func place(where string) clusters.Node {
	GinkgoHelper()
	n, err := nodeAt(cluster, where)
	Expect(err).NotTo(HaveOccurred())
	return n
}

func nodeAt(c clusters.Cluster, where string) (clusters.Node, error) {
	for _, n := range c.Nodes() {
		if clusters.Place(n) == where {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no node at %s", where)
}

// newJournal is the journal of one spec, with an index of its own.
func newJournal(ctx context.Context) *inject.Journal {
	GinkgoHelper()
	dir := GinkgoT().TempDir()
	GinkgoT().Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	j, err := inject.OpenJournal(filepath.Join(dir, "journal.jsonl"), inject.Header{Run: "faultcheck", Provider: cluster.Provider(), Cluster: cluster.Name()})
	Expect(err).NotTo(HaveOccurred())
	g, err := inject.StartGuard(ctx, j, inject.DefaultLease)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func(ctx SpecContext) {
		Expect(errors.Join(g.Stop(ctx), j.Close())).To(Succeed())
	}, NodeTimeout(8*time.Minute))
	return j
}
