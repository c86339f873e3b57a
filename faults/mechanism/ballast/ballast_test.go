package ballast

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The disk of the machine that runs the test is never one's own.
func TestTheMachinesDiskIsRefused(t *testing.T) {
	if err := Own("/"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if err := Own(filepath.Join(t.TempDir(), "none")); err == nil || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a folder that is not there: got %v", err)
	}
}

func TestLittleBallast(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ballast")
	s, err := Look(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// Others use this disk too, so that only the order of things is certain.
	if err := Bytes(dir, s.FreeBytes+(1<<40)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "ballast"))
	if err != nil || info.Size() != 0 {
		t.Errorf("more is free than there is: %v, %v", info, err)
	}
	if s.FreeInodes > 0 {
		if err := Inodes(t.Context(), dir, s.FreeInodes+(1<<30)); err != nil {
			t.Error(err)
		}
		if err := Inodes(t.Context(), dir, 0); s.FreeInodes > 2*mostInodes && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("too many files: got %v", err)
		}
	}
	for range 2 {
		if err := Remove(dir); err != nil {
			t.Error(err)
		}
	}
}
