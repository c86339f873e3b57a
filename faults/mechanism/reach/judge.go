package reach

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// State is what is known about a peer.
type State string

// The states.
const (
	// Answering: the newest probes were answered.
	Answering State = "answering"
	// Silent: the newest probes were accepted for sending and not answered, while another peer answered those sent with
	// them.
	Silent State = "silent"
	// Unclear: neither is shown.
	Unclear State = "unclear"
)

const (
	// needed is how many probes in a row show a state. With a few lost ones, as on an overloaded machine, nothing is shown.
	needed = 8
	// minSilence is the shortest time that counts as silence, however many probes were sent in it. An answer between
	// hosts on one bridge takes about 0.1 ms; the rest is for a receiver that does not get the processor at once.
	minSilence = 10 * time.Millisecond
)

// Peer is what was seen of one peer.
type Peer struct {
	Addr  netip.Addr
	State State
	// Since is when the first of the probes was sent that show the state; zero if Unclear.
	Since time.Time
	// InARow is how many probes show the state.
	InARow int
	// Sent and Answered count all probes.
	Sent, Answered int
	// LastAnswer is when the newest answer came; zero if none did.
	LastAnswer time.Time
	// RTT is the median time to an answer; zero if none came.
	RTT time.Duration
	// SendError is the newest refusal to send. Such probes count as sent, and show nothing: a refusal is not silence.
	SendError error
}

// String says it in a line, as evidence.
func (p Peer) String() string {
	s := fmt.Sprintf("%s %s (%d in a row; %d of %d probes answered", p.Addr, p.State, p.InARow, p.Answered, p.Sent)
	if p.RTT > 0 {
		s += fmt.Sprintf(", median %v", p.RTT.Round(time.Microsecond))
	}
	if p.SendError != nil {
		s += ", not sent: " + p.SendError.Error()
	}
	return s + ")"
}

// probe is one echo request to one peer.
type probe struct {
	sent time.Time
	back time.Time // zero: no answer was read yet
	err  error     // of sending
}

func (p probe) answered() bool { return !p.back.IsZero() }

// judge looks at one history per peer; the probes with the same index were sent together, in one round.
//
// Answers are read from one socket in the order of their arrival. So when an answer was read to a probe of a later round,
// the answer to an earlier one is not merely waiting for us to get the processor: it did not come. Only such rounds count
// against a peer, and only those in which another peer did answer.
func judge(addrs []netip.Addr, history [][]probe) []Peer {
	var answers []int // of each round, over all peers
	for _, probes := range history {
		answers = append(answers, make([]int, len(probes)-len(answers))...)
		for round, pr := range probes {
			if pr.answered() {
				answers[round]++
			}
		}
	}
	var peers []Peer
	for i, probes := range history {
		peers = append(peers, judgeOne(summary(addrs[i], probes), probes, answers))
	}
	return peers
}

func judgeOne(p Peer, probes []probe, answers []int) Peer {
	newest, ripe := -1, -1 // the newest round that this peer has answered, and that another one has
	for round, pr := range probes {
		others := answers[round]
		if pr.answered() {
			newest = round
			others--
		}
		if others > 0 {
			ripe = round
		}
	}
	var silent []probe // since the newest answer
	refused := false
	for round := newest + 1; round < ripe; round++ {
		refused = refused || probes[round].err != nil
		if answers[round] > 0 {
			silent = append(silent, probes[round])
		}
	}
	if len(silent) > 0 {
		since := silent[0].sent
		if len(silent) >= needed && !refused && probes[ripe].sent.Sub(since) >= minSilence {
			p.State, p.Since, p.InARow = Silent, since, len(silent)
		}
		return p
	}
	first := newest
	for first > 0 && probes[first-1].answered() {
		first--
	}
	if newest-first+1 >= needed && newest >= 0 {
		p.State, p.Since, p.InARow = Answering, probes[first].sent, newest-first+1
	}
	return p
}

func summary(addr netip.Addr, probes []probe) Peer {
	p := Peer{Addr: addr, State: Unclear, Sent: len(probes)}
	var rtts []time.Duration
	for _, pr := range probes {
		if pr.err != nil {
			p.SendError = pr.err
		}
		if pr.answered() {
			rtts = append(rtts, pr.back.Sub(pr.sent))
			if pr.back.After(p.LastAnswer) {
				p.LastAnswer = pr.back
			}
		}
	}
	p.Answered = len(rtts)
	if len(rtts) > 0 {
		slices.Sort(rtts)
		p.RTT = rtts[len(rtts)/2]
	}
	return p
}
