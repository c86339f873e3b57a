package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gameday/clusters/docker"
	"gameday/harness/inject"
	"gameday/harness/run"
)

func newHeal() *cobra.Command {
	return &cobra.Command{
		Use:   "heal",
		Short: "Undo whatever faults dead runs left, from any folder",
		Long: `Finds the journals of runs that ended without healing, undoes what is open in
them, and proves that it is gone. Runs that are alive are left alone. Calling it
again is safe.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return heal(cmd.Context(), cmd)
		},
	}
}

func heal(ctx context.Context, cmd *cobra.Command) error {
	say := func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }
	reports, err := inject.HealDead(ctx, run.OpenCluster, say)
	for _, r := range reports {
		fmt.Fprintln(cmd.OutOrStdout(), r)
		err = errors.Join(err, r.Err())
	}
	swept, sweepErr := sweep(ctx, say)
	if err := errors.Join(err, sweepErr); err != nil {
		return &exit{codeNotUndone, err}
	}
	if len(reports)+swept == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "nothing to heal")
	}
	return nil
}

// sweep takes from every cluster of gameday what no journal tells of any more,
// and returns how many clusters it looked at.
func sweep(ctx context.Context, say func(string, ...any)) (int, error) {
	var errs []error
	looked := 0
	for _, p := range providers() {
		if _, err := docker.Inspect(ctx); err != nil {
			continue // no engine runs, so no cluster does
		}
		provider := p.open()
		found, err := provider.List(ctx)
		errs = append(errs, err)
		for _, f := range found {
			c, err := provider.Open(ctx, f.Name)
			if err != nil {
				errs = append(errs, fmt.Errorf("cluster %s: %w", f.Name, err))
				continue
			}
			if err := inject.Sweep(ctx, c, say); errors.Is(err, inject.ErrHeld) {
				say("%v", err) // its run heals it
			} else if err != nil {
				errs = append(errs, err)
			}
			looked++
		}
	}
	return looked, errors.Join(errs...)
}
