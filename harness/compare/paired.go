package compare

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"gameday/harness/history"
	"gameday/harness/slo"
	"gameday/scenarios"
)

// PairedKind is the kind of compare.json of `gameday run --paired`.
const PairedKind = "PairedComparison"

// Paired is what runs of a scenario with and without its faults say together.
type Paired struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`

	Verdict  slo.Verdict `json:"verdict"`
	ExitCode int         `json:"exitCode"`
	Reason   string      `json:"reason"`

	// Repeat is how many pairs were asked for; Order is in which order they ran.
	Repeat int      `json:"repeat"`
	Order  []string `json:"order"`
	// Statistic and Confidence of the differences.
	Statistic  string  `json:"statistic"`
	Confidence float64 `json:"confidence"`
	// LeftOut are runs that say nothing, each with the reason.
	LeftOut []string `json:"leftOut"`
	// Dropped are what the twin without faults does not have.
	Dropped []string    `json:"dropped"`
	Rows    []PairedRow `json:"rows"`
	// Comparison of all runs that count; those without faults come first. It is null
	// if there are less than two.
	Comparison *Document `json:"comparison"`
}

// PairedRow is one measure: of a promise, or the length of a phase.
type PairedRow struct {
	Name   string   `json:"name"`
	Part   string   `json:"part,omitempty"`
	Unit   string   `json:"unit"`
	Budget *float64 `json:"budget"`
	// Without and With are the values of the runs in which it was measured.
	Without []float64 `json:"without"`
	With    []float64 `json:"with"`
	// Broken counts the runs that broke the promise: without, with.
	Broken     [2]int     `json:"broken"`
	Difference Difference `json:"difference"`
	// Verdict of a promise; empty of its parts and of phases, which are only told.
	Verdict slo.Verdict `json:"verdict,omitempty"`
	Reason  string      `json:"reason,omitempty"`

	parts bool // its number may be of another part in each run
}

// The two sides, as Order names them.
const (
	Without = "without faults"
	With    = "with faults"
)

// Order is the sequence of 2n runs: pairs, the order within them alternating, so
// that neither a machine that gets slower nor one that warms up favours a side.
// The seed decides which begins.
func Order(seed uint64, n int) []string {
	first, second := Without, With
	if rand.New(rand.NewPCG(seed, uint64(n))).IntN(2) == 1 { //nolint:gosec // a coin, not a secret
		first, second = second, first
	}
	var out []string
	for i := range n {
		if i%2 == 0 {
			out = append(out, first, second)
		} else {
			out = append(out, second, first)
		}
	}
	return out
}

// Twin is the same scenario without faults, and without what is only expected of a
// step because of one: that it is blocked, or rolls back. dropped names all of it.
func Twin(s *scenarios.Scenario) (twin *scenarios.Scenario, dropped []string) {
	c := *s
	const suffix, longest = "-clean", 40 // the longest name of a scenario
	c.Name = strings.TrimRight(s.Name[:min(len(s.Name), longest-len(suffix))], "-") + suffix
	c.Faults, c.Random = nil, nil
	for _, f := range s.Faults {
		dropped = append(dropped, "fault "+f.ID)
	}
	if s.Upgrade != nil {
		u := *s.Upgrade
		u.Expect = nil
		for _, e := range s.Upgrade.Expect {
			if e.Outcome == scenarios.ExpectProceed {
				u.Expect = append(u.Expect, e)
			} else {
				dropped = append(dropped, fmt.Sprintf("that %s is expected to be %s", e.Phase, e.Outcome))
			}
		}
		c.Upgrade = &u
	}
	return &c, dropped
}

// Judge says what the runs of both sides tell together. A run that is inconclusive
// or did not come to its end says nothing, and is left out and counted; missing
// says which were not made at all.
func Judge(without, with []*Record, repeat int, order, dropped, missing []string) (Paired, error) {
	p := Paired{
		APIVersion: history.APIVersion, Kind: PairedKind, Repeat: repeat, Order: order,
		Statistic: Statistic, Confidence: Confidence, LeftOut: []string{}, Dropped: dropped, Rows: []PairedRow{},
	}
	p.LeftOut = append(p.LeftOut, missing...)
	var failed, doubts []string
	count := func(side string, list []*Record) (out []*Record) {
		for _, r := range list {
			if why := unfinished(r); why != "" {
				p.LeftOut = append(p.LeftOut, fmt.Sprintf("%s, %s: %s", r.Dir, side, why))
				continue
			}
			out = append(out, r)
			for _, w := range departures(r.Verdict) {
				if side == With {
					failed = append(failed, r.Dir+": "+w)
				} else {
					doubts = append(doubts, r.Dir+", without faults: "+w)
				}
			}
		}
		return out
	}
	a, b := count(Without, without), count(With, with)
	if n := len(p.LeftOut); n > 0 {
		doubts = append(doubts, fmt.Sprintf("%d of %d runs say nothing: %s", n, 2*repeat, p.LeftOut[0]))
	}
	if all := slices.Concat(a, b); len(all) > 1 {
		d, err := measure(all)
		if err != nil {
			return p, err
		}
		p.Comparison = &d
		for _, rows := range [][]Row{d.SLOs, d.Phases} {
			for _, r := range rows {
				p.Rows = append(p.Rows, r.paired(len(a)))
			}
		}
	}
	judged := 0
	for _, r := range p.Rows {
		switch r.Verdict {
		case slo.Fail:
			failed = append(failed, r.Name+": "+r.Reason)
		case slo.Inconclusive:
			doubts = append(doubts, r.Name+": "+r.Reason)
		case "":
			continue
		}
		judged++
	}
	if judged == 0 || len(a) == 0 || len(b) == 0 {
		doubts = append(doubts, fmt.Sprintf("nothing can be set side by side: %d runs without faults and %d with them count", len(a), len(b)))
	}
	switch {
	case len(failed) > 0:
		p.Verdict, p.ExitCode, p.Reason = slo.Fail, slo.ExitFail, told(failed)
	case len(doubts) > 0:
		p.Verdict, p.ExitCode, p.Reason = slo.Inconclusive, slo.ExitInconclusive, told(doubts)
	default:
		p.Verdict, p.ExitCode = slo.Pass, slo.ExitPass
		p.Reason = fmt.Sprintf("all %d promises held with the faults and without them", judged)
	}
	return p, nil
}

// departures are what failed a run besides its promises.
func departures(d slo.Document) []string {
	var out []string
	for _, p := range d.Phases {
		if p.Verdict == slo.Fail {
			out = append(out, p.Name+": "+p.Departed)
		}
	}
	for _, f := range d.Findings {
		if f.Level == "fail" {
			out = append(out, f.What)
		}
	}
	return out
}

// told is the first ground, and how many there are besides.
func told(list []string) string {
	if n := len(list) - 1; n > 0 {
		return fmt.Sprintf("%s (and %d more)", list[0], n)
	}
	return list[0]
}

// paired sets the first n values of a row, without faults, against the others.
func (r Row) paired(n int) PairedRow {
	out := PairedRow{Name: r.Name, Part: r.Part, Unit: r.Unit, Budget: r.Budget, Without: []float64{}, With: []float64{}, parts: r.parts}
	unmeasured := [2]int{}
	for i, v := range r.Values {
		side, to := 0, &out.Without
		if i >= n {
			side, to = 1, &out.With
		}
		if v.Observed == nil {
			unmeasured[side]++
			continue
		}
		*to = append(*to, *v.Observed)
		if r.promise && v.Verdict == slo.Fail {
			out.Broken[side]++
		}
	}
	if r.parts { // each value may be that of another part
		out.Difference = Difference{N: [2]int{len(out.Without), len(out.With)}, LeastP: 1, Says: CannotTell, Why: "its parts have budgets of their own: see there"}
	} else {
		out.Difference = Differ(out.Without, out.With)
	}
	if !r.promise {
		return out
	}
	out.Verdict, out.Reason = out.judge(unmeasured)
	return out
}

// judge says whether the faults broke a promise. One that is broken without them as
// well is no proof against them, unless they made it surely worse.
func (r PairedRow) judge(unmeasured [2]int) (slo.Verdict, string) {
	of := func(side int) string {
		return fmt.Sprintf("%d of %d", r.Broken[side], []int{len(r.Without), len(r.With)}[side])
	}
	switch {
	case len(r.Without) == 0 || len(r.With) == 0:
		return slo.Inconclusive, "it was not measured on both sides"
	case r.Broken[1] > 0 && r.Broken[0] == 0:
		return slo.Fail, fmt.Sprintf("broken in %s runs with faults, in %s without", of(1), of(0))
	case r.Broken[1] > 0 && r.Difference.Says == Worse:
		return slo.Fail, fmt.Sprintf("broken without faults too (%s), but with them (%s) it is worse: %s", of(0), of(1), r.Difference.Why)
	case r.Broken[1] > 0:
		return slo.Inconclusive, fmt.Sprintf("broken in %s runs without faults, too (with: %s): that it is because of the faults was not shown", of(0), of(1))
	case r.Broken[0] > 0:
		return slo.Inconclusive, fmt.Sprintf("broken in %s runs without faults and in none with them: the cluster does not keep it by itself", of(0))
	case unmeasured != [2]int{}:
		return slo.Inconclusive, fmt.Sprintf("kept where it was measured, but %d runs without and %d with faults did not measure it", unmeasured[0], unmeasured[1])
	}
	return slo.Pass, "kept in all runs"
}
