package faults

import (
	"context"
	"fmt"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/cgroup"
)

var cpuSteal = Kind{
	Name: "cpu.steal",
	Doc:  "Takes a share of the processors away from the targets, as an overcommitted host or a used-up CPU credit does.",
	Rehearses: "A noisy neighbour, or a burstable instance whose credits are gone and that is throttled to its baseline " +
		"(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/burstable-credits-baseline-concepts.html): everything on the node " +
		"still works and is slow, leases are renewed late, etcd's heartbeats too " +
		"(https://etcd.io/docs/v3.6/tuning/#time-parameters).",
	Mechanism:   "a CPU quota on the node's control group (cpu.cfs_quota_us, or cpu.max) of (1 - share) of all processors, in periods of 20 ms",
	Undo:        "the guard, or gameday heal, puts the noted quota back",
	Roles:       []clusters.Role{clusters.ControlPlane, clusters.Worker},
	Needs:       []clusters.Capability{clusters.CapCgroup},
	Cost:        Cost{Nodes: 1},
	ProveWithin: 30 * time.Second,
	GoneWithin:  30 * time.Second,
	Trials:      []Trial{{Name: "cpu-steal", Target: Target{Pick: PickOne, Role: "worker"}, With: "{share: 0.8}"}},
	New:         func() Fault { return &CPUSteal{Share: 0.75} },
}

const (
	// wantTime is how long somebody in the node's group wants all processors, to
	// see what it can have: twelve periods.
	wantTime = 250 * time.Millisecond
	// wantTolerance is by how much more or less than its quota a group may be seen
	// to use in that time.
	wantTolerance = 0.25
)

// CPUSteal is the fault cpu.steal.
type CPUSteal struct {
	// Share of all processors of the machine that the target loses: 0.75 leaves it
	// a quarter of them.
	Share float64 `yaml:"share" json:"share"`
}

// Validate implements Validator.
func (f *CPUSteal) Validate() []error {
	if f.Share < 0.1 || f.Share > 0.98 {
		return []error{fmt.Errorf("share: %g is not between 0.1 and 0.98", f.Share)}
	}
	return nil
}

// Describe implements Describer.
func (f *CPUSteal) Describe(targets []string) []string {
	return each(targets, fmt.Sprintf("%%s: CPU quota of its control group = %.2f of all processors", 1-f.Share))
}

// left is how many processors a target keeps.
func (f *CPUSteal) left() float64 { return (1 - f.Share) * float64(cgroup.Processors()) }

// Inject lowers the quota. One that was lower before is an error: nothing is given.
func (f *CPUSteal) Inject(ctx context.Context, env Env) error {
	return lower(ctx, env, cgroup.CPU, func(_ clusters.Node, _ cgroup.Group, l cgroup.Limit) error { return l.LowerCPU(f.left()) })
}

// Heal puts the old quotas back.
func (*CPUSteal) Heal(ctx context.Context, env Env) error { return raise(ctx, env) }

// Prove wants all processors for a moment, in the node's control group, and reads
// the scheduler's accounts of what it got.
func (f *CPUSteal) Prove(ctx context.Context, env Env) (Effect, error) {
	var mu sync.Mutex
	worst := -1.0
	asked := f.left()
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		got, throttled, marked, err := have(ctx, env, n)
		if err != nil {
			return seen{}, err
		}
		mu.Lock()
		if worst < 0 || abs(got-asked) > abs(worst-asked) {
			worst = got
		}
		mu.Unlock()
		return seen{
			broken:   throttled > 0 && abs(got-asked) <= wantTolerance*asked,
			whole:    !marked && (throttled == 0 || got > asked*(1+wantTolerance)),
			evidence: fmt.Sprintf("wants all %d processors and gets %.2f, throttled %d times in %s", cgroup.Processors(), got, throttled, wantTime),
		}, nil
	})
	if err != nil {
		return e, err
	}
	e.Asked, e.Measured, e.Unit = asked, worst, "processors"
	if rest := restNodes(env); e.Active && len(rest) > 0 {
		e.Control, err = control(ctx, rest[:1], "is not throttled", func(ctx context.Context, n clusters.Node) error {
			_, throttled, _, err := have(ctx, env, n)
			if err == nil && throttled > 0 {
				err = fmt.Errorf("%s was throttled %d times too", n.Name(), throttled)
			}
			return err
		})
		if err != nil {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but so are others: %v", err)
		}
	}
	e.At = time.Now()
	return e, nil
}

// have says how many processors a node gets when it wants all, and how often it
// was throttled for its quota.
func have(ctx context.Context, env Env, n clusters.Node) (processors float64, throttled int64, marked bool, err error) {
	g, err := group(ctx, n)
	if err != nil {
		return 0, 0, false, err
	}
	l, err := g.Read(cgroup.CPU)
	if err != nil {
		return 0, 0, false, fmt.Errorf("%s: %w", n.Name(), err)
	}
	used, took, err := g.Want(ctx, env.Tag, wantTime)
	if err != nil {
		return 0, 0, false, fmt.Errorf("%s: want all processors: %w", n.Name(), err)
	}
	return float64(used.Microseconds) / float64(took.Microseconds()), used.Throttled, l.Marked(env.Tag), nil
}
