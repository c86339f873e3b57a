// Package upgrade holds the ways to upgrade a cluster, one file each.
//
// A strategy publishes phases from what it observes on the nodes (manifests,
// version endpoints, etcd member versions, node status), not from what it
// asked for, and it is idempotent: run again after a block, an abort or a
// crash, it goes on where the cluster is.
package upgrade

import (
	"context"
	"io"
	"time"

	"gameday/clusters"
)

// Strategy is one way to upgrade.
type Strategy interface {
	// Steps says, touching nothing, what Run will do to nodes in these places,
	// in order.
	Steps(places []Place, o Options) []Step
	// Run upgrades. It returns nil only when every node was seen to be at the
	// target version. A step that was blocked or failed is published so, and
	// Env.Blocked decides whether to try it again.
	Run(ctx context.Context, env Env) error
}

// Preloader is a strategy that can bring what it needs onto the nodes beforehand, as
// operators do. Run then finds it there, and its phase PhasePrepare is short.
type Preloader interface {
	// Preload changes nothing that runs. It says what it brought.
	Preload(ctx context.Context, env Env) (seen string, err error)
}

// Kind is a line of the catalogue of strategies.
type Kind struct {
	Name, Doc string
	// Needs are what every node that is upgraded must be able to do.
	Needs []clusters.Capability
	// Takes are the Options that are not of every strategy, as scenarios name them.
	Takes []string
	New   func() Strategy
}

// The names of such options.
const (
	OptionOrder          = "order"
	OptionStopFirst      = "stopFirst"
	OptionCommand        = "command"
	OptionMaxSurge       = "maxSurge"
	OptionMaxUnavailable = "maxUnavailable"
	OptionDrainExceeded  = "drainExceeded"
	OptionSoak           = "soak"
	OptionBatch          = "batch"
	OptionPoolSoak       = "poolSoak"
	OptionCanaryLog      = "canaryLog"
)

// TakenBySome are all of them.
func TakenBySome() []string {
	return []string{
		OptionOrder, OptionStopFirst, OptionCommand, OptionMaxSurge, OptionMaxUnavailable, OptionDrainExceeded, OptionSoak,
		OptionBatch, OptionPoolSoak, OptionCanaryLog,
	}
}

// Checker is a strategy that can say what is wrong with its options before there is a
// cluster.
type Checker interface {
	// Check returns all that is wrong, each beginning with the option's name and a
	// colon.
	Check(places []Place, o Options) []error
}

// Place is a node known by its position only, as before a cluster exists.
type Place struct {
	Role  clusters.Role
	Index int
}

// Drain says which nodes are drained before they are upgraded.
type Drain string

// The values of Drain.
const (
	DrainNone    Drain = "none"
	DrainWorkers Drain = "workers"
	DrainAll     Drain = "all"
)

// Options are what a scenario says about its upgrade.
type Options struct {
	// To is the target version, v1.X.Y.
	To string
	// Nodes are the places to upgrade ("worker[0]"), in the order given; empty
	// means all, control planes first.
	Nodes []string
	Drain Drain
	// DrainTimeout bounds the drain of one node; a drain that does not end in
	// it blocks the step, unless DrainExceeded says otherwise.
	DrainTimeout time.Duration

	// What follows is for strategies that replace workers.

	// MaxSurge is how many workers are added for the time of the upgrade,
	// MaxUnavailable how many may be missing of those that there were before. So
	// many together are replaced at a time.
	MaxSurge, MaxUnavailable int
	// Soak is how long a drained worker is left before it is removed, and with
	// blue-green how long the canary, and all after each batch, is watched.
	Soak time.Duration
	// Batch is how many workers of the old pool are drained at a time by blue-green,
	// PoolSoak how long all is watched before the old pool is removed, and CanaryLog a
	// regular expression that nothing in the canary's log may match.
	Batch     int
	PoolSoak  time.Duration
	CanaryLog string
	// DrainExceeded says what becomes of a worker whose drain does not end in time.
	DrainExceeded DrainExceeded

	// Order is that of the components, and StopFirst are those that are stopped before
	// anything else and stay so until their turn: strategy binaries.
	Order, StopFirst []string
	// Command is what upgrades, word by word: strategy external.
	Command []string
}

// DrainExceeded is what is done when a drain takes too long.
type DrainExceeded string

// The values of DrainExceeded.
const (
	// ExceededBlock blocks the step; the worker takes pods again. So does AKS: "if
	// exceeded, the upgrade fails" (drainTimeoutInMinutes,
	// https://learn.microsoft.com/azure/aks/upgrade-aks-node-pools-rolling).
	ExceededBlock DrainExceeded = "block"
	// ExceededRemove removes the worker with what is left on it. So does GKE, after an
	// hour (https://cloud.google.com/kubernetes-engine/docs/concepts/node-pool-upgrade-strategies).
	ExceededRemove DrainExceeded = "remove"
)

// Step is the upgrade of one node, as planned.
type Step struct {
	// Phase is the path of the step: upgrade/control-plane[1].
	Phase string
	// Place of the node: control-plane[1].
	Place string
	// Parts are the phases inside it, in order: upgrade/control-plane[1]/etcd.
	Parts []string
	// Commands are what will be run on the node, exact, in order.
	Commands []string
	// Bound is the longest the step may take.
	Bound time.Duration
}

// Outcome is how a phase ended.
type Outcome string

// The outcomes.
const (
	// Proceeded: the phase did what it was for.
	Proceeded Outcome = "proceeded"
	// Blocked: the upgrade tool refused to go on, or waited out its bound, and
	// left the node as it was.
	Blocked Outcome = "blocked"
	// RolledBack: the tool changed the node and put the old state back.
	RolledBack Outcome = "rolled back"
	// Failed: none of these; the node is in between.
	Failed Outcome = "failed"
	// Skipped: there was nothing to do, the node was at the target already.
	// The parts of a skipped step are not published.
	Skipped Outcome = "skipped"
)

// State is the half of a phase that an event is about.
type State string

// The states.
const (
	Began State = "began"
	Ended State = "ended"
)

// The paths of the phases that every strategy publishes, beside those of its
// steps.
const (
	// PhaseWhole is the upgrade as a whole.
	PhaseWhole = "upgrade"
	// PhasePrepare is before the first step: images and binaries are brought
	// onto the nodes.
	PhasePrepare = "upgrade/prepare"
)

// Phase is an event: a phase began or ended. Every Ended is preceded by its own
// Began. A phase can come more than once: a step that was blocked is run again,
// and a part that had proceeded can be rolled back later.
type Phase struct {
	// Path as in Step.Phase and Step.Parts; the whole is "upgrade".
	Path string
	// Node is the name of the node; empty for the whole.
	Node  string
	State State
	// Outcome is set when State is Ended.
	Outcome Outcome
	// Seen is the observation behind the event, in one line: "etcd manifest
	// names 3.7.0", "member serves 3.7.0, healthy".
	Seen string
	// At is when it was observed.
	At time.Time
}

// Targets gives what is needed of the target version, prepared once and shared
// by all nodes.
type Targets interface {
	// Binaries are the paths, on this machine, of kubeadm, kubelet and kubectl.
	Binaries(ctx context.Context) (kubeadm, kubelet, kubectl string, err error)
	// Images are the image archives that a node of this role needs, by full
	// image name, as paths on this machine.
	Images(ctx context.Context, role clusters.Role) (map[string]string, error)
	// Etcd is the etcd version that the target's kubeadm installs, 3.7.0.
	Etcd() string
	// NodeImage is what a new node of the target version is made of
	// (clusters.NewWorker.Image).
	NodeImage() string
}

// Env is what a strategy works with.
type Env struct {
	Cluster clusters.Cluster
	Options Options
	Targets Targets
	// Publish reports a phase. It returns when the event is recorded; faults
	// that are bound to it may be injected after it returns.
	Publish func(Phase)
	// Blocked is asked after a step ended blocked, rolled back or failed, with
	// what the tool said. It returns nil when the step shall be run again (the
	// faults that stood in its way are healed), else the error to end with.
	Blocked func(ctx context.Context, step Step, outcome Outcome, cause error) error
	// Prepare brings onto a machine what it would pull if there were a registry,
	// before it joins as a new node. May be nil.
	Prepare func(ctx context.Context, n clusters.Node) error
	// Well says what is not well in the eyes of who rehearses the upgrade: the
	// workload, the samples of the API. May be nil.
	Well func(ctx context.Context) error
	// Output receives what the tools print for a step (one file per step).
	Output func(step string) io.Writer
	// Say reports progress with bounds.
	Say clusters.Say
}

// say reports progress, if anybody listens.
func (e Env) say(format string, args ...any) {
	if e.Say != nil {
		e.Say(format, args...)
	}
}

// publish reports a phase.
func (e Env) publish(p Phase) { e.Publish(p.stamped()) }

// stamped is a phase with the time at which it was observed: now, if none was noted.
func (p Phase) stamped() Phase {
	if p.At.IsZero() {
		p.At = time.Now()
	}
	return p
}
