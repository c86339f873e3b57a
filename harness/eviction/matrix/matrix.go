// Package matrix tries on real controllers what package eviction predicts: settings
// x cut x length x version, on clusters of plain processes (clusters/local), with
// times as short as the settings say.
//
// Cells draws up the cells and what the model says of each; Run cuts nodes off and
// writes down, from watches, when which node became Unknown, was tainted and lost
// which pods; Judge holds the one against the other; Compare holds a matrix against
// an earlier one, and tells a change of settings, of Kubernetes and of neither apart.
//
// A cell passes only if the model could say beforehand what had to come, and just
// that was seen. It is inconclusive if the model leaves it open, or if the record
// cannot be trusted: the cut was not proven, a watch broke, another leader came. How
// late this machine was is measured, and widens the windows of the model.
package matrix

import (
	"fmt"
	"slices"
	"time"

	"gameday/harness/eviction"
)

// Cut is which nodes of a cluster are cut off.
type Cut string

// The cuts. Those of some nodes are of the first zone; control planes come last.
const (
	One       Cut = "one"
	Two       Cut = "two"
	Under     Cut = "under-threshold" // as many as leave the zone in its normal state
	Threshold Cut = "threshold"       // as many as it takes for the brake
	Zone      Cut = "zone"            // the whole last zone
	Workers   Cut = "workers"         // all but the control planes
	All       Cut = "all"
)

// Cuts are all there are.
func Cuts() []Cut { return []Cut{One, Two, Under, Threshold, Zone, Workers, All} }

// Length is how long a cut lasts, by what the model says of it.
type Length string

// The lengths.
const (
	Below   Length = "below"   // surely no pod is lost
	Between Length = "between" // the model leaves open how many
	Above   Length = "above"   // all is lost that can be, even without a brake
)

// Lengths are all there are.
func Lengths() []Length { return []Length{Below, Between, Above} }

// Named is a settings file with a name.
type Named struct {
	Name string
	eviction.File
}

// Cell is one cut of one length in a cluster with some settings and version.
type Cell struct {
	Settings Named
	Cut      Cut
	Length   Length
	// Case is what the model is asked: how long the cut lasts is its Heal.
	Case eviction.Case
	// None says why there is no such cell; the case is empty then.
	None string
}

// Name of the cell within a matrix.
func (c Cell) Name() string {
	return fmt.Sprintf("%s %s %s %s", c.Settings.Name, c.Settings.Version, c.Cut, c.Length)
}

// room is what a machine may be late beyond the settings' slack while a cell is
// still judged: lengths are chosen with it.
const room = time.Second

// Reconnect is how long a hollow kubelet may take after it was restored until its
// node is Ready again: it reports at its next tick, after 200 ms
// (clusters/local/hollow), and each request takes its time on a busy machine.
const Reconnect = 2 * time.Second

// Cells of settings: all cuts and lengths that are asked for, those too that cannot
// be had.
func Cells(settings Named, cuts []Cut, lengths []Length) ([]Cell, error) {
	if len(settings.Zones) == 0 {
		return nil, fmt.Errorf("%s names no zones: say how many nodes there are, as in zones: [{name: a, nodes: 10, controlPlanes: 1}]", settings.Name)
	}
	if settings.ControllerManager.NodeEvictionRate == 1 {
		return nil, fmt.Errorf("%s: a nodeEvictionRate of exactly 1 is not given back after a brake (rule %s), so that cells on one cluster disturb each other: say 0.9 or 1.1", settings.Name, eviction.RuleAll)
	}
	settings.Reconnect = Reconnect
	whole, err := settings.Case("all", 0)
	if err != nil {
		return nil, err
	}
	if errs := whole.Problems(); len(errs) > 0 {
		return nil, errs[0]
	}
	var out []Cell
	for _, cut := range cuts {
		c := whole
		c.Cut.Nodes, err = nodesOf(cut, whole)
		if err != nil {
			for _, l := range lengths {
				out = append(out, Cell{Settings: settings, Cut: cut, Length: l, None: err.Error()})
			}
			continue
		}
		for _, l := range lengths {
			cell := Cell{Settings: settings, Cut: cut, Length: l, Case: c}
			if cell.Case.Cut.Heal, err = lengthOf(l, c); err != nil {
				cell.Case, cell.None = eviction.Case{}, err.Error()
			}
			out = append(out, cell)
		}
	}
	return out, nil
}

// nodesOf picks the nodes of a cut.
func nodesOf(cut Cut, c eviction.Case) ([]string, error) {
	first, last := c.Nodes[0].Zone, c.Nodes[len(c.Nodes)-1].Zone
	size := 0
	var some, workers, lastZone, all []string
	for _, n := range c.Nodes {
		all = append(all, n.Name)
		if !n.ControlPlane {
			workers = append(workers, n.Name)
		}
		if n.Zone == last {
			lastZone = append(lastZone, n.Name)
		}
		if n.Zone == first && !n.Excluded {
			size++
			if !n.ControlPlane {
				some = append(some, n.Name)
			}
		}
	}
	braked := 0 // the least that are braked
	for k := 1; k <= size && braked == 0; k++ {
		if eviction.ZoneState(c.Settings, size, k) == eviction.Partial {
			braked = k
		}
	}
	take := func(n int) ([]string, error) {
		if n < 1 || n > len(some) {
			return nil, fmt.Errorf("zone %s has %d counted workers, and %d are needed", first, len(some), n)
		}
		return some[:n], nil
	}
	switch cut {
	case One:
		return take(1)
	case Two:
		return take(2)
	case Under, Threshold:
		if braked == 0 {
			return nil, fmt.Errorf("zone %s, of %d counted nodes, has no partial disruption", first, size)
		}
		if cut == Under {
			return take(braked - 1)
		}
		return take(braked)
	case Zone:
		if first == last {
			return nil, fmt.Errorf("there is one zone only")
		}
		return lastZone, nil
	case Workers:
		if len(workers) == len(all) {
			return nil, fmt.Errorf("no control plane is a node: it is the same as %s", All)
		}
		return workers, nil
	case All:
		return all, nil
	}
	return nil, fmt.Errorf("unknown cut %q", cut)
}

// lengthOf is how long a cut lasts.
func lengthOf(l Length, c eviction.Case) (time.Duration, error) {
	c.Settings.Slack += room
	b := c.Bounds()
	safe, sure := time.Duration(b.SafeBelow), time.Duration(b.SurelyAbove)
	switch l {
	case Below:
		if safe == eviction.Forever {
			return 0, fmt.Errorf("no pod is lost, however long it is")
		}
		if safe < time.Second {
			return 0, fmt.Errorf("no length is surely safe")
		}
		return safe, nil
	case Between:
		if safe == eviction.Forever || sure == eviction.Forever || sure-safe < 2*time.Second {
			return 0, fmt.Errorf("there is nothing between what is surely safe and surely not")
		}
		return (safe + sure) / 2, nil
	case Above:
		d := unbraked(c)
		if sure != eviction.Forever {
			d = max(d, sure)
		}
		return d, nil
	}
	return 0, fmt.Errorf("unknown length %q", l)
}

// unbraked is by when a controller without any brake would have deleted all pods
// that do not tolerate the cut for ever: so long a brake has to hold to be seen.
func unbraked(c eviction.Case) time.Duration {
	s := c.Settings
	c.Cut.Heal = 0
	p := eviction.Predict(c)
	last, tolerated := time.Duration(0), time.Duration(0)
	for _, n := range p.Nodes {
		if n.Becomes == eviction.Must {
			last = max(last, n.Unknown.Latest)
		}
	}
	for _, f := range p.Pods {
		if f.Tolerates != eviction.Forever && slices.Contains(c.Cut.Nodes, f.Node) {
			tolerated = max(tolerated, f.Tolerates)
		}
	}
	if q := s.ControllerManager.NodeEvictionRate; q > 0 {
		last += time.Duration(float64(len(c.Cut.Nodes)) / float64(q) * float64(time.Second))
	}
	return (last + tolerated + 2*s.Slack).Round(time.Second)
}
