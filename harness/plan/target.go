package plan

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"gameday/clusters"
	"gameday/faults"
	"gameday/scenarios"
)

// position is a node before the cluster exists.
type position struct {
	role  clusters.Role
	index int
}

func (p position) Name() string        { return clusters.Place(p) }
func (p position) Role() clusters.Role { return p.role }
func (p position) Index() int          { return p.index }
func (p position) IP() netip.Addr      { return netip.Addr{} }

// positions are all nodes in the order of clusters.Cluster.Nodes, so that a
// draw gives the same node before the cluster exists and in it.
func positions(s *scenarios.Scenario) []clusters.Node {
	var out []clusters.Node
	for _, p := range s.Places() {
		out = append(out, position{p.Role, p.Index})
	}
	if s.Cluster.ControlPlanes > 1 {
		out = append(out, position{clusters.LoadBalancer, 0})
	}
	return out
}

// zones are what is known of the nodes' labels beforehand.
func zones(s *scenarios.Scenario) faults.Facts {
	f := faults.Facts{Labels: map[string]map[string]string{}}
	for _, p := range s.Places() {
		f.Labels[clusters.Place(position{p.Role, p.Index})] = map[string]string{corev1.LabelTopologyZone: clusters.Zone(s.Cluster.Zones, p.Index)}
	}
	return f
}

// who is hit, as far as it is known before the cluster exists.
type who struct {
	// places that are known.
	places []string
	// more is how many are only known in the cluster (the etcd leader), all of
	// them of pool.
	more int
	pool []string
}

// words are the places, or the target as a person would say it.
func (w who) words(k faults.Kind, t faults.Target) []string {
	if w.more == 0 {
		return w.places
	}
	switch t.Pick {
	case faults.PickLeader:
		return []string{"the " + k.Component() + " leader"}
	case faults.PickFollower:
		return []string{"a follower of " + k.Component()}
	}
	return []string{t.String()}
}

// resolve finds who is hit, with the same draws as the run.
func resolve(s *scenarios.Scenario, f *scenarios.Fault, k faults.Kind, seed uint64) (who, error) {
	nodes, t := positions(s), f.Target
	open := len(t.Labels) > 0 || t.Pick == faults.PickLeader || t.Pick == faults.PickFollower
	if !open || len(t.Nodes) > 0 {
		hit, err := t.Resolve(k, nodes, zones(s), Rand(seed, faultID(f.ID)))
		if err != nil {
			return who{}, err
		}
		var w who
		for _, n := range hit {
			w.places = append(w.places, n.Name())
		}
		return w, nil
	}
	// All that the run may choose from, so that the worst is counted.
	all := faults.Target{Pick: faults.PickAll, Role: t.Role, Zone: t.Zone, Except: t.Except}
	if t.Pick == faults.PickLeader || t.Pick == faults.PickFollower {
		all.Role = string(clusters.ControlPlane)
	}
	pool, err := all.Resolve(k, nodes, zones(s), Rand(seed, faultID(f.ID)))
	if err != nil {
		return who{}, err
	}
	w := who{more: 1}
	for _, n := range pool {
		w.pool = append(w.pool, n.Name())
	}
	switch n := len(pool); t.Pick {
	case faults.PickAll:
		w.more = n
	case faults.PickMinority:
		w.more = (n - 1) / 2
	case faults.PickMajority:
		w.more = n/2 + 1
	case faults.PickFollower:
		if n < 2 && s.Cluster.ControlPlanes < 2 {
			return who{}, fmt.Errorf("a cluster of one control plane has no follower: %w", faults.ErrNoTarget)
		}
	}
	return w, nil
}

// faultID is the id of a fault's step: that of its draws.
func faultID(id string) string { return "fault/" + id }

// lacking are the capabilities that a target may lack.
func lacking(w who, k faults.Kind, f Facts) []string {
	if f.Capabilities == nil {
		return nil
	}
	var out []string
	for _, place := range slices.Concat(w.places, w.pool) {
		role := roleOf(place)
		for _, c := range k.Needs {
			text := fmt.Sprintf("%s on a %s", c, role)
			if !slices.Contains(f.Capabilities[role], c) && !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	return out
}

func roleOf(place string) clusters.Role {
	for i := range place {
		if place[i] == '[' {
			return clusters.Role(place[:i])
		}
	}
	return clusters.Role(place)
}

// taken is what a fault takes on a place: a node that is away takes what runs
// on it along.
func taken(c faults.Cost, role clusters.Role) away {
	cp := role == clusters.ControlPlane
	return away{
		etcd: cp && (c.EtcdMembers > 0 || c.Nodes > 0),
		api:  cp && (c.APIServers > 0 || c.Nodes > 0),
		node: c.Nodes+c.Kubelets > 0 && role != clusters.LoadBalancer,
		lb:   role == clusters.LoadBalancer && c.LoadBalancers+c.Nodes > 0,
	}
}
