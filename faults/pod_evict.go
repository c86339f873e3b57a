package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

var podEvict = Kind{
	Name: "pod.evict",
	Doc:  "Evicts pods from the targets through the Eviction API, as a drain does; a PodDisruptionBudget can refuse, and is asked again.",
	Rehearses: "A cluster autoscaler that takes a node away, a descheduler, somebody's drain of the wrong node: the pod is told " +
		"to end, gets its grace period, and its controller makes another, elsewhere if there is room " +
		"(https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/).",
	Mechanism:   "POST .../pods/NAME/eviction for pods on the target, by their UID; a 429 of a budget is tried again until the time is over",
	Undo:        "none needed: the pod's controller replaces it",
	Roles:       []clusters.Role{clusters.ControlPlane, clusters.Worker},
	Needs:       []clusters.Capability{clusters.CapProcesses},
	ProveWithin: 90 * time.Second, // a grace period is 30 s unless the pod says otherwise
	GoneWithin:  5 * time.Minute,
	Instant:     true,
	Trials:      []Trial{{Name: "pod-evict", Target: Target{Pick: PickOne, Role: "worker"}, With: "{namespace: kube-system, selector: k8s-app=kube-proxy}"}},
	New:         func() Fault { return &PodEvict{Selector: clusters.LabelRun, Count: 1} },
}

// evictAgain is the pause after an eviction that a budget refused: what kubectl
// drain waits is 5 s (k8s.io/kubectl@v0.37.0 pkg/drain/drain.go), which would be
// a long time for a fault.
const evictAgain = time.Second

// PodEvict is the fault pod.evict.
type PodEvict struct {
	// Namespace of the pods; empty means any.
	Namespace string `yaml:"namespace" json:"namespace"`
	// Selector of labels; default: those of the pods that the run made.
	Selector string `yaml:"selector" json:"selector"`
	// Count is how many pods of each target; 0 means all that are selected.
	Count int `yaml:"count" json:"count"`
}

// evictedPods is what the notes say: which pods of which node. After Heal that is
// history: the pod that took the place of another may be ready before that one has
// ended, so that its end is the effect.
type evictedPods struct {
	Over bool                    `json:"over,omitempty"`
	Pods map[string][]evictedPod `json:"pods"`
}

type evictedPod struct {
	Namespace, Name, UID string
	Containers           []string
	// Owner is the UID of the controller that is to replace it; empty if none is.
	Owner string
}

// Validate implements Validator.
func (f *PodEvict) Validate() []error {
	return (&PodKill{Selector: f.Selector, Count: f.Count}).Validate()
}

// Describe implements Describer.
func (f *PodEvict) Describe(targets []string) []string {
	return each(targets, "%s: POST /api/v1/namespaces/NAMESPACE/pods/NAME/eviction for "+howMany(f.Count, "each")+" with "+f.Selector+inNamespace(f.Namespace))
}

// Inject notes the pods before it evicts them. A second Inject evicts nobody else.
func (f *PodEvict) Inject(ctx context.Context, env Env) error {
	var notes evictedPods
	if _, err := env.Notes.Load(&notes); err != nil {
		return err
	}
	if notes.Pods == nil || notes.Over {
		notes = evictedPods{Pods: map[string][]evictedPod{}}
	}
	for _, n := range env.Targets {
		if len(notes.Pods[n.Name()]) > 0 {
			continue
		}
		pods, err := podsOf(ctx, env.Cluster, f.Namespace, f.Selector, n.Name())
		if err != nil {
			return err
		}
		for _, p := range pods {
			ids := containerIDs(&p)
			if len(ids) == 0 || f.Count > 0 && len(notes.Pods[n.Name()]) == f.Count {
				continue
			}
			e := evictedPod{Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), Containers: ids}
			// What a Job does with a pod that was taken from it is its own affair.
			if o := metav1.GetControllerOf(&p); o != nil && o.Kind != "Job" {
				e.Owner = string(o.UID)
			}
			notes.Pods[n.Name()] = append(notes.Pods[n.Name()], e)
		}
		if found := len(notes.Pods[n.Name()]); found == 0 || found < f.Count {
			return fmt.Errorf("%s: only %d pods with %s%s run there", n.Name(), found, f.Selector, inNamespace(f.Namespace))
		}
	}
	if err := env.Notes.Save(notes); err != nil {
		return err
	}
	for _, n := range env.Targets {
		for _, e := range notes.Pods[n.Name()] {
			if err := e.evict(ctx, env.Cluster); err != nil {
				return err
			}
		}
	}
	return nil
}

// evict asks until the eviction is accepted. A pod that is gone is no error.
func (e evictedPod) evict(ctx context.Context, c clusters.Cluster) error {
	p := &corev1.Pod{}
	p.Namespace, p.Name = e.Namespace, e.Name
	p.UID = types.UID(e.UID)
	for {
		err := throughAPI(ctx, c, func(ctx context.Context, cli kubernetes.Interface) error {
			return evict(ctx, cli, p, metav1.DeleteOptions{})
		})
		why, refused := refusedByBudget(err)
		switch {
		case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err) && strings.Contains(err.Error(), "UID"):
			return nil
		case !refused && !apierrors.IsTooManyRequests(err):
			return fmt.Errorf("evict %s: %w", podName(p), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("evict %s: refused all the time: %s: %w", podName(p), why, errors.Join(err, context.Cause(ctx)))
		case <-time.After(evictAgain):
		}
	}
}

// Heal has nothing to take back, and says that it is over.
func (*PodEvict) Heal(_ context.Context, env Env) error {
	var notes evictedPods
	if found, err := env.Notes.Load(&notes); err != nil || !found || notes.Over {
		return err
	}
	notes.Over = true
	return env.Notes.Save(notes)
}

// Prove looks on the target whether the evicted pods' processes have ended, and
// asks the API for those who took their place.
func (f *PodEvict) Prove(ctx context.Context, env Env) (Effect, error) {
	var notes evictedPods
	if _, err := env.Notes.Load(&notes); err != nil {
		return Effect{}, err
	}
	victims := map[string]bool{}
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		if len(notes.Pods[n.Name()]) == 0 {
			return seen{whole: true, evidence: "no pod was evicted"}, nil
		}
		s := seen{broken: true, whole: true}
		var lines []string
		for _, v := range notes.Pods[n.Name()] {
			one, err := v.look(ctx, env.Cluster, n)
			if err != nil {
				return seen{}, err
			}
			s.broken, s.whole = s.broken && one.broken && !notes.Over, s.whole && one.whole
			lines = append(lines, v.Namespace+"/"+v.Name+" "+one.evidence)
		}
		s.evidence = strings.Join(lines, ", ")
		return s, nil
	})
	if err != nil {
		return e, err
	}
	for _, list := range notes.Pods {
		for _, v := range list {
			victims[v.UID] = true
		}
	}
	if e.Active {
		all, err := podsOf(ctx, env.Cluster, f.Namespace, f.Selector, "")
		if err != nil {
			return Effect{}, err
		}
		for _, p := range all {
			if !victims[string(p.UID)] && isReady(&p) && !onTarget(env, &p) {
				e.Control = podName(&p) + " on another node is ready"
				break
			}
		}
	}
	e.At = time.Now()
	return e, nil
}

func onTarget(env Env, p *corev1.Pod) bool {
	return slices.ContainsFunc(env.Targets, func(t clusters.Node) bool { return t.Name() == p.Spec.NodeName })
}

// look says what has become of a pod: broken when nothing of it runs on the node,
// whole when moreover all pods of its controller are ready.
func (e evictedPod) look(ctx context.Context, c clusters.Cluster, n clusters.Node) (seen, error) {
	refs, err := processesOf(ctx, n, e.Containers)
	if err != nil {
		return seen{}, err
	}
	if len(refs) > 0 {
		return seen{evidence: fmt.Sprintf("runs still (%d processes)", len(refs))}, nil
	}
	s := seen{broken: true, whole: true, evidence: "has no process left there"}
	if e.Owner == "" {
		return s, nil
	}
	var list *corev1.PodList
	err = throughAPI(ctx, c, func(ctx context.Context, cli kubernetes.Interface) (err error) {
		list, err = cli.CoreV1().Pods(e.Namespace).List(ctx, metav1.ListOptions{})
		return err
	})
	if err != nil {
		return seen{}, fmt.Errorf("who took the place of %s/%s: %w", e.Namespace, e.Name, err)
	}
	ready, all := readyOf(list.Items, e.Owner)
	s.whole = ready == all
	s.evidence += fmt.Sprintf(", %d of %d pods of its controller are ready", ready, all)
	return s, nil
}

// readyOf counts the pods of a controller that have not ended. The controller
// makes the new pod as soon as the old one is told to end, so that all are known
// by the time that the old one's processes have ended:
// k8s.io/kubernetes@v1.37.0 pkg/controller/controller_utils.go FilterActivePods.
func readyOf(pods []corev1.Pod, owner string) (ready, all int) {
	for _, p := range pods {
		o := metav1.GetControllerOf(&p)
		if o == nil || string(o.UID) != owner || p.DeletionTimestamp != nil || ended(&p) {
			continue
		}
		all++
		if isReady(&p) {
			ready++
		}
	}
	return ready, all
}
