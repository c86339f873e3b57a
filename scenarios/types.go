// Package scenarios is what a person writes: the types of a scenario file, its
// loader, and the library of scenarios that come with gameday.
//
// The file is strict: an unknown field, an unknown fault, a duration without a
// unit is an error with file, line and the nearest valid word, and all errors
// come at once. It is data, not a language: what needs control flow is Go in
// suites/.
package scenarios

import (
	"time"

	"gameday/clusters"
	"gameday/clusters/upgrade"
	"gameday/faults"
)

// APIVersion and Kind of a scenario file.
const (
	APIVersion = "gameday/v1alpha1"
	Kind       = "Scenario"
)

// Names of phases that every scenario has: PhaseUpgrade is the whole upgrade,
// PhaseRun what a scenario without an upgrade has in its place.
const (
	PhaseUpgrade = "upgrade"
	PhaseRun     = "run"
)

// The words of Scenario.Allow.
const (
	// AllowEtcdQuorumLoss lets faults take so many etcd members that the rest
	// is no majority.
	AllowEtcdQuorumLoss = "etcdQuorumLoss"
	// AllowAllAPIServersDown lets faults take every API server at once.
	AllowAllAPIServersDown = "allAPIServersDown"
)

// The words of Expect.Outcome.
const (
	ExpectProceed  = "proceed"
	ExpectBlocked  = "blocked"
	ExpectRollBack = "roll back"
)

// Scenario is one game day. What Load returns is resolved: every default is
// filled in.
type Scenario struct {
	// APIVersion is gameday/v1alpha1.
	APIVersion string `yaml:"apiVersion"`
	// Kind is Scenario.
	Kind string `yaml:"kind"`
	// Name as on the command line: lower case, digits and dashes.
	Name string `yaml:"name"`
	// Description says in a sentence or two what is rehearsed.
	Description string `yaml:"description"`
	// Cluster to make.
	Cluster Cluster `yaml:"cluster"`
	// Workload that must survive.
	Workload Workload `yaml:"workload"`
	// Upgrade to rehearse; a scenario without one goes on for `run`.
	Upgrade *Upgrade `yaml:"upgrade,omitempty"`
	// Faults to inject, in any order: their windows say when. Or `random:`, and
	// they are drawn.
	Faults []Fault `yaml:"faults,omitempty"`
	// Random is what stands there instead of a list, until harness/plan draws one.
	Random *Random `yaml:"-"`
	// Allow lifts limits of the fault budget: etcdQuorumLoss, allAPIServersDown.
	Allow []string `yaml:"allow,omitempty"`
	// MaxUnavailable is how many nodes faults may take at once; default 1.
	MaxUnavailable int `yaml:"maxUnavailable"`
	// SLOs that are judged.
	SLOs []SLO `yaml:"slos"`
	// Steady is how long all must be well before the first fault, at most
	// 9m; default 20s.
	Steady time.Duration `yaml:"steady"`
	// Converge bounds how long all may take to be well again after the last
	// heal; default 3m.
	Converge time.Duration `yaml:"converge"`
	// Run is how long a scenario without an upgrade goes on after the steady
	// state; with an upgrade, the upgrade sets the length.
	Run time.Duration `yaml:"run,omitempty"`

	// File that it was read from, for messages.
	File string `yaml:"-"`
}

// Cluster to make.
type Cluster struct {
	// Version of Kubernetes, v1.X.Y.
	Version string `yaml:"version"`
	// ControlPlanes is their number, 1 to 7.
	ControlPlanes int `yaml:"controlPlanes"`
	// Workers is their number, 0 to 20.
	Workers int `yaml:"workers"`
	// Zones by their names, dealt to the nodes of each role in turn: with [a, b]
	// worker[0] is in a, worker[1] in b, worker[2] in a. Default none.
	Zones []string `yaml:"zones,omitempty"`
}

// Workload is what runs in the cluster and must survive.
type Workload struct {
	// CronJobs promise a start at each slot of their schedule.
	CronJobs *CronJobs `yaml:"cronJobs,omitempty"`
	// Deployments promise a number of ready pods.
	Deployments *Deployments `yaml:"deployments,omitempty"`
	// StatefulSets promise a number of ready pods with lasting names.
	StatefulSets *Stateful `yaml:"statefulSets,omitempty"`
	// Jobs run for long.
	Jobs *Jobs `yaml:"jobs,omitempty"`
}

// CronJobs that each start a Job at each slot.
type CronJobs struct {
	// Count of CronJobs.
	Count int `yaml:"count"`
	// Schedule as in crontab(5), five fields; default each minute.
	Schedule string `yaml:"schedule"`
	// Duration of each job's container; default 2s.
	Duration time.Duration `yaml:"duration"`
	// Policy for a slot that comes while a job of the last one runs: Allow |
	// Forbid | Replace; default Allow, as in Kubernetes.
	Policy string `yaml:"policy"`
	// TimeZone of the schedule, by its name in the IANA database; default Etc/UTC.
	TimeZone string `yaml:"timeZone,omitempty"`
	// StartingDeadline is how late a slot may still be started, in whole seconds;
	// default: as late as you like.
	StartingDeadline time.Duration `yaml:"startingDeadline,omitempty"`
}

// Deployments behind a Service each, with a PodDisruptionBudget.
type Deployments struct {
	// Count of Deployments.
	Count int `yaml:"count"`
	// Replicas of each.
	Replicas int `yaml:"replicas"`
	// MinAvailable of its PodDisruptionBudget; default one less than Replicas.
	MinAvailable int `yaml:"minAvailable"`
}

// Stateful sets with a PodDisruptionBudget.
type Stateful struct {
	// Count of StatefulSets.
	Count int `yaml:"count"`
	// Replicas of each.
	Replicas int `yaml:"replicas"`
	// MinAvailable of its PodDisruptionBudget; default one less than Replicas.
	MinAvailable int `yaml:"minAvailable"`
}

// Jobs that run for long: Parallel of them at any time, each Duration long; one
// that ends is followed by another.
type Jobs struct {
	// Parallel is how many run at any time.
	Parallel int `yaml:"parallel"`
	// Duration of each.
	Duration time.Duration `yaml:"duration"`
}

// Upgrade to rehearse.
type Upgrade struct {
	// To is the target version, v1.X.Y.
	To string `yaml:"to"`
	// Strategy as in `gameday list strategies`; default kubeadm.
	Strategy string `yaml:"strategy"`
	// Drain says which nodes are drained first: none | workers | all; default
	// workers.
	Drain string `yaml:"drain"`
	// DrainTimeout bounds the drain of one node; default 2m.
	DrainTimeout time.Duration `yaml:"drainTimeout"`
	// Nodes are places in the order of the upgrade; empty: all, control planes
	// first.
	Nodes []string `yaml:"nodes,omitempty"`
	// MaxSurge is how many workers the strategy surge adds for the time of the
	// upgrade; default 1, or 0 if maxUnavailable is given. So many, and
	// maxUnavailable more, are replaced at a time.
	MaxSurge int `yaml:"maxSurge,omitempty"`
	// MaxUnavailable is how many of the workers may be missing meanwhile; default 0.
	MaxUnavailable int `yaml:"maxUnavailable,omitempty"`
	// Soak is how long a drained worker is left before it is removed (surge), or how
	// long the canary, and all after each batch, is watched (blue-green); default not at
	// all.
	Soak time.Duration `yaml:"soak,omitempty"`
	// Batch is how many workers of the old pool the strategy blue-green drains at a
	// time; default 1.
	Batch int `yaml:"batch,omitempty"`
	// PoolSoak is how long all is watched before blue-green removes the old pool;
	// default not at all.
	PoolSoak time.Duration `yaml:"poolSoak,omitempty"`
	// CanaryLog is a regular expression: if a line of kubelet or containerd on the
	// canary matches it, blue-green rolls back.
	CanaryLog string `yaml:"canaryLog,omitempty"`
	// DrainExceeded says what becomes of a worker that cannot be drained within
	// drainTimeout before it is replaced: block (the step is blocked) or remove (it
	// goes with what is left on it); default block.
	DrainExceeded string `yaml:"drainExceeded,omitempty"`
	// Order of the components with strategy binaries, each once; default etcd,
	// kube-apiserver, kube-controller-manager, kube-scheduler, kubelet.
	Order []string `yaml:"order,omitempty"`
	// StopFirst are components that strategy binaries stops before anything else, and
	// does not start before their turn: kube-controller-manager, kube-scheduler.
	StopFirst []string `yaml:"stopFirst,omitempty"`
	// Command is what strategy external runs, word by word, with KUBECONFIG,
	// GAMEDAY_FROM, GAMEDAY_TO and GAMEDAY_CLUSTER in its environment.
	Command []string `yaml:"command,omitempty"`
	// Expect declares outcomes; steps not named are expected to proceed.
	Expect []Expect `yaml:"expect,omitempty"`
	// Timeout bounds the whole upgrade; default 30m.
	Timeout time.Duration `yaml:"timeout"`
}

// Options are what the strategy needs of an upgrade.
func (u *Upgrade) Options() upgrade.Options {
	return upgrade.Options{
		To: u.To, Nodes: u.Nodes, Drain: upgrade.Drain(u.Drain), DrainTimeout: u.DrainTimeout,
		MaxSurge: u.MaxSurge, MaxUnavailable: u.MaxUnavailable, Soak: u.Soak, DrainExceeded: upgrade.DrainExceeded(u.DrainExceeded),
		Order: u.Order, StopFirst: u.StopFirst, Command: u.Command,
		Batch: u.Batch, PoolSoak: u.PoolSoak, CanaryLog: u.CanaryLog,
	}
}

// Expect is what is to happen to a step under fault: anything else is a failure.
type Expect struct {
	// Phase of the step: upgrade/control-plane[1].
	Phase string `yaml:"phase"`
	// Outcome of its first attempt: proceed | blocked | roll back. A step that
	// did not proceed is run again after the faults are healed.
	Outcome string `yaml:"outcome"`
	// Because says why, for the report.
	Because string `yaml:"because"`
	// Line in the file, for messages.
	Line int `yaml:"-"`
}

// Fault to inject.
type Fault struct {
	// ID names it in the report; unique in the scenario.
	ID string `yaml:"id"`
	// Fault is its name in the catalogue: `gameday list faults`.
	Fault string `yaml:"fault"`
	// Target says who is hit.
	Target faults.Target `yaml:"target"`
	// With are the fault's own parameters: the fault is decoded into it.
	With faults.Fault `yaml:"-"`
	// Begin of its window.
	Begin Begin `yaml:"begin"`
	// End of its window.
	End End `yaml:"end,omitempty"`
	// MaxHold bounds the fault whatever happens; default: end.for, the bound of
	// the fault's proof and 30s; 3m with end.phase; 1m, or the bound of its proof,
	// for a fault that has no length.
	MaxHold time.Duration `yaml:"maxHold"`
	// Line in the file, for messages.
	Line int `yaml:"-"`
}

// Random draws faults instead of listing them. `gameday plan` shows what a seed
// draws, as an ordinary plan; `gameday plan --save` writes it as an ordinary
// scenario.
type Random struct {
	// Seed of the draws; default: the seed of the run, which is printed.
	Seed uint64 `yaml:"seed,omitempty"`
	// MeanGap is the mean of the gaps, exponentially distributed, between the
	// moments at which a fault is to begin. A moment at which no fault fits into
	// the budgets goes by without one.
	MeanGap time.Duration `yaml:"meanGap"`
	// Budget is how many faults may be there at once; default 1. The budget of etcd
	// members, API servers and nodes holds besides.
	Budget int `yaml:"budget"`
	// From are the faults to draw from, as in `gameday list faults`; default: all
	// that the provider can do. Each is drawn with the parameters and the target of
	// one of its trials: `gameday verify-faults --list`.
	From []string `yaml:"from,omitempty"`
	// Hold is how long a fault that has a length is held after it was proven;
	// default 15s.
	Hold time.Duration `yaml:"hold"`
	// Count is the most to draw; default: as many as fit.
	Count int `yaml:"count,omitempty"`
	// Until is the end of the moments, counted from the beginning of the run phase,
	// or of the upgrade as long as it is expected to take; default: its end.
	Until time.Duration `yaml:"until,omitempty"`
	// Line in the file, for messages.
	Line int `yaml:"-"`
}

// Begin of a window. A window opens only once, and only while the step of its
// phase (for upgrade/worker[0]/kubeadm: upgrade/worker[0]) is running.
type Begin struct {
	// Phase whose beginning opens it; "run", right after the steady state, in a
	// scenario without an upgrade (and the default there).
	Phase string `yaml:"phase"`
	// After is added to it.
	After time.Duration `yaml:"after,omitempty"`
}

// End of a window: exactly one of Phase and For; faults without a length of
// their own (a kill) have neither. A fault is always proven gone before the
// step after that of its end begins.
type End struct {
	// Phase whose end closes it; the end of the step around it does, too.
	Phase string `yaml:"phase,omitempty"`
	// For closes it so long after the fault was proven.
	For time.Duration `yaml:"for,omitempty"`
}

// SLO to judge. In the file: `- name`, or `- name: {parameters}`.
type SLO struct {
	// Name as in `gameday list slos`.
	Name string
	// With is the checker (harness/slo.Checker) with its parameters decoded.
	With any
	// Line in the file, for messages.
	Line int
}

// Places of all nodes of the cluster: control planes, then workers.
func (s *Scenario) Places() []upgrade.Place {
	var out []upgrade.Place
	for i := range s.Cluster.ControlPlanes {
		out = append(out, upgrade.Place{Role: clusters.ControlPlane, Index: i})
	}
	for i := range s.Cluster.Workers {
		out = append(out, upgrade.Place{Role: clusters.Worker, Index: i})
	}
	return out
}

// Expected is what the scenario expects of a step's first attempt.
func (s *Scenario) Expected(phase string) Expect {
	if s.Upgrade != nil {
		for _, e := range s.Upgrade.Expect {
			if e.Phase == phase {
				return e
			}
		}
	}
	return Expect{Phase: phase, Outcome: ExpectProceed}
}
