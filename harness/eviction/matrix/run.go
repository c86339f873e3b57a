package matrix

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"gameday/clusters"
	"gameday/clusters/local"
	"gameday/harness/slo"
)

// Config says what to run.
type Config struct {
	// ID is that of the run, which its clusters are named by and labelled with.
	ID    string
	Cells []Cell
	// Dir is where the logs of clusters are kept whose cells did not all pass.
	Dir string
	Say clusters.Say
	// Claim says to everybody that a cluster is in use.
	Claim func(cluster string) (release func() error, err error)
}

// deleteBound bounds the end of a cluster, with its logs.
const deleteBound = 2 * time.Minute

// Run tries all cells, those of one name and version of settings on one cluster, one
// after the other. There is an outcome for each, in their order; the error is about
// what gameday could not do.
func Run(ctx context.Context, cfg Config) ([]Outcome, error) {
	out := make([]Outcome, len(cfg.Cells))
	var groups [][]int
	at := map[string]int{}
	for i, c := range cfg.Cells {
		if c.None != "" {
			out[i] = Outcome{Cell: c, Why: c.None}
			continue
		}
		key := c.Settings.Name + " " + c.Settings.Version
		g, ok := at[key]
		if !ok {
			g = len(groups)
			at[key], groups = g, append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	var errs []error
	for n, group := range groups {
		if err := cfg.group(ctx, n, group, out); err != nil {
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// group tries the cells of one cluster.
func (cfg Config) group(ctx context.Context, n int, cells []int, out []Outcome) (err error) {
	settings := cfg.Cells[cells[0]].Settings
	left := cells
	defer func() { // those that were not tried
		why := "interrupted"
		if err != nil {
			why = err.Error()
		}
		for _, i := range left {
			out[i] = Judge(cfg.Cells[i], Record{Doubts: []string{"not tried: " + why}})
		}
	}()
	if ctx.Err() != nil {
		return nil
	}
	spec, given, err := Given(settings.File)
	if err != nil {
		return err
	}
	spec.Name, spec.Run = fmt.Sprintf("gd-eviction-%s-%d", cfg.ID, n), cfg.ID
	release, err := cfg.Claim(spec.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	c, err := local.New().CreateWith(ctx, spec, given, cfg.Say)
	if err != nil {
		return err
	}
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteBound)
		defer cancel()
		for _, i := range cells {
			if len(left) > 0 || out[i].Verdict != slo.Pass {
				err = errors.Join(err, c.Collect(cleanup, filepath.Join(cfg.Dir, "logs", settings.Name+"-"+settings.Version)))
				break
			}
		}
		err = errors.Join(err, local.New().Delete(cleanup, spec.Name))
	}()
	t, err := NewTrial(ctx, c, settings.File)
	if err != nil {
		return err
	}
	defer t.Close()
	for len(left) > 0 && ctx.Err() == nil {
		i := left[0]
		cell := cfg.Cells[i]
		cfg.Say("%s: %d nodes cut off for %s; predicted: %s", cell.Name(), len(cell.Case.Cut.Nodes), cell.Case.Cut.Heal, cell.Answer())
		out[i] = Judge(cell, t.Try(ctx, cell))
		left = left[1:]
		cfg.Say("%s: %s %s", cell.Name(), out[i].Verdict, out[i].Why)
	}
	return nil
}
