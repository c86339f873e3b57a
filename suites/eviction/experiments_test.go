package eviction

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gameday/clusters"
	"gameday/clusters/local"
	"gameday/faults/mechanism/process"
	"gameday/harness/eviction"
	"gameday/harness/eviction/matrix"
	"gameday/harness/slo"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

func clientOf(c clusters.Cluster) kubernetes.Interface {
	GinkgoHelper()
	cfg := c.REST()
	cfg.QPS, cfg.Timeout = -1, 5*time.Second
	cli, err := kubernetes.NewForConfig(cfg)
	Expect(err).NotTo(HaveOccurred())
	return cli
}

// kill kills a component of the control plane.
func kill(ctx context.Context, c clusters.Cluster, program string) {
	GinkgoHelper()
	pid, err := clusters.ByRole(c.Nodes(), clusters.ControlPlane)[0].(clusters.Processes).InitPID(ctx)
	Expect(err).NotTo(HaveOccurred())
	found, err := process.Find(pid, process.Named(program))
	Expect(err).NotTo(HaveOccurred())
	Expect(found).To(HaveLen(1))
	p, err := process.Open(found[0])
	Expect(err).NotTo(HaveOccurred())
	Expect(p.Kill()).To(Succeed())
	Expect(p.Close()).To(Succeed())
}

func nodeOf(ctx context.Context, cli kubernetes.Interface, name string) (ready corev1.ConditionStatus, tainted bool, err error) {
	n, err := cli.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", false, err
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			ready = c.Status
		}
	}
	for _, t := range n.Spec.Taints {
		tainted = tainted || t.Key == corev1.TaintNodeUnreachable && t.Effect == corev1.TaintEffectNoExecute
	}
	return ready, tainted, nil
}

// after does something at a time after now, beside.
func after(d time.Duration, do func()) (done chan struct{}) {
	done = make(chan struct{})
	time.AfterFunc(d, func() {
		defer close(done)
		defer GinkgoRecover()
		do()
	})
	return done
}

var _ = Describe("A rule that was inferred", Label("experiment"), func() {
	It(string(eviction.RuleLeak)+": taints leak through a brake until it holds", func(ctx SpecContext) {
		n := load(func(f *eviction.File) { f.Zones = []eviction.ZoneOf{{Name: "a", Nodes: 10, ControlPlanes: 1}} })
		cells, err := matrix.Cells(n, []matrix.Cut{matrix.Threshold}, []matrix.Length{matrix.Above})
		Expect(err).NotTo(HaveOccurred())
		c := create(ctx, n, nil)
		leaked := 0
		for range 3 {
			o := matrix.Judge(cells[0], try(ctx, c, cells[0]))
			Expect(o.Verdict).To(Equal(slo.Pass), o.Why)
			AddReportEntry("leaked", fmt.Sprintf("%d of %d, predicted %s", len(o.Seen.Taints), len(cells[0].Case.Cut.Nodes), cells[0].Answer()))
			leaked += len(o.Seen.Taints)
		}
		Expect(leaked).To(BeNumerically(">", 0), "no taint ever leaked: then the rule is not needed")
	}, SpecTimeout(6*time.Minute))

	It(string(eviction.RuleAll)+": at a rate of exactly 1 a zone that was braked taints no more", func(ctx SpecContext) {
		n := load(func(f *eviction.File) {
			f.Zones = []eviction.ZoneOf{{Name: "a", Nodes: 10, ControlPlanes: 1}}
			f.ControllerManager.NodeEvictionRate = 1
		})
		drawn := n
		drawn.ControllerManager.NodeEvictionRate = 2 // no cells are drawn up for a rate of 1
		cells, err := matrix.Cells(drawn, []matrix.Cut{matrix.Threshold}, []matrix.Length{matrix.Above})
		Expect(err).NotTo(HaveOccurred())
		cell := cells[0]
		const first, apart = 16 * time.Second, 5 * time.Second
		cell.Case.Cut.Heal = first + apart
		c := create(ctx, n, nil)
		t, err := matrix.NewTrial(ctx, c, n.File)
		Expect(err).NotTo(HaveOccurred())
		defer t.Close()
		// Half of them return while Try holds the cut; the pods are made before.
		var early []string
		for _, w := range clusters.ByRole(c.Nodes(), clusters.Worker)[:3] {
			early = append(early, w.Name())
		}
		cli := clientOf(c)
		back := make(chan struct{})
		go func() {
			defer close(back)
			defer GinkgoRecover()
			Eventually(ctx, func(ctx context.Context) (corev1.ConditionStatus, error) {
				ready, _, err := nodeOf(ctx, cli, early[0])
				return ready, err
			}).WithTimeout(bound).Should(Equal(corev1.ConditionUnknown))
			<-after(first-10*time.Second, func() { Expect(c.Restore(ctx, early...)).To(Succeed()) })
		}()
		r := t.Try(ctx, cell)
		<-back
		say("%+v", r)
		late := 0
		for _, x := range r.Seen.Taints {
			if x.On > first-2*time.Second {
				late++
			}
		}
		AddReportEntry("tainted", fmt.Sprintf("%d before the first were back, %d after, until the last were; %+v", len(r.Seen.Taints)-late, late, r.Seen.Taints))
		Expect(late).To(BeZero(), "the limiter was replaced: Kubernetes has mended it")
	}, SpecTimeout(5*time.Minute))

	It(string(eviction.RuleLost)+": a deletion that falls into an outage of the API is lost for that leader's life", func(ctx SpecContext) {
		n := load(nil)
		cell := cellOf(n)
		c := create(ctx, n, nil)
		cli := clientOf(c)
		try(ctx, c, cell) // leaves the pods made, and the pod of the node gone
		const name = "a-node-2-0-0"
		node := clusters.ByRole(c.Nodes(), clusters.Worker)[1].Name()
		Expect(c.Cut(ctx, node)).To(Succeed())
		tainted := func(ctx context.Context) (bool, error) { _, is, err := nodeOf(ctx, cli, node); return is, err }
		Eventually(ctx, tainted).WithTimeout(bound).WithPolling(50 * time.Millisecond).Should(BeTrue())
		since := time.Now()
		tolerated := time.Duration(n.APIServer.DefaultUnreachableTolerationSeconds) * time.Second
		<-after(tolerated-400*time.Millisecond, func() { kill(ctx, c, "kube-apiserver") })
		Eventually(ctx, func(ctx context.Context) error { return c.Whole(ctx) }).WithTimeout(bound).WithPolling(100 * time.Millisecond).Should(Succeed())
		AddReportEntry("the API was back", fmt.Sprintf("%s after the taint, of which %s are tolerated", time.Since(since).Round(100*time.Millisecond), tolerated))
		holder := leaderOf(ctx, cli)
		there := func(ctx context.Context) (bool, error) {
			p, err := cli.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
			return err == nil && p.DeletionTimestamp == nil, err
		}
		Consistently(ctx, there).WithTimeout(3*tolerated).WithPolling(time.Second).Should(BeTrue(), "it was deleted after all")
		Expect(tainted(ctx)).To(BeTrue())
		Expect(leaderOf(ctx, cli)).To(Equal(holder), "another leader: the outage was too long, and this showed nothing")

		By("having another leader")
		kill(ctx, c, "kube-controller-manager")
		Eventually(ctx, there).WithTimeout(bound).Should(BeFalse(), "another leader does not delete it either")
		AddReportEntry("deleted", fmt.Sprintf("%s after the taint, by another leader", time.Since(since).Round(time.Second)))
		Expect(leaderOf(ctx, cli)).NotTo(Equal(holder))
	}, SpecTimeout(6*time.Minute))

	It(string(eviction.RuleClient)+": deletions wait for the controllers' clients", func(ctx SpecContext) {
		n := load(func(f *eviction.File) {
			f.ControllerManager.KubeAPIQPS, f.ControllerManager.KubeAPIBurst = 10, 10
			f.Pods = []eviction.PodsOf{{Owner: "Deployment", PerNode: 40}}
		})
		cell := cellOf(n)
		o := matrix.Judge(cell, try(ctx, create(ctx, n, nil), cell))
		var at []time.Duration
		for _, d := range o.Seen.Deleted {
			at = append(at, d)
		}
		slices.Sort(at)
		Expect(at).NotTo(BeEmpty())
		took := at[len(at)-1] - at[0]
		AddReportEntry("deletions", fmt.Sprintf("%d within %s: %.1f requests each at 10 a second; the cut lasted %s; %s", len(at), took.Round(10*time.Millisecond), (10+10*took.Seconds())/float64(len(at)), cell.Case.Cut.Heal, o.Why))
		Expect(o.Broken).To(BeEmpty())
	}, SpecTimeout(6*time.Minute))

	It(string(eviction.RuleBreaker)+": a lease that is written without being renewed keeps a dead node Ready", func(ctx SpecContext) {
		n := load(nil)
		c := create(ctx, n, nil)
		cli := clientOf(c)
		workers := clusters.ByRole(c.Nodes(), clusters.Worker)
		touched, control := workers[0].Name(), workers[1].Name()
		for _, w := range []string{touched, control} {
			Expect(c.Cut(ctx, w)).To(Succeed())
		}
		_, err := cli.CoordinationV1().Leases(corev1.NamespaceNodeLease).Patch(ctx, touched, types.MergePatchType, []byte(`{"metadata":{"annotations":{"touched":"yes"}}}`), metav1.PatchOptions{})
		Expect(err).NotTo(HaveOccurred())
		ready := func(node string) func(context.Context) (corev1.ConditionStatus, error) {
			return func(ctx context.Context) (corev1.ConditionStatus, error) {
				is, _, err := nodeOf(ctx, cli, node)
				return is, err
			}
		}
		Eventually(ctx, ready(control)).WithTimeout(bound).Should(Equal(corev1.ConditionUnknown))
		Consistently(ctx, ready(touched)).WithTimeout(3 * n.ControllerManager.NodeMonitorGracePeriod).WithPolling(time.Second).Should(Equal(corev1.ConditionTrue))
		By("having another leader")
		kill(ctx, c, "kube-controller-manager")
		Eventually(ctx, ready(touched)).WithTimeout(bound).Should(Equal(corev1.ConditionUnknown))
		AddReportEntry("the touched node", "Ready for three grace periods more than the other, Unknown with another leader")
	}, SpecTimeout(6*time.Minute))
})

var _ = Describe("A controller manager that is started with other flags than the settings say", Label("experiment"), func() {
	It("is caught, with the rule named", func(ctx SpecContext) {
		n := load(func(f *eviction.File) { f.Zones = []eviction.ZoneOf{{Name: "a", Nodes: 10, ControlPlanes: 1}} })
		cells, err := matrix.Cells(n, []matrix.Cut{matrix.Threshold}, []matrix.Length{matrix.Above})
		Expect(err).NotTo(HaveOccurred())
		c := create(ctx, n, func(s *local.Settings) {
			s.ControllerManager["unhealthy-zone-threshold"] = "0.95" // no brake
			s.ControllerManager["node-eviction-rate"] = "5"
		})
		o := matrix.Judge(cells[0], try(ctx, c, cells[0]))
		AddReportEntry("told", o.Broken)
		Expect(o.Verdict).To(Equal(slo.Fail))
		Expect(rules(o)).To(ContainElements(eviction.RulePartial, eviction.RuleRate))
	}, SpecTimeout(4*time.Minute))
})

func leaderOf(ctx context.Context, cli kubernetes.Interface) string {
	GinkgoHelper()
	l, err := cli.CoordinationV1().Leases("kube-system").Get(ctx, "kube-controller-manager", metav1.GetOptions{})
	Expect(err).NotTo(HaveOccurred())
	Expect(l.Spec.HolderIdentity).NotTo(BeNil())
	return *l.Spec.HolderIdentity
}
