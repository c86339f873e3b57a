package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gameday/clusters"
	"gameday/harness/gate"
	"gameday/harness/load"
	"gameday/harness/plan"
	pages "gameday/harness/report"
	"gameday/harness/run"
	"gameday/harness/slo"
	"gameday/scenarios"
)

func newLoad() *cobra.Command {
	return group("load", "Ask more and more of a cluster, until it does not keep up", newLoadCron())
}

// loading are the flags of load cron.
type loading struct {
	load.Config
	job           run.Job
	version       string
	planes, nodes int
	replace       replaces
}

func newLoadCron() *cobra.Command {
	var flags loading
	cmd := &cobra.Command{
		Use:   "cron --rate N,N,...",
		Short: "Raise CronJobs a minute until their starts are too late; find the knee and what was saturated",
		Long: `Makes a cluster (or takes one by name) and raises the number of CronJobs a minute,
step by step, until the 99th percentile of their start latency breaks its budget. It
says between which rates the knee is, and what was saturated there: from the pods'
own times, the CPU of the machine and its components, and what the API servers
refused; "not known" if that does not tell.

It leaves a run's folder with its record, and load.html and load.json in it. The
verdict.json there is about the CronJobs' promise, which the last step is to break;
the exit code is about the question: 0 if the knee was found or all rates were held,
2 if that cannot be told. All that was made is deleted.`,
		Example: `  gameday load cron --rate 10,20,40,80
  gameday load cron --rate 100,200,400 --step 3m --cluster my-cluster`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.run(cmd) },
	}
	f := cmd.Flags()
	f.IntSliceVar(&flags.Rates, "rate", nil, "CronJobs a minute of each step, rising")
	f.DurationVar(&flags.Step, "step", time.Minute, "how long each rate is held: whole minutes")
	f.DurationVar(&flags.Budget, "p99", time.Minute, "what the 99th percentile of the start latency may be (default as that of cron.start-latency)")
	f.StringVar(&flags.job.Cluster, "cluster", "", "use this cluster of gameday's, and leave it as it was; default: one is made and deleted")
	f.StringVar(&flags.version, "kubernetes", "v1.37.0", "version of the cluster that is made")
	f.IntVar(&flags.planes, "control-planes", 1, "of the cluster that is made")
	f.IntVar(&flags.nodes, "workers", 2, "of the cluster that is made")
	f.StringVar(&flags.job.Runs, "runs", "runs", "folder that runs are kept in")
	providerFlag(cmd, &flags.job.Provider)
	flags.replace.flag(cmd)
	return cmd
}

func (l *loading) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	if err := l.Validate(); err != nil {
		return badInput(fmt.Errorf("--rate, --step, --p99: %w", err))
	}
	if l.job.Cluster != "" {
		if err := l.found(ctx); err != nil {
			return err
		}
	}
	s, err := scenarios.Load([]byte(load.Scenario(l.Config, l.version, l.planes, l.nodes)), "load cron", plan.Known())
	if err != nil {
		return badInput(err)
	}
	status := cmd.ErrOrStderr()
	l.job.Scenario, l.job.Replace, l.job.Gameday, l.job.Command = s.Name, l.replace, version(), "gameday"
	l.job.Terminal = pages.NewTerminal(status, status == os.Stderr && term.IsTerminal(int(os.Stderr.Fd())))
	cfg, err := run.ConfigureWith(ctx, l.job, s)
	if errors.Is(err, run.ErrInput) {
		return badInput(err)
	}
	if err != nil {
		return err
	}
	cfg.Rerun = l.again()
	cfg.Body = load.New(l.Config)
	res, err := run.Run(ctx, cfg)
	if err != nil {
		return err
	}
	doc, err := load.Write(res.Dir, l.Budget)
	if err != nil {
		return err
	}
	if err := doc.Text(cmd.OutOrStdout()); err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(res.Dir, "load.html"))
	if l.job.Cluster != "" {
		if err := l.empty(ctx, cfg.ID); err != nil {
			return err
		}
	}
	switch c := res.Document.ExitCode; {
	case c == codeHarness:
		return &exit{c, errors.New(res.Document.Reason)}
	case doc.Verdict != slo.Pass:
		return verdict(codeInconclusive)
	}
	return nil
}

// again is the command that does the same once more.
func (l *loading) again() string {
	var rates []string
	for _, r := range l.Rates {
		rates = append(rates, fmt.Sprint(r))
	}
	out := fmt.Sprintf("gameday load cron --rate=%s --step=%s --p99=%s --provider=%s", strings.Join(rates, ","), l.Step, l.Budget, l.job.Provider)
	if l.job.Cluster != "" {
		return out + " --cluster=" + l.job.Cluster
	}
	return out + fmt.Sprintf(" --kubernetes=%s --control-planes=%d --workers=%d", l.version, l.planes, l.nodes)
}

// found takes version and size from the cluster that is there.
func (l *loading) found(ctx context.Context) error {
	from, err := findProvider(l.job.Provider)
	if err != nil {
		return err
	}
	list, err := from.Open().List(ctx)
	if err != nil {
		return err
	}
	for _, f := range list {
		if f.Name != l.job.Cluster {
			continue
		}
		c, err := from.Open().Open(ctx, f.Name)
		if err != nil {
			return err
		}
		l.version = f.Version
		l.planes, l.nodes = len(clusters.ByRole(c.Nodes(), clusters.ControlPlane)), len(clusters.ByRole(c.Nodes(), clusters.Worker))
		return nil
	}
	return badInput(fmt.Errorf("there is no cluster %q: gameday clusters list", l.job.Cluster))
}

// goneWithin bounds how long namespaces may take to be gone, with all Jobs and pods
// of the load in them.
const goneWithin = 10 * time.Minute

// empty waits until nothing of the run is left in a cluster that stays.
func (l *loading) empty(ctx context.Context, id string) error {
	c, err := run.OpenCluster(ctx, l.job.Provider, l.job.Cluster)
	if err != nil {
		return err
	}
	client, err := gate.Client(c)
	if err != nil {
		return err
	}
	return gate.Wait(ctx, "what the run made to be gone", goneWithin, func(ctx context.Context) string {
		left, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: clusters.LabelRun + "=" + id})
		if err != nil {
			return err.Error()
		}
		if n := len(left.Items); n > 0 {
			return fmt.Sprintf("%d namespaces are left, such as %s", n, left.Items[0].Name)
		}
		return ""
	})
}
