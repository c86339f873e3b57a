// Package nft makes nftables tables that end with the process that made them, in a network namespace of its choice.
//
// Each is named gameday-TAG and nobody else's is ever looked at, so that several combine on one node and the end of one
// leaves the others as they are. The kernel removes a table when the process that opened it ends in any way (table flag
// owner, Linux 5.12+).
package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// namePrefix begins the name of each table of ours.
const namePrefix = "gameday-"

// answerTime bounds the wait for the kernel's answer to one transaction, which takes less than a millisecond. It is that
// long because other users of nftables may hold the lock.
const answerTime = 10 * time.Second

// transactionSize is enough for one transaction of ten thousand elements, each deleted and added.
const transactionSize = 2 << 20

// flagOwner is NFT_TABLE_F_OWNER: linux include/uapi/linux/netfilter/nf_tables.h, since 5.12.
const flagOwner = 0x2

// ErrClosed is wrapped when a table is used after its end.
var ErrClosed = errors.New("the table was closed")

// Table is a table of ours, and the connection that owns it. It is not safe for concurrent use.
type Table struct {
	// Conn collects changes for Commit.
	*nftables.Conn
	*nftables.Table
	// Owned says whether the kernel removes the table when this process ends. If not (Linux before 5.12) it stays until Sweep.
	Owned bool

	nl *netlink.Conn
}

// Open makes an empty table in the network namespace with that path (/proc/PID/ns/net; empty: that of this process). The
// tag is of [a-z0-9-] and becomes part of the table's name; the leftover of a dead process with the same tag is replaced, a
// living one's is an error.
func Open(family nftables.TableFamily, tag, netns string) (*Table, error) {
	name, err := tableName(tag)
	if err != nil {
		return nil, err
	}
	t, err := dial(netns)
	if err != nil {
		return nil, err
	}
	t.Table = &nftables.Table{Family: family, Name: name}
	if err := t.create(); err != nil {
		return nil, errors.Join(fmt.Errorf("make nftables table %s: %w", t, err), t.CloseLasting())
	}
	return t, nil
}

// String is the table as nft names it.
func (t *Table) String() string { return familyName(t.Family) + " " + t.Name }

func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyBridge:
		return "bridge"
	case nftables.TableFamilyINet:
		return "inet"
	}
	return fmt.Sprintf("family %d", f)
}

func (t *Table) create() error {
	err := t.createTable(flagOwner)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EPERM) { // EPERM: it has another owner, or we lack the right
		leftovers, sweepErr := t.sweep(t.Family, func(n string) bool { return n == t.Name })
		if sweepErr != nil || len(leftovers) == 0 {
			return errors.Join(err, sweepErr)
		}
		if leftovers[0].Held {
			return errors.New("one with the same tag is open in a living process; end that one first")
		}
		err = t.createTable(flagOwner)
	}
	t.Owned = err == nil
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) { // how older and newer kernels refuse a flag
		err = t.createTable(0)
	}
	return err
}

// createTable makes a new table at once. It is written by hand because nftables.AddTable drops the flags (v0.3.0), and sent
// on the same socket because that becomes the owner.
func (t *Table) createTable(flags uint32) error {
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
	if err := t.Begin(); err != nil {
		return err
	}
	_, err = t.nl.SendMessages([]netlink.Message{
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
	_, err = t.nl.Receive()
	return err
}

// Closed says that the table has ended.
func (t *Table) Closed() bool { return t.nl == nil }

// Close removes the table, or lets the kernel remove it. Again is no error.
func (t *Table) Close() error {
	if t.nl == nil {
		return nil
	}
	t.DelTable(t.Table)
	err := t.Commit()
	if errors.Is(err, unix.ENOENT) { // somebody else was first
		err = nil
	}
	if err = errors.Join(err, t.CloseLasting()); err != nil {
		return fmt.Errorf("remove nftables table %s: %w", t, err)
	}
	t.nl = nil
	return nil
}

// Leftover is a table that begins with the prefix given to Sweep.
type Leftover struct {
	// Table is its name.
	Table string
	// Held says that a living process owns it: only that process, or its end, removes it. Any other was removed.
	Held bool
}

// Sweep removes from a network namespace (as in Open) the tables of a family whose tag begins with tagPrefix and that no
// process owns. On Linux before 5.12 no table is owned: there it removes those of living processes too.
func Sweep(family nftables.TableFamily, netns, tagPrefix string) ([]Leftover, error) {
	t, err := dial(netns)
	if err != nil {
		return nil, err
	}
	leftovers, err := t.sweep(family, func(name string) bool { return strings.HasPrefix(name, namePrefix+tagPrefix) })
	return leftovers, errors.Join(err, t.CloseLasting())
}

func (t *Table) sweep(family nftables.TableFamily, ours func(name string) bool) ([]Leftover, error) {
	if err := t.Begin(); err != nil {
		return nil, err
	}
	tables, err := t.ListTablesOfFamily(family)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	var found []Leftover
	for _, other := range tables {
		// The kernel gives all families to those that ask before it has loaded this one.
		if other.Family != family || !strings.HasPrefix(other.Name, namePrefix) || !ours(other.Name) {
			continue
		}
		l := Leftover{Table: other.Name, Held: isOwned(other)}
		if !l.Held {
			t.DelTable(other)
			if err := t.Commit(); err != nil && !errors.Is(err, unix.ENOENT) {
				return found, fmt.Errorf("remove nftables table %s %s: %w", familyName(family), other.Name, err)
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
		return "", fmt.Errorf("tag %q of a table: it must be of a-z, 0-9 and -, and not longer than %d", tag, maxName-len(namePrefix))
	}
	return name, nil
}

// dial opens a connection in a network namespace. It is kept open: the tables it owns go with it.
func dial(netns string) (*Table, error) {
	t := &Table{}
	opts := []nftables.ConnOption{
		nftables.AsLasting(),
		nftables.WithSockOptions(func(nl *netlink.Conn) error {
			t.nl = nl
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
	c, err := nftables.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("open nftables in network namespace %q (root is needed): %w", netns, err)
	}
	t.Conn = c
	return t, nil
}

// Begin bounds the exchange with the kernel that follows.
func (t *Table) Begin() error {
	if t.nl == nil {
		return ErrClosed
	}
	if err := t.nl.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return fmt.Errorf("set a deadline for nftables: %w", err)
	}
	return nil
}

// Commit sends what was collected as one transaction: all of it happens, or on an error nothing.
func (t *Table) Commit() error {
	if err := t.Begin(); err != nil {
		return err
	}
	err := t.Flush()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// A late answer would be taken for the next transaction's, so there is none: without the socket, no table.
		err = errors.Join(err, t.CloseLasting())
		t.nl = nil
	}
	return err
}
