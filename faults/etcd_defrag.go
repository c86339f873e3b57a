package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gameday/clusters"
)

var etcdDefrag = Kind{
	Name: "etcd.defrag",
	Doc:  "Defragments the database of the targets' etcd members again and again, while they serve.",
	Rehearses: "A defragmentation at the wrong time, as by a cron job on all members: etcd rewrites its database and serves nothing " +
		"meanwhile (https://etcd.io/docs/v3.6/op-guide/maintenance/#defragmentation).",
	Mechanism:   "the maintenance call Defragment to the member, each `every`",
	Undo:        "nothing is left: the calls come from gameday itself and end with it",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapFiles}, // for the client certificate
	Cost:        Cost{EtcdMembers: 1},
	ProveWithin: 60 * time.Second,
	GoneWithin:  60 * time.Second,
	Trials:      []Trial{{Name: "etcd-defrag", Target: Target{Pick: PickLeader}, With: "{every: 500ms}"}},
	New:         func() Fault { return &EtcdDefrag{Every: time.Second} },
}

const (
	// defragTime is etcd's own histogram of its defragmentations, in seconds:
	// go.etcd.io/etcd/server/v3@v3.6.8 storage/backend/metrics.go.
	defragTime = "etcd_disk_backend_defrag_duration_seconds"
	// defragCalls are so many that they are no one's cron job.
	defragCalls = 2
	defragLook  = 100 * time.Millisecond
	// defragBound is for one; a database of 2 GB takes some ten seconds.
	defragBound = time.Minute
)

// EtcdDefrag is the fault etcd.defrag.
type EtcdDefrag struct {
	// Every is the time from the beginning of one to that of the next, or the time
	// that it takes if that is longer.
	Every time.Duration `yaml:"every" json:"every"`

	mu    sync.Mutex
	loops map[string]*repeater // by node
}

// Validate implements Validator.
func (f *EtcdDefrag) Validate() []error {
	if f.Every < 100*time.Millisecond || f.Every > 10*time.Second {
		return []error{fmt.Errorf("every: %s is not between 100ms and 10s", f.Every)}
	}
	return nil
}

// Describe implements Describer.
func (f *EtcdDefrag) Describe(targets []string) []string {
	return each(targets, "%s: each "+f.Every.String()+": etcdctl defrag (this member only)")
}

// Inject begins. A second one goes on as it is.
func (f *EtcdDefrag) Inject(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loops == nil {
		f.loops = map[string]*repeater{}
	}
	for _, n := range env.Targets {
		if f.loops[n.Name()] == nil {
			f.loops[n.Name()] = &repeater{}
		}
		f.loops[n.Name()].start(ctx, env.MaxHold, f.Every, func(ctx context.Context) {
			if err := defragment(ctx, env.Cluster, n); err != nil && ctx.Err() == nil {
				env.Log("etcd.defrag: %v", err)
			}
		})
	}
	return nil
}

func defragment(ctx context.Context, c clusters.Cluster, n clusters.Node) error {
	ctx, cancel := context.WithTimeout(ctx, defragBound)
	defer cancel()
	cli, err := clusters.EtcdClient(ctx, c, n)
	if err != nil {
		return err
	}
	defer cli.Close()
	if _, err := cli.Defragment(ctx, clusters.EtcdURL(n)); err != nil {
		return fmt.Errorf("%s: %w", n.Name(), err)
	}
	return nil
}

// Heal stops it. One that has begun is ended by etcd itself.
func (f *EtcdDefrag) Heal(ctx context.Context, _ Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, r := range f.loops {
		errs = append(errs, r.stop(ctx))
	}
	return errors.Join(errs...)
}

// Prove reads etcd's own metric, and its size.
func (f *EtcdDefrag) Prove(ctx context.Context, env Env) (Effect, error) {
	rest := others(env)
	before := map[string]histogram{}
	for _, n := range rest {
		if h, err := readHistogram(ctx, n, defragTime); err == nil {
			before[n.Name()] = h
		}
	}
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		d, err := f.watch(ctx, n)
		if err != nil {
			return seen{}, err
		}
		if d.count == 0 {
			if err := serves(ctx, env, n); err != nil {
				return seen{evidence: err.Error()}, nil
			}
			return seen{whole: true, evidence: "not defragmented, serves"}, nil
		}
		s := seen{broken: d.count >= defragCalls, evidence: fmt.Sprintf("%d defragmentations of %.0f ms on average", d.count, 1000*d.sum/float64(d.count))}
		if st, err := memberStatus(ctx, env.Cluster, n); err == nil {
			s.evidence += fmt.Sprintf(", %.1f MB, of which %.1f are in use", float64(st.DbSize)/1e6, float64(st.DbSizeInUse)/1e6)
		}
		return s, nil
	})
	if err != nil {
		return e, err
	}
	if e.Active && len(rest) > 0 {
		for _, n := range rest {
			h, err := readHistogram(ctx, n, defragTime)
			if b, ok := before[n.Name()]; err == nil && ok && h.count == b.count {
				e.Control = clusters.Place(n) + " is not defragmented"
				break
			}
		}
		if e.Control == "" {
			e.Active = false
			e.Evidence += "; but the others are defragmented too"
		}
	}
	e.At = time.Now()
	return e, nil
}

// watch says how many defragmentations of a member end while it is watched: until
// there are enough, or there should have been.
func (f *EtcdDefrag) watch(ctx context.Context, n clusters.Node) (histogram, error) {
	first, err := readHistogram(ctx, n, defragTime)
	if err != nil {
		return histogram{}, err
	}
	tick := time.NewTicker(defragLook)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return histogram{}, context.Cause(ctx)
		}
		now, err := readHistogram(ctx, n, defragTime)
		if err != nil {
			return histogram{}, err
		}
		if now.count < first.count {
			return histogram{}, fmt.Errorf("%s: its etcd was restarted just now", n.Name())
		}
		d := histogram{now.count - first.count, now.sum - first.sum}
		if d.count >= defragCalls || time.Since(began) > (defragCalls+1)*f.Every+time.Second {
			return d, nil
		}
	}
}
