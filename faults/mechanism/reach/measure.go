package reach

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Series is what was measured of the way to one peer and back.
type Series struct {
	Addr netip.Addr
	// Sent and Answered count probes; Refused are those that could not be sent, which are not among them.
	Sent, Answered, Refused int
	// RTTs are the times to the answers, sorted.
	RTTs []time.Duration
	// Overtaken counts answers that came after the answer to a later probe.
	Overtaken int
}

// Quantile is the RTT that a part q of the answers did not exceed; zero if none came.
func (s Series) Quantile(q float64) time.Duration {
	if len(s.RTTs) == 0 {
		return 0
	}
	return s.RTTs[min(int(q*float64(len(s.RTTs))), len(s.RTTs)-1)]
}

// Lost is the part of the probes that was not answered.
func (s Series) Lost() float64 {
	if s.Sent == 0 {
		return 0
	}
	return 1 - float64(s.Answered)/float64(s.Sent)
}

// Measure sends n probes to each of the IPv4 peers from inside a network namespace (as Look), one each every, and waits at
// most wait for the answers to the last ones.
func Measure(ctx context.Context, netns string, peers []netip.Addr, n int, every, wait time.Duration) ([]Series, error) {
	l, stop, err := begin(netns, peers)
	if err != nil {
		return nil, err
	}
	err = l.rounds(ctx, n, every, wait)
	if serr := stop(); err == nil {
		err = serr
	}
	var all []Series
	for i, p := range peers {
		all = append(all, series(p, l.history[i]))
	}
	return all, err
}

func (l *look) rounds(ctx context.Context, n int, every, wait time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	began := time.Now()
	for round := 0; round < n; {
		// A tick that was late is made good: n rounds take n times every.
		for due := min(n, 1+int(time.Since(began)/every)); round < due; round++ {
			if err := l.send(uint32(round)); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	end := time.NewTimer(wait)
	defer end.Stop()
	for !l.complete() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// complete says that every probe was answered.
func (l *look) complete() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !slices.ContainsFunc(l.history, func(probes []probe) bool {
		return slices.ContainsFunc(probes, func(p probe) bool { return !p.answered() })
	})
}

func series(addr netip.Addr, probes []probe) Series {
	s := Series{Addr: addr}
	type answer struct {
		round int
		back  time.Time
	}
	var answers []answer
	for round, p := range probes {
		switch {
		case p.err != nil:
			s.Refused++
			continue
		case p.answered():
			s.RTTs = append(s.RTTs, p.back.Sub(p.sent))
			answers = append(answers, answer{round, p.back})
		}
		s.Sent++
	}
	s.Answered = len(s.RTTs)
	slices.Sort(s.RTTs)
	slices.SortStableFunc(answers, func(a, b answer) int { return a.back.Compare(b.back) })
	newest := -1
	for _, a := range answers {
		if a.round < newest {
			s.Overtaken++
		}
		newest = max(newest, a.round)
	}
	return s
}

// String says it in a line, as evidence.
func (s Series) String() string {
	text := fmt.Sprintf("%s: %d of %d probes answered", s.Addr, s.Answered, s.Sent)
	if len(s.RTTs) > 0 {
		text += fmt.Sprintf(", median %v", s.Quantile(0.5).Round(10*time.Microsecond))
	}
	if s.Overtaken > 0 {
		text += fmt.Sprintf(", %d overtaken", s.Overtaken)
	}
	if s.Refused > 0 {
		text += fmt.Sprintf(", %d refused", s.Refused)
	}
	return text
}
