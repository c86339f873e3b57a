package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gameday/clusters/upgrade"
	"gameday/faults"
	"gameday/harness/plan"
	"gameday/harness/slo"
	"gameday/scenarios"
)

func newList() *cobra.Command {
	list := func(what, short string, do func(w io.Writer) error) *cobra.Command {
		return &cobra.Command{
			Use: what, Short: short, Args: usage(cobra.NoArgs),
			RunE: func(cmd *cobra.Command, _ []string) error { return do(cmd.OutOrStdout()) },
		}
	}
	return group("list", "List what there is: faults, SLOs, scenarios, strategies",
		list("faults", "What can be broken, how, with which parameters, and what undoes it", listFaults),
		list("slos", "What can be promised, with the defaults and where they come from", listSLOs),
		list("scenarios", "The scenarios that come with gameday", listScenarios),
		list("strategies", "The ways to upgrade", listStrategies),
	)
}

// entry prints a name, its sentence, and what else is known of it.
func entry(w io.Writer, name, doc string, more ...[2]string) {
	fmt.Fprintf(w, "%s\n    %s\n", name, doc)
	for _, m := range more {
		if m[1] != "" {
			fmt.Fprintf(w, "    %-11s %s\n", m[0], m[1])
		}
	}
}

func listFaults(w io.Writer) error {
	for _, k := range faults.Catalogue() {
		with, err := params(k.New())
		if err != nil {
			return fmt.Errorf("parameters of %s: %w", k.Name, err)
		}
		var roles []string
		for _, r := range k.Roles {
			roles = append(roles, string(r))
		}
		var cost []string
		for _, c := range []struct {
			n    int
			what string
		}{{k.Cost.EtcdMembers, "etcd member"}, {k.Cost.APIServers, "API server"}, {k.Cost.Nodes, "node"},
			{k.Cost.Kubelets, "node's kubelet"}, {k.Cost.LoadBalancers, "load balancer, and all API servers with it"}} {
			if c.n > 0 {
				cost = append(cost, fmt.Sprintf("%d %s", c.n, c.what))
			}
		}
		if k.Cost.InTurn {
			cost = append(cost, "one target at a time")
		}
		if len(cost) == 0 {
			cost = []string{"nothing from the fault budget"}
		}
		length := ""
		if k.Instant {
			length = "none of its own: the cluster repairs it, so a scenario gives no end"
		}
		entry(w, k.Name, k.Doc, [2]string{"rehearses", k.Rehearses}, [2]string{"with", with},
			[2]string{"targets", strings.Join(roles, ", ")}, [2]string{"takes", strings.Join(cost, ", ")},
			[2]string{"length", length}, [2]string{"mechanism", k.Mechanism}, [2]string{"undo", k.Undo})
	}
	return nil
}

func listSLOs(w io.Writer) error {
	for _, k := range slo.Catalogue() {
		with, err := params(k.New())
		if err != nil {
			return fmt.Errorf("parameters of %s: %w", k.Name, err)
		}
		entry(w, k.Name, k.Doc, [2]string{"with", with}, [2]string{"source", k.Source})
	}
	return nil
}

func listScenarios(w io.Writer) error {
	library, err := scenarios.Library()
	if err != nil {
		return err
	}
	for _, e := range library {
		s, err := scenarios.Load(e.Data, e.File, plan.Known())
		if err != nil {
			return err
		}
		entry(w, s.Name, s.Description)
	}
	return nil
}

func listStrategies(w io.Writer) error {
	for _, k := range upgrade.Catalogue() {
		entry(w, k.Name, k.Doc)
	}
	return nil
}

// params are the parameters with their defaults.
func params(with any) (string, error) {
	all, err := scenarios.Params(with)
	if err != nil {
		return "", err
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, fmt.Sprintf("%s: %v", name, all[name]))
	}
	return strings.Join(out, ", "), nil
}
