// Package gate says whether a cluster is whole, in other words than the proofs of
// faults: nodes Ready, etcd members healthy voters, every way to the API ready.
//
// Each look returns "" if all is well, else what is not, in one line.
package gate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/clusters"
)

// poll is how often Wait looks, ask how long one question to one member or
// endpoint may take.
const (
	poll = 500 * time.Millisecond
	ask  = 3 * time.Second
)

// Wait looks until all is well, within the bound. The error says what was not.
func Wait(ctx context.Context, what string, bound time.Duration, look func(context.Context) string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("waited %s for %s", bound, what))
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	why := "not looked at yet"
	for {
		if w := look(ctx); w == "" {
			return nil
		} else if ctx.Err() == nil {
			why = w // what was seen after the bound is about the bound
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), why)
		case <-tick.C:
		}
	}
}

// Client is an administrator's client without client-go's own rate limit: a look
// must not wait for itself.
func Client(c clusters.Cluster) (kubernetes.Interface, error) {
	cfg := rest.CopyConfig(c.REST())
	cfg.QPS = -1
	cfg.Timeout = 10 * time.Second
	cli, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", c.Name(), err)
	}
	return cli, nil
}

// Nodes wants every node Ready and schedulable, and at the version if one is
// given.
func Nodes(ctx context.Context, cli kubernetes.Interface, nodes []clusters.Node, version string) string {
	list, err := cli.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Sprintf("list nodes: %v", err)
	}
	var bad []string
	for _, n := range nodes {
		if n.Role() != clusters.LoadBalancer && !slices.ContainsFunc(list.Items, func(i corev1.Node) bool { return i.Name == n.Name() }) {
			bad = append(bad, n.Name()+" is not a node of the API")
		}
	}
	for _, n := range list.Items {
		ready := "Unknown"
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				ready = string(c.Status)
			}
		}
		switch {
		case ready != "True":
			bad = append(bad, n.Name+" Ready="+ready)
		case n.Spec.Unschedulable:
			bad = append(bad, n.Name+" is cordoned")
		case tainted(n) != "":
			bad = append(bad, n.Name+" is tainted "+tainted(n))
		case version != "" && n.Status.NodeInfo.KubeletVersion != version:
			bad = append(bad, n.Name+" runs "+n.Status.NodeInfo.KubeletVersion)
		}
	}
	return strings.Join(bad, ", ")
}

// tainted is a taint of the node lifecycle controller's, which it takes back some
// seconds after the node is Ready again: k8s.io/api@v0.37.0 core/v1/well_known_taints.go.
func tainted(n corev1.Node) string {
	for _, t := range n.Spec.Taints {
		if strings.HasPrefix(t.Key, "node.kubernetes.io/") {
			return t.Key
		}
	}
	return ""
}

// Etcd wants a voter on every control plane that knows the leader and reports no
// error.
func Etcd(ctx context.Context, c clusters.Cluster) string {
	cps := clusters.ByRole(c.Nodes(), clusters.ControlPlane)
	cli, err := clusters.EtcdClient(ctx, c)
	if err != nil {
		return err.Error()
	}
	defer cli.Close()
	ctx, cancel := context.WithTimeout(ctx, ask)
	defer cancel()
	list, err := cli.MemberList(ctx)
	if err != nil {
		return fmt.Sprintf("etcd member list: %v", err)
	}
	if len(list.Members) != len(cps) {
		return fmt.Sprintf("etcd has %d members, not %d", len(list.Members), len(cps))
	}
	for _, m := range list.Members {
		if m.IsLearner {
			return fmt.Sprintf("etcd member %s is a learner", m.Name)
		}
	}
	leaders := map[uint64]bool{}
	for _, n := range cps {
		s, err := cli.Status(ctx, clusters.EtcdURL(n))
		if err != nil {
			return fmt.Sprintf("etcd on %s: %v", n.Name(), err)
		}
		if len(s.Errors) > 0 || s.Leader == 0 {
			return fmt.Sprintf("etcd on %s: leader %d, errors %v", n.Name(), s.Leader, s.Errors)
		}
		leaders[s.Leader] = true
	}
	if len(leaders) > 1 {
		return "the etcd members do not agree on who leads"
	}
	return ""
}

// Endpoints wants every way to the API ready.
func Endpoints(ctx context.Context, c clusters.Cluster) string {
	ends := c.Endpoints()
	bad := make([]string, len(ends))
	var all sync.WaitGroup
	for i, e := range ends {
		all.Go(func() {
			if err := readyz(ctx, e); err != nil {
				bad[i] = fmt.Sprintf("/readyz of %s: %v", e.Name, err)
			}
		})
	}
	all.Wait()
	return strings.Join(slices.DeleteFunc(bad, func(s string) bool { return s == "" }), ", ")
}

func readyz(ctx context.Context, e clusters.Endpoint) error {
	cfg := rest.CopyConfig(e.Config)
	cfg.Timeout = ask
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return err
	}
	defer h.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.Host+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := h.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}

// System wants every pod of kube-system ready: the control plane's own and what
// every node needs.
func System(ctx context.Context, cli kubernetes.Interface) string {
	pods, err := cli.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Sprintf("list pods: %v", err)
	}
	var bad []string
	for _, p := range pods.Items {
		if p.Status.Phase == corev1.PodSucceeded {
			continue
		}
		ready := "Unknown"
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady {
				ready = string(c.Status)
			}
		}
		switch {
		case p.DeletionTimestamp != nil:
			bad = append(bad, p.Name+" is being deleted")
		case ready != "True":
			bad = append(bad, p.Name+" Ready="+ready)
		}
	}
	return strings.Join(bad, ", ")
}

// All of the above, the quickest first.
func All(ctx context.Context, c clusters.Cluster, cli kubernetes.Interface) string {
	for _, look := range []func() string{
		func() string { return Etcd(ctx, c) },
		func() string { return Endpoints(ctx, c) },
		func() string { return Nodes(ctx, cli, c.Nodes(), "") },
		func() string { return System(ctx, cli) },
	} {
		if why := look(); why != "" {
			return why
		}
	}
	return ""
}
