package mechanism

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gameday/faults/mechanism/cgroup"
	"gameday/faults/mechanism/child"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// hoarder holds memory in a control group, and touches it all the time. Its call
// says how much it holds.
func hoarder(ctx context.Context, c *child.Conn) error {
	var join string
	if err := c.Args(&join); err != nil {
		return err
	}
	if err := os.WriteFile(join, []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return err
	}
	if err := c.Ready(nil); err != nil {
		return err
	}
	file, err := os.CreateTemp("", "gameday-hoard-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := make([]byte, 1<<20)
	for i := int64(0); ctx.Err() == nil; i = (i + 1) % 64 {
		if _, err := file.WriteAt(block, i<<20); err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		pause(ctx, time.Millisecond)
	}
	return nil
}

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
			DeferCleanup(func() {
				Eventually(func() error { return cgroup.RemoveMark(dir) }).WithTimeout(10 * time.Second).Should(Succeed())
			})
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
		Expect(l.Restore("a")).To(Succeed())
		Expect(g.Read(cgroup.CPU)).To(Equal(l))
		used, _, err = g.Want(ctx, "a", 250*time.Millisecond)
		Expect(err).NotTo(HaveOccurred())
		Expect(used.Throttled).To(BeZero())
	}, NodeTimeout(time.Minute))

	It("presses memory without a kill, and lets go", func(ctx SpecContext) {
		g := own()
		p, err := child.Start(ctx, child.Command{Name: "hoarder", Args: filepath.Join(g.Controllers["memory"], "cgroup.procs")})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx SpecContext) error { return p.Kill(ctx) }, NodeTimeout(10*time.Second))
		use := func() cgroup.MemoryUse {
			GinkgoHelper()
			u, err := g.MemoryUse()
			Expect(err).NotTo(HaveOccurred())
			return u
		}
		Eventually(func() int64 { return use().Bytes }).WithTimeout(20 * time.Second).Should(BeNumerically(">", 40<<20))
		Expect(use().Hit).To(BeZero())
		l, err := g.Read(cgroup.Memory)
		Expect(err).NotTo(HaveOccurred())
		Expect(l.Mark("a")).To(Succeed())
		Expect(l.Lower(use().WorkingSet + 16<<20)).To(Succeed())
		Eventually(func() int64 { return use().Hit }).WithTimeout(20 * time.Second).Should(BeNumerically(">", 0))
		Expect(use().Killed).To(BeZero())
		Expect(l.Restore("a")).To(Succeed())
		Expect(g.Read(cgroup.Memory)).To(Equal(l))
		after := use().Hit
		Consistently(func() int64 { return use().Hit }).WithTimeout(time.Second).Should(Equal(after))
	}, NodeTimeout(time.Minute))
})
