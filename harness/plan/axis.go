package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"gameday/clusters"
	"gameday/clusters/upgrade"
	"gameday/scenarios"
)

// axis is the order in which phases come: time without lengths, since nobody
// knows before the run how long a phase takes.
type axis struct {
	slots []slot
	// at are the first and last slot of each phase.
	at map[string][2]int
}

// slot is a stretch of the run in which nothing begins or ends but faults: a
// part of a step, or what comes before its first part.
type slot struct {
	phase string
	// group is the step it belongs to: faults do not reach from one step into
	// the next unless their window says so.
	group int
	// restarts is the place whose etcd member or API server the upgrade itself
	// takes away in this slot.
	restarts string
	takes    away
}

// away is what is taken away on one place. With the load balancer all API servers
// are away for those who reach them through it.
type away struct{ etcd, api, node, lb bool }

// newAxis lays out the phases. Without an upgrade there is one: run.
func newAxis(s *scenarios.Scenario, steps []upgrade.Step) *axis {
	a := &axis{at: map[string][2]int{}}
	if s.Upgrade == nil {
		a.add(slot{phase: scenarios.PhaseRun})
		return a
	}
	a.add(slot{phase: upgrade.PhasePrepare})
	for i, step := range steps {
		group := i + 1
		first := len(a.slots)
		// kubeadm puts back every component when it rolls back: then etcd may
		// restart at any time of the step.
		all := s.Expected(step.Phase).Outcome == scenarios.ExpectRollBack && isControlPlane(step.Place)
		own := func(phase string) slot {
			out := slot{phase: phase, group: group}
			switch part := path.Base(phase); {
			case part == "etcd" || all:
				out.restarts, out.takes = step.Place, away{etcd: true, api: true}
			case part == "kube-apiserver":
				out.restarts, out.takes = step.Place, away{api: true}
			}
			return out
		}
		a.add(own(step.Phase))
		for _, part := range step.Parts {
			a.add(own(part))
		}
		a.at[step.Phase] = [2]int{first, len(a.slots) - 1}
	}
	a.at[scenarios.PhaseUpgrade] = [2]int{0, len(a.slots) - 1}
	return a
}

func (a *axis) add(s slot) {
	a.at[s.phase] = [2]int{len(a.slots), len(a.slots)}
	a.slots = append(a.slots, s)
}

// groupEnd is the last slot of the slot's step.
func (a *axis) groupEnd(i int) int {
	for i+1 < len(a.slots) && a.slots[i+1].group == a.slots[i].group {
		i++
	}
	return i
}

func isControlPlane(place string) bool {
	return strings.HasPrefix(place, string(clusters.ControlPlane)+"[")
}

func isWorker(place string) bool {
	return strings.HasPrefix(place, string(clusters.Worker)+"[")
}

// window is a fault on the axis.
type window struct {
	fault *scenarios.Fault
	who   who
	// begin is the slot it opens in at the earliest, end the last in which it
	// may still be open, and last the last in which it may still be there:
	// healing takes time, but it is proven gone before the next step, unless it
	// may linger.
	begin, end, last int
}

// linger lets a fault be there still in the steps of workers that follow its own: a
// worker's upgrade needs the API, and not every control plane. So an etcd member
// that takes a minute and a half to find its way back holds nobody up. The budget
// counts the fault as there for as long, and takes it back where that is too much.
func (w window) linger(a *axis, steps []upgrade.Step) window {
	if !w.ofControlPlanes() {
		return w
	}
	for w.last+1 < len(a.slots) && isWorker(steps[a.slots[w.last+1].group-1].Place) {
		w.last = a.groupEnd(w.last + 1)
		w.end = w.last
	}
	return w
}

// ofControlPlanes says whether a fault surely hits nothing but control planes.
func (w window) ofControlPlanes() bool {
	return !slices.ContainsFunc(slices.Concat(w.who.places, w.who.pool), func(p string) bool { return !isControlPlane(p) })
}

func newWindow(a *axis, f *scenarios.Fault, w who) (window, error) {
	out := window{fault: f, who: w}
	at, ok := a.at[f.Begin.Phase]
	if !ok {
		return out, fmt.Errorf("there is no phase %q%s", f.Begin.Phase, scenarios.Suggest(f.Begin.Phase, a.phases()))
	}
	out.begin = at[0]
	if f.End.Phase == "" {
		// It lasts for some time, which may see the end of the phase, but not
		// that of the step: the next one waits until it is gone. Bound to the
		// whole with a delay it can open in any step.
		out.end = a.groupEnd(out.begin)
		if f.Begin.Phase == scenarios.PhaseUpgrade && f.Begin.After > 0 {
			out.end = at[1]
		}
		out.last = out.end
		return out, nil
	}
	at, ok = a.at[f.End.Phase]
	if !ok {
		return out, fmt.Errorf("there is no phase %q%s", f.End.Phase, scenarios.Suggest(f.End.Phase, a.phases()))
	}
	out.end = at[1]
	out.last = a.groupEnd(out.end)
	return out, nil
}

func (a *axis) phases() []string {
	var out []string
	for _, s := range a.slots {
		out = append(out, s.phase)
	}
	return out
}

// closedBefore says that w's window has surely closed when o's opens. Its heal
// may not be over: the injection of o waits for that.
func (w window) closedBefore(o window) bool {
	if w.end < o.begin {
		return true
	}
	f, g := w.fault, o.fault
	return f.Begin.Phase == g.Begin.Phase && f.End.Phase == "" && f.Begin.After+f.MaxHold <= g.Begin.After
}
