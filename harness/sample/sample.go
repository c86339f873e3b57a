package sample

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/clusters"
	"gameday/harness/history"
)

const (
	// canaryName is the object that reads ask for.
	canaryName = "canary"
	// canaryPrefix begins the names of the objects that writes make.
	canaryPrefix = "c"
	// prepareFor bounds the making of the canaries' namespace, each request of
	// it prepareOne.
	prepareFor = time.Minute
	prepareOne = 5 * time.Second
	// catchUp bounds how long a Stop waits for the watches to see the last
	// write and for the objects' record to reach etcd's present.
	catchUp = 10 * time.Second
	poll    = 50 * time.Millisecond
)

// Config says what to sample.
type Config struct {
	Cluster clusters.Cluster
	// Run is the id of the run: label, User-Agent and part of each Audit-ID.
	Run string
	// Namespace of the workload, whose objects are recorded.
	Namespace string
	// Probes is the namespace of the pods that probe from within the cluster; ""
	// if there are none.
	Probes string
	// Promises are the names of the SLOs that will be judged: what costs
	// something is sampled only for those that need it.
	Promises []string
	// Alerts to ask for, if a promise is about them.
	Alerts *AlertsConfig
	Record *history.Recorder
}

// The promises that need samplers of their own.
const (
	promiseOrder   = "linearizable"
	promiseWatches = "watch.complete"
	promiseEtcd    = "etcd"
)

// serves says whether one of the SLOs is to be judged.
func (c Config) serves(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(c.Promises, n) })
}

// Samplers are all that samples one cluster.
type Samplers struct {
	cfg     Config
	client  kubernetes.Interface
	ledger  *ledger
	tallies []*tally
	watches []*watcher
	objects *objects
	members *members
	shared  *shared // nil if no promise needs it
	stats   *stats  // nil if no promise needs it
	logs    *logKeeper
	clocks  *clocks
	probes  *probes  // nil without
	beacons *beacons // nil without

	stopSchedule context.CancelFunc // no sample starts any more
	stopRequests context.CancelFunc // samples in flight are cut off
	stopWatches  context.CancelFunc // watches and recorders end
	probing      sync.WaitGroup
	watching     sync.WaitGroup
	clients      []http.Client // of all samplers and watches, to be closed
	restore      func() error  // of the process's priority
	began        time.Time
}

// canaries is the namespace that a run's canaries live in, apart from the
// workload's.
func canaries(run string) string { return "gameday-" + run + "-canary" }

// Start makes the canaries' namespace and starts all samplers. They go on until
// Stop, also when ctx ends: what happens after a Ctrl-C is part of the record.
func Start(ctx context.Context, cfg Config) (_ *Samplers, err error) {
	client, err := kubernetes.NewForConfig(unlimited(cfg.Cluster.REST()))
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", cfg.Cluster.Name(), err)
	}
	s := &Samplers{cfg: cfg, client: client, ledger: newLedger(cfg.Record, canaries(cfg.Run)), logs: newLogKeeper(opener(ctx, cfg.Cluster)), began: time.Now()}
	var probers []*prober
	for _, e := range cfg.Cluster.Endpoints() {
		for _, k := range kinds {
			p, ok := k.on(e)
			if !ok {
				continue
			}
			one, err := newSeries(len(probers)+1, k, p, e, cfg.Run, s.ledger)
			if err != nil {
				return nil, err
			}
			s.clients = append(s.clients, http.Client{Transport: one.rt})
			t := &tally{decl: one.decl}
			s.tallies = append(s.tallies, t)
			probers = append(probers, newProber(one.decl.ID, one.pace, one.once, s.taker(t)))
		}
		w, err := newWatcher(e, cfg.Run, s.ledger)
		if err != nil {
			return nil, err
		}
		w.all = cfg.serves(promiseWatches)
		s.clients = append(s.clients, http.Client{Transport: w.rt})
		s.watches = append(s.watches, w)
	}
	if len(probers) == 0 {
		return nil, fmt.Errorf("cluster %s names no way to its API", cfg.Cluster.Name())
	}
	s.clocks = &clocks{client: client, record: cfg.Record, known: map[string]interval{}}
	if cfg.Probes != "" {
		s.probes = newProbes(client, cfg, s.clocks)
	}
	if cfg.Probes != "" && cfg.serves("cron.start-latency") {
		s.beacons = newBeacons(client, cfg.Record, s.clocks)
	}
	if s.objects, err = newObjects(ctx, cfg, s.logs, s.beacons); err != nil {
		return nil, err
	}
	if s.members, err = newMembers(ctx, cfg); err != nil {
		return nil, errors.Join(err, s.objects.close())
	}
	if cfg.serves(promiseOrder, promiseWatches) {
		if s.shared, err = newShared(cfg, s.ledger.namespace); err != nil {
			return nil, errors.Join(err, s.objects.close(), s.members.close())
		}
		for _, c := range s.shared.clients {
			s.clients = append(s.clients, http.Client{Transport: c.rt})
		}
	}
	if cfg.serves(promiseEtcd) {
		if s.stats, err = newStats(ctx, cfg); err != nil {
			return nil, errors.Join(err, s.objects.close(), s.members.close())
		}
		for _, m := range s.stats.all {
			s.clients = append(s.clients, http.Client{Transport: m.rt})
		}
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.objects.close(), s.members.close())
	}
	if s.restore, err = prioritise(samplerNice); err != nil {
		cfg.Record.Add(history.Event{Finding: &history.Finding{
			Level: "note", What: "the samplers run at normal priority: on a busy machine they may see outages that are their own lateness", Evidence: err.Error(),
		}})
	}
	s.start(context.WithoutCancel(ctx), probers)
	return s, nil
}

func (s *Samplers) start(ctx context.Context, probers []*prober) {
	schedule, stopSchedule := context.WithCancel(ctx)
	requests, stopRequests := context.WithCancel(ctx)
	watches, stopWatches := context.WithCancel(ctx)
	s.stopSchedule, s.stopRequests, s.stopWatches = stopSchedule, stopRequests, stopWatches
	for _, t := range s.tallies {
		s.cfg.Record.Add(history.Event{Series: &t.decl})
	}
	for _, w := range s.watches {
		s.watching.Go(func() { w.run(watches) })
	}
	s.watching.Go(func() { s.objects.run(watches) })
	s.watching.Go(func() { s.members.run(watches) })
	if s.cfg.Alerts != nil {
		polling := newAlerts(*s.cfg.Alerts, s.cfg.Record)
		s.probing.Go(func() { polling.run(schedule) })
	}
	if s.stats != nil {
		s.watching.Go(func() { s.stats.run(watches) })
	}
	if s.shared != nil {
		s.probing.Go(func() { s.shared.run(schedule, requests) })
	}
	if s.probes != nil {
		s.watching.Go(func() { s.probes.run(watches) })
	}
	if s.beacons != nil {
		s.watching.Go(func() { s.beacons.run(watches) })
	}
	for i, p := range probers {
		s.probing.Go(func() { p.run(schedule, requests, offset(i, p.pace.Period)) })
	}
}

// offset of the i-th series within its period: all on a grid, so that one
// wake-up of this process starts several samples (waking up costs more than the
// request), and the slow ones, among which are the TLS handshakes, spread over
// it.
func offset(i int, period time.Duration) time.Duration {
	const grid = 100 * time.Millisecond
	if period <= grid {
		return 0
	}
	return time.Duration(i) * grid % period
}

// taker is what a prober hands its samples to.
func (s *Samplers) taker(t *tally) func(time.Time, history.Sample) {
	return func(start time.Time, one history.Sample) {
		t.add(s.cfg.Record.Since(start), one.OK, one.Err)
		s.cfg.Record.AddAt(start, history.Event{Sample: &one})
	}
}

// unlimited is the configuration without client-go's own rate limit.
func unlimited(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1
	cfg.Timeout = prepareOne
	return cfg
}

// prepare makes the canaries' namespace and the object that reads ask for. It
// tries again within its bound: the API may be a moment away.
func (s *Samplers) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, prepareFor, fmt.Errorf("waited %s", prepareFor))
	defer cancel()
	labels := map[string]string{clusters.LabelRun: s.cfg.Run}
	for {
		_, err := s.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: s.ledger.namespace, Labels: labels},
		}, metav1.CreateOptions{})
		if err == nil || apierrors.IsAlreadyExists(err) {
			_, err = s.client.CoreV1().ConfigMaps(s.ledger.namespace).Create(ctx, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Name: canaryName, Labels: labels},
			}, metav1.CreateOptions{})
		}
		if err == nil || apierrors.IsAlreadyExists(err) {
			return s.everywhere(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("make the canaries' namespace %s: %w: %w", s.ledger.namespace, context.Cause(ctx), err)
		case <-time.After(poll):
		}
	}
}

// everywhere waits until every API server's cache has the object that reads ask
// for: an answer that it is not there would be a bad sample.
func (s *Samplers) everywhere(ctx context.Context) error {
	for _, e := range s.cfg.Cluster.Endpoints() {
		client, err := kubernetes.NewForConfig(unlimited(e.Config))
		if err != nil {
			return fmt.Errorf("client of %s: %w", e.Name, err)
		}
		for {
			_, err := client.CoreV1().ConfigMaps(s.ledger.namespace).Get(ctx, canaryName, metav1.GetOptions{ResourceVersion: "0"})
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("the canary is not to be had at %s: %w: %w", e.Name, context.Cause(ctx), err)
			case <-time.After(poll):
			}
		}
	}
	return nil
}

// Steady says whether the last window was good on all series, that all watches
// are open and seeing, and that etcd's members are healthy; if not, why.
func (s *Samplers) Steady(window time.Duration) (ok bool, why string) {
	if time.Since(s.began) < window {
		return false, fmt.Sprintf("sampling for %s of %s", time.Since(s.began).Round(time.Second), window)
	}
	var bad []string
	for _, t := range s.tallies {
		if w := t.trouble(s.cfg.Record.Now(), window); w != "" {
			bad = append(bad, w)
		}
	}
	for _, w := range s.watches {
		if why := w.trouble(); why != "" {
			bad = append(bad, why)
		}
	}
	if w := s.members.trouble(); w != "" {
		bad = append(bad, w)
	}
	const enough = 4
	if len(bad) > enough {
		bad = append(bad[:enough], fmt.Sprintf("and %d more", len(bad)-enough))
	}
	return len(bad) == 0, strings.Join(bad, "; ")
}

// Summary says in a line what was sampled so far.
func (s *Samplers) Summary() string {
	var good, bad int64
	for _, t := range s.tallies {
		g, b := t.counts()
		good, bad = good+g, bad+b
	}
	return fmt.Sprintf("%d series and %d watches: %d samples good, %d bad; %d writes acknowledged",
		len(s.tallies), len(s.watches), good, bad, len(s.ledger.all()))
}

// Stop ends all sampling, before the targets go away: no sample starts, those
// in flight end at their deadlines (or are cut off when ctx ends, and are then
// not in the record), watches see the last write, and the record of objects is
// compared with etcd's present.
func (s *Samplers) Stop(ctx context.Context) error {
	stopped := s.cfg.Record.Now()
	s.stopSchedule()
	cut := context.AfterFunc(ctx, s.stopRequests)
	s.probing.Wait()
	cut()
	s.stopRequests()

	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	s.settle(ctx)
	s.objects.verify(ctx)
	s.stopWatches()
	s.watching.Wait()
	s.lastWords(ctx, stopped)
	for _, c := range s.clients { // what is left open would hold the API servers' connections
		c.CloseIdleConnections()
	}
	errs := []error{s.objects.close(), s.members.close(), s.cfg.Record.Err()}
	if s.restore != nil {
		errs = append(errs, s.restore())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop the samplers: %w", err)
	}
	return nil
}

// lastWords takes what the pods of the cluster have still to tell of the time up
// to a moment.
func (s *Samplers) lastWords(ctx context.Context, stopped time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellWithin)
	defer cancel()
	if s.probes != nil {
		s.probes.finish(ctx, stopped)
	}
	if s.beacons != nil {
		s.beacons.finish(ctx)
	}
}

// settle waits until every open watch has seen the last acknowledged write. One
// that has not in time is no error here: the record shows it.
func (s *Samplers) settle(ctx context.Context) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	last := s.ledger.last()
	for {
		behind := false
		for _, w := range s.watches {
			behind = behind || w.trouble() == "" && w.past() < last
		}
		if !behind {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Remove deletes the canaries. It is for a cluster that is kept: FinalCheck
// comes before it.
func (s *Samplers) Remove(ctx context.Context) error {
	err := s.client.CoreV1().Namespaces().Delete(ctx, s.ledger.namespace, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete the canaries' namespace %s: %w", s.ledger.namespace, err)
	}
	return nil
}
