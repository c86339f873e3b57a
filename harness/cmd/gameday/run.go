package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	pages "gameday/harness/report"
	"gameday/harness/run"
)

func newRun() *cobra.Command {
	var flags planning
	var job run.Job
	var replace replaces
	var pair pairing
	cmd := &cobra.Command{
		Use:   "run SCENARIO",
		Short: "Make the cluster, upgrade it under fire, judge what was seen",
		Long: `Runs a scenario to its end and leaves everything it saw in runs/NAME-ID/.

The first Ctrl-C heals everything, judges what there is and exits with code 2;
further ones change nothing. If gameday is killed, its guard heals.

With --paired it is run with its faults and without them, in turn, and a promise is
only held against the faults if it was kept without them, or if they surely made it
worse. What a step is expected to do because of a fault (to be blocked) is not
expected of the runs without. The comparison is beside the runs.`,
		Example: `  gameday run upgrade-under-fire
  gameday run ./mine.yaml --seed 8231
  gameday run ./mine.yaml --paired --repeat 4   # what do the faults cost?`,
		Args:              usage(cobra.ExactArgs(1)),
		ValidArgsFunction: libraryNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			job.Replace = replace
			job.Scenario, job.Seed, job.Provider = args[0], flags.seed, flags.provider
			job.Gameday, job.Command = version(), "gameday"
			status := cmd.ErrOrStderr()
			job.Terminal = pages.NewTerminal(status, status == os.Stderr && term.IsTerminal(int(os.Stderr.Fd())))
			if err := pair.check(cmd, job); err != nil {
				return err
			}
			if pair.on {
				return pair.run(cmd, job)
			}
			cfg, err := run.Configure(cmd.Context(), job)
			if errors.Is(err, run.ErrInput) {
				return badInput(err)
			}
			if err != nil {
				return err
			}
			res, err := run.Run(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), res.Dir)
			return verdict(res.Document.ExitCode)
		},
	}
	flags.flags(cmd)
	cmd.Flags().StringVar(&job.Runs, "runs", "runs", "folder that runs are kept in")
	cmd.Flags().BoolVar(&job.Keep, "keep", false, "leave the cluster running")
	replace.flag(cmd)
	pair.flags(cmd)
	return cmd
}

// verdict turns the exit code of a verdict, which was shown, into an error.
func verdict(code int) error {
	if code == codePass {
		return nil
	}
	return &exit{code: code}
}
