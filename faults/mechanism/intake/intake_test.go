package intake

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestRuleSaysWhichAndWhat(t *testing.T) {
	mac, dns := net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddrPort("10.96.0.10:53")
	for _, r := range []Rule{
		{From: []net.HardwareAddr{mac}, Lose: 0.1}, {Loopback: 2379, Lose: 1}, {AnswersOf: dns, Queue: 7},
	} {
		if err := r.check(); err != nil {
			t.Error(err)
		}
	}
	for _, r := range []Rule{
		{Lose: 1}, {Loopback: 1}, {Loopback: 1, Lose: 1.1}, {Loopback: 1, Lose: -1}, {Loopback: 1, Lose: 1, Queue: 1},
		{Loopback: 1, AnswersOf: dns, Lose: 1}, {From: []net.HardwareAddr{mac[:3]}, Lose: 1},
		{AnswersOf: netip.MustParseAddrPort("[::1]:53"), Lose: 1},
	} {
		if r.check() == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}

func TestTimeToLiveIsNeverNone(t *testing.T) {
	for ttl, ok := range map[time.Duration]bool{-time.Second: false, 0: false, 999 * time.Microsecond: false, time.Millisecond: true} {
		if err := checkTTL(ttl); (err == nil) != ok {
			t.Errorf("%v: got %v", ttl, err)
		}
	}
}

// Of all packets none is drawn: a rule without a draw has no numgen, which not every kernel has.
func TestAllNeedNoDraw(t *testing.T) {
	if n := len((Rule{Lose: 1}).what(true)); n != 2 {
		t.Errorf("%d expressions, want a counter and a verdict", n)
	}
	if n := len((Rule{Lose: 0.5}).what(true)); n != 5 {
		t.Errorf("%d expressions, want a draw too", n)
	}
}
