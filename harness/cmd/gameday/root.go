package main

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"gameday/scenarios"
)

// newRoot builds the tree of commands.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "gameday",
		Short: "Upgrade a real Kubernetes cluster under fire, and judge it from a complete record",
		Long: `gameday upgrades a real Kubernetes cluster while it breaks parts of it on purpose,
proves that each break really happened, and says from a complete record whether
the promises held.

Exit codes: 0 every promise was kept; 1 one was broken; 2 inconclusive; 3 a
fault could not be undone; 4 bad input, nothing was touched; 5 gameday itself
failed.`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		// An unknown command is bad input; without arguments, help.
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return badInput(fmt.Errorf("%w; %s --help shows the flags", err, cmd.CommandPath()))
	})
	root.AddCommand(
		newRun(), newCheck(), newReport(), newCompare(), newLoad(), newShrink(), newHeal(), newVerifyFaults(), newSelfCheck(),
		newPlan(), newPreflight(), newValidate(), newList(), newSchema(), newEviction(),
		newClusters(), newImage(), newSetup(), newTeardown(),
	)
	return root
}

// usage makes an error about arguments bad input, with the way to help.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if !cmd.HasParent() && len(args) > 0 { // the root itself takes none
			var names []string
			for _, c := range cmd.Commands() {
				if c.IsAvailableCommand() {
					names = append(names, c.Name())
				}
			}
			return badInput(fmt.Errorf("unknown command %q%s", args[0], scenarios.Suggest(args[0], names)))
		}
		if err := check(cmd, args); err != nil {
			return badInput(fmt.Errorf("%w; usage: %s", err, strings.TrimSpace(cmd.UseLine())))
		}
		return nil
	}
}

// sayOf shows progress, beside the results.
func sayOf(cmd *cobra.Command) func(format string, args ...any) {
	return func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	c.AddCommand(commands...)
	var names []string
	for _, sub := range commands {
		names = append(names, sub.Name())
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return badInput(fmt.Errorf("%s needs one of: %s", cmd.CommandPath(), strings.Join(names, ", ")))
		}
		return badInput(fmt.Errorf("unknown command %q%s", cmd.CommandPath()+" "+args[0], scenarios.Suggest(args[0], names)))
	}
	c.Args = cobra.ArbitraryArgs
	return c
}

// version is the module's version and the revision it was built from.
func version() string {
	v := "devel"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		v = info.Main.Version
	}
	return v + " (" + revision + ")"
}
