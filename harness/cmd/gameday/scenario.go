package main

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/spf13/cobra"

	"gameday/clusters"
	"gameday/clusters/kind"
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

// provider is a way to get clusters.
type provider struct {
	name string
	// capabilities are what its nodes can do, known before there are any.
	capabilities map[clusters.Role][]clusters.Capability
	open         func() clusters.Provider
}

// providers lists them; the first is the default.
func providers() []provider {
	return []provider{{
		name: "kind", capabilities: run.Capabilities("kind"),
		open: func() clusters.Provider { return kind.New() },
	}}
}

func providerNames() []string {
	var out []string
	for _, p := range providers() {
		out = append(out, p.name)
	}
	return out
}

// findProvider finds a provider by name.
func findProvider(name string) (provider, error) {
	for _, p := range providers() {
		if p.name == name {
			return p, nil
		}
	}
	return provider{}, badInput(fmt.Errorf("unknown provider %q%s", name, scenarios.Suggest(name, providerNames())))
}

// planning are the flags of every command that plans.
type planning struct {
	seed     uint64
	provider string
}

func (p *planning) flags(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&p.seed, "seed", 0, "replays a plan's draws; 0 draws a seed and prints it")
	cmd.Flags().StringVar(&p.provider, "provider", providerNames()[0], "where clusters come from: "+strings.Join(providerNames(), ", "))
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
	for p.seed == 0 {
		p.seed = rand.Uint64N(100_000) // short enough to be read out
	}
	facts := plan.Facts{Provider: from.name, Capabilities: from.capabilities, Known: plan.Known()}
	if s, err = plan.Draw(s, p.seed, facts); err != nil {
		return nil, nil, err
	}
	made, err := plan.Make(s, p.seed, facts)
	return s, made, err
}
