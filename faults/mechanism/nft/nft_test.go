package nft

import (
	"errors"
	"io/fs"
	"math/bits"
	"strings"
	"testing"

	"github.com/google/nftables"
)

func TestTableName(t *testing.T) {
	if got, err := tableName("run-1-2"); err != nil || got != "gameday-run-1-2" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, tag := range []string{"", "A", "a b", "a*", "a\n", strings.Repeat("a", 248)} {
		if _, err := tableName(tag); err == nil {
			t.Errorf("tag %q was taken", tag)
		}
	}
	if _, err := tableName(strings.Repeat("a", 247)); err != nil {
		t.Error(err)
	}
}

func TestIsOwned(t *testing.T) {
	const dormant = 1
	for flags, want := range map[uint32]bool{0: false, dormant: false, flagOwner: true, flagOwner | dormant: true} {
		for _, asRead := range []uint32{flags, bits.ReverseBytes32(flags)} {
			if got := isOwned(&nftables.Table{Flags: asRead}); got != want {
				t.Errorf("flags %#x: got %v", asRead, got)
			}
		}
	}
}

func TestOpenInNoNamespace(t *testing.T) {
	if _, err := Open(nftables.TableFamilyINet, "tag", "/nowhere/ns/net"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
	if _, err := Sweep(nftables.TableFamilyINet, "/nowhere/ns/net", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
	if _, err := Open(nftables.TableFamilyINet, "Not a tag", ""); err == nil {
		t.Error("a bad tag was taken")
	}
}
