package cut

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func mac(n int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, byte(n >> 8), byte(n)} }

func TestKeysOf(t *testing.T) {
	got, err := keysOf([]Pair{{mac(1), mac(2)}, {mac(2), mac(1)}, {mac(1), mac(2)}})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]byte{
		{2, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0},
		{2, 0, 0, 0, 0, 2, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("each pair once, each half in whole registers (-want +got):\n%s", diff)
	}
}

func TestKeysOfNamesEveryBadPair(t *testing.T) {
	_, err := keysOf([]Pair{{mac(1), nil}, {mac(1), mac(2)}, {make(net.HardwareAddr, 8), mac(3)}})
	if err == nil || !strings.Contains(err.Error(), `"02:00:00:00:00:01 > "`) || !strings.Contains(err.Error(), `> 02:00:00:00:00:03"`) {
		t.Errorf("got %v", err)
	}
}

func TestKeysOfConnections(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.1:258"), netip.MustParseAddrPort("10.0.0.2:6443")
	got, err := keysOfConnections([]Connection{{a, b}, {b, a}})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]byte{
		{10, 0, 0, 1, 1, 2, 0, 0, 10, 0, 0, 2, 25, 43, 0, 0},
		{10, 0, 0, 2, 25, 43, 0, 0, 10, 0, 0, 1, 1, 2, 0, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("both directions once, each part in whole registers (-want +got):\n%s", diff)
	}
	if _, err := keysOfConnections([]Connection{{netip.MustParseAddrPort("[::1]:1"), b}}); err == nil {
		t.Error("a connection over IPv6 was taken")
	}
}

func TestTimeToLiveIsNeverNone(t *testing.T) {
	for ttl, ok := range map[time.Duration]bool{-time.Second: false, 0: false, 999 * time.Microsecond: false, time.Millisecond: true} {
		if err := checkTTL(ttl); (err == nil) != ok {
			t.Errorf("%v: got %v", ttl, err)
		}
	}
}

func TestOpenInNoNamespace(t *testing.T) {
	if _, err := Open("tag", "/nowhere/ns/net"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
	if _, err := Sweep("/nowhere/ns/net", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
	if _, err := Open("Not a tag", ""); err == nil {
		t.Error("a bad tag was taken")
	}
}

// A list of elements is one attribute, whose length is a 16-bit number: too many would be cut off without an error.
func TestManyPairsAreOneTransactionOfSeveralMessages(t *testing.T) {
	var pairs []Pair
	for i := range 3000 {
		pairs = append(pairs, Pair{mac(i), mac(i + 1)})
	}
	keys, err := keysOf(pairs)
	if err != nil {
		t.Fatal(err)
	}
	var sent [][]netlink.Message
	conn, err := nftables.New(nftables.WithTestDial(func(req []netlink.Message) ([]netlink.Message, error) {
		if len(req) > 0 {
			sent = append(sent, req)
		}
		return []netlink.Message{{Header: netlink.Header{Type: netlink.Error}, Data: make([]byte, 4)}}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyBridge, Name: "t"}
	set, _, err := pairRules(0)(conn, table)
	if err != nil {
		t.Fatal(err)
	}
	if err := addElements(conn, set, keys, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(sent) != 1 {
		t.Fatalf("sent %d transactions, want 1", len(sent))
	}
	found := 0
	for _, m := range sent[0] {
		if m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWSETELEM {
			continue
		}
		if len(m.Data) >= 1<<16 {
			t.Errorf("a message of %d bytes", len(m.Data))
		}
		for _, k := range keys {
			found += bytes.Count(m.Data, k)
		}
	}
	if found != len(keys) {
		t.Errorf("found %d of %d pairs", found, len(keys))
	}
}

func ExamplePair() {
	fmt.Println(Pair{Src: mac(1), Dst: mac(2)})
	// Output: 02:00:00:00:00:01 > 02:00:00:00:00:02
}
