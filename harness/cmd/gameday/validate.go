package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gameday/scenarios"
)

func newValidate() *cobra.Command {
	var flags planning
	cmd := &cobra.Command{
		Use:   "validate SCENARIO...",
		Short: "Check scenarios, fault budget included; every problem at once, with its line",
		Example: `  gameday validate upgrade-under-fire
  gameday validate ./mine.yaml ./others/*.yaml`,
		Args:              usage(cobra.MinimumNArgs(1)),
		ValidArgsFunction: libraryNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := findProvider(flags.provider); err != nil {
				return err
			}
			var all scenarios.Invalid
			for _, arg := range args {
				s, p, err := flags.make(arg)
				var invalid *scenarios.Invalid
				switch {
				case errors.As(err, &invalid):
					all.Problems = append(all.Problems, invalid.Problems...)
				case err != nil: // there is no such file: a problem beside those of others
					all.Problems = append(all.Problems, scenarios.Problem{File: arg, Text: err.Error()})
				default:
					fmt.Fprintf(cmd.OutOrStdout(), "%s: valid, %d steps, %d faults, %d SLOs\n", arg, p.Count, len(s.Faults), len(s.SLOs))
				}
			}
			if len(all.Problems) > 0 {
				return &all
			}
			return nil
		},
	}
	flags.flags(cmd)
	return cmd
}
