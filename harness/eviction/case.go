package eviction

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Case is what the model is asked about.
type Case struct {
	Settings Settings
	// Nodes are all of the cluster, Pods all that matter; all nodes are Ready
	// before the cut.
	Nodes []Node
	Pods  []Pod
	Cut   Cut
	// Epochs are the lives of the controller manager's leaders, none two at a
	// time. None given: one that began long before the cut and does not end.
	Epochs []Epoch
	// Outages are when the API could not be written to. Those that are too long
	// for a leader end its epoch; the model works that out.
	Outages []Span
	// Acts are what people do about the nodes that are away.
	Acts []Act
}

// Node of the cluster.
type Node struct {
	Name string
	// Zone is the label topology.kubernetes.io/zone, with the region if there are
	// several; nodes without a zone are one zone (k8s.io/component-helpers
	// node/topology/helpers.go GetZoneKey).
	Zone string
	// Excluded is the label node.kubernetes.io/exclude-disruption.
	Excluded bool
	// ControlPlane says that it is one; the node controller does not care.
	ControlPlane bool
}

// Cut is which nodes fall silent at 0, and when they can be heard again; Heal 0
// is never.
type Cut struct {
	Nodes []string
	Heal  time.Duration
}

// Span is a time that is known.
type Span struct{ From, To time.Duration }

// Epoch is the life of one leader of the controller manager: Start is when it
// began to act, End when it ceased to.
type Epoch struct{ Start, End Window }

// ActKind is what a person does.
type ActKind string

// The acts.
const (
	ActOutOfService ActKind = "out-of-service" // puts that taint on Node
	ActDeleteNode   ActKind = "delete-node"    // deletes the object of Node
	ActForceDelete  ActKind = "force-delete"   // deletes Pod (namespace/name) by force
)

// Act is something that a person does about nodes that are away.
type Act struct {
	At   time.Duration
	Kind ActKind
	Node string
	Pod  string
}

// longAgo is when the epoch of a case without epochs began.
const longAgo = -24 * time.Hour

// mostDoubts bounds how many outages may be of a length that a leader may or may
// not survive: each doubles what has to be looked at.
const mostDoubts = 6

// Problems says why a case cannot be computed.
func (c Case) Problems() []error {
	var out []error
	for _, p := range c.Settings.Problems() {
		out = append(out, fmt.Errorf("%s: %s", p.Field, p.Text))
	}
	known := map[string]bool{}
	for _, n := range c.Nodes {
		if known[n.Name] {
			out = append(out, fmt.Errorf("node %s is there twice", n.Name))
		}
		known[n.Name] = true
	}
	cut := map[string]bool{}
	for _, n := range c.Cut.Nodes {
		if !known[n] || cut[n] {
			out = append(out, fmt.Errorf("node %q of the cut is not one of the cluster, or is there twice", n))
		}
		cut[n] = true
	}
	pods := map[string]bool{}
	for _, p := range c.Pods {
		if pods[p.Key()] || !known[p.Node] {
			out = append(out, fmt.Errorf("pod %s is there twice, or on a node %q that is not", p.Key(), p.Node))
		}
		pods[p.Key()] = true
	}
	if c.Cut.Heal < 0 {
		out = append(out, fmt.Errorf("the heal at %s is before the cut", c.Cut.Heal))
	}
	for i, e := range c.Epochs {
		if e.Start.Earliest > e.Start.Latest || e.End.Earliest > e.End.Latest || e.Start.Earliest > e.End.Latest ||
			i > 0 && e.Start.Latest < c.Epochs[i-1].End.Earliest {
			out = append(out, fmt.Errorf("epoch %d does not follow the one before, or ends before it starts", i))
		}
	}
	doubts := 0
	for i, o := range c.Outages {
		if o.To <= o.From || i > 0 && o.From < c.Outages[i-1].To {
			out = append(out, fmt.Errorf("outage %d is empty, or not after the one before", i))
		}
		if ends, sure := c.Settings.ends(o); ends && !sure {
			doubts++
		}
	}
	if doubts > mostDoubts {
		out = append(out, fmt.Errorf("%d outages that a leader may or may not survive; at most %d", doubts, mostDoubts))
	}
	for _, a := range c.Acts {
		switch {
		case a.Kind == ActForceDelete && pods[a.Pod]:
		case (a.Kind == ActOutOfService || a.Kind == ActDeleteNode) && known[a.Node]:
		default:
			out = append(out, fmt.Errorf("act %q is about a node or pod that is not there", a.Kind))
		}
	}
	return out
}

// ends says whether an outage may end the leader's life, and whether it surely
// does (RuleOutage). Its last renewal was up to a retry period before.
func (s Settings) ends(o Span) (may, sure bool) {
	c := s.ControllerManager
	length := o.To - o.From
	return length >= c.LeaderElectRenewDeadline-c.LeaderElectRetryPeriod-s.Slack,
		length > c.LeaderElectRenewDeadline+2*c.LeaderElectRetryPeriod+s.Slack
}

// histories are the sequences of epochs that the case may have had.
func (c Case) histories() [][]Epoch {
	base := slices.Clone(c.Epochs)
	if len(base) == 0 {
		base = []Epoch{{Window{longAgo, longAgo}, Window{Forever, Forever}}}
	}
	out := [][]Epoch{base}
	for _, o := range c.Outages {
		may, sure := c.Settings.ends(o)
		if !may {
			continue
		}
		var next [][]Epoch
		for _, h := range out {
			if !sure {
				next = append(next, h)
			}
			next = append(next, c.broken(h, o))
		}
		out = next
	}
	return out
}

// broken is a sequence of epochs in which an outage ended the leader's life. It
// lives on for a while, but has no effect from the moment that it cannot write.
func (c Case) broken(list []Epoch, o Span) []Epoch {
	dies := Window{o.From, o.From + c.Settings.Slack}
	next := Window{o.To, o.To + c.Settings.Takeover()}
	var out []Epoch
	for _, e := range list {
		switch {
		case e.End.Latest <= dies.Earliest || e.Start.Earliest >= o.To:
			out = append(out, e)
		case e.End.Latest <= next.Earliest: // it ended in the outage anyway
			out = append(out, Epoch{e.Start, Window{min(e.End.Earliest, dies.Earliest), min(e.End.Latest, dies.Latest)}})
		default:
			out = append(out,
				Epoch{e.Start, Window{min(e.End.Earliest, dies.Earliest), dies.Latest}},
				Epoch{next, Window{max(e.End.Earliest, next.Earliest), e.End.Latest}})
		}
	}
	return out
}

// zone is a zone of the case.
type zone struct {
	name  string
	nodes []Node // all, in the order of the case
	cut   []string
	// size and hit count the nodes that are not excluded.
	size, hit int
}

// zones of the case, by name.
func (c Case) zones() []zone {
	by := map[string]*zone{}
	for _, n := range c.Nodes {
		z := by[n.Zone]
		if z == nil {
			z = &zone{name: n.Zone}
			by[n.Zone] = z
		}
		z.nodes = append(z.nodes, n)
		if !n.Excluded {
			z.size++
		}
		if slices.Contains(c.Cut.Nodes, n.Name) {
			z.cut = append(z.cut, n.Name)
			if !n.Excluded {
				z.hit++
			}
		}
	}
	var out []zone
	for _, z := range by {
		out = append(out, *z)
	}
	slices.SortFunc(out, func(a, b zone) int { return cmp.Compare(a.name, b.name) })
	return out
}

// State of a zone, in the words of the controller.
type State string

// The states.
const (
	Normal  State = "Normal"
	Partial State = "PartialDisruption"
	Full    State = "FullDisruption"
)

// ZoneState is the state of a zone with so many counted nodes, of which so many
// are not ready (RulePartial; in float32, as the controller divides).
func ZoneState(s Settings, size, notReady int) State {
	switch {
	case size > 0 && notReady == size:
		return Full
	case notReady > 2 && float32(notReady)/float32(size) >= s.ControllerManager.UnhealthyZoneThreshold:
		return Partial
	}
	return Normal
}

// ZoneRate is how many nodes a second a zone taints in a state, while some zone
// has a ready node (RulePartial, RuleLarge, RuleFull).
func ZoneRate(s Settings, state State, size int) float32 {
	c := s.ControllerManager
	switch {
	case state != Partial:
		return c.NodeEvictionRate
	case size > int(c.LargeClusterSizeThreshold):
		return c.SecondaryNodeEvictionRate
	}
	return 0
}
