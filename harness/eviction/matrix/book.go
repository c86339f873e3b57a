package matrix

import (
	"context"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	toolswatch "k8s.io/client-go/tools/watch"
)

// book is the record of a cluster: what three watches saw, and since when it is so.
type book struct {
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and made anew with each change
	nodes   map[string]*nodeNow
	pods    map[string]*podNow
	// What happened since start, in its order.
	unknown []happened
	taints  []taint
	deleted []happened
	renewed map[string][]renewal // of nodes' leases, and of the leader's
	leaders []string
	broken  string // why a watch ended
}

// nodeNow is a node as it was last seen.
type nodeNow struct {
	ready   corev1.ConditionStatus
	tainted bool
}

// podNow is a pod as it was last seen.
type podNow struct {
	uid      string
	running  bool
	deleting bool
}

// happened is something that did, to a node or a pod.
type happened struct {
	who string
	at  time.Time
	// by is the reason of the pod's condition DisruptionTarget.
	by string
}

type taint struct {
	node    string
	on, off time.Time
}

// renewal of a lease: when it was made, by the clock of who made it, and seen.
type renewal struct{ made, seen time.Time }

// leaderLease is that of the controller manager, in renewed.
const leaderLease = "kube-system/kube-controller-manager"

// namespace of the pods that are tried.
const namespace = "default"

// openBook lists and watches nodes, pods and leases until it is closed. A watch is
// taken up again where it ended; one that cannot be is broken for good.
func openBook(ctx context.Context, cli kubernetes.Interface) (*book, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // what follows an interrupt is recorded, too
	b := &book{cancel: cancel, changed: make(chan struct{}), nodes: map[string]*nodeNow{}, pods: map[string]*podNow{}, renewed: map[string][]renewal{}}
	if err := b.follow(ctx, cli); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *book) follow(ctx context.Context, cli kubernetes.Interface) error {
	opts := metav1.ListOptions{}
	nodes, err := cli.CoreV1().Nodes().List(ctx, opts)
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	for i := range nodes.Items {
		b.take(watch.Event{Type: watch.Added, Object: &nodes.Items[i]})
	}
	pods, err := cli.CoreV1().Pods(namespace).List(ctx, opts)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	for i := range pods.Items {
		b.take(watch.Event{Type: watch.Added, Object: &pods.Items[i]})
	}
	leases, err := cli.CoordinationV1().Leases("").List(ctx, opts)
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	for i := range leases.Items {
		b.take(watch.Event{Type: watch.Added, Object: &leases.Items[i]})
	}
	for what, from := range map[string]struct {
		revision string
		open     watching
	}{
		"nodes":  {nodes.ResourceVersion, cli.CoreV1().Nodes().Watch},
		"pods":   {pods.ResourceVersion, cli.CoreV1().Pods(namespace).Watch},
		"leases": {leases.ResourceVersion, cli.CoordinationV1().Leases("").Watch},
	} {
		w, err := toolswatch.NewRetryWatcherWithContext(ctx, from.revision, from.open)
		if err != nil {
			return fmt.Errorf("watch %s: %w", what, err)
		}
		b.all.Go(func() {
			for e := range w.ResultChan() {
				b.take(e)
			}
			if ctx.Err() == nil {
				b.end(fmt.Sprintf("the watch of %s ended, and what it would have seen is lost", what))
			}
		})
	}
	return nil
}

// watching opens a watch; it is a cache.WatcherWithContext.
type watching func(context.Context, metav1.ListOptions) (watch.Interface, error)

// WatchWithContext implements cache.WatcherWithContext.
func (w watching) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	return w(ctx, o)
}

func (b *book) close() {
	b.cancel()
	b.all.Wait()
}

func (b *book) end(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = why
	b.tell()
}

// tell wakes who waits; with the lock held.
func (b *book) tell() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// wait returns when look, called with the lock held, gives "": after each change.
// The error tells what it gave last.
func (b *book) wait(ctx context.Context, what string, bound time.Duration, look func() string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("waited %s for %s", bound, what))
	defer cancel()
	for {
		b.mu.Lock()
		why, changed, broken := look(), b.changed, b.broken
		b.mu.Unlock()
		switch {
		case why == "":
			return nil
		case broken != "":
			return fmt.Errorf("%s: %s", what, broken)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), why)
		case <-changed:
		}
	}
}

// moment is when something happened that an object tells to the second, and that was
// seen now: not after that second, however late the word of it came.
func moment(told, now time.Time) time.Time {
	if latest := told.Add(time.Second); !told.IsZero() && latest.Before(now) {
		return latest
	}
	return now
}

// take notes what an event tells.
func (b *book) take(e watch.Event) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch o := e.Object.(type) {
	case *corev1.Node:
		b.node(o, e.Type == watch.Deleted, now)
	case *corev1.Pod:
		b.pod(o, e.Type == watch.Deleted, now)
	case *coordinationv1.Lease:
		b.lease(o, now)
	case *metav1.Status:
		b.broken = apierrors.FromObject(o).Error()
	}
	b.tell()
}

func (b *book) node(n *corev1.Node, gone bool, now time.Time) {
	if gone {
		delete(b.nodes, n.Name)
		return
	}
	was := b.nodes[n.Name]
	if was == nil {
		was = &nodeNow{}
		b.nodes[n.Name] = was
	}
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == corev1.ConditionUnknown && was.ready != c.Status {
			b.unknown = append(b.unknown, happened{who: n.Name, at: moment(c.LastTransitionTime.Time, now)})
		}
		was.ready = c.Status
	}
	var added time.Time
	is := false
	for _, t := range n.Spec.Taints {
		if t.Key == corev1.TaintNodeUnreachable && t.Effect == corev1.TaintEffectNoExecute {
			is = true
			if t.TimeAdded != nil {
				added = t.TimeAdded.Time
			}
		}
	}
	switch {
	case is && !was.tainted:
		b.taints = append(b.taints, taint{node: n.Name, on: moment(added, now)})
	case !is && was.tainted:
		for i := range b.taints {
			if t := &b.taints[i]; t.node == n.Name && t.off.IsZero() {
				t.off = now
			}
		}
	}
	was.tainted = is
}

func (b *book) pod(p *corev1.Pod, gone bool, now time.Time) {
	was := b.pods[p.Name]
	if was == nil || was.uid != string(p.UID) {
		was = &podNow{uid: string(p.UID)}
		b.pods[p.Name] = was
	}
	if p.DeletionTimestamp != nil && !was.deleting || gone && !was.deleting {
		was.deleting = true
		h := happened{who: p.Name, at: now}
		if p.DeletionTimestamp != nil && p.DeletionGracePeriodSeconds != nil {
			h.at = moment(p.DeletionTimestamp.Add(-time.Duration(*p.DeletionGracePeriodSeconds)*time.Second), now)
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
				h.by = c.Reason
			}
		}
		b.deleted = append(b.deleted, h)
	}
	was.running = p.Status.Phase == corev1.PodRunning && !was.deleting
	if gone {
		delete(b.pods, p.Name)
	}
}

func (b *book) lease(l *coordinationv1.Lease, now time.Time) {
	name := l.Namespace + "/" + l.Name
	if l.Namespace == corev1.NamespaceNodeLease {
		name = l.Name
	} else if name != leaderLease {
		return
	}
	if l.Spec.RenewTime == nil {
		return
	}
	if list := b.renewed[name]; len(list) == 0 || list[len(list)-1].made.Before(l.Spec.RenewTime.Time) {
		b.renewed[name] = append(list, renewal{l.Spec.RenewTime.Time, now})
	}
	if name == leaderLease && l.Spec.HolderIdentity != nil {
		if n := len(b.leaders); n == 0 || b.leaders[n-1] != *l.Spec.HolderIdentity {
			b.leaders = append(b.leaders, *l.Spec.HolderIdentity)
		}
	}
}
