package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gameday/clusters"
	"gameday/clusters/local"
	"gameday/faults/mechanism/process"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const version = "v1.37.0"

// bound is for what takes seconds on a quiet machine.
const bound = 90 * time.Second

func say(format string, args ...any) { GinkgoWriter.Printf(format+"\n", args...) }

func specOf(what string, controlPlanes, workers int) clusters.Spec {
	return clusters.Spec{
		Name: fmt.Sprintf("gds-%s-%d", what, os.Getpid()), Run: "suite", Version: version,
		ControlPlanes: controlPlanes, Workers: workers,
	}
}

func create(ctx context.Context, spec clusters.Spec, settings local.Settings) *local.Cluster {
	GinkgoHelper()
	DeferCleanup(func(ctx SpecContext) { Expect(local.New().Delete(ctx, spec.Name)).To(Succeed()) }, NodeTimeout(bound))
	began := time.Now()
	c, err := local.New().CreateWith(ctx, spec, settings, say)
	Expect(err).NotTo(HaveOccurred())
	AddReportEntry(fmt.Sprintf("%d control planes and %d workers ready after", spec.ControlPlanes, spec.Workers), time.Since(began).Round(100*time.Millisecond).String())
	return c
}

func clientOf(c clusters.Cluster) kubernetes.Interface {
	GinkgoHelper()
	cfg := c.REST()
	cfg.QPS, cfg.Timeout = -1, 5*time.Second
	cli, err := kubernetes.NewForConfig(cfg)
	Expect(err).NotTo(HaveOccurred())
	return cli
}

// running finds one component of a node.
func running(ctx context.Context, n clusters.Node, program string) ([]process.Ref, error) {
	pid, err := n.(clusters.Processes).InitPID(ctx)
	if err != nil {
		return nil, err
	}
	return process.Find(pid, process.Named(program))
}

// left is what there is of a cluster on this machine: processes, control groups, a
// link, a folder.
func left(name string) []string {
	var out []string
	entries, err := os.ReadDir("/proc")
	Expect(err).NotTo(HaveOccurred())
	for _, e := range entries {
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err == nil && strings.Contains(string(env), "GAMEDAY_LOCAL="+name) {
			out = append(out, "process "+e.Name())
		}
		cmd, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.Contains(string(cmd), name+"-control-plane") {
			out = append(out, "process "+e.Name())
		}
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), name) {
			out = append(out, p)
		}
		return nil
	})
	Expect(err).NotTo(HaveOccurred())
	links, err := netlink.LinkList()
	Expect(err).NotTo(HaveOccurred())
	for _, l := range links {
		if strings.Contains(l.Attrs().Alias, name) {
			out = append(out, "link "+l.Attrs().Name)
		}
	}
	if _, err := os.Stat("/var/lib/gameday/local/" + name); err == nil {
		out = append(out, "folder")
	}
	return out
}

func ready(ctx context.Context, cli kubernetes.Interface, node string) (corev1.ConditionStatus, error) {
	n, err := cli.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status, nil
		}
	}
	return "", nil
}

var _ = Describe("A cluster of three control planes and three workers", func() {
	It("gets ready, heals itself of kills, and leaves nothing", func(ctx SpecContext) {
		spec := specOf("three", 3, 3)
		c := create(ctx, spec, local.Settings{})
		cli := clientOf(c)

		By("listing it, and finding it again")
		all, err := local.New().List(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(all).To(ContainElement(And(HaveField("Name", spec.Name), HaveField("Nodes", 6), HaveField("Run", "suite"))))
		again, err := local.Open(ctx, spec.Name)
		Expect(err).NotTo(HaveOccurred())
		Expect(again.Nodes()).To(HaveLen(7), "with the load balancer")

		By("running pods, with an audit log")
		makePods(ctx, cli)

		By("killing one of each component")
		controlPlanes := clusters.ByRole(c.Nodes(), clusters.ControlPlane)
		for i, program := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
			n := controlPlanes[i%len(controlPlanes)]
			before, err := running(ctx, n, program)
			Expect(err).NotTo(HaveOccurred())
			Expect(before).To(HaveLen(1), "%s on %s", program, n.Name())
			p, err := process.Open(before[0])
			Expect(err).NotTo(HaveOccurred())
			Expect(p.Kill()).To(Succeed())
			Expect(p.Close()).To(Succeed())
			Eventually(ctx, func(ctx context.Context) ([]process.Ref, error) { return running(ctx, n, program) }).
				WithTimeout(bound).WithPolling(100 * time.Millisecond).Should(And(HaveLen(1), Not(Equal(before))))
		}
		Eventually(ctx, func(ctx context.Context) error { return c.Whole(ctx) }).WithTimeout(bound).Should(Succeed())

		By("reading files and running commands on a control plane")
		out, err := clusters.Output(ctx, controlPlanes[0], "hostname")
		Expect(err).NotTo(HaveOccurred())
		Expect(string(out)).To(HavePrefix(controlPlanes[0].Name()))
		audit, err := controlPlanes[0].(clusters.Files).ReadFile(ctx, "/var/log/kubernetes/audit.log")
		Expect(err).NotTo(HaveOccurred())
		Expect(audit).NotTo(BeEmpty())

		By("switching a control plane off and on")
		off := controlPlanes[2].(clusters.Power)
		Expect(off.PowerOff(ctx)).To(Succeed())
		Expect(off.PowerOff(ctx)).To(Succeed())
		_, err = controlPlanes[2].(clusters.Processes).InitPID(ctx)
		Expect(err).To(HaveOccurred())
		Expect(off.PowerOn(ctx)).To(Succeed())
		Eventually(ctx, func(ctx context.Context) error { return c.Whole(ctx) }).WithTimeout(bound).Should(Succeed())

		By("collecting its logs")
		dir := GinkgoT().TempDir()
		Expect(c.Collect(ctx, dir)).To(Succeed())
		Expect(filepath.Join(dir, controlPlanes[1].Name(), "log", "components", "kube-apiserver.log")).To(BeAnExistingFile())
		Expect(filepath.Join(dir, "objects", "pods.yaml")).To(BeAnExistingFile())

		By("deleting it")
		Expect(local.New().Delete(ctx, spec.Name)).To(Succeed())
		Expect(left(spec.Name)).To(BeEmpty())
		_, err = local.New().Open(ctx, spec.Name)
		Expect(err).To(MatchError(clusters.ErrNotFound))
		Expect(local.New().Delete(ctx, spec.Name)).To(Succeed(), "deleting it again")
	}, SpecTimeout(4*time.Minute))
})

// makePods makes a Deployment and a Job, and waits until the one runs and the other
// has ended.
func makePods(ctx context.Context, cli kubernetes.Interface) {
	GinkgoHelper()
	job, deployment := objects()
	Eventually(ctx, func(ctx context.Context) error { // the service account comes when the controllers work
		_, err := cli.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	}).WithTimeout(bound).Should(Succeed())
	_, err := cli.AppsV1().Deployments("default").Create(ctx, deployment, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	_, err = cli.BatchV1().Jobs("default").Create(ctx, job, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	Eventually(ctx, func(ctx context.Context) (int32, error) {
		d, err := cli.AppsV1().Deployments("default").Get(ctx, deployment.Name, metav1.GetOptions{})
		if err != nil {
			return 0, err
		}
		return d.Status.AvailableReplicas, nil
	}).WithTimeout(bound).Should(Equal(*deployment.Spec.Replicas))
	Eventually(ctx, func(ctx context.Context) (int32, error) {
		j, err := cli.BatchV1().Jobs("default").Get(ctx, job.Name, metav1.GetOptions{})
		if err != nil {
			return 0, err
		}
		return j.Status.Succeeded, nil
	}).WithTimeout(bound).Should(Equal(int32(1)))
}

var _ = Describe("A cluster of one control plane", func() {
	It("has nodes that can be cut off, and is gone when its keeper is killed", func(ctx SpecContext) {
		spec := specOf("one", 1, 4)
		c := create(ctx, spec, local.Settings{
			ControllerManager: map[string]string{"node-monitor-grace-period": "15s", "node-monitor-period": "1s"},
			WorkerLabels: []map[string]string{
				{corev1.LabelTopologyZone: "a"}, {corev1.LabelTopologyZone: "b"},
			},
		})
		cli := clientOf(c)
		workers := clusters.ByRole(c.Nodes(), clusters.Worker)
		makePods(ctx, cli)

		By("giving workers their labels")
		zones, err := cli.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: corev1.LabelTopologyZone + "=b"})
		Expect(err).NotTo(HaveOccurred())
		Expect(zones.Items).To(HaveLen(2))

		By("cutting one off")
		cut := workers[0].Name()
		Expect(c.Cut(ctx, cut)).To(Succeed())
		began := time.Now()
		Eventually(ctx, func(ctx context.Context) (corev1.ConditionStatus, error) { return ready(ctx, cli, cut) }).
			WithTimeout(bound).Should(Equal(corev1.ConditionUnknown))
		AddReportEntry("Unknown after", time.Since(began).Round(time.Second).String())
		Expect(ready(ctx, cli, workers[1].Name())).To(Equal(corev1.ConditionTrue), "a bystander")

		By("deleting a pod of it, which stays")
		pods, err := cli.CoreV1().Pods("default").List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running,spec.nodeName=" + cut})
		Expect(err).NotTo(HaveOccurred())
		Expect(pods.Items).NotTo(BeEmpty())
		pod := pods.Items[0].Name
		Expect(cli.CoreV1().Pods("default").Delete(ctx, pod, metav1.DeleteOptions{})).To(Succeed())
		there := func(ctx context.Context) (bool, error) {
			list, err := cli.CoreV1().Pods("default").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + pod})
			return err == nil && len(list.Items) == 1, err
		}
		Consistently(ctx, there).WithTimeout(2 * time.Second).Should(BeTrue())

		By("restoring it")
		Expect(c.Restore(ctx, cut)).To(Succeed())
		Eventually(ctx, func(ctx context.Context) (corev1.ConditionStatus, error) { return ready(ctx, cli, cut) }).
			WithTimeout(bound).Should(Equal(corev1.ConditionTrue))
		Eventually(ctx, there).WithTimeout(bound).Should(BeFalse())
		Expect(c.Cut(ctx, "nobody")).NotTo(Succeed())

		By("killing its keeper")
		keeper, err := c.KeeperPID()
		Expect(err).NotTo(HaveOccurred())
		p, err := os.FindProcess(keeper)
		Expect(err).NotTo(HaveOccurred())
		Expect(p.Kill()).To(Succeed())
		Eventually(ctx, func() []string { return left(spec.Name) }).WithTimeout(bound).ShouldNot(ContainElement(HavePrefix("process")))
		_, err = local.Open(ctx, spec.Name)
		Expect(err).To(MatchError(clusters.ErrNotFound))
		all, err := local.New().List(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(all).To(ContainElement(HaveField("Name", spec.Name)))
		Expect(local.New().Delete(ctx, spec.Name)).To(Succeed())
		Expect(left(spec.Name)).To(BeEmpty())
	}, SpecTimeout(4*time.Minute))
})
