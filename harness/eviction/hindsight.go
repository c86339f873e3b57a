package eviction

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Hindsight judges each deletion by the taints that were really put on, without
// asking when they had to be: a pod is deleted when the taint was on for as long as
// it tolerates it, and at no other time (RuleToleration). So it is exact where a
// prediction has to be wide, and where it leaves open what becomes of a pod. The case
// must have one leader and no outage of the API.
func Hindsight(c Case, seen Observation) []Violation {
	var out []Violation
	late := plus(newModel(c, c.histories()[0]).delay, c.Settings.Slack)
	on := map[string][]Taint{}
	for _, t := range seen.Taints {
		if t.Off == 0 {
			t.Off = Forever
		}
		on[t.Node] = append(on[t.Node], t)
	}
	for _, p := range c.Pods {
		tau := Tolerates(p.admitted(c.Settings), unreachable)
		at, deleted := seen.Deleted[p.Key()]
		say := func(when time.Duration, format string, args ...any) {
			out = append(out, Violation{RuleToleration, p.Key(), when, fmt.Sprintf(format, args...)})
		}
		var dues []string
		inTime := false
		for _, t := range on[p.Node] {
			if tau == Forever {
				continue
			}
			due := Window{t.On + tau - c.Settings.Slack, plus(t.On+tau, late)}
			// The timer may have been cancelled at the last moment, or a moment late.
			if t.Off < due.Earliest {
				continue
			}
			dues = append(dues, fmt.Sprintf("due %s: tainted at %s, it tolerates that for %s", due, Clock(t.On), tau))
			if deleted && due.Contains(at) {
				inTime = true
			}
			if !deleted && t.Off > due.Latest && seen.Until > due.Latest {
				say(due.Latest, "not deleted until %s, though it was %s", Clock(seen.Until), dues[len(dues)-1])
			}
		}
		switch {
		case !deleted || inTime:
		case len(dues) > 0:
			say(at, "deleted at %s, and it was %s", Clock(at), strings.Join(dues, "; "))
		case tau == Forever:
			say(at, "deleted at %s, and it tolerates the taint for ever", Clock(at))
		default:
			say(at, "deleted at %s, and its node, %s, was not tainted for as long as the %s that it tolerates", Clock(at), p.Node, tau)
		}
	}
	slices.SortStableFunc(out, func(a, b Violation) int { return cmp.Compare(a.At, b.At) })
	return out
}
