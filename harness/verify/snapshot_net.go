package verify

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"gameday/clusters"
)

// nftLines are the tables of a network namespace (empty: this process's) that are
// wanted, with their chains that hook into the kernel and how many rules they hold.
// kube-proxy writes its rules into chains of its own, in any order.
func nftLines(ns, where string, want func(table string) bool, s Snapshot) (err error) {
	var opts []nftables.ConnOption
	if ns != "" {
		f, err := os.Open(ns)
		if err != nil {
			return err
		}
		defer f.Close()
		opts = append(opts, nftables.WithNetNSFd(int(f.Fd())))
	}
	c, err := nftables.New(opts...)
	if err != nil {
		return errPart("nftables", err)
	}
	tables, err := c.ListTables()
	if err != nil {
		return errPart("nftables", err)
	}
	for _, t := range tables {
		if want == nil || want(t.Name) {
			s.add(where, "nftables %s %s", family(t.Family), t.Name)
		}
	}
	chains, err := c.ListChains()
	if err != nil {
		return errPart("nftables", err)
	}
	for _, ch := range chains {
		if ch.Type == "" || want != nil && !want(ch.Table.Name) {
			continue // not hooked
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return errPart("nftables", err)
		}
		s.add(where, "nftables %s %s chain %s of %d rules", family(ch.Table.Family), ch.Table.Name, ch.Name, len(rules))
	}
	return nil
}

func family(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyINet:
		return "inet"
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyARP:
		return "arp"
	case nftables.TableFamilyNetdev:
		return "netdev"
	case nftables.TableFamilyBridge:
		return "bridge"
	}
	return fmt.Sprint(f)
}

// netLines are the interfaces, queues, filters, routes and rules of a node. The
// ends of pods' links come and go with them.
func netLines(l clusters.Link, where string, s Snapshot) (err error) {
	ns, err := netns.GetFromPath(l.NetNS)
	if err != nil {
		return errPart("network namespace", err)
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return errPart("network namespace", err)
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return errPart("interfaces", err)
	}
	names := map[int]string{}
	for _, link := range links {
		a := link.Attrs()
		if strings.HasPrefix(a.Name, "veth") {
			continue
		}
		names[a.Index] = a.Name
		s.add(where, "interface %s up=%v mtu=%d", a.Name, a.OperState != netlink.OperDown, a.MTU)
		if err := linkLines(h, link, where, a.Name, s); err != nil {
			return err
		}
	}
	routes, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return errPart("routes", err)
	}
	for _, r := range routes {
		if name, ok := names[r.LinkIndex]; ok || r.LinkIndex == 0 {
			s.add(where, "route %v via %v dev %s table %d type %d", r.Dst, r.Gw, name, r.Table, r.Type)
		}
	}
	rules, err := h.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return errPart("routing rules", err)
	}
	for _, r := range rules {
		s.add(where, "%s", r)
	}
	return nil
}

// linkLines are what is hung on an interface.
func linkLines(h *netlink.Handle, link netlink.Link, where, name string, s Snapshot) error {
	queues, err := h.QdiscList(link)
	if err != nil {
		return errPart("queues of "+name, err)
	}
	for _, q := range queues {
		s.add(where, "queue %s on %s parent %x", q.Type(), name, q.Attrs().Parent)
		if q.Type() != "clsact" && q.Type() != "ingress" {
			continue
		}
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS, q.Attrs().Handle} {
			filters, err := h.FilterList(link, parent)
			if err != nil {
				return errPart("filters of "+name, err)
			}
			for _, f := range filters {
				s.add(where, "filter %s on %s parent %x", f.Type(), name, parent)
			}
		}
	}
	return nil
}

// peerLines are what hangs on this machine's end of a node's link.
func peerLines(l clusters.Link, where string, s Snapshot) (err error) {
	ns, err := netns.GetFromPath(l.NetNS)
	if err != nil {
		return errPart("network namespace", err)
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return errPart("network namespace", err)
	}
	defer inside.Close()
	link, err := inside.LinkByName(l.Interface)
	if err != nil {
		return errPart(l.Interface, err)
	}
	bridge, err := netns.Get()
	if l.BridgeNetNS != "" {
		bridge, err = netns.GetFromPath(l.BridgeNetNS)
	}
	if err != nil {
		return errPart("network namespace of the bridge", err)
	}
	defer func() { err = errors.Join(err, bridge.Close()) }()
	outside, err := netlink.NewHandleAt(bridge)
	if err != nil {
		return errPart("network namespace of the bridge", err)
	}
	defer outside.Close()
	peer, err := outside.LinkByIndex(link.Attrs().ParentIndex)
	if err != nil {
		return errPart("this machine's end of the link", err)
	}
	s.add(where, "link up=%v mtu=%d bridged=%v", peer.Attrs().OperState != netlink.OperDown, peer.Attrs().MTU, peer.Attrs().MasterIndex != 0)
	return linkLines(outside, peer, where, "its end of the link", s)
}
