package main

import (
	"strings"

	"github.com/spf13/cobra"

	"gameday/harness/plan"
	"gameday/harness/run"
	"gameday/scenarios"
)

// readScenario loads a scenario: a name in the library, or the path of a file.
func readScenario(arg string) (*scenarios.Scenario, error) {
	s, err := run.Load(arg)
	return s, badInput(err)
}

// libraryNames completes the name of a scenario.
func libraryNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	library, err := scenarios.Library()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for _, e := range library {
		out = append(out, e.Name)
	}
	return out, cobra.ShellCompDirectiveDefault
}

// findProvider finds a provider by name.
func findProvider(name string) (run.Provider, error) {
	p, err := run.ProviderByName(name)
	return p, badInput(err)
}

// providerFlag adds --provider.
func providerFlag(cmd *cobra.Command, to *string) {
	names := run.ProviderNames()
	cmd.Flags().StringVar(to, "provider", names[0], "where clusters come from: "+strings.Join(names, ", "))
}

// planning are the flags of every command that plans.
type planning struct {
	seed     uint64
	provider string
}

func (p *planning) flags(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&p.seed, "seed", 0, "replays a plan's draws; 0 draws a seed and prints it")
	providerFlag(cmd, &p.provider)
}

// make loads a scenario, draws its faults if they are random, and plans it.
// Nothing is touched.
func (p *planning) make(arg string) (*scenarios.Scenario, *plan.Plan, error) {
	from, err := findProvider(p.provider)
	if err != nil {
		return nil, nil, err
	}
	s, err := readScenario(arg)
	if err != nil {
		return nil, nil, err
	}
	p.seed = run.Seed(p.seed)
	facts := plan.Facts{Provider: from.Name, Capabilities: from.Capabilities, Known: plan.Known()}
	if s, err = plan.Draw(s, p.seed, facts); err != nil {
		return nil, nil, err
	}
	made, err := plan.Make(s, p.seed, facts)
	return s, made, err
}
