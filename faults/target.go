package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"gameday/clusters"
)

// Target says who is hit. Exactly one of Nodes and Pick is given.
type Target struct {
	// Nodes are places: control-plane[1], worker[0].
	Nodes []string `json:"nodes,omitempty" yaml:"nodes,omitempty"`
	// Pick is a word: one, minority, majority, all, leader, follower.
	Pick string `json:"pick,omitempty" yaml:"pick,omitempty"`
	// Role narrows Pick to control-plane or worker nodes; default: the roles
	// that the fault can hit.
	Role string `json:"role,omitempty" yaml:"role,omitempty"`
	// Labels narrows Pick to nodes that carry all these Kubernetes labels.
	Labels map[string]string `json:"labels,omitempty" yaml:"labels,omitempty"`
	// Zone narrows Pick to the nodes of a zone, by the label
	// topology.kubernetes.io/zone.
	Zone string `json:"zone,omitempty" yaml:"zone,omitempty"`
	// Except are places left out of Pick.
	Except []string `json:"except,omitempty" yaml:"except,omitempty"`
}

// The words of Pick.
const (
	PickOne      = "one"
	PickMinority = "minority"
	PickMajority = "majority"
	PickAll      = "all"
	PickLeader   = "leader"
	PickFollower = "follower"
)

// Picks lists the words of Pick.
func Picks() []string {
	return []string{PickOne, PickMinority, PickMajority, PickAll, PickLeader, PickFollower}
}

// ErrNoTarget is wrapped when a target matches nobody.
var ErrNoTarget = errors.New("the target matches no node")

// Facts are what resolving a target may need to know of the cluster.
type Facts struct {
	// Leader is the name of the node on which the component leads that the fault
	// is about (Kind.Leads); empty if unknown.
	Leader string
	// Labels are the Kubernetes labels by node name.
	Labels map[string]map[string]string
}

// String is the target as a person would say it.
func (t Target) String() string {
	if len(t.Nodes) > 0 {
		return strings.Join(t.Nodes, ", ")
	}
	s := t.Pick
	if t.Role != "" {
		s += " " + t.Role
	}
	if len(t.Labels) > 0 {
		keys := make([]string, 0, len(t.Labels))
		for k, v := range t.Labels {
			keys = append(keys, k+"="+v)
		}
		sort.Strings(keys)
		s += " with " + strings.Join(keys, ",")
	}
	if t.Zone != "" {
		s += " in zone " + t.Zone
	}
	if len(t.Except) > 0 {
		s += " except " + strings.Join(t.Except, ", ")
	}
	return s
}

// Resolve returns the nodes that the target names, in the order of nodes. The
// same rng state gives the same answer.
func (t Target) Resolve(k Kind, nodes []clusters.Node, f Facts, rng *rand.Rand) ([]clusters.Node, error) {
	var pool []clusters.Node
	for _, n := range nodes {
		switch {
		case !slices.Contains(k.Roles, n.Role()),
			t.Role != "" && string(n.Role()) != t.Role,
			slices.Contains(t.Except, clusters.Place(n)),
			t.Zone != "" && f.Labels[n.Name()][corev1.LabelTopologyZone] != t.Zone,
			!hasLabels(f.Labels[n.Name()], t.Labels):
			continue
		}
		pool = append(pool, n)
	}
	if len(t.Nodes) > 0 {
		var out []clusters.Node
		for _, n := range nodes {
			if slices.Contains(t.Nodes, clusters.Place(n)) && slices.Contains(k.Roles, n.Role()) {
				out = append(out, n)
			}
		}
		if len(out) != len(t.Nodes) {
			return nil, fmt.Errorf("%s on %s: %w", k.Name, t, ErrNoTarget)
		}
		return out, nil
	}
	if len(pool) == 0 {
		return nil, fmt.Errorf("%s on %s: %w", k.Name, t, ErrNoTarget)
	}
	switch t.Pick {
	case PickAll:
		return pool, nil
	case PickOne:
		return draw(pool, 1, rng), nil
	case PickMinority:
		return draw(pool, (len(pool)-1)/2, rng), nonEmpty(k, t, (len(pool)-1)/2)
	case PickMajority:
		return draw(pool, len(pool)/2+1, rng), nil
	case PickLeader, PickFollower:
		if f.Leader == "" {
			return nil, fmt.Errorf("%s on %s: it is not known which %s leads: %w", k.Name, t, k.Component(), ErrNoTarget)
		}
		var out []clusters.Node
		for _, n := range pool {
			if (n.Name() == f.Leader) == (t.Pick == PickLeader) {
				out = append(out, n)
			}
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("%s on %s: %w", k.Name, t, ErrNoTarget)
		}
		return draw(out, 1, rng), nil
	}
	return nil, fmt.Errorf("%s: unknown pick %q (one of %s)", k.Name, t.Pick, strings.Join(Picks(), ", "))
}

// Component is the one whose leader the words leader and follower mean.
func (k Kind) Component() string {
	if k.Leads == "" {
		return LeadsEtcd
	}
	return k.Leads
}

func nonEmpty(k Kind, t Target, n int) error {
	if n == 0 {
		return fmt.Errorf("%s on %s: %w", k.Name, t, ErrNoTarget)
	}
	return nil
}

func hasLabels(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// draw picks n of pool and keeps pool's order.
func draw(pool []clusters.Node, n int, rng *rand.Rand) []clusters.Node {
	at := rng.Perm(len(pool))[:n]
	sort.Ints(at)
	out := make([]clusters.Node, 0, n)
	for _, i := range at {
		out = append(out, pool[i])
	}
	return out
}
