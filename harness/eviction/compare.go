package eviction

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Observation is what was seen of a case, in times since its cut.
type Observation struct {
	// Unknown is when each node first became Ready=Unknown.
	Unknown map[string]time.Duration
	// Taints are all NoExecute taints for unreachable that were put on.
	Taints []Taint
	// Deleted is when the node controller deleted each pod, by namespace/name.
	Deleted map[string]time.Duration
	// Until is when nobody looked any more.
	Until time.Duration
}

// Taint was put on a node, and taken off; an Off of 0 is not until nobody looked
// any more.
type Taint struct {
	Node    string
	On, Off time.Duration
}

// Violation is what departs from a prediction.
type Violation struct {
	Rule    Rule          `json:"rule"`
	Subject string        `json:"subject"` // a node, a zone or a pod
	At      time.Duration `json:"-"`
	Text    string        `json:"text"`
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s: %s", v.Subject, v.Rule, v.Text) }

// Compare tells everything that was seen and should not have been, and that was
// not seen and should have.
func Compare(p Prediction, seen Observation) []Violation {
	var out []Violation
	judge := func(rule Rule, subject, what string, fate Fate, w Window, at time.Duration, was bool) {
		say := func(at time.Duration, format string, args ...any) {
			out = append(out, Violation{rule, subject, at, fmt.Sprintf(format, args...)})
		}
		switch {
		case was && fate == Never:
			say(at, "%s at %s, which must never be", what, Clock(at))
		case was && at < w.Earliest:
			say(at, "%s at %s, %s too early (%s)", what, Clock(at), (w.Earliest - at).Round(time.Millisecond), w)
		case was && at > w.Latest:
			say(at, "%s at %s, %s too late (%s)", what, Clock(at), (at - w.Latest).Round(time.Millisecond), w)
		case !was && fate == Must && seen.Until > w.Latest:
			say(w.Latest, "not %s until %s, though that must be in %s", what, Clock(seen.Until), w)
		}
	}
	first := map[string]time.Duration{}
	taints := slices.Clone(seen.Taints)
	slices.SortStableFunc(taints, func(a, b Taint) int { return cmp.Compare(a.On, b.On) })
	for _, t := range taints {
		if _, ok := first[t.Node]; !ok {
			first[t.Node] = t.On
		}
	}
	zones := map[string]string{}
	for _, n := range p.Nodes {
		zones[n.Name] = n.Zone
		at, was := seen.Unknown[n.Name]
		judge(RuleGrace, n.Name, "Unknown", n.Becomes, n.Unknown, at, was)
		at, was = first[n.Name]
		judge(n.Rule, n.Name, "tainted", n.Fate, n.Taint, at, was)
	}
	if len(p.Doubts) == 0 {
		for name, at := range seen.Unknown {
			if _, cut := zones[name]; !cut {
				judge(RuleReachable, name, "Unknown", Never, Window{}, at, true)
			}
		}
	}
	for _, z := range p.Zones {
		out = append(out, compareZone(p, z, zones, taints, seen.Until)...)
	}
	for _, e := range p.Emptied {
		hit := map[string]bool{}
		for _, f := range p.Pods {
			if _, was := seen.Deleted[f.Pod]; was && zones[f.Node] == e.Zone && f.Tolerates == e.Tolerates {
				if _, cut := zones[f.Node]; cut {
					hit[f.Node] = true
				}
			}
		}
		if n := len(hit); n > e.Nodes.Max || n < e.Nodes.Min && seen.Until > lastOf(p, e) {
			out = append(out, Violation{RuleToleration, "zone " + cmp.Or(e.Zone, "(none)"), 0, fmt.Sprintf("%d nodes lost their pods that tolerate the taint for %s, %s must", n, e.Tolerates, e.Nodes)})
		}
	}
	for _, f := range p.Pods {
		at, was := seen.Deleted[f.Pod]
		judge(f.Rule, f.Pod, "deleted", f.Fate, f.Delete, at, was)
	}
	slices.SortStableFunc(out, func(a, b Violation) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Subject, b.Subject)) })
	return out
}

// compareZone holds the taints of a zone, in their order, against its fate.
func compareZone(p Prediction, z ZoneFate, zones map[string]string, taints []Taint, until time.Duration) []Violation {
	var out []Violation
	nodes := map[string]bool{}
	n, since := 0, time.Duration(0) // since bounds how early the next may be
	name := "zone " + cmp.Or(z.Zone, "(none)")
	for _, t := range taints {
		in, cut := zones[t.Node]
		if !cut || in != z.Zone {
			continue
		}
		nodes[t.Node] = true
		for _, q := range z.Quiet {
			if q.Earliest < t.On && t.On < q.Latest {
				out = append(out, Violation{z.Rule, name, t.On, fmt.Sprintf("%s tainted at %s, when the brake must hold (%s)", t.Node, Clock(t.On), q)})
			}
		}
		if p.Epochs == 1 && n < len(z.Ranks) && t.On < z.Ranks[n].Taint.Earliest {
			out = append(out, Violation{RuleRate, name, t.On, fmt.Sprintf("taint %d at %s, not before %s", n+1, Clock(t.On), Clock(z.Ranks[n].Taint.Earliest))})
		}
		n++
		if p.Epochs == 1 && z.Fastest > 0 {
			// The n-th lies where it would if they came as fast as they may.
			at := t.On - tokens(float64(n), z.Fastest)
			if n > 1 && at < since-z.Slack {
				out = append(out, Violation{RuleRate, name, t.On, fmt.Sprintf("%d taints by %s, %s faster than %v a second allow", n, Clock(t.On), (since - at).Round(time.Millisecond), z.Fastest)})
			}
			if n == 1 || at > since {
				since = at
			}
		}
	}
	if len(nodes) > z.Tainted.Max {
		out = append(out, Violation{z.Rule, name, 0, fmt.Sprintf("%d nodes tainted, at most %d may be", len(nodes), z.Tainted.Max)})
	}
	if p.Epochs == 1 {
		due := 0
		for _, r := range z.Ranks {
			if r.Fate == Must && r.Taint.Latest < until {
				due++
			}
		}
		if len(nodes) < due {
			out = append(out, Violation{z.Rule, name, until, fmt.Sprintf("%d nodes tainted by %s, at least %d must be", len(nodes), Clock(until), due)})
		}
	}
	return out
}

// lastOf is when the last deletion that the emptied nodes stand for is due.
func lastOf(p Prediction, e Emptied) time.Duration {
	last := time.Duration(0)
	for _, f := range p.Pods {
		if f.Tolerates == e.Tolerates && f.Fate != Never {
			last = max(last, f.Delete.Latest)
		}
	}
	return last
}
