package faults

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/clock"
	"gameday/faults/mechanism/process"
)

var clockSkew = Kind{
	Name: "clock.skew",
	Doc:  "Makes one component of the targets see another time of day than everybody else.",
	Rehearses: "A node whose time service has failed, a virtual machine that was restored from a snapshot, a leap second: " +
		"on 2017-01-01 a clock that went back took part of Cloudflare's DNS down " +
		"(https://blog.cloudflare.com/how-and-why-the-leap-second-affected-cloudflare-dns/). Leader election must not mind a " +
		"clock that is wrong (https://pkg.go.dev/k8s.io/client-go/tools/leaderelection); certificates and tokens do.",
	Mechanism:   "a stub in the vDSO of the component's process adds the offset to CLOCK_REALTIME; its monotonic clock stays right",
	Undo:        "the stub itself: its deadline, at maxHold, is in its code; the guard, or gameday heal, writes the pristine bytes back before",
	Roles:       []clusters.Role{clusters.ControlPlane, clusters.Worker},
	Needs:       []clusters.Capability{clusters.CapProcesses, clusters.CapNetwork},
	Cost:        Cost{Nodes: 1},
	ProveWithin: 30 * time.Second,
	GoneWithin:  time.Minute,
	Trials: []Trial{
		{Name: "clock-etcd", Target: Target{Pick: PickOne, Role: "control-plane"}, With: "{component: etcd, offset: 1h}"},
		{Name: "clock-apiserver", Target: Target{Pick: PickOne, Role: "control-plane"}, With: "{component: kube-apiserver, offset: -5m}"},
		{Name: "clock-controllers", Target: Target{Pick: PickOne, Role: "control-plane"}, With: "{component: kube-controller-manager, offset: 90s}"},
		{Name: "clock-kubelet", Target: Target{Pick: PickOne, Role: "worker"}, With: "{component: kubelet, offset: -30s}"},
	},
	New: func() Fault { return &ClockSkew{Component: "kubelet", Offset: 10 * time.Minute} },
}

const (
	// leastSkew can be told from the error of the look; mostSkew keeps dates in the
	// range that certificates and JSON know.
	leastSkew = 2 * time.Second
	mostSkew  = 20 * 365 * 24 * time.Hour
	// clockTolerance is by how much a clock may be seen to miss what it should show:
	// on a busy machine an answer takes so long to come back.
	clockTolerance = 500 * time.Millisecond
)

// ClockSkew is the fault clock.skew.
type ClockSkew struct {
	// Component is etcd, kube-apiserver, kube-controller-manager, kube-scheduler or
	// kubelet.
	Component string `yaml:"component" json:"component"`
	// Offset is added to the time of day; negative is the past.
	Offset time.Duration `yaml:"offset" json:"offset"`
}

// skewed is what the notes say: when the skew ends by itself.
type skewed struct {
	Until time.Time `json:"until"`
}

// clockComponents are those whose clock can be read.
func clockComponents() []string {
	return []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}
}

// Validate implements Validator.
func (f *ClockSkew) Validate() []error {
	var errs []error
	if !slices.Contains(clockComponents(), f.Component) {
		errs = append(errs, fmt.Errorf("component: %q is none of %s", f.Component, strings.Join(clockComponents(), ", ")))
	}
	if d := f.Offset.Abs(); d < leastSkew || d > mostSkew {
		errs = append(errs, fmt.Errorf("offset: %s is not between %s and 20 years, forward or back", f.Offset, leastSkew))
	}
	return errs
}

// Describe implements Describer.
func (f *ClockSkew) Describe(targets []string) []string {
	return each(targets, "%s: write a stub into the vDSO of "+f.Component+" (/proc/PID/mem): clock_gettime(CLOCK_REALTIME) + "+f.Offset.String()+" until maxHold")
}

// Inject changes the process that runs now. One that was started since gets the
// rest of the time.
func (f *ClockSkew) Inject(ctx context.Context, env Env) error {
	var note skewed
	noted, err := env.Notes.Load(&note)
	if err != nil {
		return err
	}
	if !noted {
		note.Until = time.Now().Add(env.MaxHold)
		if err := env.Notes.Save(note); err != nil {
			return err
		}
	}
	left := time.Until(note.Until)
	if left <= 0 {
		return fmt.Errorf("the longest time (maxHold) of the skew was over at %s", note.Until.Format(time.TimeOnly))
	}
	for _, n := range env.Targets {
		refs, err := find(ctx, n, f.Component)
		if err != nil {
			return err
		}
		if len(refs) == 0 {
			return fmt.Errorf("%s: no %s runs there whose clock could be skewed", n.Name(), f.Component)
		}
		for _, ref := range refs {
			if err := clock.Skew(ctx, ref, clock.Change{Owner: env.Tag, Offset: f.Offset, For: left}); err != nil {
				return fmt.Errorf("%s: %s: %w", n.Name(), f.Component, err)
			}
		}
	}
	return nil
}

// Heal restores the process that runs now: an earlier one took its skew with it.
func (f *ClockSkew) Heal(ctx context.Context, env Env) error {
	var errs []error
	for _, n := range env.Targets {
		refs, err := find(ctx, n, f.Component)
		errs = append(errs, err)
		for _, ref := range refs {
			err := clock.Restore(ctx, ref, env.Tag)
			// Where nothing can be changed nothing was.
			if err != nil && !errors.Is(err, process.ErrGone) && !errors.Is(err, clock.ErrUnsupported) {
				errs = append(errs, fmt.Errorf("%s: %s: %w", n.Name(), f.Component, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Prove asks the component what time it is: every HTTP server says so in the Date
// of its answers.
func (f *ClockSkew) Prove(ctx context.Context, env Env) (Effect, error) {
	var mu sync.Mutex
	worst := math.NaN() // of the targets, the one that is farthest from what was asked for
	asked := f.Offset.Seconds() * 1000
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		off, err := componentClock(ctx, env.Cluster, n, f.Component)
		if err != nil {
			return seen{}, err
		}
		pristine, err := f.pristine(ctx, env, n)
		if err != nil {
			return seen{}, err
		}
		mu.Lock()
		if ms := off.Seconds() * 1000; math.IsNaN(worst) || abs(ms-asked) > abs(worst-asked) {
			worst = ms
		}
		mu.Unlock()
		s := seen{
			broken:   (off - f.Offset).Abs() <= clockTolerance,
			whole:    off.Abs() <= clockTolerance && pristine,
			evidence: fmt.Sprintf("the clock of %s is off by %s (Date of its answers)", f.Component, off.Round(time.Millisecond)),
		}
		if !pristine && !s.broken {
			s.evidence += ", and its vDSO is changed"
		}
		return s, nil
	})
	if err != nil {
		return e, err
	}
	e.Asked, e.Measured, e.Unit = asked, worst, "ms"
	if rest := f.rest(env); e.Active && len(rest) > 0 {
		e.Control, err = control(ctx, rest, "has "+f.Component+" in step with our clock", func(ctx context.Context, n clusters.Node) error {
			off, err := componentClock(ctx, env.Cluster, n, f.Component)
			if err == nil && off.Abs() > clockTolerance {
				err = fmt.Errorf("%s: the clock of %s is off by %s too", n.Name(), f.Component, off.Round(time.Millisecond))
			}
			return err
		})
		if err != nil {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but no other one is right: %v", err)
		}
	}
	e.At = time.Now()
	return e, nil
}

// pristine says that nothing of ours stands in the component's process. (Where the
// vDSO is not understood nothing of ours does.)
func (f *ClockSkew) pristine(ctx context.Context, env Env, n clusters.Node) (bool, error) {
	refs, err := find(ctx, n, f.Component)
	if err != nil {
		return false, err
	}
	for _, ref := range refs {
		s, err := clock.Look(ref)
		if err != nil && !errors.Is(err, clock.ErrUnsupported) && !errors.Is(err, clock.ErrTaken) {
			return false, err
		}
		if s.Ours(env.Tag) {
			return false, nil
		}
	}
	return true, nil
}

// rest are the nodes with the component that are no target.
func (f *ClockSkew) rest(env Env) []clusters.Node {
	if f.Component != "kubelet" {
		return others(env)
	}
	return slices.DeleteFunc(env.Cluster.Nodes(), func(n clusters.Node) bool {
		return n.Role() == clusters.LoadBalancer || isTarget(env, n)
	})
}
