package faults

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"gameday/clusters"
)

var pdbBlock = Kind{
	Name: "pdb.block",
	Doc:  "Lets no pod of a workload be evicted, by a PodDisruptionBudget that allows no disruption: drains of the targets wait.",
	Rehearses: "A budget of maxUnavailable 0, or minAvailable of all replicas, that was meant well: node upgrades hang until " +
		"somebody finds it (https://kubernetes.io/docs/tasks/run-application/configure-pdb/); GKE gives up after an hour and " +
		"deletes the pods (https://cloud.google.com/kubernetes-engine/docs/concepts/node-pool-upgrade-strategies).",
	Mechanism:   "where pods have a budget that the run made, it is set to minAvailable 2147483647; where none has one, such a budget is made",
	Undo:        "the guard, or gameday heal, puts the old numbers back, or removes the budget that was made",
	Roles:       []clusters.Role{clusters.ControlPlane, clusters.Worker},
	ProveWithin: time.Minute,
	GoneWithin:  3 * time.Minute,
	Trials:      []Trial{{Name: "pdb-block", Target: Target{Pick: PickOne, Role: "worker"}, With: "{namespace: kube-system, selector: k8s-app=kube-proxy}"}},
	New:         func() Fault { return &PDBBlock{Selector: clusters.LabelRun} },
}

// labelBlocked is on the budgets that a pdb.block made or changed, with its tag.
const labelBlocked = "gameday.blocked"

// PDBBlock is the fault pdb.block. A budget knows no nodes: it blocks the drain of
// others too that carry pods of the same workload.
type PDBBlock struct {
	// Namespace of the pods; empty means any.
	Namespace string `yaml:"namespace" json:"namespace"`
	// Selector of labels; default: those of the pods that the run made.
	Selector string `yaml:"selector" json:"selector"`
}

// tightened are the budgets that were changed, with what they said before, by
// namespace/name.
type tightened map[string]policyv1.PodDisruptionBudgetSpec

// Validate implements Validator.
func (f *PDBBlock) Validate() []error { return checkSelector(f.Selector) }

// Describe implements Describer.
func (f *PDBBlock) Describe(targets []string) []string {
	return each(targets, fmt.Sprintf("%%s: PATCH or POST poddisruptionbudgets for its pods with %s%s: minAvailable %d", f.Selector, inNamespace(f.Namespace), math.MaxInt32))
}

// never is a minimum that is never met. maxUnavailable 0 would say the same, but
// needs controllers with a scale, which Jobs and DaemonSets have not:
// k8s.io/kubernetes@v1.37.0 pkg/controller/disruption/disruption.go getExpectedPodCount.
func never(spec *policyv1.PodDisruptionBudgetSpec) {
	all := intstr.FromInt32(math.MaxInt32)
	always := policyv1.IfHealthyBudget
	spec.MinAvailable, spec.MaxUnavailable, spec.UnhealthyPodEvictionPolicy = &all, nil, &always
}

// Inject blocks each namespace that has selected pods on a target.
func (f *PDBBlock) Inject(ctx context.Context, env Env) error {
	old := tightened{}
	if _, err := env.Notes.Load(&old); err != nil {
		return err
	}
	namespaces := map[string][]corev1.Pod{}
	for _, n := range env.Targets {
		pods, err := podsOf(ctx, env.Cluster, f.Namespace, f.Selector, n.Name())
		if err != nil {
			return err
		}
		if len(pods) == 0 {
			return fmt.Errorf("%s: no pod with %s%s runs there whose eviction could be blocked", n.Name(), f.Selector, inNamespace(f.Namespace))
		}
		for _, p := range pods {
			namespaces[p.Namespace] = append(namespaces[p.Namespace], p)
		}
	}
	for ns, pods := range namespaces {
		budgets, err := budgetsOf(ctx, env.Cluster, ns)
		if err != nil {
			return err
		}
		covering, err := over(budgets, pods)
		if err != nil {
			return err
		}
		if len(covering) == 0 {
			if err := f.make(ctx, env, ns); err != nil {
				return err
			}
			continue
		}
		for _, b := range covering {
			if err := tighten(ctx, env, b, old); err != nil {
				return err
			}
		}
	}
	return nil
}

// make makes a budget over the selected pods of a namespace.
func (f *PDBBlock) make(ctx context.Context, env Env, ns string) error {
	selector, err := metav1.ParseToLabelSelector(f.Selector)
	if err != nil {
		return err
	}
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{
			Name: "gameday-" + env.Tag, Namespace: ns,
			Labels: map[string]string{clusters.LabelRun: labelValue(env.Cluster.Run()), labelBlocked: labelValue(env.Tag)},
		},
		Spec: policyv1.PodDisruptionBudgetSpec{Selector: selector},
	}
	never(&b.Spec)
	err = throughAPI(ctx, env.Cluster, func(ctx context.Context, cli kubernetes.Interface) error {
		_, err := cli.PolicyV1().PodDisruptionBudgets(ns).Create(ctx, b, metav1.CreateOptions{})
		return err
	})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make the budget %s/%s: %w", ns, b.Name, err)
	}
	return nil
}

// labelValue cuts a tag to what a label may hold.
func labelValue(s string) string {
	return strings.Trim(s[:min(len(s), 63)], "-")
}

// tighten changes a budget of the run, whose old numbers are noted first.
func tighten(ctx context.Context, env Env, b policyv1.PodDisruptionBudget, old tightened) error {
	name := b.Namespace + "/" + b.Name
	mine := labelValue(env.Tag)
	switch by, blocked := b.Labels[labelBlocked]; {
	case blocked && by == mine:
		return nil
	case blocked:
		return fmt.Errorf("the budget %s is blocked already, by %s", name, by)
	case b.Labels[clusters.LabelRun] == "":
		return fmt.Errorf("the budget %s is over the pods, and the run did not make it (no label %s): it is not touched, and a second one would break evictions in another way", name, clusters.LabelRun)
	}
	old[name] = *b.Spec.DeepCopy()
	if err := env.Notes.Save(old); err != nil {
		return err
	}
	return changeBudget(ctx, env.Cluster, b.Namespace, b.Name, func(b *policyv1.PodDisruptionBudget) bool {
		if b.Labels == nil {
			b.Labels = map[string]string{}
		}
		b.Labels[labelBlocked] = mine
		never(&b.Spec)
		return true
	})
}

// changeBudget changes one, unless change says no.
func changeBudget(ctx context.Context, c clusters.Cluster, ns, name string, change func(*policyv1.PodDisruptionBudget) bool) error {
	err := throughAPI(ctx, c, func(ctx context.Context, cli kubernetes.Interface) error {
		return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			b, err := cli.PolicyV1().PodDisruptionBudgets(ns).Get(ctx, name, metav1.GetOptions{})
			if err != nil || !change(b) {
				return err
			}
			_, err = cli.PolicyV1().PodDisruptionBudgets(ns).Update(ctx, b, metav1.UpdateOptions{})
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("change the budget %s/%s: %w", ns, name, err)
	}
	return nil
}

// Heal finds what is ours by its label: what was made is removed, what was changed
// is put back.
func (f *PDBBlock) Heal(ctx context.Context, env Env) error {
	old := tightened{}
	if _, err := env.Notes.Load(&old); err != nil {
		return err
	}
	ours, err := blockedBy(ctx, env)
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range ours {
		if b.Name == "gameday-"+env.Tag {
			err := throughAPI(ctx, env.Cluster, func(ctx context.Context, cli kubernetes.Interface) error {
				return cli.PolicyV1().PodDisruptionBudgets(b.Namespace).Delete(ctx, b.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(b.UID))})
			})
			if err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, fmt.Errorf("remove the budget %s/%s: %w", b.Namespace, b.Name, err))
			}
			continue
		}
		before, ok := old[b.Namespace+"/"+b.Name]
		if !ok {
			errs = append(errs, fmt.Errorf("the budget %s/%s is blocked by %s, and what it said before is not noted", b.Namespace, b.Name, env.Tag))
			continue
		}
		err := changeBudget(ctx, env.Cluster, b.Namespace, b.Name, func(b *policyv1.PodDisruptionBudget) bool {
			if b.Labels[labelBlocked] != labelValue(env.Tag) {
				return false
			}
			delete(b.Labels, labelBlocked)
			b.Spec.MinAvailable, b.Spec.MaxUnavailable, b.Spec.UnhealthyPodEvictionPolicy = before.MinAvailable, before.MaxUnavailable, before.UnhealthyPodEvictionPolicy
			return true
		})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// blockedBy are the budgets that carry our label.
func blockedBy(ctx context.Context, env Env) ([]policyv1.PodDisruptionBudget, error) {
	all, err := budgetsOf(ctx, env.Cluster, "")
	return slices.DeleteFunc(all, func(b policyv1.PodDisruptionBudget) bool { return b.Labels[labelBlocked] != labelValue(env.Tag) }), err
}

func budgetsOf(ctx context.Context, c clusters.Cluster, ns string) ([]policyv1.PodDisruptionBudget, error) {
	var list *policyv1.PodDisruptionBudgetList
	err := throughAPI(ctx, c, func(ctx context.Context, cli kubernetes.Interface) (err error) {
		list, err = cli.PolicyV1().PodDisruptionBudgets(ns).List(ctx, metav1.ListOptions{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the budgets: %w", err)
	}
	return list.Items, nil
}

// over are the budgets that cover any of the pods.
func over(budgets []policyv1.PodDisruptionBudget, pods []corev1.Pod) ([]policyv1.PodDisruptionBudget, error) {
	var out []policyv1.PodDisruptionBudget
	for _, b := range budgets {
		s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil {
			return nil, fmt.Errorf("selector of the budget %s/%s: %w", b.Namespace, b.Name, err)
		}
		if slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Namespace == b.Namespace && s.Matches(labels.Set(p.Labels)) }) {
			out = append(out, b)
		}
	}
	return out, nil
}

// Prove asks the API server whether the pods could be evicted (dryRun=All).
func (f *PDBBlock) Prove(ctx context.Context, env Env) (Effect, error) {
	budgets, err := budgetsOf(ctx, env.Cluster, "")
	if err != nil {
		return Effect{}, err
	}
	left, err := blockedBy(ctx, env)
	if err != nil {
		return Effect{}, err
	}
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		pods, err := podsOf(ctx, env.Cluster, f.Namespace, f.Selector, n.Name())
		if err != nil {
			return seen{}, err
		}
		a, err := askAll(ctx, env.Cluster, budgets, pods)
		if err != nil {
			return seen{}, err
		}
		s := a.judge(len(pods))
		s.whole = s.whole && len(left) == 0
		return s, nil
	})
	if err != nil {
		return e, err
	}
	if e.Active {
		if e.Control, err = f.control(ctx, env); err != nil {
			return Effect{}, err
		}
		if e.Control == "" {
			e.Active = false
			e.Evidence += "; but no other pod may be evicted either"
		}
	}
	e.At = time.Now()
	return e, nil
}

// asked counts what the API server answered.
type asked struct {
	covered, coveredRefused, allowed int
	why                              string
}

func askAll(ctx context.Context, c clusters.Cluster, budgets []policyv1.PodDisruptionBudget, pods []corev1.Pod) (asked, error) {
	var a asked
	for _, p := range pods {
		covering, err := over(budgets, []corev1.Pod{p})
		if err != nil {
			return a, err
		}
		ok, why, err := mayEvict(ctx, c, &p)
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			continue // it has ended since
		}
		if err != nil {
			return a, err
		}
		if ok {
			a.allowed++
		}
		if len(covering) > 0 {
			a.covered++
			if !ok {
				a.coveredRefused++
				a.why = podName(&p) + ": " + why
			}
		}
	}
	return a, nil
}

// judge: pods without a budget are nobody's affair as long as others have one.
func (a asked) judge(pods int) seen {
	s := seen{
		broken:   a.covered > 0 && a.coveredRefused == a.covered,
		whole:    pods == 0 || a.allowed > 0,
		evidence: fmt.Sprintf("%d of %d pods with a budget may not be evicted", a.coveredRefused, a.covered),
	}
	if a.why != "" {
		s.evidence += " (" + a.why + ")"
	}
	return s
}

// control finds a pod outside the selection that may be evicted.
func (f *PDBBlock) control(ctx context.Context, env Env) (string, error) {
	selector, err := labels.Parse(f.Selector)
	if err != nil {
		return "", err
	}
	all, err := podsOf(ctx, env.Cluster, "", labels.Everything().String(), "")
	if err != nil {
		return "", err
	}
	const enough = 10
	var tried int
	for _, p := range all {
		if (f.Namespace == "" || p.Namespace == f.Namespace) && selector.Matches(labels.Set(p.Labels)) || !isReady(&p) {
			continue
		}
		if tried++; tried > enough {
			break
		}
		if ok, _, err := mayEvict(ctx, env.Cluster, &p); err == nil && ok {
			return podName(&p) + " may be evicted", nil
		}
	}
	return "", ctx.Err()
}
