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
		{Name: "slow-fsync-growing", Target: Target{Pick: PickFollower}, With: "{delay: 100ms, jitter: 40ms, growTo: 400ms, over: 15s}"},
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
	// fsyncLook is how often the metric is read, jitterCalls how many fsyncs must be
	// seen when they differ.
	fsyncLook   = 50 * time.Millisecond
	jitterCalls = 12
	// fsyncUnder and fsyncOver are by how much the mean may miss what was asked for. The disk's
	// own time, tens of milliseconds when the machine is busy, comes on top of the
	// delay: that takes nothing from the fault. The figures say how near it came.
	fsyncUnder, fsyncOver = 0.03, 0.5
)

// SlowFsync is the fault disk.slow-fsync.
type SlowFsync struct {
	// Delay of each fsync; may be changed while the fault is active, by another
	// Inject.
	Delay time.Duration `yaml:"delay" json:"delay"`
	// Jitter is by how much single fsyncs miss the delay, evenly spread in both
	// directions.
	Jitter time.Duration `yaml:"jitter,omitempty" json:"jitter,omitempty"`
	// GrowTo is the delay that is reached, evenly, in the time Over after the first
	// Inject; both or none are given.
	GrowTo time.Duration `yaml:"growTo,omitempty" json:"growTo,omitempty"`
	Over   time.Duration `yaml:"over,omitempty" json:"over,omitempty"`
	// Match picks files by a part of their path: ".wal" slows the log only, which
	// is what a write waits for; empty slows the database file too, as a disk does.
	Match string `yaml:"match" json:"match"`

	mu      sync.Mutex
	holders map[string]*slowfsync.Holder // by node
}

// slowing are the notes.
type slowing struct {
	// Began is when the fault was injected first: growth counts from then, whatever
	// is re-created.
	Began time.Time         `json:"began"`
	Nodes map[string]slowed `json:"nodes"`
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
	// The proof tells slow from fast by a quarter of the delay.
	if f.Jitter < 0 || f.Jitter > f.Delay*3/4 {
		errs = append(errs, fmt.Errorf("jitter: %s is not between 0 and three quarters of the delay, %s", f.Jitter, f.Delay*3/4))
	}
	switch {
	case (f.GrowTo == 0) != (f.Over == 0):
		errs = append(errs, fmt.Errorf("growTo: %s, over: %s: give both, or none", f.GrowTo, f.Over))
	case f.Over != 0 && (f.GrowTo < f.Delay || f.GrowTo > time.Minute):
		errs = append(errs, fmt.Errorf("growTo: %s is not between the delay, %s, and 1m", f.GrowTo, f.Delay))
	case f.Over != 0 && f.Over < time.Second:
		errs = append(errs, fmt.Errorf("over: %s is shorter than 1s: give that delay from the beginning", f.Over))
	}
	return errs
}

// Describe implements Describer.
func (f *SlowFsync) Describe(targets []string) []string {
	what := "fsync, fdatasync"
	if f.Match != "" {
		what += " of files with " + f.Match + " in their path"
	}
	by := f.Delay.String()
	if f.Jitter > 0 {
		by += " ± " + f.Jitter.String()
	}
	if f.Over > 0 {
		by += ", growing to " + f.GrowTo.String() + " in " + f.Over.String()
	}
	return each(targets, "%s: ptrace(etcd): delay "+what+" by "+by)
}

// shape is what is asked for, of a fault that was first injected at began.
func (f *SlowFsync) shape(began time.Time) slowfsync.Shape {
	return slowfsync.Shape{Delay: f.Delay, Jitter: f.Jitter, GrowTo: f.GrowTo, Over: f.Over, Since: began}
}

// Inject attaches to the etcd that runs now. A target whose etcd was re-created
// since gets a new holder.
func (f *SlowFsync) Inject(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.holders == nil {
		f.holders = map[string]*slowfsync.Holder{}
	}
	var notes slowing
	if _, err := env.Notes.Load(&notes); err != nil {
		return err
	}
	if notes.Nodes == nil {
		notes = slowing{Began: time.Now(), Nodes: map[string]slowed{}}
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
			if notes.Nodes[n.Name()].Etcd == refs[0] && h.Set(ctx, f.shape(notes.Began)) == nil {
				continue
			}
			// Of an etcd that is gone, or dead itself.
			if err := h.Stop(ctx); err != nil {
				return err
			}
		}
		h, err := slowfsync.Start(ctx, slowfsync.Options{Process: refs[0], Shape: f.shape(notes.Began), Match: f.Match, MaxHold: env.MaxHold})
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		f.holders[n.Name()] = h
		notes.Nodes[n.Name()] = slowed{Etcd: refs[0], Holder: h.Ref()}
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
	var notes slowing
	if _, err := env.Notes.Load(&notes); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, s := range notes.Nodes {
		errs = append(errs, kill(ctx, []process.Ref{s.Holder}))
	}
	return errors.Join(errs...)
}

// Prove reads etcd's own metric, and compares it with what is asked for at that
// moment.
func (f *SlowFsync) Prove(ctx context.Context, env Env) (Effect, error) {
	var notes slowing
	injected, err := env.Notes.Load(&notes)
	if err != nil {
		return Effect{}, err
	}
	shape := f.shape(notes.Began)
	if !injected {
		shape.Over = 0 // it has not begun to grow
	}
	var mu sync.Mutex
	var worst fsyncMean // of the targets, the one that is farthest from what was asked for
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
		m, err := meanFsync(ctx, n, shape)
		if err != nil {
			return seen{}, err
		}
		mu.Lock()
		if worst.calls == 0 || m.miss() > worst.miss() {
			worst = m
		}
		mu.Unlock()
		same := injected && len(refs) == 1 && notes.Nodes[n.Name()].Etcd == refs[0]
		s := seen{
			broken:   m.asAsked(f.Jitter.Seconds()) && same,
			whole:    m.mean < f.Delay.Seconds()/4 && tracer == 0,
			evidence: fmt.Sprintf("%d fsyncs of %.1f ms on average, process %s", m.calls, m.mean*1000, pids(refs)),
		}
		if f.Jitter > 0 {
			s.evidence += fmt.Sprintf(", from %.1f to %.1f ms", m.least*1000, m.most*1000)
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
	e.Asked, e.Measured, e.Unit = worst.asked*1000, worst.mean*1000, "ms"
	e.At = time.Now()
	return e, nil
}

// control finds another member whose fsyncs stayed short since before.
func (f *SlowFsync) control(ctx context.Context, rest []clusters.Node, before map[string]histogram) string {
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
func readAll(ctx context.Context, nodes []clusters.Node) map[string]histogram {
	out := map[string]histogram{}
	for _, n := range nodes {
		if r, err := readFsyncs(ctx, n); err == nil {
			out[n.Name()] = r
		}
	}
	return out
}

func abs(x float64) float64 { return max(x, -x) }

// histogram is a reading of one of etcd's histograms.
type histogram struct {
	count uint64
	sum   float64
}

// fsyncMean is what was seen of a member's fsyncs, in seconds.
type fsyncMean struct {
	calls int
	// asked is how long they should have taken on average: when it grows, each is
	// compared with what held when it began.
	mean, asked float64
	// least and most are the shortest and the longest that were seen.
	least, most float64
}

// miss is by what part of what was asked the mean differs.
func (m fsyncMean) miss() float64 { return abs(m.mean-m.asked) / m.asked }

// asAsked says whether they took as long as was asked, and differed if they should.
func (m fsyncMean) asAsked(jitter float64) bool {
	// The last one may have no counterpart, see slowfsync.Shape.
	odd := jitter / float64(m.calls)
	if m.mean < (1-fsyncUnder)*m.asked-odd || m.mean > (1+fsyncOver)*m.asked+odd {
		return false
	}
	return jitter == 0 || m.most-m.least >= jitter/4
}

// meanFsync watches the member on a node until it has made some fsyncs, and says
// how long they took.
func meanFsync(ctx context.Context, n clusters.Node, shape slowfsync.Shape) (fsyncMean, error) {
	want := fsyncCalls
	if shape.Jitter > 0 {
		want = jitterCalls
	}
	longest := max(shape.Delay, shape.At(time.Now().Add(fsyncPatience))) + shape.Jitter
	ctx, cancel := context.WithTimeout(ctx, fsyncWindow+time.Duration(want+1)*longest+fsyncPatience)
	defer cancel()
	last, err := readFsyncs(ctx, n)
	if err != nil {
		return fsyncMean{}, err
	}
	began := time.Now()
	tick := time.NewTicker(fsyncLook)
	defer tick.Stop()
	var m fsyncMean
	// The first one to end may have begun before the fault did, and is left out.
	for clean := false; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return m, fmt.Errorf("%s: its etcd made %d fsyncs in %s, not %d, so their length is not known: %w", n.Name(), m.calls, time.Since(began).Round(time.Millisecond), want, context.Cause(ctx))
		}
		asked := time.Now()
		now, err := readFsyncs(ctx, n)
		if err != nil {
			return m, err
		}
		if now.count < last.count { // another process, which counts anew
			return m, fmt.Errorf("%s: its etcd was restarted just now", n.Name())
		}
		d := int(now.count - last.count)
		took := (now.sum - last.sum) / float64(max(d, 1))
		last = now
		switch {
		case d == 0:
		case !clean:
			clean = true
		default:
			for i := range d { // the latest ended about now, the others one after the other before it
				end := asked.Add(-fsyncLook/2 - time.Duration(float64(i)*took*float64(time.Second)))
				start := end.Add(-time.Duration(took * float64(time.Second)))
				m.asked += shape.At(start).Seconds()
			}
			m.mean += took * float64(d)
			if m.calls == 0 || took < m.least {
				m.least = took
			}
			m.most = max(m.most, took)
			m.calls += d
		}
		if m.calls >= want && time.Since(began) >= fsyncWindow {
			m.mean, m.asked = m.mean/float64(m.calls), m.asked/float64(m.calls)
			return m, nil
		}
	}
}

func readFsyncs(ctx context.Context, n clusters.Node) (histogram, error) {
	return readHistogram(ctx, n, walFsync)
}

// readHistogram reads a metric of the etcd on a node.
func readHistogram(ctx context.Context, n clusters.Node, name string) (histogram, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*askTime)
	defer cancel()
	h, err := readHistogramAt(ctx, "http://"+net.JoinHostPort(n.IP().String(), etcdMetrics)+"/metrics", name)
	if err != nil {
		return h, fmt.Errorf("metrics of etcd on %s: %w", n.Name(), err)
	}
	return h, nil
}

func readHistogramAt(ctx context.Context, url, name string) (histogram, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return histogram{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return histogram{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return histogram{}, errors.New(resp.Status)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(resp.Body)
	if err != nil {
		return histogram{}, err
	}
	for _, m := range families[name].GetMetric() {
		return histogram{m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()}, nil
	}
	return histogram{}, fmt.Errorf("%s is not among them", name)
}
