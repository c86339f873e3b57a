package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"gameday/scenarios"
)

func newPlan() *cobra.Command {
	var flags planning
	var asJSON bool
	var save string
	cmd := &cobra.Command{
		Use:   "plan SCENARIO",
		Short: "Say what a run would do: targets, exact commands, windows, bounds, fault budget; touch nothing",
		Example: `  gameday plan upgrade-under-fire
  gameday plan ./mine.yaml --seed 8231 --json
  gameday plan random-chaos --save drawn.yaml   # what the seed drew, as an ordinary scenario`,
		Args:              usage(cobra.ExactArgs(1)),
		ValidArgsFunction: libraryNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, p, err := flags.make(args[0])
			if err != nil {
				return err
			}
			if save != "" {
				if err := saveScenario(s, save, fmt.Sprintf("gameday plan %s --seed %d", args[0], p.Seed)); err != nil {
					return err
				}
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
	cmd.Flags().StringVar(&save, "save", "", "also write the scenario to this new file, all defaults filled in and random faults drawn")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as plan.json")
	return cmd
}

// saveScenario writes a resolved scenario to a new file; whence is what made it.
func saveScenario(s *scenarios.Scenario, file, whence string) (err error) {
	out, err := s.Marshal()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return badInput(fmt.Errorf("%s is there already; name a new file", file))
	}
	if err != nil {
		return badInput(fmt.Errorf("save the scenario: %w", err))
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := fmt.Fprintf(f, "# Made by: %s\n%s", whence, out); err != nil {
		return fmt.Errorf("save the scenario: %w", err)
	}
	return nil
}
