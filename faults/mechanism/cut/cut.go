// Package cut cuts hosts off from each other on the wire: it drops the frames between pairs of hardware addresses where a
// Linux bridge forwards them.
//
// Nobody is told. The sender's kernel has sent its packet, established connections go silent and live on as they would in
// a real partition. That is why the drop is on the bridge and never at the sender's own egress: there the kernel takes it
// for local congestion and TCP gives up after 8 seconds instead of 15 minutes, and a UDP sender gets EPERM. Pairs of
// hardware addresses cut whatever runs behind a host too, as pods that are routed through their node.
//
// Frames to and from the bridge's own host pass, and so do ARP and IPv6 neighbour discovery between the cut hosts: once a
// neighbour entry expired, new connections would fail at once with "no route to host" instead of timing out.
//
// Each [Cut] is a table of its own in nftables' bridge family, named gameday-TAG, so several combine: a frame passes only
// if none of them drops it. It is undone without any help from this program:
//   - The kernel removes the table when the process that opened it ends in any way (table flag owner, Linux 5.12+).
//   - Each pair has a timeout in the kernel, so a process that hangs keeps its cut no longer than the time to live it gave.
package cut

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"gameday/faults/mechanism/nft"
)

// ErrExpired means that the cut has ended by its time to live before it was refreshed.
var ErrExpired = errors.New("the cut has expired")

// Pair is one direction between two hosts: frames from Src to Dst. A cut in both directions is two pairs.
type Pair struct{ Src, Dst net.HardwareAddr }

// Connection is a TCP connection over IPv4; which end comes first does not matter.
type Connection struct{ A, B netip.AddrPort }

func (c Connection) String() string { return c.A.String() + " - " + c.B.String() }

func (p Pair) String() string { return p.Src.String() + " > " + p.Dst.String() }

// Counters count what a Cut has dropped since it was opened.
type Counters struct{ Frames, Bytes uint64 }

// Cut is a set of pairs between which nothing passes. Its methods may be called concurrently.
type Cut struct {
	mu    sync.Mutex
	table *nft.Table
	chain *nftables.Chain
	set   *nftables.Set
	keys  [][]byte
}

// Open prepares a cut that drops nothing yet. netns is the path of the network namespace that holds the bridge
// (/proc/PID/ns/net); empty means that of this process. The tag is of [a-z0-9-] and becomes part of the table's name; the
// leftover of a dead process with the same tag is replaced, a living one's is an error.
func Open(tag, netns string) (*Cut, error) { return open(tag, netns, pairRules(0)) }

// OpenPort is as Open, but only TCP segments to or from that port are dropped between the pairs.
func OpenPort(tag, netns string, port uint16) (*Cut, error) { return open(tag, netns, pairRules(port)) }

// OpenConnections is as Open, for single connections instead of pairs: see SetConnections.
func OpenConnections(tag, netns string) (*Cut, error) { return open(tag, netns, connectionRules) }

func open(tag, netns string, add ruleSet) (*Cut, error) {
	t, err := nft.Open(nftables.TableFamilyBridge, tag, netns)
	if err != nil {
		return nil, err
	}
	c := &Cut{table: t}
	if c.set, c.chain, err = add(t.Conn, t.Table); err == nil {
		err = t.Commit()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fill nftables table %s: %w", t, err), t.Close())
	}
	return c, nil
}

// Owned says whether the kernel removes the table when this process ends. If not (Linux before 5.12), what ends the cut of
// a killed process is its time to live, and the empty table stays until Sweep.
func (c *Cut) Owned() bool { return c.table.Owned }

// Set makes pairs the ones that are cut, instead of those before, in one transaction: a pair that was cut and stays cut
// lets no frame through. After ttl (at least a millisecond) the kernel lifts the cut; see Refresh.
func (c *Cut) Set(pairs []Pair, ttl time.Duration) error {
	keys, err := keysOf(pairs)
	if err != nil {
		return err
	}
	return c.setKeys(keys, ttl)
}

// SetConnections makes TCP connections the ones that are cut, in both directions: neither end hears anything of the other
// any more, while new connections between the same hosts pass. It is for a Cut of OpenConnections.
func (c *Cut) SetConnections(conns []Connection, ttl time.Duration) error {
	keys, err := keysOfConnections(conns)
	if err != nil {
		return err
	}
	return c.setKeys(keys, ttl)
}

func (c *Cut) setKeys(keys [][]byte, ttl time.Duration) error {
	if err := checkTTL(ttl); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.table.FlushSet(c.set)
	if err := addElements(c.table.Conn, c.set, keys, ttl); err != nil {
		return err
	}
	if err := c.table.Commit(); err != nil {
		return fmt.Errorf("cut %d elements in nftables table %s: %w", len(keys), c.table, err)
	}
	c.keys = keys
	return nil
}

// Refresh lets the pairs of the last Set live for another ttl from now, without a gap. The error wraps ErrExpired if they
// had expired: they are then not cut again, because somebody may count on it. After Clear it does nothing.
func (c *Cut) Refresh(ttl time.Duration) error {
	if err := checkTTL(ttl); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.keys) == 0 {
		return nil
	}
	// Kernels before 6.12 cannot change the timeout of an element, hence delete and add. The kernel refuses to delete what
	// has expired, and with that the whole transaction.
	for keys := range slices.Chunk(c.keys, elementsPerMessage) {
		if err := c.table.SetDeleteElements(c.set, elements(keys, 0)); err != nil {
			return fmt.Errorf("pairs of a cut: %w", err)
		}
	}
	if err := addElements(c.table.Conn, c.set, c.keys, ttl); err != nil {
		return err
	}
	err := c.table.Commit()
	if errors.Is(err, unix.ENOENT) {
		err = ErrExpired
	}
	if err != nil {
		return fmt.Errorf("refresh %d elements in nftables table %s: %w", len(c.keys), c.table, err)
	}
	return nil
}

// Clear lifts the cut; Set can make a new one.
func (c *Cut) Clear() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.table.FlushSet(c.set)
	if err := c.table.Commit(); err != nil {
		return fmt.Errorf("lift the cut in nftables table %s: %w", c.table, err)
	}
	c.keys = nil
	return nil
}

// Counters says what was dropped since Open.
func (c *Cut) Counters() (Counters, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.table.Begin(); err != nil {
		return Counters{}, err
	}
	rules, err := c.table.GetRules(c.table.Table, c.chain)
	if err != nil {
		return Counters{}, fmt.Errorf("read the counter of nftables table %s: %w", c.table, err)
	}
	var sum Counters
	found := false
	for _, r := range rules {
		for _, e := range r.Exprs {
			if n, ok := e.(*expr.Counter); ok {
				found = true
				sum.Frames, sum.Bytes = sum.Frames+n.Packets, sum.Bytes+n.Bytes
			}
		}
	}
	if found {
		return sum, nil
	}
	return Counters{}, fmt.Errorf("nftables table %s has lost its counter: somebody changed it", c.table)
}

// Close lifts the cut and removes the table. The Cut is of no use afterwards. Even after an error nothing is left where
// Owned is true: the kernel removes the table with the socket.
func (c *Cut) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table.Close()
}

// Sweep removes from a network namespace (as in Open) the cuts whose tag begins with tagPrefix and that no process owns.
func Sweep(netns, tagPrefix string) ([]nft.Leftover, error) {
	return nft.Sweep(nftables.TableFamilyBridge, netns, tagPrefix)
}
