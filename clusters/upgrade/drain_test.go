package upgrade

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDrainWaitsForBudget: a PodDisruptionBudget refuses for a while.
func TestDrainWaitsForBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1)
		w.pod("app", "x-worker0", "ReplicaSet")
		asked := 0
		w.evict = func(string) error {
			if asked++; asked < 4 {
				return tooMany()
			}
			return nil
		}
		if err := w.strategy().Run(t.Context(), w.env(Options{To: to, Drain: DrainWorkers, DrainTimeout: time.Minute})); err != nil {
			t.Fatal(err)
		}
		w.wellFormed()
		if asked != 4 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// TestDrainBlocked: the budget never allows it; then it is relaxed.
func TestDrainBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1)
		w.pod("app", "x-worker0", "ReplicaSet")
		w.evict = func(string) error { return tooMany() }
		w.block = func(Step) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.evict = nil
			return nil
		}
		began := time.Now()
		if err := w.strategy().Run(t.Context(), w.env(Options{To: to, Drain: DrainWorkers, DrainTimeout: time.Minute})); err != nil {
			t.Fatal(err)
		}
		w.wellFormed()
		if len(w.blocks) != 1 || !strings.Contains(w.blocks[0], "worker[0] blocked: the drain of x-worker0 did not end within 1m0s: default/app (Too many requests: disruption budget") {
			t.Error(w.blocks)
		}
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("took %s", took)
		}
		if got := w.node("worker[0]").commands("kubeadm"); len(got) != 1 {
			t.Errorf("kubeadm ran %v", got)
		}
	})
}

// TestDrainRefusesBarePods: nobody would bring them back.
func TestDrainRefusesBarePods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1)
		w.pod("bare", "x-worker0", "")
		err := w.strategy().Run(t.Context(), w.env(Options{To: to, Drain: DrainWorkers}))
		if err == nil || !strings.Contains(err.Error(), "default/bare would be lost") {
			t.Error(err)
		}
		w.wellFormed()
		if _, err := w.cs.CoreV1().Pods("default").Get(t.Context(), "bare", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
		if n, err := w.cs.CoreV1().Nodes().Get(t.Context(), "x-worker0", metav1.GetOptions{}); err != nil || n.Spec.Unschedulable {
			t.Errorf("cordoned still: %v", err)
		}
	})
}

// TestForeignCordonStays: somebody else's cordon is not ours to take back.
func TestForeignCordonStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1)
		if err := patchNode(t.Context(), w.cs, "x-worker0", true, nil); err != nil {
			t.Fatal(err)
		}
		if err := w.strategy().Run(t.Context(), w.env(Options{To: to, Drain: DrainWorkers})); err != nil {
			t.Fatal(err)
		}
		w.wellFormed()
		if n, err := w.cs.CoreV1().Nodes().Get(t.Context(), "x-worker0", metav1.GetOptions{}); err != nil || !n.Spec.Unschedulable {
			t.Errorf("uncordoned: %v", err)
		}
		if !strings.Contains(strings.Join(w.lines(), "\n"), "worker[0]/uncordon ended skipped") {
			t.Error(w.lines())
		}
	})
}

// TestDrainAllKeepsOrder: control planes are drained after their components.
func TestDrainAllKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 0)
		w.pod("dns", "x-control-plane0", "ReplicaSet")
		w.evict = func(string) error { return tooMany() }
		w.block = func(Step) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.evict == nil {
				return errors.New("asked twice")
			}
			w.evict = nil
			return nil
		}
		if err := w.strategy().Run(t.Context(), w.env(Options{To: to, Drain: DrainAll, DrainTimeout: time.Minute})); err != nil {
			t.Fatal(err)
		}
		w.wellFormed()
		if len(w.blocks) != 1 || !strings.Contains(w.blocks[0], "control-plane[0] blocked: the drain") {
			t.Error(w.blocks)
		}
		lines := strings.Join(w.lines(), "\n")
		if !strings.Contains(lines, "kube-scheduler ended proceeded\nupgrade/control-plane[0]/drain began\nupgrade/control-plane[0]/drain ended blocked") {
			t.Error(lines)
		}
		if got := w.node("control-plane[0]").commands("kubeadm"); len(got) != 1 {
			t.Errorf("kubeadm ran %v", got)
		}
	})
}
