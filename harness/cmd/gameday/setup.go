package main

import (
	"errors"
	"fmt"

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
			say := func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }
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
	return &cobra.Command{
		Use:   "teardown",
		Short: "Leave nothing behind: heal, delete every cluster of gameday, stop the Docker engine it started",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := heal(cmd.Context(), cmd)
			for _, p := range providers() {
				provider := p.open()
				if _, ierr := docker.Inspect(cmd.Context()); ierr != nil {
					continue // no engine, no clusters
				}
				found, lerr := provider.List(cmd.Context())
				err = errors.Join(err, lerr)
				for _, f := range found {
					err = errors.Join(err, provider.Delete(cmd.Context(), f.Name))
				}
			}
			return errors.Join(err, docker.StopOurs(cmd.Context()))
		},
	}
}
