package scenarios

import (
	"fmt"

	"gameday/clusters/upgrade"
	"gameday/faults"
)

// Known are the catalogues that the words of a scenario are looked up in.
type Known struct {
	Faults     []faults.Kind
	Strategies []upgrade.Kind
	SLOs       []SLOKind
}

// SLOKind is a line of the catalogue of SLOs.
type SLOKind struct {
	Name, Doc string
	// New returns a checker with default parameters, to be decoded into.
	New func() any
}

// Fitter is a checker that can say whether it can judge a run at all.
type Fitter interface {
	// Fits returns what cannot be judged in such a run.
	Fits(Shape) []error
}

// Shape is what is known of a run beforehand.
type Shape struct {
	// ControlPlanes is how many there are; 0: not known.
	ControlPlanes int
	// Phases that the run goes through, by their paths; none: not known.
	Phases []string
	// Faults by their ids; none: not known, or there are none.
	Faults []string
}

func (k Known) fault(name string) (faults.Kind, bool) {
	for _, f := range k.Faults {
		if f.Name == name {
			return f, true
		}
	}
	return faults.Kind{}, false
}

// Fault finds a fault of the catalogue.
func (k Known) Fault(name string) (faults.Kind, error) {
	f, ok := k.fault(name)
	if !ok {
		return f, fmt.Errorf("unknown fault %q%s", name, suggest(name, k.faultNames()))
	}
	return f, nil
}

func (k Known) slo(name string) (SLOKind, bool) {
	for _, s := range k.SLOs {
		if s.Name == name {
			return s, true
		}
	}
	return SLOKind{}, false
}

func (k Known) strategy(name string) (upgrade.Kind, bool) {
	for _, s := range k.Strategies {
		if s.Name == name {
			return s, true
		}
	}
	return upgrade.Kind{}, false
}

// StrategyKind finds a strategy's line in the catalogue.
func (k Known) StrategyKind(name string) (upgrade.Kind, error) {
	s, ok := k.strategy(name)
	if !ok {
		return s, fmt.Errorf("unknown strategy %q%s", name, suggest(name, k.strategyNames()))
	}
	return s, nil
}

// Strategy finds a strategy of the catalogue.
func (k Known) Strategy(name string) (upgrade.Strategy, error) {
	s, err := k.StrategyKind(name)
	if err != nil {
		return nil, err
	}
	return s.New(), nil
}

func (k Known) faultNames() []string {
	return names(k.Faults, func(f faults.Kind) string { return f.Name })
}

func (k Known) strategyNames() []string {
	return names(k.Strategies, func(s upgrade.Kind) string { return s.Name })
}

func (k Known) sloNames() []string {
	return names(k.SLOs, func(s SLOKind) string { return s.Name })
}

func names[T any](list []T, name func(T) string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = name(v)
	}
	return out
}

// Steps are what the scenario's strategy will do; none without an upgrade.
func (s *Scenario) Steps(k Known) ([]upgrade.Step, error) {
	if s.Upgrade == nil {
		return nil, nil
	}
	strategy, err := k.Strategy(s.Upgrade.Strategy)
	if err != nil {
		return nil, err
	}
	return strategy.Steps(s.Places(), s.Upgrade.Options()), nil
}

// Phases lists every phase that a window can be bound to, in order: the whole,
// what comes before the first step, each step, each part of it.
func Phases(steps []upgrade.Step) []string {
	if len(steps) == 0 {
		return []string{PhaseRun}
	}
	out := []string{PhaseUpgrade, upgrade.PhasePrepare}
	for _, s := range steps {
		out = append(append(out, s.Phase), s.Parts...)
	}
	return out
}
