package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"gameday/clusters"
	"gameday/clusters/preflight"
)

func newPreflight() *cobra.Command {
	var to, kubeconfig, cluster, output, since string
	var src preflight.Source
	cmd := &cobra.Command{
		Use:   "preflight --to VERSION",
		Short: "Say what stands in the way of an upgrade, before it is begun; change nothing",
		Long: `Looks at a cluster, and at manifests and audit logs that are given as files, and
prints one finding a line: its severity, what and where, the version that removes it,
the mend.

  blocks   the upgrade is refused, fails, or breaks who uses the cluster
  unknown  it could not be looked at, so nothing can be said
  warns    it can go wrong, or will in a later upgrade
  note     to be known

Of a cluster that gameday made (--cluster) the nodes are looked at too; of another
(--kubeconfig) only what its API gives. Nothing is changed.

Exit codes: 0 nothing blocks; 1 something blocks; 2 nothing blocks of what could be
looked at; 4 bad input; 5 gameday itself failed.`,
		Example: `  gameday preflight --to v1.37.0 --kubeconfig ~/.kube/config --manifests ./deploy
  gameday preflight --to v1.37.0 --cluster gd-x --since 1h -o json
  gameday preflight --to v1.37.0 --manifests ./deploy   # files alone`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := preflight.CheckTarget(to)
			switch {
			case err != nil:
				return badInput(fmt.Errorf("--to: %w", err))
			case kubeconfig != "" && cluster != "":
				return badInput(errors.New("give --kubeconfig or --cluster, not both"))
			case kubeconfig == "" && cluster == "" && len(src.Manifests)+len(src.AuditLogs) == 0:
				return badInput(errors.New("there is nothing to look at: give --kubeconfig, --cluster, --manifests or --audit-log"))
			case output != "text" && output != "json":
				return badInput(fmt.Errorf("-o %q is neither text nor json", output))
			}
			if src.Since, err = instant(since, time.Now()); err != nil {
				return badInput(fmt.Errorf("--since: %w", err))
			}
			if kubeconfig != "" {
				if src.Config, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
					return badInput(fmt.Errorf("--kubeconfig: %w", err))
				}
			}
			if cluster != "" {
				if src.Cluster, err = openNamed(cmd, cluster); err != nil {
					return err
				}
				src.Config = src.Cluster.REST()
			}
			facts, err := preflight.Collect(cmd.Context(), to, src)
			if ended := cmd.Context().Err(); ended != nil {
				return &exit{codeInconclusive, fmt.Errorf("the look was interrupted: %w", ended)}
			}
			if err != nil {
				return badInput(err)
			}
			r := preflight.Judge(facts)
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetEscapeHTML(false)
				enc.SetIndent("", "  ")
				err = enc.Encode(r)
			} else {
				err = r.Write(cmd.OutOrStdout())
			}
			if err != nil {
				return fmt.Errorf("write the findings: %w", err)
			}
			switch {
			case r.Count(preflight.Blocks) > 0:
				return verdict(codeFail)
			case r.Count(preflight.Unknown) > 0:
				return verdict(codeInconclusive)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "target version, v1.X.Y (required)")
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "file with the way to the cluster; its current context is taken")
	cmd.Flags().StringVar(&cluster, "cluster", "", "name of a cluster that gameday made")
	cmd.Flags().StringArrayVar(&src.Manifests, "manifests", nil, "file, or folder with .yaml, .yml and .json files; may be given again")
	cmd.Flags().StringArrayVar(&src.AuditLogs, "audit-log", nil, "audit log of an API server, JSON lines, .gz too; may be given again")
	cmd.Flags().StringVar(&since, "since", "", "leave out audit-logged requests before: a length (1h) or a time (RFC 3339)")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, or json for programs")
	return cmd
}

// instant is a point in time, or a length before now; empty is the zero time.
func instant(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a length (1h) nor a time (2006-01-02T15:04:05Z)", s)
	}
	return t, nil
}

// openNamed finds a cluster that gameday made, with whatever provider.
func openNamed(cmd *cobra.Command, name string) (clusters.Cluster, error) {
	there, asked := allClusters(cmd)
	found, err := named(there, []string{name})
	if err != nil && asked != nil {
		return nil, asked // it may be one of those who could not be asked
	}
	if err != nil {
		return nil, badInput(err)
	}
	p, err := findProvider(found[0].Provider)
	if err != nil {
		return nil, err
	}
	return p.Open().Open(cmd.Context(), name)
}
