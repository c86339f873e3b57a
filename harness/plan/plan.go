// Package plan says, before anything happens, what a run will do: every stage,
// every step of the upgrade with its exact commands, every fault with its
// window, targets and calls, and what all of them together take away at any
// moment.
//
// Make is a pure function: the same scenario, facts and seed give the same plan.
// The seed replays the plan, not the cluster's timing.
package plan

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	"gameday/clusters"
	"gameday/scenarios"
)

// APIVersion of plan.json.
const APIVersion = "gameday/v1alpha1"

// The bounds of the stages that a scenario does not bound itself. A run that
// gets to one of them ends; on a machine in good order each takes a fraction.
const (
	BoundPrepare  = 10 * time.Minute // Docker, which may have to be installed
	BoundImages   = 60 * time.Minute // two; a node image from source takes 12 min on 2 cores
	BoundCreate   = 20 * time.Minute // 66 s for 3+2 nodes on 2 cores; kind itself is given 15 min, then undone
	BoundPreload  = 10 * time.Minute // 25 s for five nodes on 2 cores
	BoundWorkload = 5 * time.Minute
	BoundSteady   = 5 * time.Minute  // beside the steady time itself
	BoundHeal     = 10 * time.Minute // kubelet may wait 5 min to restart a crashed static pod
	BoundFinal    = 2 * time.Minute
	BoundCollect  = 3 * time.Minute
	BoundDelete   = 3 * time.Minute // as clusters/kind's own
)

// The bounds of a plan: one that is larger is refused.
const (
	maxSteps = 1000
	maxBound = 48 * time.Hour
)

// Facts are what a plan needs to know beside the scenario.
type Facts struct {
	// Provider is the name of the provider of clusters.
	Provider string
	// Capabilities are what the provider's nodes can do, by role; nil if that
	// is not known before the cluster exists (then it is checked when the fault
	// is injected).
	Capabilities map[clusters.Role][]clusters.Capability
	// Known are the catalogues.
	Known scenarios.Known
}

// Plan is what a run will do.
type Plan struct {
	APIVersion    string `json:"apiVersion"`
	Scenario      string `json:"scenario"`
	Description   string `json:"description"`
	Seed          uint64 `json:"seed"`
	Provider      string `json:"provider"`
	From          string `json:"from"`
	To            string `json:"to,omitempty"`
	Strategy      string `json:"strategy,omitempty"`
	ControlPlanes int    `json:"controlPlanes"`
	Workers       int    `json:"workers"`
	// Count is how many steps there are, at all levels.
	Count int `json:"count"`
	// Bound is the longest that the run may take.
	Bound  Duration `json:"bound"`
	Budget Budget   `json:"budget"`
	Steps  []Step   `json:"steps"`
}

// The kinds of a step.
const (
	KindStage = "stage" // of the run
	KindNode  = "node"  // the upgrade of one node
	KindPhase = "phase" // a part of it
	KindFault = "fault" // an injection, below the phase that opens it
)

// Step is a numbered line of the plan.
type Step struct {
	// Number as printed: 6.3.2.
	Number string `json:"number"`
	Kind   string `json:"kind"`
	// ID is the stage's name, the phase's path, or fault/ID; Rand takes it.
	ID string `json:"id"`
	// Text says what happens, in a line.
	Text  string   `json:"text,omitempty"`
	Bound Duration `json:"bound,omitempty"`
	// Commands are run on the node, exactly so.
	Commands []string `json:"commands,omitempty"`
	// Expect is the expected outcome of a node's upgrade, and why.
	Expect  string `json:"expect,omitempty"`
	Because string `json:"because,omitempty"`
	// Gone are the faults that are proven gone before the next node's upgrade
	// begins.
	Gone []string `json:"gone,omitempty"`
	// Fault is set for an injection.
	Fault *Injection `json:"fault,omitempty"`
	Steps []Step     `json:"steps,omitempty"`
}

// Injection is a fault as planned.
type Injection struct {
	ID    string `json:"id"`
	Fault string `json:"fault"`
	// Target in words; Places when they are known before the cluster exists.
	Target string   `json:"target"`
	Places []string `json:"places,omitempty"`
	// Begin and End of the window, in words.
	Begin   string   `json:"begin"`
	End     string   `json:"end"`
	MaxHold Duration `json:"maxHold"`
	// ProveWithin and GoneWithin bound the proofs.
	ProveWithin Duration `json:"proveWithin,omitempty"`
	GoneWithin  Duration `json:"goneWithin,omitempty"`
	// Waits are the faults whose windows have closed before this one opens:
	// they are proven gone before it is injected.
	Waits []string `json:"waits,omitempty"`
	// Params as resolved.
	Params map[string]any `json:"params,omitempty"`
	// Calls are what will be done to inject it, exactly so.
	Calls []string `json:"calls,omitempty"`
	// Undo says what ends it when gameday itself is gone.
	Undo string `json:"undo,omitempty"`
}

// Waits are the faults that must be proven gone before the fault is injected.
func (p *Plan) Waits(fault string) []string {
	var out []string
	p.Each(func(s *Step) {
		if s.Fault != nil && s.Fault.ID == fault {
			out = s.Fault.Waits
		}
	})
	return out
}

// Gone are the faults that must be proven gone after the node's step has ended
// and before the next one begins.
func (p *Plan) Gone(phase string) []string {
	var out []string
	p.Each(func(s *Step) {
		if s.Kind != KindFault && s.ID == phase {
			out = s.Gone
		}
	})
	return out
}

// StepOf is the step of the upgrade that a phase is, or is a part of:
// upgrade/worker[0] of upgrade/worker[0]/kubeadm. What is no part of one stands for
// itself.
func (p *Plan) StepOf(phase string) string {
	out := phase
	p.Each(func(s *Step) {
		if s.Kind == KindNode && strings.HasPrefix(phase, s.ID+"/") {
			out = s.ID
		}
	})
	return out
}

// IsStep says whether a phase is a step of the upgrade.
func (p *Plan) IsStep(phase string) bool {
	is := false
	p.Each(func(s *Step) { is = is || s.Kind == KindNode && s.ID == phase })
	return is
}

// Each calls f with every step, in order.
func (p *Plan) Each(f func(*Step)) {
	var walk func([]Step)
	walk = func(list []Step) {
		for i := range list {
			f(&list[i])
			walk(list[i].Steps)
		}
	}
	walk(p.Steps)
}

// number counts and numbers all steps.
func (p *Plan) number() {
	p.Count = 0
	var walk func(string, []Step)
	walk = func(prefix string, list []Step) {
		for i := range list {
			list[i].Number = fmt.Sprintf("%s%d", prefix, i+1)
			p.Count++
			walk(list[i].Number+".", list[i].Steps)
		}
	}
	walk("", p.Steps)
}

// JSON is the plan for programs.
func (p *Plan) JSON() ([]byte, error) {
	out, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the plan of %s: %w", p.Scenario, err)
	}
	return append(out, '\n'), nil
}

// Rand is the generator of one step: its draws do not depend on what other
// steps draw.
func Rand(seed uint64, id string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(id))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// Duration is written as text: 1m30s.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	t, err := time.ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = Duration(t)
	return nil
}

func (d Duration) String() string { return short(time.Duration(d)) }
