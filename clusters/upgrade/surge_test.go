package upgrade

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gameday/clusters"
)

// pooled is a world whose workers come and go.
type pooled struct {
	*world
	t *testing.T

	journal string // of workers that are added

	guard sync.Mutex
	log   []string // what was added and removed
	// fail is asked before a worker is added (its name) or removed ("-" and its name).
	fail func(what string) error
	// fewest and most are how many workers were Ready and schedulable at a time.
	fewest, most int
}

func newPooled(t *testing.T, controlPlanes, workers int) *pooled {
	t.Helper()
	return &pooled{world: newWorld(t, controlPlanes, workers), t: t, fewest: workers, most: workers}
}

func (p *pooled) Provider() string { return "fake" }

func (p *pooled) Nodes() []clusters.Node {
	p.guard.Lock()
	defer p.guard.Unlock()
	return p.world.Nodes()
}

func (p *pooled) AddWorker(ctx context.Context, w clusters.NewWorker) (clusters.Node, error) {
	name := fmt.Sprintf("x-worker%d", w.Index)
	if w.Image != "node:"+to {
		return nil, fmt.Errorf("no image %q", w.Image)
	}
	if p.fail != nil {
		if err := p.fail(name); err != nil {
			return nil, err
		}
	}
	n := &fakeNode{world: p.world, name: name, role: clusters.Worker, index: w.Index, kubelet: to, journal: p.journal,
		files: map[string][]byte{}, sums: map[string]string{}, serving: map[string]sighting{}, images: map[string]bool{}}
	if err := w.Prepare(ctx, n); err != nil {
		return nil, err
	}
	if err := sleep(ctx, 10*time.Second); err != nil {
		return nil, err
	}
	_, err := p.cs.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: w.Labels},
		Spec:       corev1.NodeSpec{Taints: w.Taints},
		Status: corev1.NodeStatus{
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: to},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	p.guard.Lock()
	p.nodes = append(p.nodes, n)
	p.log = append(p.log, "+"+name)
	p.guard.Unlock()
	p.count(ctx)
	return n, nil
}

func (p *pooled) RemoveWorker(ctx context.Context, n clusters.Node) error {
	if p.fail != nil {
		if err := p.fail("-" + n.Name()); err != nil {
			return err
		}
	}
	p.guard.Lock()
	p.nodes = slices.DeleteFunc(p.nodes, func(o *fakeNode) bool { return o.name == n.Name() })
	p.log = append(p.log, "-"+n.Name())
	p.guard.Unlock()
	if err := p.cs.CoreV1().Nodes().Delete(ctx, n.Name(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	p.count(ctx)
	return nil
}

// count looks how many workers can run pods.
func (p *pooled) count(ctx context.Context) {
	list, err := p.cs.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		p.t.Error(err)
		return
	}
	n := 0
	for _, k := range list.Items {
		if strings.HasPrefix(k.Name, "x-worker") && !k.Spec.Unschedulable {
			n++
		}
	}
	p.guard.Lock()
	defer p.guard.Unlock()
	p.fewest, p.most = min(p.fewest, n), max(p.most, n)
}

func (p *pooled) env(o Options) Env {
	e := p.world.env(o)
	e.Cluster = p
	e.Prepare = func(_ context.Context, n clusters.Node) error {
		n.(*fakeNode).images["the workload's"] = true
		return nil
	}
	return e
}

func (p *pooled) surge() *surge { return &surge{inPlace: *p.strategy()} }

// workers are the places, names and versions of all that there are.
func (p *pooled) workers() []string {
	p.t.Helper()
	list, err := p.cs.CoreV1().Nodes().List(p.t.Context(), metav1.ListOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	var out []string
	for _, n := range clusters.ByRole(p.Nodes(), clusters.Worker) {
		for _, k := range list.Items {
			if k.Name != n.Name() {
				continue
			}
			line := clusters.Place(n) + " " + k.Status.NodeInfo.KubeletVersion
			if k.Spec.Unschedulable {
				line += " cordoned"
			}
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

// TestSurge replaces all workers and then, once more, none.
func TestSurge(t *testing.T) {
	for _, c := range []struct {
		name           string
		surge, missing int
		fewest, most   int
		log            []string
	}{
		{"one more", 1, 0, 2, 3, []string{"+x-worker2", "-x-worker0", "+x-worker0", "-x-worker1", "+x-worker1", "-x-worker2"}},
		{"one fewer", 0, 1, 1, 2, []string{"-x-worker0", "+x-worker0", "-x-worker1", "+x-worker1"}},
		{"more than there are", 5, 0, 2, 4, nil},
		{"one more and one fewer", 1, 1, 1, 3, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPooled(t, 1, 2)
				w.pod("app", "x-worker0", "ReplicaSet")
				o := Options{To: to, Drain: DrainWorkers, MaxSurge: c.surge, MaxUnavailable: c.missing, Soak: 5 * time.Second}
				if err := w.surge().Run(t.Context(), w.env(o)); err != nil {
					t.Fatal(err)
				}
				w.wellFormed()
				if d := cmp.Diff([]string{"worker[0] " + to, "worker[1] " + to}, w.workers()); d != "" {
					t.Error(d)
				}
				if c.log != nil {
					if d := cmp.Diff(c.log, w.log); d != "" {
						t.Error(d)
					}
				}
				if w.fewest < c.fewest || w.most != c.most {
					t.Errorf("%d to %d workers, want at least %d, and %d at the most", w.fewest, w.most, c.fewest, c.most)
				}
				for _, n := range w.nodes {
					if n.role == clusters.Worker && (!n.images["the workload's"] || len(n.commands("kubeadm")) > 0) {
						t.Errorf("%s: images %v, ran %v", n.name, n.images, n.ran)
					}
				}
				lines := w.lines()
				if last := lines[len(lines)-1]; last != "upgrade ended proceeded" {
					t.Error(last)
				}

				w.phases, w.log = nil, nil
				if err := w.surge().Run(t.Context(), w.env(o)); err != nil {
					t.Fatal(err)
				}
				w.wellFormed()
				lines = w.lines()
				if last := lines[len(lines)-1]; last != "upgrade ended skipped" || len(w.log) > 0 {
					t.Errorf("%s, %v", last, w.log)
				}
			})
		})
	}
}

// TestSurgePhases are those of the plan, in its order, each on the node that is in the
// place.
func TestSurgePhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPooled(t, 1, 2)
		o := Options{To: to, Drain: DrainWorkers, MaxSurge: 1, Soak: time.Second}
		if err := w.surge().Run(t.Context(), w.env(o)); err != nil {
			t.Fatal(err)
		}
		var began []string
		nodes := map[string]string{}
		for _, p := range w.phases {
			if p.State == Began {
				began = append(began, p.Path)
				nodes[p.Path] = p.Node
			}
		}
		want := []string{PhaseWhole, PhasePrepare}
		for _, s := range w.surge().Steps(places(1, 2), o) {
			want = append(append(want, s.Phase), s.Parts...)
		}
		if d := cmp.Diff(want, began); d != "" {
			t.Errorf("-planned +published:\n%s", d)
		}
		for path, node := range map[string]string{
			"upgrade/worker[1]": "x-worker1", "upgrade/worker[1]/drain": "x-worker1", "upgrade/scale-in/worker[2]": "x-worker2",
		} {
			if nodes[path] != node {
				t.Errorf("%s is on %q, not on %s", path, nodes[path], node)
			}
		}
	})
}

func TestSurgeKeepsLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPooled(t, 1, 1)
		n, err := w.cs.CoreV1().Nodes().Get(t.Context(), "x-worker0", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n.Labels = map[string]string{"kubernetes.io/hostname": "x-worker0", "node-role.kubernetes.io/w": "", corev1.LabelTopologyZone: "a", "team/app": "x"}
		if _, err := w.cs.CoreV1().Nodes().Update(t.Context(), n, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := w.surge().Run(t.Context(), w.env(Options{To: to, MaxSurge: 1})); err != nil {
			t.Fatal(err)
		}
		if n, err = w.cs.CoreV1().Nodes().Get(t.Context(), "x-worker0", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(map[string]string{clusters.LabelRun: "run1", corev1.LabelTopologyZone: "a", "team/app": "x"}, n.Labels); d != "" {
			t.Error(d)
		}
	})
}

// TestSurgeDrainExceeded: a budget never allows the eviction.
func TestSurgeDrainExceeded(t *testing.T) {
	for _, c := range []struct {
		what    DrainExceeded
		relax   bool // the budget is relaxed when the step is blocked
		err     string
		workers []string
	}{
		{ExceededRemove, false, "", []string{"worker[0] " + to}},
		{ExceededBlock, true, "", []string{"worker[0] " + to}},
		{ExceededBlock, false, "the drain of x-worker0 did not end within 1m0s: default/app", []string{"worker[0] " + from, "worker[1] " + to}},
		{"", false, "the drain of x-worker0 did not end", []string{"worker[0] " + from, "worker[1] " + to}},
	} {
		t.Run(fmt.Sprintf("%s %v", c.what, c.relax), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPooled(t, 1, 1)
				w.pod("app", "x-worker0", "ReplicaSet")
				w.evict = func(string) error { return tooMany() }
				if c.relax {
					w.block = func(Step) error {
						w.mu.Lock()
						defer w.mu.Unlock()
						w.evict = nil
						return nil
					}
				}
				err := w.surge().Run(t.Context(), w.env(Options{To: to, MaxSurge: 1, DrainTimeout: time.Minute, DrainExceeded: c.what}))
				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
				w.wellFormed()
				if d := cmp.Diff(c.workers, w.workers()); d != "" {
					t.Error(d)
				}
				lines := strings.Join(w.lines(), "\n")
				if !strings.Contains(lines, "upgrade/worker[0]/drain ended blocked") {
					t.Error(lines)
				}
				if (len(w.blocks) == 1) != (c.what != ExceededRemove) {
					t.Error(w.blocks)
				}
			})
		})
	}
}

// TestSurgeGoesOn: a run that ended anywhere is taken up where the cluster is.
func TestSurgeGoesOn(t *testing.T) {
	o := Options{To: to, MaxSurge: 1, Soak: time.Second}
	for _, at := range []string{"+x-worker2", "-x-worker0", "+x-worker0", "-x-worker1", "+x-worker1", "-x-worker2"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPooled(t, 1, 2)
				broken := errors.New("the machine is out of order")
				w.fail = func(what string) error {
					if strings.TrimPrefix(at, "+") == what {
						return broken
					}
					return nil
				}
				if err := w.surge().Run(t.Context(), w.env(o)); !errors.Is(err, broken) {
					t.Fatal(err)
				}
				w.wellFormed()
				for _, line := range w.workers() {
					if strings.Contains(line, "cordoned") {
						t.Error(line)
					}
				}
				w.fail, w.phases = nil, nil
				if err := w.surge().Run(t.Context(), w.env(o)); err != nil {
					t.Fatal(err)
				}
				w.wellFormed()
				if d := cmp.Diff([]string{"worker[0] " + to, "worker[1] " + to}, w.workers()); d != "" {
					t.Errorf("%s\n%v", d, w.log)
				}
			})
		})
	}
}

// TestSurgeRemovesHalf: a machine that an earlier run made and that never joined goes,
// and counts as what it was to be.
func TestSurgeRemovesHalf(t *testing.T) {
	for place, o := range map[int]Options{
		2: {To: to, MaxSurge: 1},       // it was to be added
		1: {To: to, MaxUnavailable: 1}, // it was to come into its place
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newPooled(t, 1, 2)
			name := fmt.Sprintf("x-worker%d", place)
			if place < 2 {
				if err := w.RemoveWorker(t.Context(), w.node("worker[1]")); err != nil {
					t.Fatal(err)
				}
			}
			w.nodes = append(w.nodes, &fakeNode{world: w.world, name: name, role: clusters.Worker, index: place})
			w.log = nil
			if err := w.surge().Run(t.Context(), w.env(o)); err != nil {
				t.Fatal(err)
			}
			w.wellFormed()
			if len(w.log) == 0 || w.log[0] != "-"+name {
				t.Errorf("%s was not removed first: %v", name, w.log)
			}
			if d := cmp.Diff([]string{"worker[0] " + to, "worker[1] " + to}, w.workers()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSurgeRefuses(t *testing.T) {
	for want, o := range map[string]Options{
		"at least 1":             {To: to},
		"max surge -1":           {To: to, MaxSurge: -1, MaxUnavailable: 1},
		`drain exceeded "never"`: {To: to, MaxSurge: 1, DrainExceeded: "never"},
		"soak of -1s":            {To: to, MaxSurge: 1, Soak: -time.Second},
		"worker[0] comes before": {To: to, MaxSurge: 1, Nodes: []string{"worker[0]"}},
		"no such node":           {To: to, MaxSurge: 1, Nodes: []string{"worker[7]"}},
		"one minor version at a": {To: "v1.38.0", MaxSurge: 1},
	} {
		w := newPooled(t, 1, 1)
		err := w.surge().Run(t.Context(), w.env(o))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if len(w.log) > 0 {
			t.Errorf("%s: %v", want, w.log)
		}
	}
	w := newWorld(t, 1, 1)
	env := w.env(Options{To: to, MaxSurge: 1})
	env.Cluster = unpooled{w}
	if err := (&surge{inPlace: *w.strategy()}).Run(t.Context(), env); err == nil || !strings.Contains(err.Error(), "cannot be added and removed") {
		t.Error(err)
	}
}

// unpooled is a cluster whose workers stay.
type unpooled struct{ *world }

func (unpooled) Provider() string { return "fake" }

func TestKept(t *testing.T) {
	if d := cmp.Diff(map[string]string{clusters.LabelRun: "r"}, kept(nil, "r")); d != "" {
		t.Error(d)
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a.k8s.io/b": "", "notkubernetes.io/x": "1", corev1.LabelTopologyRegion: "r1"}}}
	want := map[string]string{clusters.LabelRun: "r", "notkubernetes.io/x": "1", corev1.LabelTopologyRegion: "r1"}
	if d := cmp.Diff(want, kept(n, "r")); d != "" {
		t.Error(d)
	}
	if maps.Equal(want, n.Labels) {
		t.Error("the node's own labels were changed")
	}
}
