package mechanism

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"gameday/faults/mechanism/intake"
	"gameday/faults/mechanism/reach"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// from is a rule about what hosts send.
func from(r intake.Rule, hosts ...*host) []intake.Rule {
	for _, h := range hosts {
		r.From = append(r.From, h.mac)
	}
	return []intake.Rule{r}
}

// measure sends n probes from one host to others.
func measure(ctx context.Context, at *host, n int, every, wait time.Duration, to ...*host) []reach.Series {
	GinkgoHelper()
	var addrs []netip.Addr
	for _, h := range to {
		addrs = append(addrs, h.ip)
	}
	s, err := reach.Measure(ctx, at.netns(), addrs, n, every, wait)
	Expect(err).NotTo(HaveOccurred())
	return s
}

// serve echoes TCP in a host's namespace.
func serve(h *host, address string) netip.AddrPort {
	GinkgoHelper()
	var l net.Listener
	Expect(h.do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})).To(Succeed())
	DeferCleanup(l.Close)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b := make([]byte, 1)
				for {
					if _, err := conn.Read(b); err != nil {
						return
					}
					if _, err := conn.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// dial opens a connection from inside a host's namespace.
func dial(ctx context.Context, h *host, to netip.AddrPort, limit time.Duration) (conn net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = h.do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", to.String())
		return err
	})
	return conn, err
}

// echoed sends a byte and wants it back.
func echoed(conn net.Conn, limit time.Duration) error {
	b := []byte{'x'}
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	_, err := conn.Write(b)
	if err == nil {
		_, err = conn.Read(b)
	}
	return err
}

func timedOut(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

var _ = Describe("intake", func() {
	var l *lab
	var a, b, c *host

	BeforeEach(func(ctx SpecContext) {
		l = newLab(ctx, 3)
		a, b, c = l.hosts[0], l.hosts[1], l.hosts[2]
	}, NodeTimeout(30*time.Second))

	open := func(tag string, h *host) *intake.Intake {
		GinkgoHelper()
		x, err := intake.Open(tag, h.netns())
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(x.Close)
		Expect(x.Owned()).To(BeTrue(), "the kernel is to remove the table with its owner (Linux 5.12+)")
		return x
	}

	DescribeTable("loses the part of the packets that was asked for, and nobody else's",
		func(ctx SpecContext, part float64) {
			x := open("loss", a)
			began := time.Now()
			Expect(x.Set(from(intake.Rule{Lose: part}, b), hold)).To(Succeed())
			applied := time.Since(began)
			// The answers of b are lost at a.
			s := measure(ctx, a, 20000, 200*time.Microsecond, 200*time.Millisecond, b, c)
			AddReportEntry(fmt.Sprintf("intake: loss of %.0f %%", part*100), fmt.Sprintf("seen %.2f %% of %d, bystander %.2f %%, applied in %v", s[0].Lost()*100, s[0].Sent, s[1].Lost()*100, applied))
			Expect(s[0].Lost()).To(BeNumerically("~", part, 0.005+part*0.02))
			Expect(s[1].Lost()).To(BeZero())
			Expect(x.Close()).To(Succeed())
			s = measure(ctx, a, 1000, 200*time.Microsecond, 200*time.Millisecond, b)
			Expect(s[0].Lost()).To(BeZero())
		},
		Entry("1 %", 0.01, NodeTimeout(time.Minute)),
		Entry("10 %", 0.1, NodeTimeout(time.Minute)),
		Entry("30 %", 0.3, NodeTimeout(time.Minute)),
	)

	It("cuts a port on the loopback interface, for new and old connections, in silence, and no other port or way", func(ctx SpecContext) {
		lo, err := handle(a).LinkByName("lo")
		Expect(err).NotTo(HaveOccurred())
		Expect(handle(a).LinkSetUp(lo)).To(Succeed())
		server, other := serve(a, "0.0.0.0:2379"), serve(a, "127.0.0.1:0")
		inside := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), server.Port())
		old, err := dial(ctx, a, inside, time.Second)
		Expect(err).NotTo(HaveOccurred())
		defer old.Close()
		Expect(echoed(old, time.Second)).To(Succeed())

		x := open("loopback", a)
		Expect(x.Set([]intake.Rule{{Loopback: server.Port(), Lose: 1}}, hold)).To(Succeed())
		_, err = dial(ctx, a, inside, 300*time.Millisecond)
		Expect(timedOut(err)).To(BeTrue(), "got %v", err)
		Expect(timedOut(echoed(old, 300*time.Millisecond))).To(BeTrue())
		for way, to := range map[string]netip.AddrPort{"another port": other, "from outside": netip.AddrPortFrom(a.ip, server.Port())} {
			h := a
			if way == "from outside" {
				h = b
			}
			conn, err := dial(ctx, h, to, time.Second)
			Expect(err).NotTo(HaveOccurred(), way)
			Expect(errors.Join(echoed(conn, time.Second), conn.Close())).To(Succeed(), way)
		}

		Expect(x.Close()).To(Succeed())
		conn, err := dial(ctx, a, inside, time.Second)
		Expect(err).NotTo(HaveOccurred())
		Expect(errors.Join(echoed(conn, time.Second), conn.Close())).To(Succeed())
		Expect(old.SetDeadline(time.Now().Add(10 * time.Second))).To(Succeed())
		_, err = old.Read(make([]byte, 1))
		Expect(err).NotTo(HaveOccurred(), "the old connection goes on")
	}, NodeTimeout(time.Minute))

	It("loses answers of a service only", func(ctx SpecContext) {
		dns, other := serve(b, netip.AddrPortFrom(b.ip, 53).String()), serve(b, netip.AddrPortFrom(b.ip, 54).String())
		x := open("answers", a)
		Expect(x.Set([]intake.Rule{{AnswersOf: dns, Lose: 1}}, hold)).To(Succeed())
		_, err := dial(ctx, a, dns, 300*time.Millisecond)
		Expect(timedOut(err)).To(BeTrue(), "got %v", err)
		for _, way := range []struct {
			from *host
			to   netip.AddrPort
		}{{a, other}, {c, dns}} {
			conn, err := dial(ctx, way.from, way.to, time.Second)
			Expect(err).NotTo(HaveOccurred())
			Expect(errors.Join(echoed(conn, time.Second), conn.Close())).To(Succeed())
		}
		Expect(x.Set([]intake.Rule{{AnswersOf: other, Lose: 1}}, hold)).To(Succeed())
		conn, err := dial(ctx, a, dns, time.Second)
		Expect(err).NotTo(HaveOccurred(), "other rules in the place of those before")
		Expect(conn.Close()).To(Succeed())
		_, err = dial(ctx, a, other, 300*time.Millisecond)
		Expect(timedOut(err)).To(BeTrue(), "got %v", err)
	}, NodeTimeout(time.Minute))

	It("combines: one of two on a host is lifted, the other holds", func(ctx SpecContext) {
		x, y := open("first", a), open("second", a)
		Expect(x.Set(from(intake.Rule{Lose: 1}, b, c), hold)).To(Succeed())
		Expect(y.Set(from(intake.Rule{Lose: 1}, b), hold)).To(Succeed())
		Expect(x.Close()).To(Succeed())
		s := measure(ctx, a, 200, time.Millisecond, 100*time.Millisecond, b, c)
		Expect([]float64{s[0].Lost(), s[1].Lost()}).To(Equal([]float64{1, 0}))
		Expect(y.Close()).To(Succeed())
		s = measure(ctx, a, 200, time.Millisecond, 100*time.Millisecond, b, c)
		Expect([]float64{s[0].Lost(), s[1].Lost()}).To(Equal([]float64{0, 0}))
	}, NodeTimeout(time.Minute))

	It("has no gap while it is refreshed, ends by its time to live, and does not come back", func(ctx SpecContext) {
		x := open("ttl", a)
		f := startFlow(b, a)
		f.flows(ctx, 20, time.Now())
		Expect(x.Set(from(intake.Rule{Lose: 1}, b), hold)).To(Succeed())
		on := time.Now()
		var took figures
		for range 100 {
			t := time.Now()
			Expect(x.Refresh(hold)).To(Succeed())
			took = append(took, time.Since(t))
			f.sends(ctx, 2)
		}
		Expect(f.since(on).arrived).To(BeZero(), "leaked")
		took.report("intake: Refresh")
		Expect(x.Refresh(500 * time.Millisecond)).To(Succeed())
		on = time.Now()
		first := f.flows(ctx, 20, on)
		Expect(first).To(And(BeNumerically(">", 450*time.Millisecond), BeNumerically("<", 2*time.Second)))
		Expect(x.Refresh(hold)).To(MatchError(intake.ErrExpired))
		f.flows(ctx, 20, time.Now())
	}, NodeTimeout(time.Minute))

	It("says what is wrong with a rule", func() {
		x := open("wrong", a)
		for _, r := range []intake.Rule{
			{}, {Lose: 1}, {Loopback: 1}, {Loopback: 1, Lose: 2}, {Loopback: 1, Lose: 1, Queue: 1},
			{Loopback: 1, AnswersOf: netip.MustParseAddrPort("10.0.0.1:53"), Lose: 1},
			{AnswersOf: netip.MustParseAddrPort("[::1]:53"), Lose: 1},
			{From: []net.HardwareAddr{{1}}, Lose: 1},
		} {
			Expect(x.Set([]intake.Rule{r}, hold)).NotTo(Succeed(), "%+v", r)
		}
		Expect(x.Set([]intake.Rule{{Loopback: 1, Lose: 1}}, 0)).NotTo(Succeed())
		Expect(x.Close()).To(Succeed())
		Expect(x.Close()).To(Succeed())
		Expect(x.Set([]intake.Rule{{Loopback: 1, Lose: 1}}, hold)).NotTo(Succeed(), "Set after Close")
	})
})
