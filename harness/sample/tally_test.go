package sample

import (
	"strings"
	"testing"
	"time"

	"gameday/harness/history"
)

func TestTally(t *testing.T) {
	decl := history.Series{Verb: verbRead, Conn: connNew, Endpoint: "lb", Period: 250 * time.Millisecond}
	fill := func(from, to, every time.Duration) *tally {
		y := &tally{decl: decl}
		for at := from; at < to; at += every {
			y.add(at, true, "")
		}
		return y
	}
	const now, window = 100 * time.Second, 30 * time.Second
	tests := []struct {
		name string
		y    *tally
		want string
	}{
		{"all as due", fill(0, now, decl.Period), ""},
		{"a few were late", fill(0, now, decl.Period*3/2), ""},
		{"starved", fill(0, now, decl.Period*3), "at least 60 are needed"},
		{"stopped", fill(0, now-window/2-5*time.Second, decl.Period), "at least 60 are needed"},
		{"never sampled", &tally{decl: decl}, "0 samples"},
		{"bad inside", func() *tally {
			y := fill(0, now, decl.Period)
			y.add(now-20*time.Second, false, "refused: x")
			return y
		}(), "1 bad samples in the last 30s, the latest: refused: x"},
		{"bad before", func() *tally {
			y := fill(0, now, decl.Period)
			y.add(now-window-2*time.Second, false, "refused: x")
			return y
		}(), ""},
	}
	for _, tt := range tests {
		got := tt.y.trouble(now, window)
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}

	// Seconds are used again after tallyFor: what was there then is forgotten.
	y := &tally{decl: decl}
	y.add(5*time.Second, false, "old")
	for at := tallyFor - 20*time.Second; at < tallyFor+10*time.Second; at += decl.Period {
		y.add(at, true, "")
	}
	if got := y.trouble(tallyFor+10*time.Second, 20*time.Second); got != "" {
		t.Errorf("after the ring came round: %q", got)
	}
	if got := y.trouble(tallyFor, tallyFor); got == "" {
		t.Error("a window longer than what is kept was answered")
	}
	if good, bad := y.counts(); good != 120 || bad != 1 {
		t.Errorf("counted %d good and %d bad", good, bad)
	}
}
