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
	"math/bits"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// namePrefix begins the name of each table of ours; nothing else is ever looked at.
const namePrefix = "gameday-"

// answerTime bounds the wait for the kernel's answer to one transaction, which takes less than a millisecond. It is that
// long because other users of nftables may hold the lock.
const answerTime = 10 * time.Second

// transactionSize is enough for one transaction of ten thousand pairs, each deleted and added.
const transactionSize = 2 << 20

// ErrExpired means that the cut has ended by its time to live before it was refreshed.
var ErrExpired = errors.New("the cut has expired")

// Pair is one direction between two hosts: frames from Src to Dst. A cut in both directions is two pairs.
type Pair struct{ Src, Dst net.HardwareAddr }

func (p Pair) String() string { return p.Src.String() + " > " + p.Dst.String() }

// Counters count what a Cut has dropped since it was opened.
type Counters struct{ Frames, Bytes uint64 }

// Cut is a set of pairs between which nothing passes. Its methods may be called concurrently.
type Cut struct {
	mu    sync.Mutex
	conn  *conn
	table *nftables.Table
	chain *nftables.Chain
	set   *nftables.Set
	keys  [][]byte
	owned bool
}

// Open prepares a cut that drops nothing yet. netns is the path of the network namespace that holds the bridge
// (/proc/PID/ns/net); empty means that of this process. The tag is of [a-z0-9-] and becomes part of the table's name; the
// leftover of a dead process with the same tag is replaced, a living one's is an error.
func Open(tag, netns string) (*Cut, error) {
	name, err := tableName(tag)
	if err != nil {
		return nil, err
	}
	conn, err := dial(netns)
	if err != nil {
		return nil, err
	}
	c := &Cut{conn: conn}
	if err := c.create(name); err != nil {
		return nil, errors.Join(fmt.Errorf("make nftables table bridge %s: %w", name, err), conn.CloseLasting())
	}
	return c, nil
}

func (c *Cut) create(name string) error {
	c.table = &nftables.Table{Family: nftables.TableFamilyBridge, Name: name}
	err := c.conn.createTable(c.table, flagOwner)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EPERM) { // EPERM: it has another owner, or we lack the right
		leftovers, sweepErr := sweep(c.conn, func(n string) bool { return n == name })
		if sweepErr != nil || len(leftovers) == 0 {
			return errors.Join(err, sweepErr)
		}
		if leftovers[0].Held {
			return errors.New("a cut with the same tag is open in a living process; end that one first")
		}
		err = c.conn.createTable(c.table, flagOwner)
	}
	c.owned = err == nil
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) { // how older and newer kernels refuse a flag
		err = c.conn.createTable(c.table, 0)
	}
	if err != nil {
		return err
	}
	if c.set, c.chain, err = addRules(c.conn.Conn, c.table); err != nil {
		return err
	}
	return c.conn.commit()
}

// Owned says whether the kernel removes the table when this process ends. If not (Linux before 5.12), what ends the cut of
// a killed process is its time to live, and the empty table stays until Sweep.
func (c *Cut) Owned() bool { return c.owned }

// Set makes pairs the ones that are cut, instead of those before, in one transaction: a pair that was cut and stays cut
// lets no frame through. After ttl (at least a millisecond) the kernel lifts the cut; see Refresh.
func (c *Cut) Set(pairs []Pair, ttl time.Duration) error {
	keys, err := keysOf(pairs)
	if err := errors.Join(err, checkTTL(ttl)); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.FlushSet(c.set)
	if err := addElements(c.conn.Conn, c.set, keys, ttl); err != nil {
		return err
	}
	if err := c.conn.commit(); err != nil {
		return fmt.Errorf("cut %d pairs in nftables table bridge %s: %w", len(keys), c.table.Name, err)
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
		if err := c.conn.SetDeleteElements(c.set, elements(keys, 0)); err != nil {
			return fmt.Errorf("pairs of a cut: %w", err)
		}
	}
	if err := addElements(c.conn.Conn, c.set, c.keys, ttl); err != nil {
		return err
	}
	err := c.conn.commit()
	if errors.Is(err, unix.ENOENT) {
		err = ErrExpired
	}
	if err != nil {
		return fmt.Errorf("refresh %d pairs in nftables table bridge %s: %w", len(c.keys), c.table.Name, err)
	}
	return nil
}

// Clear lifts the cut; Set can make a new one.
func (c *Cut) Clear() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.FlushSet(c.set)
	if err := c.conn.commit(); err != nil {
		return fmt.Errorf("lift the cut in nftables table bridge %s: %w", c.table.Name, err)
	}
	c.keys = nil
	return nil
}

// Counters says what was dropped since Open.
func (c *Cut) Counters() (Counters, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.begin(); err != nil {
		return Counters{}, err
	}
	rules, err := c.conn.GetRules(c.table, c.chain)
	if err != nil {
		return Counters{}, fmt.Errorf("read the counter of nftables table bridge %s: %w", c.table.Name, err)
	}
	for _, r := range rules {
		for _, e := range r.Exprs {
			if n, ok := e.(*expr.Counter); ok {
				return Counters{Frames: n.Packets, Bytes: n.Bytes}, nil
			}
		}
	}
	return Counters{}, fmt.Errorf("nftables table bridge %s has lost its counter: somebody changed it", c.table.Name)
}

// Close lifts the cut and removes the table. The Cut is of no use afterwards. Even after an error nothing is left where
// Owned is true: the kernel removes the table with the socket.
func (c *Cut) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn.nl == nil {
		return nil
	}
	c.conn.DelTable(c.table)
	err := c.conn.commit()
	if errors.Is(err, unix.ENOENT) { // somebody else was first
		err = nil
	}
	if err = errors.Join(err, c.conn.CloseLasting()); err != nil {
		return fmt.Errorf("remove nftables table bridge %s: %w", c.table.Name, err)
	}
	c.conn.nl = nil
	return nil
}

// Leftover is a table that begins with the prefix given to Sweep.
type Leftover struct {
	// Table is its name; its family is bridge.
	Table string
	// Held says that a living process owns it: only that process, or its end, removes it. Any other was removed.
	Held bool
}

// Sweep removes from a network namespace (as in Open) the tables whose tag begins with tagPrefix and that no process owns.
// On Linux before 5.12 no table is owned: there it removes those of living processes too.
func Sweep(netns, tagPrefix string) ([]Leftover, error) {
	conn, err := dial(netns)
	if err != nil {
		return nil, err
	}
	leftovers, err := sweep(conn, func(name string) bool { return strings.HasPrefix(name, namePrefix+tagPrefix) })
	return leftovers, errors.Join(err, conn.CloseLasting())
}

func sweep(c *conn, ours func(name string) bool) ([]Leftover, error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyBridge)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	var found []Leftover
	for _, t := range tables {
		// The kernel gives all families to those that ask before it has loaded this one.
		if t.Family != nftables.TableFamilyBridge || !strings.HasPrefix(t.Name, namePrefix) || !ours(t.Name) {
			continue
		}
		l := Leftover{Table: t.Name, Held: isOwned(t)}
		if !l.Held {
			c.DelTable(t)
			if err := c.commit(); err != nil && !errors.Is(err, unix.ENOENT) {
				return found, fmt.Errorf("remove nftables table bridge %s: %w", t.Name, err)
			}
		}
		found = append(found, l)
	}
	return found, nil
}

func isOwned(t *nftables.Table) bool {
	// The kernel's flags are big-endian, which the library does not heed (v0.3.0). No other flag is mistaken for this one.
	return (t.Flags|bits.ReverseBytes32(t.Flags))&flagOwner != 0
}

var validTag = regexp.MustCompile(`^[a-z0-9-]+$`)

func tableName(tag string) (string, error) {
	// NFT_NAME_MAXLEN, with the end of the string: linux include/uapi/linux/netfilter/nf_tables.h.
	const maxName = 256 - 1
	name := namePrefix + tag
	if !validTag.MatchString(tag) || len(name) > maxName {
		return "", fmt.Errorf("tag %q of a cut: it must be of a-z, 0-9 and -, and not longer than %d", tag, maxName-len(namePrefix))
	}
	return name, nil
}

// conn is an nftables connection in one network namespace. It is kept open: the tables it owns go with it.
type conn struct {
	*nftables.Conn
	nl *netlink.Conn
}

func dial(netns string) (*conn, error) {
	c := &conn{}
	opts := []nftables.ConnOption{
		nftables.AsLasting(),
		nftables.WithSockOptions(func(nl *netlink.Conn) error {
			c.nl = nl
			return nl.SetWriteBuffer(transactionSize)
		}),
	}
	if netns != "" {
		f, err := os.Open(netns)
		if err != nil {
			return nil, fmt.Errorf("network namespace: %w", err)
		}
		defer f.Close() // the socket stays in the namespace without it
		opts = append(opts, nftables.WithNetNSFd(int(f.Fd())))
	}
	nft, err := nftables.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("open nftables in network namespace %q (root is needed): %w", netns, err)
	}
	c.Conn = nft
	return c, nil
}

// begin bounds the exchange with the kernel that follows.
func (c *conn) begin() error {
	if c.nl == nil {
		return errors.New("the cut was closed")
	}
	if err := c.nl.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return fmt.Errorf("set a deadline for nftables: %w", err)
	}
	return nil
}

// commit sends what was collected as one transaction: all of it happens, or on an error nothing.
func (c *conn) commit() error {
	if err := c.begin(); err != nil {
		return err
	}
	err := c.Flush()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// A late answer would be taken for the next transaction's, so there is none: without the socket, no table.
		err = errors.Join(err, c.CloseLasting())
		c.nl = nil
	}
	return err
}
