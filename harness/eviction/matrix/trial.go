package matrix

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/clusters"
	"gameday/harness/eviction"
)

// Cluster is one whose nodes can be cut off; clusters/local has such.
type Cluster interface {
	clusters.Cluster
	// Cut returns when nothing of the nodes can talk to the API.
	Cut(ctx context.Context, nodes ...string) error
	Restore(ctx context.Context, nodes ...string) error
}

// Bounds of what is waited for around a cut, for a loaded machine.
const (
	wholeBound = time.Minute      // until all is as before the cut
	askBound   = 10 * time.Second // one request
)

// Trial tries cells on one cluster, one after the other.
type Trial struct {
	cluster Cluster
	cli     kubernetes.Interface
	book    *book
	real    map[string]string // the node of the cluster, by that of the case
	ours    map[string]string // and the other way round
}

// NewTrial watches a cluster that was made as Given says for these settings, until
// Close.
func NewTrial(ctx context.Context, c Cluster, f eviction.File) (*Trial, error) {
	whole, err := f.Case("all", 0)
	if err != nil {
		return nil, err
	}
	t := &Trial{cluster: c, real: map[string]string{}, ours: map[string]string{}}
	workers, planes := clusters.ByRole(c.Nodes(), clusters.Worker), clusters.ByRole(c.Nodes(), clusters.ControlPlane)
	for _, n := range whole.Nodes {
		from := &workers
		if n.ControlPlane {
			from = &planes
		}
		if len(*from) == 0 {
			return nil, fmt.Errorf("cluster %s has less nodes than the settings say", c.Name())
		}
		t.real[n.Name], t.ours[(*from)[0].Name()] = (*from)[0].Name(), n.Name
		*from = (*from)[1:]
	}
	cfg := rest.CopyConfig(c.REST())
	cfg.QPS = -1 // and no timeout: watches last
	if t.cli, err = kubernetes.NewForConfig(cfg); err != nil {
		return nil, fmt.Errorf("client of %s: %w", c.Name(), err)
	}
	// The API server admits no pod without it, and the controller may not have made
	// it yet.
	one, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	_, err = t.cli.CoreV1().ServiceAccounts(namespace).Create(one, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("service account of the pods: %w", err)
	}
	if t.book, err = openBook(ctx, t.cli); err != nil {
		return nil, err
	}
	return t, nil
}

// Close ends the watches.
func (t *Trial) Close() { t.book.close() }

func metaOf(p eviction.Pod) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}
}

// Try cuts the nodes of a cell off and says what was seen. What goes wrong is a doubt
// of the record; the nodes are restored in any case.
func (t *Trial) Try(ctx context.Context, cell Cell) (r Record) {
	doubt := func(format string, args ...any) { r.Doubts = append(r.Doubts, fmt.Sprintf(format, args...)) }
	if err := t.prepare(ctx, cell.Case); err != nil {
		doubt("the cluster was not whole before the cut: %v", err)
		return r
	}
	names := make([]string, len(cell.Case.Cut.Nodes))
	for i, n := range cell.Case.Cut.Nodes {
		names[i] = t.real[n]
	}
	from := t.book.mark() // when every node was Ready, which is a heartbeat
	began := time.Now()
	err := t.cluster.Cut(ctx, names...)
	cut := time.Now()
	if err != nil {
		doubt("the cut failed: %v", err)
	} else if err := t.book.hold(ctx, began.Add(cell.Case.Cut.Heal)); err != nil {
		doubt("the cut was ended early: %v", err)
	}
	heal := time.Now()
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), wholeBound)
	defer cancel()
	if err := t.cluster.Restore(cleanup, names...); err != nil {
		doubt("the heal failed: %v", err)
	}
	healed := time.Now()
	err = t.book.wait(cleanup, "all nodes Ready and without a taint", wholeBound, func() string { return t.book.trouble(t.real) })
	end := time.Now()
	r.Heal, r.Took = heal.Sub(began), max(cut.Sub(began), healed.Sub(heal))
	if err == nil {
		r.Back = end.Sub(began)
	}
	t.read(&r, cell, from, began, cut, heal, end)
	return r
}

// prepare waits until all is as before a cut, and makes the pods that are not there.
func (t *Trial) prepare(ctx context.Context, c eviction.Case) error {
	err := t.book.wait(ctx, "the pods of before to be gone", wholeBound, func() string {
		for name, p := range t.book.pods {
			if p.deleting {
				return name + " is Terminating"
			}
		}
		return t.book.trouble(t.real)
	})
	if err != nil {
		return err
	}
	there := t.book.there()
	for _, p := range c.Pods {
		if there[p.Name] {
			continue
		}
		one, cancel := context.WithTimeout(ctx, askBound)
		_, err := t.cli.CoreV1().Pods(p.Namespace).Create(one, podOf(p, t.real[p.Node]), metav1.CreateOptions{})
		cancel()
		if err != nil {
			return fmt.Errorf("make pod %s: %w", p.Name, err)
		}
	}
	err = t.book.wait(ctx, "the pods to run", wholeBound, func() string {
		for _, p := range c.Pods {
			if is := t.book.pods[p.Name]; is == nil || !is.running {
				return p.Name + " does not run"
			}
		}
		return t.book.trouble(t.real)
	})
	if err != nil {
		return err
	}
	// The taint queues' buckets have to be full again, which nothing shows: they fill
	// while the next nodes are silent for the grace period, if that is long enough.
	cm := c.Settings.ControllerManager
	if q := cm.NodeEvictionRate; q > 0 {
		fill := time.Duration(float64(time.Second)/float64(q)) + cm.NodeMonitorPeriod
		return t.book.hold(ctx, time.Now().Add(fill-(cm.NodeMonitorGracePeriod-c.Settings.Renewal())))
	}
	return nil
}

// read takes what the book has of a cell into its record.
func (t *Trial) read(r *Record, cell Cell, from mark, began, cut, heal, end time.Time) {
	b := t.book
	b.mu.Lock()
	defer b.mu.Unlock()
	doubt := func(format string, args ...any) { r.Doubts = append(r.Doubts, fmt.Sprintf(format, args...)) }
	r.Seen = eviction.Observation{Unknown: map[string]time.Duration{}, Deleted: map[string]time.Duration{}, Until: end.Sub(began)}
	for _, u := range b.unknown[from.unknown:] {
		if name := t.ours[u.who]; r.Seen.Unknown[name] == 0 {
			r.Seen.Unknown[name] = u.at.Sub(began)
		}
	}
	for _, x := range b.taints[from.taints:] {
		one := eviction.Taint{Node: t.ours[x.node], On: x.on.Sub(began)}
		if !x.off.IsZero() {
			one.Off = x.off.Sub(began)
		}
		r.Seen.Taints = append(r.Seen.Taints, one)
	}
	for _, d := range b.deleted[from.deleted:] {
		if d.by != "DeletionByTaintManager" {
			doubt("pod %s was deleted, and not by the node controller", d.who)
			continue
		}
		r.Seen.Deleted[namespace+"/"+d.who] = d.at.Sub(began)
	}
	if b.broken != "" {
		doubt("%s", b.broken)
	}
	switch n := len(b.leaders); {
	case n == 0:
		doubt("no lease of the controller manager was seen")
	case n > from.leaders:
		doubt("another controller manager took over")
	}
	silent := map[string]bool{}
	for _, n := range cell.Case.Cut.Nodes {
		silent[t.real[n]] = true
	}
	s := cell.Case.Settings
	for _, n := range slices.Sorted(maps.Keys(t.ours)) {
		list := b.renewed[n]
		if !silent[n] {
			r.Late = max(r.Late, late(list, s.Renewal(), from.at, end))
			continue
		}
		// It must have been heard before, and not while it was cut off.
		if i := slices.IndexFunc(list, func(x renewal) bool { return x.made.After(cut) && x.made.Before(heal) }); i >= 0 {
			doubt("the cut was not one: %s renewed its lease %s after it", t.ours[n], list[i].made.Sub(cut).Round(time.Millisecond))
		}
		r.Late = max(r.Late, late(list, s.Renewal(), from.at, began))
	}
	r.Late = max(r.Late, late(b.renewed[leaderLease], s.ControllerManager.LeaderElectRetryPeriod, from.at, end))
}

// late is how late a lease was renewed at worst between two moments, or word of it
// came. What was before does not count: the node may have been cut off then.
func late(list []renewal, period time.Duration, from, to time.Time) time.Duration {
	worst, last := time.Duration(0), from
	for _, x := range list {
		if x.made.After(from) && !x.made.After(to) {
			worst = max(worst, x.seen.Sub(x.made), x.made.Sub(last)-period)
			last = x.made
		}
	}
	return max(worst, to.Sub(last)-period)
}

// mark is a place in a book.
type mark struct {
	at                                time.Time
	unknown, taints, deleted, leaders int
}

func (b *book) mark() mark {
	b.mu.Lock()
	defer b.mu.Unlock()
	return mark{time.Now(), len(b.unknown), len(b.taints), len(b.deleted), len(b.leaders)}
}

// there are the pods that are.
func (b *book) there() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]bool{}
	for name := range b.pods {
		out[name] = true
	}
	return out
}

// trouble says which of some nodes is not Ready or has the taint; with the lock held.
func (b *book) trouble(nodes map[string]string) string {
	for _, name := range nodes {
		switch n := b.nodes[name]; {
		case n == nil:
			return name + " is not a node"
		case n.ready != corev1.ConditionTrue:
			return name + " is not Ready"
		case n.tainted:
			return name + " is tainted"
		}
	}
	return ""
}

// hold returns at a moment; with an error if ctx or the record ends before.
func (b *book) hold(ctx context.Context, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		b.mu.Lock()
		changed, broken := b.changed, b.broken
		b.mu.Unlock()
		if broken != "" {
			return fmt.Errorf("%s", broken)
		}
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}
