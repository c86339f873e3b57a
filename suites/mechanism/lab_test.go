package mechanism

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// host is a network namespace on the lab's bridge.
type host struct {
	ns  *os.File
	ip  netip.Addr
	mac net.HardwareAddr
}

// netns is a path of the namespace that other processes can open too.
func (h *host) netns() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.ns.Fd()) }

// do runs f on a thread in the namespace.
func (h *host) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter a network namespace of the lab: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// lab is a bridge with an address, in a namespace of its own (a host with Docker filters bridged traffic in its own), and
// hosts on it, each in its namespace.
type lab struct {
	bridge *host
	hosts  []*host
}

// newLab makes a lab of n hosts. The kernel removes it when its namespaces are closed.
func newLab(ctx SpecContext, n int) *lab {
	GinkgoHelper()
	l := &lab{bridge: newHost()}
	sw := handle(l.bridge)
	// Its address is fixed, or it would change with the ports.
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}}
	Expect(sw.LinkAdd(br)).To(Succeed())
	setUp(sw, l.bridge, "br0", 1)
	for i := range n {
		h := newHost()
		port := fmt.Sprintf("port%d", i)
		Expect(sw.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(h.ns.Fd())),
		})).To(Succeed())
		link, err := sw.LinkByName(port)
		Expect(err).NotTo(HaveOccurred())
		Expect(sw.LinkSetMaster(link, br)).To(Succeed())
		Expect(sw.LinkSetUp(link)).To(Succeed())
		setUp(handle(h), h, "eth0", 10+i)
		l.hosts = append(l.hosts, h)
	}
	// The kernel tells the bridge of a link that came up up to a second later; until then it does not forward.
	for i, h := range l.hosts {
		in := handle(h)
		Eventually(ctx, func() ([]netlink.LinkOperState, error) {
			port, err := sw.LinkByName(fmt.Sprintf("port%d", i))
			if err != nil {
				return nil, err
			}
			end, err := in.LinkByName("eth0")
			if err != nil {
				return nil, err
			}
			return []netlink.LinkOperState{port.Attrs().OperState, end.Attrs().OperState}, nil
		}).WithPolling(5 * time.Millisecond).WithTimeout(10 * time.Second).Should(HaveEach(netlink.LinkOperState(netlink.OperUp)))
	}
	return l
}

func setUp(in *netlink.Handle, h *host, link string, number int) {
	GinkgoHelper()
	dev, err := in.LinkByName(link)
	Expect(err).NotTo(HaveOccurred())
	h.ip = netip.AddrFrom4([4]byte{10, 99, 0, byte(number)})
	h.mac = dev.Attrs().HardwareAddr
	Expect(in.AddrAdd(dev, &netlink.Addr{IPNet: &net.IPNet{IP: h.ip.AsSlice(), Mask: net.CIDRMask(24, 32)}})).To(Succeed())
	Expect(in.LinkSetUp(dev)).To(Succeed())
}

func handle(h *host) *netlink.Handle {
	GinkgoHelper()
	// Only this family: not every kernel has the others that the library would open too.
	in, err := netlink.NewHandleAt(netns.NsHandle(h.ns.Fd()), unix.NETLINK_ROUTE)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(in.Close)
	return in
}

func newHost() *host {
	GinkgoHelper()
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
	Expect(r.err).NotTo(HaveOccurred(), "make a network namespace")
	DeferCleanup(r.ns.Close)
	return &host{ns: r.ns}
}
