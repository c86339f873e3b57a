// Package intake changes what a network namespace takes in: it loses some of the packets that arrive there, or hands them to
// a queue in which another package holds them back.
//
// It works at the receiver because there nobody is told: a packet that is dropped where it is sent is noticed by the
// sender's kernel, which has TCP give up after 8 seconds instead of 15 minutes, and a UDP sender gets EPERM.
//
// Each [Intake] is a table of its own (see package nft) in nftables' inet family, so several combine: a packet passes only
// if none of them drops it, and it waits in the queues of all. It ends without any help from this program:
//   - The kernel removes the table when the process that opened it ends in any way.
//   - All rules look first whether they are armed, which is an element of a set with a timeout in the kernel: a process that
//     hangs keeps them no longer than the time to live it gave.
package intake

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"gameday/faults/mechanism/nft"
)

// ErrExpired means that the rules have ended by their time to live before they were refreshed.
var ErrExpired = errors.New("the rules have expired")

// Rule says what happens to some of the packets. Exactly one of From, Loopback and AnswersOf is given, and exactly one of
// Lose and Queue.
type Rule struct {
	// From are the hardware addresses of neighbours: all IP packets that they send, or forward, to this namespace.
	From []net.HardwareAddr
	// Loopback is a TCP port: all segments to or from it over the loopback interface.
	Loopback uint16
	// AnswersOf is where connections (of TCP or UDP) are begun to, before any translation of addresses: all answers that are
	// received here, or forwarded. It needs connection tracking in the namespace. IPv4 only.
	AnswersOf netip.AddrPort

	// Lose is the part of them that is dropped, drawn by the kernel: above 0, up to 1.
	Lose float64
	// Queue is the number of the netfilter queue in which they wait for a verdict; without a listener they pass.
	Queue uint16
}

func (r Rule) check() error {
	n := 0
	for _, given := range []bool{len(r.From) > 0, r.Loopback != 0, r.AnswersOf.IsValid()} {
		if given {
			n++
		}
	}
	switch {
	case n != 1:
		return fmt.Errorf("rule %+v: it must say which packets in one way, not in %d", r, n)
	case (r.Lose > 0) == (r.Queue > 0):
		return fmt.Errorf("rule %+v: the packets are either lost or queued", r)
	case r.Lose < 0 || r.Lose > 1:
		return fmt.Errorf("rule %+v: the part to lose is between 0 and 1", r)
	case r.AnswersOf.IsValid() && !r.AnswersOf.Addr().Is4():
		return fmt.Errorf("rule %+v: only answers over IPv4 can be told", r)
	}
	for _, m := range r.From {
		if len(m) != macLen {
			return fmt.Errorf("rule %+v: %q is no Ethernet address", r, m)
		}
	}
	return nil
}

// Intake are the rules of one tag in one namespace. Its methods may be called concurrently.
type Intake struct {
	mu     sync.Mutex
	table  *nft.Table
	armed  *nftables.Set
	peers  *nftables.Set
	chains map[hook]*nftables.Chain
	set    bool
}

// Open prepares an intake that changes nothing yet; netns and tag as for nft.Open.
func Open(tag, netns string) (*Intake, error) {
	t, err := nft.Open(nftables.TableFamilyINet, tag, netns)
	if err != nil {
		return nil, err
	}
	i := &Intake{table: t}
	if err = i.prepare(); err == nil {
		err = t.Commit()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fill nftables table %s: %w", t, err), t.Close())
	}
	return i, nil
}

// Owned says whether the kernel removes the table when this process ends.
func (i *Intake) Owned() bool { return i.table.Owned }

// Set makes rules the ones that hold, instead of those before, in one transaction. After ttl (at least a millisecond) they
// hold no longer; see Refresh.
func (i *Intake) Set(rules []Rule, ttl time.Duration) error {
	errs := []error{checkTTL(ttl)}
	for _, r := range rules {
		errs = append(errs, r.check())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	err := i.replace(rules, ttl, true)
	if errors.Is(err, unix.ENOENT) && slices.ContainsFunc(rules, func(r Rule) bool { return r.Queue > 0 }) {
		err = i.replace(rules, ttl, false)
	}
	if errors.Is(err, unix.ENOENT) { // an expression that this kernel does not have
		err = fmt.Errorf("this kernel lacks a part of nftables that is needed: %w: %w", errors.ErrUnsupported, err)
	}
	if err != nil {
		return fmt.Errorf("put %d rules into nftables table %s: %w", len(rules), i.table, err)
	}
	i.set = true
	return nil
}

func (i *Intake) replace(rules []Rule, ttl time.Duration, native bool) error {
	if err := i.collect(rules, ttl, native); err != nil {
		return err
	}
	return i.table.Commit()
}

// Refresh lets the rules of the last Set hold for another ttl from now, without a gap. The error wraps ErrExpired if they
// had ended: they do not begin again, because somebody may count on it.
func (i *Intake) Refresh(ttl time.Duration) error {
	if err := checkTTL(ttl); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.set {
		return nil
	}
	// Kernels before 6.12 cannot change the timeout of an element, and none deletes what has expired.
	if err := i.table.SetDeleteElements(i.armed, armedFor(0)); err != nil {
		return err
	}
	if err := i.table.SetAddElements(i.armed, armedFor(ttl)); err != nil {
		return err
	}
	err := i.table.Commit()
	if errors.Is(err, unix.ENOENT) {
		err = ErrExpired
	}
	if err != nil {
		return fmt.Errorf("refresh nftables table %s: %w", i.table, err)
	}
	return nil
}

// Close ends the rules and removes the table. The Intake is of no use afterwards. Again is no error.
func (i *Intake) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.table.Close()
}

// Sweep removes from a network namespace the intakes whose tag begins with tagPrefix and that no process owns.
func Sweep(netns, tagPrefix string) ([]nft.Leftover, error) {
	return nft.Sweep(nftables.TableFamilyINet, netns, tagPrefix)
}

func checkTTL(ttl time.Duration) error {
	if ttl < time.Millisecond { // which the kernel would take for "no timeout"
		return fmt.Errorf("time to live of rules: %v is shorter than a millisecond", ttl)
	}
	return nil
}
