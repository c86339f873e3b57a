package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gameday/clusters"
	"gameday/clusters/docker"
	"gameday/harness/inject"
	"gameday/harness/run"
)

func newHeal() *cobra.Command {
	return &cobra.Command{
		Use:   "heal",
		Short: "Undo whatever faults dead runs left, from any folder",
		Long: `Finds the journals of runs that ended without healing, undoes what is open in
them, and proves that it is gone; starts Docker for that if it must. Runs that are
alive are left alone. Calling it again is safe.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return heal(cmd.Context(), cmd)
		},
	}
}

func heal(ctx context.Context, cmd *cobra.Command) error {
	say := sayOf(cmd)
	// An error here is about journals that cannot be read, of which HealDead tells.
	if left, _ := inject.Leftovers(); len(left) > 0 {
		startDocker(ctx, left, say)
	}
	reports, err := inject.HealDead(ctx, run.OpenCluster, say)
	stuck := 0
	for _, r := range reports {
		fmt.Fprintln(cmd.OutOrStdout(), r)
		stuck += len(r.Stuck)
	}
	if stuck > 0 {
		err = errors.Join(err, fmt.Errorf("faults that could not be undone: %d", stuck))
	}
	asked := askDocker(ctx)
	looked, serr := sweep(ctx, say)
	err = errors.Join(err, serr)
	switch {
	case err != nil:
		return &exit{codeNotUndone, errors.Join(err, known(asked))}
	case docker.Absent(asked):
		fmt.Fprintln(cmd.OutOrStdout(), "no journal tells of a fault that is left; clusters in Docker were not looked at: no Docker engine runs")
	case asked != nil:
		return known(asked)
	case len(reports)+looked == 0:
		fmt.Fprintln(cmd.OutOrStdout(), "nothing to heal")
	}
	return nil
}

// startDocker starts the engine that the clusters of dead runs were in: after a
// reboot nobody may have. If it cannot, opening those clusters will fail and say
// so.
func startDocker(ctx context.Context, left []inject.Left, say func(string, ...any)) {
	if !docker.Absent(askDocker(ctx)) {
		return
	}
	say("run %s left %d faults, and no Docker engine runs: starting it", left[0].Run, len(left[0].Open))
	if _, err := docker.Ensure(ctx, say); err != nil {
		say("docker: %v", err)
	}
}

func askDocker(ctx context.Context) error {
	_, err := docker.Inspect(ctx)
	return err
}

// known says that clusters were not looked at; nil if they were, or there is no
// engine that they could be in.
func known(asked error) error {
	if asked == nil || docker.Absent(asked) {
		return nil
	}
	return fmt.Errorf("clusters were not looked at, because Docker cannot be asked: %w", asked)
}

// sweep takes from every cluster of gameday what no journal tells of any more,
// and returns how many clusters it looked at.
func sweep(ctx context.Context, say func(string, ...any)) (int, error) {
	var errs []error
	looked := 0
	for _, p := range run.Providers() {
		if asked(ctx, p) != nil {
			continue // the caller tells of it
		}
		provider := p.Open()
		found, err := provider.List(ctx)
		errs = append(errs, err)
		for _, f := range found {
			looked++
			who, err := run.Live(f.Name)
			if err != nil {
				errs = append(errs, fmt.Errorf("cluster %s: %w", f.Name, err))
				continue
			}
			if who != "" {
				say("cluster %s is left to %s, which heals it itself", f.Name, who)
				continue
			}
			c, err := provider.Open(ctx, f.Name)
			if errors.Is(err, clusters.ErrNotFound) {
				say("%v", err) // nothing runs that could be healed
				continue
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("cluster %s: %w", f.Name, err))
				continue
			}
			if err := inject.Sweep(ctx, c, say); errors.Is(err, inject.ErrHeld) {
				say("%v", err) // its run heals it
			} else if err != nil {
				errs = append(errs, err)
			}
		}
	}
	return looked, errors.Join(errs...)
}
