package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gameday/clusters"
	"gameday/clusters/docker"
)

func newClusters() *cobra.Command {
	return group("clusters", "List and delete the clusters that gameday made; they are found by their label",
		newClustersList(), newClustersDelete())
}

func newClustersList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List every cluster that gameday made",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := allClusters(cmd)
			if err != nil {
				return err
			}
			if len(found) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "no clusters")
				return nil
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tRUN\tPROVIDER\tVERSION\tNODES\tAGE")
			for _, f := range found {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", f.Name, f.Run, f.Provider, f.Version, f.Nodes, time.Since(f.Created).Round(time.Second))
			}
			return w.Flush()
		},
	}
}

func newClustersDelete() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete clusters that gameday made, and all that was made with them",
		Args: usage(func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return errors.New("give names, or --all")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := allClusters(cmd)
			if err != nil {
				return err
			}
			by := map[string]clusters.Found{}
			for _, f := range found {
				by[f.Name] = f
				if all {
					args = append(args, f.Name)
				}
			}
			var errs []error
			for _, name := range args {
				f, ok := by[name]
				if !ok {
					errs = append(errs, badInput(fmt.Errorf("there is no cluster %s that gameday made; gameday clusters list shows them", name)))
					continue
				}
				p, err := findProvider(f.Provider)
				if err == nil {
					err = p.open().Delete(cmd.Context(), name)
				}
				if err != nil {
					errs = append(errs, fmt.Errorf("delete %s: %w", name, err))
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "deleted %s\n", name)
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every cluster that gameday made")
	return cmd
}

// allClusters are those of all providers.
func allClusters(cmd *cobra.Command) ([]clusters.Found, error) {
	if _, err := docker.Inspect(cmd.Context()); err != nil {
		return nil, fmt.Errorf("look for clusters: %w", err)
	}
	var out []clusters.Found
	for _, p := range providers() {
		found, err := p.open().List(cmd.Context())
		if err != nil {
			return nil, fmt.Errorf("list the clusters of %s: %w", p.name, err)
		}
		out = append(out, found...)
	}
	return out, nil
}
