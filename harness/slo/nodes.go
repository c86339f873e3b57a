package slo

import (
	"cmp"
	"fmt"
	"slices"

	"gameday/harness/history"
)

// lastNodes are the nodes as they were last seen, by place.
func lastNodes(h *history.History) []Node {
	last := map[string]history.Node{}
	for _, n := range h.Nodes {
		last[n.V.Name] = n.V
	}
	out := []Node{}
	for _, n := range last {
		if !n.Deleted {
			out = append(out, Node{Name: n.Name, Place: n.Place, Version: n.Version, Ready: n.Ready})
		}
	}
	slices.SortFunc(out, func(a, b Node) int {
		return cmp.Or(cmp.Compare(a.Place, b.Place), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// notAtTarget names the nodes that do not run the target version in the end,
// though the record says that their step went through.
func notAtTarget(to string, phases []PhaseFact, nodes []Node) []string {
	var out []string
	for _, p := range phases {
		last := p.Outcome
		if n := len(p.Attempts); n > 0 {
			last = p.Attempts[n-1]
		}
		if p.Name != "upgrade/"+p.Place || last != outcomeProceeded {
			continue
		}
		for _, n := range nodes {
			if n.Name == p.Node && n.Version != to {
				out = append(out, fmt.Sprintf("%s is at %s in the end, though its upgrade to %s proceeded", p.Place, n.Version, to))
			}
		}
	}
	return out
}
