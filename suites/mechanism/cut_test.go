package mechanism

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/cut"
	"gameday/faults/mechanism/nft"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// hold is the time to live of cuts that a spec ends by itself.
const hold = time.Minute

// effective is how soon a partition is to begin or end; it takes about a millisecond.
const effective = 50 * time.Millisecond

func bothWays(a, b *host) []cut.Pair {
	return []cut.Pair{{Src: a.mac, Dst: b.mac}, {Src: b.mac, Dst: a.mac}}
}
func oneWay(from, to *host) []cut.Pair { return []cut.Pair{{Src: from.mac, Dst: to.mac}} }

var _ = Describe("cut", func() {
	var l *lab
	var a, b, c *host

	BeforeEach(func(ctx SpecContext) {
		l = newLab(ctx, 3)
		a, b, c = l.hosts[0], l.hosts[1], l.hosts[2]
	}, NodeTimeout(30*time.Second))

	open := func(tag string) *cut.Cut {
		GinkgoHelper()
		x, err := cut.Open(tag, l.bridge.netns())
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(x.Close)
		return x
	}
	// flowing starts a flow and waits until it flows.
	flowing := func(ctx SpecContext, from, to *host) *flow {
		GinkgoHelper()
		f := startFlow(from, to)
		f.flows(ctx, 20, time.Now())
		return f
	}

	It("lets nothing through in either direction, and everything elsewhere", func(ctx SpecContext) {
		x := open("both")
		Expect(x.Owned()).To(BeTrue(), "the kernel is to remove the table with its owner (Linux 5.12+)")
		there, back := flowing(ctx, a, b), flowing(ctx, b, a)
		bystander, bridge := flowing(ctx, c, b), flowing(ctx, a, l.bridge)
		began := time.Now()
		var apply, heal figures
		for range 5 {
			call := time.Now()
			// The bridge's own host is never cut off, even if it is named.
			Expect(x.Set(append(bothWays(a, b), bothWays(a, l.bridge)...), hold)).To(Succeed())
			on := time.Now()
			there.sends(ctx, 300)
			back.sends(ctx, 300)
			Expect(there.since(on).arrived).To(BeZero(), "leaked from a to b")
			Expect(back.since(on).arrived).To(BeZero(), "leaked from b to a")
			dropped, err := x.Counters()
			Expect(err).NotTo(HaveOccurred())
			Expect(dropped.Frames).To(BeNumerically(">=", 500))
			apply = append(apply, on.Sub(call))

			call = time.Now()
			Expect(x.Clear()).To(Succeed())
			heal = append(heal, there.flows(ctx, 20, call), back.flows(ctx, 20, call))
		}
		end := time.Now()
		there.sends(ctx, 5) // until answers to the last packets of the interval are in
		for name, f := range map[string]*flow{"c to b": bystander, "a to the bridge's host": bridge} {
			n := f.between(began, end)
			Expect(n.arrived).To(Equal(n.sent), name)
			Expect(n.echoed).To(Equal(n.sent), name)
		}
		apply.report("cut: Set returns")
		heal.report("cut: first packet back after the call of Clear")
		Expect(apply.median()).To(BeNumerically("<", effective))
		Expect(heal.median()).To(BeNumerically("<", effective))
	}, NodeTimeout(time.Minute))

	It("cuts one direction only", func(ctx SpecContext) {
		x := open("one-way")
		f := flowing(ctx, a, b)
		Expect(x.Set(oneWay(b, a), hold)).To(Succeed())
		on := time.Now()
		f.sends(ctx, 300)
		off := time.Now()
		f.sends(ctx, 5)
		n := f.between(on, off)
		Expect(n.arrived).To(Equal(n.sent), "the requests pass")
		Expect(n.echoed).To(BeZero(), "the answers do not")

		reverse := startFlow(b, a)
		Expect(x.Set(oneWay(a, b), hold)).To(Succeed())
		on = time.Now()
		f.sends(ctx, 300)
		Expect(f.since(on).arrived).To(BeZero(), "now the requests do not")
		off = time.Now()
		reverse.sends(ctx, 5)
		n = reverse.between(on, off)
		Expect(n.arrived).To(Equal(n.sent), "the other way, which was cut before")
		Expect(n.echoed).To(BeZero())
	}, NodeTimeout(time.Minute))

	It("silences an established connection, which goes on after the heal", func(ctx SpecContext) {
		x := open("tcp")
		conn := startConnection(a, b)
		count := func(from time.Time) func() int { return func() int { n, _, _ := conn.after(from); return n } }
		Eventually(ctx, count(time.Now())).WithTimeout(30 * time.Second).Should(BeNumerically(">=", 5))

		Expect(x.Set(bothWays(a, b), hold)).To(Succeed())
		on := time.Now()
		Consistently(ctx, count(on.Add(5*time.Millisecond))).WithTimeout(2 * time.Second).Should(BeZero())
		Expect(x.Clear()).To(Succeed())
		off := time.Now()
		Eventually(ctx, count(off)).WithPolling(time.Millisecond).WithTimeout(30 * time.Second).Should(BeNumerically(">=", 5))
		_, first, err := conn.after(off)
		Expect(err).NotTo(HaveOccurred(), "the connection is the same")
		AddReportEntry("cut: a connection goes on after a cut of 2 s", first.String())
	}, NodeTimeout(time.Minute))

	DescribeTable("keeps neighbours known, so that new connections time out instead of being refused",
		func(ctx SpecContext, family int, address func(*host) netip.Addr) {
			x := open("neighbours")
			peer := address(b)
			dial := func(limit time.Duration) error {
				short, cancel := context.WithTimeout(ctx, limit)
				defer cancel()
				return a.do(func() error {
					// A zone is looked up in the namespace of the thread, so the dialer must not leave it.
					conn, err := new(net.Dialer).DialContext(short, "tcp", netip.AddrPortFrom(peer, 80).String())
					return errors.Join(err, closeAll(conn))
				})
			}
			// Nobody listens there, and the peer says so. (An IPv6 address is of use only a second or two after it was made.)
			Eventually(ctx, dial).WithArguments(time.Second).WithTimeout(20 * time.Second).Should(MatchError(unix.ECONNREFUSED))
			Expect(x.Set(bothWays(a, b), hold)).To(Succeed())

			// As if the entry had expired in a long partition.
			in := handle(a)
			entry := func() (found netlink.Neigh) {
				GinkgoHelper()
				list, err := in.NeighList(0, family)
				Expect(err).NotTo(HaveOccurred())
				for _, e := range list {
					if e.IP.Equal(net.IP(peer.AsSlice())) {
						found = e
					}
				}
				return found
			}
			known := entry()
			Expect(known.HardwareAddr).To(Equal(b.mac))
			Expect(in.NeighDel(&known)).To(Succeed())
			Expect(entry().HardwareAddr).To(BeEmpty())

			// "No route to host" would come after three lost requests of a second each.
			err := dial(5 * time.Second)
			var timeout net.Error
			Expect(errors.As(err, &timeout) && timeout.Timeout()).To(BeTrue(), "got %v", err)
			Expect(entry().HardwareAddr).To(Equal(b.mac))
			dropped, err := x.Counters()
			Expect(err).NotTo(HaveOccurred())
			Expect(dropped.Frames).To(BeNumerically(">=", 2), "the attempts to connect")
		},
		Entry("IPv4", netlink.FAMILY_V4, func(h *host) netip.Addr { return h.ip }, NodeTimeout(time.Minute)),
		Entry("IPv6", netlink.FAMILY_V6, func(h *host) netip.Addr { return linkLocal(h.mac).WithZone("eth0") }, NodeTimeout(time.Minute)),
	)

	It("combines with other cuts, of which one is lifted", func(ctx SpecContext) {
		x, y := open("first"), open("second")
		ab, ac := flowing(ctx, a, b), flowing(ctx, a, c)
		Expect(x.Set(append(bothWays(a, b), bothWays(a, c)...), hold)).To(Succeed())
		Expect(y.Set(bothWays(a, b), hold)).To(Succeed())
		Expect(x.Close()).To(Succeed())
		off := time.Now()
		ac.flows(ctx, 20, off)
		ab.sends(ctx, 300)
		Expect(ab.since(off).arrived).To(BeZero(), "the second cut holds")
		Expect(y.Close()).To(Succeed())
		ab.flows(ctx, 20, time.Now())
	}, NodeTimeout(time.Minute))

	It("has no gap while it is refreshed or changed", func(ctx SpecContext) {
		x := open("refresh")
		ab, ac := flowing(ctx, a, b), flowing(ctx, a, c)
		Expect(x.Set(bothWays(a, b), hold)).To(Succeed())
		on := time.Now()
		var refresh figures
		for i := range 200 {
			t := time.Now()
			if i%2 == 0 {
				Expect(x.Refresh(hold)).To(Succeed())
			} else {
				Expect(x.Set(append(bothWays(a, b), bothWays(a, c)[:i%3]...), hold)).To(Succeed())
			}
			refresh = append(refresh, time.Since(t))
			ab.sends(ctx, 2)
		}
		n := ab.since(on)
		Expect(n.sent).To(BeNumerically(">=", 400))
		Expect(n.arrived).To(BeZero(), "leaked")
		Expect(x.Set(bothWays(a, b), hold)).To(Succeed())
		ac.flows(ctx, 20, time.Now())
		refresh.report("cut: Refresh or Set of a cut that is on")
	}, NodeTimeout(time.Minute))

	It("ends by its time to live, and is not brought back by a late refresh", func(ctx SpecContext) {
		x := open("ttl")
		f := flowing(ctx, a, b)
		Expect(x.Set(bothWays(a, b), 300*time.Millisecond)).To(Succeed())
		on := time.Now()
		Expect(x.Refresh(600 * time.Millisecond)).To(Succeed())
		first := f.flows(ctx, 20, on)
		Expect(first).To(And(BeNumerically(">", 550*time.Millisecond), BeNumerically("<", 2*time.Second)))
		AddReportEntry("cut: first packet back with a time to live of 600 ms", first.String())
		Expect(x.Refresh(hold)).To(MatchError(cut.ErrExpired))
		off := time.Now()
		f.flows(ctx, 20, off)
		Expect(x.Set(bothWays(a, b), hold)).To(Succeed(), "a new decision makes a new cut")
		on = time.Now()
		f.sends(ctx, 100)
		Expect(f.since(on).arrived).To(BeZero())
	}, NodeTimeout(time.Minute))

	Context("with another process as its owner", func() {
		var owner *child.Process
		var f *flow
		start := func(ctx SpecContext, ttl time.Duration) {
			GinkgoHelper()
			f = flowing(ctx, a, b)
			var err error
			owner, err = child.Start(ctx, child.Command{Name: "cutter", Log: nil, Args: cutterArgs{
				Tag: "owner", NetNS: l.bridge.netns(), Pairs: bothWays(a, b), TTL: ttl,
			}})
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(func(ctx SpecContext) error { return owner.Kill(ctx) }, NodeTimeout(10*time.Second))
		}

		It("ends when that process is killed, and leaves nothing", func(ctx SpecContext) {
			var heal figures
			for range 3 {
				start(ctx, hold)
				on := time.Now()
				f.sends(ctx, 300)
				Expect(f.since(on).arrived).To(BeZero())
				kill := time.Now()
				Expect(owner.Kill(ctx)).To(Succeed())
				heal = append(heal, f.flows(ctx, 20, kill))
				Expect(tables(l.bridge)).To(BeEmpty())
			}
			heal.report("cut: first packet back after SIGKILL of the owner")
			Expect(heal.median()).To(BeNumerically("<", effective))
		}, NodeTimeout(time.Minute))

		It("ends by its time to live when that process hangs, and stays off when it goes on", func(ctx SpecContext) {
			start(ctx, 500*time.Millisecond)
			Expect(owner.Call(ctx, nil, nil)).To(Succeed(), "a refresh")
			on := time.Now()
			Expect(unix.Kill(owner.PID(), unix.SIGSTOP)).To(Succeed())
			first := f.flows(ctx, 20, on)
			Expect(first).To(And(BeNumerically(">", 400*time.Millisecond), BeNumerically("<", 2*time.Second)))
			AddReportEntry("cut: first packet back after SIGSTOP of the owner with a time to live of 500 ms", first.String())
			Expect(unix.Kill(owner.PID(), unix.SIGCONT)).To(Succeed())
			Expect(owner.Call(ctx, nil, nil)).To(MatchError(ContainSubstring(cut.ErrExpired.Error())))
			f.flows(ctx, 20, time.Now())
		}, NodeTimeout(time.Minute))

		It("is refused to others under the same tag, and not swept", func(ctx SpecContext) {
			start(ctx, hold)
			_, err := cut.Open("owner", l.bridge.netns())
			Expect(err).To(MatchError(ContainSubstring("a living process")))
			Expect(cut.Sweep(l.bridge.netns(), "own")).To(ConsistOf(nft.Leftover{Table: "gameday-owner", Held: true}))
			Expect(cut.Sweep(l.bridge.netns(), "other")).To(BeEmpty())
			on := time.Now()
			f.sends(ctx, 100)
			Expect(f.since(on).arrived).To(BeZero(), "the cut is as it was")
		}, NodeTimeout(time.Minute))
	})

	It("sweeps and replaces leftovers without an owner, and nothing that is not ours", func(ctx SpecContext) {
		addTable(l.bridge, "gameday-run1-a")
		addTable(l.bridge, "gameday-run2-a")
		addTable(l.bridge, "filter")
		addTable(l.bridge, "run1-a")
		Expect(cut.Sweep(l.bridge.netns(), "run1-")).To(ConsistOf(nft.Leftover{Table: "gameday-run1-a"}))
		Expect(tables(l.bridge)).To(ConsistOf("gameday-run2-a", "filter", "run1-a"))
		x := open("run2-a")
		Expect(x.Close()).To(Succeed())
		Expect(x.Close()).To(Succeed(), "Close again")
		Expect(x.Set(bothWays(a, b), hold)).NotTo(Succeed(), "Set after Close")
		Expect(tables(l.bridge)).To(ConsistOf("filter", "run1-a"))
	}, NodeTimeout(time.Minute))

	It("takes very many pairs in one transaction", func(ctx SpecContext) {
		x := open("many")
		f := flowing(ctx, a, b)
		var pairs []cut.Pair
		for i := range 5000 {
			mac := func(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, byte(i >> 8), byte(i), last} }
			pairs = append(pairs, cut.Pair{Src: mac(0), Dst: mac(1)})
		}
		t := time.Now()
		Expect(x.Set(append(pairs, bothWays(a, b)...), hold)).To(Succeed())
		on := time.Now()
		AddReportEntry("cut: Set of 5002 pairs", on.Sub(t).String())
		f.sends(ctx, 100)
		Expect(f.since(on).arrived).To(BeZero())
		Expect(x.Refresh(hold)).To(Succeed())
	}, NodeTimeout(time.Minute))
})

// linkLocal is the address that the kernel gives an interface: RFC 4291 appendix A.
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

func closeAll(conn net.Conn) error {
	if conn == nil {
		return nil
	}
	return conn.Close()
}

// tables lists the bridge family's tables in a host's namespace.
func tables(h *host) []string {
	GinkgoHelper()
	conn, err := nftables.New(nftables.WithNetNSFd(int(h.ns.Fd())))
	Expect(err).NotTo(HaveOccurred())
	list, err := conn.ListTablesOfFamily(nftables.TableFamilyBridge)
	Expect(err).NotTo(HaveOccurred())
	var names []string
	for _, t := range list {
		names = append(names, t.Name)
	}
	return names
}

// addTable makes a table that nobody owns.
func addTable(h *host, name string) {
	GinkgoHelper()
	conn, err := nftables.New(nftables.WithNetNSFd(int(h.ns.Fd())))
	Expect(err).NotTo(HaveOccurred())
	conn.AddTable(&nftables.Table{Family: nftables.TableFamilyBridge, Name: name})
	Expect(conn.Flush()).To(Succeed())
}
