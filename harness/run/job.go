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
	"gameday/clusters/kind"
	"gameday/clusters/nodeimage"
	"gameday/clusters/upgrade"
	"gameday/harness/inject"
	"gameday/harness/plan"
	"gameday/harness/report"
	"gameday/scenarios"
)

// Job is what a person or a CI system asks for.
type Job struct {
	// Scenario is a name from the library, or the path of a file.
	Scenario string
	// Provider by name.
	Provider string
	// Seed of the plan.
	Seed uint64
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

// Providers lists the providers of clusters.
func Providers() []clusters.Provider { return []clusters.Provider{kind.New()} }

// ProviderByName finds a provider.
func ProviderByName(name string) (clusters.Provider, error) {
	var names []string
	for _, p := range Providers() {
		if p.Name() == name {
			return p, nil
		}
		names = append(names, p.Name())
	}
	return nil, fmt.Errorf("unknown provider %q (one of %s)", name, strings.Join(names, ", "))
}

// Capabilities are what the nodes of a provider can most likely do, known before
// there are any: whoever plans takes them from here, so that all plan the same.
// For sure each fault looks when it is injected.
func Capabilities(provider string) map[clusters.Role][]clusters.Capability {
	if provider != kind.New().Name() {
		return nil // not known
	}
	all := []clusters.Capability{
		clusters.CapExec, clusters.CapFiles, clusters.CapProcesses, clusters.CapNetwork, clusters.CapCgroup, clusters.CapPower,
	}
	controlPlane := all
	if kind.OffersDisks() == nil {
		controlPlane = append(slices.Clone(all), clusters.CapDisk)
	}
	return map[clusters.Role][]clusters.Capability{
		clusters.ControlPlane: controlPlane, clusters.Worker: all, clusters.LoadBalancer: all,
	}
}

// OpenCluster finds a cluster again, for the guard and for healing.
func OpenCluster(ctx context.Context, provider, name string) (clusters.Cluster, error) {
	p, err := ProviderByName(provider)
	if err != nil {
		return nil, err
	}
	return p.Open(ctx, name)
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
	provider, err := ProviderByName(job.Provider)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	if s, err = plan.Draw(s, job.Seed, plan.Facts{
		Provider: provider.Name(), Capabilities: Capabilities(provider.Name()), Known: plan.Known(),
	}); err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	p, err := plan.Make(s, job.Seed, plan.Facts{Provider: provider.Name(), Known: plan.Known()})
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInput, err)
	}
	for m, d := range job.Replace {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err != nil {
			return Config{}, fmt.Errorf("%w: --replace=%s=%s is not the folder of a Go module: %w", ErrInput, m, d, err)
		}
	}
	id, err := newID()
	if err != nil {
		return Config{}, err
	}
	cfg := Config{
		ID: id, Dir: filepath.Join(job.Runs, s.Name+"-"+id),
		Scenario: s, Plan: p, Seed: job.Seed, Provider: provider, Open: OpenCluster,
		Keep: job.Keep, Gameday: job.Gameday, Terminal: job.Terminal,
		Rerun: rerun(job),
		Prepare: func(ctx context.Context, say clusters.Say) error {
			// What this starts stays for the next run.
			_, err := docker.Ensure(ctx, say)
			return err
		},
	}
	from, to := nodeimage.Spec{Version: s.Cluster.Version}, nodeimage.Spec{}
	if s.Upgrade == nil {
		from.Replace, cfg.Replace = job.Replace, job.Replace
	} else {
		to = nodeimage.Spec{Version: s.Upgrade.To, Replace: job.Replace}
	}
	cfg.Images = func(ctx context.Context, say clusters.Say) (upgrade.Targets, error) {
		if _, err := nodeimage.Ensure(ctx, from, nodeimage.Log(say)); err != nil {
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
		return targets, nil
	}
	if err := provider.Check(ctx, clusters.Spec{
		Name: cfg.cluster(), Run: id, Version: s.Cluster.Version,
		ControlPlanes: s.Cluster.ControlPlanes, Workers: s.Cluster.Workers,
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

// checkHealed refuses to start beside faults that a dead run left.
func checkHealed() error {
	open, err := inject.OpenJournals()
	if err != nil {
		return err
	}
	for _, f := range open {
		c, err := inject.ReadJournal(f.Path)
		if errors.Is(err, os.ErrNotExist) {
			if err := inject.Forget(f.Run); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if len(c.Open()) == 0 {
			continue
		}
		alive, err := c.Holder.Alive()
		if err != nil {
			return err
		}
		if !alive {
			return fmt.Errorf("run %s left %d faults that are not healed: run `gameday heal` first", f.Run, len(c.Open()))
		}
	}
	return nil
}

// newID names a run: short, and different each time.
func newID() (string, error) {
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
