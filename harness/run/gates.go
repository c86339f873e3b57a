package run

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/clusters"
)

// poll is how often a gate looks.
const poll = 500 * time.Millisecond

// wait polls until ready says "" (else why not), within the bound. It says once
// what it waits for, and for how long at most.
func (r *runner) wait(ctx context.Context, what string, bound time.Duration, ready func(context.Context) string) error {
	r.say("waiting <= %s for %s", bound, what)
	ctx, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("waited %s for %s", bound, what))
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	why := "not looked at yet"
	for {
		if w := ready(ctx); w == "" {
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

// steady shows that all is well: every sampler good for the window, every node
// Ready and schedulable at the version, every etcd member a healthy voter,
// every promised pod ready.
func (r *runner) steady(ctx context.Context, window time.Duration, version string) string {
	if ok, why := r.samplers.Steady(window); !ok {
		return why
	}
	if why := nodesWell(ctx, r.client, r.cluster.Nodes(), version); why != "" {
		return why
	}
	if why := etcdWell(ctx, r.cluster); why != "" {
		return why
	}
	return r.workload.Unready(ctx)
}

func nodesWell(ctx context.Context, cli kubernetes.Interface, nodes []clusters.Node, version string) string {
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
		case version != "" && n.Status.NodeInfo.KubeletVersion != version:
			bad = append(bad, n.Name+" runs "+n.Status.NodeInfo.KubeletVersion)
		}
	}
	return strings.Join(bad, ", ")
}

func etcdWell(ctx context.Context, c clusters.Cluster) string {
	cps := clusters.ByRole(c.Nodes(), clusters.ControlPlane)
	cli, err := clusters.EtcdClient(ctx, c)
	if err != nil {
		return err.Error()
	}
	defer cli.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
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
	for _, n := range cps {
		s, err := cli.Status(ctx, clusters.EtcdURL(n))
		if err != nil {
			return fmt.Sprintf("etcd on %s: %v", n.Name(), err)
		}
		if len(s.Errors) > 0 || s.Leader == 0 {
			return fmt.Sprintf("etcd on %s: leader %d, errors %v", n.Name(), s.Leader, s.Errors)
		}
	}
	return ""
}

// admin is a client without client-go's own rate limit: the gates must not wait
// for themselves.
func admin(c clusters.Cluster) (kubernetes.Interface, error) {
	cfg := rest.CopyConfig(c.REST())
	cfg.QPS = -1
	cfg.Timeout = 10 * time.Second
	cli, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", c.Name(), err)
	}
	return cli, nil
}
