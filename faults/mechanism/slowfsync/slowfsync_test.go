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
	h := newHeld(Shape{Delay: 100 * time.Millisecond})
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
		if !h.hold(tid, 3, at(10*i)) {
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
	h.set(Shape{Delay: 200 * time.Millisecond})
	due(150)
	next(150, 70*time.Millisecond, true)
	h.set(Shape{Delay: 50 * time.Millisecond})
	next(150, -80*time.Millisecond, true)
	due(150, 9)
	next(150, 0, false)

	h.set(Shape{})
	if h.hold(7, 3, at(160)) {
		t.Error("held back without a delay")
	}
	want := Stats{Delay: 0, Delayed: 2, Waiting: 0, Mean: (105*time.Millisecond + 130*time.Millisecond) / 2}
	if diff := cmp.Diff(want, h.stats(at(160))); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

func TestZeroDelayLetsTheWaitingGo(t *testing.T) {
	now := time.Now()
	h := newHeld(Shape{Delay: time.Hour})
	h.hold(7, 3, now)
	<-h.changed
	h.set(Shape{})
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
	_, err := Start(t.Context(), Options{Shape: Shape{Delay: -1}})
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

func TestShape(t *testing.T) {
	t0 := time.Now()
	s := time.Second
	for _, c := range []struct {
		shape Shape
		after time.Duration
		want  time.Duration
	}{
		{Shape{Delay: s}, time.Hour, s},
		{Shape{Delay: s, GrowTo: 3 * s}, time.Hour, s},
		{Shape{Delay: s, GrowTo: 3 * s, Over: 10 * s}, 0, s},
		{Shape{Delay: s, GrowTo: 3 * s, Over: 10 * s}, -s, s},
		{Shape{Delay: s, GrowTo: 3 * s, Over: 10 * s}, 5 * s, 2 * s},
		{Shape{Delay: s, GrowTo: 3 * s, Over: 10 * s}, time.Hour, 3 * s},
		{Shape{Delay: s, GrowTo: 0, Over: 10 * s}, 5 * s, s / 2},
	} {
		c.shape.Since = t0
		if got := c.shape.At(t0.Add(c.after)); got != c.want {
			t.Errorf("%+v after %s: got %s, want %s", c.shape, c.after, got, c.want)
		}
	}
	for _, bad := range []Shape{{Delay: -1}, {Jitter: -1}, {Delay: s, Jitter: 2 * s}, {GrowTo: -1}, {Over: -1}} {
		if bad.check() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestGrowthThatBeginsAtNothing(t *testing.T) {
	t0 := time.Now()
	h := newHeld(Shape{GrowTo: time.Second, Over: 10 * time.Second, Since: t0})
	if !h.hold(1, 3, t0.Add(5*time.Second)) {
		t.Fatal("not held")
	}
	if d, ok := h.next(t0.Add(5 * time.Second)); !ok || d != 500*time.Millisecond {
		t.Errorf("next %s, %v", d, ok)
	}
}

// The mean over an even number of calls on a file is the asked one, whatever other
// files do in between.
func TestJitterIsBalanced(t *testing.T) {
	const n = 1000
	d := newDraws(1)
	sum := map[int32]float64{}
	var least, most float64
	for i := range 2 * n {
		u := d.next(int32(i % 2))
		if u < -1 || u > 1 {
			t.Fatalf("draw %g", u)
		}
		sum[int32(i%2)] += u
		least, most = min(least, u), max(most, u)
	}
	if abs := max(sum[0], -sum[0]); abs > 1e-9 || sum[1] > 1e-9 || sum[1] < -1e-9 {
		t.Errorf("sums %v", sum)
	}
	if least > -0.95 || most < 0.95 {
		t.Errorf("from %g to %g", least, most)
	}
	h := newHeld(Shape{Delay: time.Second, Jitter: 300 * time.Millisecond})
	t0 := time.Now()
	var total time.Duration
	for tid := range 4 {
		h.hold(tid, 3, t0)
	}
	for _, c := range h.waiting {
		took := c.end(h.shape).Sub(t0)
		if took < 700*time.Millisecond || took > 1300*time.Millisecond {
			t.Errorf("held for %s", took)
		}
		total += took
	}
	if off := total - 4*time.Second; off < -time.Microsecond || off > time.Microsecond {
		t.Errorf("four calls are held for %s", total)
	}
}
