package slowfsync

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

func TestHeldCalls(t *testing.T) {
	t0 := time.Now()
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	h := newHeld(100 * time.Millisecond)
	due := func(ms int, want ...int) {
		t.Helper()
		got := h.due(at(ms))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("due at %d ms: got %v, want %v", ms, got, want)
		}
	}
	next := func(ms int, want time.Duration, wantOK bool) {
		t.Helper()
		if d, ok := h.next(at(ms)); d != want || ok != wantOK {
			t.Errorf("next at %d ms: got %v, %v, want %v, %v", ms, d, ok, want, wantOK)
		}
	}
	next(0, 0, false)
	for i, tid := range []int{7, 8, 9} {
		if !h.hold(tid, at(10*i)) {
			t.Fatal("not held")
		}
	}
	next(20, 80*time.Millisecond, true)
	due(99)
	due(105, 7)
	next(105, 5*time.Millisecond, true)

	// A thread that was killed does not count.
	h.forget(8)
	next(105, 15*time.Millisecond, true)

	// A new delay counts from the beginning of the calls that wait.
	h.set(200 * time.Millisecond)
	due(150)
	next(150, 70*time.Millisecond, true)
	h.set(50 * time.Millisecond)
	next(150, -80*time.Millisecond, true)
	due(150, 9)
	next(150, 0, false)

	h.set(0)
	if h.hold(7, at(160)) {
		t.Error("held back without a delay")
	}
	want := Stats{Delay: 0, Delayed: 2, Waiting: 0, Mean: (105*time.Millisecond + 130*time.Millisecond) / 2}
	if diff := cmp.Diff(want, h.stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

func TestZeroDelayLetsTheWaitingGo(t *testing.T) {
	now := time.Now()
	h := newHeld(time.Hour)
	h.hold(7, now)
	<-h.changed
	h.set(0)
	select {
	case <-h.changed:
	default:
		t.Error("nobody is told of the new delay")
	}
	if got := h.due(now); !slices.Equal(got, []int{7}) {
		t.Errorf("got %v", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := Start(t.Context(), Options{Delay: -1})
	if err == nil || !strings.Contains(err.Error(), "delay") || !strings.Contains(err.Error(), "longest hold time") {
		t.Errorf("got %v, want both complaints", err)
	}
	if err := (&Holder{}).SetDelay(t.Context(), -1); err == nil {
		t.Error("a negative delay was taken")
	}
}

// The kernel writes into it.
func TestInfoHasTheKernelsLayout(t *testing.T) {
	var i info
	if unsafe.Offsetof(i.arch) != 4 || unsafe.Offsetof(i.nr) != 24 || unsafe.Offsetof(i.args) != 32 || unsafe.Sizeof(i) != 80 {
		t.Errorf("offsets: arch %d, nr %d, args %d, size %d", unsafe.Offsetof(i.arch), unsafe.Offsetof(i.nr), unsafe.Offsetof(i.args), unsafe.Sizeof(i))
	}
	if nativeArch == 0 {
		t.Error("the system call numbers of this architecture are not known")
	}
}

func TestStatusNumber(t *testing.T) {
	if got, err := statusNumber(os.Getpid(), "Tgid"); err != nil || got != os.Getpid() {
		t.Errorf("got %d, %v, want %d", got, err, os.Getpid())
	}
	if _, err := statusNumber(0, "Tgid"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: got %v, want ErrNotExist", err)
	}
	for content, want := range map[string]int{"Name:\tetcd\nTracerPid:\t4711\nUid:\t0\n": 4711, "TracerPid:\t0\n": 0} {
		if got, err := parseNumber([]byte(content), "TracerPid"); err != nil || got != want {
			t.Errorf("%q: got %d, %v", content, got, err)
		}
	}
	if _, err := parseNumber([]byte("Name:\tetcd\n"), "TracerPid"); err == nil {
		t.Error("a status without the line is no error")
	}
}
