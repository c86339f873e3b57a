package mechanism

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/freezer"
	"gameday/faults/mechanism/process"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// hierarchies are where groups can be made on this machine, by what offers a freezer.
func hierarchies() map[string]string {
	GinkgoHelper()
	out := map[string]string{}
	b, err := os.ReadFile("/proc/self/mountinfo")
	Expect(err).NotTo(HaveOccurred())
	for line := range strings.Lines(string(b)) {
		before, after, _ := strings.Cut(line, " - ")
		point, kind := strings.Fields(before)[4], strings.Fields(after)
		switch {
		case kind[0] == "cgroup2":
			out["v2"] = point
		case kind[0] == "cgroup" && strings.Contains(kind[2], "freezer"):
			out["v1"] = point
		}
	}
	return out
}

// group makes a control group with one below it, and removes both after the spec.
func group(hierarchy string) (top, below string) {
	GinkgoHelper()
	top = filepath.Join(hierarchy, fmt.Sprintf("gameday-test-%d", os.Getpid()))
	below = filepath.Join(top, "below")
	Expect(os.MkdirAll(below, 0o755)).To(Succeed())
	DeferCleanup(func() {
		// Those who were in it have been killed, but may still be on their way out.
		for _, dir := range []string{below, top} {
			Eventually(func() error { return os.Remove(dir) }).WithTimeout(10 * time.Second).WithPolling(10 * time.Millisecond).Should(Succeed())
		}
	})
	return top, below
}

var _ = Describe("freezer", func() {
	for _, version := range []string{"v1", "v2"} {
		It("pauses a group with those below it, lets it go on, and touches nobody else: cgroup "+version, func(ctx SpecContext) {
			point, ok := hierarchies()[version]
			if !ok {
				Skip("this machine has no freezer of cgroup " + version)
			}
			top, below := group(point)
			g, err := freezer.Of(map[string]string{"v2": top}[version], map[string]string{"v1": top}[version])
			Expect(err).NotTo(HaveOccurred())
			var victims, bystanders []*child.Process
			for i := range 4 {
				c, err := child.Start(ctx, child.Command{Name: "echoer"})
				Expect(err).NotTo(HaveOccurred())
				DeferCleanup(func(ctx SpecContext) error { return c.Kill(ctx) }, NodeTimeout(20*time.Second))
				if i < 2 {
					dir := []string{top, below}[i]
					Expect(os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(c.PID())), 0)).To(Succeed())
					victims = append(victims, c)
				} else {
					bystanders = append(bystanders, c)
				}
			}
			DeferCleanup(func() error { return g.Thaw() })

			var on, off figures
			for range 5 {
				t := time.Now()
				Expect(g.Freeze(ctx)).To(Succeed())
				on = append(on, time.Since(t))
				Expect(g.Asked()).To(BeTrue())
				for _, c := range victims {
					short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
					Expect(c.Call(short, nil, nil)).To(MatchError(context.DeadlineExceeded))
					cancel()
				}
				for _, c := range bystanders {
					Expect(c.Call(ctx, nil, nil)).To(Succeed())
				}
				Expect(g.Freeze(ctx)).To(Succeed(), "once more")
				t = time.Now()
				Expect(g.Thaw()).To(Succeed())
				for _, c := range victims {
					Expect(c.Call(ctx, nil, nil)).To(Succeed())
				}
				off = append(off, time.Since(t))
				Expect(g.Asked()).To(BeFalse())
				Expect(g.Thaw()).To(Succeed(), "once more")
			}
			on.report("freezer: cgroup " + version + ": every process frozen")
			off.report("freezer: cgroup " + version + ": answers of all after the thaw")

			By("whether what is frozen can be killed")
			Expect(g.Freeze(ctx)).To(Succeed())
			ref, err := process.Of(victims[0].PID())
			Expect(err).NotTo(HaveOccurred())
			p, err := process.Open(ref)
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(p.Close)
			Expect(p.Kill()).To(Succeed())
			short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			err = p.Wait(short)
			AddReportEntry("freezer: cgroup "+version+": killed while frozen", fmt.Sprint(err == nil))
			if version == "v2" {
				Expect(err).NotTo(HaveOccurred())
			}
			Expect(g.Thaw()).To(Succeed())
			Expect(p.Wait(ctx)).To(Succeed())
		}, NodeTimeout(time.Minute))
	}
})
