package run

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gameday/clusters"
	"gameday/clusters/docker"
	"gameday/clusters/nodeimage"
	"gameday/clusters/upgrade"
	"gameday/harness/history"
	"gameday/harness/inject"
	"gameday/harness/plan"
	"gameday/harness/report"
	"gameday/harness/selfcheck"
	"gameday/scenarios"
)

// Job is what a person or a CI system asks for.
type Job struct {
	// Scenario is a name from the library, or the path of a file.
	Scenario string
	// Provider by name.
	Provider string
	// Seed of the plan; 0 draws one.
	Seed uint64
	// Cluster is one that is there already, and is left as it was; empty: one is made.
	Cluster string
	// Runs is the folder that runs are kept in.
	Runs string
	// Keep leaves the cluster running.
	Keep bool
	// Replace puts patched module trees into the image of the version under
	// test: the target of the upgrade, or the cluster's own without one.
	Replace map[string]string
	// Gameday is version and revision; Command the program as it was called.
	Gameday, Command string
	// Terminal shows the run.
	Terminal *report.Terminal
}

// Load reads a scenario: a name from the library, or the path of a file (which
// has a separator or ends in .yaml or .yml).
func Load(arg string) (*scenarios.Scenario, error) {
	if strings.ContainsRune(arg, os.PathSeparator) || strings.HasSuffix(arg, ".yaml") || strings.HasSuffix(arg, ".yml") {
		data, err := os.ReadFile(arg)
		if err != nil {
			return nil, fmt.Errorf("read the scenario: %w", err)
		}
		return scenarios.Load(data, arg, plan.Known())
	}
	library, err := scenarios.Library()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range library {
		if e.Name == arg {
			return scenarios.Load(e.Data, e.File, plan.Known())
		}
		names = append(names, e.Name)
	}
	return nil, fmt.Errorf("the library has no scenario %q%s; a file is given as ./FILE or FILE.yaml", arg, scenarios.Suggest(arg, names))
}

// ErrInput is wrapped when the job cannot be done as asked; nothing was touched.
var ErrInput = errors.New("bad input")

// Configure checks a job and plans it. It touches nothing. An error that wraps
// ErrInput is the caller's to mend.
func Configure(ctx context.Context, job Job) (Config, error) {
	s, err := Load(job.Scenario)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	return ConfigureWith(ctx, job, s)
}

// ConfigureWith is Configure of a scenario that was loaded already.
func ConfigureWith(ctx context.Context, job Job, s *scenarios.Scenario) (Config, error) {
	from, err := ProviderByName(job.Provider)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	job.Seed = Seed(job.Seed)
	// With all that is known before: what cannot be done is refused here, as by
	// `gameday plan`, not found out in the middle of the run.
	facts := plan.Facts{Provider: from.Name, Capabilities: from.Capabilities, Known: plan.Known()}
	if s, err = plan.Draw(s, job.Seed, facts); err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	p, err := plan.Make(s, job.Seed, facts)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	for m, d := range job.Replace {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err != nil {
			return Config{}, fmt.Errorf("%w: --replace=%s=%s is not the folder of a Go module: %w", ErrInput, m, d, err)
		}
	}
	provider := from.Open()
	if job.Cluster != "" {
		provider, job.Keep = existing{provider}, true
	}
	id, err := NewID()
	if err != nil {
		return Config{}, err
	}
	cfg := Config{
		ID: id, Dir: filepath.Join(job.Runs, s.Name+"-"+id),
		Scenario: s, Plan: p, Seed: job.Seed, Provider: provider,
		Keep: job.Keep, Cluster: job.Cluster, Gameday: job.Gameday, Terminal: job.Terminal,
		Rerun:     rerun(job),
		SelfCheck: func(ctx context.Context) history.SelfCheck { return selfcheck.Run(ctx, selfcheck.Quick()) },
		Prepare: func(ctx context.Context, say clusters.Say) error {
			if !from.Docker {
				return nil
			}
			// What this starts stays for the next run.
			_, err := docker.Ensure(ctx, say)
			return err
		},
	}
	before, to := nodeimage.Spec{Version: s.Cluster.Version}, nodeimage.Spec{}
	if s.Upgrade == nil {
		before.Replace, cfg.Replace = job.Replace, job.Replace
	} else {
		to = nodeimage.Spec{Version: s.Upgrade.To, Replace: job.Replace}
	}
	cfg.Images = func(ctx context.Context, say clusters.Say) (upgrade.Targets, error) {
		if !from.Docker {
			if _, err := nodeimage.EnsureBinaries(ctx, before, nodeimage.Log(say)); err != nil || s.Upgrade == nil {
				return nil, err
			}
			programs, err := nodeimage.EnsureBinaries(ctx, to, nodeimage.Log(say))
			return upgrade.FromBinaries(programs), err
		}
		from, err := nodeimage.Ensure(ctx, before, nodeimage.Log(say))
		if err != nil {
			return nil, err
		}
		if s.Upgrade == nil {
			return nil, nil
		}
		image, err := nodeimage.Ensure(ctx, to, nodeimage.Log(say))
		if err != nil {
			return nil, err
		}
		say("taking binaries and images of %s out of %s", image.Version, image.Ref)
		targets, err := upgrade.FromNodeImage(ctx, image.Ref)
		if err != nil {
			return nil, err
		}
		if len(job.Replace) > 0 {
			if err := notShadowed(ctx, from, image); err != nil {
				return nil, err
			}
		}
		return targets, nil
	}
	if err := provider.Check(ctx, clusters.Spec{
		Name: cfg.cluster(), Run: id, Version: s.Cluster.Version,
		ControlPlanes: s.Cluster.ControlPlanes, Workers: s.Cluster.Workers, Zones: s.Cluster.Zones,
	}); err != nil {
		if ctx.Err() != nil {
			return cfg, context.Cause(ctx)
		}
		return cfg, fmt.Errorf("%w: this machine cannot serve it: %w", ErrInput, err)
	}
	if err := checkHealed(); err != nil {
		return cfg, fmt.Errorf("%w: %w", ErrInput, err)
	}
	return cfg, nil
}

// notShadowed refuses an upgrade that would not put all that is patched under test:
// kubeadm, and the nodes' container runtime, know images by their names.
func notShadowed(ctx context.Context, from, to nodeimage.Image) error {
	if from.Etcd != to.Etcd && from.CoreDNS != to.CoreDNS && from.Pause != to.Pause {
		return nil
	}
	older, err := nodeimage.Extract(ctx, from.Ref, nil)
	if err != nil {
		return err
	}
	newer, err := nodeimage.Extract(ctx, to.Ref, nil)
	if err != nil {
		return err
	}
	names, err := newer.Shadowed(older)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("%s and %s both name %s, but with --replace it is another one in the latter, and the upgrade would leave the former running; "+
			"upgrade from a version with another one, or try it without an upgrade", from.Version, to.Version, strings.Join(names, ", "))
	}
	return nil
}

// checkHealed refuses to start beside faults that a dead run left.
func checkHealed() error {
	left, err := inject.Leftovers()
	errs := []error{err}
	for _, l := range left {
		errs = append(errs, fmt.Errorf("run %s left %d faults that are not healed: run `gameday heal` first", l.Run, len(l.Open)))
	}
	return errors.Join(errs...)
}

// NewID names a run: short, and different each time.
func NewID() (string, error) {
	b := make([]byte, 3)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("name the run: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// rerun is the exact command that runs the job again.
func rerun(j Job) string {
	parts := []string{j.Command, "run", j.Scenario, fmt.Sprintf("--seed=%d", j.Seed), "--provider=" + j.Provider}
	for _, m := range slices.Sorted(maps.Keys(j.Replace)) {
		parts = append(parts, "--replace="+m+"="+j.Replace[m])
	}
	return strings.Join(parts, " ")
}
