package upgrade

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (p *pooled) blueGreen() *blueGreen { return &blueGreen{inPlace: *p.strategy()} }

func greenOptions() Options {
	return Options{To: to, Drain: DrainWorkers, DrainTimeout: time.Minute, Batch: 1, Soak: 10 * time.Second, PoolSoak: 20 * time.Second}
}

// TestBlueGreen makes a new pool, and then nothing more.
func TestBlueGreen(t *testing.T) {
	for batch, log := range map[int][]string{
		1: {"+x-worker2", "+x-worker3", "-x-worker0", "-x-worker1"},
		2: {"+x-worker2", "+x-worker3", "-x-worker0", "-x-worker1"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newPooled(t, 1, 2)
			w.pod("app", "x-worker0", "ReplicaSet")
			o := greenOptions()
			o.Batch = batch
			env := w.env(o)
			tainted := false
			env.Well = func(ctx context.Context) error {
				// The canary is alone and tainted at its first look.
				n, err := w.cs.CoreV1().Nodes().Get(ctx, "x-worker2", metav1.GetOptions{})
				if err == nil && len(w.log) == 1 {
					tainted = len(n.Spec.Taints) == 1 && n.Labels[LabelCanary] == "true"
				}
				return nil
			}
			if err := w.blueGreen().Run(t.Context(), env); err != nil {
				t.Fatal(err)
			}
			w.wellFormed()
			if !tainted {
				t.Error("the canary was not tainted")
			}
			if d := cmp.Diff(log, w.log); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff([]string{"worker[2] " + to, "worker[3] " + to}, w.workers()); d != "" {
				t.Error(d)
			}
			n, err := w.cs.CoreV1().Nodes().Get(t.Context(), "x-worker2", metav1.GetOptions{})
			if err != nil || len(n.Spec.Taints) > 0 || n.Labels[LabelCanary] != "" {
				t.Errorf("the canary is one still: %+v %v", n, err)
			}
			var began []string
			for _, p := range w.phases {
				if p.State == Began {
					began = append(began, p.Path)
				}
			}
			if batch == 1 {
				want := []string{PhaseWhole, PhasePrepare}
				for _, s := range w.blueGreen().Steps(places(1, 2), o) {
					want = append(append(want, s.Phase), s.Parts...)
				}
				if d := cmp.Diff(want, began); d != "" {
					t.Errorf("-planned +published:\n%s", d)
				}
			}

			w.log, w.phases = nil, nil
			if err := w.blueGreen().Run(t.Context(), w.env(o)); err != nil {
				t.Fatal(err)
			}
			w.wellFormed()
			lines := w.lines()
			if last := lines[len(lines)-1]; last != "upgrade ended skipped" || len(w.log) > 0 {
				t.Errorf("%s %v", last, w.log)
			}
			// What follows finds them as the workers that there are.
			if err := w.surge().Run(t.Context(), w.env(Options{To: to, MaxSurge: 1})); err != nil || len(w.log) > 0 {
				t.Errorf("%v %v", err, w.log)
			}
		})
	}
}

// TestBlueGreenRollsBack: whatever is not well before the removal, the old pool is as it
// was, and nothing of the new one is left; then it goes through.
func TestBlueGreenRollsBack(t *testing.T) {
	bad := errors.New("pods are missing")
	for _, c := range []struct {
		name, step string
		make       func(w *pooled, e *Env)
		mend       func(w *pooled, e *Env)
	}{
		{
			"the canary does not join", "upgrade/canary",
			func(w *pooled, _ *Env) { w.fail = func(what string) error { return only(what, "x-worker2", bad) } },
			func(w *pooled, _ *Env) { w.fail = nil },
		},
		{
			"not well with the canary", "upgrade/canary",
			func(w *pooled, e *Env) {
				e.Well = func(context.Context) error {
					if w.fail == nil {
						return bad
					}
					return nil
				}
			},
			func(w *pooled, _ *Env) { w.fail = func(string) error { return nil } },
		},
		{
			"another does not join", "upgrade/scale-out",
			func(w *pooled, _ *Env) { w.fail = func(what string) error { return only(what, "x-worker3", bad) } },
			func(w *pooled, _ *Env) { w.fail = nil },
		},
		{
			"a drain does not end", "upgrade/drain-2",
			func(w *pooled, _ *Env) {
				w.pod("app", "x-worker1", "ReplicaSet")
				w.evict = func(string) error { return tooMany() }
			},
			func(w *pooled, _ *Env) { w.evict = nil },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPooled(t, 1, 2)
				env := w.env(greenOptions())
				c.make(w, &env)
				asked := 0
				env.Blocked = func(_ context.Context, s Step, o Outcome, _ error) error {
					asked++
					if s.Phase != c.step || o != RolledBack {
						t.Errorf("%s is %s", s.Phase, o)
					}
					if d := cmp.Diff([]string{"worker[0] " + from, "worker[1] " + from}, w.workers()); d != "" {
						t.Error(d)
					}
					w.mu.Lock()
					defer w.mu.Unlock()
					c.mend(w, &env)
					return nil
				}
				if err := w.blueGreen().Run(t.Context(), env); err != nil {
					t.Fatal(err)
				}
				w.wellFormed()
				if asked != 1 {
					t.Errorf("asked %d times", asked)
				}
				if d := cmp.Diff([]string{"worker[2] " + to, "worker[3] " + to}, w.workers()); d != "" {
					t.Error(d)
				}
				if lines := strings.Join(w.lines(), "\n"); !strings.Contains(lines, c.step+" ended rolled back") {
					t.Error(lines)
				}
			})
		})
	}
}

func only(what, name string, err error) error {
	if what == name {
		return err
	}
	return nil
}

// TestBlueGreenNoWayBack: once the first of the old pool is gone nothing is rolled back.
func TestBlueGreenNoWayBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPooled(t, 1, 2)
		broken := errors.New("out of order")
		w.fail = func(what string) error { return only(what, "-x-worker1", broken) }
		if err := w.blueGreen().Run(t.Context(), w.env(greenOptions())); !errors.Is(err, broken) {
			t.Fatal(err)
		}
		w.wellFormed()
		if d := cmp.Diff([]string{"worker[1] " + from + " cordoned", "worker[2] " + to, "worker[3] " + to}, w.workers()); d != "" {
			t.Error(d)
		}
		// It is taken up where it is.
		w.fail, w.phases = nil, nil
		if err := w.blueGreen().Run(t.Context(), w.env(greenOptions())); err != nil {
			t.Fatal(err)
		}
		w.wellFormed()
		if d := cmp.Diff([]string{"worker[2] " + to, "worker[3] " + to}, w.workers()); d != "" {
			t.Error(d)
		}
	})
}

// TestCanaryLog: what the canary's log must not hold.
func TestCanaryLog(t *testing.T) {
	for pattern, back := range map[string]bool{"panic": true, "no such line": false} {
		synctest.Test(t, func(t *testing.T) {
			w := newPooled(t, 1, 1)
			w.journal = "all is well\nkubelet: panic: nil\n"
			o := greenOptions()
			o.CanaryLog = pattern
			began := time.Now()
			err := w.blueGreen().Run(t.Context(), w.env(o))
			if took := time.Since(began); back && took > wellBound {
				t.Errorf("rolled back after %s: no waiting mends it", took)
			}
			if (err != nil) != back || back && !strings.Contains(err.Error(), fmt.Sprintf("matches %q", pattern)) {
				t.Error(err)
			}
			w.wellFormed()
		})
	}
}

// TestCanaryPods: a pod on the canary that is not Ready.
func TestCanaryPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPooled(t, 1, 1)
		w.pod("bad", "x-worker1", "DaemonSet")
		err := w.blueGreen().Run(t.Context(), w.env(greenOptions()))
		if err == nil || !strings.Contains(err.Error(), "pod default/bad on the canary is not Ready") {
			t.Error(err)
		}
		p, err := w.cs.CoreV1().Pods("default").Get(t.Context(), "bad", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		if _, err := w.cs.CoreV1().Pods("default").Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := w.blueGreen().Run(t.Context(), w.env(greenOptions())); err != nil {
			t.Error(err)
		}
	})
}
