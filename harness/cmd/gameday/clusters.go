package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gameday/clusters"
	"gameday/harness/run"
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
			found, asked := allClusters(cmd)
			if len(found) == 0 {
				if asked == nil {
					fmt.Fprintln(cmd.ErrOrStderr(), "no clusters")
				}
				return asked
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tRUN\tPROVIDER\tVERSION\tNODES\tAGE")
			for _, f := range found {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", f.Name, f.Run, f.Provider, f.Version, f.Nodes, time.Since(f.Created).Round(time.Second))
			}
			return errors.Join(w.Flush(), asked)
		},
	}
}

func newClustersDelete() *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete clusters that gameday made, and all that was made with them",
		Long: `Deletes the clusters, once it is sure of all of them: if one that is named is not
there, or belongs to a run that is alive, nothing is deleted. With --all those of
runs that are alive are left alone.`,
		Args: usage(func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return errors.New("give names, or --all")
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all {
				_, err := deleteAll(cmd, force)
				return err
			}
			there, asked := allClusters(cmd)
			found, err := named(there, args)
			if err != nil && asked != nil {
				return asked // it may be one of those who could not be asked
			}
			if err != nil {
				return badInput(err)
			}
			found, used, err := unused(found, force)
			if err != nil {
				return err
			}
			if len(used) > 0 {
				return badInput(fmt.Errorf("%s; nothing was deleted, --force deletes them all", strings.Join(used, "; ")))
			}
			return deleteClusters(cmd, found)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every cluster that gameday made")
	cmd.Flags().BoolVar(&force, "force", false, "also those of runs that are alive, which then fail")
	return cmd
}

// named picks clusters by name. The error tells all names that there are not.
func named(there []clusters.Found, names []string) ([]clusters.Found, error) {
	var out []clusters.Found
	var errs []error
	for _, name := range names {
		i := slices.IndexFunc(there, func(f clusters.Found) bool { return f.Name == name })
		switch {
		case i < 0:
			errs = append(errs, fmt.Errorf("there is no cluster %s that gameday made; gameday clusters list shows them", name))
		case !slices.ContainsFunc(out, func(f clusters.Found) bool { return f.Name == name }):
			out = append(out, there[i])
		}
	}
	return out, errors.Join(errs...)
}

// unused are the clusters that no run uses, or all with force; used says who uses
// the others. One of which that cannot be told is left out, with an error.
func unused(found []clusters.Found, force bool) (free []clusters.Found, used []string, err error) {
	var errs []error
	for _, f := range found {
		who, err := run.Live(f.Name)
		switch {
		case force:
			free = append(free, f)
		case err != nil:
			errs = append(errs, fmt.Errorf("cluster %s: %w", f.Name, err))
		case who != "":
			used = append(used, fmt.Sprintf("cluster %s is used by %s", f.Name, who))
		default:
			free = append(free, f)
		}
	}
	return free, used, errors.Join(errs...)
}

func deleteClusters(cmd *cobra.Command, found []clusters.Found) error {
	var errs []error
	for _, f := range found {
		p, err := findProvider(f.Provider)
		if err == nil {
			err = p.Open().Delete(cmd.Context(), f.Name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("delete %s: %w", f.Name, err))
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "deleted %s\n", f.Name)
	}
	return errors.Join(errs...)
}

// allClusters are those of all providers, with an error those of whom could be asked.
func allClusters(cmd *cobra.Command) ([]clusters.Found, error) {
	var out []clusters.Found
	var errs []error
	for _, p := range run.Providers() {
		err := asked(cmd.Context(), p)
		var found []clusters.Found
		if err == nil {
			found, err = p.Open().List(cmd.Context())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("list the clusters of %s: %w", p.Name, err))
		}
		out = append(out, found...)
	}
	return out, errors.Join(errs...)
}

// asked says why a provider cannot be asked for its clusters.
func asked(ctx context.Context, p run.Provider) error {
	if !p.Docker {
		return nil
	}
	if err := askDocker(ctx); err != nil {
		return fmt.Errorf("look for clusters: %w", err)
	}
	return nil
}
