// Package faults is the catalogue of what gameday can break: the contract of a
// fault, the vocabulary of targets, and one file for each fault.
//
// What breaks (a fault), who is hit (a Target) and when (a window in the
// scenario) are three separate things. A fault never runs by itself: harness/inject
// is its only caller, which journals, arms the undo, proves and heals.
//
// To add a fault: write its file and its test, and add one line to Catalogue.
package faults

import (
	"context"
	"time"

	"gameday/clusters"
)

// Fault is something broken on purpose, on the targets in Env.
//
// A value serves one injection in one process. Parameters are its exported
// fields, decoded from the scenario's `with:`. Heal must also work on a fresh
// value with the same parameters in another process (the guard, or `gameday
// heal` after a crash): whatever it needs beyond the parameters and the
// targets it saves in Env.Notes before it acts.
type Fault interface {
	// Inject breaks the targets. It may be interrupted half way. Calling it
	// again on targets that are broken already, or that were re-created since
	// (an upgrade re-creates containers), is no error and leaves them broken.
	Inject(ctx context.Context, env Env) error
	// Heal undoes it: after a full Inject, a half one, none, or another Heal.
	// It touches only what the fault made.
	Heal(ctx context.Context, env Env) error
	// Prove looks, without changing anything, whether the fault bites: from the
	// victim's side and by another way than the mechanism. It is called before
	// Inject (must say not active), while active, and after Heal.
	// An error means that it could not be seen either way.
	Prove(ctx context.Context, env Env) (Effect, error)
}

// Env is where a fault acts.
type Env struct {
	Cluster clusters.Cluster
	// Targets are the nodes to hit, resolved when the fault is injected.
	Targets []clusters.Node
	// Tag names everything the fault makes (tables, folders): run and injection
	// id, of [a-z0-9-] only.
	Tag string
	// MaxHold bounds the fault: by itself the effect ends after it.
	MaxHold time.Duration
	// Notes keep what Heal needs in another process.
	Notes Notes
	// Log reports a line to the run's log.
	Log func(format string, args ...any)
}

// Notes are the fault's own lines in the journal.
type Notes interface {
	// Save makes v (JSON) durable before it returns. The last one counts.
	Save(v any) error
	// Load decodes what was saved last; false if nothing was.
	Load(v any) (bool, error)
}

// Effect is what Prove saw.
type Effect struct {
	// Active says that every target shows the fault.
	Active bool
	// Gone says that no target shows it and the target serves again. Neither
	// Active nor Gone is a state in between (half applied, or still starting).
	Gone bool
	// At is when it was seen to be so (of the last target, if several).
	At time.Time
	// Control says what stands for the unaffected rest, and that it was seen to
	// be well: the negative control. Empty if the fault leaves nobody out.
	Control string
	// Asked and Measured compare what was wanted with what was seen, in Unit;
	// Unit is empty if the fault has no measure.
	Asked, Measured float64
	Unit            string
	// Evidence is one line for the report.
	Evidence string
}

// Cost is what one target of a fault takes from the fault budget while it is
// active.
type Cost struct {
	EtcdMembers int
	APIServers  int
	// Nodes are away with all that runs on them, Kubelets are nodes that nobody can
	// manage, while what runs on them goes on.
	Nodes, Kubelets int
	// LoadBalancers take all API servers away, as their clients see it.
	LoadBalancers int
	// InTurn says that the targets are hit one after the other, each when the one
	// before is back: together they take what one of them takes.
	InTurn bool
}

// Kind is a line of the catalogue.
type Kind struct {
	// Name is family.verb, as in scenarios.
	Name string
	// Doc is one sentence: what breaks. Rehearses says which real trouble it
	// stands for.
	Doc, Rehearses string
	// Mechanism says how, in a line.
	Mechanism string
	// Undo says what ends it when gameday itself is gone.
	Undo string
	// Roles are the roles that may be targets.
	Roles []clusters.Role
	// Needs are the capabilities a target must have.
	Needs []clusters.Capability
	Cost  Cost
	// Leads is the component whose leader the words leader and follower of a
	// target mean; empty means etcd.
	Leads string
	// Trials are how the fault is tried on a cluster of three control planes and
	// two workers, by `gameday verify-faults`: at least one.
	Trials []Trial
	// ProveWithin bounds Inject and the proof that it bites; GoneWithin bounds
	// Heal and the proof that nothing is left of it. Beyond them the injection is
	// unproven, or stuck.
	ProveWithin, GoneWithin time.Duration
	// Instant faults have no length of their own: the cluster repairs the
	// damage (a killed process is restarted), Heal has nothing to take back.
	Instant bool
	// New returns a fault with default parameters, to be decoded into.
	New func() Fault
}

// Trial is one way to try a fault: parameters and targets that show it off in
// a few seconds.
type Trial struct {
	// Name of [a-z0-9-], unique in the catalogue.
	Name string
	// Target as in a scenario. Where any control plane will do give the word one,
	// so that trials spread over them: the kubelet waits longer after each restart
	// of the same container.
	Target Target
	// With are the parameters as in a scenario's with:, in YAML; empty for the
	// default ones.
	With string
}

// The components that have a leader.
const (
	LeadsEtcd              = "etcd"
	LeadsControllerManager = "kube-controller-manager"
	LeadsScheduler         = "kube-scheduler"
)

// Validator is a fault that checks its parameters beyond their types.
type Validator interface {
	// Validate returns every problem, each naming the parameter and the mend.
	Validate() []error
}

// Describer is a fault that can say beforehand what it would do, for `gameday
// plan`: exact commands or calls, one a line. Targets may be places
// ("control-plane[1]") or words known only at run time ("the etcd leader").
type Describer interface {
	Describe(targets []string) []string
}
