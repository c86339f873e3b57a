package sample

import (
	"context"
	"sync"
	"time"

	"gameday/harness/history"
)

// NotSent is history.NotSent.
const NotSent = history.NotSent

// pace is how often a series is sampled.
type pace struct {
	// Period between the starts of samples while all is well.
	Period time.Duration
	// Fast is the period from a bad sample on until a good one, so that the
	// end of an outage is seen as sharply as its beginning.
	Fast time.Duration
	// Suspect is how long a sample may wait for its answer before the series
	// goes Fast as after a bad one: a target that swallows requests is not to
	// be seen only at the deadline. 0 never does.
	Suspect time.Duration
	// Deadline of each sample.
	Deadline time.Duration
}

// limit is how many samples may be in flight: all that can be started Fast
// within a deadline, and a few more for ends that come late. So it is reached
// only when requests outlive their deadlines.
func (p pace) limit() int { return int(p.Deadline/p.Fast) + 4 }

// answer is the outcome of one request. Err is empty if it was good.
type answer struct {
	Code    int
	Err     string
	AuditID string
}

// prober samples one target on a schedule. It knows no Kubernetes: a request is
// any function. Each sample runs on its own, so that a slow one does not hold
// up the next; each is stamped when it really starts, and says how long after
// its due time that was, so that a starved harness is not taken for a slow
// target.
type prober struct {
	id   int
	pace pace
	// once makes one request; it returns when its ctx ends.
	once func(ctx context.Context) answer
	// record takes each sample with the time of its start; it is called
	// concurrently.
	record func(start time.Time, s history.Sample)

	wg      sync.WaitGroup
	changed chan struct{} // a sample turned the series good or bad

	mu       sync.Mutex
	flights  []time.Time // starts of the samples in flight, oldest first
	lastGood time.Time   // start of the latest sample that was good
	lastBad  time.Time
	fastFrom time.Time // when the series went fast; zero while it is not
}

func newProber(id int, p pace, once func(context.Context) answer, record func(time.Time, history.Sample)) *prober {
	return &prober{id: id, pace: p, once: once, record: record, changed: make(chan struct{}, 1)}
}

// run samples until schedule ends and then waits for the samples in flight.
// They end at their deadlines, or at once when requests ends; samples that were
// cut off that way are not recorded. offset delays the first sample, so that
// many series do not start together.
func (p *prober) run(schedule, requests context.Context, offset time.Duration) {
	defer p.wg.Wait()
	last := time.Now().Add(offset - p.pace.Period)
	promised := last // when the last sample that the base period owes was due
	timer := time.NewTimer(offset)
	defer timer.Stop()
	for {
		_, wake := p.next(last, time.Now())
		timer.Reset(time.Until(wake))
		select {
		case <-schedule.Done():
			return
		case <-p.changed:
		case <-timer.C:
		}
		now := time.Now()
		due, _ := p.next(last, now)
		if now.Before(due) || schedule.Err() != nil {
			continue
		}
		if p.launch(requests, due, now) {
			promised = now
		} else if now.Sub(promised) >= p.pace.Period {
			promised = now
			p.record(now, history.Sample{Series: p.id, Err: NotSent})
		}
		// On time by the schedule, not by the start before, which was late.
		if last = due; now.Sub(due) > p.pace.Fast {
			last = now // what was missed is not made up for
		}
	}
}

// next is when the next sample is due and when to look again.
func (p *prober) next(last, now time.Time) (due, wake time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	due = last.Add(p.pace.Period)
	wake = due
	fast := p.lastBad.After(p.lastGood)
	if !fast && p.pace.Suspect > 0 && len(p.flights) > 0 {
		suspectAt := p.flights[0].Add(p.pace.Suspect)
		if fast = !now.Before(suspectAt); !fast && suspectAt.Before(wake) {
			wake = suspectAt
		}
	}
	if !fast {
		p.fastFrom = time.Time{}
		return due, wake
	}
	if p.fastFrom.IsZero() {
		p.fastFrom = now
	}
	// What became due only because the series went fast is not late.
	if d := last.Add(p.pace.Fast); d.After(p.fastFrom) {
		due = d
	} else if p.fastFrom.Before(due) {
		due = p.fastFrom
	}
	return due, due
}

// launch starts a sample unless too many are in flight.
func (p *prober) launch(requests context.Context, due, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.flights) >= p.pace.limit() {
		return false
	}
	p.flights = append(p.flights, now)
	p.wg.Go(func() { p.sample(requests, due, now) })
	return true
}

func (p *prober) sample(requests context.Context, due, flight time.Time) {
	ctx, cancel := context.WithTimeout(requests, p.pace.Deadline)
	defer cancel()
	start := time.Now()
	a := p.once(ctx)
	took := time.Since(start)
	cutOff := a.Err != "" && requests.Err() != nil
	p.landed(flight, start, a.Err == "", cutOff)
	if cutOff {
		return
	}
	s := history.Sample{Series: p.id, Took: took, Late: start.Sub(due), OK: a.Err == "", Code: a.Code, Err: a.Err}
	if !s.OK {
		s.AuditID = a.AuditID
	}
	p.record(start, s)
}

// landed takes a sample out of the air and tells the schedule if the series
// turned good or bad by it.
func (p *prober) landed(flight, start time.Time, ok, cutOff bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range p.flights {
		if f.Equal(flight) {
			p.flights = append(p.flights[:i], p.flights[i+1:]...)
			break
		}
	}
	if cutOff {
		return
	}
	was := p.lastBad.After(p.lastGood)
	switch {
	case ok && start.After(p.lastGood):
		p.lastGood = start
	case !ok && start.After(p.lastBad):
		p.lastBad = start
	}
	if p.lastBad.After(p.lastGood) != was {
		select {
		case p.changed <- struct{}{}:
		default: // the schedule is told already
		}
	}
}
