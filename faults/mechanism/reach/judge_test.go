package reach

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// history draws probes, one letter a round of 1.5 ms: A answered, . not answered, x refused.
func history(peers ...string) ([]netip.Addr, [][]probe) {
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var addrs []netip.Addr
	var all [][]probe
	for i, rounds := range peers {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
		var probes []probe
		for round, letter := range rounds {
			p := probe{sent: t0.Add(time.Duration(round) * interval)}
			switch letter {
			case 'A':
				p.back = p.sent.Add(100 * time.Microsecond)
			case 'x':
				p.err = errors.New("no route to host")
			}
			probes = append(probes, p)
		}
		all = append(all, probes)
	}
	return addrs, all
}

func TestJudge(t *testing.T) {
	type verdict struct {
		State  State
		InARow int
		Round  int // of Since
	}
	none := verdict{Unclear, 0, -1}
	for _, tc := range []struct {
		name  string
		peers []string
		want  []verdict
	}{
		{"nothing sent", []string{"", ""}, []verdict{none, none}},
		{"too few to say", []string{"AAAAAAA", "AAAAAAA"}, []verdict{none, none}},
		{"both answer", []string{"AAAAAAAA", "AAAAAAAA"}, []verdict{{Answering, 8, 0}, {Answering, 8, 0}}},
		{"the newest answer is still on its way", []string{"AAAAAAAA.", "AAAAAAAA."}, []verdict{{Answering, 8, 0}, {Answering, 8, 0}}},
		{"one is silent", []string{".........", "AAAAAAAAA"}, []verdict{{Silent, 8, 0}, {Answering, 9, 0}}},
		{"not ripe yet: the control has not answered a later round", []string{"........", "AAAAAAAA"}, []verdict{none, {Answering, 8, 0}}},
		{"silent since the cut", []string{"AAAA.........", "AAAAAAAAAAAAA"}, []verdict{{Silent, 8, 4}, {Answering, 13, 0}}},
		{"answering since the heal", []string{".....AAAAAAAA", "AAAAAAAAAAAAA"}, []verdict{{Answering, 8, 5}, {Answering, 13, 0}}},
		{"one answer in the silence", []string{".....A...", "AAAAAAAAA"}, []verdict{none, {Answering, 9, 0}}},
		{"one loss in the answers", []string{"AAAA.AAAA", "AAAAAAAAA"}, []verdict{none, {Answering, 9, 0}}},
		{"nobody answers: no control", []string{"............", "............"}, []verdict{none, none}},
		{"the machine stalls for all", []string{"AAAAAAAA............", "AAAAAAAA............"}, []verdict{{Answering, 8, 0}, {Answering, 8, 0}}},
		{"only rounds that the control answered count", []string{"............", "A...AAA...AA"}, []verdict{none, none}},
		{"enough of them count", []string{"..............", "A.A.AAA..AAAA."}, []verdict{{Silent, 8, 0}, none}},
		{"any other peer is a control", []string{".........", "A.A.A.A.A", ".A.A.A.A."}, []verdict{{Silent, 8, 0}, none, none}},
		{"two cut off", []string{".........", ".........", "AAAAAAAAA"}, []verdict{{Silent, 8, 0}, {Silent, 8, 0}, {Answering, 9, 0}}},
		{"alone it can answer but not be silent", []string{"AAAAAAAA"}, []verdict{{Answering, 8, 0}}},
		{"refused is not silent", []string{"....x....", "AAAAAAAAA"}, []verdict{none, {Answering, 9, 0}}},
		{"refused long ago", []string{"xxAAA.........", "AAAAAAAAAAAAAA"}, []verdict{{Silent, 8, 5}, {Answering, 14, 0}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addrs, probes := history(tc.peers...)
			var got []verdict
			for i, p := range judge(addrs, probes) {
				v := verdict{p.State, p.InARow, -1}
				for round, pr := range probes[i] {
					if pr.sent.Equal(p.Since) {
						v.Round = round
					}
				}
				got = append(got, v)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestShortSilenceIsNone(t *testing.T) {
	addrs, probes := history("............", "AAAAAAAAAAAA")
	for i := range probes {
		for round := range probes[i] { // all sent within a millisecond, as after a stall
			p := &probes[i][round]
			back := p.back.Sub(p.sent)
			p.sent = probes[i][0].sent.Add(time.Duration(round) * 50 * time.Microsecond)
			if p.answered() {
				p.back = p.sent.Add(back)
			}
		}
	}
	if got := judge(addrs, probes)[0].State; got != Unclear {
		t.Errorf("12 unanswered probes in 0.6 ms: got %s, want unclear", got)
	}
}

func TestSummary(t *testing.T) {
	addrs, probes := history("AAx.A")
	probes[0][1].back = probes[0][1].sent.Add(5 * time.Millisecond)
	got := judge(addrs, probes)[0]
	if got.Sent != 5 || got.Answered != 3 || got.RTT != 100*time.Microsecond || got.SendError == nil {
		t.Errorf("got %+v", got)
	}
	if want := probes[0][1].back; !got.LastAnswer.Equal(want) { // later than the answer to the last probe? no: 6.5 ms > 6.1 ms
		t.Errorf("last answer: got %v, want %v", got.LastAnswer, want)
	}
	if want := "10.0.0.0 unclear (0 in a row; 3 of 5 probes answered, median 100µs, not sent: no route to host)"; got.String() != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
