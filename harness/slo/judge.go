package slo

import (
	"fmt"
	"math"
	"strings"

	"gameday/harness/history"
)

// Named is a checker under the name that the scenario gives it.
type Named struct {
	Name    string
	Checker Checker
}

// Judge runs every checker on the history. A checker that panics, or that has
// nothing to say, is inconclusive; of a run that did not come to its end so is
// everything, because nobody knows what the record lacks.
func Judge(h *history.History, named []Named) []Result {
	var out []Result
	for _, n := range named {
		list := check(h, n)
		if len(list) == 0 {
			list = []Result{{Name: n.Name, Verdict: Inconclusive, Reason: "the checker judged nothing"}}
		}
		for i := range list {
			settle(h, &list[i])
		}
		out = append(out, list...)
	}
	return out
}

func check(h *history.History, n Named) (list []Result) {
	defer func() {
		if p := recover(); p != nil {
			list = []Result{{Name: n.Name, Verdict: Inconclusive, Reason: fmt.Sprintf("the checker panicked: %v", p)}}
		}
	}()
	return n.Checker.Check(h)
}

// settle holds a result to what no checker may decide for itself.
func settle(h *history.History, r *Result) {
	if r.Verdict != Pass && r.Verdict != Fail && r.Verdict != Inconclusive {
		r.Reason = strings.TrimSuffix(fmt.Sprintf("the checker gave no verdict (%q); %s", r.Verdict, r.Reason), "; ")
		r.Verdict = Inconclusive
	}
	numbers := []*float64{&r.Budget, &r.Observed, &r.ErrorBar}
	for i := range r.Parts {
		numbers = append(numbers, &r.Parts[i].Budget, &r.Parts[i].Observed, &r.Parts[i].ErrorBar)
	}
	for _, v := range numbers {
		if math.IsNaN(*v) || math.IsInf(*v, 0) { // JSON has no words for them
			*v = 0
			r.Verdict = Inconclusive
			r.Reason = strings.TrimSuffix("a number of the checker was not finite; "+r.Reason, "; ")
		}
	}
	hollow(h, r)
	if h.End == nil {
		r.Reason = fmt.Sprintf("%s; up to then: %s: %s", died(h), r.Verdict, r.Reason)
		r.Verdict = Inconclusive
	}
}

// died says that a record has no end.
func died(h *history.History) string {
	text := "the harness died at " + clock(h.Last)
	if h.Torn {
		text += " (in the middle of a line)"
	}
	return text
}

// Worst is the worst verdict of all; of nothing it is inconclusive.
func Worst(results []Result) Verdict {
	if len(results) == 0 {
		return Inconclusive
	}
	worst := Pass
	for _, r := range results {
		worst = Worse(worst, r.Verdict)
	}
	return worst
}

// grounds collect why a result is what it is: what fails it, what leaves it in
// doubt, and what the reader should know besides.
type grounds struct {
	failed, doubts, notes []string
}

func (g *grounds) fail(format string, args ...any) {
	g.failed = append(g.failed, fmt.Sprintf(format, args...))
}
func (g *grounds) doubt(format string, args ...any) {
	g.doubts = append(g.doubts, fmt.Sprintf(format, args...))
}
func (g *grounds) note(format string, args ...any) {
	g.notes = append(g.notes, fmt.Sprintf(format, args...))
}

// limit judges a value that is known to lie between low and high. It passes
// only if it surely holds and fails only if it is surely broken; what the error
// bar leaves open is a doubt. say tells it in words.
func (g *grounds) limit(low, high, budget float64, say string) {
	switch {
	case low > budget:
		g.fail("%s", say)
	case high > budget:
		g.doubt("%s: too close to the budget for its error bar", say)
	default:
		g.note("%s", say)
	}
}

// decide writes verdict and reason into the result, the worst ground first.
func (g *grounds) decide(r *Result) {
	r.Verdict = Pass
	if len(g.doubts) > 0 {
		r.Verdict = Inconclusive
	}
	if len(g.failed) > 0 {
		r.Verdict = Fail
	}
	var all []string
	for _, list := range [][]string{g.failed, g.doubts, g.notes} {
		for i, text := range list {
			if i == maxGrounds {
				all = append(all, fmt.Sprintf("and %d more", len(list)-i))
				break
			}
			all = append(all, text)
		}
	}
	r.Reason = strings.Join(all, "; ")
}

// maxGrounds bounds how many grounds of a kind are told.
const maxGrounds = 6
