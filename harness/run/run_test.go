package run

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/clusters"
	"gameday/clusters/upgrade"
	"gameday/harness/history"
	"gameday/harness/inject"
	"gameday/harness/plan"
	"gameday/harness/report"
	"gameday/harness/slo"
	"gameday/scenarios"
)

const scenarioText = `apiVersion: gameday/v1alpha1
kind: Scenario
name: small
description: What a run does when it cannot go on.
cluster: {version: v1.36.1, controlPlanes: 1, workers: 2}
workload:
  deployments: {count: 1, replicas: 2, minAvailable: 1}
run: 1m
faults:
  - id: kill
    fault: apiserver.kill
    target: {pick: all}
    begin: {phase: run, after: 10s}
allow: [allAPIServersDown]
slos:
  - writes.kept
`

// stages is a run whose stages up to the cluster are the test's; there is no
// cluster behind it, so that no run gets further.
type stages struct {
	prepare, images, create, delete func() error
	calls                           []string
	cluster                         fakeCluster
}

func (s *stages) do(name string, f func() error) error {
	s.calls = append(s.calls, name)
	if f == nil {
		return nil
	}
	return f()
}

func (s *stages) Name() string                               { return "fake" }
func (s *stages) Check(context.Context, clusters.Spec) error { return nil }
func (s *stages) Create(context.Context, clusters.Spec, clusters.Say) (clusters.Cluster, error) {
	return s.cluster, s.do("create", s.create)
}
func (s *stages) Open(context.Context, string) (clusters.Cluster, error) {
	return nil, clusters.ErrNotFound
}
func (s *stages) List(context.Context) ([]clusters.Found, error) { return nil, nil }
func (s *stages) Delete(ctx context.Context, _ string) error {
	return errors.Join(ctx.Err(), s.do("delete", s.delete)) // with a ctx that has ended nothing is deleted
}

func config(t *testing.T, s *stages, out *bytes.Buffer) Config {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	sc, err := scenarios.Load([]byte(scenarioText), "small.yaml", plan.Known())
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Make(sc, 7, plan.Facts{Provider: "fake", Known: plan.Known()})
	if err != nil {
		t.Fatal(err)
	}
	s.cluster.collect = func() error { return s.do("collect", nil) }
	return Config{
		ID: "r", Dir: filepath.Join(t.TempDir(), "runs", "small-r"), Scenario: sc, Plan: p, Seed: 7, Provider: s,
		Prepare: func(context.Context, clusters.Say) error { return s.do("prepare", s.prepare) },
		Images: func(context.Context, clusters.Say) (upgrade.Targets, error) {
			return nil, s.do("images", s.images)
		},
		SelfCheck: func(context.Context) history.SelfCheck {
			return history.SelfCheck{Verdict: string(slo.Fail), Reason: "a known outage was not seen"}
		},
		Gameday: "test", Rerun: "gameday run small --seed=7", Terminal: report.NewTerminal(out, false),
	}
}

// A run that ends early leaves nothing behind but its record, and is never
// called a pass.
func TestRunThatEndsEarly(t *testing.T) {
	broken := errors.New("something is broken")
	fails := func() error { return broken }
	var interrupt context.CancelFunc
	ctrlC := func() error { interrupt(); return nil }
	ctrlCFails := func() error { interrupt(); return context.Canceled }
	for _, tc := range []struct {
		name   string
		stages stages
		keep   bool
		env    func(t *testing.T)
		calls  []string
		code   int
		reason string
	}{
		{name: "the machine cannot be prepared", stages: stages{prepare: fails}, calls: []string{"prepare"}, code: slo.ExitHarness, reason: "stage prepare: something is broken"},
		{name: "no images", stages: stages{images: fails}, calls: []string{"prepare", "images"}, code: slo.ExitHarness, reason: "stage images: something is broken"},
		{name: "no cluster", stages: stages{create: fails}, calls: []string{"prepare", "images", "create"}, code: slo.ExitHarness, reason: "stage create: something is broken"},
		{name: "Ctrl-C while the machine is prepared", stages: stages{prepare: ctrlC}, calls: []string{"prepare"}, code: slo.ExitInconclusive, reason: "ended early: context canceled"},
		{name: "Ctrl-C during create", stages: stages{create: ctrlCFails}, calls: []string{"prepare", "images", "create"}, code: slo.ExitInconclusive, reason: "ended early"},
		{name: "Ctrl-C at the end of create", stages: stages{create: ctrlC}, calls: []string{"prepare", "images", "create", "delete"}, code: slo.ExitInconclusive, reason: "ended early"},
		{name: "the same, with a cluster to keep", stages: stages{create: ctrlC}, keep: true, calls: []string{"prepare", "images", "create"}, code: slo.ExitInconclusive, reason: "ended early"},
		{name: "the cluster cannot be deleted", stages: stages{create: ctrlC, delete: fails}, calls: []string{"prepare", "images", "create", "delete"}, code: slo.ExitInconclusive, reason: "ended early"},
		{name: "no journal", calls: []string{"prepare", "images", "create", "delete"}, code: slo.ExitHarness, reason: "index of open journals",
			env: func(t *testing.T) {
				t.Helper()
				file := filepath.Join(t.TempDir(), "file")
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				t.Setenv("XDG_STATE_HOME", file)
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			cfg := config(t, &tc.stages, &out)
			cfg.Keep = tc.keep
			if tc.env != nil {
				tc.env(t)
			}
			var ctx context.Context
			ctx, interrupt = context.WithCancel(t.Context())
			defer interrupt()
			res, err := Run(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.calls, tc.stages.calls); d != "" {
				t.Errorf("what was done (-want +got):\n%s", d)
			}
			doc := res.Document
			if doc.ExitCode != tc.code || doc.Verdict != slo.Inconclusive || !strings.Contains(doc.Reason, tc.reason) {
				t.Errorf("exit %d, %s: %s; want exit %d, inconclusive: ... %s ...", doc.ExitCode, doc.Verdict, doc.Reason, tc.code, tc.reason)
			}
			if len(doc.Faults) != 1 || doc.Faults[0].Verdict != slo.Inconclusive {
				t.Errorf("the fault that never came is not told: %+v", doc.Faults)
			}
			for _, name := range []string{"scenario.yaml", "plan.txt", "plan.json", "rerun.txt", "history.jsonl", "verdict.json", "junit.xml", "report.html", "logs/gameday.log"} {
				if _, err := os.Stat(filepath.Join(cfg.Dir, name)); err != nil {
					t.Errorf("the run does not leave its %s: %v", name, err)
				}
			}
			h, err := history.Load(filepath.Join(cfg.Dir, "history.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			if tc.stages.prepare == nil && (len(h.SelfChecks) != 1 || len(doc.SelfChecks) != 1) {
				t.Errorf("self-checks: %+v in the record, %+v in the verdict", h.SelfChecks, doc.SelfChecks)
			}
			if h.End == nil || h.Last > h.End.At {
				t.Errorf("the end is not the last line: end %v, last %s", h.End, h.Last)
			}
			if !strings.Contains(out.String(), "plan     12 steps, 1 faults, at most ") {
				t.Errorf("the plan is not told:\n%s", &out)
			}
			if last := strings.TrimSpace(out.String()); !strings.HasSuffix(last, cfg.Rerun) {
				t.Errorf("the last line is not how to run it again:\n%s", last)
			}
			if tc.env == nil {
				if left, err := inject.OpenJournals(); err != nil || len(left) > 0 {
					t.Errorf("journals left open: %v, %v", left, err)
				}
			}
		})
	}
}

func TestRunFolderMustBeNew(t *testing.T) {
	s := &stages{}
	cfg := config(t, s, &bytes.Buffer{})
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), cfg); !errors.Is(err, os.ErrExist) {
		t.Errorf("a run into a folder that exists: %v", err)
	}
	if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 || len(s.calls) > 0 {
		t.Errorf("it left %v (%v) and did %v", left, err, s.calls)
	}
}

// A cluster in which a fault sticks is what a person needs to mend it.
func TestClusterWithStuckFaultIsKept(t *testing.T) {
	s := &stages{}
	var out bytes.Buffer
	cfg := config(t, s, &out)
	r := &runner{cfg: cfg, cluster: s.cluster, notUndone: []string{"kill"}}
	f, err := openFiles(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.files, r.log = f, f.log
	if err := errors.Join(r.remove(t.Context()), f.close()); err != nil || slices.Contains(s.calls, "delete") {
		t.Errorf("%v, %v", err, s.calls)
	}
	cfg.Terminal.Flush()
	if !strings.Contains(out.String(), "gameday heal") {
		t.Errorf("it does not say how to go on: %s", &out)
	}
}

func TestStepOutput(t *testing.T) {
	f, err := openFiles(config(t, &stages{}, &bytes.Buffer{}))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a step that is run again goes on in its file
		if _, err := f.step("upgrade/worker[0]").Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.step("no/such\x00name").Write([]byte("to the run's log\n")); err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(f.dir, "logs", "upgrade-worker0.log")); string(b) != "xx" {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(f.dir, "logs", "gameday.log")); !strings.Contains(string(b), "to the run's log") {
		t.Errorf("%q, %v", b, err)
	}
}

// A stage that reaches its bound says so by name, and is no interruption of the
// run.
func TestStageHasABound(t *testing.T) {
	cfg := config(t, &stages{}, &bytes.Buffer{})
	f, err := openFiles(cfg)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := history.Create(filepath.Join(cfg.Dir, "history.jsonl"), history.Run{ID: "r"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{cfg: cfg, files: f, log: f.log, rec: rec}
	hangs := func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
	ctx, interrupt := context.WithCancelCause(t.Context())
	err = r.stage(ctx, "images", time.Millisecond, hangs)
	if err == nil || !strings.Contains(err.Error(), "stage images took longer than 1ms") || ctx.Err() != nil {
		t.Errorf("at its bound: %v; the run's own ctx: %v", err, ctx.Err())
	}
	ctrlC := errors.New("Ctrl-C")
	interrupt(ctrlC)
	for _, bound := range []time.Duration{itself, time.Hour} {
		if err := r.stage(ctx, "images", bound, hangs); !errors.Is(err, ctrlC) {
			t.Errorf("interrupted, bound %s: %v", bound, err)
		}
	}
	if err := errors.Join(rec.Close(), f.close()); err != nil {
		t.Fatal(err)
	}
}
