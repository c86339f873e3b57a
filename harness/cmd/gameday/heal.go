package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

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
	open, err := inject.OpenJournals()
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }
	var stuck []error
	for _, f := range open {
		r, err := inject.HealAll(ctx, f.Path, run.OpenCluster, say)
		switch {
		case errors.Is(err, inject.ErrHeld):
			say("run %s is alive and heals its faults itself", f.Run)
		case errors.Is(err, os.ErrNotExist):
			say("the journal of run %s is gone (%s): nothing can be known of it", f.Run, f.Path)
			if err := inject.Forget(f.Run); err != nil {
				return err
			}
		case err != nil:
			stuck = append(stuck, fmt.Errorf("run %s: %w", f.Run, err))
		default:
			fmt.Fprintln(cmd.OutOrStdout(), r)
			stuck = append(stuck, r.Err())
		}
	}
	if err := errors.Join(stuck...); err != nil {
		return &exit{codeNotUndone, err}
	}
	if len(open) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "nothing to heal")
	}
	return nil
}
