package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/cgroup"
	"gameday/faults/mechanism/child"
)

var memoryPressure = Kind{
	Name: "memory.pressure",
	Doc:  "Leaves the targets so little memory beyond what they work with that the kernel has to take pages back all the time.",
	Rehearses: "A node whose memory is nearly used up: file pages, of programs and of etcd's database too, are thrown out and read " +
		"again, and everything stalls before anybody is killed " +
		"(https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/, https://docs.kernel.org/accounting/psi.html).",
	Mechanism: "a limit on the node's control group (memory.limit_in_bytes, or memory.high) of its working set and a little more, and " +
		"a process in it that reads twice as much, over and over. The kubelet looks at the machine's memory, and reports no MemoryPressure for it",
	Undo:        "the process ends with gameday, or at maxHold; the guard, or gameday heal, puts the noted limit back",
	Roles:       []clusters.Role{clusters.ControlPlane, clusters.Worker},
	Needs:       []clusters.Capability{clusters.CapCgroup},
	Cost:        Cost{Nodes: 1},
	ProveWithin: 30 * time.Second,
	GoneWithin:  time.Minute,
	Trials:      []Trial{{Name: "memory-pressure", Target: Target{Pick: PickOne, Role: "worker"}}},
	New:         func() Fault { return &MemoryPressure{Left: 64} },
}

// pressureWindow is between two readings of the kernel's accounts.
const pressureWindow = time.Second

// MemoryPressure is the fault memory.pressure.
type MemoryPressure struct {
	// Left is how many MiB a target may use beyond its working set at the time of
	// the injection. What it needs above that, with version 1 of control groups,
	// the kernel gets by killing processes of the node.
	Left int `yaml:"left" json:"left"`

	mu      sync.Mutex
	readers map[string]*child.Process // by node
}

// Validate implements Validator.
func (f *MemoryPressure) Validate() []error {
	if f.Left < 16 || f.Left > 1<<20 {
		return []error{fmt.Errorf("left: %d MiB is not between 16, below which the node would not survive, and 1 TiB", f.Left)}
	}
	return nil
}

// Describe implements Describer.
func (f *MemoryPressure) Describe(targets []string) []string {
	return each(targets, fmt.Sprintf("%%s: memory limit of its control group = its working set + %d MiB; read %d MiB in it, over and over", f.Left, 2*f.Left))
}

// Inject lowers the limit. A second one does so from what is in use then.
func (f *MemoryPressure) Inject(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readers == nil {
		f.readers = map[string]*child.Process{}
	}
	return lower(ctx, env, cgroup.Memory, func(n clusters.Node, g cgroup.Group, l cgroup.Limit) error {
		if p := f.readers[n.Name()]; p != nil {
			// It is in the way of the reckoning, and of a group that is gone since.
			if err := p.Kill(ctx); err != nil {
				return err
			}
			delete(f.readers, n.Name())
		}
		u, err := g.MemoryUse()
		if err != nil {
			return err
		}
		if err := l.Lower(u.WorkingSet + int64(f.Left)<<20); err != nil {
			return err
		}
		f.readers[n.Name()], err = l.Hoard(ctx, env.Tag, 2*f.Left, env.MaxHold)
		return err
	})
}

// Heal puts the old limits back, and ends what reads there.
func (f *MemoryPressure) Heal(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for name, p := range f.readers {
		if err := p.Kill(ctx); err != nil { // it has nothing to undo
			errs = append(errs, err)
			continue
		}
		delete(f.readers, name)
	}
	return errors.Join(append(errs, raise(ctx, env))...)
}

// Prove reads twice how often the node ran into a limit and had to give pages
// back.
func (f *MemoryPressure) Prove(ctx context.Context, env Env) (Effect, error) {
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		p, err := pressed(ctx, env, n)
		if err != nil {
			return seen{}, err
		}
		return seen{
			broken:   p.hits > 0,
			whole:    !p.marked && p.hits == 0,
			evidence: fmt.Sprintf("ran into its limit %d times in %s, %d MiB in use beyond its working set, %d file pages read again, %d processes killed", p.hits, pressureWindow, p.spare>>20, p.refaults, p.killed),
		}, nil
	})
	if err != nil {
		return e, err
	}
	if rest := restNodes(env); e.Active && len(rest) > 0 {
		e.Control, err = control(ctx, rest, "ran into no limit", func(ctx context.Context, n clusters.Node) error {
			p, err := pressed(ctx, env, n)
			if err == nil && p.hits > 0 {
				err = fmt.Errorf("%s ran into its limit %d times too", n.Name(), p.hits)
			}
			return err
		})
		if err != nil {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but so did others: %v", err)
		}
	}
	e.At = time.Now()
	return e, nil
}

// pressing is what happened to a node's memory in a window.
type pressing struct {
	hits, refaults, killed int64
	spare                  int64
	marked                 bool
}

func pressed(ctx context.Context, env Env, n clusters.Node) (pressing, error) {
	g, err := group(ctx, n)
	if err != nil {
		return pressing{}, err
	}
	l, err := g.Read(cgroup.Memory)
	if err != nil {
		return pressing{}, fmt.Errorf("%s: %w", n.Name(), err)
	}
	before, err := g.MemoryUse()
	if err != nil {
		return pressing{}, fmt.Errorf("%s: %w", n.Name(), err)
	}
	select {
	case <-ctx.Done():
		return pressing{}, context.Cause(ctx)
	case <-time.After(pressureWindow):
	}
	after, err := g.MemoryUse()
	if err != nil {
		return pressing{}, fmt.Errorf("%s: %w", n.Name(), err)
	}
	return pressing{
		hits: after.Hit - before.Hit, refaults: after.Refaults - before.Refaults, killed: after.Killed - before.Killed,
		spare: after.Bytes - after.WorkingSet, marked: l.Marked(env.Tag),
	}, nil
}
