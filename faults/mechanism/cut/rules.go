package cut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ruleSet collects the set of what is cut and the chain that looks into it.
type ruleSet func(*nftables.Conn, *nftables.Table) (*nftables.Set, *nftables.Chain, error)

// pairRules drop frames between pairs of hardware addresses: all of them, or with a port only TCP to or from that.
func pairRules(port uint16) ruleSet {
	return func(c *nftables.Conn, t *nftables.Table) (*nftables.Set, *nftables.Chain, error) {
		set, err := addSet(c, t, "pairs", nftables.TypeEtherAddr, nftables.TypeEtherAddr)
		if err != nil {
			return nil, nil, err
		}
		// ether saddr . ether daddr @pairs counter drop
		drop := []expr.Any{
			&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: macLen},
			// Each part of a key begins at a register of 4 bytes.
			&expr.Payload{DestRegister: unix.NFT_REG32_02, Base: expr.PayloadBaseLLHeader, Offset: 0, Len: macLen},
			&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: set.Name, SetID: set.ID},
			&expr.Counter{},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}
		if port == 0 {
			return set, addChain(c, t, drop), nil
		}
		return set, addChain(c, t, slices.Concat(tcpPort(sourcePort, port), drop), slices.Concat(tcpPort(destinationPort, port), drop)), nil
	}
}

// Offsets in a TCP header: RFC 9293 section 3.1.
const (
	sourcePort      = 0
	destinationPort = 2
)

// tcpPort matches meta l4proto tcp, th sport or dport.
func tcpPort(offset uint32, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// connectionRules drop the segments of single TCP connections over IPv4.
func connectionRules(c *nftables.Conn, t *nftables.Table) (*nftables.Set, *nftables.Chain, error) {
	set, err := addSet(c, t, "connections", nftables.TypeIPAddr, nftables.TypeInetService, nftables.TypeIPAddr, nftables.TypeInetService)
	if err != nil {
		return nil, nil, err
	}
	// ether type ip meta l4proto tcp ip saddr . tcp sport . ip daddr . tcp dport @connections counter drop
	return set, addChain(c, t, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(unix.ETH_P_IP)},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Payload{DestRegister: unix.NFT_REG32_01, Base: expr.PayloadBaseTransportHeader, Offset: sourcePort, Len: 2},
		&expr.Payload{DestRegister: unix.NFT_REG32_02, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Payload{DestRegister: unix.NFT_REG32_03, Base: expr.PayloadBaseTransportHeader, Offset: destinationPort, Len: 2},
		&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: set.Name, SetID: set.ID},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}), nil
}

func addSet(c *nftables.Conn, t *nftables.Table, name string, parts ...nftables.SetDatatype) (*nftables.Set, error) {
	key, err := nftables.ConcatSetType(parts...)
	if err != nil {
		return nil, fmt.Errorf("type of the %s: %w", name, err)
	}
	set := &nftables.Set{
		Table: t, Name: name, KeyType: key, Concatenation: true, HasTimeout: true,
		ID: 1, // else the library counts in a variable that all connections share without a lock
	}
	if err := c.AddSet(set, nil); err != nil {
		return nil, fmt.Errorf("set of %s: %w", name, err)
	}
	return set, nil
}

// addChain collects the chain: what lets neighbours know each other, then the rules that drop.
func addChain(c *nftables.Conn, t *nftables.Table, drops ...[]expr.Any) *nftables.Chain {
	chain := c.AddChain(&nftables.Chain{
		Table: t, Name: "forward", Type: nftables.ChainTypeFilter,
		// Forward sees what goes from one port to another, not what is for the bridge's own host. Before br_netfilter
		// (NF_BR_PRI_BRNF, 0), so that no iptables rule of the host sees a frame that was never delivered.
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(-300),
	})
	rules := append([][]expr.Any{
		// ether type arp accept
		{
			&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(unix.ETH_P_ARP)},
			&expr.Verdict{Kind: expr.VerdictAccept},
		},
		// ether type ip6 meta l4proto ipv6-icmp icmpv6 type 133-137 accept: neighbour discovery, RFC 4861 section 4
		{
			&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(unix.ETH_P_IPV6)},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_ICMPV6}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
			&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{133}},
			&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{137}},
			&expr.Verdict{Kind: expr.VerdictAccept},
		},
	}, drops...)
	for _, exprs := range rules {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: exprs})
	}
	return chain
}

const (
	// macLen is the length of an Ethernet address.
	macLen = 6
	// partLen is the length of an Ethernet address in a key, in whole registers.
	partLen = 8
	// elementsPerMessage keeps a message's list of elements (about 50 bytes each) below the 64 KiB that an attribute holds.
	elementsPerMessage = 512
)

// keysOf returns each pair once, as the set has it.
func keysOf(pairs []Pair) ([][]byte, error) {
	var errs []error
	var keys [][]byte
	seen := map[[2 * partLen]byte]bool{}
	for _, p := range pairs {
		if len(p.Src) != macLen || len(p.Dst) != macLen {
			errs = append(errs, fmt.Errorf("pair %q: both must be Ethernet addresses of %d bytes", p, macLen))
			continue
		}
		var key [2 * partLen]byte
		copy(key[:], p.Src)
		copy(key[partLen:], p.Dst)
		if !seen[key] {
			seen[key] = true
			keys = append(keys, key[:])
		}
	}
	return keys, errors.Join(errs...)
}

// keysOfConnections returns both directions of each connection, as the set has them.
func keysOfConnections(conns []Connection) ([][]byte, error) {
	var errs []error
	var keys [][]byte
	seen := map[Connection]bool{}
	for _, c := range conns {
		if !c.A.Addr().Is4() || !c.B.Addr().Is4() {
			errs = append(errs, fmt.Errorf("connection %s: only those over IPv4 can be cut", c))
			continue
		}
		for _, d := range []Connection{c, {A: c.B, B: c.A}} {
			if seen[d] {
				continue
			}
			seen[d] = true
			var key []byte
			for _, end := range []netip.AddrPort{d.A, d.B} {
				key = append(key, end.Addr().AsSlice()...)
				key = append(binary.BigEndian.AppendUint16(key, end.Port()), 0, 0)
			}
			keys = append(keys, key)
		}
	}
	return keys, errors.Join(errs...)
}

func checkTTL(ttl time.Duration) error {
	if ttl < time.Millisecond { // which the kernel would take for "no timeout"
		return fmt.Errorf("time to live of a cut: %v is shorter than a millisecond", ttl)
	}
	return nil
}

func addElements(c *nftables.Conn, set *nftables.Set, keys [][]byte, ttl time.Duration) error {
	for part := range slices.Chunk(keys, elementsPerMessage) {
		if err := c.SetAddElements(set, elements(part, ttl)); err != nil {
			return fmt.Errorf("pairs of a cut: %w", err)
		}
	}
	return nil
}

func elements(keys [][]byte, ttl time.Duration) []nftables.SetElement {
	var list []nftables.SetElement
	for _, k := range keys {
		list = append(list, nftables.SetElement{Key: k, Timeout: ttl})
	}
	return list
}
