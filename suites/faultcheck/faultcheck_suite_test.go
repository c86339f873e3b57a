// Package faultcheck proves every fault of the catalogue on a real HA cluster, with what `gameday verify-faults` does
// (harness/verify), a spec for each trial: that its proof says no while nothing is broken, that it bites and is proven, that
// others are well meanwhile, that it goes away, that it goes away too when the process that injected it is killed or hangs,
// and that nothing differs from before then, also after faults that overlapped.
//
// It needs Docker and root on Linux, takes about forty minutes, or twenty with what -drawn leaves, and runs only when asked
// for by label. It makes a cluster
// of three control planes and two workers, or uses one that gameday made and leaves it as it was:
//
//	go test -timeout 50m ./suites/faultcheck -ginkgo.label-filter=kind -ginkgo.v -drawn -sequences=5
//	go test -timeout 50m ./suites/faultcheck -ginkgo.label-filter=kind -ginkgo.v -cluster=NAME -seed=7 -markdown=faults.md
package faultcheck

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
	"gameday/clusters/kind"
	"gameday/faults"
	"gameday/faults/mechanism/child"
	"gameday/harness/gate"
	"gameday/harness/inject"
	"gameday/harness/verify"
	"gameday/suites/specs"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// version is the version of the cluster: the one that the main job begins with.
const version = "v1.36.1"

var (
	existing  = flag.String("cluster", os.Getenv("GAMEDAY_CLUSTER"), "use this cluster, which gameday made with three control planes and two workers, instead of making one")
	seed      = flag.Uint64("seed", 0, "replays order, targets, moments and sequences; 0 takes Ginkgo's own seed")
	drawn     = flag.Bool("drawn", false, "one trial of each fault, and a kill of some, drawn by the seed: what a change needs; without it all of them, which takes 40 minutes")
	sequences = flag.Int("sequences", 20, "how many sequences of overlapping faults")
	asJSON    = flag.String("json", "", "write the table to this file, as JSON")
	markdown  = flag.String("markdown", "", "write the table to this file, as Markdown")
)

func TestMain(m *testing.M) {
	entries := faults.Children()
	maps.Copy(entries, verify.Children(open))
	entries[inject.GuardEntry] = inject.Guarding(open)
	child.Main(entries)
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
	suite, reporter := GinkgoConfiguration()
	if suite.LabelFilter == "" && !suite.DryRun {
		t.Skip("breaks a real cluster: ask for it with -ginkgo.label-filter=kind")
	}
	suite.Timeout = 2 * time.Hour // each spec has its own
	specs.Run(t, "Every fault on a real cluster", Label("kind"), suite, reporter)
}

// cluster is the one that is broken; verifier breaks it, and table is what it found.
var (
	cluster  clusters.Cluster
	client   kubernetes.Interface
	verifier *verify.Verifier
	table    *verify.Table
)

// seedOf is the seed of the draws; it is known when the specs are made.
func seedOf() uint64 {
	if *seed != 0 {
		return *seed
	}
	return uint64(GinkgoRandomSeed())
}

var _ = BeforeSuite(func(ctx SpecContext) {
	Expect(os.Geteuid()).To(BeZero(), "this suite looks into nodes from outside: run it as root")
	began := time.Now()
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

	var err error
	client, err = gate.Client(cluster)
	Expect(err).NotTo(HaveOccurred())
	dir, err := os.MkdirTemp("", "gameday-faultcheck-")
	Expect(err).NotTo(HaveOccurred())
	// Journals of other runs on this machine are not this one's business.
	restore, had := os.LookupEnv("XDG_STATE_HOME")
	Expect(os.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))).To(Succeed())
	verifier, err = verify.New(ctx, verify.Config{Cluster: cluster, Run: filepath.Base(dir), Dir: dir, Seed: seedOf(), Say: say})
	Expect(err).NotTo(HaveOccurred())
	table = verifier.NewTable(ctx, "faultcheck")
	DeferCleanup(func(ctx SpecContext) {
		Expect(verifier.Close(ctx)).To(Succeed())
		table.Finish(trials(), time.Since(began))
		say("")
		Expect(table.Text(GinkgoWriter)).To(Succeed())
		b, err := table.JSON()
		Expect(err).NotTo(HaveOccurred())
		for file, data := range map[string][]byte{*asJSON: b, *markdown: table.Markdown()} {
			if file != "" {
				Expect(os.WriteFile(file, data, 0o644)).To(Succeed())
			}
		}
		if had {
			Expect(os.Setenv("XDG_STATE_HOME", restore)).To(Succeed())
		} else {
			Expect(os.Unsetenv("XDG_STATE_HOME")).To(Succeed())
		}
		if table.Verdict == verify.Pass {
			Expect(os.RemoveAll(dir)).To(Succeed())
		}
	}, NodeTimeout(10*time.Minute))
}, NodeTimeout(12*time.Minute))

// trials are all of the catalogue, in its order. A trial that is wrong is a spec that fails.
func trials() []verify.Trial {
	all, err := verify.Select(faults.Catalogue(), nil)
	if err != nil {
		It("has only trials that can be read", func() { Fail(err.Error()) })
	}
	if !*drawn {
		return all
	}
	var out []verify.Trial
	for _, t := range verify.Shuffle(all, seedOf()) {
		if !slices.ContainsFunc(out, func(o verify.Trial) bool { return o.Kind.Name == t.Kind.Name }) {
			out = append(out, t)
		}
	}
	return out
}

// The faults of the main job are killed always; of the others so many, if they are drawn.
var alwaysKilled = []string{"apiserver.kill", "etcd.stop", "etcd.replace", "network.partition", "disk.slow-fsync"}

const drawnKills = 8

// say shows progress in the suite's output.
func say(format string, args ...any) {
	GinkgoWriter.Printf(time.Now().Format("15:04:05.0 ")+format+"\n", args...)
}

// place finds a node by its place.
func place(where string) clusters.Node {
	GinkgoHelper()
	for _, n := range cluster.Nodes() {
		if clusters.Place(n) == where {
			return n
		}
	}
	Fail("no node at " + where)
	return nil
}

// eventuallyWhole waits until the cluster is.
func eventuallyWhole(ctx context.Context) {
	GinkgoHelper()
	Expect(gate.Wait(ctx, "the cluster to be whole", 8*time.Minute, func(ctx context.Context) string {
		return gate.All(ctx, cluster, client)
	})).To(Succeed())
}
