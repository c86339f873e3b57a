package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gameday/harness/plan"
	"gameday/scenarios"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of scenario files, for editors",
		Long: `Print the JSON schema of scenario files. An editor with a YAML language server
completes and checks a scenario that begins with
  # yaml-language-server: $schema=scenario.schema.json`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := scenarios.Schema(plan.Known())
			if err != nil {
				return err
			}
			if _, err := cmd.OutOrStdout().Write(out); err != nil {
				return fmt.Errorf("write the schema: %w", err)
			}
			return nil
		},
	}
}
