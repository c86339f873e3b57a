package matrix

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gameday/harness/eviction"
	"gameday/harness/slo"
)

// Record is what was seen of a cell, in times since the cut.
type Record struct {
	Seen eviction.Observation
	// Heal is when the nodes were let talk again, Back when all of them were Ready
	// and without a taint; 0 if that was not seen.
	Heal, Back time.Duration
	// Took is how long the cut and the heal took, which is not known better.
	Took time.Duration
	// Late is how late the machine was at worst: renewals of leases that were due,
	// and word of them.
	Late time.Duration
	// Doubts are reasons why the record is not to be trusted.
	Doubts []string
}

// Outcome is a cell that was tried.
type Outcome struct {
	Cell
	Record
	Verdict slo.Verdict
	// Why it is not passed, if nothing was broken.
	Why string
	// Broken are the rules that were, each with its node or pod and the evidence.
	Broken []eviction.Violation
}

// Judge holds what was seen of a cell against the model.
func Judge(cell Cell, r Record) Outcome {
	out := Outcome{Cell: cell, Record: r, Verdict: slo.Pass}
	if r.Seen.Until == 0 { // nothing was cut off
		out.Verdict, out.Why = slo.Inconclusive, strings.Join(r.Doubts, "; ")
		return out
	}
	c := cell.Case
	c.Cut.Heal = r.Heal
	c.Settings.Slack += r.Late + r.Took
	c.Settings.Reconnect += r.Took
	p := eviction.Predict(c)
	out.Broken = append(eviction.Hindsight(c, r.Seen), eviction.Compare(p, r.Seen)...)
	if by := r.Heal + c.Settings.Reconnect + c.Settings.ControllerManager.NodeMonitorPeriod + 2*c.Settings.Slack; r.Back == 0 && r.Seen.Until > by {
		out.Broken = append(out.Broken, eviction.Violation{
			Rule: eviction.RuleReturn, Subject: strings.Join(c.Cut.Nodes, ", "), At: by,
			Text: fmt.Sprintf("not all Ready and without a taint by %s, healed at %s", eviction.Clock(by), eviction.Clock(r.Heal)),
		})
	}
	switch open := undecided(p); {
	case len(r.Doubts) > 0:
		out.Verdict, out.Why = slo.Inconclusive, strings.Join(r.Doubts, "; ")
	case len(out.Broken) > 0:
		out.Verdict, out.Why = slo.Fail, out.Broken[0].String()
	case open != "":
		out.Verdict, out.Why = slo.Inconclusive, open
	}
	return out
}

// undecided says what the model leaves open: whether healthy nodes are left alone,
// or how many nodes lose their pods. Less than all of the cut, under a brake, is
// an answer: without it all would.
func undecided(p eviction.Prediction) string {
	if len(p.Doubts) > 0 {
		return fmt.Sprintf("the model cannot tell what becomes of healthy nodes: %s (%s)", p.Doubts[0].Why, p.Doubts[0].Rule)
	}
	braked := []eviction.Rule{eviction.RulePartial, eviction.RuleLarge, eviction.RuleAll}
	for _, e := range p.Emptied {
		i := slices.IndexFunc(p.Zones, func(z eviction.ZoneFate) bool { return z.Zone == e.Zone })
		z := p.Zones[i]
		if e.Nodes.Min == e.Nodes.Max || slices.Contains(braked, z.Rule) && e.Nodes.Max < z.Cut {
			continue
		}
		return fmt.Sprintf("the model leaves open whether %s of %d nodes of zone %s lose the pods that tolerate it for %s (%s)", e.Nodes, z.Cut, z.Zone, e.Tolerates, z.Rule)
	}
	return ""
}

// Worst is the verdict of all cells that there are: inconclusive if there is none.
func Worst(all []Outcome) slo.Verdict {
	out, tried := slo.Pass, false
	for _, o := range all {
		switch o.Verdict {
		case "":
			continue
		case slo.Fail:
			out = slo.Fail
		case slo.Inconclusive:
			if out == slo.Pass {
				out = slo.Inconclusive
			}
		}
		tried = true
	}
	if !tried {
		return slo.Inconclusive
	}
	return out
}

// Answer is what the model says of a cell, beforehand, as it is written down: a
// later matrix is compared by it.
type Answer struct {
	// Seconds is how long the cut lasts.
	Seconds float64 `json:"seconds"`
	Nodes   int     `json:"nodes"`
	// Pods is how many of the cut nodes' pods may be lost at all; Lost how many are.
	Pods int            `json:"pods"`
	Lost eviction.Count `json:"lost"`
	// Unknown and Taint are when the first node is; null if none is.
	Unknown *Range       `json:"unknown"`
	Taint   *Range       `json:"firstTaint"`
	Zones   []ZoneAnswer `json:"zones"`
}

// Range is a window in seconds since the cut; a Latest of null is never.
type Range struct {
	Earliest float64  `json:"earliest"`
	Latest   *float64 `json:"latest"`
}

func rangeOf(w eviction.Window) *Range {
	r := &Range{Earliest: secs(w.Earliest)}
	if w.Latest != eviction.Forever {
		to := secs(w.Latest)
		r.Latest = &to
	}
	return r
}

// ZoneAnswer is that of a zone of the cut.
type ZoneAnswer struct {
	Zone    string         `json:"zone"`
	State   eviction.State `json:"state"`
	Rule    eviction.Rule  `json:"rule"`
	Cut     int            `json:"cut"`
	Tainted eviction.Count `json:"tainted"`
}

// Answer asks the model.
func (c Cell) Answer() Answer {
	p := eviction.Predict(c.Case)
	a := Answer{Seconds: c.Case.Cut.Heal.Seconds(), Nodes: len(c.Case.Cut.Nodes), Lost: c.Case.Lost(), Zones: []ZoneAnswer{}}
	for _, f := range p.Pods {
		if f.Tolerates != eviction.Forever && slices.Contains(c.Case.Cut.Nodes, f.Node) {
			a.Pods++
		}
	}
	if n := p.Nodes[0]; n.Becomes != eviction.Never {
		a.Unknown = rangeOf(n.Unknown)
	}
	for _, z := range p.Zones {
		if z.Cut == 0 {
			continue
		}
		a.Zones = append(a.Zones, ZoneAnswer{z.Zone, z.State, z.Rule, z.Cut, z.Tainted})
		if len(z.Ranks) > 0 && (a.Taint == nil || secs(z.Ranks[0].Taint.Earliest) < a.Taint.Earliest) {
			a.Taint = rangeOf(z.Ranks[0].Taint)
		}
	}
	return a
}

func (a Answer) String() string {
	var zones []string
	for _, z := range a.Zones {
		zones = append(zones, fmt.Sprintf("%s of %d tainted (%s)", z.Tainted, z.Cut, z.Rule))
	}
	return fmt.Sprintf("%s; %s of %d pods lost", strings.Join(zones, ", "), a.Lost, a.Pods)
}
