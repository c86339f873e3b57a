package reach

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

func TestParseTakesOnlyOurAnswers(t *testing.T) {
	ours := []byte{0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 42, 0, 0, 0, 3}
	foreign := append([]byte{1}, ours[1:]...)
	l := &look{nonce: 7}
	for _, tc := range []struct {
		name string
		msg  icmp.Message
		want bool
	}{
		{"ours", icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &icmp.Echo{Data: ours}}, true},
		{"a request, as seen when a host probes itself", icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{Data: ours}}, false},
		{"another program's", icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &icmp.Echo{Data: foreign}}, false},
		{"too short", icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &icmp.Echo{Data: ours[:8]}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			packet, err := tc.msg.Marshal(nil)
			if err != nil {
				t.Fatal(err)
			}
			round, peer, ok := l.parse(packet)
			if ok != tc.want || ok && (round != 42 || peer != 3) {
				t.Errorf("got round %d, peer %d, %v", round, peer, ok)
			}
		})
	}
	if _, _, ok := l.parse([]byte{0}); ok {
		t.Error("a torn packet was taken")
	}
}

func TestLookRefusesWhatItCannotProbe(t *testing.T) {
	_, err := Look(t.Context(), "", []netip.Addr{netip.MustParseAddr("::1")}, time.Second)
	if err == nil || !strings.Contains(err.Error(), "only IPv4") {
		t.Errorf("IPv6: got %v", err)
	}
	_, err = Look(t.Context(), "/nowhere/ns/net", []netip.Addr{netip.MustParseAddr("127.0.0.1")}, time.Second)
	if err == nil || !strings.Contains(err.Error(), "/nowhere/ns/net") {
		t.Errorf("no such namespace: got %v", err)
	}
}
