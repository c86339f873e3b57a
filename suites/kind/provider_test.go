package kind

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
	"gameday/clusters/docker"
	"gameday/clusters/kind"
	"gameday/clusters/nodeimage"
	"gameday/clusters/preflight"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("A cluster", Ordered, func() {
	var (
		spec         clusters.Spec
		c            clusters.Cluster
		control, wrk clusters.Node
		client       *kubernetes.Clientset
	)

	BeforeAll(func(ctx SpecContext) {
		spec = clusters.Spec{Name: unique("gd-suite"), Run: unique("run"), Version: version, ControlPlanes: 1, Workers: 1}
		p := kind.New()
		Expect(p.Check(ctx, spec)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(kind.New().Delete(ctx, spec.Name)).To(Succeed()) }, NodeTimeout(4*time.Minute))
		began := time.Now()
		var err error
		_, err = p.Create(ctx, spec, say)
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry("create 1+1", time.Since(began).Round(100*time.Millisecond).String())

		// All else is done with what a fresh provider finds.
		c, err = kind.New().Open(ctx, spec.Name)
		Expect(err).NotTo(HaveOccurred())
		Expect(c.Nodes()).To(HaveLen(2))
		control, wrk = c.Nodes()[0], c.Nodes()[1]
		client, err = kubernetes.NewForConfig(c.REST())
		Expect(err).NotTo(HaveOccurred())
	}, NodeTimeout(10*time.Minute))

	It("says who it is", func() {
		Expect(c.Name()).To(Equal(spec.Name))
		Expect(c.Run()).To(Equal(spec.Run))
		Expect(c.Provider()).To(Equal("kind"))
		Expect(clusters.Place(control)).To(Equal("control-plane[0]"))
		Expect(clusters.Place(wrk)).To(Equal("worker[0]"))
	})

	It("is looked at before an upgrade", func(ctx SpecContext) {
		found := func(severities ...preflight.Severity) []string {
			facts, err := preflight.Collect(ctx, "v1.37.0", preflight.Source{Config: c.REST(), Cluster: c})
			Expect(err).NotTo(HaveOccurred())
			var lines []string
			for _, f := range preflight.Judge(facts).Findings {
				if slices.Contains(severities, f.Severity) {
					lines = append(lines, f.String())
				}
			}
			return lines
		}
		// All can be read of a cluster that is ours, and it can be upgraded.
		Expect(found(preflight.Blocks, preflight.Unknown)).To(BeEmpty())

		none := intstr.FromInt32(0)
		budgets := client.PolicyV1().PodDisruptionBudgets(metav1.NamespaceSystem)
		_, err := budgets.Create(ctx, &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Name: "gd-suite"},
			Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &none, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"k8s-app": "kube-dns"}}},
		}, metav1.CreateOptions{})
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, func() []string { return found(preflight.Blocks) }).WithTimeout(time.Minute).Should(ConsistOf(
			ContainSubstring("no pod may ever be evicted: 2 of 2 must be healthy (maxUnavailable 0): PodDisruptionBudget kube-system/gd-suite;")))
		Expect(budgets.Delete(ctx, "gd-suite", metav1.DeleteOptions{})).To(Succeed())
		Expect(found(preflight.Blocks, preflight.Unknown)).To(BeEmpty())
	}, NodeTimeout(2*time.Minute))

	It("carries the run's label on containers, image and nodes", func(ctx SpecContext) {
		all := dockerLines(ctx, "ps", "--all", "--quiet", "--filter", "label=io.x-k8s.kind.cluster="+spec.Name)
		Expect(all).To(HaveLen(2))
		Expect(dockerLines(ctx, "ps", "--all", "--quiet", "--filter", "label=gameday.run="+spec.Run)).To(ConsistOf(all))
		Expect(dockerLines(ctx, "image", "ls", "--quiet", "--filter", "label=gameday.run="+spec.Run)).To(HaveLen(1))
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "gameday.run=" + spec.Run})
		Expect(err).NotTo(HaveOccurred())
		Expect(nodes.Items).To(HaveLen(2))
	}, NodeTimeout(time.Minute))

	It("is listed by a fresh provider", func(ctx SpecContext) {
		all, err := kind.New().List(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(all).To(ContainElement(And(
			HaveField("Name", spec.Name), HaveField("Run", spec.Run), HaveField("Provider", "kind"),
			HaveField("Version", version), HaveField("Nodes", 2), HaveField("Created", BeTemporally("~", time.Now(), 10*time.Minute)),
		)))
	}, NodeTimeout(time.Minute))

	It("refuses a second one of its name and stays as it is", func(ctx SpecContext) {
		before := dockerLines(ctx, "ps", "--quiet", "--filter", "label=gameday.run="+spec.Run)
		other := spec
		other.Run = unique("run")
		Expect(kind.New().Check(ctx, other)).To(MatchError(ContainSubstring("gameday clusters delete " + spec.Name)))
		_, err := kind.New().Create(ctx, other, say)
		Expect(err).To(MatchError(ContainSubstring("a cluster of the name " + spec.Name + " exists")))
		Expect(dockerLines(ctx, "ps", "--quiet", "--filter", "label=gameday.run="+spec.Run)).To(ConsistOf(before))
		Expect(dockerLines(ctx, "image", "ls", "--quiet", "--filter", "label=gameday.run="+other.Run)).To(BeEmpty())
	}, NodeTimeout(time.Minute))

	It("runs commands", func(ctx SpecContext) {
		x := wrk.(clusters.Execer)
		var out, errs bytes.Buffer
		Expect(x.Exec(ctx, clusters.Command{
			Argv: []string{"sh", "-c", `hostname; cat; echo "$WORD" >&2`}, Env: []string{"WORD=two words"},
			Stdin: strings.NewReader("in"), Stdout: &out, Stderr: &errs,
		})).To(Succeed())
		Expect(out.String()).To(Equal(wrk.Name() + "\nin"))
		Expect(errs.String()).To(Equal("two words\n"))

		var exit *clusters.ExitError
		Expect(errors.As(x.Exec(ctx, clusters.Command{Argv: []string{"sh", "-c", "echo no >&2; exit 7"}}), &exit)).To(BeTrue())
		Expect(exit.Code).To(Equal(7))
		Expect(exit.Output).To(Equal("no\n"))
	}, NodeTimeout(time.Minute))

	It("kills a cancelled command on the node too", func(ctx SpecContext) {
		const seconds = "98765"
		running := func() string {
			out, err := clusters.Output(ctx, wrk, "sh", "-c", `pgrep -fx "sleep `+seconds+`" || test $? = 1`)
			Expect(err).NotTo(HaveOccurred())
			return string(out)
		}
		cctx, cancel := context.WithCancel(ctx)
		var seen string
		started := writerFunc(func([]byte) { seen = running(); cancel() })
		err := wrk.(clusters.Execer).Exec(cctx, clusters.Command{
			Argv: []string{"sh", "-c", "sleep " + seconds + " & sleep 0.1; echo up; sleep " + seconds}, Stdout: started,
		})
		Expect(err).To(MatchError(context.Canceled))
		Expect(strings.Fields(seen)).NotTo(BeEmpty()) // it can be seen, when it runs
		Expect(running()).To(BeEmpty())
	}, NodeTimeout(time.Minute))

	It("reads and changes files from outside", func(ctx SpecContext) {
		f := wrk.(clusters.Files)
		Expect(f.WriteFile(ctx, "/etc/gd suite/a", []byte("one"), 0o640)).To(Succeed())
		out, err := clusters.Output(ctx, wrk, "sh", "-c", `cat "/etc/gd suite/a"; stat -c %a "/etc/gd suite/a"`)
		Expect(err).NotTo(HaveOccurred())
		Expect(string(out)).To(Equal("one640\n"))
		Expect(f.Rename(ctx, "/etc/gd suite/a", "/etc/gd suite/sub/b")).To(Succeed())
		Expect(f.ReadDir(ctx, "/etc/gd suite")).To(Equal([]string{"sub"}))
		Expect(f.ReadFile(ctx, "/etc/gd suite/sub/b")).To(Equal([]byte("one")))
		Expect(f.RemoveAll(ctx, "/etc/gd suite")).To(Succeed())
		Expect(f.RemoveAll(ctx, "/etc/gd suite")).To(Succeed())
		_, err = f.ReadFile(ctx, "/etc/gd suite/sub/b")
		Expect(err).To(MatchError(fs.ErrNotExist))
		// A tmpfs and a volume of the container are reached too.
		Expect(f.ReadDir(ctx, "/run")).To(ContainElement("systemd"))
		Expect(f.ReadDir(ctx, "/var/lib/kubelet")).To(ContainElement("config.yaml"))
	}, NodeTimeout(time.Minute))

	It("shows processes and link", func(ctx SpecContext) {
		pid, err := wrk.(clusters.Processes).InitPID(ctx)
		Expect(err).NotTo(HaveOccurred())
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		Expect(err).NotTo(HaveOccurred())
		Expect(string(comm)).To(Equal("systemd\n"))

		a, err := wrk.(clusters.Network).Link(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(a.Interface).To(Equal("eth0"))
		Expect(a.IPs).To(ContainElement(wrk.IP()))
		Expect(a.BridgeNetNS).To(BeEmpty())
		ns, err := os.Readlink(a.NetNS)
		Expect(err).NotTo(HaveOccurred())
		inside, err := clusters.Output(ctx, wrk, "readlink", "/proc/1/ns/net")
		Expect(err).NotTo(HaveOccurred())
		Expect(strings.TrimSpace(string(inside))).To(Equal(ns))
		b, err := control.(clusters.Network).Link(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(a.MAC).NotTo(Equal(b.MAC))
	}, NodeTimeout(time.Minute))

	It("has a way to each API server, verified", func(ctx SpecContext) {
		Expect(c.Endpoints()).To(HaveLen(1)) // one control plane: no load balancer
		for _, e := range c.Endpoints() {
			Expect(e.Config.Insecure).To(BeFalse())
			Expect(e.Node.Name()).To(Equal(control.Name()))
			k, err := kubernetes.NewForConfig(e.Config)
			Expect(err).NotTo(HaveOccurred())
			body, err := k.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
			Expect(err).NotTo(HaveOccurred())
			Expect(string(body)).To(Equal("ok"))
		}
		// The administrator's certificate is what opens it.
		e := c.Endpoints()[0].Config
		e.CertData, e.KeyData = nil, nil
		k, err := kubernetes.NewForConfig(e)
		Expect(err).NotTo(HaveOccurred())
		_, err = k.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		Expect(err).To(HaveOccurred())
	}, NodeTimeout(time.Minute))

	It("shows etcd and its metrics", func(ctx SpecContext) {
		cli, err := clusters.EtcdClient(ctx, c)
		Expect(err).NotTo(HaveOccurred())
		defer cli.Close()
		m, err := cli.MemberList(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(m.Members).To(HaveLen(1))
		Expect(m.Members[0].Name).To(Equal(control.Name()))
		Expect(get(ctx, fmt.Sprintf("http://%s:%d/metrics", control.IP(), kind.EtcdMetricsPort))).To(ContainSubstring("etcd_disk_wal_fsync_duration_seconds_count"))
	}, NodeTimeout(time.Minute))

	It("keeps an audit log: every request, and changes of pods whole", func(ctx SpecContext) {
		// A ConfigMap for the plain case, a pod for the whole one. The pod needs no node.
		name := unique("audited")
		_, err := client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		Expect(err).NotTo(HaveOccurred())
		_, err = client.CoreV1().Pods("default").Create(ctx, pausePod(name, "no-such-node"), metav1.CreateOptions{})
		Expect(err).NotTo(HaveOccurred())
		Expect(client.CoreV1().Pods("default").Delete(ctx, name, metav1.DeleteOptions{})).To(Succeed())

		// mode blocking: what was answered is in the file.
		log, err := control.(clusters.Files).ReadFile(ctx, filepath.Join(kind.AuditDir, "audit.log"))
		Expect(err).NotTo(HaveOccurred())
		type event struct {
			Level, Stage, Verb string
			ObjectRef          struct{ Resource, Name string }
			RequestObject      json.RawMessage
		}
		var got []string
		for line := range strings.Lines(string(log)) {
			var e event
			Expect(json.Unmarshal([]byte(line), &e)).To(Succeed())
			if e.ObjectRef.Name == name || bytes.Contains(e.RequestObject, []byte(name)) {
				got = append(got, fmt.Sprintf("%s %s %s %s", e.Level, e.Stage, e.Verb, e.ObjectRef.Resource))
			}
		}
		Expect(got).To(ContainElements(
			"Metadata ResponseComplete create configmaps",
			"RequestResponse ResponseComplete create pods",
			"RequestResponse ResponseComplete delete pods",
		))
	}, NodeTimeout(time.Minute))

	It("imports images", func(ctx SpecContext) {
		ref := "gameday.local/" + unique("loaded") + ":v1"
		tag, err := name.NewTag(ref)
		Expect(err).NotTo(HaveOccurred())
		img := smallImage()
		r, w := io.Pipe()
		go func() { w.CloseWithError(tarball.Write(tag, img, w)) }()
		Expect(c.LoadImages(ctx, wrk, r)).To(Succeed())
		Expect(images(ctx, wrk)).To(ContainElement(ref))
		Expect(images(ctx, control)).NotTo(ContainElement(ref))
		Expect(c.LoadImages(ctx, wrk, strings.NewReader("no archive"))).NotTo(Succeed())
	}, NodeTimeout(time.Minute))

	It("connects pods across nodes, and to services", func(ctx SpecContext) {
		podNetwork(ctx, client, wrk, control)
	}, NodeTimeout(2*time.Minute))

	It("takes workers in and lets them go, and gives a place again", func(ctx SpecContext) {
		pool := c.(clusters.Pool)
		image, err := nodeimage.Ensure(ctx, nodeimage.Spec{Version: version}, say)
		Expect(err).NotTo(HaveOccurred())
		const loaded = "gameday.local/brought:v1"
		add := func(index int) clusters.Node {
			GinkgoHelper()
			began := time.Now()
			n, err := pool.AddWorker(ctx, clusters.NewWorker{
				Index: index, Image: image.Ref,
				Labels: map[string]string{clusters.LabelRun: spec.Run, "gameday.suite": "yes"},
				Taints: []corev1.Taint{{Key: "gameday.suite", Value: "yes", Effect: corev1.TaintEffectNoSchedule}},
				Prepare: func(ctx context.Context, n clusters.Node) error {
					tag, err := name.NewTag(loaded)
					if err != nil {
						return err
					}
					var archive bytes.Buffer
					if err := tarball.Write(tag, smallImage(), &archive); err != nil {
						return err
					}
					return c.LoadImages(ctx, n, &archive)
				},
			})
			Expect(err).NotTo(HaveOccurred())
			AddReportEntry(fmt.Sprintf("join worker[%d]", index), time.Since(began).Round(100*time.Millisecond).String())
			return n
		}
		one := add(1)
		Expect(clusters.Place(one)).To(Equal("worker[1]"))
		node, err := client.CoreV1().Nodes().Get(ctx, one.Name(), metav1.GetOptions{})
		Expect(err).NotTo(HaveOccurred())
		Expect(node.Labels).To(HaveKeyWithValue("gameday.suite", "yes"))
		Expect(node.Spec.Taints).To(ContainElement(HaveField("Key", "gameday.suite")))
		Expect(images(ctx, one)).To(ContainElement(loaded))
		podNetwork(ctx, client, one, wrk)
		_, err = pool.AddWorker(ctx, clusters.NewWorker{Index: 1, Image: image.Ref})
		Expect(err).To(MatchError(ContainSubstring("there is one already")))

		// Others find it: its labels are those of all others.
		again, err := kind.New().Open(ctx, spec.Name)
		Expect(err).NotTo(HaveOccurred())
		Expect(again.Nodes()).To(HaveLen(3))
		Expect(dockerLines(ctx, "ps", "--all", "--quiet", "--filter", "label=gameday.run="+spec.Run)).To(HaveLen(3))

		// Another machine in its place.
		Expect(pool.RemoveWorker(ctx, one)).To(Succeed())
		Expect(pool.RemoveWorker(ctx, one)).To(Succeed())
		Expect(c.Nodes()).To(HaveLen(2))
		_, err = client.CoreV1().Nodes().Get(ctx, one.Name(), metav1.GetOptions{})
		Expect(apierrors.IsNotFound(err)).To(BeTrue())
		other := add(1)
		Expect(other.Name()).To(Equal(one.Name()))
		podNetwork(ctx, client, other, wrk)

		// One that is not wanted any more in the middle of its join leaves nothing.
		cctx, cancel := context.WithCancel(ctx)
		_, err = pool.AddWorker(cctx, clusters.NewWorker{Index: 2, Image: image.Ref, Prepare: func(context.Context, clusters.Node) error {
			cancel()
			return nil
		}})
		Expect(err).To(MatchError(context.Canceled))
		Expect(dockerLines(ctx, "ps", "--all", "--quiet", "--filter", "label=gameday.run="+spec.Run)).To(HaveLen(3))
		Expect(pool.RemoveWorker(ctx, control)).NotTo(Succeed())
		// worker[1] stays, and goes with the cluster.
	}, NodeTimeout(3*time.Minute))

	It("collects logs", func(ctx SpecContext) {
		dir := GinkgoT().TempDir()
		Expect(c.Collect(ctx, dir)).To(Succeed())
		for _, want := range []string{
			control.Name() + "/kubelet.log", control.Name() + "/containerd.log", control.Name() + "/journal.log",
			control.Name() + "/docker.log", control.Name() + "/inspect.json", control.Name() + "/crictl-ps.txt",
			control.Name() + "/kubernetes/audit.log", control.Name() + "/manifests/etcd.yaml",
			control.Name() + "/pods/*etcd*/etcd/0.log", wrk.Name() + "/kubelet.log", wrk.Name() + "/pods/*kube-proxy*/kube-proxy/0.log",
			"objects.yaml",
		} {
			found, err := filepath.Glob(filepath.Join(dir, want))
			Expect(err).NotTo(HaveOccurred())
			Expect(found).To(HaveLen(1), want)
			info, err := os.Stat(found[0])
			Expect(err).NotTo(HaveOccurred())
			Expect(info.Size()).NotTo(BeZero(), want)
		}
	}, NodeTimeout(2*time.Minute))

	It("is the same after a node's container was restarted", func(ctx SpecContext) {
		before, err := wrk.(clusters.Processes).InitPID(ctx)
		Expect(err).NotTo(HaveOccurred())
		dockerLines(ctx, "restart", "--time=5", wrk.Name())
		after, err := wrk.(clusters.Processes).InitPID(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(after).NotTo(Equal(before))
		link, err := wrk.(clusters.Network).Link(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(link.NetNS).To(Equal(fmt.Sprintf("/proc/%d/ns/net", after)))
		Eventually(func(ctx SpecContext) error { return kubeletAnswers(ctx, client, wrk) }).
			WithContext(ctx).WithTimeout(90 * time.Second).WithPolling(500 * time.Millisecond).Should(Succeed())
		podNetwork(ctx, client, wrk, control)
	}, NodeTimeout(4*time.Minute))

	It("is deleted with all that was made for it, and by its own name only", func(ctx SpecContext) {
		volumes := dockerLines(ctx, "inspect", "--format", `{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}`, control.Name(), wrk.Name())
		Expect(volumes).To(HaveLen(2))
		p := kind.New()
		Expect(p.Delete(ctx, unique("no-such"))).To(Succeed())
		Expect(p.Delete(ctx, spec.Name)).To(Succeed())
		Expect(p.Delete(ctx, spec.Name)).To(Succeed())
		nothingOf(Default, ctx, spec)
		Expect(dockerLines(ctx, "volume", "ls", "--quiet")).NotTo(ContainElements(volumes))
		_, err := p.Open(ctx, spec.Name)
		Expect(err).To(MatchError(clusters.ErrNotFound))
	}, NodeTimeout(2*time.Minute))
})

var _ = Describe("A creation that is interrupted", func() {
	for _, at := range []string{"Preparing nodes", "Starting control-plane"} {
		It("leaves nothing: "+at, func(ctx SpecContext) {
			spec := clusters.Spec{Name: unique("gd-int"), Run: unique("run"), Version: version, ControlPlanes: 1, Workers: 1}
			DeferCleanup(func(ctx SpecContext) { Expect(kind.New().Delete(ctx, spec.Name)).To(Succeed()) }, NodeTimeout(4*time.Minute))
			cctx, cancel := context.WithCancel(ctx)
			reached := false
			_, err := kind.New().Create(cctx, spec, func(format string, args ...any) {
				say(format, args...)
				if strings.Contains(fmt.Sprintf(format, args...), at) {
					reached = true
					cancel()
				}
			})
			cancelled := time.Now()
			Expect(err).To(MatchError(context.Canceled))
			Expect(reached).To(BeTrue())
			nothingOf(Default, ctx, spec)
			// Nothing comes up later either: kind itself has ended.
			Consistently(func(g Gomega, ctx SpecContext) { nothingOf(g, ctx, spec) }).WithContext(ctx).WithTimeout(3 * time.Second).WithPolling(time.Second).Should(Succeed())
			Expect(time.Since(cancelled)).To(BeNumerically("<", time.Minute))
		}, NodeTimeout(4*time.Minute))
	}
})

var _ = Describe("A kind cluster of somebody else", func() {
	It("is left alone", func(ctx SpecContext) {
		other := unique("not-ours")
		image := dockerLines(ctx, "image", "ls", "--quiet")[0]
		id := dockerLines(ctx, "create", "--name", other+"-control-plane", "--label", "io.x-k8s.kind.cluster="+other, "--label", "io.x-k8s.kind.role=control-plane", image, "x")[0]
		DeferCleanup(func(ctx SpecContext) { dockerLines(ctx, "rm", "--force", "--volumes", id) }, NodeTimeout(time.Minute))
		p := kind.New()
		Expect(p.Delete(ctx, other)).To(MatchError(ContainSubstring("not made by gameday")))
		_, err := p.Open(ctx, other)
		Expect(err).To(MatchError(ContainSubstring("not made by gameday")))
		_, err = p.Create(ctx, clusters.Spec{Name: other, Run: "r", Version: version, ControlPlanes: 1}, say)
		Expect(err).To(MatchError(ContainSubstring("gameday did not make it")))
		all, err := p.List(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(all).NotTo(ContainElement(HaveField("Name", other)))
		Expect(dockerLines(ctx, "ps", "--all", "--quiet", "--no-trunc", "--filter", "label=io.x-k8s.kind.cluster="+other)).To(ConsistOf(id))
	}, NodeTimeout(time.Minute))
})

// nothingOf expects no container and no image of a cluster.
func nothingOf(g Gomega, ctx context.Context, spec clusters.Spec) {
	GinkgoHelper()
	g.Expect(dockerLines(ctx, "ps", "--all", "--quiet", "--filter", "label=io.x-k8s.kind.cluster="+spec.Name)).To(BeEmpty())
	g.Expect(dockerLines(ctx, "ps", "--all", "--quiet", "--filter", "label=gameday.run="+spec.Run)).To(BeEmpty())
	g.Expect(dockerLines(ctx, "image", "ls", "--all", "--quiet", "--filter", "label=gameday.run="+spec.Run)).To(BeEmpty())
}

// podNetwork starts a pod on each node and asks, from inside each, every CoreDNS pod (at least one of these ways leads from
// one node to another) and CoreDNS's Service.
func podNetwork(ctx SpecContext, client *kubernetes.Clientset, nodes ...clusters.Node) {
	GinkgoHelper()
	for _, n := range nodes {
		name := unique("net")
		_, err := client.CoreV1().Pods("default").Create(ctx, pausePod(name, n.Name()), metav1.CreateOptions{})
		Expect(err).NotTo(HaveOccurred())
		Eventually(func(ctx SpecContext) (corev1.PodPhase, error) {
			p, err := client.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
			return p.Status.Phase, err
		}).WithContext(ctx).WithTimeout(time.Minute).WithPolling(300 * time.Millisecond).Should(Equal(corev1.PodRunning))
		// Addresses are read each time: a restarted node gives its pods new ones, and reports them a little later.
		Eventually(func(g Gomega, ctx SpecContext) {
			for _, to := range coreDNS(g, ctx, client) {
				g.Expect(askFromPod(ctx, n, name, to)).To(HavePrefix("HTTP/1.0 200"), "from a pod on %s to %s", n.Name(), to)
			}
		}).WithContext(ctx).WithTimeout(time.Minute).WithPolling(time.Second).Should(Succeed())
	}
}

// coreDNS are the addresses of its Service and of both its pods.
func coreDNS(g Gomega, ctx context.Context, client *kubernetes.Clientset) []string {
	pods, err := client.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
	g.Expect(err).NotTo(HaveOccurred())
	svc, err := client.CoreV1().Services("kube-system").Get(ctx, "kube-dns", metav1.GetOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	out := []string{svc.Spec.ClusterIP}
	for _, p := range pods.Items {
		g.Expect(p.Status.PodIP).NotTo(BeEmpty())
		out = append(out, p.Status.PodIP)
	}
	g.Expect(out).To(HaveLen(3))
	return out
}

// askFromPod asks CoreDNS for its metrics from the network namespace of a pod. bash speaks TCP by itself.
func askFromPod(ctx context.Context, n clusters.Node, pod, to string) (string, error) {
	out, err := clusters.Output(ctx, n, "bash", "-ec",
		`pid=$(crictl inspectp --output go-template --template '{{.info.pid}}' $(crictl pods --quiet --name "$0" --state Ready)); exec timeout 10 nsenter -t $pid -n bash -ec "$1"`,
		pod, fmt.Sprintf(`exec 3<>/dev/tcp/%s/9153; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; head -n 1 <&3`, to))
	return string(out), err
}

// kubeletAnswers asks the kubelet itself, through the API server: the Ready condition of a node that was down for a few
// seconds only is no sign of life.
func kubeletAnswers(ctx context.Context, client *kubernetes.Clientset, n clusters.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := client.CoreV1().RESTClient().Get().Resource("nodes").Name(n.Name()).SubResource("proxy", "healthz").DoRaw(ctx)
	return err
}

func pausePod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeName: node, TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{Name: "pause", Image: pauseImage, ImagePullPolicy: corev1.PullNever}},
		},
	}
}

// pauseImage is the one that kubeadm v1.36 names: k8s.io/kubernetes@v1.36.1 cmd/kubeadm/app/constants/constants.go.
const pauseImage = "registry.k8s.io/pause:3.10.2"

func images(ctx context.Context, n clusters.Node) []string {
	GinkgoHelper()
	out, err := clusters.Output(ctx, n, "crictl", "images", "--output=json")
	Expect(err).NotTo(HaveOccurred())
	var list struct {
		Images []struct{ RepoTags []string }
	}
	Expect(json.Unmarshal(out, &list)).To(Succeed())
	var tags []string
	for _, i := range list.Images {
		tags = append(tags, i.RepoTags...)
	}
	return tags
}

// smallImage is an image with one file, for this machine's platform: containerd leaves out all others.
func smallImage() v1.Image {
	GinkgoHelper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	Expect(w.WriteHeader(&tar.Header{Name: "file", Size: 4, Mode: 0o644})).To(Succeed())
	_, err := w.Write([]byte("text"))
	Expect(err).NotTo(HaveOccurred())
	Expect(w.Close()).To(Succeed())
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer.Bytes(), types.DockerUncompressedLayer))
	Expect(err).NotTo(HaveOccurred())
	c, err := img.ConfigFile()
	Expect(err).NotTo(HaveOccurred())
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", runtime.GOARCH
	img, err = mutate.ConfigFile(img, c)
	Expect(err).NotTo(HaveOccurred())
	return img
}

func dockerLines(ctx context.Context, args ...string) []string {
	GinkgoHelper()
	out, err := docker.Run(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return strings.Fields(out)
}

func get(ctx context.Context, url string) string {
	GinkgoHelper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	Expect(err).NotTo(HaveOccurred())
	res, err := http.DefaultClient.Do(req)
	Expect(err).NotTo(HaveOccurred())
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	Expect(err).NotTo(HaveOccurred())
	return string(body)
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }
