package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/clusters/local"
	"gameday/clusters/nodeimage"
	"gameday/clusters/upgrade"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const before = "v1.36.1"

// book keeps the phases of an upgrade, and ends it when a chosen one begins.
type book struct {
	mu    sync.Mutex
	lines []string
	stop  string
	end   context.CancelFunc
}

func (b *book) publish(p upgrade.Phase) {
	b.mu.Lock()
	defer b.mu.Unlock()
	say("%s %s %s: %s", p.Path, p.State, p.Outcome, p.Seen)
	b.lines = append(b.lines, strings.TrimSpace(fmt.Sprintf("%s %s %s", p.Path, p.State, p.Outcome)))
	if b.stop == p.Path && p.State == upgrade.Began {
		b.end()
	}
}

// run upgrades by a strategy; it is ended when the phase stop begins, if there is one.
func run(ctx context.Context, c clusters.Cluster, strategy, stop string, o upgrade.Options) ([]string, error) {
	GinkgoHelper()
	kind, ok := upgrade.Lookup(strategy)
	Expect(ok).To(BeTrue(), strategy)
	binaries, err := nodeimage.EnsureBinaries(ctx, nodeimage.Spec{Version: version}, say)
	Expect(err).NotTo(HaveOccurred())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &book{stop: stop, end: cancel}
	o.To = version
	err = kind.New().Run(ctx, upgrade.Env{Cluster: c, Options: o, Targets: upgrade.FromBinaries(binaries), Publish: b.publish, Say: say})
	return b.lines, err
}

// kubelets are the versions that they say.
func kubelets(ctx context.Context, c clusters.Cluster) []string {
	GinkgoHelper()
	var out []string
	for _, n := range c.Nodes() {
		node, err := clientOf(c).CoreV1().Nodes().Get(ctx, n.Name(), metav1.GetOptions{})
		Expect(err).NotTo(HaveOccurred())
		out = append(out, node.Status.NodeInfo.KubeletVersion)
	}
	return out
}

var _ = Describe("A cluster of the version before", Label("upgrades"), func() {
	It("is upgraded by hand, interrupted, taken up again, and keeps what was installed when it is switched off", func(ctx SpecContext) {
		spec := specOf("hand", 1, 1)
		spec.Version = before
		c := create(ctx, spec, local.Settings{})
		o := upgrade.Options{
			Drain: upgrade.DrainNone, StopFirst: []string{"kube-controller-manager"},
			Order: []string{"etcd", "kube-apiserver", "kube-scheduler", "kubelet", "kube-controller-manager"},
		}
		const at = "upgrade/control-plane[0]/"

		By("interrupting it")
		lines, err := run(ctx, c, "binaries", at+"kube-scheduler", o)
		Expect(err).To(MatchError(context.Canceled))
		Expect(lines).To(ContainElements(at+"etcd ended proceeded", at+"kube-apiserver ended proceeded", "upgrade ended blocked"))
		refs, err := running(ctx, c.Nodes()[0], "kube-controller-manager")
		Expect(err).NotTo(HaveOccurred())
		Expect(refs).To(BeEmpty(), "it is stopped until its turn")

		By("taking it up again")
		lines, err = run(ctx, c, "binaries", "", o)
		Expect(err).NotTo(HaveOccurred())
		Expect(lines).To(ContainElements(
			at+"stop-kube-controller-manager ended skipped", at+"etcd ended skipped", at+"kube-apiserver ended skipped",
			at+"kubelet ended proceeded", "upgrade/worker[0]/kubelet ended proceeded", at+"kube-controller-manager ended proceeded", "upgrade ended proceeded",
		))
		Expect(kubelets(ctx, c)).To(HaveEach(version))

		By("switching it off and on")
		cp := c.Nodes()[0].(clusters.Power)
		Expect(cp.PowerOff(ctx)).To(Succeed())
		Expect(cp.PowerOn(ctx)).To(Succeed())
		Eventually(ctx, func(ctx context.Context) error { return c.Whole(ctx) }).WithTimeout(bound).Should(Succeed())
		Eventually(ctx, func(ctx context.Context) (string, error) {
			v, err := clientOf(c).Discovery().ServerVersion()
			if err != nil {
				return "", err
			}
			return v.GitVersion, nil
		}).WithTimeout(bound).Should(Equal(version))
	}, SpecTimeout(4*time.Minute))

	It("is upgraded by a command, which is watched from outside", func(ctx SpecContext) {
		spec := specOf("ext", 1, 1)
		spec.Version = before
		c := create(ctx, spec, local.Settings{})
		GinkgoT().Setenv(upgrades, "1")
		self, err := os.Executable()
		Expect(err).NotTo(HaveOccurred())
		lines, err := run(ctx, c, "external", "", upgrade.Options{Command: []string{self}})
		Expect(err).NotTo(HaveOccurred())
		Expect(lines).To(ContainElements(
			"upgrade/control-plane[0]/kube-apiserver ended proceeded", "upgrade/control-plane[0]/kubelet ended proceeded",
			"upgrade/control-plane[0] ended proceeded", "upgrade/worker[0] ended proceeded", "upgrade ended proceeded",
		))
		Expect(kubelets(ctx, c)).To(HaveEach(version))
		Expect(c.Whole(ctx)).To(Succeed())
	}, SpecTimeout(4*time.Minute))
})

// upgrades makes this program the command of strategy external.
const upgrades = "GAMEDAY_SUITE_UPGRADES"

// upgradeAll is a command that upgrades a cluster without gameday's strategies: all at
// once on each node, in the order of its nodes.
func upgradeAll(ctx context.Context) (err error) {
	if os.Getenv("KUBECONFIG") == "" || os.Getenv("GAMEDAY_FROM") != before {
		return errors.New("it was not told what to upgrade")
	}
	to := os.Getenv("GAMEDAY_TO")
	binaries, err := nodeimage.EnsureBinaries(ctx, nodeimage.Spec{Version: to}, func(string, ...any) {})
	if err != nil {
		return err
	}
	c, err := local.Open(ctx, os.Getenv("GAMEDAY_CLUSTER"))
	if err != nil {
		return err
	}
	for _, n := range c.Nodes() {
		hands, ok := n.(clusters.Components)
		if !ok {
			continue
		}
		all := []string{"kubelet"}
		if n.Role() == clusters.ControlPlane {
			all = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}
		}
		for _, name := range all {
			of := to
			if name == "etcd" {
				of = binaries.Etcd
			}
			if err := errors.Join(hands.InstallComponent(ctx, name, of, binaries.Dir+"/"+name), hands.StopComponent(ctx, name), hands.StartComponent(ctx, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
