package slo

import (
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
)

// The components of a cluster that kubeadm makes.
const (
	compServer     = "kube-apiserver"
	compEtcd       = "etcd"
	compManager    = "kube-controller-manager"
	compScheduler  = "kube-scheduler"
	compKubelet    = "kubelet"
	compContainerd = "containerd"
	// compAll stands for all on a node, compPods for its pods of controllers.
	compAll  = "*"
	compPods = "pods"
)

// electing are the components that elect a leader. One that cannot renew its
// lease for 10 s ends itself (k8s.io/component-base@v0.37.0
// config/v1alpha1/defaults.go, RenewDeadline), and kubeadm has each talk to the
// API server of its own node only.
var electing = []string{compManager, compScheduler}

// overServer are the components that do not outlive an API server, overEtcd those
// that do not outlive etcd on their node: its /livez asks etcd.
var (
	overServer = append([]string{compServer}, electing...)
	overEtcd   = append([]string{compEtcd}, overServer...)
)

// downs are the components that a fault may end on the nodes that it hits, by how
// its name begins; the longest counts.
var downs = map[string][]string{
	"apiserver.":          overServer,
	"etcd.":               overEtcd,
	"etcd.move-leader":    electing,
	"etcd.defrag":         electing,
	"etcd.alarm-nospace":  electing,
	"network.":            {compAll},
	"disk.":               overEtcd,
	"disk.pressure":       {compAll},
	"inodes.pressure":     {compAll},
	"cpu.":                {compAll},
	"memory.":             {compAll},
	"pids.":               {compAll},
	"node.":               {compAll},
	"controller-manager.": {compManager},
	"scheduler.":          {compScheduler},
	"kubelet.":            {compKubelet},
	"containerd.":         {compContainerd, compKubelet},
	"pod.kill":            {compPods},
	"pod.evict":           {compPods},
	// Of a clock those that the component's own trouble takes along, see downed.
	"clock.": nil,
	// These end nothing: no component of a node goes through the load balancer, and
	// none is in the way of what they break.
	"loadbalancer.":   nil,
	"dns.":            nil,
	"pdb.block":       nil,
	"image.pull-fail": nil,
}

// everywhere are the faults whose effect is the whole cluster's, whomever they
// hit: an alarm refuses all writes.
var everywhere = []string{"etcd.alarm-nospace"}

// downed are the components that a fault may end on a node that it hits.
func (f FaultFact) downed() []string {
	best := ""
	for name := range downs {
		if strings.HasPrefix(f.Fault, name) && len(name) > len(best) {
			best = name
		}
	}
	list := downs[best]
	if best == "clock." {
		switch f.of {
		case compEtcd:
			list = overEtcd
		case compServer:
			list = overServer
		default:
			list = []string{f.of}
		}
	}
	return list
}

// names says whether a component is one of a list.
func names(list []string, component string) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		return s == component || s == compAll || s == compPods && !slices.Contains(overEtcd, component) && component != compKubelet && component != compContainerd
	})
}

// blame finds what explains that a component ended.
type blame struct {
	around surroundings
	// servers are the control planes, places of all nodes by name.
	servers []string
	places  map[string]string
	// settle is how long after it is gone a fault still explains what ends.
	settle time.Duration
}

func newBlame(h *history.History, settle time.Duration) blame {
	b := blame{around: look(h), places: map[string]string{}, settle: settle}
	b.servers, _ = etcdMembers(h)
	for _, n := range h.Nodes {
		b.places[n.V.Name] = n.V.Place
	}
	return b
}

// at is a node as a person names it.
func (b blame) at(node string) string {
	if p := b.places[node]; p != "" {
		return p
	}
	return node
}

// why names the fault or the step of the upgrade that explains that a component
// of a node ended at some moment of a span; empty if none does.
func (b blame) why(component, node string, in span) string {
	wide := span{in.from - watchSlack, in.to + watchSlack}
	for _, p := range b.around.phases {
		if p.Node == node && node != "" && p.Place != "" && slices.ContainsFunc(p.spans, wide.touches) {
			return "upgrade/" + p.Place
		}
	}
	for _, f := range b.around.faults {
		if !b.acts(f, wide) || !names(f.downed(), component) {
			continue
		}
		if slices.Contains(f.Nodes, node) || slices.Contains(everywhere, f.Fault) {
			return f.Name
		}
	}
	if slices.Contains(overServer, component) {
		return b.quorum(wide)
	}
	return ""
}

// acts says whether a fault acted, or had only just gone, in a span.
func (b blame) acts(f FaultFact, in span) bool {
	return f.acting != (span{}) && in.touches(span{f.acting.from, f.acting.to + b.settle})
}

// quorum names what took etcd's majority away in a span, which no API server
// outlives, nor who elects a leader: faults of etcd or its node, and steps of the
// upgrade.
func (b blame) quorum(in span) string {
	var by []string
	down := map[string]bool{}
	for _, f := range b.around.faults {
		if !b.acts(f, in) || !names(f.downed(), compEtcd) {
			continue
		}
		for _, n := range f.Nodes {
			if slices.Contains(b.servers, n) {
				down[n] = true
				by = append(by, f.Name)
			}
		}
	}
	for _, p := range b.around.phases {
		if strings.HasSuffix(p.Name, "/etcd") && slices.ContainsFunc(p.spans, in.touches) {
			down[p.Node] = true
			by = append(by, p.Name)
		}
	}
	if 2*len(down) < len(b.servers) || len(down) == 0 {
		return ""
	}
	return strings.Join(slices.Compact(by), " with ")
}
