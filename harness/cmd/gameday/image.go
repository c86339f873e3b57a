package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/semver"

	"gameday/clusters/docker"
	"gameday/clusters/nodeimage"
)

func newImage() *cobra.Command {
	return group("image", "Get or build node images", newImageBuild())
}

func newImageBuild() *cobra.Command {
	var kubernetes string
	var replace replaces
	cmd := &cobra.Command{
		Use:   "build --kubernetes VERSION",
		Short: "Make sure that the node image of a Kubernetes version is in Docker; pull it, else build it; print its name",
		Example: `  gameday image build --kubernetes v1.37.0
  gameday image build --kubernetes v1.37.0 --replace k8s.io/kubernetes=../kubernetes`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !semver.IsValid(kubernetes) || semver.Canonical(kubernetes) != kubernetes {
				return badInput(fmt.Errorf("--kubernetes %q is not a version of the form v1.X.Y", kubernetes))
			}
			began := time.Now()
			say := func(format string, args ...any) {
				fmt.Fprintf(cmd.ErrOrStderr(), "%6s  %s\n", time.Since(began).Round(time.Second), fmt.Sprintf(format, args...))
			}
			// Docker stays: the image is in it.
			if _, err := docker.Ensure(cmd.Context(), say); err != nil {
				return err
			}
			image, err := nodeimage.Ensure(cmd.Context(), nodeimage.Spec{Version: kubernetes, Replace: replace}, say)
			if err != nil {
				return err
			}
			say("%s: %s, etcd %s, CoreDNS %s, pause %s", image.Source, image.Version, image.Etcd, image.CoreDNS, image.Pause)
			fmt.Fprintln(cmd.OutOrStdout(), image.Ref)
			return nil
		},
	}
	cmd.Flags().StringVar(&kubernetes, "kubernetes", "", "version, v1.X.Y (required)")
	replace.flag(cmd)
	return cmd
}

// replaces is the flag --replace MODULE=DIR.
type replaces map[string]string

// flag adds it to a command.
func (r *replaces) flag(cmd *cobra.Command) {
	cmd.Flags().Var(r, "replace", "MODULE=DIR: put a patched module tree under test, as Go's own replace; may be given again")
}

func (r *replaces) String() string {
	var out []string
	for m, d := range *r {
		out = append(out, m+"="+d)
	}
	return strings.Join(out, ",")
}

func (*replaces) Type() string { return "MODULE=DIR" }

func (r *replaces) Set(s string) error {
	module, dir, ok := strings.Cut(s, "=")
	if !ok || module == "" || dir == "" {
		return fmt.Errorf("%q is not MODULE=DIR", s)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return fmt.Errorf("%s is no module: %w", dir, err)
	}
	if *r == nil {
		*r = replaces{}
	}
	if other, ok := (*r)[module]; ok {
		return fmt.Errorf("%s is replaced twice, by %s and %s", module, other, dir)
	}
	(*r)[module] = dir
	return nil
}
