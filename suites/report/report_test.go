// Package report holds the test that opens the report page in a real browser
// and checks what a reader would see.
package report

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"gameday/harness/history"
	"gameday/harness/report"
	"gameday/harness/slo"
	"gameday/suites/specs"
)

// keep is where the page and its screenshots stay for a person to look at.
var keep = flag.String("keep", "", "folder to keep the page and its screenshots in")

func TestReport(t *testing.T) {
	RegisterFailHandler(Fail)
	suite, reporter := GinkgoConfiguration()
	if suite.LabelFilter == "" {
		suite.LabelFilter = "!browser" // needs Chromium: only when asked for
	}
	specs.Run(t, "the report page", suite, reporter)
}

var _ = Describe("report.html", Label("browser"), Ordered, func() {
	var browser context.Context
	var dir string

	BeforeAll(func(ctx SpecContext) {
		dir = *keep
		if dir == "" {
			dir = GinkgoT().TempDir()
		}
		h := example(dir)
		doc := slo.Make(h, slo.Judge(h, []slo.Named{{Name: "api.availability", Checker: checker("api.availability")}}))
		page, err := report.HTML(h, doc)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(filepath.Join(dir, "report.html"), page, 0o644)).To(Succeed())

		browser = open(filepath.Join(dir, "report.html"), "#tl svg > g rect")
	}, NodeTimeout(time.Minute))

	text := func(sel string) string {
		GinkgoHelper()
		return run(browser, chromedp.Text(chromedp.CSS(sel)))
	}
	shot := func(name string) {
		GinkgoHelper()
		Expect(os.WriteFile(filepath.Join(dir, name), run(browser, chromedp.FullScreenshot(100)), 0o644)).To(Succeed())
	}

	It("says first whether it held, and why not", func(SpecContext) {
		Expect(text("#banner")).To(And(ContainSubstring("FAIL"), ContainSubstring("v1.36.1 → v1.37.0"), ContainSubstring("gameday run example --seed 7")))
		Expect(text("#cause")).NotTo(BeEmpty())
		shot("wide.png")
	}, NodeTimeout(time.Minute))

	It("tells the verdict without colour", func(SpecContext) {
		Expect(text("table tbody tr.fail .v")).To(HavePrefix("✗"))
	}, NodeTimeout(time.Minute))

	It("draws every lane: run, phases, faults, promises, nodes, API, etcd, cron slots, pods", func(SpecContext) {
		lanes := run(browser, chromedp.Evaluate[[]string](`[...document.querySelectorAll("#tl svg text.g")].map(e => e.textContent)`))
		Expect(lanes).To(HaveExactElements(Equal("Run"), Equal("Upgrade"), Equal("Faults"), HavePrefix("Promises"), Equal("Nodes"), HavePrefix("API"), Equal("etcd"), HavePrefix("Cron"), HavePrefix("Pods")))
		bad := run(browser, chromedp.Evaluate[int](`document.querySelectorAll("#tl svg .b-bad").length`))
		Expect(bad).To(BeNumerically(">=", 2), "an outage on each of two series")
		missed := run(browser, chromedp.Evaluate[int](`document.querySelectorAll("#tl svg .d-miss").length`))
		Expect(missed).To(Equal(1))
	}, NodeTimeout(time.Minute))

	It("tells what and when on hover", func(SpecContext) {
		tip := run(browser, chromedp.Evaluate[string](`(() => { const e = document.querySelector("#tl svg .b-fault"), r = e.getBoundingClientRect();
			e.dispatchEvent(new PointerEvent("pointermove", {bubbles: true, clientX: r.x + 2, clientY: r.y + 2}));
			return document.getElementById("tip").textContent })()`))
		Expect(tip).To(And(ContainSubstring("etcd.stop"), ContainSubstring("port refused"), ContainSubstring("UTC")))
	}, NodeTimeout(time.Minute))

	It("zooms to the evidence of a promise on a click, and back with a key", func(SpecContext) {
		labels := `[...document.querySelectorAll("#tl svg g text.t")].map(e => e.textContent).join(" ")`
		before := run(browser, chromedp.Evaluate[string](labels))
		run(browser, chromedp.Click(chromedp.CSS("tr[data-from]")))
		after := run(browser, chromedp.Evaluate[string](labels))
		Expect(after).NotTo(Equal(before))
		shot("zoomed.png")
		back := run(browser, chromedp.Evaluate[string](`document.querySelector("#tl svg").dispatchEvent(new KeyboardEvent("keydown", {key: "0"})); `+labels))
		Expect(back).To(Equal(before))
	}, NodeTimeout(time.Minute))

	It("says what was not measured, and how much of a budget a fault spent", func(SpecContext) {
		Expect(text("#slos + .scroll")).To(And(ContainSubstring("not measured"), MatchRegexp(`drop-etcd: 1 of 1, longest .* \([0-9]+ %\)`)))
	}, NodeTimeout(time.Minute))

	It("tells the wall clock of each time on hover, and goes there on a click", func(SpecContext) {
		Expect(run(browser, chromedp.Evaluate[int](`document.querySelectorAll("abbr[title$=' UTC']").length`))).To(BeNumerically(">=", 4))
		before := run(browser, chromedp.Evaluate[string](`document.querySelector("#tl svg").innerHTML`))
		run(browser, chromedp.Click(chromedp.CSS("li[data-from]")))
		Expect(run(browser, chromedp.Evaluate[string](`document.querySelector("#tl svg").innerHTML`))).NotTo(Equal(before))
		run(browser, chromedp.Click(chromedp.CSS("#all")))
	}, NodeTimeout(time.Minute))

	It("gives the command to run it again to the clipboard, or marks it", func(SpecContext) {
		run(browser, chromedp.Click(chromedp.CSS("#copy")))
		Eventually(func() string { return text("#copy") }).WithTimeout(5 * time.Second).Should(Or(Equal("Copied"), Equal("Press Ctrl-C")))
	}, NodeTimeout(time.Minute))

	It("can be read on a phone, in the dark, and in print", func(SpecContext) {
		run(browser, chromedp.Steps(chromedp.EmulateViewport(390, 844), chromedp.WaitVisible(chromedp.CSS("#tl svg > g rect"))))
		wide := run(browser, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth + 1`))
		Expect(wide).To(BeFalse(), "the page must not scroll sideways on a phone")
		shot("phone.png")
		run(browser, chromedp.Steps(chromedp.EmulateViewport(1280, 900), dark(true)))
		bg := run(browser, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))
		Expect(bg).To(Equal("rgb(20, 23, 26)"))
		shot("dark.png")
		run(browser, media("print", true))
		Expect(run(browser, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))).To(Equal("rgb(255, 255, 255)"), "paper is white, whatever the screen is")
		Expect(run(browser, chromedp.Evaluate[string](`getComputedStyle(document.getElementById("copy")).display`))).To(Equal("none"))
		shot("print.png")
		run(browser, dark(false))
	}, NodeTimeout(time.Minute))

	It("stays quick with a million samples", func(SpecContext) {
		size := run(browser, chromedp.Evaluate[int](`document.getElementById("data").textContent.length`))
		Expect(size).To(BeNumerically("<", 400_000), "the page holds aggregates, not samples")
		took := run(browser, chromedp.Evaluate[float64](`(() => { const t = performance.now(); dispatchEvent(new Event("resize")); return performance.now() - t })()`))
		AddReportEntry("redraw", fmt.Sprintf("%.1f ms", took))
	}, NodeTimeout(time.Minute))

	It("uses no network", func(SpecContext) {
		n := run(browser, chromedp.Evaluate[int](`performance.getEntriesByType("resource").length`))
		Expect(n).To(BeZero())
	}, NodeTimeout(time.Minute))
})

// open shows a page in a browser of its own and waits until it is drawn.
func open(page, drawn string) context.Context {
	GinkgoHelper()
	alloc, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))...)
	DeferCleanup(stop)
	browser, end := chromedp.NewContext(alloc)
	DeferCleanup(end)
	run(browser, chromedp.Steps(chromedp.Navigate("file://"+page), chromedp.WaitVisible(chromedp.CSS(drawn))))
	return browser
}

func checker(name string) slo.Checker {
	GinkgoHelper()
	k, ok := slo.Lookup(name)
	Expect(ok).To(BeTrue(), name)
	return k.New()
}

// example is a history with one of everything, written and read as a run does.
func example(dir string) *history.History {
	GinkgoHelper()
	path := filepath.Join(dir, "history.jsonl")
	Expect(os.RemoveAll(path)).To(Succeed())
	r, err := history.Create(path, history.Run{ID: "x1", Scenario: "example", Seed: 7, Gameday: "test", Provider: "kind", Strategy: "kubeadm", From: "v1.36.1", To: "v1.37.0", Rerun: "gameday run example --seed 7"}, nil)
	Expect(err).NotTo(HaveOccurred())
	t0 := r.Began()
	at := func(ms int, e history.Event) { r.AddAt(t0.Add(time.Duration(ms)*time.Millisecond), e) }
	for i, s := range []string{"steady", "upgrade"} {
		at(i*1000, history.Event{Stage: &history.Stage{Name: s, State: "began"}})
		if s == "steady" {
			at(900, history.Event{Stage: &history.Stage{Name: s, State: "ended"}})
		}
	}
	for i, p := range []string{"control-plane[0]", "control-plane[1]", "worker[0]"} {
		at(0, history.Event{Node: &history.Node{Name: "gd-" + p, Place: p, Ready: "True", Version: "v1.36.1"}})
		at(20000+i*5000, history.Event{Node: &history.Node{Name: "gd-" + p, Place: p, Ready: "Unknown", Version: "v1.36.1"}})
		at(24000+i*5000, history.Event{Node: &history.Node{Name: "gd-" + p, Place: p, Ready: "True", Version: "v1.37.0"}})
	}
	at(5000, history.Event{Phase: &history.Phase{Path: "upgrade", State: "began"}})
	at(6000, history.Event{Phase: &history.Phase{Path: "upgrade/control-plane[1]", Node: "gd-cp2", State: "began", Expected: "proceed"}})
	at(8000, history.Event{Phase: &history.Phase{Path: "upgrade/control-plane[1]/etcd", Node: "gd-cp2", State: "began"}})
	for _, s := range []string{"requested", "armed", "injected"} {
		at(9000, history.Event{Injection: &history.Injection{ID: "drop-etcd", Fault: "etcd.stop", Targets: []string{"control-plane[0]"}, State: s, Phase: "upgrade/control-plane[1]/etcd"}})
	}
	at(9084, history.Event{Injection: &history.Injection{ID: "drop-etcd", Fault: "etcd.stop", Targets: []string{"control-plane[0]"}, State: "proven", Phase: "upgrade/control-plane[1]/etcd", Proof: "member unhealthy, port refused", Control: "control-plane[2] serves"}})
	at(29000, history.Event{Injection: &history.Injection{ID: "drop-etcd", Fault: "etcd.stop", State: "healing"}})
	at(29500, history.Event{Injection: &history.Injection{ID: "drop-etcd", Fault: "etcd.stop", State: "healed"}})
	at(33000, history.Event{Injection: &history.Injection{ID: "drop-etcd", Fault: "etcd.stop", State: "gone", Proof: "serves again"}})
	at(30000, history.Event{Phase: &history.Phase{Path: "upgrade/control-plane[1]/etcd", Node: "gd-cp2", State: "ended", Outcome: "proceeded", Seen: "member serves 3.7.0"}})
	at(40000, history.Event{Phase: &history.Phase{Path: "upgrade/control-plane[1]", Node: "gd-cp2", State: "ended", Outcome: "proceeded", Expected: "proceed"}})
	at(50000, history.Event{Phase: &history.Phase{Path: "upgrade", State: "ended", Outcome: "proceeded"}})
	at(0, history.Event{Etcd: &history.Etcd{Node: "gd-cp", Version: "3.6.8", Leader: true, Healthy: true}})
	at(9100, history.Event{Etcd: &history.Etcd{Node: "gd-cp", Version: "3.6.8", Err: "refused"}})
	at(32000, history.Event{Etcd: &history.Etcd{Node: "gd-cp", Version: "3.6.8", Healthy: true}})
	for id, e := range []string{"lb", "gd-cp"} {
		at(0, history.Event{Series: &history.Series{ID: id, Verb: "read", Conn: "reused", Endpoint: e, Period: 5 * time.Millisecond, Deadline: time.Second}})
	}
	// A million samples would take minutes to write; what the page holds must
	// not depend on their number, so 24,000 show it as well.
	for i := range 12000 {
		for id := range 2 {
			s := &history.Sample{Series: id, OK: true, Code: 200, Took: time.Duration(2+math.Abs(math.Sin(float64(i)/300))*20) * time.Millisecond}
			if i > 2000+id*100 && i < 4000 {
				s.OK, s.Code, s.Err = false, 0, "connection refused"
			}
			at(i*5, history.Event{Sample: s})
		}
	}
	for i := range 5 {
		name := fmt.Sprintf("cron-%d", i)
		slot := t0.Add(time.Duration(i*10) * time.Second)
		at(i*10000+500, history.Event{Job: &history.Job{Name: name, UID: name, CronJob: "cron", CronJobUID: "c", Slot: slot, Created: slot}})
		p := &history.Pod{Name: name + "-x", UID: name, Owner: "Job/" + name, Phase: "Running", Created: slot}
		if i != 3 {
			p.Started = slot.Add(time.Duration(i) * time.Second)
		}
		at(i*10000+900, history.Event{Pod: p})
	}
	at(58000, history.Event{Finding: &history.Finding{Level: "note", What: "some logs could not be collected <script>alert(1)</script>", Evidence: "worker[0]: timeout"}})
	at(59000, history.Event{Stage: &history.Stage{Name: "final", State: "began"}})
	at(60000, history.Event{End: &history.End{}})
	Expect(r.Close()).To(Succeed())
	h, err := history.Load(path)
	Expect(err).NotTo(HaveOccurred())
	return h
}

// run runs one action in the browser.
func run[T any](ctx context.Context, a chromedp.Action[T]) T {
	GinkgoHelper()
	v, err := chromedp.Run(ctx, a)
	Expect(err).NotTo(HaveOccurred())
	return v
}
