package mechanism

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gameday/faults/mechanism/cgroup"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("cgroup", func() {
	// own makes a group of each controller, as Docker makes them for a container.
	own := func() cgroup.Group {
		GinkgoHelper()
		g := cgroup.Group{Controllers: map[string]string{}}
		name := "gameday-suite-" + strconv.Itoa(os.Getpid())
		for _, c := range []string{"cpu", "cpuacct", "memory", "pids"} {
			dir := filepath.Join("/sys/fs/cgroup", c, name)
			if _, err := os.Stat(filepath.Dir(dir)); err != nil {
				Skip("this machine has control groups of version 2, in which this suite cannot make one beside those of systemd")
			}
			Expect(os.Mkdir(dir, 0o755)).To(Succeed())
			DeferCleanup(func(ctx SpecContext) {
				Eventually(func() error { return cgroup.RemoveMark(ctx, dir) }).WithTimeout(10 * time.Second).Should(Succeed())
			}, NodeTimeout(20*time.Second))
			g.Controllers[c] = dir
		}
		return g
	}

	It("takes processors away and gives them back", func(ctx SpecContext) {
		g := own()
		used, _, err := g.Want(ctx, "a", 250*time.Millisecond)
		Expect(err).NotTo(HaveOccurred())
		Expect(used.Throttled).To(BeZero())
		l, err := g.Read(cgroup.CPU)
		Expect(err).NotTo(HaveOccurred())
		for _, left := range []float64{0.5, 0.2} {
			Expect(l.Mark("a")).To(Succeed())
			Expect(l.LowerCPU(left)).To(Succeed())
			used, took, err := g.Want(ctx, "a", 250*time.Millisecond)
			Expect(err).NotTo(HaveOccurred())
			got := float64(used.Microseconds) / float64(took.Microseconds())
			AddReportEntry("cgroup: processors, asked "+strconv.FormatFloat(left, 'g', -1, 64), got)
			Expect(used.Throttled).To(BeNumerically(">", 0))
			Expect(got).To(BeNumerically("~", left, left/4))
		}
		Expect(l.Restore(ctx, "a")).To(Succeed())
		Expect(g.Read(cgroup.CPU)).To(Equal(l))
		used, _, err = g.Want(ctx, "a", 250*time.Millisecond)
		Expect(err).NotTo(HaveOccurred())
		Expect(used.Throttled).To(BeZero())
	}, NodeTimeout(time.Minute))

	It("presses memory without a kill, and lets go", func(ctx SpecContext) {
		g := own()
		use := func() cgroup.MemoryUse {
			GinkgoHelper()
			u, err := g.MemoryUse()
			Expect(err).NotTo(HaveOccurred())
			return u
		}
		l, err := g.Read(cgroup.Memory)
		Expect(err).NotTo(HaveOccurred())
		Expect(l.Mark("a")).To(Succeed())
		Expect(l.Lower(use().WorkingSet + 64<<20)).To(Succeed())
		p, err := l.Hoard(ctx, "a", 128, time.Minute)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx SpecContext) error { return p.Kill(ctx) }, NodeTimeout(10*time.Second))
		Eventually(func() int64 { return use().Hit }).WithTimeout(20 * time.Second).Should(BeNumerically(">", 0))
		before := use().Hit
		Eventually(func() int64 { return use().Hit }).WithTimeout(20 * time.Second).Should(BeNumerically(">", before+10))
		Expect(use().Killed).To(BeZero())
		Expect(l.Restore(ctx, "a")).To(Succeed())
		Expect(g.Read(cgroup.Memory)).To(Equal(l))
		Eventually(p.Done()).WithTimeout(time.Second).Should(BeClosed(), "the reader ends with the mark")
		after := use().Hit
		Consistently(func() int64 { return use().Hit }).WithTimeout(time.Second).Should(Equal(after))
	}, NodeTimeout(time.Minute))
})
