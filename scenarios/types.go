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

	"gameday/faults"
)

// APIVersion and Kind of a scenario file.
const (
	APIVersion = "gameday/v1alpha1"
	Kind       = "Scenario"
)

// Scenario is one game day.
type Scenario struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	// Name as on the command line: lower case, digits and dashes.
	Name string `yaml:"name"`
	// Description says in a sentence or two what is rehearsed.
	Description string   `yaml:"description"`
	Cluster     Cluster  `yaml:"cluster"`
	Workload    Workload `yaml:"workload"`
	// Upgrade is nil for a scenario without one.
	Upgrade *Upgrade `yaml:"upgrade"`
	// Faults in the order of their windows.
	Faults []Fault `yaml:"faults"`
	// Allow lifts a limit of the fault budget: etcdQuorumLoss, allAPIServersDown.
	Allow []string `yaml:"allow"`
	// MaxUnavailable is how many nodes faults may take at once; default 1.
	MaxUnavailable int `yaml:"maxUnavailable"`
	// SLOs that are judged.
	SLOs []SLO `yaml:"slos"`
	// Steady is how long all must be well before the first fault; Converge
	// bounds how long all may take to be well again after the last heal.
	Steady   time.Duration `yaml:"steady"`
	Converge time.Duration `yaml:"converge"`
	// Run is how long a scenario without an upgrade goes on after the steady
	// state; with an upgrade the upgrade sets the length.
	Run time.Duration `yaml:"run"`
}

// Cluster to make.
type Cluster struct {
	Version       string `yaml:"version"`
	ControlPlanes int    `yaml:"controlPlanes"`
	Workers       int    `yaml:"workers"`
}

// Workload is what runs in the cluster and must survive.
type Workload struct {
	CronJobs     *CronJobs    `yaml:"cronJobs"`
	Deployments  *Deployments `yaml:"deployments"`
	StatefulSets *Stateful    `yaml:"statefulSets"`
	Jobs         *Jobs        `yaml:"jobs"`
}

// CronJobs that each start a Job at each slot.
type CronJobs struct {
	Count    int           `yaml:"count"`
	Schedule string        `yaml:"schedule"`
	Duration time.Duration `yaml:"duration"` // of each job's container
	Policy   string        `yaml:"policy"`   // Allow | Forbid | Replace
}

// Deployments behind a Service each, with a PodDisruptionBudget.
type Deployments struct {
	Count        int `yaml:"count"`
	Replicas     int `yaml:"replicas"`
	MinAvailable int `yaml:"minAvailable"`
}

// Stateful sets with a PodDisruptionBudget.
type Stateful struct {
	Count        int `yaml:"count"`
	Replicas     int `yaml:"replicas"`
	MinAvailable int `yaml:"minAvailable"`
}

// Jobs that run for long: Parallel of them at any time, each Duration long; one
// that ends is followed by another.
type Jobs struct {
	Parallel int           `yaml:"parallel"`
	Duration time.Duration `yaml:"duration"`
}

// Upgrade to rehearse.
type Upgrade struct {
	To       string `yaml:"to"`
	Strategy string `yaml:"strategy"`
	// Drain: none | workers | all.
	Drain        string        `yaml:"drain"`
	DrainTimeout time.Duration `yaml:"drainTimeout"`
	// Nodes are places in the order of the upgrade; default: all, control
	// planes first.
	Nodes []string `yaml:"nodes"`
	// Expect declares outcomes; steps not named are expected to proceed.
	Expect []Expect `yaml:"expect"`
	// Timeout bounds the whole upgrade.
	Timeout time.Duration `yaml:"timeout"`
}

// Expect is what is to happen to a step under fault: anything else is a failure.
type Expect struct {
	Phase   string `yaml:"phase"`   // upgrade/control-plane[1]
	Outcome string `yaml:"outcome"` // proceed | blocked | roll back
	// Because says why, for the report.
	Because string `yaml:"because"`
}

// Fault to inject.
type Fault struct {
	// ID names it in the report; unique in the scenario.
	ID     string        `yaml:"id"`
	Fault  string        `yaml:"fault"` // name in the catalogue
	Target faults.Target `yaml:"target"`
	// With are the fault's own parameters: the fault is decoded into it.
	With   faults.Fault `yaml:"-"`
	Begin  Begin        `yaml:"begin"`
	End    End          `yaml:"end"`
	// MaxHold bounds the fault whatever happens.
	MaxHold time.Duration `yaml:"maxHold"`
	// Line in the file, for messages.
	Line int `yaml:"-"`
}

// Begin of a window.
type Begin struct {
	// Phase whose beginning opens it; or Stage "run" (right after the steady
	// state) in a scenario without an upgrade.
	Phase string `yaml:"phase"`
	// After is added to it.
	After time.Duration `yaml:"after"`
}

// End of a window: exactly one of Phase and For; Instant faults have neither.
type End struct {
	// Phase whose end closes it.
	Phase string `yaml:"phase"`
	// For closes it so long after the fault was proven.
	For time.Duration `yaml:"for"`
}

// SLO to judge.
type SLO struct {
	Name string
	// With is the checker (harness/slo.Checker) with its parameters decoded.
	With any
	Line int
}
