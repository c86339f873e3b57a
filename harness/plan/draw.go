package plan

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"gameday/clusters/upgrade"
	"gameday/faults"
	"gameday/scenarios"
)

const (
	// maxDrawn is as many faults as a scenario may list.
	maxDrawn = 100
	// maxMoments bounds the draws, whatever the gap.
	maxMoments = 1000
)

// Draw puts a list of faults in the place of random ones; a scenario that has a
// list already is returned as it is. It is a pure function: the same scenario,
// facts and seed give the same faults. The seed of the scenario, if it gives one,
// goes before the seed of the run.
//
// Moments come with exponential gaps. At each a fault, one of its trials and its
// places are drawn, by generators of that moment alone. The first that fits is
// taken: with all that was drawn before it breaks neither the fault budget nor the
// limit of how many may be there at once, and does not meet itself, by the same
// arithmetic that Make holds a list to. If none fits the moment goes by.
//
// With an upgrade a moment is bound to the phase that is expected to run then, as
// an offset from its beginning: nobody knows how long a phase takes, but each
// begins, and what the upgrade takes away is known of each phase and of no time of
// day. Without an upgrade it is an offset from the beginning of the run.
func Draw(s *scenarios.Scenario, seed uint64, facts Facts) (*scenarios.Scenario, error) {
	r := s.Random
	if r == nil {
		return s, nil
	}
	if r.Seed != 0 {
		seed = r.Seed
	}
	d := &drawer{s: s, seed: seed, facts: facts, kinds: map[string]faults.Kind{}}
	problem := func(field, mend, format string, args ...any) error {
		return &scenarios.Invalid{Problems: []scenarios.Problem{{
			File: s.File, Line: r.Line, Field: field, Mend: mend, Text: fmt.Sprintf(format, args...),
		}}}
	}
	steps, err := s.Steps(facts.Known)
	if err != nil {
		return nil, problem("upgrade.strategy", "", "%v", err)
	}
	d.axis = newAxis(s, steps)
	if err := d.candidates(); err != nil {
		return nil, problem("faults.random.from", "", "%v", err)
	}
	until := d.length()
	if r.Until > 0 {
		until = min(until, r.Until)
	}
	if r.MeanGap <= 0 || until <= 0 { // not loaded, but made in Go
		return nil, problem("faults.random", "give meanGap and run", "there is no time to draw for")
	}
	most := maxDrawn
	if r.Count > 0 {
		most = min(r.Count, maxDrawn)
	}
	if int64(until/r.MeanGap) > maxMoments {
		return nil, problem("faults.random.meanGap", "raise it", "in %s there would be more than %d moments", short(until), maxMoments)
	}
	for n, at := range d.moments(r.MeanGap, until) {
		if len(d.drawn) < most {
			d.moment(n, at.Truncate(time.Second))
		}
	}
	if len(d.drawn) == 0 {
		mend := "draw from others, allow more, or take another seed"
		if !d.able {
			mend = "take another provider, or a larger cluster"
		}
		return nil, problem("faults.random", mend, "with seed %d no fault fits into the budgets", seed)
	}
	out := *s
	out.Random, out.Faults = nil, nil
	for _, w := range d.drawn {
		out.Faults = append(out.Faults, *w.fault)
	}
	return &out, nil
}

type drawer struct {
	s     *scenarios.Scenario
	seed  uint64
	facts Facts
	axis  *axis
	kinds map[string]faults.Kind
	// from are the faults to draw from, by name.
	from  []candidate
	drawn []window
	// able says that the provider can do one of them at least.
	able bool
}

// candidate is a fault to draw, with its trials.
type candidate struct {
	kind   faults.Kind
	trials []trial
}

type trial struct {
	faults.Trial
	with faults.Fault
}

// rand is the generator of one draw of one moment.
func (d *drawer) rand(moment int, what string) *rand.Rand {
	return Rand(d.seed, fmt.Sprintf("random/%d/%s", moment, what))
}

// candidates finds what can be drawn, in an order that does not depend on the
// catalogue's. A trial's parameters belong to its target: the clock of a kubelet
// is that of a worker, that of an etcd is not.
func (d *drawer) candidates() error {
	for _, k := range d.facts.Known.Faults {
		if len(d.s.Random.From) > 0 && !slices.Contains(d.s.Random.From, k.Name) {
			continue
		}
		c := candidate{kind: k}
		for _, t := range k.Trials {
			with, err := scenarios.Parameters(k, t.With, "trial "+t.Name)
			if err != nil {
				return err
			}
			_, err = resolve(d.s, &scenarios.Fault{ID: t.Name, Fault: k.Name, Target: t.Target}, k, d.seed)
			switch {
			case errors.Is(err, faults.ErrNoTarget):
				continue // not in a cluster of this size
			case err != nil:
				return err
			}
			c.trials = append(c.trials, trial{t, with})
		}
		if len(c.trials) > 0 {
			d.kinds[k.Name] = k
			d.from = append(d.from, c)
		}
	}
	sort.Slice(d.from, func(i, j int) bool { return d.from[i].kind.Name < d.from[j].kind.Name })
	return nil
}

// moments are when a fault is to begin. The first is drawn from the gaps that end
// in time, so that no seed leaves a game day without its fault.
func (d *drawer) moments(mean, until time.Duration) []time.Duration {
	inTime := -math.Expm1(-float64(until) / float64(mean)) // the share of such gaps
	first := -math.Log1p(-d.rand(0, "gap").Float64()*inTime) * float64(mean)
	var out []time.Duration
	for at := min(time.Duration(first), until-1); at < until; {
		out = append(out, at)
		at += max(time.Millisecond, time.Duration(d.rand(len(out), "gap").ExpFloat64()*float64(mean)))
	}
	return out
}

// moment draws the fault that begins at a moment, if one fits.
func (d *drawer) moment(n int, at time.Duration) {
	begin := d.begin(at)
	for _, i := range d.rand(n, "fault").Perm(len(d.from)) {
		c := d.from[i]
		for _, j := range d.rand(n, c.kind.Name).Perm(len(c.trials)) {
			if d.take(n, c, c.trials[j], begin) {
				return
			}
		}
	}
}

// take adds the fault if it fits.
func (d *drawer) take(n int, c candidate, t trial, begin scenarios.Begin) bool {
	f := &scenarios.Fault{
		ID:    fmt.Sprintf("%02d-%s", len(d.drawn)+1, strings.ReplaceAll(c.kind.Name, ".", "-")),
		Fault: c.kind.Name, Target: t.Target, With: t.with, Begin: begin, Line: d.s.Random.Line,
	}
	if !c.kind.Instant {
		f.End.For = d.s.Random.Hold
	}
	f.MaxHold = scenarios.MaxHold(c.kind, f.End)
	if len(t.Target.Nodes) == 0 && len(t.Target.Labels) == 0 &&
		slices.Contains([]string{faults.PickOne, faults.PickMinority, faults.PickMajority}, t.Target.Pick) {
		// The places, so that the list says all and another seed of its run changes
		// nothing.
		hit, err := t.Target.Resolve(c.kind, positions(d.s), faults.Facts{}, d.rand(n, "target/"+t.Name))
		if err != nil {
			return false
		}
		f.Target = faults.Target{}
		for _, node := range hit {
			f.Target.Nodes = append(f.Target.Nodes, node.Name())
		}
	}
	who, err := resolve(d.s, f, c.kind, d.seed)
	if err != nil {
		return false
	}
	if len(lacking(who, c.kind, d.facts)) > 0 {
		return false
	}
	d.able = true
	w, err := newWindow(d.axis, f, who)
	if err != nil {
		return false
	}
	with := append(slices.Clone(d.drawn), w)
	for _, last := range with {
		if last.fault != f && (last.closedBefore(w) || w.closedBefore(last)) {
			continue // they do not meet
		}
		for at := last.begin; at <= last.last; at++ {
			meet := meeting(with, last, at)
			if len(meet) > d.s.Random.Budget {
				return false
			}
			same := 0
			for _, m := range meet {
				if m.fault.Fault == f.Fault {
					same++
				}
			}
			if same > 1 {
				return false // it would find its own traces
			}
		}
	}
	if _, over := budget(d.s, d.axis, with, d.kinds); len(over) > 0 {
		return false
	}
	d.drawn = with
	return true
}

// expected is how long parts of an upgrade take at least, until the next one
// begins: of a clean upgrade of 3+2 nodes on two cores, rounded down. It only says
// which phase a moment falls into. A part that is not named here, and the last
// ones of a step, are over too soon to aim at.
func expected(part string) time.Duration {
	switch part {
	case path.Base(upgrade.PhasePrepare):
		return 20 * time.Second
	case "etcd":
		return time.Minute
	case "kube-apiserver":
		return 50 * time.Second
	case "kube-controller-manager":
		return 10 * time.Second
	case "kube-scheduler":
		return 20 * time.Second
	case "drain":
		return 15 * time.Second
	}
	return 0
}

// length is how long the run, or the upgrade, is expected to take.
func (d *drawer) length() time.Duration {
	if d.s.Upgrade == nil {
		return d.s.Run
	}
	var sum time.Duration
	for _, sl := range d.axis.slots {
		sum += expected(path.Base(sl.phase))
	}
	return sum
}

// begin binds a moment to the phase that is expected to run then.
func (d *drawer) begin(at time.Duration) scenarios.Begin {
	if d.s.Upgrade == nil {
		return scenarios.Begin{Phase: scenarios.PhaseRun, After: at}
	}
	var last scenarios.Begin
	for _, sl := range d.axis.slots {
		long := expected(path.Base(sl.phase))
		if at < long {
			return scenarios.Begin{Phase: sl.phase, After: at}
		}
		if at -= long; long > 0 {
			last = scenarios.Begin{Phase: sl.phase}
		}
	}
	return last
}
