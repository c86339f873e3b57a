package late

import (
	"testing"
	"time"
)

const ms = int64(time.Millisecond)

func TestNothingIsOvertakenUnlessAsked(t *testing.T) {
	for _, s := range []Shape{
		{Delay: 50 * time.Millisecond},
		{Delay: 50 * time.Millisecond, Jitter: 50 * time.Millisecond},
		{Delay: time.Millisecond, Jitter: time.Millisecond, Rate: 1e6, Backlog: time.Second},
	} {
		l := newLine(s, 1)
		var last, sum int64
		const n = 20000
		for i := range int64(n) {
			at := i * ms * 2
			p, due := l.take(at, 100)
			if p != later || due < last || due < at {
				t.Fatalf("%+v: packet %d at %d: %v, due at %d after %d", s, i, at, p, due, last)
			}
			last, sum = due, sum+due-at
		}
		if mean := time.Duration(sum / n); s.Rate == 0 && (mean < s.Delay*9/10 || mean > s.Delay*11/10) {
			t.Errorf("%+v: %v on average", s, mean)
		}
	}
}

func TestJitterAfterAPause(t *testing.T) {
	l := newLine(Shape{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond}, 1)
	for _, at := range []int64{1, ms, 1000 * ms, 1001 * ms, 100000 * ms} {
		if _, due := l.take(at, 0); due < at || due > at+20*ms {
			t.Errorf("at %d: due at %d", at, due)
		}
	}
}

func TestPart(t *testing.T) {
	l := newLine(Shape{Delay: time.Millisecond, Part: 0.25}, 7)
	held := 0
	for i := range 10000 {
		if p, _ := l.take(int64(i), 100); p == later {
			held++
		}
	}
	if held < 2300 || held > 2700 {
		t.Errorf("%d of 10000 held, want about 2500", held)
	}
}

func TestRate(t *testing.T) {
	// 1000 bytes in a millisecond, and room for ten.
	l := newLine(Shape{Rate: 1e6, Backlog: 10 * time.Millisecond}, 1)
	var passed, dropped int
	for range 20 {
		p, due := l.take(0, 1000)
		if p == never {
			dropped++
			continue
		}
		passed++
		if due != int64(passed)*ms {
			t.Errorf("packet %d is due at %v", passed, time.Duration(due))
		}
	}
	if passed != 11 || dropped != 9 {
		t.Errorf("%d passed, %d dropped", passed, dropped)
	}
	if _, due := l.take(1000*ms, 1000); due != 1001*ms {
		t.Errorf("after a pause: due at %v", time.Duration(due))
	}
}

func TestCheck(t *testing.T) {
	for _, s := range []Shape{
		{}, {Delay: -1}, {Delay: time.Hour}, {Delay: 1, Jitter: 2}, {Delay: 1, Part: 2}, {Rate: 1}, {Delay: 1, Jitter: -1},
	} {
		if s.Check() == nil {
			t.Errorf("%+v was taken", s)
		}
	}
	if err := (Shape{Delay: time.Second, Jitter: time.Second, Part: 1, Rate: 1, Backlog: 1}).Check(); err != nil {
		t.Error(err)
	}
}

// BenchmarkTake is what the decision about one packet costs.
func BenchmarkTake(b *testing.B) {
	l := newLine(Shape{Delay: 50 * time.Millisecond, Jitter: 10 * time.Millisecond, Rate: 1e9, Backlog: time.Second}, 1)
	var at int64
	for b.Loop() {
		at += ms / 100
		l.take(at, 1500)
	}
}
