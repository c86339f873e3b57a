// Package run is the only place where things happen: it makes the cluster,
// starts the workload and the samplers, shows the steady state, upgrades while
// faults open and close with the phases, heals everything, shows convergence,
// collects, and has the record judged.
package run

import (
	"context"
	"errors"
	"fmt"
	"log"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
	"gameday/clusters/upgrade"
	"gameday/harness/gate"
	"gameday/harness/history"
	"gameday/harness/inject"
	"gameday/harness/plan"
	"gameday/harness/report"
	"gameday/harness/sample"
	"gameday/harness/slo"
	"gameday/harness/workload"
	"gameday/scenarios"
)

const (
	// usageEvery is how often the harness records what it uses itself.
	usageEvery = 15 * time.Second
)

// Config of a run.
type Config struct {
	// ID of the run; also the value of every label.
	ID string
	// Dir receives everything that the run leaves: it must not exist.
	Dir      string
	Scenario *scenarios.Scenario
	Plan     *plan.Plan
	Seed     uint64
	Provider clusters.Provider
	// Prepare makes the machine ready (Docker, images) before the cluster.
	Prepare func(ctx context.Context, say clusters.Say) error
	// Images makes sure that all node images are there, and gives the targets of
	// the upgrade (nil for a scenario without one).
	Images func(ctx context.Context, say clusters.Say) (upgrade.Targets, error)
	// SelfCheck tries the samplers on outages that are known.
	SelfCheck func(ctx context.Context) history.SelfCheck
	// Replace puts patched module trees under test.
	Replace map[string]string
	// Keep leaves the cluster running.
	Keep bool
	// Cluster is one that is there already; empty: one is made for the run.
	Cluster string
	// Body is done between the steady state and the heal, instead of an upgrade or a
	// stretch of time, and bounded by the scenario's Run.
	Body Body
	// Gameday is version and revision; Rerun the command to run it again.
	Gameday, Rerun string
	// Terminal shows the run to the person who waits.
	Terminal *report.Terminal
}

// cluster is the name of the run's cluster.
func (c Config) cluster() string {
	if c.Cluster != "" {
		return c.Cluster
	}
	return "gd-" + c.ID
}

// Body is what a run does if it is neither an upgrade nor a stretch of time.
type Body interface {
	// Event sees each event of the record after it was written, in order. It must be
	// quick, and record nothing.
	Event(e history.Event)
	// Run does it. What it finds it records; an error says that it could not be done.
	Run(ctx context.Context, w World) (string, error)
}

// World is what a Body works with.
type World struct {
	Cluster  clusters.Cluster
	Workload *workload.Set
	Record   *history.Recorder
	Say      clusters.Say
}

// Result of a run.
type Result struct {
	Dir      string
	Document slo.Document
}

// ErrHarness is wrapped when the harness itself failed (exit code 5).
var ErrHarness = errors.New("the harness failed")

// runner is one run under way.
type runner struct {
	cfg       Config
	scenario  *scenarios.Scenario
	rec       *history.Recorder
	log       *log.Logger
	files     *files
	journal   *inject.Journal
	guard     *inject.Guard
	cluster   clusters.Cluster
	client    kubernetes.Interface
	workload  *workload.Set
	samplers  *sample.Samplers
	notUndone []string
	release   func() error // lets go of the claim to the cluster

	mu   sync.Mutex
	came map[string]bool // names of all nodes that ever were there
}

// Run runs the scenario to its end. When ctx ends (Ctrl-C) everything is healed,
// what there is is judged, and the verdict is inconclusive. The error is about
// the harness; what the run found is in the result.
func Run(ctx context.Context, cfg Config) (Result, error) {
	res := Result{Dir: cfg.Dir}
	defer cfg.Terminal.Flush()
	files, err := openFiles(cfg)
	if err != nil {
		return res, err
	}
	defer func() {
		if err := files.close(); err != nil {
			cfg.Terminal.Say("the run's logs may be incomplete: %v", err)
		}
	}()
	r := &runner{cfg: cfg, scenario: cfg.Scenario, log: files.log, files: files}
	info := history.Run{
		ID: cfg.ID, Scenario: cfg.Scenario.Name, Seed: cfg.Seed, Gameday: cfg.Gameday,
		Provider: cfg.Provider.Name(), From: cfg.Scenario.Cluster.Version, Rerun: cfg.Rerun,
		Cores: runtime.NumCPU(),
	}
	if u := cfg.Scenario.Upgrade; u != nil {
		info.To, info.Strategy = u.To, u.Strategy
	}
	hook := cfg.Terminal.Event
	if cfg.Body != nil {
		hook = func(e history.Event) {
			cfg.Terminal.Event(e)
			cfg.Body.Event(e)
		}
	}
	r.rec, err = history.Create(filepath.Join(cfg.Dir, "history.jsonl"), info, hook)
	if err != nil {
		return res, err
	}
	cfg.Terminal.Plan(cfg.Plan)
	runErr := r.run(ctx)
	end := history.End{NotUndone: r.notUndone}
	if runErr != nil {
		end.Interrupted, end.Reason = ctx.Err() != nil, oneLine(runErr)
		r.log.Printf("the run ended early: %v", runErr)
		if !end.Interrupted {
			r.rec.Add(history.Event{Finding: &history.Finding{Level: "inconclusive", What: "the run ended early", Evidence: oneLine(runErr)}})
		}
	}
	r.rec.Add(history.Event{Usage: sample.SelfUsage()})
	r.rec.Add(history.Event{End: &end})
	if err := r.rec.Close(); err != nil {
		return res, fmt.Errorf("%w: %w", ErrHarness, errors.Join(err, runErr))
	}
	res.Document, err = report.Write(cfg.Dir, cfg.Scenario)
	if err != nil {
		return res, fmt.Errorf("%w: %w", ErrHarness, err)
	}
	cfg.Terminal.Verdict(res.Document, cfg.Dir, cfg.Rerun)
	return res, nil
}

// run is Run between the first and the last line of the record.
func (r *runner) run(ctx context.Context) (err error) {
	// The record failing (a full disk) ends the run: what cannot be recorded
	// cannot be judged.
	ctx, stop := context.WithCancelCause(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { r.watchRecord(ctx, stop) })
	defer beside.Wait() // nothing is recorded after the last line
	defer stop(nil)

	if err := r.stage(ctx, "prepare", plan.BoundPrepare, func(ctx context.Context) (string, error) {
		if err := r.cfg.Prepare(ctx, r.say); err != nil {
			return "", err
		}
		return r.selfCheck(ctx), nil
	}); err != nil {
		return err
	}
	var targets upgrade.Targets
	if err := r.stage(ctx, "images", plan.BoundImages, func(ctx context.Context) (text string, err error) {
		targets, err = r.cfg.Images(ctx, r.say)
		return "node images are there", err
	}); err != nil {
		return err
	}
	beside.Go(func() { r.usage(ctx) })
	// What the next stage makes goes away in the end, whatever happens.
	defer func() { err = errors.Join(err, r.leave(ctx)) }()
	if err := r.stage(ctx, "create", plan.BoundCreate, func(ctx context.Context) (string, error) {
		c := r.scenario.Cluster
		return fmt.Sprintf("%s gd-%s: %d control planes + %d workers, %s", r.cfg.Provider.Name(), r.cfg.ID, c.ControlPlanes, c.Workers, c.Version), r.create(ctx)
	}); err != nil {
		return err
	}
	if err = r.preload(ctx, targets); err == nil {
		err = r.underLoad(ctx, targets)
	}
	r.collect(ctx)
	return err
}

// selfCheck tries the samplers before anything is measured with them. That they
// are found wrong does not end the run: what rests on them is in doubt.
func (r *runner) selfCheck(ctx context.Context) (text string) {
	c := r.cfg.SelfCheck(ctx)
	r.rec.Add(history.Event{SelfCheck: &c})
	return "self-check of the samplers: " + c.Verdict + ", " + c.Reason
}

// create makes the cluster, and the guard that heals it if this process dies.
func (r *runner) create(ctx context.Context) error {
	c := r.scenario.Cluster
	var err error
	if r.release, err = Claim(r.cfg.cluster()); err != nil {
		return err
	}
	cluster, err := r.cfg.Provider.Create(ctx, clusters.Spec{
		Name: r.cfg.cluster(), Run: r.cfg.ID, Version: c.Version,
		ControlPlanes: c.ControlPlanes, Workers: c.Workers, Zones: c.Zones, Replace: r.cfg.Replace,
	}, r.say)
	if err != nil {
		return err
	}
	r.cluster = cluster
	if r.client, err = gate.Client(r.cluster); err != nil {
		return err
	}
	if r.journal, err = inject.OpenJournal(filepath.Join(r.cfg.Dir, "journal.jsonl"), inject.Header{
		Run: r.cfg.ID, Provider: r.cluster.Provider(), Cluster: r.cluster.Name(),
	}); err != nil {
		return err
	}
	r.guard, err = inject.StartGuard(ctx, r.journal, inject.DefaultLease)
	return err
}

// leave ends the guard, which first heals what is open still, and removes the
// cluster: whatever of them create has made.
func (r *runner) leave(ctx context.Context) error {
	var errs []error
	if r.guard != nil {
		// One that hangs is not waited for. What this run could not undo the guard
		// leaves to a person, or heals after us.
		bound := plan.BoundHeal
		if len(r.notUndone) > 0 {
			bound = 2 * inject.DefaultLease
		}
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
		errs = append(errs, r.guard.Stop(bye))
		cancel()
	}
	if r.journal != nil {
		errs = append(errs, r.journal.Close())
	}
	if r.cluster != nil {
		errs = append(errs, r.remove(ctx))
	}
	if r.release != nil {
		errs = append(errs, r.release())
	}
	return errors.Join(errs...)
}

// preload brings the target's images and binaries onto the nodes before anything is
// measured: on a small machine that alone can keep the API waiting for seconds, which
// is the doing of who puts five nodes on two cores.
func (r *runner) preload(ctx context.Context, targets upgrade.Targets) error {
	u := r.scenario.Upgrade
	if u == nil {
		return nil
	}
	return r.stage(ctx, "preload", plan.BoundPreload, func(ctx context.Context) (string, error) {
		kind, ok := upgrade.Lookup(u.Strategy)
		if !ok {
			return "", fmt.Errorf("no strategy %q", u.Strategy)
		}
		p, ok := kind.New().(upgrade.Preloader)
		if !ok {
			return "strategy " + u.Strategy + " brings nothing beforehand", nil
		}
		return p.Preload(ctx, upgrade.Env{Cluster: r.cluster, Options: u.Options(), Targets: targets, Say: r.say})
	})
}

// underLoad is the part of the run in which workload and samplers are on.
func (r *runner) underLoad(ctx context.Context, targets upgrade.Targets) (err error) {
	if err := r.stage(ctx, "workload", plan.BoundWorkload, func(ctx context.Context) (text string, err error) {
		promises := r.promises()
		probing := r.probing(promises)
		r.workload, err = workload.Deploy(ctx, r.cluster, r.cfg.ID, r.scenario.Workload, probing, r.say)
		if err != nil {
			return "", err
		}
		if n := r.workload.Unprobed(); n > 0 {
			r.rec.Add(history.Event{Finding: &history.Finding{Level: "note", What: fmt.Sprintf("%d Services of the workload are not asked: the others stand for them", n)}})
		}
		for _, b := range r.workload.Budgets() {
			r.rec.Add(history.Event{Budget: &b})
		}
		probes := ""
		if probing != nil {
			probes = workload.ProbeNamespace(r.cfg.ID)
		}
		if r.samplers, err = sample.Start(ctx, sample.Config{
			Cluster: r.cluster, Run: r.cfg.ID, Namespace: r.workload.Namespace, Probes: probes,
			Promises: promises, Alerts: alertsOf(r.scenario.SLOs), Record: r.rec,
		}); err != nil {
			r.workload.Stop()
			return "", fmt.Errorf("start the samplers: %w", err)
		}
		return r.workload.String(), nil
	}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.finish(ctx)) }()

	if err := r.stage(ctx, "steady", itself, func(ctx context.Context) (string, error) {
		err := r.wait(ctx, fmt.Sprintf("%s of steady state", r.scenario.Steady), plan.BoundSteady+r.scenario.Steady, func(ctx context.Context) string {
			return r.steady(ctx, r.scenario.Steady, r.scenario.Cluster.Version)
		})
		return r.samplers.Summary(), err
	}); err != nil {
		return fmt.Errorf("no steady state before the first fault: %w", err)
	}

	p := newPhases()
	w := newWindows(ctx, r, p)
	w.start()
	name := "upgrade"
	if r.scenario.Upgrade == nil {
		name = "run"
	}
	err = r.stage(ctx, name, itself, func(ctx context.Context) (string, error) { return r.body(ctx, p, w, targets) })
	p.finish()
	if err == nil && r.scenario.Upgrade == nil {
		// Windows end by themselves, each bounded by its maxHold; one that hangs
		// regardless is healAll's.
		open, cancel := context.WithTimeout(ctx, w.longest())
		if werr := w.over(open); werr != nil {
			r.log.Printf("windows that should have ended: %v", werr)
		}
		cancel()
	}
	failed := err != nil && ctx.Err() == nil
	if failed {
		// An upgrade that fails is what the run found, not a failure of the run.
		r.rec.Add(history.Event{Finding: &history.Finding{Level: "fail", What: "the " + name + " did not reach its end", Evidence: oneLine(err)}})
		err = nil
	}
	healErr := r.stage(context.WithoutCancel(ctx), "heal", plan.BoundHeal, func(ctx context.Context) (string, error) {
		r.notUndone = w.healAll(ctx)
		if len(r.notUndone) > 0 {
			return "", fmt.Errorf("could not be undone: %s", strings.Join(r.notUndone, ", "))
		}
		return "no fault is left", nil
	})
	if err = errors.Join(err, healErr); err != nil {
		return err
	}
	version := r.scenario.Cluster.Version
	if u := r.scenario.Upgrade; u != nil && len(u.Nodes) == 0 && !failed {
		version = u.To
	} else if u != nil {
		version = "" // a part of the nodes: mixed, on purpose or as far as it came
	}
	return r.stage(ctx, "converge", itself, func(ctx context.Context) (string, error) {
		began := time.Now()
		if err := r.wait(ctx, "all to be as before", r.scenario.Converge, r.looking("converge", convergeWindow, func(ctx context.Context) string {
			return r.steady(ctx, convergeWindow, version)
		})); err != nil {
			if ctx.Err() != nil {
				return "", err // interrupted: it was not shown that it does not
			}
			// Not converging is what the run found, not a failure of the harness.
			r.rec.Add(history.Event{Finding: &history.Finding{Level: "fail", What: "the cluster did not converge after the heal", Evidence: err.Error()}})
			return "did not converge: " + err.Error(), nil
		}
		return fmt.Sprintf("all as before %s after the last heal", time.Since(began).Round(100*time.Millisecond)), nil
	})
}

// convergeWindow is how long all samples must have been good for all to be as
// before.
const convergeWindow = 10 * time.Second

// promises are the names of the SLOs that will be judged.
func (r *runner) promises() []string {
	var out []string
	for _, p := range r.scenario.SLOs {
		out = append(out, p.Name)
	}
	return out
}

// probing is what the promises need of pods on every node: the starts of jobs are
// told by the clocks of nodes. Where a kubelet only says that containers run there
// is nobody to probe, and what raises the load itself is not to be disturbed.
func (r *runner) probing(promises []string) *workload.Probing {
	requests := slices.Contains(promises, "service.availability")
	if !requests && !slices.Contains(promises, "cron.start-latency") {
		return nil
	}
	runs := func(n clusters.Node) bool {
		return n.Role() == clusters.LoadBalancer || clusters.Has(n, clusters.CapKubelet)
	}
	if r.cfg.Body != nil || slices.ContainsFunc(r.cluster.Nodes(), func(n clusters.Node) bool { return !runs(n) }) {
		return nil
	}
	return &workload.Probing{Requests: requests}
}

// body is what the faults are injected into: the upgrade, or a stretch of time.
func (r *runner) body(ctx context.Context, p *phases, w *windows, targets upgrade.Targets) (string, error) {
	u := r.scenario.Upgrade
	if u == nil {
		p.publish("run", upgrade.Began)
		defer p.publish("run", upgrade.Ended)
		if b := r.cfg.Body; b != nil {
			ctx, cancel := context.WithTimeoutCause(ctx, r.scenario.Run, fmt.Errorf("it took longer than %s", r.scenario.Run))
			defer cancel()
			return b.Run(ctx, World{Cluster: r.cluster, Workload: r.workload, Record: r.rec, Say: r.say})
		}
		t := time.NewTimer(r.scenario.Run)
		defer t.Stop()
		select {
		case <-t.C:
			return fmt.Sprintf("ran %s", r.scenario.Run), nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	kind, ok := upgrade.Lookup(u.Strategy)
	if !ok {
		return "", fmt.Errorf("no strategy %q", u.Strategy)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, u.Timeout, fmt.Errorf("the upgrade took longer than %s", u.Timeout))
	defer cancel()
	tries := map[string]int{}
	r.meet(r.cluster.Nodes()...)
	err := kind.New().Run(ctx, upgrade.Env{
		Cluster: r.cluster,
		Options: u.Options(),
		Targets: targets,
		Publish: func(ph upgrade.Phase) {
			e := history.Phase{Path: ph.Path, Node: ph.Node, State: string(ph.State), Outcome: string(ph.Outcome), Seen: ph.Seen}
			e.Expected = r.expected(u, ph.Path)
			r.rec.AddAt(ph.At, history.Event{Phase: &e})
			p.publish(ph.Path, ph.State)
			if ph.State == upgrade.Ended && ph.Outcome != upgrade.Blocked {
				// The plan's budget counts on these being gone before the next node.
				if err := w.gone(ctx, r.cfg.Plan.Gone(ph.Path)); err != nil {
					r.log.Printf("%s: %v", ph.Path, err)
				}
			}
		},
		Blocked: func(ctx context.Context, step upgrade.Step, outcome upgrade.Outcome, cause error) error {
			tries[step.Phase]++
			r.log.Printf("%s %s (try %d): %v", step.Phase, outcome, tries[step.Phase], cause)
			if tries[step.Phase] > maxTries {
				return fmt.Errorf("%s was %s %d times: %w", step.Phase, outcome, tries[step.Phase], cause)
			}
			r.say("%s was %s; waiting <= %s for the faults in its way to be healed", step.Phase, outcome, u.Timeout)
			return w.idle(ctx)
		},
		Prepare: func(ctx context.Context, n clusters.Node) error {
			r.meet(n)
			return r.workload.Prepare(ctx, n)
		},
		Well:   r.well,
		Output: r.files.step,
		Say:    r.say,
	})
	if err != nil {
		return "", err
	}
	return "every node at " + u.To, nil
}

// meet remembers nodes, and left are the names of those that are not there any more.
func (r *runner) meet(nodes ...clusters.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.came == nil {
		r.came = map[string]bool{}
	}
	for _, n := range nodes {
		r.came[n.Name()] = true
	}
}

func (r *runner) left() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for name := range r.came {
		if !slices.ContainsFunc(r.cluster.Nodes(), func(n clusters.Node) bool { return n.Name() == name }) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// well says what is not well of the run: a series of samples, or the workload.
func (r *runner) well(ctx context.Context) error {
	if ok, why := r.samplers.Steady(wellWindow); !ok {
		return errors.New(why)
	}
	if why := r.workload.Unready(ctx); why != "" {
		return errors.New(why)
	}
	return nil
}

// wellWindow is how long all samples must have been good for an upgrade to go on.
const wellWindow = 5 * time.Second

// maxTries is how often a step is run again after it was blocked.
const maxTries = 3

func (r *runner) expected(u *scenarios.Upgrade, path string) string {
	for _, e := range u.Expect {
		if e.Phase == path {
			return e.Outcome
		}
	}
	if path == upgrade.PhasePrepare || r.cfg.Plan.IsStep(path) {
		return "proceed"
	}
	return ""
}

// finish takes the last looks, then stops every prober while its target is
// still there.
func (r *runner) finish(ctx context.Context) error {
	return r.stage(context.WithoutCancel(ctx), "final", plan.BoundFinal, func(ctx context.Context) (string, error) {
		r.workload.Stop()
		err := r.samplers.Stop(ctx)
		return "samplers stopped", errors.Join(err, r.samplers.FinalCheck(ctx), r.samplers.CollectAudit(ctx))
	})
}

// collect gathers the logs. Its failure is told and hides nothing.
func (r *runner) collect(ctx context.Context) {
	dir := filepath.Join(r.cfg.Dir, "logs")
	err := r.stage(context.WithoutCancel(ctx), "collect", plan.BoundCollect, func(ctx context.Context) (string, error) {
		err := r.cluster.Collect(ctx, dir)
		if patterns := sought(r.scenario.SLOs); len(patterns) > 0 && r.samplers != nil {
			err = errors.Join(err, r.samplers.CollectLogs(dir, patterns))
			for _, name := range r.left() {
				r.rec.Add(history.Event{Log: &history.Log{Node: name, Source: "kubelet", Missing: "the upgrade removed this node, and its logs with it"}})
			}
		}
		return dir, err
	})
	if err != nil {
		r.rec.Add(history.Event{Finding: &history.Finding{Level: "note", What: "some logs could not be collected", Evidence: oneLine(err)}})
	}
}

// seeker is a promise about what logs hold.
type seeker interface {
	// Patterns are regular expressions to be sought in each line.
	Patterns() []string
}

// sought are the patterns of all promises.
func sought(slos []scenarios.SLO) []string {
	var out []string
	for _, s := range slos {
		if p, ok := s.With.(seeker); ok {
			out = append(out, p.Patterns()...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// remove deletes the cluster, unless it is to be kept or a fault is stuck in it.
func (r *runner) remove(ctx context.Context) error {
	if len(r.notUndone) > 0 {
		r.say("the cluster is kept, a fault is stuck in it: gameday heal, then gameday clusters delete %s", r.cluster.Name())
		return nil
	}
	if r.cfg.Keep {
		r.tidy(ctx)
		r.say("the cluster is kept: gameday clusters delete %s", r.cluster.Name())
		return nil
	}
	return r.stage(context.WithoutCancel(ctx), "delete", plan.BoundDelete, func(ctx context.Context) (string, error) {
		return "nothing is left", r.cfg.Provider.Delete(ctx, r.cluster.Name())
	})
}

// tidy takes from a cluster that is kept what the run made in it: its CronJobs
// would go on for ever. What is left is in namespaces of the run's name, which
// tells nobody anything wrong, so that it fails no run.
func (r *runner) tidy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), plan.BoundDelete)
	defer cancel()
	var errs []error
	if r.workload != nil {
		errs = append(errs, r.workload.Remove(ctx))
	}
	if r.samplers != nil {
		errs = append(errs, r.samplers.Remove(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		r.say("something of the run is left in the cluster: %s", oneLine(err))
	}
}

// itself is the bound of a stage that bounds itself: only an interruption ends
// its ctx.
const itself = time.Duration(0)

// stage records when a part of the run began and ended, and how. At its bound
// its ctx ends, with a cause that names the stage.
func (r *runner) stage(ctx context.Context, name string, bound time.Duration, do func(context.Context) (string, error)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if bound != itself {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, bound, fmt.Errorf("stage %s took longer than %s", name, bound))
		defer cancel()
	}
	r.rec.Add(history.Event{Stage: &history.Stage{Name: name, State: "began"}})
	text, err := do(ctx)
	s := history.Stage{Name: name, State: "ended", Text: text}
	if err != nil {
		if c := context.Cause(ctx); c != nil && !errors.Is(err, c) {
			err = fmt.Errorf("%w (%w)", c, err)
		}
		s.Error = oneLine(err)
	}
	r.rec.Add(history.Event{Stage: &s})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// watchRecord ends the run when the record cannot be written.
func (r *runner) watchRecord(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := r.rec.Err(); err != nil {
				stop(fmt.Errorf("%w: %w", ErrHarness, err))
				return
			}
		}
	}
}

// usage records what the harness itself uses, from now on: what building images
// took is no part of it.
func (r *runner) usage(ctx context.Context) {
	r.rec.Add(history.Event{Usage: sample.SelfUsage()})
	tick := time.NewTicker(usageEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.rec.Add(history.Event{Usage: sample.SelfUsage()})
		}
	}
}

func (r *runner) say(format string, args ...any) {
	r.log.Printf(format, args...)
	r.cfg.Terminal.Say(format, args...)
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
