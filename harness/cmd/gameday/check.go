package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"gameday/harness/plan"
	pages "gameday/harness/report"
	"gameday/scenarios"
)

func newCheck() *cobra.Command {
	var scenario string
	cmd := &cobra.Command{
		Use:   "check RUN",
		Short: "Judge a run's record again, with today's checkers; no cluster is needed",
		Long: `Judges history.jsonl of a run against the SLOs of its scenario and writes
verdict.json, junit.xml and report.html again. The exit code is the verdict's.`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := scenarioOf(args[0], scenario)
			if err != nil {
				return err
			}
			doc, err := pages.Write(args[0], s)
			if err != nil {
				return notWritten(err)
			}
			for _, p := range doc.SLOs {
				fmt.Fprintf(cmd.OutOrStdout(), "%-13s %-24s %s: %s\n", p.Verdict, p.Name, p.Short(), p.Reason)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s (exit %d): %s\n", strings.ToUpper(string(doc.Verdict)), doc.ExitCode, doc.Reason)
			return verdict(doc.ExitCode)
		},
	}
	cmd.Flags().StringVar(&scenario, "scenario", "", "judge against the SLOs of this scenario file instead of the run's own")
	return cmd
}

func newReport() *cobra.Command {
	return &cobra.Command{
		Use:   "report RUN",
		Short: "Write report.html, junit.xml and verdict.json of a run again, and say where the page is",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := scenarioOf(args[0], "")
			if err != nil {
				return err
			}
			if _, err := pages.Write(args[0], s); err != nil {
				return notWritten(err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(args[0], "report.html"))
			return nil
		},
	}
}

// notWritten makes an error of pages.Write bad input if it is about the record that
// was given, and leaves it gameday's own if it is not (a full disk).
func notWritten(err error) error {
	var record *pages.RecordError
	if errors.As(err, &record) {
		return badInput(err)
	}
	return err
}

// scenarioOf loads the scenario that a run was about, or another one to judge
// it by.
func scenarioOf(dir, other string) (*scenarios.Scenario, error) {
	if other != "" {
		return readScenario(other)
	}
	path := filepath.Join(dir, "scenario.yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, badInput(fmt.Errorf("%s is not the folder of a run: %w", dir, err))
	}
	return scenarios.Load(data, path, plan.Known())
}
