package mechanism

import (
	"context"
	"encoding/json"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/clock"
	"gameday/faults/mechanism/process"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// reading is what a victim sees on its clocks.
type reading struct {
	Wall    time.Time
	Running time.Duration // by its monotonic clock
}

// timekeeper is the victim: it asks for the time on several threads at once, and a call returns what it sees.
func timekeeper(ctx context.Context, c *child.Conn) error {
	began := time.Now()
	for range 4 {
		go func() {
			for ctx.Err() == nil {
				for range 1000 {
					if time.Now().IsZero() {
						return
					}
				}
				pause(ctx, time.Millisecond)
			}
		}()
	}
	if err := c.Ready(nil); err != nil {
		return err
	}
	return c.Serve(ctx, func(json.RawMessage) (any, error) {
		return reading{time.Now().Round(0), time.Since(began)}, nil
	})
}

var _ = Describe("clock", func() {
	start := func(ctx SpecContext) (*child.Process, process.Ref) {
		GinkgoHelper()
		p, err := child.Start(ctx, child.Command{Name: "timekeeper"})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx SpecContext) error { return p.Kill(ctx) }, NodeTimeout(10*time.Second))
		ref, err := process.Of(p.PID())
		Expect(err).NotTo(HaveOccurred())
		return p, ref
	}
	// off is by how much the victim's clock differs from ours: seen between two readings of ours.
	off := func(ctx SpecContext, p *child.Process) time.Duration {
		GinkgoHelper()
		var r reading
		before := time.Now()
		Expect(p.Call(ctx, nil, &r)).To(Succeed())
		return r.Wall.Sub(before.Add(time.Since(before) / 2).Round(0))
	}
	near := func(d time.Duration) OmegaMatcher { return BeNumerically("~", d, 200*time.Millisecond) }

	It("skews one process as asked, changes the offset while on, and leaves nothing", func(ctx SpecContext) {
		p, ref := start(ctx)
		bystander, _ := start(ctx)
		Expect(off(ctx, p)).To(near(0))
		var took figures
		for _, d := range []time.Duration{time.Hour, -90*time.Minute - 250*time.Millisecond, 365 * 24 * time.Hour, 1500 * time.Millisecond} {
			began := time.Now()
			Expect(clock.Skew(ctx, ref, clock.Change{Owner: "a", Offset: d, For: time.Minute})).To(Succeed())
			took = append(took, time.Since(began))
			Expect(off(ctx, p)).To(near(d))
			Expect(off(ctx, bystander)).To(near(0))
			s, err := clock.Look(ref)
			Expect(err).NotTo(HaveOccurred())
			Expect(s.Changed && s.Ours("a") && !s.Ours("b")).To(BeTrue())
			Expect(s.Offset).To(Equal(d))
			Expect(s.Left).To(BeNumerically("~", time.Minute, 2*time.Second))
		}
		took.report("clock: Skew returns")
		var r, later reading
		Expect(p.Call(ctx, nil, &r)).To(Succeed())
		Expect(clock.Skew(ctx, ref, clock.Change{Owner: "b", Offset: time.Hour, For: time.Minute})).To(MatchError(clock.ErrTaken))
		Expect(clock.Restore(ctx, ref, "b")).To(Succeed())
		Expect(off(ctx, p)).To(near(1500 * time.Millisecond))
		began := time.Now()
		Expect(clock.Restore(ctx, ref, "a")).To(Succeed())
		AddReportEntry("clock: Restore returns", time.Since(began).String())
		Expect(clock.Restore(ctx, ref, "a")).To(Succeed())
		Expect(off(ctx, p)).To(near(0))
		Expect(p.Call(ctx, nil, &later)).To(Succeed())
		Expect(later.Running-r.Running).To(BeNumerically("<", time.Minute), "its monotonic clock ran on as before")
		Expect(clock.Look(ref)).To(Equal(clock.State{}))
	}, NodeTimeout(time.Minute))

	It("ends by itself", func(ctx SpecContext) {
		p, ref := start(ctx)
		Expect(clock.Skew(ctx, ref, clock.Change{Owner: "a", Offset: time.Hour, For: 2 * time.Second})).To(Succeed())
		Expect(off(ctx, p)).To(near(time.Hour))
		Eventually(ctx, func() time.Duration { return off(ctx, p) }).WithTimeout(10 * time.Second).WithPolling(50 * time.Millisecond).Should(near(0))
		s, err := clock.Look(ref)
		Expect(err).NotTo(HaveOccurred())
		Expect(s.Changed).To(BeTrue())
		Expect(s.Left).To(BeNumerically("<=", 0))
		Expect(clock.Skew(ctx, ref, clock.Change{Owner: "b", Offset: -time.Hour, For: time.Minute})).To(Succeed(), "an expired one is nobody's")
		Expect(off(ctx, p)).To(near(-time.Hour))
		Expect(clock.Restore(ctx, ref, "b")).To(Succeed())
	}, NodeTimeout(time.Minute))

	It("survives being switched a thousand times under a busy victim", func(ctx SpecContext) {
		p, ref := start(ctx)
		for range 500 {
			Expect(clock.Skew(ctx, ref, clock.Change{Owner: "a", Offset: time.Hour, For: time.Minute})).To(Succeed())
			Expect(clock.Restore(ctx, ref, "a")).To(Succeed())
		}
		Expect(off(ctx, p)).To(near(0))
	}, NodeTimeout(time.Minute))

	It("says that a process is gone, or traced by another", func(ctx SpecContext) {
		p, ref := start(ctx)
		Expect(p.Kill(ctx)).To(Succeed())
		Expect(clock.Skew(ctx, ref, clock.Change{Owner: "a", Offset: time.Hour, For: time.Minute})).To(MatchError(process.ErrGone))
		Expect(clock.Restore(ctx, ref, "a")).To(MatchError(process.ErrGone))
	}, NodeTimeout(time.Minute))
})
