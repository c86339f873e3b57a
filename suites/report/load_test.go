package report

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/chromedp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"gameday/harness/load"
	"gameday/harness/slo"
)

var _ = Describe("the page of a load", Label("browser"), Ordered, func() {
	var browser context.Context

	BeforeAll(func(SpecContext) {
		d := load.Document{Run: "x1", Version: "v1.37.0", Verdict: slo.Pass, Reason: "the knee is between 10 and 20 CronJobs a minute", Budget: 60, Nodes: 2, Cores: 2, Saturated: "scheduler", Why: []string{"scheduler: pod to node: 40 s"}}
		for i, rate := range []int{10, 20} {
			v := float64(10 + 60*i)
			d.Steps = append(d.Steps, load.Step{Rate: rate, Slots: rate, Started: rate, P50: &v, P99: &v, Max: &v, PerSecond: &v, PerNode: &v, Verdict: []slo.Verdict{slo.Pass, slo.Fail}[i]})
		}
		page, err := d.HTML()
		Expect(err).NotTo(HaveOccurred())
		file := filepath.Join(GinkgoT().TempDir(), "load.html")
		Expect(os.WriteFile(file, page, 0o644)).To(Succeed())
		browser = open(file, ".chart polyline")
	}, NodeTimeout(time.Minute))

	It("says where the knee is, and draws the budget between the rates", func(SpecContext) {
		Expect(run(browser, chromedp.Text(chromedp.CSS("#banner")))).To(And(ContainSubstring("between 10 and 20"), ContainSubstring("scheduler")))
		Expect(run(browser, chromedp.Evaluate[bool](`(() => { const y = +document.querySelector(".chart .limit").getAttribute("y1"), at = [...document.querySelector(".chart").querySelectorAll("circle.s0")].map(e => +e.getAttribute("cy")); return at.length === 2 && at[0] > y && at[1] < y })()`))).To(BeTrue(), "one point below the line of the budget, one above")
	}, NodeTimeout(time.Minute))

	It("can be read on a phone and in the dark, and uses no network", func(SpecContext) {
		run(browser, chromedp.Steps(chromedp.EmulateViewport(390, 844), dark(true)))
		Expect(run(browser, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth + 1`))).To(BeFalse(), "the page must not scroll sideways on a phone")
		Expect(run(browser, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))).To(Equal("rgb(20, 23, 26)"))
		Expect(run(browser, chromedp.Evaluate[int](`performance.getEntriesByType("resource").length`))).To(BeZero())
	}, NodeTimeout(time.Minute))
})
