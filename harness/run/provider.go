package run

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"gameday/clusters"
	"gameday/clusters/kind"
	"gameday/clusters/local"
	"gameday/scenarios"
)

// Provider is a way to get clusters.
type Provider struct {
	// Name as in --provider.
	Name string
	// Capabilities are what its nodes can most likely do, known before there are
	// any: all who plan take them from here, so that all plan the same. For sure
	// each fault looks when it is injected.
	Capabilities map[clusters.Role][]clusters.Capability
	// Docker says that its clusters are made of containers and images.
	Docker bool
	Open   func() clusters.Provider
}

// Providers lists them all; the first is the default.
func Providers() []Provider {
	all := []clusters.Capability{
		clusters.CapExec, clusters.CapFiles, clusters.CapProcesses, clusters.CapNetwork, clusters.CapCgroup, clusters.CapPower, clusters.CapKubelet,
	}
	controlPlane := all
	if kind.OffersDisks() == nil {
		controlPlane = append(slices.Clone(all), clusters.CapDisk)
	}
	return []Provider{{
		Name: kind.New().Name(),
		Capabilities: map[clusters.Role][]clusters.Capability{
			clusters.ControlPlane: controlPlane, clusters.Worker: all, clusters.LoadBalancer: all,
		},
		Docker: true,
		Open:   func() clusters.Provider { return kind.New() },
	}, {
		Name: local.New().Name(),
		Capabilities: map[clusters.Role][]clusters.Capability{
			clusters.ControlPlane: {
				clusters.CapExec, clusters.CapFiles, clusters.CapProcesses, clusters.CapNetwork, clusters.CapCgroup, clusters.CapPower, clusters.CapComponents,
			},
			clusters.Worker:       {clusters.CapComponents},
			clusters.LoadBalancer: {clusters.CapNetwork, clusters.CapCgroup, clusters.CapPower},
		},
		Open: func() clusters.Provider { return local.New() },
	}}
}

// ProviderNames are the names of all providers.
func ProviderNames() []string {
	var out []string
	for _, p := range Providers() {
		out = append(out, p.Name)
	}
	return out
}

// ProviderByName finds a provider.
func ProviderByName(name string) (Provider, error) {
	for _, p := range Providers() {
		if p.Name == name {
			return p, nil
		}
	}
	return Provider{}, fmt.Errorf("unknown provider %q%s", name, scenarios.Suggest(name, ProviderNames()))
}

// OpenCluster finds a cluster again, for the guard and for healing.
func OpenCluster(ctx context.Context, provider, name string) (clusters.Cluster, error) {
	p, err := ProviderByName(provider)
	if err != nil {
		return nil, err
	}
	return p.Open().Open(ctx, name)
}

// Seed is the one that was given, or else (0) a new one, short enough to be read
// out.
func Seed(given uint64) uint64 {
	for given == 0 {
		given = rand.Uint64N(100_000)
	}
	return given
}
