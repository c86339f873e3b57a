package upgrade

import (
	"os"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"gameday/harness/plan"
	"gameday/harness/report"
	"gameday/harness/run"
	"gameday/harness/slo"
)

// The plan belongs to the dry run, in which no spec is entered.
var _ = ReportBeforeSuite(func(ctx SpecContext, r Report) {
	if !r.SuiteConfig.DryRun {
		return
	}
	s, err := run.Load(*scenario)
	Expect(err).NotTo(HaveOccurred())
	p, err := plan.Make(s, seed(r.SuiteConfig.RandomSeed), plan.Facts{Provider: *provider, Known: plan.Known()})
	Expect(err).NotTo(HaveOccurred())
	_, err = os.Stdout.WriteString(p.String())
	Expect(err).NotTo(HaveOccurred())
})

// seed makes Ginkgo's seed the plan's: `ginkgo --seed` replays both.
func seed(s int64) uint64 { return uint64(s) }

var _ = Describe("A scenario", Label("kind", "scenario"), Serial, Ordered, func() {
	var res run.Result

	It("is run to its end, and every promise holds", func(ctx SpecContext) {
		cfg, err := run.Configure(ctx, run.Job{
			Scenario: *scenario, Provider: *provider, Seed: seed(GinkgoRandomSeed()), Runs: *runs,
			Gameday: "suites/upgrade", Command: "gameday", Terminal: report.NewTerminal(GinkgoWriter, false),
		})
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry("plan", cfg.Plan.String(), ReportEntryVisibilityFailureOrVerbose)
		res, err = run.Run(ctx, cfg)
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry("report", filepath.Join(res.Dir, "report.html"))
		Expect(res.Document.ExitCode).To(Equal(slo.ExitPass), "%s", res.Document.Reason)
	}, SpecTimeout(40*time.Minute))

	It("leaves the whole record", func(SpecContext) {
		for _, name := range []string{"scenario.yaml", "plan.txt", "plan.json", "history.jsonl", "journal.jsonl", "verdict.json", "junit.xml", "report.html", "rerun.txt", "logs"} {
			Expect(filepath.Join(res.Dir, name)).To(BeAnExistingFile())
		}
	})

	It("proved each fault while its phase was open, and that it was gone", func(SpecContext) {
		s, err := run.Load(filepath.Join(res.Dir, "scenario.yaml")) // random faults as drawn
		Expect(err).NotTo(HaveOccurred())
		Expect(res.Document.Faults).To(HaveLen(len(s.Faults)))
		for _, f := range res.Document.Faults {
			Expect(f.ProvenAt).NotTo(BeNil(), f.Name)
			Expect(f.GoneAt).NotTo(BeNil(), f.Name)
			Expect(f.Verdict).To(Equal(slo.Pass), f.Name+": "+f.Reason)
		}
	})

	It("fails with the same record when a promise is impossible", func(ctx SpecContext) {
		code, out := gameday(ctx, "check", res.Dir, "--scenario=testdata/impossible.yaml")
		Expect(code).To(Equal(slo.ExitFail), out)
		// The record is judged by its own scenario again, for who reads it later.
		code, out = gameday(ctx, "check", res.Dir)
		Expect(code).To(Equal(slo.ExitPass), out)
	}, SpecTimeout(2*time.Minute))
})
