package eviction

import (
	"context"
	"fmt"
	"os"
	"time"

	"gameday/clusters/local"
	"gameday/harness/eviction"
	"gameday/harness/eviction/matrix"
	"gameday/harness/slo"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// settings that make a cut a matter of seconds, on a machine that is seconds late.
const settings = `
version: v1.37.0
controllerManager: {nodeMonitorPeriod: 500ms, nodeMonitorGracePeriod: 8s, nodeEvictionRate: 0.5, kubeAPIQPS: 200, kubeAPIBurst: 400}
apiServer: {defaultUnreachableTolerationSeconds: 5}
kubelet: {nodeLeaseDurationSeconds: 4}
zones: [{name: a, nodes: 3, controlPlanes: 1}]
pods: [{owner: Deployment, perNode: 1}, {owner: DaemonSet, perNode: 1}]
`

// bound is for what takes seconds on a quiet machine.
const bound = 90 * time.Second

func say(format string, args ...any) { GinkgoWriter.Printf(format+"\n", args...) }

// load reads the settings, with something else in them.
func load(change func(*eviction.File)) matrix.Named {
	GinkgoHelper()
	f, err := eviction.LoadFile([]byte(settings), "settings")
	Expect(err).NotTo(HaveOccurred())
	if change != nil {
		change(&f)
	}
	return matrix.Named{Name: "suite", File: f}
}

// cellOf is a node that is cut off for so long that its pod is lost.
func cellOf(n matrix.Named) matrix.Cell {
	GinkgoHelper()
	cells, err := matrix.Cells(n, []matrix.Cut{matrix.One}, []matrix.Length{matrix.Above})
	Expect(err).NotTo(HaveOccurred())
	Expect(cells).To(HaveLen(1))
	Expect(cells[0].None).To(BeEmpty())
	return cells[0]
}

// rules that an outcome says are broken.
func rules(o matrix.Outcome) []eviction.Rule {
	var out []eviction.Rule
	for _, v := range o.Broken {
		out = append(out, v.Rule)
	}
	return out
}

var _ = Describe("A node that is cut off", Label("root"), func() {
	It("loses its pods as the settings say, and a settings file that lies is caught", func(ctx SpecContext) {
		honest := load(nil)
		c := create(ctx, honest, nil)

		By("cutting it off")
		cell := cellOf(honest)
		record := try(ctx, c, cell)
		AddReportEntry("late by", record.Late.String())

		By("judging it by what the controllers were given")
		truth := matrix.Judge(cell, record)
		Expect(truth.Verdict).To(Equal(slo.Pass), truth.Why)

		By("judging it by a settings file that lies")
		for _, lie := range []struct {
			change func(*eviction.File)
			rule   eviction.Rule
		}{
			{func(f *eviction.File) { f.ControllerManager.NodeMonitorGracePeriod *= 2 }, eviction.RuleGrace},
			{func(f *eviction.File) { f.APIServer.DefaultUnreachableTolerationSeconds = 20 }, eviction.RuleToleration},
			{func(f *eviction.File) { f.Pods[0].Forever = true }, eviction.RuleToleration},
		} {
			o := matrix.Judge(cellOf(load(lie.change)), record)
			Expect(o.Verdict).To(Equal(slo.Fail), o.Why)
			Expect(rules(o)).To(ContainElement(lie.rule), o.Why)
		}
	}, SpecTimeout(4*time.Minute))
})

// create makes the cluster that settings describe, or one that is given something
// else than they say.
func create(ctx context.Context, n matrix.Named, lie func(*local.Settings)) *local.Cluster {
	GinkgoHelper()
	spec, given, err := matrix.Given(n.File)
	Expect(err).NotTo(HaveOccurred())
	if lie != nil {
		lie(&given)
	}
	spec.Name, spec.Run = fmt.Sprintf("gds-eviction-%d", os.Getpid()), "suite"
	DeferCleanup(func(ctx SpecContext) { Expect(local.New().Delete(ctx, spec.Name)).To(Succeed()) }, NodeTimeout(bound))
	c, err := local.New().CreateWith(ctx, spec, given, say)
	Expect(err).NotTo(HaveOccurred())
	return c
}

// try cuts the nodes of a cell off.
func try(ctx context.Context, c *local.Cluster, cell matrix.Cell) matrix.Record {
	GinkgoHelper()
	t, err := matrix.NewTrial(ctx, c, cell.Settings.File)
	Expect(err).NotTo(HaveOccurred())
	defer t.Close()
	r := t.Try(ctx, cell)
	Expect(r.Doubts).To(BeEmpty())
	return r
}
