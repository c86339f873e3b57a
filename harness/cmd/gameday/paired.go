package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"gameday/harness/compare"
	"gameday/harness/plan"
	"gameday/harness/run"
	"gameday/harness/slo"
	"gameday/scenarios"
)

// pairing is `run --paired`: the same scenario with and without its faults.
type pairing struct {
	on     bool
	repeat int
}

func (p *pairing) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.on, "paired", false, "run it with and without its faults, and judge the difference")
	cmd.Flags().IntVar(&p.repeat, "repeat", 1, "with --paired: so many runs of each; 4 are needed to tell a difference from chance")
}

// check refuses what does not go together.
func (p *pairing) check(cmd *cobra.Command, job run.Job) error {
	switch {
	case !p.on && cmd.Flags().Changed("repeat"):
		return badInput(errors.New("--repeat goes with --paired"))
	case p.on && p.repeat < 1:
		return badInput(errors.New("--repeat must be more than 0"))
	case p.on && job.Keep:
		return badInput(errors.New("--keep would leave a cluster for each run of --paired; run one by itself to keep its cluster"))
	}
	return nil
}

// pairs are the runs under way.
type pairs struct {
	pairing
	job   run.Job
	dir   string
	files map[string]string // of the scenarios, by side
	done  map[string][]*compare.Record
}

func (p *pairing) run(cmd *cobra.Command, job run.Job) error {
	ctx := cmd.Context()
	s, dropped, err := p.sides(&job)
	if err != nil {
		return err
	}
	id, err := run.NewID()
	if err != nil {
		return err
	}
	r := &pairs{pairing: *p, job: job, dir: filepath.Join(job.Runs, s[compare.With].Name+"-paired-"+id), files: map[string]string{}, done: map[string][]*compare.Record{}}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return fmt.Errorf("folder of the pairs: %w", err)
	}
	for side, one := range s {
		out, err := one.Marshal()
		if err != nil {
			return err
		}
		// The command to run one again names this file.
		r.files[side] = filepath.Join(r.dir, one.Name+".yaml")
		if err := os.WriteFile(r.files[side], out, 0o644); err != nil {
			return fmt.Errorf("write the scenario %s: %w", side, err)
		}
	}
	order := compare.Order(job.Seed, p.repeat)
	var missing []string
	var stopped error
	for i, side := range order {
		if stopped == nil {
			stopped = ctx.Err()
		}
		if stopped != nil {
			missing = append(missing, fmt.Sprintf("run %d of %d, %s: it was not made", i+1, len(order), side))
			continue
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "run %d of %d: %s\n", i+1, len(order), side)
		stopped = r.one(ctx, side)
		if i == 0 && errors.Is(stopped, run.ErrInput) {
			return badInput(stopped) // nothing was touched
		}
	}
	code, err := r.tell(cmd, order, dropped, missing)
	var ended *exit
	switch {
	case errors.As(stopped, &ended), stopped != nil && ctx.Err() == nil:
		return errors.Join(stopped, err)
	case err != nil:
		return err
	}
	return verdict(code)
}

// sides are the scenario and its twin, with all that is random drawn, so that each
// run has the same faults. Both are planned: what cannot be done is refused before
// the first run.
func (p *pairing) sides(job *run.Job) (map[string]*scenarios.Scenario, []string, error) {
	plans := planning{seed: job.Seed, provider: job.Provider}
	s, _, err := plans.make(job.Scenario)
	if err != nil {
		return nil, nil, err
	}
	job.Seed = plans.seed
	if len(s.Faults) == 0 {
		return nil, nil, badInput(fmt.Errorf("%s has no faults: there is nothing to run it without", job.Scenario))
	}
	twin, dropped := compare.Twin(s)
	out, err := twin.Marshal()
	if err != nil {
		return nil, nil, err
	}
	if _, err := scenarios.Load(out, twin.Name, plan.Known()); err != nil {
		return nil, nil, badInput(fmt.Errorf("%s cannot be run without its faults: %w", job.Scenario, err))
	}
	return map[string]*scenarios.Scenario{compare.With: s, compare.Without: twin}, dropped, nil
}

// one makes a run of a side. After an error there is no sense in another.
func (r *pairs) one(ctx context.Context, side string) error {
	job := r.job
	job.Scenario, job.Runs = r.files[side], r.dir
	cfg, err := run.Configure(ctx, job)
	if err != nil {
		return err
	}
	res, err := run.Run(ctx, cfg)
	if err != nil {
		return err
	}
	rec, err := compare.Load(res.Dir, nil)
	if err != nil {
		return err
	}
	r.done[side] = append(r.done[side], rec)
	if c := res.Document.ExitCode; c == codeNotUndone || c == codeHarness { // the next would not be the same
		return &exit{c, fmt.Errorf("%s: %s", res.Dir, res.Document.Reason)}
	}
	return nil
}

// tell judges what there is, and writes it beside the runs.
func (r *pairs) tell(cmd *cobra.Command, order, dropped, missing []string) (int, error) {
	without, with := r.done[compare.Without], r.done[compare.With]
	p, err := compare.Judge(without, with, r.repeat, order, dropped, missing)
	if err != nil {
		return slo.ExitHarness, err
	}
	page, err := p.HTML(filepath.Base(r.dir), compare.Counted(without, with))
	if err != nil {
		return slo.ExitHarness, err
	}
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return slo.ExitHarness, fmt.Errorf("compare.json: %w", err)
	}
	for name, text := range map[string][]byte{"compare.html": page, "compare.json": append(data, '\n')} {
		if err := os.WriteFile(filepath.Join(r.dir, name), text, 0o644); err != nil {
			return slo.ExitHarness, fmt.Errorf("write the comparison: %w", err)
		}
	}
	if err := p.Text(cmd.OutOrStdout()); err != nil {
		return slo.ExitHarness, err
	}
	fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(r.dir, "compare.html"))
	return p.ExitCode, nil
}
