// Package load asks more and more of a cluster until it no longer keeps up: CronJobs
// a minute, step by step, until their starts break their promise. It finds the knee
// and says what was saturated there, as far as the record shows it.
//
// The published case is 1000 CronJobs a minute asked of three nodes, of which about
// 200 were held: about one start of a pod per second and node.
package load

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"gameday/harness/history"
	"gameday/harness/run"
	"gameday/harness/slo"
)

// Config of the load.
type Config struct {
	// Rates are CronJobs a minute, rising.
	Rates []int
	// Step is how long each rate is held: whole minutes, one slot each.
	Step time.Duration
	// Budget is what the 99th percentile of the start latency must not exceed.
	Budget time.Duration
}

// The bounds of a load: all that it makes stays in etcd until its end.
const (
	maxSteps = 20
	maxRate  = 5000
	maxJobs  = 20_000
	// making is how long the CronJobs of one step may take to be made, settle how
	// long after its CronJob was made a slot must be to be sure to be promised.
	making = 2 * time.Minute
	settle = 2 * time.Second
	// look is how often the slots are looked at meanwhile.
	look = 500 * time.Millisecond
)

// Validate refuses what is no load, or too much of one.
func (c Config) Validate() error {
	jobs := 0
	for i, r := range c.Rates {
		if r < 1 || r > maxRate || i > 0 && r <= c.Rates[i-1] {
			return fmt.Errorf("rate %d: rates must rise, from 1 to %d CronJobs a minute", r, maxRate)
		}
		jobs += r * (c.minutes() + 1) // a minute goes by while the next are made
	}
	switch {
	case len(c.Rates) == 0 || len(c.Rates) > maxSteps:
		return fmt.Errorf("%d rates: name 1 to %d", len(c.Rates), maxSteps)
	case c.Step < time.Minute || c.Step%time.Minute != 0 || c.Step > time.Hour:
		return fmt.Errorf("a step of %s: it must be whole minutes, at most an hour, because a CronJob has a slot each minute", c.Step)
	case c.Budget < time.Second || c.Budget > 10*time.Minute:
		return fmt.Errorf("a budget of %s: it must be from 1s to 10m, because the API tells times to the second", c.Budget)
	case jobs > maxJobs:
		return fmt.Errorf("about %d Jobs would be made, more than %d: ask for less, or for shorter steps", jobs, maxJobs)
	}
	return nil
}

func (c Config) minutes() int { return int(c.Step / time.Minute) }

// Bound is the most that all steps take: what each makes, waits for its first slot,
// holds, and waits for the last start; and the rest at the end.
func (c Config) Bound() time.Duration {
	return time.Duration(len(c.Rates))*(making+time.Minute+c.Step+c.Budget+settle) + making
}

// Body raises the load in a run.
type Body struct {
	cfg Config

	mu   sync.Mutex
	seen history.History // of what slots need
}

// New is a Body that has not begun.
func New(cfg Config) *Body { return &Body{cfg: cfg} }

var _ run.Body = (*Body)(nil)

// Event implements run.Body.
func (b *Body) Event(e history.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case e.Run != nil:
		b.seen.Run = *e.Run
	case e.CronJob != nil:
		b.seen.CronJobs = append(b.seen.CronJobs, history.Timed[history.CronJob]{At: e.At, Seq: e.Seq, V: *e.CronJob})
	case e.Job != nil:
		b.seen.Jobs = append(b.seen.Jobs, history.Timed[history.Job]{At: e.At, Seq: e.Seq, V: *e.Job})
	case e.Pod != nil:
		b.seen.Pods = append(b.seen.Pods, history.Timed[history.Pod]{At: e.At, Seq: e.Seq, V: *e.Pod})
	}
}

// slots are those promised in [from, to), as far as is known now.
func (b *Body) slots(from, to time.Time) ([]slo.Slot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all, _, err := slo.Slots(&b.seen, time.Since(b.seen.Run.Began))
	return within(all, from, to), err
}

func within(all []slo.Slot, from, to time.Time) []slo.Slot {
	var out []slo.Slot
	for _, s := range all {
		if !s.At.Before(from) && s.At.Before(to) {
			out = append(out, s)
		}
	}
	return out
}

// phaseName is how the record names the step of a rate; rateOf is its reverse.
func phaseName(rate int) string { return fmt.Sprintf("load/%d-a-minute", rate) }

func rateOf(path string) (rate int, ok bool) {
	n, err := fmt.Sscanf(path, "load/%d-a-minute", &rate)
	return rate, n == 1 && err == nil && path == phaseName(rate)
}

// Run implements run.Body: step by step, until one breaks the budget.
func (b *Body) Run(ctx context.Context, w run.World) (text string, err error) {
	m := meter{cluster: w.Cluster}
	broken := false
	for _, rate := range b.cfg.Rates {
		if broken, err = b.step(ctx, w, m, rate); err != nil || broken {
			break
		}
	}
	// They would go on for ever, and nothing could come to rest.
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), making)
	defer cancel()
	if restErr := w.Workload.Rest(rest); err == nil {
		err = restErr
	}
	if err != nil {
		return "", err
	}
	if broken {
		return fmt.Sprintf("%d CronJobs a minute were too many", w.Workload.CronJobs()), nil
	}
	return fmt.Sprintf("%d CronJobs a minute were held", w.Workload.CronJobs()), nil
}

// step holds one rate and says whether its slots broke the budget.
func (b *Body) step(ctx context.Context, w run.World, m meter, rate int) (broken bool, err error) {
	making, cancel := context.WithTimeoutCause(ctx, making, fmt.Errorf("%d CronJobs were not made within %s", rate, making))
	err = w.Workload.Raise(making, rate)
	cancel()
	if err != nil {
		return false, err
	}
	first := time.Now().Add(settle).Truncate(time.Minute).Add(time.Minute)
	last := first.Add(b.cfg.Step - time.Minute)
	phase := func(state, outcome, seen string) {
		w.Record.Add(history.Event{Phase: &history.Phase{Path: phaseName(rate), State: state, Outcome: outcome, Seen: seen}})
	}
	phase("began", "", "")
	w.Say("%d CronJobs a minute: waiting <= %s for their starts", rate, (time.Until(last) + b.cfg.Budget).Round(time.Second))
	if err := until(ctx, last, nil); err != nil {
		return false, err
	}
	before := m.read(ctx, w.Record.Now)
	// A time of the API is cut to the second, and is told a moment later.
	end := last.Add(b.cfg.Budget + settle)
	var slots []slo.Slot
	err = until(ctx, end, func() (bool, error) {
		var err error
		if slots, err = b.slots(first, last.Add(time.Second)); err != nil {
			return false, err
		}
		return len(slots) >= rate*b.cfg.minutes() && started(slots) == len(slots), nil
	})
	if err != nil {
		return false, err
	}
	busy := m.read(ctx, w.Record.Now).since(before)
	w.Record.Add(history.Event{Busy: &busy})
	seen := fmt.Sprintf("%d of %d slots started", started(slots), rate*b.cfg.minutes())
	phase("ended", "proceeded", seen)
	return !held(slots, b.cfg.Budget), nil
}

func started(slots []slo.Slot) int {
	n := 0
	for _, s := range slots {
		if !s.Started.IsZero() {
			n++
		}
	}
	return n
}

// held says whether the slots kept the budget.
func held(slots []slo.Slot, budget time.Duration) bool {
	p := percentile(latencies(slots), 0.99)
	return p <= budget
}

// until waits for a moment, or for done before it.
func until(ctx context.Context, at time.Time, done func() (bool, error)) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	for {
		if done != nil {
			if ok, err := done(); ok || err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return nil
		case <-tick.C:
		}
	}
}

// Scenario is a run of the load as a scenario, so that its record is judged as any
// other: the same cluster, workload and promise.
func Scenario(cfg Config, version string, controlPlanes, workers int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: gameday/v1alpha1\nkind: Scenario\nname: load-cron\n")
	fmt.Fprintf(&b, "description: CronJobs a minute, from %d to %d or until their starts are too late.\n", cfg.Rates[0], cfg.Rates[len(cfg.Rates)-1])
	fmt.Fprintf(&b, "cluster: {version: %s, controlPlanes: %d, workers: %d}\n", version, controlPlanes, workers)
	fmt.Fprintf(&b, "workload:\n  cronJobs: {count: %d, schedule: \"* * * * *\", duration: 2s}\n", cfg.Rates[0])
	fmt.Fprintf(&b, "steady: 10s\nrun: %s\n", cfg.Bound())
	fmt.Fprintf(&b, "slos:\n  - cron.start-latency: {p99: %s, min: 1}\n", cfg.Budget)
	return b.String()
}
