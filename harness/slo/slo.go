// Package slo holds the promises: pure functions from a history to a verdict.
// No checker touches a cluster, so any run can be judged again.
//
// To add one: write its file and its test, and add one line to Catalogue.
package slo

import (
	"time"

	"gameday/harness/history"
)

// Verdict is pass, fail or inconclusive; the worst wins. What was not measured
// never passes.
type Verdict string

// The verdicts.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
)

// Worse returns the worse of two verdicts: fail, inconclusive, pass.
func Worse(a, b Verdict) Verdict {
	for _, v := range []Verdict{Fail, Inconclusive} {
		if a == v || b == v {
			return v
		}
	}
	return Pass
}

// Evidence is where the reader can see it.
type Evidence struct {
	From time.Duration `json:"from"` // ns since the run began
	To   time.Duration `json:"to"`
	Text string        `json:"text"`
	// Beside says that it does not count: what was seen where nothing is judged.
	Beside bool `json:"beside,omitempty"`
	// During lists the faults (proven intervals) and phases that overlap it.
	During []string `json:"during,omitempty"`
}

// Result of one promise.
type Result struct {
	// Name stays the same from run to run. One checker may judge several
	// promises, each a Result of its own.
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	// Budget, Observed and ErrorBar are in Unit ("s", "ms", "count", "replica-s", "%").
	Budget   float64 `json:"budget"`
	Observed float64 `json:"observed"`
	ErrorBar float64 `json:"errorBar"`
	Unit     string  `json:"unit"`
	// Promise is the budget in words: "p99 <= 60 s, 0 missed".
	Promise string `json:"promise"`
	// Allowed are the budgets that hold instead during some phases and faults, in
	// words: "during upgrade/*/etcd and 80 s after, 12 s".
	Allowed []string `json:"allowed,omitempty"`
	// Samples counts what was judged; Excluded what was left out, and Reason
	// says why.
	Samples  int        `json:"samples"`
	Excluded int        `json:"excluded"`
	Reason   string     `json:"reason"`
	Evidence []Evidence `json:"evidence,omitempty"`
	// Parts are there if the budget is another during some phases; Budget and
	// Observed are then those of the part that came nearest to its budget.
	Parts []Part `json:"parts,omitempty"`
	// Hops are there if a latency is that of a way with several parts.
	Hops []Hop `json:"hops,omitempty"`
}

// Checker judges a history. Its exported fields are its parameters.
type Checker interface {
	Check(h *history.History) []Result
}

// Validator is a checker that checks its parameters beyond their types.
type Validator interface {
	// Validate returns every problem, each naming the parameter and the mend.
	Validate() []error
}

// Kind is a line of the catalogue.
type Kind struct {
	Name, Doc string
	// Source of the default thresholds.
	Source string
	// New returns a checker with its default parameters, to be decoded into.
	New func() Checker
}
