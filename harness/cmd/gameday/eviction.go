package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"gameday/harness/eviction"
)

func newEviction() *cobra.Command {
	return group("eviction", "Say what the node controller does when nodes fall silent, and try it", newEvictionExplain(), newEvictionRun())
}

func newEvictionExplain() *cobra.Command {
	var settings, cut string
	var length time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain --settings FILE --cut NODES [--for LENGTH]",
		Short: "Say which nodes are tainted and which pods deleted, when, and which setting would prevent it; touch nothing",
		Long: `Says what the settings of a cluster make of a partition: when nodes become
Unknown, which are tainted and when, which pods are deleted, when, and which must
not be, as earliest to latest; how long the cut may be without harm; and single
settings that would prevent it. Nothing is touched and no cluster is needed.

The settings file holds what differs from Kubernetes' defaults:

  version: v1.36.4
  controllerManager: {nodeMonitorGracePeriod: 40s, nodeEvictionRate: 0.1}
  apiServer: {defaultUnreachableTolerationSeconds: 300}
  kubelet: {nodeLeaseDurationSeconds: 40}
  zones: [{name: a, nodes: 5}, {name: b, nodes: 5}]
  pods: [{owner: Deployment, perNode: 10}, {owner: StatefulSet, perNode: 1, tolerationSeconds: 60}]`,
		Example: `  gameday eviction explain --settings cluster.yaml --cut 3/10 --for 6m
  gameday eviction explain --settings zones.yaml --cut a:all,b:1 --json`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if settings == "" || cut == "" {
				return badInput(fmt.Errorf("--settings and --cut are needed; usage: %s", cmd.UseLine()))
			}
			if length < 0 {
				return badInput(fmt.Errorf("--for %s is negative", length))
			}
			data, err := os.ReadFile(settings)
			if err != nil {
				return badInput(fmt.Errorf("read the settings: %w", err))
			}
			f, err := eviction.LoadFile(data, settings)
			if err != nil {
				return err
			}
			e, err := eviction.Explain(f, cut, length)
			if err != nil {
				return badInput(err)
			}
			text := []byte(e.String())
			if asJSON {
				if text, err = e.JSON(); err != nil {
					return err
				}
			}
			if _, err := cmd.OutOrStdout().Write(text); err != nil {
				return fmt.Errorf("write the explanation: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&settings, "settings", "", "file with the settings that differ from the defaults")
	cmd.Flags().StringVar(&cut, "cut", "", "which nodes: 3/10, or of the zones that the file names a:3,b:all, or all")
	cmd.Flags().DurationVar(&length, "for", 0, "how long they are cut off; 0 is for good")
	cmd.Flags().BoolVar(&asJSON, "json", false, "for programs")
	return cmd
}
