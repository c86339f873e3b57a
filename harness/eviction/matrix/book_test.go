package matrix

import (
	"context"
	"errors"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

func newBook() *book {
	return &book{changed: make(chan struct{}), nodes: map[string]*nodeNow{}, pods: map[string]*podNow{}, renewed: map[string][]renewal{}}
}

// TestBook: what the events of the API are taken for.
func TestBook(t *testing.T) {
	b := newBook()
	node := func(ready corev1.ConditionStatus, taints ...corev1.Taint) {
		b.take(watch.Event{Type: watch.Modified, Object: &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{Taints: taints},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
		}})
	}
	unreachable := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}
	noSchedule := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule}
	node(corev1.ConditionTrue)
	node(corev1.ConditionUnknown)
	node(corev1.ConditionUnknown, noSchedule)
	node(corev1.ConditionUnknown, noSchedule, unreachable)
	node(corev1.ConditionUnknown, unreachable)
	if b.trouble(map[string]string{"a": "n"}) == "" {
		t.Error("a node that is away is no trouble")
	}
	node(corev1.ConditionTrue)
	if len(b.unknown) != 1 || len(b.taints) != 1 || b.taints[0].off.IsZero() || b.trouble(map[string]string{"a": "n"}) != "" {
		t.Errorf("%+v %+v %+v", b.unknown, b.taints, b.nodes["n"])
	}

	pod := func(e watch.EventType, uid string, change func(*corev1.Pod)) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: types.UID(uid)}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		if change != nil {
			change(p)
		}
		b.take(watch.Event{Type: e, Object: p})
	}
	terminating := func(p *corev1.Pod) {
		grace := int64(1)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Now().Add(time.Second)}, &grace
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager"}}
	}
	pod(watch.Added, "1", nil)
	if !b.pods["p"].running {
		t.Error("it runs")
	}
	pod(watch.Modified, "1", terminating)
	pod(watch.Modified, "1", terminating)
	if b.pods["p"].running || !b.pods["p"].deleting {
		t.Errorf("%+v", b.pods["p"])
	}
	pod(watch.Deleted, "1", terminating)
	pod(watch.Added, "2", nil)
	pod(watch.Deleted, "2", nil) // by force
	if len(b.deleted) != 2 || b.deleted[0].by != "DeletionByTaintManager" || b.deleted[1].by != "" || b.pods["p"] != nil {
		t.Errorf("%+v", b.deleted)
	}

	lease := func(namespace, name, holder string, at time.Time) {
		b.take(watch.Event{Type: watch.Modified, Object: &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &metav1.MicroTime{Time: at}},
		}})
	}
	now := time.Now()
	lease(corev1.NamespaceNodeLease, "n", "n", now)
	lease(corev1.NamespaceNodeLease, "n", "n", now) // annotated
	lease("kube-system", "kube-scheduler", "x", now)
	lease("kube-system", "kube-controller-manager", "a", now)
	lease("kube-system", "kube-controller-manager", "b", now.Add(time.Second))
	if len(b.renewed["n"]) != 1 || len(b.renewed[leaderLease]) != 2 || len(b.renewed) != 2 || len(b.leaders) != 2 {
		t.Errorf("%+v %v", b.renewed, b.leaders)
	}
}

// TestMoment: the word of something comes late, never early.
func TestMoment(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct{ told, want time.Time }{
		{time.Time{}, now},
		{now.Add(-300 * time.Millisecond), now},
		{now.Add(-5 * time.Second), now.Add(-4 * time.Second)},
	} {
		if got := moment(tc.told, now); !got.Equal(tc.want) {
			t.Errorf("%s: %s, want %s", tc.told, got, tc.want)
		}
	}
}

// TestLate: how late a lease was.
func TestLate(t *testing.T) {
	zero := time.Now()
	at := func(s float64) time.Time { return zero.Add(sec(s)) }
	of := func(made ...float64) []renewal {
		var out []renewal
		for _, m := range made {
			out = append(out, renewal{at(m), at(m + 0.01)})
		}
		return out
	}
	for _, tc := range []struct {
		name string
		list []renewal
		want time.Duration
	}{
		{"in time", of(-0.5, 0.5, 1.5, 2.5, 3.5, 4.5), sec(0.01)},
		{"one left out", of(-0.5, 0.5, 2.5, 3.5, 4.5), sec(1)},
		{"left out before", of(-3.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5), sec(0.01)},
		{"cut off before", of(-2.5, 0.5, 1.5, 2.5, 3.5, 4.5), sec(0.01)},
		{"since the beginning", of(-2.5, 3.5, 4.5), sec(2.5)},
		{"at the end", of(-0.5, 0.5, 1.5, 2.5), sec(1.5)},
		{"never", nil, sec(4)},
		{"word of it", []renewal{{at(-0.5), at(-0.4)}, {at(0.5), at(0.6)}, {at(1.5), at(2.2)}, {at(2.5), at(2.6)}, {at(3.5), at(3.6)}, {at(4.5), at(4.6)}}, sec(0.7)},
	} {
		if got := late(tc.list, time.Second, at(0), at(5)); (got - tc.want).Abs() > time.Millisecond {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// TestWait: who waits is woken by a change, by the end of the record, or by the bound.
func TestWait(t *testing.T) {
	b, seen := newBook(), make(chan error)
	go func() {
		seen <- b.wait(t.Context(), "the node", time.Hour, func() string { return b.trouble(map[string]string{"a": "n"}) })
	}()
	b.take(watch.Event{Type: watch.Added, Object: &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n"},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}})
	if err := <-seen; err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.hold(ended, time.Now().Add(time.Hour)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	b.end("the watch of pods ended")
	if err := b.wait(t.Context(), "nothing", time.Hour, func() string { return "never" }); err == nil {
		t.Error("a record that has ended was waited for")
	}
	if err := b.hold(t.Context(), time.Now().Add(time.Hour)); err == nil {
		t.Error("a cut was held without a record")
	}
}
