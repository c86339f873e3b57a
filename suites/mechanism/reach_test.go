package mechanism

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"runtime"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/cut"
	"gameday/faults/mechanism/reach"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// burner keeps every processor busy, several times over, until its lease ends.
func burner(ctx context.Context, c *child.Conn) error {
	for range 4 * runtime.NumCPU() {
		go func() {
			for ctx.Err() == nil {
			}
		}()
	}
	return errors.Join(c.Ready(nil), c.Serve(ctx, func(json.RawMessage) (any, error) { return nil, nil }))
}

var _ = Describe("reach", func() {
	var l *lab
	var a, b, c *host

	BeforeEach(func(ctx SpecContext) {
		l = newLab(ctx, 3)
		a, b, c = l.hosts[0], l.hosts[1], l.hosts[2]
	}, NodeTimeout(30*time.Second))

	// look probes b and two controls from a.
	look := func(ctx context.Context, window time.Duration) ([]reach.Peer, time.Duration, error) {
		began := time.Now()
		peers, err := reach.Look(ctx, a.netns(), []netip.Addr{b.ip, c.ip, l.bridge.ip}, window)
		return peers, time.Since(began), err
	}
	states := func(peers []reach.Peer) (s []reach.State) {
		for _, p := range peers {
			s = append(s, p.State)
		}
		return s
	}

	It("tells a silent peer from answering ones, before, during and after a cut", func(ctx SpecContext) {
		x, err := cut.Open("reach", l.bridge.netns())
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(x.Close)
		var silent, answering figures
		for i := range 10 {
			peers, took, err := look(ctx, 10*time.Second)
			Expect(err).NotTo(HaveOccurred())
			Expect(states(peers)).To(HaveEach(reach.Answering), "%v", peers)
			answering = append(answering, took)

			// Of a cut in one direction only, either one, there is no answer.
			pairs := [][]cut.Pair{bothWays(a, b), oneWay(a, b), oneWay(b, a)}[i%3]
			Expect(x.Set(pairs, hold)).To(Succeed())
			on := time.Now()
			peers, took, err = look(ctx, 10*time.Second)
			Expect(err).NotTo(HaveOccurred())
			Expect(states(peers)).To(Equal([]reach.State{reach.Silent, reach.Answering, reach.Answering}), "%v", peers)
			Expect(peers[0].Since).To(BeTemporally(">=", on))
			Expect(peers[0].LastAnswer).To(BeZero())
			silent = append(silent, took)
			Expect(x.Clear()).To(Succeed())
		}
		silent.report("reach: silence shown after")
		answering.report("reach: all shown answering after")
		Expect(silent.median()).To(BeNumerically("<", effective))
	}, NodeTimeout(time.Minute))

	It("says when the silence began, if it begins while it looks", func(ctx SpecContext) {
		x, err := cut.Open("reach", l.bridge.netns())
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(x.Close)
		// The third peer does not exist: nothing is known about it until b is silent, and nothing after.
		done := make(chan []reach.Peer, 1)
		go func() {
			defer GinkgoRecover()
			peers, err := reach.Look(ctx, a.netns(), []netip.Addr{b.ip, c.ip, netip.MustParseAddr("10.98.0.1")}, 3*time.Second)
			Expect(err).NotTo(HaveOccurred(), "%v", peers)
			done <- peers
		}()
		f := startFlow(a, b)
		f.flows(ctx, 200, time.Now())
		Expect(x.Set(bothWays(a, b), hold)).To(Succeed())
		on := time.Now()
		var peers []reach.Peer
		Eventually(ctx, done).WithTimeout(10 * time.Second).Should(Receive(&peers))
		Expect(states(peers)).To(Equal([]reach.State{reach.Silent, reach.Answering, reach.Unclear}), "%v", peers)
		Expect(peers[0].Since).To(BeTemporally("~", on, 20*time.Millisecond))
		Expect(peers[0].LastAnswer).To(BeTemporally("<", on.Add(5*time.Millisecond)))
		Expect(peers[2].SendError).To(HaveOccurred(), "there is no route to it")
		AddReportEntry("reach: evidence", peers[0].String())
	}, NodeTimeout(time.Minute))

	It("calls nobody silent when nobody answers", func(ctx SpecContext) {
		x, err := cut.Open("reach", l.bridge.netns())
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(x.Close)
		Expect(x.Set(append(bothWays(a, b), bothWays(a, c)...), hold)).To(Succeed())
		peers, err := reach.Look(ctx, a.netns(), []netip.Addr{b.ip, c.ip}, 200*time.Millisecond)
		Expect(err).To(MatchError(reach.ErrNoControl))
		Expect(states(peers)).To(HaveEach(reach.Unclear), "%v", peers)
	}, NodeTimeout(time.Minute))

	It("calls nobody silent because the machine is busy", func(ctx SpecContext) {
		p, err := child.Start(ctx, child.Command{Name: "burner", MaxHold: time.Minute})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx SpecContext) error { return p.Kill(ctx) }, NodeTimeout(10*time.Second))
		var took figures
		unclear := 0
		for began := time.Now(); time.Since(began) < 10*time.Second; {
			peers, d, err := look(ctx, time.Second)
			Expect(err).NotTo(HaveOccurred())
			Expect(states(peers)).NotTo(ContainElement(reach.Silent), "%v", peers)
			for _, p := range peers {
				if p.State == reach.Unclear {
					unclear++
				}
			}
			took = append(took, d)
		}
		AddReportEntry("reach: nothing said within a second on a busy machine", unclear)
		took.report("reach: all shown answering on a busy machine after")

		x, err := cut.Open("reach", l.bridge.netns())
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(x.Close)
		Expect(x.Set(bothWays(a, b), hold)).To(Succeed())
		peers, d, err := look(ctx, 10*time.Second)
		Expect(err).NotTo(HaveOccurred())
		Expect(peers[0].State).To(Equal(reach.Silent), "%v", peers)
		AddReportEntry("reach: silence shown on a busy machine after", d.String())
	}, NodeTimeout(time.Minute))
})
