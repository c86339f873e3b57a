package mechanism

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"gameday/faults/mechanism/cut"
	"gameday/faults/mechanism/intake"

	"golang.org/x/sys/unix"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// many is how many targets are hit at once.
const many = 50

var _ = Describe("cut, of a part of what is sent", func() {
	var l *lab
	var a, b, c *host

	BeforeEach(func(ctx SpecContext) {
		l = newLab(ctx, 3)
		a, b, c = l.hosts[0], l.hosts[1], l.hosts[2]
	}, NodeTimeout(30*time.Second))

	It("cuts one port, both ways, and no other", func(ctx SpecContext) {
		peer, client := serve(b, netip.AddrPortFrom(b.ip, 2380).String()), serve(b, netip.AddrPortFrom(b.ip, 2379).String())
		old, err := dial(ctx, a, peer, time.Second)
		Expect(err).NotTo(HaveOccurred())
		defer old.Close()
		x, err := cut.OpenPort("port", l.bridge.netns(), 2380)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(x.Close)
		f := startFlow(a, b)
		f.flows(ctx, 20, time.Now())
		on := time.Now()
		Expect(x.Set(bothWays(a, b), hold)).To(Succeed())
		AddReportEntry("cut: Set of a port", time.Since(on).String())

		_, err = dial(ctx, a, peer, 300*time.Millisecond)
		Expect(timedOut(err)).To(BeTrue(), "got %v", err)
		Expect(timedOut(echoed(old, 300*time.Millisecond))).To(BeTrue())
		for name, way := range map[string]struct {
			from *host
			to   netip.AddrPort
		}{"another port": {a, client}, "another host": {c, peer}} {
			conn, err := dial(ctx, way.from, way.to, time.Second)
			Expect(err).NotTo(HaveOccurred(), name)
			Expect(echoed(conn, time.Second)).To(Succeed(), name)
			Expect(conn.Close()).To(Succeed())
		}
		off := time.Now()
		f.sends(ctx, 5)
		n := f.between(on, off)
		Expect(n.echoed).To(Equal(n.sent), "other protocols pass")
		dropped, err := x.Counters()
		Expect(err).NotTo(HaveOccurred())
		Expect(dropped.Frames).To(BeNumerically(">=", 2))
		Expect(x.Close()).To(Succeed())
		conn, err := dial(ctx, a, peer, time.Second)
		Expect(err).NotTo(HaveOccurred())
		Expect(conn.Close()).To(Succeed())
	}, NodeTimeout(time.Minute))

	It("lets single connections go dead without a reset, while new ones pass", func(ctx SpecContext) {
		server := serve(b, netip.AddrPortFrom(b.ip, 6443).String())
		var conns []net.Conn
		for range 2 {
			conn, err := dial(ctx, a, server, time.Second)
			Expect(err).NotTo(HaveOccurred())
			defer conn.Close()
			Expect(echoed(conn, time.Second)).To(Succeed())
			conns = append(conns, conn)
		}
		x, err := cut.OpenConnections("connections", l.bridge.netns())
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(x.Close)
		dead := cut.Connection{A: conns[0].LocalAddr().(*net.TCPAddr).AddrPort(), B: server}
		Expect(x.SetConnections([]cut.Connection{dead}, hold)).To(Succeed())
		Expect(timedOut(echoed(conns[0], 500*time.Millisecond))).To(BeTrue())
		Expect(echoed(conns[1], time.Second)).To(Succeed(), "another one between the same hosts")
		fresh, err := dial(ctx, a, server, time.Second)
		Expect(err).NotTo(HaveOccurred())
		Expect(echoed(fresh, time.Second)).To(Succeed())
		Expect(fresh.Close()).To(Succeed())
		Expect(x.Close()).To(Succeed())
		Expect(conns[0].SetDeadline(time.Now().Add(20 * time.Second))).To(Succeed())
		_, err = conns[0].Read(make([]byte, 1))
		Expect(err).NotTo(HaveOccurred(), "it goes on afterwards")
	}, NodeTimeout(time.Minute))
})

var _ = Describe("many targets", func() {
	It("are hit at once", func(ctx SpecContext) {
		l := newLab(ctx, many+1)
		peer := l.hosts[many]
		f := startFlow(l.hosts[0], peer)
		f.flows(ctx, 20, time.Now())
		var pairs []cut.Pair
		for _, h := range l.hosts[:many] {
			pairs = append(pairs, bothWays(h, peer)...)
		}
		began := time.Now()
		x, err := cut.Open("many-targets", l.bridge.netns())
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(x.Close)
		Expect(x.Set(pairs, hold)).To(Succeed())
		on := time.Now()
		f.sends(ctx, 100)
		Expect(f.since(on).arrived).To(BeZero())
		Expect(x.Close()).To(Succeed())
		AddReportEntry(fmt.Sprintf("cut: %d targets", many), on.Sub(began).String())

		began = time.Now()
		for _, h := range l.hosts[:many] {
			in, err := intake.Open("many-targets", h.netns())
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(in.Close)
			Expect(in.Set(from(intake.Rule{Lose: 1}, peer), hold)).To(Succeed())
		}
		took := time.Since(began)
		AddReportEntry(fmt.Sprintf("intake: %d targets", many), took.String())
		Expect(took).To(BeNumerically("<", time.Second))
		for _, i := range []int{0, many - 1} {
			s := measure(ctx, l.hosts[i], 100, time.Millisecond, 100*time.Millisecond, peer)
			Expect(s[0].Lost()).To(BeNumerically("==", 1))
		}
	}, NodeTimeout(2*time.Minute))
})

// BenchmarkCut is what one change of a partition of a node from five others costs.
func BenchmarkCut(b *testing.B) {
	x, err := cut.Open("bench", scratch(b))
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	var pairs []cut.Pair
	for i := range 10 {
		pairs = append(pairs, cut.Pair{Src: net.HardwareAddr{2, 0, 0, 0, 0, byte(i)}, Dst: net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}})
	}
	for b.Loop() {
		if err := x.Set(pairs, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIntake is what one change of a loss costs.
func BenchmarkIntake(b *testing.B) {
	x, err := intake.Open("bench", scratch(b))
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	for b.Loop() {
		if err := x.Set([]intake.Rule{{From: []net.HardwareAddr{{2, 0, 0, 0, 0, 1}}, Lose: 0.1}}, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}

// scratch is a network namespace for a benchmark.
func scratch(b *testing.B) string {
	b.Helper()
	type result struct {
		ns  *os.File
		err error
	}
	made := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{nil, err}
			return
		}
		ns, err := os.Open("/proc/thread-self/ns/net")
		made <- result{ns, err}
	}()
	r := <-made
	if r.err != nil {
		b.Skipf("needs root: %v", r.err)
	}
	b.Cleanup(func() { r.ns.Close() })
	return (&host{ns: r.ns}).netns()
}
