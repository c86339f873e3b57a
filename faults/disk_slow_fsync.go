package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"gameday/clusters"
	"gameday/faults/mechanism/process"
	"gameday/faults/mechanism/slowfsync"
)

var diskSlowFsync = Kind{
	Name: "disk.slow-fsync",
	Doc:  "Makes every fsync of the targets' etcd slow, while it runs.",
	Rehearses: "A disk that is too slow or shared with a noisy neighbour, the most common trouble of etcd: writes wait, and " +
		"above the election timeout the leader is lost (https://etcd.io/docs/v3.6/op-guide/hardware/#disks, " +
		"https://etcd.io/docs/v3.6/faq/#what-does-the-etcd-warning-failed-to-send-out-heartbeat-on-time-mean).",
	Mechanism:   "ptrace holds back fsync and fdatasync of the etcd process before the kernel begins them",
	Undo:        "the kernel: it detaches when the tracing process ends, and that ends with gameday, or at maxHold",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapProcesses},
	Cost:        Cost{EtcdMembers: 1},
	ProveWithin: 30 * time.Second,
	GoneWithin:  30 * time.Second,
	Trials: []Trial{
		{Name: "slow-fsync", Target: Target{Pick: PickLeader}},
		{Name: "slow-wal", Target: Target{Pick: PickOne}, With: "{delay: 100ms, match: .wal}"},
	},
	New: func() Fault { return &SlowFsync{Delay: 500 * time.Millisecond} },
}

const (
	// etcdMetrics is where the member serves its metrics: clusters/kind tells
	// kubeadm to have etcd listen there on all addresses.
	etcdMetrics = "2381"
	// walFsync is etcd's own histogram of its fsyncs of the log, in seconds:
	// https://etcd.io/docs/v3.6/metrics/.
	walFsync = "etcd_disk_wal_fsync_duration_seconds"
	// fsyncWindow is how long etcd's metric is watched at least, fsyncCalls how
	// many fsyncs it must show, fsyncPatience how much longer than the calls need
	// they are waited for. An idle Kubernetes still renews its leases several times
	// a second.
	fsyncWindow   = 1 * time.Second
	fsyncCalls    = 3
	fsyncPatience = 10 * time.Second
	// tolerance is by how much the mean may miss what was asked for.
	tolerance = 0.05
)

// SlowFsync is the fault disk.slow-fsync.
type SlowFsync struct {
	// Delay of each fsync; may be changed while the fault is active, by another
	// Inject.
	Delay time.Duration `yaml:"delay" json:"delay"`
	// Match picks files by a part of their path: ".wal" slows the log only, which
	// is what a write waits for; empty slows the database file too, as a disk does.
	Match string `yaml:"match" json:"match"`

	mu      sync.Mutex
	holders map[string]*slowfsync.Holder // by node
}

// slowed is what the notes say of a node.
type slowed struct {
	Etcd   process.Ref `json:"etcd"`
	Holder process.Ref `json:"holder"`
}

// Validate implements Validator.
func (f *SlowFsync) Validate() []error {
	var errs []error
	// etcd's fsync takes about a millisecond on a good disk; 10 ms is what etcd
	// asks a disk to stay below (https://etcd.io/docs/v3.6/faq/).
	if f.Delay < 10*time.Millisecond || f.Delay > time.Minute {
		errs = append(errs, fmt.Errorf("delay: %s is not between 10ms, which a healthy disk may take, and 1m", f.Delay))
	}
	return errs
}

// Describe implements Describer.
func (f *SlowFsync) Describe(targets []string) []string {
	what := "fsync, fdatasync"
	if f.Match != "" {
		what += " of files with " + f.Match + " in their path"
	}
	return each(targets, "%s: ptrace(etcd): delay "+what+" by "+f.Delay.String())
}

// Inject attaches to the etcd that runs now. A target whose etcd was re-created
// since gets a new holder.
func (f *SlowFsync) Inject(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.holders == nil {
		f.holders = map[string]*slowfsync.Holder{}
	}
	notes := map[string]slowed{}
	if _, err := env.Notes.Load(&notes); err != nil {
		return err
	}
	for _, n := range env.Targets {
		refs, err := find(ctx, n, "etcd")
		if err != nil {
			return err
		}
		if len(refs) != 1 {
			return fmt.Errorf("%s: found %d etcd processes (%s) where one should run", n.Name(), len(refs), pids(refs))
		}
		if h := f.holders[n.Name()]; h != nil {
			if notes[n.Name()].Etcd == refs[0] && h.SetDelay(ctx, f.Delay) == nil {
				continue
			}
			// Of an etcd that is gone, or dead itself.
			if err := h.Stop(ctx); err != nil {
				return err
			}
		}
		h, err := slowfsync.Start(ctx, slowfsync.Options{Process: refs[0], Delay: f.Delay, Match: f.Match, MaxHold: env.MaxHold})
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		f.holders[n.Name()] = h
		notes[n.Name()] = slowed{Etcd: refs[0], Holder: h.Ref()}
		// After the act, for once: the child could not be named before, and it ends
		// with this process whatever the journal says.
		if err := env.Notes.Save(notes); err != nil {
			return err
		}
	}
	return nil
}

// Heal ends the tracing processes: by their leases, or in another process by
// their names.
func (f *SlowFsync) Heal(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for name, h := range f.holders {
		if err := h.Stop(ctx); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(f.holders, name)
	}
	notes := map[string]slowed{}
	if _, err := env.Notes.Load(&notes); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, s := range notes {
		errs = append(errs, kill(ctx, []process.Ref{s.Holder}))
	}
	return errors.Join(errs...)
}

// Prove reads etcd's own metric.
func (f *SlowFsync) Prove(ctx context.Context, env Env) (Effect, error) {
	notes := map[string]slowed{}
	injected, err := env.Notes.Load(&notes)
	if err != nil {
		return Effect{}, err
	}
	var mu sync.Mutex
	var worst float64 // of the targets, the one that is farthest from what was asked for
	rest := others(env)
	before := readAll(ctx, rest)
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		refs, err := find(ctx, n, "etcd")
		if err != nil {
			return seen{}, err
		}
		var tracer int
		if len(refs) == 1 {
			if tracer, err = slowfsync.TracedBy(refs[0].PID); err != nil {
				return seen{}, err
			}
		}
		mean, calls, err := meanFsync(ctx, n, f.Delay)
		if err != nil {
			return seen{}, err
		}
		mu.Lock()
		if asked := f.Delay.Seconds(); worst == 0 || abs(mean-asked) > abs(worst-asked) {
			worst = mean
		}
		mu.Unlock()
		same := injected && len(refs) == 1 && notes[n.Name()].Etcd == refs[0]
		s := seen{
			broken:   abs(mean-f.Delay.Seconds()) <= tolerance*f.Delay.Seconds() && same,
			whole:    mean < f.Delay.Seconds()/4 && tracer == 0,
			evidence: fmt.Sprintf("%d fsyncs of %.1f ms on average, process %s", calls, mean*1000, pids(refs)),
		}
		if injected && same {
			s.evidence += ", the same as before"
		}
		return s, nil
	})
	if err != nil {
		return e, err
	}
	if e.Active && len(rest) > 0 {
		if e.Control = f.control(ctx, rest, before); e.Control == "" {
			e.Active = false
			e.Evidence += "; but no other member is fast either"
		}
	}
	e.Asked, e.Measured, e.Unit = f.Delay.Seconds()*1000, worst*1000, "ms"
	e.At = time.Now()
	return e, nil
}

// control finds another member whose fsyncs stayed short since before.
func (f *SlowFsync) control(ctx context.Context, rest []clusters.Node, before map[string]fsyncs) string {
	after := readAll(ctx, rest)
	for _, n := range rest {
		b, was := before[n.Name()]
		a, is := after[n.Name()]
		if !was || !is || a.count <= b.count {
			continue
		}
		d := a.count - b.count
		if mean := (a.sum - b.sum) / float64(d); mean < f.Delay.Seconds()/4 {
			return fmt.Sprintf("%s: %d fsyncs of %.1f ms on average", clusters.Place(n), d, mean*1000)
		}
	}
	return ""
}

// readAll reads the members that answer.
func readAll(ctx context.Context, nodes []clusters.Node) map[string]fsyncs {
	out := map[string]fsyncs{}
	for _, n := range nodes {
		if r, err := readFsyncs(ctx, n); err == nil {
			out[n.Name()] = r
		}
	}
	return out
}

func abs(x float64) float64 { return max(x, -x) }

// fsyncs is a reading of etcd's histogram.
type fsyncs struct {
	count uint64
	sum   float64
}

// meanFsync watches the member on a node until it has made some fsyncs, and says
// how long they took on average, in seconds.
func meanFsync(ctx context.Context, n clusters.Node, asked time.Duration) (mean float64, calls int, err error) {
	ctx, cancel := context.WithTimeout(ctx, fsyncWindow+fsyncCalls*asked+fsyncPatience)
	defer cancel()
	first, err := readFsyncs(ctx, n)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	// The first one to end may have begun before the fault did, and is left out.
	for clean := false; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, 0, fmt.Errorf("%s: its etcd did not make %d fsyncs in %s, so their length is not known: %w", n.Name(), fsyncCalls, time.Since(began).Round(time.Millisecond), context.Cause(ctx))
		}
		now, err := readFsyncs(ctx, n)
		if err != nil {
			return 0, 0, err
		}
		if now.count < first.count { // another process, which counts anew
			return 0, 0, fmt.Errorf("%s: its etcd was restarted just now", n.Name())
		}
		d := now.count - first.count
		if !clean && d > 0 {
			clean, first, d = true, now, 0
		}
		if d >= fsyncCalls && time.Since(began) >= fsyncWindow {
			return (now.sum - first.sum) / float64(d), int(d), nil
		}
	}
}

func readFsyncs(ctx context.Context, n clusters.Node) (fsyncs, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*askTime)
	defer cancel()
	f, err := readFsyncsAt(ctx, "http://"+net.JoinHostPort(n.IP().String(), etcdMetrics)+"/metrics")
	if err != nil {
		return f, fmt.Errorf("metrics of etcd on %s: %w", n.Name(), err)
	}
	return f, nil
}

func readFsyncsAt(ctx context.Context, url string) (fsyncs, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fsyncs{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fsyncs{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fsyncs{}, errors.New(resp.Status)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(resp.Body)
	if err != nil {
		return fsyncs{}, err
	}
	for _, m := range families[walFsync].GetMetric() {
		return fsyncs{m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()}, nil
	}
	return fsyncs{}, fmt.Errorf("%s is not among them", walFsync)
}
