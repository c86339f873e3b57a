package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newPlan() *cobra.Command {
	var flags planning
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "plan SCENARIO",
		Short: "Say what a run would do: targets, exact commands, windows, bounds, fault budget; touch nothing",
		Example: `  gameday plan upgrade-under-fire
  gameday plan ./mine.yaml --seed 8231 --json`,
		Args:              usage(cobra.ExactArgs(1)),
		ValidArgsFunction: libraryNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, p, err := flags.make(args[0])
			if err != nil {
				return err
			}
			text := []byte(p.String())
			if asJSON {
				if text, err = p.JSON(); err != nil {
					return err
				}
			}
			if _, err := cmd.OutOrStdout().Write(text); err != nil {
				return fmt.Errorf("write the plan: %w", err)
			}
			return nil
		},
	}
	flags.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as plan.json")
	return cmd
}
