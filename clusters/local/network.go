package local

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"gameday/clusters"
)

// Clusters are on networks of 254 addresses in this one.
var supernet = netip.MustParsePrefix("10.213.0.0/16")

// Addresses in a cluster's network, by their last byte.
const (
	hostByte         = 1 // this machine
	keeperByte       = 2
	balancerByte     = 3
	controlPlaneByte = 11
)

const (
	bridgeName  = "bridge"
	uplinkName  = "uplink"
	machineLink = "eth0"
)

// hostLink is the name of the link of this machine to a cluster: at most 15 letters.
func hostLink(cluster string) string {
	h := fnv.New32a()
	h.Write([]byte(cluster))
	return fmt.Sprintf("gdl-%08x", h.Sum32())
}

// address of a cluster's network.
func address(subnet netip.Prefix, last int) netip.Addr {
	b := subnet.Addr().As4()
	b[3] = byte(last)
	return netip.AddrFrom4(b)
}

// hardware is the hardware address that goes with an address: locally administered.
func hardware(ip netip.Addr) net.HardwareAddr {
	b := ip.As4()
	return net.HardwareAddr{0x02, 0x67, b[0], b[1], b[2], b[3]}
}

// freeSubnet finds a network that no address and no route of this machine, and no
// other cluster, is in.
func freeSubnet(taken []netip.Prefix) (netip.Prefix, error) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("addresses of this machine: %w", err)
	}
	for _, a := range addrs {
		taken = append(taken, prefixOf(a.IPNet))
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("routes of this machine: %w", err)
	}
	for _, r := range routes {
		if p := prefixOf(r.Dst); p.Bits() > 0 { // the default route leads everywhere
			taken = append(taken, p)
		}
	}
	return firstFree(taken)
}

func firstFree(taken []netip.Prefix) (netip.Prefix, error) {
next:
	for i := range 256 {
		b := supernet.Addr().As4()
		b[2] = byte(i)
		p := netip.PrefixFrom(netip.AddrFrom4(b), 24)
		for _, t := range taken {
			if t.IsValid() && t.Overlaps(p) {
				continue next
			}
		}
		return p, nil
	}
	return netip.Prefix{}, fmt.Errorf("no network of %s is free", supernet)
}

func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	if !ok {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(ip.Unmap(), ones).Masked()
}

// connect gives this machine a link into the keeper's network. It goes with the
// keeper.
func connect(cluster string, subnet netip.Prefix, keeper int) error {
	name := hostLink(cluster)
	link := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: uplinkName, PeerNamespace: netlink.NsPid(keeper),
	}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("make the link %s: %w", name, err)
	}
	// The label of the link, for who wonders what it is.
	alias := netlink.LinkSetAlias(link, clusters.LabelProvider+"="+providerName+" "+labelCluster+"="+cluster)
	return errors.Join(alias, assign(&netlink.Handle{}, link, address(subnet, hostByte), subnet))
}

// disconnect takes the link away at once, where the kernel has not done so yet.
func disconnect(cluster string) error {
	link, err := netlink.LinkByName(hostLink(cluster))
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.As(err, &none) && !errors.Is(err, os.ErrNotExist) {
		if _, again := netlink.LinkByName(hostLink(cluster)); errors.As(again, &none) {
			return nil // it went meanwhile
		}
		return fmt.Errorf("remove the link %s: %w", hostLink(cluster), err)
	}
	return nil
}

// assign gives a link an address and sets it up.
func assign(h *netlink.Handle, link netlink.Link, ip netip.Addr, subnet netip.Prefix) error {
	err := h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(subnet.Bits(), 32)}})
	if err == nil {
		err = h.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("set up %s with %s: %w", link.Attrs().Name, ip, err)
	}
	return nil
}

// up sets up a link that is there.
func up(h *netlink.Handle, name string) (netlink.Link, error) {
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkSetUp(link)
	}
	if err != nil {
		return nil, fmt.Errorf("set up %s: %w", name, err)
	}
	return link, nil
}

// makeBridge makes the bridge in the keeper's namespace, which is this one, with the
// uplink in it.
func makeBridge(subnet netip.Prefix) error {
	h := &netlink.Handle{}
	if _, err := up(h, "lo"); err != nil {
		return err
	}
	own := address(subnet, keeperByte)
	// With an address of its own it does not take that of a port that comes.
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName, HardwareAddr: hardware(own)}}
	if err := h.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make the bridge: %w", err)
	}
	if err := assign(h, bridge, own, subnet); err != nil {
		return err
	}
	uplink, err := up(h, uplinkName)
	if err != nil {
		return err
	}
	return h.LinkSetMaster(uplink, bridge)
}

// plug gives a machine its link: a port of the bridge here, eth0 there.
func plug(ip netip.Addr, subnet netip.Prefix, pid int) (err error) {
	h := &netlink.Handle{}
	bridge, err := h.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("the bridge: %w", err)
	}
	port := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("port%d", ip.As4()[3]), MasterIndex: bridge.Attrs().Index},
		PeerName:  machineLink, PeerNamespace: netlink.NsPid(pid), PeerHardwareAddr: hardware(ip),
	}
	if err := h.LinkAdd(port); err != nil {
		return fmt.Errorf("make the link of %s: %w", ip, err)
	}
	if err := h.LinkSetUp(port); err != nil {
		return fmt.Errorf("set up the port of %s: %w", ip, err)
	}
	return inside(pid, func(h *netlink.Handle) error {
		if _, err := up(h, "lo"); err != nil {
			return err
		}
		link, err := h.LinkByName(machineLink)
		if err != nil {
			return fmt.Errorf("the link of %s: %w", ip, err)
		}
		if err := assign(h, link, ip, subnet); err != nil {
			return err
		}
		return h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: address(subnet, hostByte).AsSlice()})
	})
}

// unplug takes away the port of a machine that has ended, which the kernel does
// later.
func unplug(ip netip.Addr) error {
	link, err := netlink.LinkByName(fmt.Sprintf("port%d", ip.As4()[3]))
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := netlink.LinkDel(link); err != nil {
		if _, again := netlink.LinkByName(link.Attrs().Name); errors.As(again, &none) {
			return nil // the kernel was first
		}
		return fmt.Errorf("remove the port of %s: %w", ip, err)
	}
	return nil
}

// inside does something with a handle to the network of a process.
func inside(pid int, do func(*netlink.Handle) error) (err error) {
	ns, err := netns.GetFromPath(filepath.Join("/proc", fmt.Sprint(pid), "ns/net"))
	if err != nil {
		return fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("look into the network namespace of process %d (needs root): %w", pid, err)
	}
	defer h.Close()
	return do(h)
}
