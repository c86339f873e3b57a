package main

import (
	"github.com/spf13/cobra"

	"gameday/harness/selfcheck"
	"gameday/harness/slo"
)

func newSelfCheck() *cobra.Command {
	var quick bool
	cmd := &cobra.Command{
		Use:   "selfcheck",
		Short: "Make outages of known kind and length on this machine, and see whether the samplers see them",
		Long: `Makes outages of known kind (refused, reset, black-holed, slow) and length on an
endpoint of its own on 127.0.0.1, before every series that a run samples, with the
samplers and the outage finder of a run, and prints what was asked, made and seen.

Exit code 0: each was seen as what it was, and none where none was made; 1: one was
not; 2: the machine was too busy to say.

Every run does the quick form before it begins.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			trials := selfcheck.Full()
			if quick {
				trials = selfcheck.Quick()
			}
			c := selfcheck.Run(cmd.Context(), trials)
			if err := selfcheck.Table(cmd.OutOrStdout(), c); err != nil {
				return err
			}
			switch slo.Verdict(c.Verdict) {
			case slo.Pass:
				return nil
			case slo.Fail:
				return verdict(codeFail)
			}
			return verdict(codeInconclusive)
		},
	}
	cmd.Flags().BoolVar(&quick, "quick", false, "only what every run does before it begins")
	return cmd
}
