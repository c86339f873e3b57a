package kind

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

const (
	// readyBound is from the end of kind's work to a ready cluster: 10 to 20 s on
	// two idle cores.
	readyBound = 5 * time.Minute
	// askBound is for one question to the cluster.
	askBound = 10 * time.Second
	// sayEvery is how often a wait tells what it waits for.
	sayEvery = 10 * time.Second
)

// waitReady returns when the whole cluster works: every node Ready, every pod of
// kube-system Ready, every API endpoint ready (the load balancer among them),
// every etcd member a healthy voter.
func (c *cluster) waitReady(ctx context.Context, say clusters.Say) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyBound, fmt.Errorf("not ready within %s", readyBound))
	defer cancel()
	var lastSaid time.Time
	began := time.Now()
	err := poll(ctx, func(ctx context.Context) error {
		err := c.ready(ctx)
		if err != nil && time.Since(lastSaid) >= sayEvery && ctx.Err() == nil {
			say("kind: waiting for %s (%s of up to %s): %s", c.name, time.Since(began).Round(time.Second), readyBound, firstLine(err))
			lastSaid = time.Now()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cluster %s did not get ready: %w", c.name, err)
	}
	return nil
}

func firstLine(err error) string {
	line, rest, more := strings.Cut(err.Error(), "\n")
	if more {
		line += fmt.Sprintf(" (and %d more)", 1+strings.Count(rest, "\n"))
	}
	return line
}

// ready says what is not ready yet, all of it.
func (c *cluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	checks := []func(context.Context) error{c.nodesReady, c.podsReady, c.etcdReady}
	for _, e := range c.endpoints {
		checks = append(checks, func(ctx context.Context) error { return endpointReady(ctx, e) })
	}
	errs := make([]error, len(checks))
	var g errgroup.Group // all of them, not only up to the first error
	for i, check := range checks {
		g.Go(func() error { errs[i] = check(ctx); return nil })
	}
	return errors.Join(g.Wait(), errors.Join(errs...))
}

func (c *cluster) nodesReady(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.REST())
	if err != nil {
		return err
	}
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	ready := map[string]string{}
	for _, n := range list.Items {
		for _, cond := range n.Status.Conditions {
			if cond.Type == corev1.NodeReady {
				ready[n.Name] = string(cond.Status) + " " + cond.Reason
			}
		}
	}
	var errs []error
	for _, n := range c.Nodes() {
		if n.Role() == clusters.LoadBalancer {
			continue
		}
		if got, ok := ready[n.Name()]; !ok {
			errs = append(errs, fmt.Errorf("node %s has not reported", n.Name()))
		} else if !strings.HasPrefix(got, string(corev1.ConditionTrue)) {
			errs = append(errs, fmt.Errorf("node %s is not Ready (%s)", n.Name(), got))
		}
	}
	return errors.Join(errs...)
}

func (c *cluster) podsReady(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.REST())
	if err != nil {
		return err
	}
	list, err := client.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("pods of kube-system: %w", err)
	}
	// kubeadm's own pods: four on each control plane, kube-proxy on each node, CoreDNS.
	controlPlanes := len(clusters.ByRole(c.Nodes(), clusters.ControlPlane))
	workers := len(clusters.ByRole(c.Nodes(), clusters.Worker))
	if least := 5*controlPlanes + workers + 1; len(list.Items) < least {
		return fmt.Errorf("kube-system has %d pods of at least %d", len(list.Items), least)
	}
	var errs []error
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil && !podReady(p) {
			errs = append(errs, fmt.Errorf("pod %s on %s is not Ready (%s)", p.Name, p.Spec.NodeName, p.Status.Phase))
		}
	}
	return errors.Join(errs...)
}

func podReady(p corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// endpointReady asks one endpoint for /readyz.
func endpointReady(ctx context.Context, e clusters.Endpoint) error {
	client, err := kubernetes.NewForConfig(e.Config)
	if err != nil {
		return err
	}
	if _, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return fmt.Errorf("endpoint %s is not ready: %w", e.Name, err)
	}
	return nil
}

// etcdReady asks each member itself, and reads through the quorum.
func (c *cluster) etcdReady(ctx context.Context) (err error) {
	controlPlanes := clusters.ByRole(c.Nodes(), clusters.ControlPlane)
	cli, err := clusters.EtcdClient(ctx, c, controlPlanes...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cli.Close()) }()
	members, err := cli.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("etcd members: %w", err)
	}
	voters := 0
	for _, m := range members.Members {
		if m.Name != "" && !m.IsLearner {
			voters++
		}
	}
	if voters != len(controlPlanes) || len(members.Members) != voters {
		return fmt.Errorf("etcd has %d members, %d of them started voters, and there are %d control planes", len(members.Members), voters, len(controlPlanes))
	}
	var errs []error
	for _, n := range controlPlanes {
		s, err := cli.Status(ctx, clusters.EtcdURL(n))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("etcd member on %s: %w", n.Name(), err))
		case s.Leader == 0 || len(s.Errors) > 0:
			errs = append(errs, fmt.Errorf("etcd member on %s is not healthy (leader %x, %v)", n.Name(), s.Leader, s.Errors))
		}
	}
	// A linearizable read needs the quorum; the key need not be there.
	if _, err := cli.Get(ctx, "health"); err != nil {
		errs = append(errs, fmt.Errorf("etcd read: %w", err))
	}
	return errors.Join(errs...)
}

// poll asks every 500 ms until there is no error. When ctx ends it returns the
// last answer and why it ended.
func poll(ctx context.Context, ask func(context.Context) error) error {
	return pollEvery(ctx, 500*time.Millisecond, ask)
}

func pollEvery(ctx context.Context, every time.Duration, ask func(context.Context) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
