package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gameday/clusters"
	"gameday/clusters/docker"
	"gameday/clusters/nodeimage"
	"gameday/faults"
	"gameday/harness/run"
	"gameday/harness/verify"
	"gameday/scenarios"
)

// verifying are the flags of verify-faults.
type verifying struct {
	cluster, provider, kubernetes string
	keep, noKill, list            bool
	seed                          uint64
	sequences                     int
	json, markdown, runs          string
}

func newVerifyFaults() *cobra.Command {
	var flags verifying
	cmd := &cobra.Command{
		Use:   "verify-faults [FAULT or TRIAL...]",
		Short: "Show on a cluster, with figures, that each fault bites and lets go",
		Long: `Tries every fault of the catalogue, or those that are named, in an order drawn
from the seed: its proof says no while nothing is broken; it is injected, proven
from the victim's side while others are well, held, injected again, healed, and
seen to be gone; then the cluster is whole and nothing differs from before. Then
once more in a process that is killed at a drawn moment.

It breaks the cluster that it is given, one fault after another, and leaves it as
it was. Without one it makes a cluster of three control planes and two workers,
and deletes it.`,
		Example: `  gameday verify-faults
  gameday verify-faults network.partition --cluster my-cluster --json faults.json --markdown faults.md`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var out []string
			for _, k := range faults.Catalogue() {
				out = append(out, k.Name)
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			trials, err := verify.Select(faults.Catalogue(), args)
			var unknown *verify.UnknownError
			if errors.As(err, &unknown) {
				return badInput(fmt.Errorf("%w%s; gameday verify-faults --list shows them", err, scenarios.Suggest(unknown.Name, unknown.Known)))
			}
			if err != nil {
				return err
			}
			if flags.list {
				return listTrials(cmd.OutOrStdout(), trials)
			}
			return flags.verify(cmd, trials)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.cluster, "cluster", "", "a cluster that gameday made, by name; default: make one, and delete it")
	providerFlag(cmd, &flags.provider)
	f.StringVar(&flags.kubernetes, "kubernetes", "v1.36.1", "version of the cluster to make")
	f.BoolVar(&flags.keep, "keep", false, "leave the cluster that was made running")
	f.Uint64Var(&flags.seed, "seed", 0, "replays the order and the targets; 0 draws a seed and prints it")
	f.StringVar(&flags.json, "json", "", "also write the table to this file, as JSON")
	f.StringVar(&flags.markdown, "markdown", "", "also write the table to this file, as Markdown")
	f.BoolVar(&flags.noKill, "no-kill", false, "do not kill a process in the middle of each fault")
	f.IntVar(&flags.sequences, "sequences", 0, "also try this many sequences of overlapping faults")
	f.BoolVar(&flags.list, "list", false, "list the trials, and touch nothing")
	f.StringVar(&flags.runs, "runs", "runs", "folder that journals and logs are kept in")
	return cmd
}

func listTrials(out io.Writer, trials []verify.Trial) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FAULT\tTRIAL\tTARGET\tWITH")
	for _, t := range trials {
		with := strings.Join(strings.Fields(t.With), " ")
		if with == "" {
			with = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.Kind.Name, t.Name, t.Target, with)
	}
	return w.Flush()
}

func (f *verifying) verify(cmd *cobra.Command, trials []verify.Trial) (err error) {
	ctx := cmd.Context()
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%6.1fs "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...)
	}
	f.seed = run.Seed(f.seed)
	say("%d trials, seed %d", len(trials), f.seed)
	id := strings.ToLower(crand.Text()[:6])
	c, remove, err := f.open(ctx, id, say)
	if err != nil {
		return err
	}
	release, err := run.Claim(c.Name())
	if err != nil {
		return errors.Join(err, remove())
	}
	defer func() { err = errors.Join(err, remove(), release()) }()
	dir := filepath.Join(f.runs, "verify-"+id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("folder of the run: %w", err)
	}
	v, err := verify.New(ctx, verify.Config{Cluster: c, Run: "verify-" + id, Dir: dir, Seed: f.seed, Say: say})
	if err != nil {
		return err
	}
	t := v.Run(ctx, verify.Options{Trials: trials, Kill: !f.noKill, Sequences: f.sequences, Gameday: version()})
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBound)
	defer cancel()
	if err := errors.Join(v.Close(bye), f.write(cmd.OutOrStdout(), t, dir)); err != nil {
		return err
	}
	say("seed %d, %s", f.seed, dir)
	return verdict(codeOf(t.Verdict))
}

// closeBound bounds the end of the guard, which heals what is open still.
const closeBound = 10 * time.Minute

// open finds the cluster, or makes one. remove deletes what was made.
func (f *verifying) open(ctx context.Context, id string, say clusters.Say) (_ clusters.Cluster, remove func() error, err error) {
	from, err := findProvider(f.provider)
	if err != nil {
		return nil, nil, err
	}
	p := from.Open()
	keep := func() error { return nil }
	if f.cluster != "" {
		if err := verify.Unhealed(f.cluster); err != nil {
			return nil, nil, badInput(err)
		}
		c, err := p.Open(ctx, f.cluster)
		if errors.Is(err, clusters.ErrNotFound) {
			err = badInput(fmt.Errorf("%w; gameday clusters list shows them", err))
		}
		return c, keep, err
	}
	if _, err := docker.Ensure(ctx, say); err != nil {
		return nil, nil, err
	}
	if _, err := nodeimage.Ensure(ctx, nodeimage.Spec{Version: f.kubernetes}, nodeimage.Log(say)); err != nil {
		return nil, nil, err
	}
	name := "gd-verify-" + id
	spec := clusters.Spec{Name: name, Run: "verify-" + id, Version: f.kubernetes, ControlPlanes: 3, Workers: 2}
	if err := p.Check(ctx, spec); err != nil {
		return nil, nil, badInput(fmt.Errorf("this machine cannot serve it: %w", err))
	}
	c, err := p.Create(ctx, spec, say)
	if err != nil || f.keep {
		return c, keep, err
	}
	return c, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBound)
		defer cancel()
		return p.Delete(ctx, name)
	}, nil
}

// write prints the table, and writes it to the folder and where it was asked for.
func (f *verifying) write(out io.Writer, t *verify.Table, dir string) error {
	b, err := t.JSON()
	if err != nil {
		return err
	}
	errs := []error{t.Text(out), os.WriteFile(filepath.Join(dir, "verify.json"), b, 0o644)}
	if f.json != "" {
		errs = append(errs, os.WriteFile(f.json, b, 0o644))
	}
	if f.markdown != "" {
		errs = append(errs, os.WriteFile(f.markdown, t.Markdown(), 0o644))
	}
	return errors.Join(errs...)
}

// codeOf is the exit code of a verdict.
func codeOf(v verify.Verdict) int {
	switch v {
	case verify.Pass:
		return codePass
	case verify.Fail:
		return codeFail
	case verify.Stuck:
		return codeNotUndone
	}
	return codeInconclusive
}
