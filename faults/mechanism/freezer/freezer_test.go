package freezer

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestOf(t *testing.T) {
	v2, v1, neither := t.TempDir(), t.TempDir(), t.TempDir()
	for dir, name := range map[string]string{v2: freezeFile, v1: stateFile} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name, unified, v1 string
		want              Group
		err               error
	}{
		{"both", v2, v1, Group{v2, true}, nil},
		{"the second only", v2, "", Group{v2, true}, nil},
		{"the first only", "", v1, Group{v1, false}, nil},
		{"a kernel whose second has none", neither, v1, Group{v1, false}, nil},
		{"none", neither, "", Group{}, ErrNone},
		{"no group", "", "", Group{}, ErrNone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Of(tc.unified, tc.v1)
			if got != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestFrozen(t *testing.T) {
	for _, tc := range []struct {
		text    string
		unified bool
		want    bool
	}{
		{"FROZEN\n", false, true}, {"FREEZING\n", false, false}, {"THAWED\n", false, false},
		{"populated 1\nfrozen 1\n", true, true}, {"populated 1\nfrozen 0\n", true, false}, {"populated 1\n", true, false},
	} {
		if got := frozen(tc.text, tc.unified); got != tc.want {
			t.Errorf("%q: %v", tc.text, got)
		}
	}
}

func TestGroupThatIsGone(t *testing.T) {
	g := Group{Dir: filepath.Join(t.TempDir(), "gone"), Unified: true}
	if err := g.Thaw(); err != nil {
		t.Errorf("thaw: %v", err)
	}
	if _, err := os.Stat(g.Dir); err == nil {
		t.Error("Thaw made it")
	}
	if err := g.Freeze(t.Context()); err == nil {
		t.Error("what is not there was frozen")
	}
	if _, err := g.Frozen(); err == nil {
		t.Error("what is not there was seen")
	}
}
