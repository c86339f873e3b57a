package report

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/chromedp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"gameday/harness/compare"
	"gameday/harness/plan"
	"gameday/harness/slo"
	"gameday/scenarios"
)

// compared is the scenario of the two examples that are set side by side.
const compared = `apiVersion: gameday/v1alpha1
kind: Scenario
name: example
description: Two runs of one scenario.
cluster: {version: v1.36.1, controlPlanes: 2, workers: 1}
run: 1m
slos: [api.availability]
`

var _ = Describe("the page of a comparison", Label("browser"), Ordered, func() {
	var browser context.Context
	var dir string

	BeforeAll(func(SpecContext) {
		dir = *keep
		if dir == "" {
			dir = GinkgoT().TempDir()
		}
		var list []*compare.Record
		for _, name := range []string{"a", "b"} {
			s, err := scenarios.Load([]byte(compared), "example.yaml", plan.Known())
			Expect(err).NotTo(HaveOccurred())
			Expect(os.MkdirAll(filepath.Join(dir, name), 0o755)).To(Succeed())
			h := example(filepath.Join(dir, name))
			doc := slo.Make(h, slo.Judge(h, []slo.Named{{Name: "api.availability", Checker: checker("api.availability")}}))
			list = append(list, &compare.Record{Dir: name, History: h, Scenario: s, Verdict: doc})
		}
		doc, err := compare.Runs(list)
		Expect(err).NotTo(HaveOccurred())
		page, err := compare.HTML(list, doc)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(filepath.Join(dir, "compare.html"), page, 0o644)).To(Succeed())
		browser = open(filepath.Join(dir, "compare.html"), ".chart")
	}, NodeTimeout(time.Minute))

	It("draws the runs over one another, told apart without colour", func(SpecContext) {
		lines := run(browser, chromedp.Evaluate[[]string](`[...document.querySelectorAll(".chart polyline.s0, .chart polyline.s1")].map(e => getComputedStyle(e).strokeDasharray)`))
		Expect(len(lines)).To(BeNumerically(">=", 4), "latency and cron slots, of two runs each")
		Expect(lines).To(ContainElements("none", HavePrefix("7px")))
		Expect(run(browser, chromedp.Evaluate[int](`document.querySelectorAll(".chart rect.s1 title").length`))).To(BeNumerically(">=", 2), "an outage and a step of the second run, each with what it is")
		Expect(run(browser, chromedp.Evaluate[bool](`[...document.querySelectorAll(".chart rect, .chart circle")].every(e => +(e.getAttribute("x") ?? e.getAttribute("cx")) >= 0)`))).To(BeTrue())
	}, NodeTimeout(time.Minute))

	It("sets the promises side by side", func(SpecContext) {
		Expect(run(browser, chromedp.Text(chromedp.CSS("main")))).To(And(ContainSubstring("api.read"), ContainSubstring("B − A"), ContainSubstring("✗")))
	}, NodeTimeout(time.Minute))

	It("can be read on a phone and in the dark, and uses no network", func(SpecContext) {
		run(browser, chromedp.EmulateViewport(390, 844))
		Expect(run(browser, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth + 1`))).To(BeFalse(), "the page must not scroll sideways on a phone")
		run(browser, chromedp.Steps(chromedp.EmulateViewport(1280, 900), dark(true)))
		Expect(run(browser, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))).To(Equal("rgb(20, 23, 26)"))
		Expect(os.WriteFile(filepath.Join(dir, "compare-dark.png"), run(browser, chromedp.FullScreenshot(100)), 0o644)).To(Succeed())
		Expect(run(browser, chromedp.Evaluate[int](`performance.getEntriesByType("resource").length`))).To(BeZero())
	}, NodeTimeout(time.Minute))
})
