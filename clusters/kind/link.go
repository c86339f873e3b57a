package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"gameday/clusters"
)

// Link implements clusters.Network. What the kernel says is read each time; only
// the MAC address comes from Docker, which gave it.
func (n *localNode) Link(ctx context.Context) (_ clusters.Link, err error) {
	s, err := n.current(ctx)
	if err != nil {
		return clusters.Link{}, err
	}
	l := clusters.Link{NetNS: fmt.Sprintf("/proc/%d/ns/net", s.pid)}
	ns, err := netns.GetFromPath(l.NetNS)
	if err != nil {
		return l, fmt.Errorf("%s: its network namespace: %w", n.name, err)
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return l, fmt.Errorf("%s: looking into its network namespace (needs root): %w", n.name, err)
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return l, fmt.Errorf("%s: listing its interfaces: %w", n.name, err)
	}
	for _, link := range links {
		a := link.Attrs()
		if !bytes.Equal(a.HardwareAddr, s.mac) {
			continue
		}
		l.Interface, l.MAC = a.Name, a.HardwareAddr
		addrs, err := h.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return l, fmt.Errorf("%s: addresses of %s: %w", n.name, a.Name, err)
		}
		for _, addr := range addrs {
			if ip, ok := netip.AddrFromSlice(addr.IP); ok && !ip.Unmap().IsLinkLocalUnicast() {
				l.IPs = append(l.IPs, ip.Unmap())
			}
		}
		return l, nil
	}
	return l, fmt.Errorf("%s: none of its interfaces has the address %s that Docker gave it", n.name, s.mac)
}
