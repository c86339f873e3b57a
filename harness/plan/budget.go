package plan

import (
	"fmt"
	"slices"
	"strings"

	"gameday/faults"
	"gameday/scenarios"
)

// Budget is what may be away at once, and what will be.
type Budget struct {
	Etcd       Limit `json:"etcd"`
	APIServers Limit `json:"apiServers"`
	Nodes      Limit `json:"nodes"`
	// Moments are the phases in which a fault may be there, in order.
	Moments []Moment `json:"moments,omitempty"`
}

// Limit of one resource.
type Limit struct {
	Of int `json:"of"`
	// May is how many may be away; Allowed says that the scenario lifts it.
	May     int  `json:"may"`
	Allowed bool `json:"allowed,omitempty"`
	// Most is how many are away at the worst moment, faults and upgrade taken
	// together (nodes: faults alone).
	Most int `json:"most"`
}

// Moment is the worst that may meet in one phase.
type Moment struct {
	Phase string `json:"phase"`
	// Faults that may be there together.
	Faults []string `json:"faults"`
	// Upgrade is the place that the upgrade itself takes away in it.
	Upgrade    string `json:"upgrade,omitempty"`
	Etcd       int    `json:"etcd"`
	APIServers int    `json:"apiServers"`
	Nodes      int    `json:"nodes"`
}

// overrun is a limit that is broken by faults that may meet.
type overrun struct {
	// last is the fault that opens last.
	last *scenarios.Fault
	text string
	mend string
}

// budget adds up what may be away at each moment. It is conservative: what is
// not surely apart may meet.
func budget(s *scenarios.Scenario, a *axis, windows []window, kinds map[string]faults.Kind) (Budget, []overrun) {
	cps, nodes := s.Cluster.ControlPlanes, s.Cluster.ControlPlanes+s.Cluster.Workers
	b := Budget{
		Etcd:       Limit{Of: cps, May: (cps - 1) / 2, Allowed: slices.Contains(s.Allow, scenarios.AllowEtcdQuorumLoss)},
		APIServers: Limit{Of: cps, May: cps - 1, Allowed: slices.Contains(s.Allow, scenarios.AllowAllAPIServersDown)},
		Nodes:      Limit{Of: nodes, May: s.MaxUnavailable},
	}
	var over []overrun
	told := map[string]bool{}
	for at, sl := range a.slots {
		var worst *Moment
		for _, last := range windows {
			if at < last.begin || at > last.last {
				continue
			}
			meet := meeting(windows, last, at)
			m := sum(sl, meet, kinds, b)
			b.Etcd.Most = max(b.Etcd.Most, m.Etcd)
			b.APIServers.Most = max(b.APIServers.Most, m.APIServers)
			b.Nodes.Most = max(b.Nodes.Most, m.Nodes)
			if worst == nil || m.Etcd+m.APIServers+m.Nodes > worst.Etcd+worst.APIServers+worst.Nodes {
				worst = &m
			}
			for _, o := range b.broken(m, sl, meet, kinds) {
				o.last = last.fault
				if !told[o.text] {
					told[o.text] = true
					over = append(over, o)
				}
			}
		}
		if worst != nil {
			b.Moments = append(b.Moments, *worst)
		}
	}
	return b, over
}

// meeting are all that may be there when last opens, and still in the slot.
func meeting(windows []window, last window, at int) []window {
	var out []window
	for _, w := range windows {
		together := w.begin <= last.begin && at <= w.last && !w.closedBefore(last) && !last.closedBefore(w)
		if w.fault == last.fault || together {
			out = append(out, w)
		}
	}
	return out
}

// crowd is how many faults may be there at once, at the most.
func crowd(a *axis, windows []window) int {
	most := 0
	for at := range a.slots {
		for _, last := range windows {
			if last.begin <= at && at <= last.last {
				most = max(most, len(meeting(windows, last, at)))
			}
		}
	}
	return most
}

// sum counts what is away in a slot.
func sum(sl slot, meet []window, kinds map[string]faults.Kind, b Budget) Moment {
	m := Moment{Phase: sl.phase, Upgrade: sl.restarts}
	etcd, api, node := map[string]bool{}, map[string]bool{}, map[string]bool{}
	if sl.takes.etcd {
		etcd[sl.restarts] = true
	}
	if sl.takes.api {
		api[sl.restarts] = true
	}
	for _, w := range meet {
		m.Faults = append(m.Faults, w.fault.ID)
		cost := kinds[w.fault.Fault].Cost
		if cost.InTurn && len(w.who.places) > 1 {
			w.who = who{more: 1, pool: w.who.places}
		}
		for _, p := range w.who.places {
			t := taken(cost, roleOf(p))
			if t.lb {
				m.APIServers = b.APIServers.Of
			}
			if t.etcd {
				etcd[p] = true
			}
			if t.api {
				api[p] = true
			}
			if t.node {
				node[p] = true
			}
		}
		// Those who are not known yet are counted as if each were another one
		// than all that are.
		var t away
		for _, p := range w.who.pool {
			x := taken(cost, roleOf(p))
			t = away{etcd: t.etcd || x.etcd, api: t.api || x.api, node: t.node || x.node, lb: t.lb || x.lb}
		}
		if t.etcd {
			m.Etcd += w.who.more
		}
		if t.api {
			m.APIServers += w.who.more
		}
		if t.lb {
			m.APIServers = b.APIServers.Of
		}
		if t.node {
			m.Nodes += w.who.more
		}
	}
	m.Etcd = min(m.Etcd+len(etcd), b.Etcd.Of)
	m.APIServers = min(m.APIServers+len(api), b.APIServers.Of)
	m.Nodes = min(m.Nodes+len(node), b.Nodes.Of)
	return m
}

// broken are the limits that a moment breaks. What the upgrade takes away alone
// is not a fault's doing.
func (b Budget) broken(m Moment, sl slot, meet []window, kinds map[string]faults.Kind) []overrun {
	var out []overrun
	tell := func(what, allow, mend string, n int, l Limit, takes func(away) bool) {
		if n <= l.May || l.Allowed {
			return
		}
		var by []string
		for _, w := range meet {
			cost := kinds[w.fault.Fault].Cost
			if slices.ContainsFunc(slices.Concat(w.who.places, w.who.pool), func(p string) bool { return takes(taken(cost, roleOf(p))) }) {
				by = append(by, fmt.Sprintf("%s on %s", w.fault.ID, strings.Join(w.who.words(kinds[w.fault.Fault], w.fault.Target), ", ")))
			}
		}
		if len(by) == 0 {
			return
		}
		if takes(sl.takes) {
			by = append(by, fmt.Sprintf("the upgrade itself on %s", sl.restarts))
		}
		if allow != "" {
			mend += ", or say allow: [" + allow + "]"
		}
		out = append(out, overrun{
			text: fmt.Sprintf("during %s %d of %d %s may be away at once, %d may be: %s", sl.phase, n, l.Of, what, l.May, strings.Join(by, "; ")),
			mend: mend,
		})
	}
	apart := "bind the fault to another phase (the step after, or one behind .../etcd)"
	tell("etcd members", scenarios.AllowEtcdQuorumLoss, apart, m.Etcd, b.Etcd, func(t away) bool { return t.etcd })
	tell("API servers", scenarios.AllowAllAPIServersDown, "bind the fault to another phase", m.APIServers, b.APIServers, func(t away) bool { return t.api || t.lb })
	tell("nodes", "", "bind the fault to another step, or raise maxUnavailable", m.Nodes, b.Nodes, func(t away) bool { return t.node })
	return out
}

// needs is the problem of a provider that cannot do what a fault needs.
func needs(f *scenarios.Fault, lack []string, provider string) string {
	return fmt.Sprintf("%s needs %s, which provider %s does not offer", f.Fault, strings.Join(lack, " and "), provider)
}
