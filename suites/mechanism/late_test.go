package mechanism

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"gameday/faults/mechanism/intake"
	"gameday/faults/mechanism/late"

	"golang.org/x/sys/unix"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("late", func() {
	var l *lab
	var a, b, c *host

	BeforeEach(func(ctx SpecContext) {
		l = newLab(ctx, 3)
		a, b, c = l.hosts[0], l.hosts[1], l.hosts[2]
	}, NodeTimeout(30*time.Second))

	start := func(ctx context.Context, tag string, s late.Shape, ttl time.Duration) *late.Holder {
		GinkgoHelper()
		h, err := late.Start(ctx, late.Options{
			Tag: tag, Shape: s, MaxHold: time.Minute, TTL: ttl,
			Targets: []late.Target{{NetNS: a.netns(), Rules: []intake.Rule{{From: []net.HardwareAddr{b.mac}}}}},
		})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx SpecContext) error { return h.Stop(ctx) }, NodeTimeout(10*time.Second))
		return h
	}

	DescribeTable("delays what comes from a peer, by what was asked for, and loses nothing",
		func(ctx SpecContext, delay time.Duration) {
			h := start(ctx, "delay", late.Shape{Delay: delay}, hold)
			s := measure(ctx, a, 2000, time.Millisecond, delay+time.Second, b, c)
			AddReportEntry(fmt.Sprintf("late: delay of %v", delay), fmt.Sprintf("p50 %v, p99 %v, most %v, lost %d of %d; bystander p50 %v, lost %d",
				s[0].Quantile(0.5), s[0].Quantile(0.99), s[0].Quantile(1), s[0].Sent-s[0].Answered, s[0].Sent, s[1].Quantile(0.5), s[1].Sent-s[1].Answered))
			Expect(s[0].Lost()).To(BeZero())
			Expect(s[0].Overtaken).To(BeZero())
			Expect(s[1].Lost()).To(BeZero())
			// None comes early; that half of them are no later is asked again, for a burst of load on the machine delays them too.
			Expect(s[0].Quantile(0)).To(BeNumerically(">=", delay))
			Eventually(ctx, func() time.Duration {
				s := measure(ctx, a, 1000, time.Millisecond, delay+time.Second, b, c)
				return s[0].Quantile(0.5) - s[1].Quantile(0.5)
			}).WithTimeout(30 * time.Second).Should(BeNumerically("~", delay, time.Millisecond))
			Expect(s[1].Quantile(0)).To(BeNumerically("<", 2*time.Millisecond))
			Expect(h.Stop(ctx)).To(Succeed())
			s = measure(ctx, a, 200, time.Millisecond, time.Second, b)
			Expect(s[0].Lost()).To(BeZero())
			Expect(s[0].Quantile(0)).To(BeNumerically("<", delay/2))
		},
		Entry("5 ms", 5*time.Millisecond, NodeTimeout(time.Minute)),
		Entry("50 ms", 50*time.Millisecond, NodeTimeout(time.Minute)),
		Entry("200 ms", 200*time.Millisecond, NodeTimeout(time.Minute)),
	)

	It("goes up and down without one packet overtaking another", func(ctx SpecContext) {
		start(ctx, "jitter", late.Shape{Delay: 50 * time.Millisecond, Jitter: 20 * time.Millisecond}, hold)
		s := measure(ctx, a, 3000, time.Millisecond, time.Second, b)
		AddReportEntry("late: 50 ms with a jitter of 20 ms", fmt.Sprintf("from %v by %v to %v", s[0].Quantile(0), s[0].Quantile(0.5), s[0].Quantile(1)))
		Expect(s[0].Lost()).To(BeZero())
		Expect(s[0].Overtaken).To(BeZero())
		Expect(s[0].Quantile(0)).To(BeNumerically(">=", 30*time.Millisecond))
		Expect(s[0].Quantile(0)).To(BeNumerically("<", 40*time.Millisecond))
		Expect(s[0].Quantile(0.98)).To(BeNumerically(">", 60*time.Millisecond))
	}, NodeTimeout(time.Minute))

	It("lets some packets overtake others", func(ctx SpecContext) {
		start(ctx, "reorder", late.Shape{Delay: 10 * time.Millisecond, Part: 0.25}, hold)
		s := measure(ctx, a, 4000, time.Millisecond, time.Second, b, c)
		share := float64(s[0].Overtaken) / float64(s[0].Answered)
		AddReportEntry("late: 25 % held for 10 ms", fmt.Sprintf("%.1f %% overtaken", share*100))
		Expect(s[0].Lost()).To(BeZero())
		Expect(share).To(BeNumerically("~", 0.25, 0.03))
		Expect(s[1].Overtaken).To(BeZero())
	}, NodeTimeout(time.Minute))

	It("is a slow link", func(ctx SpecContext) {
		rate := func(from *host) float64 { return transfer(ctx, from, a, time.Second) }
		free := rate(b)
		start(ctx, "rate", late.Shape{Rate: 10e6 / 8, Backlog: 100 * time.Millisecond}, hold)
		slow, other := rate(b), rate(c)
		AddReportEntry("late: 10 Mbit/s", fmt.Sprintf("seen %.2f, before %.0f, bystander %.0f", slow/1e6, free/1e6, other/1e6))
		Expect(slow).To(BeNumerically("~", 10e6, 1.5e6))
		Expect(other).To(BeNumerically(">", 50e6))
	}, NodeTimeout(time.Minute))

	It("ends at once when its process is killed", func(ctx SpecContext) {
		h := start(ctx, "killed", late.Shape{Delay: 50 * time.Millisecond}, hold)
		f := startFlow(b, a)
		f.flows(ctx, 20, time.Now())
		Expect(unix.Kill(h.Ref().PID, unix.SIGKILL)).To(Succeed())
		Eventually(ctx, h.Done()).WithTimeout(10 * time.Second).Should(BeClosed())
		s := measure(ctx, a, 200, time.Millisecond, time.Second, b)
		Expect(s[0].Lost()).To(BeZero())
		Expect(s[0].Quantile(0)).To(BeNumerically("<", 5*time.Millisecond))
	}, NodeTimeout(time.Minute))

	It("ends by its time to live when its process hangs", func(ctx SpecContext) {
		h := start(ctx, "hung", late.Shape{Delay: 20 * time.Millisecond}, 500*time.Millisecond)
		f := startFlow(b, a)
		f.flows(ctx, 20, time.Now())
		Expect(unix.Kill(h.Ref().PID, unix.SIGSTOP)).To(Succeed())
		stopped := time.Now()
		f.flows(ctx, 20, stopped)
		AddReportEntry("late: traffic is back after its process hangs, with a time to live of 500 ms", time.Since(stopped).String())
		s := measure(ctx, a, 200, time.Millisecond, time.Second, b)
		Expect(s[0].Lost()).To(BeZero())
		Expect(s[0].Quantile(0)).To(BeNumerically("<", 5*time.Millisecond))
		Expect(unix.Kill(h.Ref().PID, unix.SIGCONT)).To(Succeed())
	}, NodeTimeout(time.Minute))

	It("adds up with another one, of which one ends", func(ctx SpecContext) {
		x := start(ctx, "first", late.Shape{Delay: 20 * time.Millisecond}, hold)
		start(ctx, "second", late.Shape{Delay: 30 * time.Millisecond}, hold)
		s := measure(ctx, a, 500, time.Millisecond, time.Second, b)
		Expect(s[0].Quantile(0)).To(BeNumerically("~", 50*time.Millisecond, 2*time.Millisecond))
		Expect(x.Stop(ctx)).To(Succeed())
		s = measure(ctx, a, 500, time.Millisecond, time.Second, b)
		Expect(s[0].Quantile(0)).To(BeNumerically("~", 30*time.Millisecond, time.Millisecond))
		Expect(s[0].Lost()).To(BeZero())
	}, NodeTimeout(time.Minute))
})

// transfer sends by TCP for a while, and says how many bits a second arrived.
func transfer(ctx context.Context, from, to *host, d time.Duration) float64 {
	GinkgoHelper()
	var l net.Listener
	Expect(to.do(func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(to.ip, 0).String())
		return err
	})).To(Succeed())
	defer l.Close()
	got := make(chan int64, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			got <- 0
			return
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(d))
		n, _ := io.Copy(io.Discard, conn) // until the deadline
		got <- n
	}()
	conn, err := dial(ctx, from, l.Addr().(*net.TCPAddr).AddrPort(), 2*time.Second)
	Expect(err).NotTo(HaveOccurred())
	defer conn.Close()
	buf := make([]byte, 64<<10)
	conn.SetWriteDeadline(time.Now().Add(d))
	for {
		if _, err := conn.Write(buf); err != nil {
			break
		}
	}
	return float64(<-got) * 8 / d.Seconds()
}
