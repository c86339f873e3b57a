// Package selfcheck tries the instrument before anything is measured with it. It
// makes outages whose kind, beginning and end are known, on an endpoint of its own
// on the loopback (real sockets, TLS, HTTP/2), samples that with the very samplers
// of a run (harness/sample), writes and reads the record as a run does
// (harness/history), and asks the very outage finder of the SLOs (harness/slo) what
// it sees. Each outage must be found, at its place, with an error bar that the
// paces of the samplers explain; where none was made, none may be found.
//
// A machine that is too busy to say is told from an instrument that is wrong: then
// the check is inconclusive.
package selfcheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"gameday/harness/history"
	"gameday/harness/sample"
	"gameday/harness/slo"
)

const (
	// together is how many trials go on at once: they mostly wait.
	together = 18
	// tries of a trial that the machine was too busy for.
	tries = 3
	// begin bounds the time until the samplers are under way.
	begin = 5 * time.Second
	// slower is how much later than a good answer a slow one comes.
	slower = slo.SlowBound * 3 / 10
)

// Run makes the trials and judges each. What could not be tried is inconclusive.
func Run(ctx context.Context, trials []Trial) history.SelfCheck {
	began := time.Now()
	c := history.SelfCheck{Trials: make([]history.SelfTrial, len(trials))}
	todo := make([]int, len(trials))
	for i := range trials {
		todo[i] = i
	}
	for range tries {
		if len(todo) == 0 || ctx.Err() != nil {
			break
		}
		batch := make([]Trial, len(todo))
		for i, n := range todo {
			batch[i] = trials[n]
		}
		var again []int
		for i, r := range once(ctx, batch) {
			c.Trials[todo[i]] = r
			if r.Verdict == string(slo.Inconclusive) {
				again = append(again, todo[i])
			}
		}
		todo = again
	}
	c.Verdict, c.Reason = decide(c.Trials)
	if err := ctx.Err(); err != nil && c.Verdict != string(slo.Fail) {
		c.Verdict, c.Reason = string(slo.Inconclusive), "the check did not come to its end: "+context.Cause(ctx).Error()
	}
	c.Took = time.Since(began)
	return c
}

// decide is the worst verdict of all trials, and the first ground for it.
func decide(list []history.SelfTrial) (verdict, reason string) {
	if len(list) == 0 {
		return string(slo.Inconclusive), "nothing was tried"
	}
	worst, n := slo.Pass, 0
	for _, t := range list {
		v := slo.Verdict(t.Verdict)
		if v != slo.Pass && v != slo.Fail {
			v = slo.Inconclusive // whatever it says
		}
		if was := worst; slo.Worse(worst, v) != was {
			worst, n, reason = v, 0, name(t)+": "+t.Reason
		}
		if v == worst {
			n++
		}
	}
	switch {
	case worst == slo.Pass:
		reason = fmt.Sprintf("%d known outages and controls were seen as what they were", n)
	case n > 1:
		reason += fmt.Sprintf(" (and %d more)", n-1)
	}
	return string(worst), reason
}

// name tells a trial from the others.
func name(t history.SelfTrial) string {
	what := fmt.Sprintf("%s for %s", t.Kind, t.Asked)
	if t.Kind == kindNone {
		what = fmt.Sprintf("no outage for %s", t.Asked)
	}
	return fmt.Sprintf("%s, seen by %s on %s connections (%s)", what, t.Verb, t.Conn, t.Where)
}

// once makes each trial once, with a record of their own.
func once(ctx context.Context, trials []Trial) []history.SelfTrial {
	out := make([]history.SelfTrial, len(trials))
	done := make([]*filmed, len(trials))
	h, err := film(ctx, trials, done)
	for i, t := range trials {
		switch f := done[i]; {
		case err == nil && f != nil && f.err == nil:
			out[i] = judge(h, i+1, t, f.made, f.late)
		default:
			var why error
			if f != nil {
				why = f.err
			}
			out[i] = history.SelfTrial{
				Kind: t.Kind, Verb: t.Way.Verb, Conn: t.Way.Conn, Where: t.Way.Where, Period: t.Way.Period, Fast: t.Way.Fast,
				Asked: t.Length, Bound: t.bound(), Verdict: string(slo.Inconclusive), Reason: fmt.Sprintf("it could not be tried: %v", errors.Join(err, why)),
			}
		}
	}
	return out
}

// filmed is what was made in a trial.
type filmed struct {
	made made
	late time.Duration
	err  error
}

// film makes all outages and reads back what was recorded of them.
func film(ctx context.Context, trials []Trial, done []*filmed) (_ *history.History, err error) {
	dir, err := os.MkdirTemp("", "gameday-selfcheck-")
	if err != nil {
		return nil, fmt.Errorf("folder of the self-check: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "history.jsonl")
	record, err := history.Create(path, history.Run{ID: "selfcheck"}, nil)
	if err != nil {
		return nil, err
	}
	beating, stop := context.WithCancel(ctx)
	var beats pulse
	var heart sync.WaitGroup
	heart.Go(func() { beats.run(beating) })
	rehearsal := sample.Rehearse(record)
	var all errgroup.Group
	all.SetLimit(together)
	for i, t := range trials {
		all.Go(func() error {
			f := &filmed{}
			done[i] = f
			from := time.Now()
			f.made, f.err = t.play(ctx, record, rehearsal, i+1)
			f.late = beats.worst(from, time.Now())
			return nil // one that cannot be tried keeps no other from it
		})
	}
	errs := []error{all.Wait(), rehearsal.Close()}
	stop()
	heart.Wait()
	errs = append(errs, record.Close())
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return history.Load(path)
}

// play samples an endpoint of its own as series id while it makes the outage.
func (t Trial) play(ctx context.Context, record *history.Recorder, rehearsal *sample.Rehearsal, id int) (m made, err error) {
	e, err := newEndpoint(slo.SlowBound + slower)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	schedule, stop := context.WithCancel(ctx)
	sampled := make(chan error, 1)
	go func() { sampled <- rehearsal.Sample(schedule, id, t.Way, e.as()) }()
	m, err = t.happen(ctx, record, e, id)
	stop()
	return m, errors.Join(err, <-sampled)
}

// happen makes the outage at another point of the period for each series.
func (t Trial) happen(ctx context.Context, record *history.Recorder, e *endpoint, id int) (m made, err error) {
	opening, cancel := context.WithTimeout(ctx, begin+warm*t.Way.Period)
	defer cancel()
	if err := e.ready(opening); err != nil {
		return m, err
	}
	if err := wait(ctx, t.Way.Period*time.Duration(id*3%10)/10); err != nil {
		return m, err
	}
	m.breaking = record.Now()
	if t.Kind != kindNone {
		if err := e.breakIt(t.Kind); err != nil {
			return m, err
		}
	}
	m.broken = record.Now()
	if err := wait(ctx, t.Length); err != nil {
		return m, err
	}
	m.mending = record.Now()
	if t.Kind != kindNone {
		if err := e.mend(); err != nil {
			return m, err
		}
	}
	m.mended = record.Now()
	return m, wait(ctx, 3*t.Way.Period) // some good samples after it
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
