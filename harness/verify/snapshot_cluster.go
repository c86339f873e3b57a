package verify

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

// etcdSnapshot are the members of etcd and its alarms. A member that was replaced
// has another id.
func etcdSnapshot(ctx context.Context, c clusters.Cluster, s Snapshot) error {
	const where = "etcd"
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cli, err := clusters.EtcdClient(ctx, c)
	if err != nil {
		return errPart(where, err)
	}
	defer cli.Close()
	list, err := cli.MemberList(ctx)
	if err != nil {
		return errPart("etcd members", err)
	}
	for _, m := range list.Members {
		s.add(where, "member %s at %s learner=%v", m.Name, strings.Join(sorted(m.PeerURLs), " "), m.IsLearner)
	}
	s.add(where, "%d members", len(list.Members))
	alarms, err := cli.AlarmList(ctx)
	if err != nil {
		return errPart("etcd alarms", err)
	}
	for _, a := range alarms.Alarms {
		s.add(where, "alarm %s", a.Alarm)
	}
	return nil
}

// apiSnapshot are settings that the API holds: what a fault may change there and
// must put back, and objects that carry our name.
func apiSnapshot(ctx context.Context, cli kubernetes.Interface, s Snapshot) error {
	const where = "api"
	all := metav1.ListOptions{}
	nodes, err := cli.CoreV1().Nodes().List(ctx, all)
	if err != nil {
		return errPart("nodes", err)
	}
	for _, n := range nodes.Items {
		s.add(where, "node %s unschedulable=%v labels %s", n.Name, n.Spec.Unschedulable, hash(n.Labels))
		for _, t := range n.Spec.Taints {
			s.add(where, "node %s taint %s=%s:%s", n.Name, t.Key, t.Value, t.Effect)
		}
		for _, c := range n.Status.Conditions {
			if c.Type != corev1.NodeReady && c.Status == corev1.ConditionTrue {
				s.add(where, "node %s %s", n.Name, c.Type)
			}
		}
	}
	namespaces, err := cli.CoreV1().Namespaces().List(ctx, all)
	if err != nil {
		return errPart("namespaces", err)
	}
	for _, n := range namespaces.Items {
		s.add(where, "namespace %s %s", n.Name, n.Status.Phase)
	}
	configs, err := cli.CoreV1().ConfigMaps(metav1.NamespaceSystem).List(ctx, all)
	if err != nil {
		return errPart("config maps", err)
	}
	for _, m := range configs.Items {
		s.add(where, "config map %s %s", m.Name, hash(m.Data))
	}
	deployments, err := cli.AppsV1().Deployments("").List(ctx, all)
	if err != nil {
		return errPart("deployments", err)
	}
	for _, d := range deployments.Items {
		s.add(where, "deployment %s/%s %s", d.Namespace, d.Name, hash(d.Spec))
	}
	sets, err := cli.AppsV1().DaemonSets("").List(ctx, all)
	if err != nil {
		return errPart("daemon sets", err)
	}
	for _, d := range sets.Items {
		s.add(where, "daemon set %s/%s %s", d.Namespace, d.Name, hash(d.Spec))
	}
	budgets, err := cli.PolicyV1().PodDisruptionBudgets("").List(ctx, all)
	if err != nil {
		return errPart("disruption budgets", err)
	}
	for _, b := range budgets.Items {
		s.add(where, "disruption budget %s/%s", b.Namespace, b.Name)
	}
	hooks, err := cli.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, all)
	if err != nil {
		return errPart("webhooks", err)
	}
	for _, h := range hooks.Items {
		s.add(where, "webhook %s", h.Name)
	}
	pods, err := cli.CoreV1().Pods("").List(ctx, all)
	if err != nil {
		return errPart("pods", err)
	}
	for _, p := range pods.Items {
		// Those of a controller have other names each time.
		if len(p.OwnerReferences) == 0 || p.OwnerReferences[0].Kind == "Node" {
			s.add(where, "pod %s/%s", p.Namespace, p.Name)
		}
	}
	return nil
}

// hash is short for what is too long for a line.
func hash(v any) string {
	if m, ok := v.(map[string]string); ok { // in order
		var all []string
		for _, k := range slices.Sorted(maps.Keys(m)) {
			all = append(all, k+"="+m[k])
		}
		v = all
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%x", sum[:6])
}
