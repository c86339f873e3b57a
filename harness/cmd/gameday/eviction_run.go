package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gameday/harness/eviction"
	"gameday/harness/eviction/matrix"
	"gameday/harness/run"
	"gameday/harness/slo"
	"gameday/scenarios"
)

// evicting are the flags of eviction run.
type evicting struct {
	settings, kubernetes, cuts, lengths []string
	baseline, runs                      string
}

func newEvictionRun() *cobra.Command {
	var flags evicting
	cmd := &cobra.Command{
		Use:   "run --settings FILE",
		Short: "Cut nodes off real controllers and hold what they do against what the settings say (root, no Docker)",
		Long: `Makes a cluster of plain processes for each settings file and version, started with
just these settings, cuts nodes off, and writes down which became Unknown, were
tainted and lost which pods. Each cell of the matrix, settings x version x cut x
length, is predicted before and held against the prediction after.

Cuts: one, two, under-threshold and threshold (just not and just so many that the
zone's brake holds), zone, workers (all but control planes), all.
Lengths: below (surely no pod is lost), between (the model leaves open how many: never
passed, only what breaks a rule is told), above (all that can be lost is).

It takes as long as the settings say: with Kubernetes' defaults six minutes and more
for each cell above. The file needs zones; scaled-down times and short leases make a
cell a matter of seconds:

  version: v1.36.1
  controllerManager: {nodeMonitorPeriod: 500ms, nodeMonitorGracePeriod: 6s, nodeEvictionRate: 0.5, kubeAPIQPS: 200, kubeAPIBurst: 400}
  apiServer: {defaultUnreachableTolerationSeconds: 8}
  kubelet: {nodeLeaseDurationSeconds: 4}
  zones: [{name: a, nodes: 10, controlPlanes: 1}, {name: b, nodes: 3}]

The table goes to stdout; matrix.json and junit.xml to runs/eviction-ID/, with the logs
of clusters that did not pass. With --baseline each cell is held against that of an
earlier matrix.json, and what differs is put down to the settings, to Kubernetes, or
is broken. Exit code 0 means that all passed, 1 that a rule was broken, 2 that a cell
is inconclusive.`,
		Example: `  gameday eviction run --settings cluster.yaml
  gameday eviction run --settings old.yaml --settings new.yaml --kubernetes v1.36.1,v1.37.0 --baseline last/matrix.json`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.run(cmd) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&flags.settings, "settings", nil, "file with settings and zones; can be given again")
	f.StringSliceVar(&flags.kubernetes, "kubernetes", nil, "versions; default: that of each file")
	f.StringSliceVar(&flags.cuts, "cut", words(matrix.Cuts()), "which cuts")
	f.StringSliceVar(&flags.lengths, "length", words([]matrix.Length{matrix.Below, matrix.Above}), "which lengths")
	f.StringVar(&flags.baseline, "baseline", "", "the matrix.json of an earlier run to compare with")
	f.StringVar(&flags.runs, "runs", "runs", "folder that runs are kept in")
	return cmd
}

func words[T ~string](list []T) []string {
	var out []string
	for _, w := range list {
		out = append(out, string(w))
	}
	return out
}

// chosen are words of a flag that are among those there are.
func chosen[T ~string](flag string, given []string, there []T) ([]T, error) {
	var out []T
	for _, w := range given {
		if !slices.Contains(there, T(w)) {
			return nil, fmt.Errorf("--%s: unknown %q%s; there are %s", flag, w, scenarios.Suggest(w, words(there)), strings.Join(words(there), ", "))
		}
		out = append(out, T(w))
	}
	return out, nil
}

// cells reads the flags; what is wrong with them is bad input.
func (e *evicting) cells() ([]matrix.Cell, error) {
	if len(e.settings) == 0 {
		return nil, errors.New("--settings is needed")
	}
	cuts, err := chosen("cut", e.cuts, matrix.Cuts())
	if err != nil {
		return nil, err
	}
	lengths, err := chosen("length", e.lengths, matrix.Lengths())
	if err != nil {
		return nil, err
	}
	var out []matrix.Cell
	names := map[string]bool{}
	for _, path := range e.settings {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the settings: %w", err)
		}
		f, err := eviction.LoadFile(data, path)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		if names[name] {
			return nil, fmt.Errorf("%s: there are two settings files of the name %s", path, name)
		}
		names[name] = true
		versions := e.kubernetes
		if len(versions) == 0 {
			versions = []string{f.Version}
		}
		for _, f.Version = range versions {
			if errs := f.Problems(); len(errs) > 0 {
				return nil, fmt.Errorf("%s with %s: %s: %s", path, f.Version, errs[0].Field, errs[0].Text)
			}
			cells, err := matrix.Cells(matrix.Named{Name: name, File: f}, cuts, lengths)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			out = append(out, cells...)
		}
	}
	return out, nil
}

func (e *evicting) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	cells, err := e.cells()
	if err != nil {
		return badInput(err)
	}
	var base matrix.Document
	if e.baseline != "" {
		if base, err = matrix.Load(e.baseline); err != nil {
			return badInput(err)
		}
	}
	began, id := time.Now(), strings.ToLower(rand.Text()[:6])
	say := func(format string, args ...any) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%6.1fs "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...)
	}
	dir := filepath.Join(e.runs, "eviction-"+id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("folder of the run: %w", err)
	}
	all, failed := matrix.Run(ctx, matrix.Config{ID: id, Cells: cells, Dir: dir, Say: say, Claim: run.Claim})
	doc := matrix.NewDocument(version(), began, time.Since(began), all)
	if e.baseline != "" {
		if missing := doc.Compare(base); len(missing) > 0 {
			say("not tried, and in the baseline: %s", strings.Join(missing, ", "))
		}
	}
	js, err := doc.JSON()
	if err != nil {
		return errors.Join(failed, err)
	}
	xml, err := doc.JUnit()
	if err != nil {
		return errors.Join(failed, err)
	}
	err = errors.Join(failed,
		os.WriteFile(filepath.Join(dir, "matrix.json"), js, 0o644),
		os.WriteFile(filepath.Join(dir, "junit.xml"), xml, 0o644),
		doc.Text(cmd.OutOrStdout()),
	)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(dir, "matrix.json"))
	switch doc.Verdict {
	case slo.Pass:
		return nil
	case slo.Fail:
		return verdict(codeFail)
	}
	return verdict(codeInconclusive)
}
