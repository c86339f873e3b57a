package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	// cordonedBy marks a node that we cordoned, with the id of the run: only
	// such a node is uncordoned, also after a crash in between.
	cordonedBy = "gameday.cordoned"
	// evictAgain is the pause after an eviction that a PodDisruptionBudget
	// refused: what kubectl drain waits,
	// k8s.io/kubectl@v0.37.0 pkg/drain/drain.go EvictErrorRetryDelay.
	evictAgain = 5 * time.Second
	// goneEvery is how often a drain looks whether the evicted pods are gone.
	goneEvery = time.Second
)

// drainer empties nodes as `kubectl drain --ignore-daemonsets
// --delete-emptydir-data` does: by evictions, which PodDisruptionBudgets can
// refuse. It is written out because kubectl's own package brings 150 packages
// with it (kustomize, OpenAPI), goes through one endpoint of the API only, and
// says less about who was in the way.
type drainer struct {
	api *api
	run string
	out io.Writer
	// again replaces evictAgain in tests.
	again time.Duration
}

// cordon makes the node unschedulable and marks it as cordoned by us. A node
// that somebody else cordoned stays theirs.
func (d *drainer) cordon(ctx context.Context, node string) error {
	return d.api.until(ctx, "cordon "+node, func(ctx context.Context, c kubernetes.Interface) error {
		n, err := c.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil || n.Spec.Unschedulable {
			return err
		}
		return patchNode(ctx, c, node, true, &d.run)
	})
}

// uncordon takes cordon back, if it was ours; it says whether it was.
func (d *drainer) uncordon(ctx context.Context, node string) (ours bool, err error) {
	err = d.api.until(ctx, "uncordon "+node, func(ctx context.Context, c kubernetes.Interface) error {
		n, err := c.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if _, ours = n.Annotations[cordonedBy]; !ours {
			return nil
		}
		return patchNode(ctx, c, node, false, nil)
	})
	return ours, err
}

func patchNode(ctx context.Context, c kubernetes.Interface, node string, unschedulable bool, mark *string) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]*string{cordonedBy: mark}},
		"spec":     map[string]any{"unschedulable": unschedulable},
	})
	if err != nil {
		return fmt.Errorf("patch of node %s: %w", node, err)
	}
	_, err = c.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// pods lists what a drain must move from the node: all but the pods of
// DaemonSets and static pods. Bare are the names of those that no controller
// would bring back.
func (d *drainer) pods(ctx context.Context, node string) (move []corev1.Pod, bare []string, err error) {
	var list *corev1.PodList
	err = d.api.until(ctx, "list the pods of "+node, func(ctx context.Context, c kubernetes.Interface) (err error) {
		list, err = c.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
			FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
		})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, p := range list.Items {
		owner := metav1.GetControllerOf(&p)
		_, static := p.Annotations[corev1.MirrorPodAnnotationKey]
		done := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		switch {
		case p.Spec.NodeName != node, static, owner != nil && owner.Kind == "DaemonSet":
		case owner == nil && !done:
			bare = append(bare, p.Namespace+"/"+p.Name)
		default:
			move = append(move, p)
		}
	}
	return move, bare, nil
}

// evict moves the pods away and returns when they are gone. Its error lists the
// pods that are left, each with what kept it.
func (d *drainer) evict(ctx context.Context, node string, pods []corev1.Pod, bound time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("the drain of %s did not end within %s", node, bound))
	defer cancel()
	w := &waiting{left: map[types.UID]string{}}
	for _, p := range pods {
		w.set(p.UID, p.Namespace+"/"+p.Name+" (not asked yet)")
	}
	var wg sync.WaitGroup
	for _, p := range pods {
		wg.Go(func() { d.evictOne(ctx, p, w) })
	}
	err := poll(ctx, bound, goneEvery, func(ctx context.Context) bool {
		now, _, err := d.pods(ctx, node)
		if err != nil {
			return false
		}
		w.keep(now)
		return w.none()
	})
	cancel()
	wg.Wait()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, errBound) {
			err = cause
		} else {
			err = fmt.Errorf("the drain of %s did not end within %s", node, bound)
		}
		return fmt.Errorf("%w: %s", err, strings.Join(w.list(), ", "))
	}
	return nil
}

// evictOne asks for the eviction of one pod until it is accepted.
func (d *drainer) evictOne(ctx context.Context, p corev1.Pod, w *waiting) {
	name := p.Namespace + "/" + p.Name
	again := d.again
	if again == 0 {
		again = evictAgain
	}
	for {
		err := d.api.once(ctx, func(ctx context.Context, c kubernetes.Interface) error {
			return c.PolicyV1().Evictions(p.Namespace).Evict(ctx, &policyv1.Eviction{
				ObjectMeta:    metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace},
				DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}},
			})
		})
		switch {
		case err == nil:
			fmt.Fprintf(d.out, "evicted %s\n", name)
			w.note(p.UID, name+" (evicted, still terminating)")
			return
		case apierrors.IsNotFound(err), apierrors.IsConflict(err): // gone, or another pod by now
			w.drop(p.UID)
			return
		case ctx.Err() != nil:
			return
		}
		fmt.Fprintf(d.out, "evicting %s: %v\n", name, err)
		w.note(p.UID, fmt.Sprintf("%s (%v)", name, err))
		t := time.NewTimer(again)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// waiting is what a drain still waits for.
type waiting struct {
	mu   sync.Mutex
	left map[types.UID]string
}

func (w *waiting) set(uid types.UID, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left[uid] = text
}

// note replaces the text of a pod that is waited for still.
func (w *waiting) note(uid types.UID, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.left[uid]; ok {
		w.left[uid] = text
	}
}

func (w *waiting) drop(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.left, uid)
}

// keep drops the pods that are not on the node any more.
func (w *waiting) keep(now []corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for uid := range w.left {
		if !slices.ContainsFunc(now, func(p corev1.Pod) bool { return p.UID == uid }) {
			delete(w.left, uid)
		}
	}
}

func (w *waiting) none() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.left) == 0
}

func (w *waiting) list() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]string, 0, len(w.left))
	for _, text := range w.left {
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}
