package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gameday/harness/plan"
	pages "gameday/harness/report"
	"gameday/harness/run"
	"gameday/harness/shrink"
	"gameday/harness/slo"
	"gameday/scenarios"
)

// shrinking are the flags of shrink.
type shrinking struct {
	tries, maxRuns    int
	maxTime, shortest time.Duration
	first             bool
	out               string
	replace           replaces
}

func newShrink() *cobra.Command {
	var flags shrinking
	cmd := &cobra.Command{
		Use:   "shrink RUN",
		Short: "Search the fewest faults and the shortest windows with which a failed run still fails",
		Long: `Runs the scenario of a failed run again and again, with fewer faults and then with
shorter windows, and writes the smallest one that failed with one of the same
broken promises, steps or findings.

A cluster is not deterministic: what did not fail in three tries may fail in the
fourth. So each candidate is tried several times, one failure is enough, and the
table tells how often each failed of how many tries. A try that is inconclusive
counts as neither, nor does one that broke something else alone.

It keeps its progress after each try: the same command takes it up again. Its runs
make a cluster each.`,
		Example: `  gameday shrink runs/random-chaos-1ab7f1
  gameday shrink runs/random-chaos-1ab7f1 --tries 5 --max-runs 40 --max-time 8h`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return flags.shrink(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.IntVar(&flags.tries, "tries", 3, "how often each candidate is tried")
	f.BoolVar(&flags.first, "first", false, "a candidate's tries end with its first failure: fewer runs, but how often it fails stays unknown")
	f.IntVar(&flags.maxRuns, "max-runs", 30, "end after so many runs, to be taken up again")
	f.DurationVar(&flags.maxTime, "max-time", 6*time.Hour, "end after so long, to be taken up again")
	f.DurationVar(&flags.shortest, "shortest", time.Second, "shorter than this no window is made")
	f.StringVar(&flags.out, "out", "", "folder of the search: progress, runs, the smallest scenario; default: RUN/shrink")
	flags.replace.flag(cmd)
	return cmd
}

func (f *shrinking) shrink(cmd *cobra.Command, dir string) error {
	for name, ok := range map[string]bool{
		"--tries": f.tries > 0, "--max-runs": f.maxRuns > 0, "--max-time": f.maxTime > 0, "--shortest": f.shortest > 0,
	} {
		if !ok {
			return badInput(fmt.Errorf("%s must be more than 0", name))
		}
	}
	s, doc, err := failedRun(dir)
	if err != nil {
		return badInput(err)
	}
	from, err := findProvider(doc.Cluster.Provider)
	if err != nil {
		return err
	}
	facts := plan.Facts{Provider: from.Name, Capabilities: from.Capabilities, Known: plan.Known()}
	if s, err = plan.Draw(s, doc.Seed, facts); err != nil { // a run writes what it drew: this does nothing
		return err
	}
	if _, err := plan.Make(s, doc.Seed, facts); err != nil {
		return err
	}
	if f.out == "" {
		f.out = filepath.Join(dir, "shrink")
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return fmt.Errorf("folder of the search: %w", err)
	}
	status := cmd.ErrOrStderr()
	say := func(format string, args ...any) { fmt.Fprintf(status, format+"\n", args...) }
	job := run.Job{
		Provider: from.Name, Seed: doc.Seed, Runs: filepath.Join(f.out, "runs"), Replace: f.replace,
		Gameday: version(), Command: "gameday",
		Terminal: pages.NewTerminal(status, status == os.Stderr && term.IsTerminal(int(os.Stderr.Fd()))),
	}
	key := fmt.Sprintf("seed %d provider %s", doc.Seed, from.Name)
	for _, m := range slices.Sorted(maps.Keys(f.replace)) {
		key += " " + m + "=" + f.replace[m]
	}
	res, searchErr := shrink.Search(cmd.Context(), shrink.Config{
		Scenario: s, Broken: broken(doc), Held: held(doc), Key: key,
		Tries: f.tries, First: f.first, Shortest: f.shortest, MaxRuns: f.maxRuns, MaxTime: f.maxTime,
		File: filepath.Join(f.out, "progress.json"), Say: say,
		Run: func(ctx context.Context, s *scenarios.Scenario) (shrink.Verdict, error) {
			return try(ctx, job, filepath.Join(f.out, "candidates"), s)
		},
	})
	if res.Smallest == nil {
		return searchErr
	}
	if err := tellSearch(cmd.OutOrStdout(), res); err != nil {
		return errors.Join(searchErr, err)
	}
	if res.Reproduced {
		file := filepath.Join(f.out, "smallest.yaml")
		if err := writeSmallest(file, dir, res); err != nil {
			return errors.Join(searchErr, err)
		}
		fmt.Fprintln(cmd.OutOrStdout(), file)
	}
	switch {
	case errors.Is(searchErr, context.Canceled):
		return verdict(codeInconclusive) // all was said
	case errors.Is(searchErr, run.ErrInput):
		return badInput(searchErr)
	case searchErr != nil:
		return searchErr
	case !res.Complete || !res.Reproduced:
		return verdict(codeInconclusive)
	}
	return nil
}

// failedRun reads what a search begins with: the scenario of a run, as it was
// resolved, and its verdict, which must be a failure.
func failedRun(dir string) (*scenarios.Scenario, slo.Document, error) {
	var doc slo.Document
	data, err := os.ReadFile(filepath.Join(dir, "verdict.json"))
	if err != nil {
		return nil, doc, fmt.Errorf("%s is not the folder of a run that was judged: %w", dir, err)
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, doc, fmt.Errorf("%s: %w", filepath.Join(dir, "verdict.json"), err)
	}
	if doc.ExitCode != codeFail {
		return nil, doc, fmt.Errorf("%s did not fail (%s, exit code %d: %s): only what broke a promise can be shrunk",
			dir, doc.Verdict, doc.ExitCode, doc.Reason)
	}
	s, err := scenarioOf(dir, "")
	return s, doc, err
}

// broken names what a run broke.
func broken(doc slo.Document) []string {
	var out []string
	for _, r := range doc.SLOs {
		if r.Verdict == slo.Fail {
			out = append(out, r.Name)
		}
	}
	for _, p := range doc.Phases {
		if p.Verdict == slo.Fail {
			out = append(out, p.Name+" "+p.Outcome)
		}
	}
	for _, f := range doc.Findings {
		if f.Level == "fail" {
			out = append(out, f.What)
		}
	}
	return out
}

// held is how long each fault was there.
func held(doc slo.Document) map[string]time.Duration {
	out := map[string]time.Duration{}
	for _, f := range doc.Faults {
		if f.ProvenAt != nil && f.HealedAt != nil {
			out[f.Name] = time.Duration((*f.HealedAt - *f.ProvenAt) * float64(time.Millisecond))
		}
	}
	return out
}

// try runs a candidate, as `gameday run` would.
func try(ctx context.Context, job run.Job, dir string, s *scenarios.Scenario) (shrink.Verdict, error) {
	out, err := s.Marshal()
	if err != nil {
		return shrink.Verdict{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return shrink.Verdict{}, fmt.Errorf("folder of candidates: %w", err)
	}
	// Its command to run it again names this file: each candidate has its own.
	job.Scenario = filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256(out))[:12]+".yaml")
	if err := os.WriteFile(job.Scenario, out, 0o644); err != nil {
		return shrink.Verdict{}, fmt.Errorf("write the candidate: %w", err)
	}
	cfg, err := run.Configure(ctx, job)
	var invalid *scenarios.Invalid
	if errors.As(err, &invalid) { // a shorter window may be planned otherwise
		return shrink.Verdict{Outcome: shrink.Inconclusive, Broken: []string{invalid.Error()}}, nil
	}
	if err != nil {
		return shrink.Verdict{}, err
	}
	res, err := run.Run(ctx, cfg)
	if err != nil {
		return shrink.Verdict{}, err
	}
	v := shrink.Verdict{Outcome: shrink.Inconclusive, Broken: broken(res.Document), Run: res.Dir}
	switch res.Document.ExitCode {
	case codePass:
		v.Outcome = shrink.Pass
	case codeFail:
		v.Outcome = shrink.Fail
	case codeInconclusive:
	default: // the next would not be the same
		return v, &exit{res.Document.ExitCode, fmt.Errorf("%s: %s", res.Dir, res.Document.Reason)}
	}
	return v, nil
}

// tellSearch prints what was tried, and what came of it.
func tellSearch(out io.Writer, res shrink.Result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FAILED\tOF TRIES\tINCONCLUSIVE\tOTHERWISE\tFAULTS\tCANDIDATE")
	for _, c := range res.Tried {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%s\n", c.Failed, c.Tries(), c.Inconclusive, c.Otherwise, c.Faults, c.Name)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	_, err := fmt.Fprintf(out, "A cluster is not deterministic: what did not fail in these tries may fail in the next.\nsmallest: %s\n", smallest(res))
	return err
}

// smallest says what is left, in a line.
func smallest(res shrink.Result) string {
	if !res.Reproduced {
		return res.Why
	}
	return fmt.Sprintf("%s (%s): %s", res.Best.Name, &res.Best, res.Why)
}

// writeSmallest writes the smallest scenario over the one of an earlier search.
func writeSmallest(file, dir string, res shrink.Result) error {
	out, err := res.Smallest.Marshal()
	if err != nil {
		return err
	}
	head := fmt.Sprintf("# Made by: gameday shrink %s\n# %s\n", dir, strings.ReplaceAll(smallest(res), "\n", " "))
	if err := os.WriteFile(file, append([]byte(head), out...), 0o644); err != nil {
		return fmt.Errorf("write the smallest scenario: %w", err)
	}
	return nil
}
