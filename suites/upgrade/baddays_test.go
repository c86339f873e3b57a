package upgrade

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/nftables"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	"gameday/harness/slo"
)

var binary string

var _ = SynchronizedBeforeSuite(func(SpecContext) []byte {
	path, err := gexec.Build("gameday/harness/cmd/gameday", "-trimpath")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(gexec.CleanupBuildArtifacts)
	return []byte(path)
}, func(_ SpecContext, path []byte) { binary = string(path) }, NodeTimeout(5*time.Minute))

// gameday runs a command to its end and returns its exit code and all it said.
func gameday(ctx context.Context, args ...string) (int, string) {
	GinkgoHelper()
	out, err := exec.CommandContext(ctx, binary, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		Expect(err).NotTo(HaveOccurred())
	}
	if exit != nil {
		return exit.ExitCode(), string(out)
	}
	return 0, string(out)
}

// begin starts a run and returns it with the folder of its record once it is
// known.
func begin(scenario, dir string) *gexec.Session {
	GinkgoHelper()
	s, err := gexec.Start(exec.Command(binary, "run", scenario, "--runs="+dir, "--seed=7"), GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	return s
}

func recordIn(dir string) string {
	GinkgoHelper()
	found, err := filepath.Glob(filepath.Join(dir, "*", "history.jsonl"))
	Expect(err).NotTo(HaveOccurred())
	Expect(found).To(HaveLen(1))
	return filepath.Dir(found[0])
}

func clusters(ctx context.Context) string {
	GinkgoHelper()
	code, out := gameday(ctx, "clusters", "list")
	Expect(code).To(BeZero(), out)
	return out
}

// tables are the names of this machine's nftables tables.
func tables() []string {
	GinkgoHelper()
	c, err := nftables.New()
	Expect(err).NotTo(HaveOccurred())
	list, err := c.ListTables()
	Expect(err).NotTo(HaveOccurred())
	var names []string
	for _, t := range list {
		names = append(names, t.Name)
	}
	return names
}

var _ = Describe("Bad days", Label("kind"), Serial, func() {
	It("a fault that is aimed at nothing makes the run inconclusive", func(ctx SpecContext) {
		dir := GinkgoT().TempDir()
		code, out := gameday(ctx, "run", "testdata/aimed-at-nothing.yaml", "--runs="+dir, "--seed=7")
		Expect(code).To(Equal(slo.ExitInconclusive), out)
		Expect(out).To(ContainSubstring("matches no node"))
	}, SpecTimeout(12*time.Minute))

	It("SIGKILL in the middle: the guard heals, the record is readable, nothing is called a pass", func(ctx SpecContext) {
		dir := GinkgoT().TempDir()
		s := begin("testdata/held.yaml", dir)
		DeferCleanup(func(ctx SpecContext) {
			s.Kill().Wait(10 * time.Second)
			for _, line := range strings.Split(clusters(ctx), "\n") {
				if f := strings.Fields(line); len(f) > 0 && strings.HasPrefix(f[0], "gd-") && strings.HasSuffix(recordIn(dir), strings.TrimPrefix(f[0], "gd-")) {
					code, out := gameday(ctx, "clusters", "delete", f[0])
					Expect(code).To(BeZero(), out)
				}
			}
		}, NodeTimeout(3*time.Minute))
		Eventually(ctx, s.Err).WithTimeout(8 * time.Minute).Should(gbytes.Say(`held network.partition .* proven`))
		s.Signal(syscall.SIGKILL)
		Eventually(ctx, s).WithTimeout(10 * time.Second).Should(gexec.Exit())
		killed := time.Now()
		Eventually(ctx, func() string {
			b, err := os.ReadFile(filepath.Join(recordIn(dir), "journal.jsonl"))
			Expect(err).NotTo(HaveOccurred())
			return string(b)
		}).WithTimeout(30 * time.Second).WithPolling(100 * time.Millisecond).Should(ContainSubstring(`"healed"`))
		AddReportEntry("healed after SIGKILL within", time.Since(killed).String())
		Expect(tables()).NotTo(ContainElement(HavePrefix("gameday")))
		code, out := gameday(ctx, "check", recordIn(dir))
		Expect(code).To(Equal(slo.ExitInconclusive), out)
		Expect(out).To(ContainSubstring("died"))
		code, out = gameday(ctx, "heal")
		Expect(code).To(BeZero(), out)
	}, SpecTimeout(12*time.Minute))

	It("Ctrl-C heals, judges what there is and exits 2; a second one changes nothing", func(ctx SpecContext) {
		dir := GinkgoT().TempDir()
		s := begin("testdata/held.yaml", dir)
		Eventually(ctx, s.Err).WithTimeout(8 * time.Minute).Should(gbytes.Say(`held network.partition .* proven`))
		s.Signal(syscall.SIGINT)
		Eventually(ctx, s.Err).WithTimeout(time.Minute).Should(gbytes.Say(`held network.partition .* gone`))
		s.Signal(syscall.SIGINT)
		Eventually(ctx, s).WithTimeout(4 * time.Minute).Should(gexec.Exit(slo.ExitInconclusive))
		Expect(filepath.Join(recordIn(dir), "report.html")).To(BeAnExistingFile())
		Expect(clusters(ctx)).NotTo(ContainSubstring(strings.TrimPrefix(filepath.Base(recordIn(dir)), "held-")))
	}, SpecTimeout(12*time.Minute))

	DescribeTable("bad input is refused before anything is touched", func(ctx SpecContext, want string, args ...string) {
		before := clusters(ctx)
		dir := GinkgoT().TempDir()
		code, out := gameday(ctx, append(args, "--runs="+dir)...)
		Expect(code).To(Equal(4), out)
		Expect(out).To(ContainSubstring(want))
		Expect(clusters(ctx)).To(Equal(before))
		left, err := os.ReadDir(dir)
		Expect(err).NotTo(HaveOccurred())
		Expect(left).To(BeEmpty())
	},
		Entry("an unknown scenario", SpecTimeout(time.Minute), "upgrade-under-fire", "run", "upgrade-under-fir"),
		Entry("a fault over the budget", SpecTimeout(time.Minute), "etcdQuorumLoss", "run", "testdata/over-budget.yaml"),
		Entry("an unknown provider", SpecTimeout(time.Minute), "kind", "run", "upgrade-clean", "--provider=kint"),
	)
})
