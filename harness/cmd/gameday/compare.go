package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"gameday/harness/compare"
	"gameday/scenarios"
)

func newCompare() *cobra.Command {
	var asJSON bool
	var page, scenario string
	cmd := &cobra.Command{
		Use:   "compare RUN RUN...",
		Short: "Set runs of different versions or settings side by side; no cluster is needed",
		Long: `Judges the records of runs (their folders) with today's checkers and sets them side
by side: what each promise cost, how long each phase took, how quickly each fault
came and went. The first run is what the others are measured against.

Versions, faults and the way of the upgrade may differ, and are told. What else
differs (the cluster's size, the workload, budgets, the provider, the machine's
cores), and a record that is inconclusive or has no end, is refused with the reason.`,
		Example: `  gameday compare runs/upgrade-clean-1ab7f1 runs/upgrade-under-fire-780c61
  gameday compare runs/a runs/b runs/c --html compare.html --json`,
		Args: usage(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var by *scenarios.Scenario
			if scenario != "" {
				var err error
				if by, err = readScenario(scenario); err != nil {
					return err
				}
			}
			var list []*compare.Record
			for _, dir := range args {
				r, err := compare.Load(dir, by)
				if err != nil {
					return unread(err)
				}
				list = append(list, r)
			}
			doc, err := compare.Runs(list)
			var refused *compare.Refusal
			if errors.As(err, &refused) {
				return badInput(err)
			}
			if err != nil {
				return err
			}
			if page != "" {
				out, err := compare.HTML(list, doc)
				if err != nil {
					return err
				}
				if err := os.WriteFile(page, out, 0o644); err != nil {
					return fmt.Errorf("write the page: %w", err)
				}
			}
			if !asJSON {
				return doc.Text(cmd.OutOrStdout())
			}
			return printJSON(cmd, doc)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().StringVar(&scenario, "scenario", "", "judge all by the SLOs of this scenario instead of their own")
	cmd.Flags().StringVar(&page, "html", "", "also write a page with charts over one another to this file")
	return cmd
}

// unread makes an error of a record that cannot be read the caller's to mend.
func unread(err error) error {
	if errors.Is(err, compare.ErrNoRecord) {
		return badInput(err)
	}
	return err
}

func printJSON(cmd *cobra.Command, v any) error {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("as JSON: %w", err)
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), string(out)); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
