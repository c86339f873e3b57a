package compare

import (
	"fmt"
	"slices"
	"strings"

	"gameday/harness/history"
	"gameday/harness/slo"
)

// Refusal says why runs cannot be compared, every reason at once.
type Refusal struct{ Reasons []string }

func (r *Refusal) Error() string {
	return "these runs cannot be compared:\n  " + strings.Join(r.Reasons, "\n  ")
}

// fit says whether the runs can be compared.
func fit(list []*Record) error {
	var why []string
	if len(list) < 2 {
		why = append(why, fmt.Sprintf("%d run was given; a comparison needs two", len(list)))
	}
	for i, r := range list {
		if w := unfinished(r); w != "" {
			why = append(why, fmt.Sprintf("%s (%s): %s", label(i), r.Dir, w))
		}
	}
	for i := 1; i < len(list); i++ {
		other, err := apart(list[0], list[i])
		if err != nil {
			return err
		}
		for _, w := range other {
			why = append(why, fmt.Sprintf("%s and %s: %s", label(0), label(i), w))
		}
		for j := range i {
			if a, b := list[j].History.Run, list[i].History.Run; a.ID == b.ID && a.Began.Equal(b.Began) {
				why = append(why, fmt.Sprintf("%s and %s are one and the same run, %s", label(j), label(i), a.ID))
			}
		}
	}
	if slices.ContainsFunc(why, func(w string) bool { return strings.Contains(w, "other budgets: slos[") }) {
		why = append(why, "with --scenario FILE all are judged by the promises of that scenario")
	}
	if why != nil {
		return &Refusal{why}
	}
	return nil
}

// unfinished says what a record lacks to be compared at all; "" if nothing.
func unfinished(r *Record) string {
	h := r.History
	switch {
	case h.Torn || h.End == nil:
		return "its record has no end: the run is under way still, or died"
	case h.End.V.Interrupted:
		return "it was interrupted: " + h.End.V.Reason
	case h.End.V.Reason != "":
		return "it ended early: " + h.End.V.Reason
	case r.Verdict.ExitCode == slo.ExitNotUndone:
		return "a fault could not be undone: " + clip(r.Verdict.Reason)
	case r.Verdict.Verdict == slo.Inconclusive:
		return "it is inconclusive: " + clip(r.Verdict.Reason)
	}
	return ""
}

// apart says what two runs do not have in common and must.
func apart(a, b *Record) ([]string, error) {
	var why []string
	x, y := a.History.Run, b.History.Run
	if x.Provider != y.Provider {
		why = append(why, fmt.Sprintf("other providers: %s, %s", x.Provider, y.Provider))
	}
	if x.Cores != 0 && y.Cores != 0 && x.Cores != y.Cores {
		why = append(why, fmt.Sprintf("other machines: %d cores, %d cores", x.Cores, y.Cores))
	}
	list, err := settings([]*Record{a, b})
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if of, ok := fixed(s.Field); ok {
			why = append(why, fmt.Sprintf("%s: %s is %s; %s", of, s.Field, orNot(clip(s.Values[0])), orNot(clip(s.Values[1]))))
		}
	}
	return append(why, sampledOtherwise(a.History, b.History)...), nil
}

func orNot(v string) string {
	if v == "" {
		return "not set"
	}
	return v
}

// mayDiffer are the fields of a scenario that are what runs are compared for:
// versions, faults with what is allowed and expected because of them, and how the
// upgrade is done.
var mayDiffer = []string{
	"name", "description", "cluster.version", "faults", "allow", "maxUnavailable",
	"upgrade.to", "upgrade.expect", "upgrade.strategy", "upgrade.drain", "upgrade.drainTimeout", "upgrade.nodes", "upgrade.timeout",
	"upgrade.order", "upgrade.stopFirst", "upgrade.command",
}

// fixed says whether a field must be the same in all runs, and what it is about.
func fixed(field string) (string, bool) {
	below := func(of string) bool {
		return field == of || strings.HasPrefix(field, of+".") || strings.HasPrefix(field, of+"[")
	}
	switch {
	case slices.ContainsFunc(mayDiffer, below):
		return "", false
	case below("slos"), below("steady"), below("converge"):
		return "other budgets", true
	}
	return "another scenario", true
}

// sampledOtherwise says which samples were taken in another rhythm, or had another
// time to be answered: their outages cannot be set side by side. A series that
// only one of the runs has is no reason: then its promises have nothing beside
// them.
func sampledOtherwise(a, b *history.History) []string {
	kinds := func(h *history.History) map[string]history.Series {
		out := map[string]history.Series{}
		for _, s := range h.Series {
			where := "an API server"
			if s.Endpoint == lb {
				where = "the load balancer"
			}
			out[fmt.Sprintf("%s, %s, at %s", s.Verb, s.Conn, where)] = s
		}
		return out
	}
	other := kinds(b)
	var why []string
	for kind, s := range kinds(a) {
		if o, ok := other[kind]; ok && (o.Period != s.Period || o.Deadline != s.Deadline) {
			why = append(why, fmt.Sprintf("other budgets of the harness: %s is sampled each %s within %s, each %s within %s", kind, s.Period, s.Deadline, o.Period, o.Deadline))
		}
	}
	slices.Sort(why)
	return why
}

// lb is the endpoint of the load balancer.
const lb = "lb"
