package slo

import (
	"fmt"

	"gameday/harness/history"
)

// SelfCheck is what the samplers made of outages that were known.
type SelfCheck struct {
	// Verdict is fail if one was missed or taken for another, or seen where none
	// was; inconclusive if the machine was too busy to say.
	Verdict Verdict    `json:"verdict"`
	Reason  string     `json:"reason"`
	TookMs  float64    `json:"tookMs"`
	Trials  []SelfTest `json:"trials"`
}

// SelfTest is one known outage.
type SelfTest struct {
	Kind string `json:"kind"`
	// Series that was to see it: verb, connections, where.
	Verb  string `json:"verb"`
	Conn  string `json:"conn"`
	Where string `json:"where"`
	// AskedMs is how long it was to be, MadeMs how long it was, SeenMs what the
	// samples say, give or take ErrorBarMs, which may be BoundMs.
	AskedMs    float64 `json:"askedMs"`
	MadeMs     float64 `json:"madeMs"`
	SeenMs     float64 `json:"seenMs"`
	ErrorBarMs float64 `json:"errorBarMs"`
	BoundMs    float64 `json:"boundMs"`
	// LateMs is the worst that the harness was late with anything meanwhile.
	LateMs  float64 `json:"lateMs"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"`
}

func selfChecks(h *history.History) []SelfCheck {
	out := make([]SelfCheck, 0, len(h.SelfChecks))
	for _, c := range h.SelfChecks {
		one := SelfCheck{Verdict: Verdict(c.V.Verdict), Reason: c.V.Reason, TookMs: millis(c.V.Took), Trials: []SelfTest{}}
		for _, t := range c.V.Trials {
			one.Trials = append(one.Trials, SelfTest{
				Kind: t.Kind, Verb: t.Verb, Conn: t.Conn, Where: t.Where, AskedMs: millis(t.Asked), MadeMs: millis(t.Made),
				SeenMs: millis(t.Seen), ErrorBarMs: millis(t.ErrorBar), BoundMs: millis(t.Bound), LateMs: millis(t.Late),
				Verdict: Verdict(t.Verdict), Reason: t.Reason,
			})
		}
		out = append(out, one)
	}
	return out
}

// instrument takes the verdict from a result that rests on the samplers, be it
// pass or fail, if they did not pass their self-check. A record without one was
// made before there was any.
func instrument(h *history.History, r *Result) {
	for _, c := range h.SelfChecks {
		if Verdict(c.V.Verdict) == Pass {
			continue
		}
		r.Reason = fmt.Sprintf("the self-check of the samplers: %s: %s; as they saw it: %s: %s", c.V.Verdict, c.V.Reason, r.Verdict, r.Reason)
		r.Verdict = Inconclusive
		return
	}
}
