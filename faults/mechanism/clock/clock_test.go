package clock

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestStubSaysWhatItDoes(t *testing.T) {
	if len(program) > atOwner {
		t.Fatalf("the program has %d bytes", len(program))
	}
	// Each conditional jump lands on an instruction: ret, or the one it names.
	for at, want := range map[int]int{9: len(program) - 1, 13: 20, 18: len(program) - 1, 69: len(program) - 1, 102: 114} {
		if got := at + 2 + int(program[at+1]); got != want {
			t.Errorf("the jump at %d leads to %d, want %d", at, got, want)
		}
	}
	for _, offset := range []time.Duration{0, time.Hour, -time.Hour, 250 * time.Millisecond, -90*time.Minute - 250*time.Millisecond, -time.Nanosecond} {
		b := stub(offset, 1234567, ownerID("run-1"))
		got, deadline, owner, ok := parse(b)
		if !ok || got != offset || deadline != 1234567 || owner != ownerID("run-1") {
			t.Errorf("%s: got %s, %d, %x, %v", offset, got, deadline, owner, ok)
		}
		b[3] ^= 1
		if _, _, _, ok := parse(b); ok {
			t.Error("something else passes as a stub")
		}
	}
	if _, _, _, ok := parse(program); ok {
		t.Error("half a stub passes as one")
	}
}

func TestStrangeImagesAreRefused(t *testing.T) {
	for _, image := range [][]byte{nil, []byte("no ELF"), make([]byte, 8192)} {
		if _, err := layOut(image); !errors.Is(err, ErrUnsupported) {
			t.Errorf("got %v", err)
		}
	}
}

// A copy is pristine, ours, or not to be touched.
func TestUnderstand(t *testing.T) {
	l := layout{image: bytes.Repeat([]byte{0x90}, 256), entry: 16, stub: 96}
	clear(l.image[96:])
	with := func(change func([]byte)) []byte {
		b := bytes.Clone(l.image)
		change(b)
		return b
	}
	ours := with(func(b []byte) {
		copy(b[l.entry:], l.jump())
		copy(b[l.stub:], stub(-time.Hour, 100, ownerID("a")))
	})
	if s, err := l.understand(ours, 40); err != nil || !s.Ours("a") || s.Ours("b") || s.Offset != -time.Hour || s.Left != time.Minute {
		t.Errorf("ours: got %+v, %v", s, err)
	}
	if s, err := l.understand(l.image, 40); err != nil || s.Changed {
		t.Errorf("pristine: got %+v, %v", s, err)
	}
	half := with(func(b []byte) { copy(b[l.stub:], stub(time.Hour, 100, 1)) })
	if s, err := l.understand(half, 40); err != nil || s.Changed {
		t.Errorf("no jump yet: got %+v, %v", s, err)
	}
	for name, tc := range map[string]struct {
		copied []byte
		want   error
	}{
		"another kernel's":    {with(func(b []byte) { b[0] = 1 }), ErrUnsupported},
		"another size":        {l.image[:200], ErrUnsupported},
		"changed by somebody": {with(func(b []byte) { b[l.entry] = 0xc3 }), ErrTaken},
		"jump to nowhere":     {with(func(b []byte) { copy(b[l.entry:], l.jump()) }), ErrTaken},
	} {
		if _, err := l.understand(tc.copied, 40); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// The vDSO of this machine is as expected, where the package says that it works.
func TestOwnVDSO(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("not linux/amd64")
	}
	own, err := ownVDSO()
	if err != nil {
		t.Fatal(err)
	}
	l, err := layOut(own)
	if errors.Is(err, ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if strings.Trim(string(l.image[l.stub:l.stub+stubSize]), "\x00") != "" {
		t.Error("the stub would overwrite something")
	}
}
