package faultcheck

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/vishvananda/netns"

	"gameday/clusters"
	"gameday/faults"
	"gameday/faults/mechanism/reach"
	"gameday/harness/inject"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("Partitions", Serial, Ordered, func() {
	BeforeEach(func(ctx SpecContext) {
		eventuallyWhole(ctx)
		DeferCleanup(eventuallyWhole, NodeTimeout(8*time.Minute))
	}, NodeTimeout(8*time.Minute))

	It("on one node do not undo one another", func(ctx SpecContext) {
		env := func(id string) faults.Env {
			return faults.Env{
				Cluster: cluster, Targets: []clusters.Node{place("worker[0]")}, Tag: inject.Tag("faultcheck", id),
				MaxHold: time.Minute, Notes: &memory{}, Log: say,
			}
		}
		a, aEnv := &faults.Partition{From: faults.Peers{"control-plane[0]", "control-plane[1]"}, Direction: "both"}, env("a")
		b, bEnv := &faults.Partition{From: faults.Peers{"apiservers"}, Direction: "both"}, env("b")
		DeferCleanup(func(ctx SpecContext) { Expect(errors.Join(a.Heal(ctx, aEnv), b.Heal(ctx, bEnv))).To(Succeed()) }, NodeTimeout(time.Minute))
		Expect(a.Inject(ctx, aEnv)).To(Succeed())
		Expect(b.Inject(ctx, bEnv)).To(Succeed())
		until(ctx, a, aEnv, 5*time.Second, active)
		until(ctx, b, bEnv, 5*time.Second, active)

		Expect(b.Heal(ctx, bEnv)).To(Succeed())
		e := until(ctx, b, bEnv, 5*time.Second, func(e faults.Effect) bool { return !e.Active && !e.Gone })
		say("after the heal of b: %s", e.Evidence)
		until(ctx, a, aEnv, 5*time.Second, active)
		Expect(a.Heal(ctx, aEnv)).To(Succeed())
		until(ctx, b, bEnv, 5*time.Second, gone)
	}, NodeTimeout(2*time.Minute))

	It("last longer than the life that the kernel gives them unasked, and not longer than maxHold", func(ctx SpecContext) {
		f := &faults.Partition{From: faults.Peers{"apiservers"}, Direction: "both"}
		env := faults.Env{
			Cluster: cluster, Targets: []clusters.Node{place("worker[0]")}, Tag: inject.Tag("faultcheck", "long"),
			MaxHold: 14 * time.Second, Notes: &memory{}, Log: say,
		}
		DeferCleanup(func(ctx SpecContext) { Expect(f.Heal(ctx, env)).To(Succeed()) }, NodeTimeout(time.Minute))
		began := time.Now()
		Expect(f.Inject(ctx, env)).To(Succeed())
		Consistently(ctx, func() error {
			e, err := f.Prove(ctx, env)
			if err == nil && !e.Active {
				err = errors.New(e.Evidence)
			}
			return err
		}).WithTimeout(13 * time.Second).WithPolling(200 * time.Millisecond).Should(Succeed())
		// Nobody heals it.
		until(ctx, f, env, 5*time.Second, gone)
		Expect(time.Since(began)).To(BeNumerically("~", 14*time.Second, time.Second))
		AddReportEntry("a partition that nobody heals, maxHold 14 s", fmt.Sprintf("ended after %.1f s", time.Since(began).Seconds()))
	}, NodeTimeout(time.Minute))

	It("cut pod traffic and established connections, and say nothing", func(ctx SpecContext) {
		pod, node := dnsPod(ctx)
		from := clusters.ByRole(cluster.Nodes(), clusters.Worker)[0]
		if from.Name() == node.Name() {
			from = clusters.ByRole(cluster.Nodes(), clusters.Worker)[1]
		}
		link, err := from.(clusters.Network).Link(ctx)
		Expect(err).NotTo(HaveOccurred())
		bystander := place("load-balancer[0]").IP()

		f := &faults.Partition{From: faults.Peers{"nodes"}, Direction: "both"}
		env := faults.Env{
			Cluster: cluster, Targets: []clusters.Node{node}, Tag: inject.Tag("faultcheck", "pods"),
			MaxHold: time.Minute, Notes: &memory{}, Log: say,
		}
		look := func(want reach.State) {
			GinkgoHelper()
			peers, err := reach.Look(ctx, link.NetNS, []netip.Addr{pod, bystander}, 2*time.Second)
			Expect(err).NotTo(HaveOccurred())
			say("from %s: %v", from.Name(), peers)
			Expect(peers[0].State).To(Equal(want), "the pod, from another node")
			Expect(peers[1].State).To(Equal(reach.Answering), "the bystander")
		}
		look(reach.Answering)
		conn := dialFrom(ctx, link.NetNS, netip.AddrPortFrom(pod, 9153).String())
		DeferCleanup(conn.Close)
		r := bufio.NewReader(conn)
		Expect(get(conn, r, time.Now().Add(5*time.Second))).To(Succeed())

		DeferCleanup(func(ctx SpecContext) { Expect(f.Heal(ctx, env)).To(Succeed()) }, NodeTimeout(time.Minute))
		Expect(f.Inject(ctx, env)).To(Succeed())
		until(ctx, f, env, 5*time.Second, active)
		look(reach.Silent)
		Expect(get(conn, r, time.Now().Add(3*time.Second))).To(MatchError(os.ErrDeadlineExceeded), "the connection neither answers nor breaks")

		Expect(f.Heal(ctx, env)).To(Succeed())
		until(ctx, f, env, 5*time.Second, gone)
		look(reach.Answering)
		healed := time.Now()
		Expect(answer(conn, r, time.Now().Add(20*time.Second))).To(Succeed(), "the request that was sent meanwhile")
		AddReportEntry("an established connection after a partition of 3 s", fmt.Sprintf("goes on %.2f s after the heal", time.Since(healed).Seconds()))
	}, NodeTimeout(2*time.Minute))
})

var _ = Describe("A slow fsync", Serial, func() {
	It("can be changed while it lasts", func(ctx SpecContext) {
		eventuallyWhole(ctx)
		f := &faults.SlowFsync{Delay: 300 * time.Millisecond}
		env := faults.Env{
			Cluster: cluster, Targets: []clusters.Node{place("control-plane[2]")}, Tag: inject.Tag("faultcheck", "change"),
			MaxHold: 2 * time.Minute, Notes: &memory{}, Log: say,
		}
		DeferCleanup(func(ctx SpecContext) { Expect(f.Heal(ctx, env)).To(Succeed()) }, NodeTimeout(time.Minute))
		Expect(f.Inject(ctx, env)).To(Succeed())
		until(ctx, f, env, 30*time.Second, active)
		f.Delay = 100 * time.Millisecond
		Expect(f.Inject(ctx, env)).To(Succeed())
		e := until(ctx, f, env, 30*time.Second, active)
		say("%s", e.Evidence)
		Expect(f.Heal(ctx, env)).To(Succeed())
		until(ctx, f, env, 30*time.Second, gone)
	}, NodeTimeout(10*time.Minute))
})

// dnsPod is a CoreDNS pod, which every cluster has, and the node that it runs on.
func dnsPod(ctx context.Context) (netip.Addr, clusters.Node) {
	GinkgoHelper()
	client, err := kubernetes.NewForConfig(cluster.REST())
	Expect(err).NotTo(HaveOccurred())
	pods, err := client.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-dns", FieldSelector: "status.phase=Running"})
	Expect(err).NotTo(HaveOccurred())
	Expect(pods.Items).NotTo(BeEmpty())
	ip, err := netip.ParseAddr(pods.Items[0].Status.PodIP)
	Expect(err).NotTo(HaveOccurred())
	for _, n := range cluster.Nodes() {
		if n.Name() == pods.Items[0].Spec.NodeName {
			return ip, n
		}
	}
	Fail("no node is called " + pods.Items[0].Spec.NodeName)
	return ip, nil
}

// dialFrom connects from inside a network namespace; the connection stays there.
func dialFrom(ctx context.Context, ns, addr string) net.Conn {
	GinkgoHelper()
	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		h, err := netns.GetFromPath(ns)
		if err == nil {
			err = errors.Join(netns.Set(h), h.Close())
		}
		if err != nil {
			done <- result{err: err}
			return
		}
		d := net.Dialer{Timeout: 5 * time.Second}
		c, err := d.DialContext(ctx, "tcp", addr)
		done <- result{c, err}
	}()
	r := <-done
	Expect(r.err).NotTo(HaveOccurred())
	return r.c
}

// get sends a request over the connection and reads the answer.
func get(c net.Conn, r *bufio.Reader, by time.Time) error {
	if _, err := c.Write([]byte("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		return err
	}
	return answer(c, r, by)
}

func answer(c net.Conn, r *bufio.Reader, by time.Time) error {
	if err := c.SetReadDeadline(by); err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		if _, err := resp.Body.Read(buf); err != nil {
			return resp.Body.Close()
		}
	}
}
