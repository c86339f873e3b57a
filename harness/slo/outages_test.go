package slo

import (
	"cmp"
	"testing"
	"time"

	"gameday/harness/history"
)

// samples is a series: "." good, "x" bad, "l" late and bad, "L" late and good,
// "n" not sent, " " nothing, one each period.
func samples(period time.Duration, text string) []history.Timed[history.Sample] {
	var out []history.Timed[history.Sample]
	for i, c := range text {
		s := history.Sample{OK: c == '.' || c == 'L'}
		switch c {
		case ' ':
			continue
		case 's': // answered after 3 s
			s.OK, s.Took = true, 3*time.Second
		case 'x':
			s.Err = "refused"
		case 'l', 'L':
			s.Late = time.Second
		case 'n':
			s.Err = history.NotSent
		}
		out = append(out, history.Timed[history.Sample]{At: time.Duration(i) * period, V: s})
	}
	return out
}

func TestOutages(t *testing.T) {
	const p = 50 * time.Millisecond
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for _, c := range []struct {
		name, text    string
		lastGood, bad int // ms
		lastBad, good int
		open          bool
		least, most   int
		outages       int
		judged, late  int
		unsent        int
		starving      bool
		slow          time.Duration
		cause         string
	}{
		{name: "none", text: "....", judged: 4},
		{name: "one sample", text: "..x..", outages: 1, lastGood: 50, bad: 100, lastBad: 100, good: 150, most: 100, judged: 5},
		{name: "200 ms", text: "..xxxxx..", outages: 1, lastGood: 50, bad: 100, lastBad: 300, good: 350, least: 200, most: 300, judged: 9},
		{name: "from the start", text: "xx..", outages: 1, lastGood: 0, bad: 0, lastBad: 50, good: 100, least: 50, most: 100, judged: 4},
		{name: "to the end", text: "..xx", outages: 1, lastGood: 50, bad: 100, lastBad: 150, good: 150, open: true, least: 50, most: 100, judged: 4},
		{name: "late samples widen", text: ".LxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxL.", outages: 1, lastGood: 0, bad: 100, lastBad: 2000, good: 2100, least: 1900, most: 2100, judged: 41, late: 2},
		{name: "mostly late is not sure", text: "..xllx..", outages: 1, lastGood: 50, bad: 100, lastBad: 250, good: 300, least: 0, most: 250, judged: 6, late: 2, starving: true},
		{name: "only late is a hole", text: "..lll..", judged: 4, late: 3},
		{name: "not sent inside", text: "..xnx..", outages: 1, lastGood: 50, bad: 100, lastBad: 200, good: 250, least: 100, most: 200, judged: 6, unsent: 1},
		{name: "a hole inside is not sure", text: "..xx               xx..", outages: 1, lastGood: 50, bad: 100, lastBad: 1000, good: 1050, least: 100, most: 1000, judged: 8},
		{name: "held, then answered", text: "..xxxs..", outages: 1, lastGood: 50, bad: 100, lastBad: 200, good: 3250, least: 100, most: 3200, judged: 8},
		{name: "too slow to be good", text: "..xsss..", slow: time.Second, outages: 1, lastGood: 50, bad: 100, lastBad: 250, good: 300, least: 150, most: 250, judged: 8},
		{name: "begins slow", text: "..sss..", slow: time.Second, outages: 1, lastGood: 50, bad: 100, lastBad: 200, good: 250, least: 100, most: 200, judged: 7, cause: "answered after 3.00 s"},
		{name: "slow is good", text: "..sss..", judged: 7},
		{name: "on and off", text: ".x.x.", outages: 1, lastGood: 0, bad: 50, lastBad: 150, good: 200, most: 200, judged: 5},
		{name: "on and off for long", text: ".xx..xx..xxx.", outages: 1, lastGood: 0, bad: 50, lastBad: 550, good: 600, least: 200, most: 600, judged: 13},
		{name: "two", text: ".x.....................xx.", outages: 2, lastGood: 0, bad: 50, lastBad: 50, good: 100, most: 100, judged: 26},
		{name: "hardly calm", text: ".x....................x.", outages: 1, lastGood: 0, bad: 50, lastBad: 1100, good: 1150, most: 1150, judged: 24},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := samples(p, c.text)
			got := tell(list, p, span{0, list[len(list)-1].At}, rules{late: LateBound, slow: c.slow})
			if len(got.outages) != c.outages {
				t.Fatalf("outages %+v", got.outages)
			}
			if got.judged != c.judged || got.late != c.late || got.unsent != c.unsent {
				t.Errorf("judged %d, late %d, not sent %d", got.judged, got.late, got.unsent)
			}
			if c.outages == 0 {
				return
			}
			o := got.outages[0]
			if o.LastGood != ms(c.lastGood) || o.FirstBad != ms(c.bad) || o.LastBad != ms(c.lastBad) || o.FirstGood != ms(c.good) {
				t.Errorf("edges %v %v %v %v", o.LastGood, o.FirstBad, o.LastBad, o.FirstGood)
			}
			if o.Open != c.open || o.starved() != c.starving {
				t.Errorf("open %v starved %v", o.Open, o.starved())
			}
			if o.Least() != ms(c.least) || o.Most() != ms(c.most) {
				t.Errorf("between %v and %v", o.Least(), o.Most())
			}
			if o.Length()-o.ErrorBar() != o.Least() || o.Length()+o.ErrorBar() != o.Most() {
				t.Errorf("%v +- %v is not %v to %v", o.Length(), o.ErrorBar(), o.Least(), o.Most())
			}
			if o.Cause != cmp.Or(c.cause, "refused") {
				t.Errorf("cause %q", o.Cause)
			}
		})
	}
	if got := tell(samples(p, "..lll.."), p, span{0, ms(300)}, rules{late: LateBound}); got.blind != ms(200) || got.blindAt != ms(50) {
		t.Errorf("a hole of late samples: blind %v at %v", got.blind, got.blindAt)
	}
	if got := tell(samples(p, ".."), p, span{0, time.Minute}, rules{late: LateBound}); got.blind != time.Minute-p {
		t.Errorf("a series that stopped: blind %v", got.blind)
	}
	if got := tell(samples(p, "xx......"), p, span{ms(100), ms(350)}, rules{late: LateBound}); len(got.outages) != 0 || got.outside != 2 {
		t.Errorf("before the judged time: %+v", got)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i)
	}
	for _, c := range []struct {
		p    float64
		want time.Duration
	}{{0.99, 99}, {0.5, 50}, {1, 100}, {0.9999, 100}, {0.001, 1}} {
		if got := percentile(hundred, c.p); got != c.want {
			t.Errorf("p%v of 1..100 is %d, want %d", c.p*100, got, c.want)
		}
	}
	if got := percentile(nil, 0.99); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	if got := rank(10000, 0.9999); got != 9999 {
		t.Errorf("p99.99 of 10000 is the %d-th", got)
	}
}

// What the report shows must be what was judged.
func TestOutagesOfRecord(t *testing.T) {
	h := newBook(10).h
	h.Series[1] = history.Series{ID: 1, Period: 50 * time.Millisecond}
	h.Samples[1] = samples(50*time.Millisecond, "..xx..")
	if o := Outages(h, 1); len(o) != 1 || o[0].FirstBad != 100*time.Millisecond || o[0].Bad != 2 {
		t.Errorf("%+v", o)
	}
}
