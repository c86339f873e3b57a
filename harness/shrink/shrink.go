// Package shrink searches a failing scenario for the smallest one that still
// fails: first the faults that are needed, by delta debugging, then the shortest
// window of each.
//
// A cluster is not deterministic: a candidate that did not fail in three tries may
// fail in the fourth. So every candidate is tried several times and told with its
// count; the result is the smallest that was seen to fail, not the smallest there
// is.
package shrink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gameday/scenarios"
)

// Outcome of one try.
type Outcome string

// The outcomes.
const (
	Fail         Outcome = "fail"
	Pass         Outcome = "pass"
	Inconclusive Outcome = "inconclusive"
)

// Verdict of one try.
type Verdict struct {
	Outcome Outcome `json:"outcome"`
	// Broken are the names of what was broken: promises, steps, findings.
	Broken []string `json:"broken,omitempty"`
	// Run is where its record is.
	Run string `json:"run,omitempty"`
}

// Runner runs a scenario once. An error is none of the scenario's doing, and ends
// the search.
type Runner func(ctx context.Context, s *scenarios.Scenario) (Verdict, error)

// Config of a search.
type Config struct {
	// Scenario that failed, as a list of faults.
	Scenario *scenarios.Scenario
	// Broken is what it broke: a try fails only if it breaks one of these. Empty:
	// whatever breaks.
	Broken []string
	// Run is the runner.
	Run Runner
	// Tries of each candidate. With First they end with the first failure.
	Tries int
	First bool
	// Shortest is the window below which none is halved.
	Shortest time.Duration
	// MaxRuns and MaxTime bound this search; what is left is found when it is taken
	// up again.
	MaxRuns int
	MaxTime time.Duration
	// File keeps the progress.
	File string
	// Held are how long faults were there whose windows end with a phase, by id.
	Held map[string]time.Duration
	// Key is what else makes a try comparable, such as seed and version.
	Key string
	// Say tells what is done.
	Say func(format string, args ...any)
	// Now is the clock; nil is the real one.
	Now func() time.Time
}

// Result of a search.
type Result struct {
	// Smallest is what is known to fail; the scenario itself at worst.
	Smallest *scenarios.Scenario
	// Why says in a sentence how the search ended.
	Why string
	// Complete says that the search came to its end.
	Complete bool
	// Reproduced says that the scenario failed again.
	Reproduced bool
	// Tried are all candidates, in the order of the search.
	Tried []Candidate
	// Best is that of Smallest.
	Best Candidate
}

// errEnough ends a search that has used up what it may.
var errEnough = errors.New("enough")

// Search searches. When ctx ends, or a bound is reached, the result is what was
// found by then, and the same Search takes it up again.
func Search(ctx context.Context, cfg Config) (Result, error) {
	switch {
	case cfg.Scenario == nil || cfg.Run == nil || cfg.File == "":
		return Result{}, errors.New("a search needs a scenario, a runner and a file")
	case cfg.Scenario.Random != nil:
		return Result{}, errors.New("the faults are random: draw them first")
	case cfg.Tries < 1 || cfg.MaxRuns < 1 || cfg.MaxTime <= 0 || cfg.Shortest <= 0:
		return Result{}, errors.New("tries, runs, time and shortest window must be more than 0")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	p, err := open(cfg)
	if err != nil {
		return Result{}, err
	}
	s := &search{Config: cfg, progress: p, began: cfg.Now(), asked: map[string]bool{}}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.MaxTime, errEnough)
	defer cancel()
	return s.search(ctx)
}

type search struct {
	Config
	progress *progress
	began    time.Time
	runs     int
	longest  time.Duration
	// asked are the candidates of this search, in order.
	asked map[string]bool
	order []string
	best  set
}

// set is a candidate: the faults that are left, in the order of the scenario, with
// the length of those windows that were shortened.
type set []pick

type pick struct {
	id string
	// hold is the length of its window; 0 leaves it as it is.
	hold time.Duration
}

func (s set) String() string {
	var out []string
	for _, p := range s {
		text := p.id
		if p.hold > 0 {
			text += " for " + p.hold.String()
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return "no fault"
	}
	return strings.Join(out, ", ")
}

// search is the search itself; all state is in what was tried, so that a repeated
// one goes the same way.
func (s *search) search(ctx context.Context) (Result, error) {
	for _, f := range s.Scenario.Faults {
		s.best = append(s.best, pick{id: f.ID})
	}
	why, reproduced, err := s.all(ctx)
	out := Result{Why: why, Complete: err == nil, Reproduced: reproduced, Smallest: s.scenario(s.best)}
	for _, key := range s.order {
		out.Tried = append(out.Tried, *s.progress.find(key))
	}
	if c := s.progress.find(s.best.String()); c != nil {
		out.Best = *c
	}
	switch {
	case errors.Is(err, errEnough):
		out.Why = fmt.Sprintf("the search may take no more than %d runs and %s; the same command takes it up again", s.MaxRuns, s.MaxTime)
		return out, nil
	case err != nil:
		out.Why = "the search was interrupted; the same command takes it up again"
		return out, err
	}
	return out, nil
}

func (s *search) all(ctx context.Context) (why string, reproduced bool, err error) {
	whole := slices.Clone(s.best)
	if reproduced, err = s.fails(ctx, whole); err != nil || !reproduced {
		return fmt.Sprintf("it did not fail again in %d tries: nothing to shrink by", s.Tries), false, err
	}
	if len(whole) == 0 {
		return "it fails, and it has no fault: there is nothing to take away", true, nil
	}
	// What fails without any fault needs none of them.
	none, err := s.fails(ctx, set{})
	if err != nil {
		return "", true, err
	}
	if none {
		s.best = set{}
		return "it fails without any fault: look at the cluster, the workload or the promises", true, nil
	}
	if err := s.faults(ctx); err != nil {
		return "", true, err
	}
	if err := s.windows(ctx); err != nil {
		return "", true, err
	}
	return fmt.Sprintf("no fault of it can be left out, and no window halved (not below %s), without at least %d tries that do not fail",
		s.Shortest, s.Tries), true, nil
}

// faults is ddmin: A. Zeller and R. Hildebrandt, Simplifying and Isolating
// Failure-Inducing Input, IEEE TSE 28(2), 2002.
func (s *search) faults(ctx context.Context) error {
	for n := 2; len(s.best) >= 2; {
		parts := split(s.best, n)
		smaller := false
		for _, complement := range []bool{false, true} {
			if complement && n == 2 {
				break // of two halves each is the other's complement
			}
			for i := range parts {
				try := parts[i]
				if complement {
					try = without(parts, i)
				}
				fails, err := s.fails(ctx, try)
				if err != nil {
					return err
				}
				if fails {
					s.best, smaller = try, true
					if n = 2; complement {
						n = max(len(parts)-1, 2)
					}
					break
				}
			}
			if smaller {
				break
			}
		}
		if smaller {
			continue
		}
		if n >= len(s.best) {
			return nil
		}
		n = min(2*n, len(s.best))
	}
	return nil
}

// split cuts a set into n parts of nearly the same size.
func split(list set, n int) []set {
	var out []set
	for i := range n {
		out = append(out, slices.Clone(list[i*len(list)/n:(i+1)*len(list)/n]))
	}
	return out
}

func without(parts []set, i int) set {
	return slices.Concat(slices.Concat(parts[:i]...), slices.Concat(parts[i+1:]...))
}

// windows halves each window as long as that fails.
func (s *search) windows(ctx context.Context) error {
	for i := range s.best {
		for {
			hold := (s.length(s.best[i]) / 2).Truncate(time.Second)
			if hold < max(s.Shortest, time.Second) {
				break
			}
			try := slices.Clone(s.best)
			try[i].hold = hold
			fails, err := s.fails(ctx, try)
			if err != nil {
				return err
			}
			if !fails {
				break
			}
			s.best = try
		}
	}
	return nil
}

// length of a window; 0 if it has none, or none that is known.
func (s *search) length(p pick) time.Duration {
	f := s.Scenario.Faults[slices.IndexFunc(s.Scenario.Faults, func(f scenarios.Fault) bool { return f.ID == p.id })]
	switch {
	case p.hold > 0:
		return p.hold
	case f.End.For > 0:
		return f.End.For
	case f.End.Phase != "":
		return min(s.Held[p.id], f.MaxHold)
	}
	return 0
}

// scenario is the candidate as one.
func (s *search) scenario(list set) *scenarios.Scenario {
	out := *s.Scenario
	out.Faults = nil
	for _, f := range s.Scenario.Faults {
		for _, p := range list {
			if p.id != f.ID {
				continue
			}
			if p.hold > 0 {
				f.End = scenarios.End{For: p.hold}
			}
			out.Faults = append(out.Faults, f)
		}
	}
	return &out
}

// fails tries a candidate, as far as it was not tried before. It fails if it was
// seen to fail at least once: a failure that was seen is there, however rare.
func (s *search) fails(ctx context.Context, list set) (bool, error) {
	key := list.String()
	c := s.progress.candidate(key, len(list))
	if !s.asked[key] {
		s.asked[key] = true
		s.order = append(s.order, key)
	}
	for c.Tries() < s.Tries && (!s.First || c.Failed == 0) {
		if err := s.may(ctx); err != nil {
			return false, err
		}
		s.Say("try %d of %d: %s", c.Tries()+1, s.Tries, key)
		began := s.Now()
		v, err := s.Run(ctx, s.scenario(list))
		s.runs++
		s.longest = max(s.longest, s.Now().Sub(began))
		// What was interrupted is no try.
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if err != nil {
			return false, fmt.Errorf("try %s: %w", key, err)
		}
		c.count(v, s.Broken)
		if err := s.progress.save(); err != nil {
			return false, err
		}
		s.Say("%s: %s", v.Outcome, c)
	}
	return c.Failed > 0, nil
}

// may says whether there is time for another run, which may take as long as the
// longest so far.
func (s *search) may(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.runs >= s.MaxRuns, s.Now().Sub(s.began)+s.longest > s.MaxTime:
		return errEnough
	}
	return nil
}
