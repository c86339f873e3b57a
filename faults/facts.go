package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

// factsTime bounds the questions of FactsOf together.
const factsTime = 10 * time.Second

// FactsOf asks the cluster for what a target needs to be resolved, and only for
// that.
func FactsOf(ctx context.Context, c clusters.Cluster, cli kubernetes.Interface, k Kind, t Target) (Facts, error) {
	var f Facts
	ctx, cancel := context.WithTimeout(ctx, factsTime)
	defer cancel()
	if t.Pick == PickLeader || t.Pick == PickFollower {
		leader, err := leaderOf(ctx, c, cli, k.Component())
		if err != nil {
			return f, err
		}
		f.Leader = leader
	}
	if len(t.Labels) > 0 || t.Zone != "" {
		list, err := cli.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return f, fmt.Errorf("labels of nodes: %w", err)
		}
		f.Labels = map[string]map[string]string{}
		for _, n := range list.Items {
			f.Labels[n.Name] = n.Labels
		}
	}
	return f, nil
}

// leaderOf names the node on which a component leads.
func leaderOf(ctx context.Context, c clusters.Cluster, cli kubernetes.Interface, component string) (string, error) {
	if component == LeadsEtcd {
		return EtcdLeader(ctx, c)
	}
	lease, err := cli.CoordinationV1().Leases(metav1.NamespaceSystem).Get(ctx, component, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("lease of %s: %w", component, err)
	}
	var holder string
	if lease.Spec.HolderIdentity != nil {
		// HOSTNAME_UUID: k8s.io/kubernetes@v1.37.0 cmd/kube-controller-manager/app/controllermanager.go.
		holder, _, _ = strings.Cut(*lease.Spec.HolderIdentity, "_")
	}
	for _, n := range c.Nodes() {
		if n.Name() == holder {
			return holder, nil
		}
	}
	return "", fmt.Errorf("the lease of %s is held by %q, which is no node of the cluster", component, holder)
}

// EtcdLeader names the node whose etcd member leads.
func EtcdLeader(ctx context.Context, c clusters.Cluster) (string, error) {
	cli, err := clusters.EtcdClient(ctx, c)
	if err != nil {
		return "", err
	}
	defer cli.Close()
	var errs []error
	for _, n := range clusters.ByRole(c.Nodes(), clusters.ControlPlane) {
		s, err := cli.Status(ctx, clusters.EtcdURL(n))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", n.Name(), err))
		case s.Leader != 0 && s.Leader == s.Header.MemberId:
			return n.Name(), nil
		}
	}
	return "", fmt.Errorf("no etcd member says that it leads: %w", errors.Join(errs...))
}
