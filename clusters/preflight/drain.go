package preflight

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	// evictionSource is the code that refuses evictions.
	evictionSource = "k8s.io/kubernetes@v1.37.0 pkg/registry/core/pod/storage/eviction.go"
	drainSource    = "https://kubernetes.io/docs/tasks/administer-cluster/safely-drain-node/"
)

// drain looks for what keeps pods on their nodes.
func drain(f *Facts) []Finding {
	var moved []corev1.Pod // what a drain evicts
	var bare, scratch, local []string
	claims := localClaims(f.Volumes)
	for _, p := range f.Pods {
		owner := metav1.GetControllerOf(&p)
		_, static := p.Annotations[corev1.MirrorPodAnnotationKey]
		done := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		if p.Spec.NodeName == "" || static || done || owner != nil && owner.Kind == "DaemonSet" {
			continue
		}
		name := "Pod " + p.Namespace + "/" + p.Name
		if owner == nil {
			bare = append(bare, name+" on "+p.Spec.NodeName)
		}
		moved = append(moved, p)
		empty, host := keeps(p, claims)
		if empty {
			scratch = append(scratch, name)
		}
		if host {
			local = append(local, name)
		}
	}
	out := slices.Concat(refusals(f.Budgets, moved), overlaps(f.Budgets, moved))
	if len(bare) > 0 {
		out = append(out, Finding{
			Severity: Blocks, What: "a drain refuses pods that no controller would make again", Where: bare,
			Mend: "give them a controller, or delete them", Source: drainSource,
		})
	}
	if len(scratch) > 0 {
		out = append(out, Finding{
			Severity: Note, What: "a drain loses what is in emptyDir volumes, and kubectl's refuses without --delete-emptydir-data", Where: scratch, Source: drainSource,
		})
	}
	if len(local) > 0 {
		out = append(out, Finding{
			Severity: Note, What: "pods keep data on their node: elsewhere they lack it, or cannot be scheduled", Where: local, Source: drainSource,
		})
	}
	return out
}

// localClaims are the claims, by namespace/name, whose volume is on a node.
func localClaims(volumes []corev1.PersistentVolume) map[string]bool {
	out := map[string]bool{}
	for _, v := range volumes {
		if ref := v.Spec.ClaimRef; ref != nil && (v.Spec.Local != nil || v.Spec.HostPath != nil) {
			out[ref.Namespace+"/"+ref.Name] = true
		}
	}
	return out
}

// keeps says whether a pod has data that goes with it, or stays on its node.
func keeps(p corev1.Pod, claims map[string]bool) (scratch, local bool) {
	for _, v := range p.Spec.Volumes {
		scratch = scratch || v.EmptyDir != nil
		local = local || v.HostPath != nil || v.PersistentVolumeClaim != nil && claims[p.Namespace+"/"+v.PersistentVolumeClaim.ClaimName]
	}
	return scratch, local
}

// guarded are the pods that a budget is about. The API server heeds no budget for
// pods that are pending or being deleted.
func guarded(b policyv1.PodDisruptionBudget, pods []corev1.Pod) ([]corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("its selector: %w", err)
	}
	var out []corev1.Pod
	for _, p := range pods {
		if p.Namespace == b.Namespace && p.Status.Phase != corev1.PodPending && p.DeletionTimestamp == nil && selector.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out, nil
}

// refusals are the budgets that let no pod go.
func refusals(budgets []policyv1.PodDisruptionBudget, pods []corev1.Pod) []Finding {
	var out []Finding
	for _, b := range budgets {
		where := "PodDisruptionBudget " + b.Namespace + "/" + b.Name
		covered, err := guarded(b, pods)
		if err != nil {
			out = append(out, Finding{Severity: Unknown, What: err.Error(), Where: []string{where}, Mend: "mend the budget"})
			continue
		}
		if len(covered) == 0 {
			continue
		}
		s := b.Status
		found := Finding{Severity: Blocks, Where: []string{where}, Source: evictionSource}
		failed := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition)
		switch {
		case s.ObservedGeneration < b.Generation:
			found.What = "no pod may be evicted: the controller manager has not looked at this budget"
			found.Mend = "see that a controller manager runs"
		case s.DisruptionsAllowed > 0:
			continue
		case failed != nil && failed.Reason == policyv1.SyncFailedReason:
			found.What = "no pod may be evicted: the budget cannot be computed: " + failed.Message
			found.Mend = "mend the budget, or give its pods a controller that can be scaled"
		case s.ExpectedPods == 0:
			found.What = "no pod may be evicted: the controller manager has not counted the pods of this budget"
			found.Mend = "see that a controller manager runs, and that no other budget has the same pods"
		case s.DesiredHealthy >= s.ExpectedPods:
			found.What = fmt.Sprintf("no pod may ever be evicted: %d of %d must be healthy (%s)", s.DesiredHealthy, s.ExpectedPods, bounds(b))
			found.Mend = "let one be away for the upgrade, or run one more"
		default:
			found.What = fmt.Sprintf("no pod may be evicted now: %d of %d are healthy, %d must be (%s)", s.CurrentHealthy, s.ExpectedPods, s.DesiredHealthy, bounds(b))
			found.Mend = "bring its pods to health first"
		}
		out = append(out, found)
	}
	return out
}

// bounds is what the budget demands, as it is written.
func bounds(b policyv1.PodDisruptionBudget) string {
	if b.Spec.MaxUnavailable != nil {
		return "maxUnavailable " + b.Spec.MaxUnavailable.String()
	}
	if b.Spec.MinAvailable != nil {
		return "minAvailable " + b.Spec.MinAvailable.String()
	}
	return "minAvailable 1"
}

// overlaps are pods of more than one budget: the API server answers each eviction of
// them with an error.
func overlaps(budgets []policyv1.PodDisruptionBudget, pods []corev1.Pod) []Finding {
	names := map[string][]string{} // of budgets, by pod
	for _, b := range budgets {
		covered, err := guarded(b, pods)
		if err != nil {
			continue // told by refusals
		}
		for _, p := range covered {
			names[p.Namespace+"/"+p.Name] = append(names[p.Namespace+"/"+p.Name], b.Name)
		}
	}
	var where []string
	for pod, by := range names {
		if len(by) > 1 {
			slices.Sort(by)
			where = append(where, fmt.Sprintf("Pod %s %v", pod, by))
		}
	}
	if len(where) == 0 {
		return nil
	}
	slices.Sort(where)
	return []Finding{{
		Severity: Blocks, What: "pods with more than one disruption budget can never be evicted", Where: where,
		Mend: "leave one budget for each pod", Source: evictionSource,
	}}
}
