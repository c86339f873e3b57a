package main

import (
	"errors"

	"github.com/spf13/cobra"

	"gameday/clusters/docker"
	"gameday/clusters/nodeimage"
)

func newSetup() *cobra.Command {
	var versions []string
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Make this machine ready: Docker, and the node images of the given versions",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			say := sayOf(cmd)
			if _, err := docker.Ensure(cmd.Context(), say); err != nil {
				return err
			}
			for _, v := range versions {
				if _, err := nodeimage.Ensure(cmd.Context(), nodeimage.Spec{Version: v}, say); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&versions, "kubernetes", nil, "version of a node image to have ready; may be given again")
	return cmd
}

func newTeardown() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "teardown",
		Short: "Leave nothing behind: heal, delete every cluster of gameday, stop the Docker engine it started",
		Long: `Heals, deletes every cluster of gameday, and stops the Docker engine that gameday
started. The cluster of a run that is alive is left alone, and so is the engine then,
unless --force is given.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, say := cmd.Context(), sayOf(cmd)
			healed := heal(ctx, cmd)
			if healed != nil {
				say("%v", healed)
			}
			left, err := deleteAll(cmd, force)
			if healed != nil {
				// What sticks in a cluster is gone with it: what counts is what is
				// left now.
				err = errors.Join(err, heal(ctx, cmd))
			}
			if left > 0 {
				return err // the engine is needed still
			}
			return errors.Join(err, docker.StopOurs(ctx))
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also the clusters of runs that are alive, which then fail")
	return cmd
}

// deleteAll deletes every cluster, and returns how many are left because a run uses
// them.
func deleteAll(cmd *cobra.Command, force bool) (left int, err error) {
	found, asked := allClusters(cmd)
	if docker.Absent(asked) {
		asked = nil // where no engine is, no cluster of it is
	}
	found, used, err := unused(found, force)
	err = errors.Join(asked, err)
	for _, u := range used {
		sayOf(cmd)("%s; it is left alone, --force deletes it", u)
	}
	return len(used), errors.Join(err, deleteClusters(cmd, found))
}
