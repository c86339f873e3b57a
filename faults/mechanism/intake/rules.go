package intake

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// hook is where in the kernel's way of a packet rules are.
type hook string

const (
	// prerouting sees what comes in, before it is known where to it goes.
	prerouting hook = "prerouting"
	// input sees what is for this namespace, forward what is for somebody behind it, such as a pod.
	input   hook = "input"
	forward hook = "forward"
)

const (
	macLen = 6
	// parts is of how many parts a share of packets is counted.
	parts = 100000
	// ipVersion4 is NFPROTO_IPV4: linux include/uapi/linux/netfilter.h.
	ipVersion4 = 2
	// etherType is ARPHRD_ETHER: linux include/uapi/linux/if_arp.h.
	etherType = 1
	// original and reply are IP_CT_DIR_ORIGINAL and IP_CT_DIR_REPLY: linux
	// include/uapi/linux/netfilter/nf_conntrack_tuple_common.h.
	original, reply = 0, 1
)

// prepare collects the sets and the empty chains.
func (i *Intake) prepare() error {
	t := i.table
	// The numbers are given because the library counts in a variable that all connections share without a lock.
	i.armed = &nftables.Set{Table: t.Table, Name: "armed", KeyType: nftables.TypeInteger, HasTimeout: true, ID: 1}
	i.peers = &nftables.Set{Table: t.Table, Name: "peers", KeyType: nftables.TypeEtherAddr, ID: 2}
	for _, s := range []*nftables.Set{i.armed, i.peers} {
		if err := t.AddSet(s, nil); err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
	}
	i.chains = map[hook]*nftables.Chain{}
	for h, num := range map[hook]*nftables.ChainHook{
		prerouting: nftables.ChainHookPrerouting, input: nftables.ChainHookInput, forward: nftables.ChainHookForward,
	} {
		i.chains[h] = t.AddChain(&nftables.Chain{
			Table: t.Table, Name: string(h), Type: nftables.ChainTypeFilter, Hooknum: num,
			// Before anybody who would answer, count or translate: in prerouting also before defragmentation (-400) and
			// connection tracking (-200), in the others of no matter, since that comes first there.
			Priority: nftables.ChainPriorityRef(-490),
		})
	}
	return nil
}

// armedKey is the one element of the set armed.
const armedKey = 1

func armedFor(ttl time.Duration) []nftables.SetElement {
	return []nftables.SetElement{{Key: binaryutil.NativeEndian.PutUint32(armedKey), Timeout: ttl}}
}

// collect collects what replaces the rules.
func (i *Intake) collect(rules []Rule, ttl time.Duration, native bool) error {
	t := i.table
	for _, c := range i.chains {
		t.FlushChain(c)
	}
	t.FlushSet(i.armed)
	t.FlushSet(i.peers)
	if err := t.SetAddElements(i.armed, armedFor(ttl)); err != nil {
		return err
	}
	var macs []nftables.SetElement
	for _, r := range rules {
		for _, m := range r.From {
			if !slices.ContainsFunc(macs, func(e nftables.SetElement) bool { return net.HardwareAddr(e.Key).String() == m.String() }) {
				macs = append(macs, nftables.SetElement{Key: m})
			}
		}
	}
	if err := t.SetAddElements(i.peers, macs); err != nil {
		return err
	}
	for _, r := range rules {
		for h, ways := range i.which(r) {
			for _, which := range ways {
				exprs := slices.Concat(i.ifArmed(), which, r.what(native))
				t.AddRule(&nftables.Rule{Table: t.Table, Chain: i.chains[h], Exprs: exprs})
			}
		}
	}
	return nil
}

// ifArmed matches while the element lives.
func (i *Intake) ifArmed() []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(armedKey)},
		&expr.Lookup{SourceRegister: 1, SetName: i.armed.Name, SetID: i.armed.ID},
	}
}

// which matches the packets of a rule, in one or several ways for each hook.
func (i *Intake) which(r Rule) map[hook][][]expr.Any {
	switch {
	case len(r.From) > 0:
		// meta iiftype ether ether saddr @peers
		return map[hook][][]expr.Any{prerouting: {{
			&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint16(etherType)},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: macLen},
			&expr.Lookup{SourceRegister: 1, SetName: i.peers.Name, SetID: i.peers.ID},
		}}}
	case r.Loopback != 0:
		// iifname lo tcp dport or sport
		return map[hook][][]expr.Any{input: {onLoopback(0, r.Loopback), onLoopback(2, r.Loopback)}}
	}
	// ct direction reply ct original ip daddr A ct original proto-dst P
	answers := [][]expr.Any{{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{ipVersion4}},
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{reply}},
		// Of the 16 bytes the first four are an IPv4 address: linux net/netfilter/nft_ct.c nft_ct_get_eval.
		&expr.Ct{Key: expr.CtKeyDST, Register: 1, Direction: original},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: r.AnswersOf.Addr().AsSlice()},
		&expr.Ct{Key: expr.CtKeyPROTODST, Register: 1, Direction: original},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(r.AnswersOf.Port())},
	}}
	return map[hook][][]expr.Any{input: answers, forward: answers}
}

func onLoopback(offset uint32, port uint16) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "lo")
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		// The ports are the first four bytes: RFC 9293 section 3.1.
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// what is done with the packets of a rule.
func (r Rule) what(native bool) []expr.Any {
	if r.Queue > 0 {
		return []expr.Any{&expr.Counter{}, queue(r.Queue, native)}
	}
	var draw []expr.Any
	if n := uint32(math.Round(r.Lose * parts)); n < parts {
		draw = []expr.Any{
			&expr.Numgen{Register: 1, Modulus: parts, Type: unix.NFT_NG_RANDOM},
			// Registers are compared byte by byte, the number is in the order of this machine.
			&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
			&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binary.BigEndian.AppendUint32(nil, n)},
		}
	}
	return append(draw, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
}

// queue hands packets to a listener; without one (bypass) they pass. Kernels without CONFIG_NFT_QUEUE have mostly the same
// as a target of xtables, through nft_compat.
func queue(number uint16, native bool) expr.Any {
	if native {
		return &expr.Queue{Num: number, Total: 1, Flag: expr.QueueFlagBypass}
	}
	// struct xt_NFQ_info_v3 {queuenum, queues_total, flags}, aligned to 8 bytes: linux
	// include/uapi/linux/netfilter/xt_NFQUEUE.h.
	const bypass = 1 // NFQ_FLAG_BYPASS
	var b []byte
	for _, v := range []uint16{number, 1, bypass, 0} {
		b = binary.NativeEndian.AppendUint16(b, v)
	}
	info := xt.Unknown(b)
	return &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}
}
