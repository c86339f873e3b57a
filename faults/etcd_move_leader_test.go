package faults

import (
	"strings"
	"testing"
	"time"
)

func TestTerms(t *testing.T) {
	t0 := time.Now()
	x := terms{from: 3, to: 6, changes: 3, leaders: map[uint64]bool{1: true, 2: true}, first: t0, last: t0.Add(4 * time.Second), watched: 5 * time.Second}
	if got := x.interval(); got != 2*time.Second {
		t.Errorf("interval %s", got)
	}
	if got := x.String(); got != "3 changes of the leader in 5s, of 2 members, terms 3 to 6" {
		t.Error(got)
	}
	x = terms{from: 3, to: 3, watched: 8*time.Second + time.Millisecond}
	if x.interval() != 0 || !strings.Contains(x.String(), "the same leader for 8s, term 3") {
		t.Errorf("%s, interval %s", x, x.interval())
	}
}

func TestEveryIsBounded(t *testing.T) {
	for every, ok := range map[time.Duration]bool{0: false, -1: false, 500 * time.Millisecond: true, 10 * time.Second: true, time.Minute: false} {
		if errs := (&EtcdMoveLeader{Every: every}).Validate(); (len(errs) == 0) != ok {
			t.Errorf("move-leader %s: %v", every, errs)
		}
		if errs := (&EtcdDefrag{Every: every}).Validate(); (len(errs) == 0) != ok {
			t.Errorf("defrag %s: %v", every, errs)
		}
	}
}
