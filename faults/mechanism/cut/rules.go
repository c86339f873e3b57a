package cut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// flagOwner is NFT_TABLE_F_OWNER: linux include/uapi/linux/netfilter/nf_tables.h, since 5.12.
const flagOwner = 0x2

// createTable makes a new table at once. It is written by hand because nftables.AddTable drops the flags (v0.3.0), and sent
// on the same socket because that becomes the owner.
func (c *conn) createTable(t *nftables.Table, flags uint32) error {
	header := func(family byte, resource uint16) []byte {
		return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
	}
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: append([]byte(t.Name), 0)},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binaryutil.BigEndian.PutUint32(flags)},
	})
	if err != nil {
		return err
	}
	if err := c.begin(); err != nil {
		return err
	}
	_, err = c.nl.SendMessages([]netlink.Message{
		{
			Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request},
			Data:   header(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
		}, {
			Header: netlink.Header{
				Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE,
				Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Excl,
			},
			Data: append(header(byte(t.Family), 0), attrs...),
		}, {
			Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request},
			Data:   header(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
		},
	})
	if err != nil {
		return err
	}
	_, err = c.nl.Receive()
	return err
}

// addRules collects the set of pairs and the chain that looks into it.
func addRules(c *nftables.Conn, t *nftables.Table) (*nftables.Set, *nftables.Chain, error) {
	pair, err := nftables.ConcatSetType(nftables.TypeEtherAddr, nftables.TypeEtherAddr)
	if err != nil {
		return nil, nil, fmt.Errorf("type of a pair: %w", err)
	}
	set := &nftables.Set{
		Table: t, Name: "pairs", KeyType: pair, Concatenation: true, HasTimeout: true,
		ID: 1, // else the library counts in a variable that all connections share without a lock
	}
	if err := c.AddSet(set, nil); err != nil {
		return nil, nil, fmt.Errorf("set of pairs: %w", err)
	}
	chain := c.AddChain(&nftables.Chain{
		Table: t, Name: "forward", Type: nftables.ChainTypeFilter,
		// Forward sees what goes from one port to another, not what is for the bridge's own host. Before br_netfilter
		// (NF_BR_PRI_BRNF, 0), so that no iptables rule of the host sees a frame that was never delivered.
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(-300),
	})
	for _, exprs := range [][]expr.Any{
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
		// ether saddr . ether daddr @pairs counter drop
		{
			&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: macLen},
			// Each part of a key begins at a register of 4 bytes.
			&expr.Payload{DestRegister: unix.NFT_REG32_02, Base: expr.PayloadBaseLLHeader, Offset: 0, Len: macLen},
			&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: set.Name, SetID: set.ID},
			&expr.Counter{},
			&expr.Verdict{Kind: expr.VerdictDrop},
		},
	} {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: exprs})
	}
	return set, chain, nil
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
