package faults

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/clusters"
)

// apiTime bounds one request to the API that changes something, or lists pods.
const apiTime = 5 * time.Second

// throughAPI does something through the API: by the load balancer, and if that
// way leads nowhere by each API server in turn, since another fault may have hit
// any of them. What the API itself answers is final.
func throughAPI(ctx context.Context, c clusters.Cluster, do func(context.Context, kubernetes.Interface) error) error {
	ways := []*rest.Config{c.REST()}
	for _, e := range c.Endpoints() {
		if e.Node != nil {
			ways = append(ways, e.Config)
		}
	}
	var errs []error
	for _, way := range ways {
		cfg := rest.CopyConfig(way)
		cfg.QPS = -1 // no rate limit of client-go's own
		cfg.Timeout = apiTime
		cli, err := kubernetes.NewForConfig(cfg)
		if err == nil {
			err = do(ctx, cli)
		}
		var status apierrors.APIStatus
		if err == nil || errors.As(err, &status) && !apierrors.IsInternalError(err) && !apierrors.IsServiceUnavailable(err) && !apierrors.IsServerTimeout(err) {
			return err
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// checkSelector is for Validate.
func checkSelector(selector string) []error {
	if strings.TrimSpace(selector) == "" {
		return []error{fmt.Errorf("selector: an empty one means every pod of the cluster; the default, %s, means those that the run made", clusters.LabelRun)}
	}
	if _, err := labels.Parse(selector); err != nil {
		return []error{fmt.Errorf("selector: %w", err)}
	}
	return nil
}

// podsOf lists the pods that a selector means, as they are now, sorted by UID,
// which is the same order for everybody and favours nobody. An empty node means
// all nodes. Left out are those that have ended or are about to, and the shadows
// of static pods, which only the kubelet can touch.
func podsOf(ctx context.Context, c clusters.Cluster, namespace, selector, node string) ([]corev1.Pod, error) {
	opts := metav1.ListOptions{LabelSelector: selector}
	if node != "" {
		opts.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
	}
	var list *corev1.PodList
	err := throughAPI(ctx, c, func(ctx context.Context, cli kubernetes.Interface) (err error) {
		list, err = cli.CoreV1().Pods(namespace).List(ctx, opts)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the pods with %s: %w", selector, err)
	}
	var out []corev1.Pod
	for _, p := range list.Items {
		_, static := p.Annotations[corev1.MirrorPodAnnotationKey]
		if !static && p.DeletionTimestamp == nil && !ended(&p) && p.Spec.NodeName != "" {
			out = append(out, p)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].UID < out[j].UID })
	return out, nil
}

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func podName(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }

// containerIDs are those of the containers that run, without the runtime's name.
func containerIDs(p *corev1.Pod) []string {
	var out []string
	for _, s := range p.Status.ContainerStatuses {
		if _, id, ok := strings.Cut(s.ContainerID, "://"); ok && s.State.Running != nil {
			out = append(out, id)
		}
	}
	return out
}

// mayEvict asks, without doing it, whether a pod could be evicted. False: a
// PodDisruptionBudget forbids it, and the text is the API server's. A pod that is
// gone, or not ready to be asked about, is an error.
func mayEvict(ctx context.Context, c clusters.Cluster, p *corev1.Pod) (bool, string, error) {
	err := throughAPI(ctx, c, func(ctx context.Context, cli kubernetes.Interface) error {
		return evict(ctx, cli, p, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
	})
	if why, refused := refusedByBudget(err); refused {
		return false, why, nil
	}
	if err != nil {
		return false, "", fmt.Errorf("ask whether %s may be evicted: %w", podName(p), err)
	}
	return true, "", nil
}

// evict evicts this very pod, not another with its name.
func evict(ctx context.Context, cli kubernetes.Interface, p *corev1.Pod, o metav1.DeleteOptions) error {
	o.Preconditions = metav1.NewUIDPreconditions(string(p.UID))
	return cli.PolicyV1().Evictions(p.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace}, DeleteOptions: &o,
	})
}

// refusedByBudget tells the 429 of a budget from that of an overloaded API server
// by its cause: k8s.io/kubernetes@v1.37.0 pkg/registry/core/pod/storage/eviction.go.
func refusedByBudget(err error) (why string, refused bool) {
	if !apierrors.IsTooManyRequests(err) {
		return "", false
	}
	cause, ok := apierrors.StatusCause(err, policyv1.DisruptionBudgetCause)
	return cause.Message, ok
}
