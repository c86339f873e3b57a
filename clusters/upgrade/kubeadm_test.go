package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gameday/clusters"
)

func places(controlPlanes, workers int) []Place {
	var out []Place
	for i := range controlPlanes {
		out = append(out, Place{clusters.ControlPlane, i})
	}
	for i := range workers {
		out = append(out, Place{clusters.Worker, i})
	}
	return append(out, Place{clusters.LoadBalancer, 0})
}

func TestSteps(t *testing.T) {
	for name, o := range map[string]Options{
		"drain-workers": {To: to, Drain: DrainWorkers, DrainTimeout: 2 * time.Minute},
		"drain-all-one": {To: to, Drain: DrainAll, Nodes: []string{"control-plane[1]"}},
		"no-drain":      {To: to, Drain: DrainNone, Nodes: []string{"control-plane[0]", "worker[1]"}},
	} {
		t.Run(name, func(t *testing.T) {
			goldenSteps(t, name, (&kubeadm{}).Steps(places(3, 2), o))
		})
	}
}

// goldenSteps compares steps with those of a file in testdata.
func goldenSteps(t *testing.T, name string, steps []Step) {
	t.Helper()
	var b bytes.Buffer
	for _, s := range steps {
		fmt.Fprintf(&b, "%s  %s  <= %s\n", s.Phase, s.Place, s.Bound)
		for _, p := range s.Parts {
			fmt.Fprintf(&b, "  %s\n", p)
		}
		for _, c := range s.Commands {
			fmt.Fprintf(&b, "  $ %s\n", c)
		}
	}
	file := filepath.Join("testdata", name+".steps")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("run with UPDATE_GOLDEN=1 if this is meant:\n%s", d)
	}
}

func TestCheck(t *testing.T) {
	err := Check(places(1, 1), Options{To: "1.37", Nodes: []string{"worker[3]", "worker[0]", "worker[0]"}, Drain: "some", DrainTimeout: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`upgrade to "1.37"`, "worker[3]: the cluster has no such node (it has control-plane[0], worker[0])", "worker[0]: it is listed twice", `drain "some"`, "must not be negative"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	if err := Check(places(1, 1), Options{To: to, Drain: DrainAll, Nodes: []string{"worker[0]"}}); err != nil {
		t.Error(err)
	}
}

func TestRunRefusesOrder(t *testing.T) {
	for name, o := range map[string]Options{
		"worker[0] comes before control-plane[0]": {To: to, Nodes: []string{"worker[0]", "control-plane[0]"}},
		"one minor version at a time":             {To: "v1.38.0"},
		"does not go back":                        {To: "v1.35.4"},
	} {
		w := newWorld(t, 1, 1)
		err := w.strategy().Run(t.Context(), w.env(o))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, got %v", name, err)
		}
		for _, n := range w.nodes {
			if len(n.ran) > 0 {
				t.Errorf("%s was touched: %v", n.name, n.ran)
			}
		}
	}
}

// TestRun upgrades a whole cluster without trouble, and then once more.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, 2)
		w.pod("app", "x-worker0", "ReplicaSet")
		w.pod("ds", "x-worker0", "DaemonSet")
		o := Options{To: to, Drain: DrainWorkers}
		if err := w.strategy().Run(t.Context(), w.env(o)); err != nil {
			t.Fatal(err)
		}
		w.wellFormed()
		want := []string{"upgrade began", "upgrade/prepare began", "upgrade/prepare ended proceeded"}
		phase := func(path string, parts ...string) {
			want = append(want, path+" began")
			for _, p := range parts {
				want = append(want, path+"/"+p+" began", path+"/"+p+" ended proceeded")
			}
			want = append(want, path+" ended proceeded")
		}
		for i := range 3 {
			phase(fmt.Sprintf("upgrade/control-plane[%d]", i), "preflight", etcd, apiServer, controllerManager, scheduler, kubelet)
		}
		for i := range 2 {
			phase(fmt.Sprintf("upgrade/worker[%d]", i), partDrain, partKubeadm, kubelet, partUncordon)
		}
		want = append(want, "upgrade ended proceeded")
		if d := cmp.Diff(want, w.lines()); d != "" {
			t.Error(d)
		}
		for _, n := range w.nodes[:3] {
			verb := "node --config /opt/gameday/v1.37.0/upgrade.yaml"
			if n.index == 0 {
				verb = "apply v1.37.0 --yes --config /opt/gameday/v1.37.0/upgrade.yaml"
			}
			if d := cmp.Diff([]string{"kubeadm upgrade " + verb}, n.commands("kubeadm")); d != "" {
				t.Error(d)
			}
			if n.loads != 4 {
				t.Errorf("%s was given %d images, not 4", n.name, n.loads)
			}
		}
		if n := w.node("worker[0]"); n.loads != 2 {
			t.Errorf("a worker was given %d images, not 2", n.loads)
		}
		if n := w.node("load-balancer[0]"); len(n.ran) > 0 {
			t.Errorf("the load balancer was touched: %v", n.ran)
		}
		pods, err := w.cs.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err != nil || len(pods.Items) != 1 || pods.Items[0].Name != "ds" {
			t.Errorf("pods left: %v %v", pods, err)
		}
		nodes, err := w.cs.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes.Items {
			if n.Spec.Unschedulable || n.Annotations[cordonedBy] != "" {
				t.Errorf("%s is cordoned still", n.Name)
			}
		}

		w.phases = nil
		for _, n := range w.nodes {
			n.ran = nil
		}
		if err := w.strategy().Run(t.Context(), w.env(o)); err != nil {
			t.Fatal(err)
		}
		w.wellFormed()
		want = []string{"upgrade began", "upgrade/prepare began", "upgrade/prepare ended skipped"}
		for _, p := range places(3, 2)[:5] {
			want = append(want, "upgrade/"+p.String()+" began", "upgrade/"+p.String()+" ended skipped")
		}
		want = append(want, "upgrade ended skipped")
		if d := cmp.Diff(want, w.lines()); d != "" {
			t.Error(d)
		}
		for _, n := range w.nodes {
			if len(n.ran) > 0 {
				t.Errorf("%s was touched again: %v", n.name, n.ran)
			}
		}
	})
}

// TestTimes checks that began and ended are when it was so on the node, to the
// poll interval, although whoever records the phases is slow.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 0)
		env := w.env(Options{To: to})
		record := env.Publish
		env.Publish = func(p Phase) {
			time.Sleep(700 * time.Millisecond)
			record(p)
		}
		if err := w.strategy().Run(t.Context(), env); err != nil {
			t.Fatal(err)
		}
		w.wellFormed()
		began := map[string]time.Time{}
		for _, p := range w.phases {
			c := p.Path[strings.LastIndexByte(p.Path, '/')+1:]
			if !slices.Contains(staticPods(), c) {
				continue
			}
			if p.State == Began {
				began[c] = p.At
				continue
			}
			took := p.At.Sub(began[c])
			if off := took - 5*time.Second; off < -manifestEvery || off > probeEvery {
				t.Errorf("%s took %s, not 5s", c, took)
			}
		}
		if len(began) != 4 {
			t.Errorf("%d components were seen", len(began))
		}
	})
}

// outcomes are what kubeadm can do to a control plane, and what must be said of
// it.
func TestOutcomes(t *testing.T) {
	bad := func(n *fakeNode, text string) error {
		return &clusters.ExitError{Node: n.name, Argv: []string{"kubeadm"}, Code: 1, Output: text}
	}
	for _, c := range []struct {
		name    string
		kubeadm func(ctx context.Context, n *fakeNode) error
		want    Outcome
		parts   []string // as published in the first attempt, after the prefix
		cause   string
	}{
		{
			name: "refused", want: Blocked,
			kubeadm: func(_ context.Context, n *fakeNode) error { return bad(n, "etcd cluster is not healthy") },
			parts:   []string{"preflight began", "preflight ended blocked"},
			cause:   "etcd cluster is not healthy",
		},
		{
			name: "hangs", want: Blocked,
			kubeadm: func(ctx context.Context, _ *fakeNode) error { <-ctx.Done(); return ctx.Err() },
			parts:   []string{"preflight began", "preflight ended blocked"},
			cause:   "did not end within 25m0s and was killed",
		},
		{
			name: "put back", want: RolledBack,
			kubeadm: func(ctx context.Context, n *fakeNode) error {
				n.setManifest(etcd, toEtcd)
				n.stop(etcd)
				if err := sleep(ctx, 5*time.Minute); err != nil {
					return err
				}
				n.setManifest(etcd, fromEtcd)
				n.serve(etcd, fromEtcd)
				return bad(n, "rolled the state back to pre-upgrade state")
			},
			parts: []string{"preflight began", "preflight ended proceeded", "etcd began", "etcd ended rolled back"},
			cause: "rolled the state back",
		},
		{
			name: "later one put back", want: RolledBack,
			kubeadm: func(ctx context.Context, n *fakeNode) error {
				if err := n.upgrade(ctx, etcd); err != nil {
					return err
				}
				if err := sleep(ctx, time.Second); err != nil { // let it be seen
					return err
				}
				n.setManifest(apiServer, to)
				if err := sleep(ctx, time.Minute); err != nil {
					return err
				}
				n.setManifest(apiServer, from)
				return bad(n, "couldn't upgrade control plane")
			},
			parts: []string{"preflight began", "preflight ended proceeded", "etcd began", "etcd ended proceeded", "kube-apiserver began", "kube-apiserver ended rolled back"},
			cause: "put back kube-apiserver",
		},
		{
			name: "all put back after one had served", want: RolledBack,
			kubeadm: func(ctx context.Context, n *fakeNode) error {
				for _, c := range []string{etcd, apiServer} {
					if err := n.upgrade(ctx, c); err != nil {
						return err
					}
				}
				if err := sleep(ctx, time.Second); err != nil {
					return err
				}
				n.setManifest(controllerManager, to)
				if err := sleep(ctx, time.Minute); err != nil {
					return err
				}
				n.setManifest(controllerManager, from)
				n.setManifest(apiServer, from)
				n.serve(apiServer, from)
				return bad(n, "couldn't upgrade control plane")
			},
			parts: nil,
			cause: "put back kube-apiserver, kube-controller-manager",
		},
		{
			name: "in between", want: Failed,
			kubeadm: func(ctx context.Context, n *fakeNode) error {
				n.setManifest(etcd, toEtcd)
				n.stop(etcd)
				if err := sleep(ctx, time.Second); err != nil {
					return err
				}
				return bad(n, "killed")
			},
			parts: []string{"preflight began", "preflight ended proceeded", "etcd began", "etcd ended failed"},
			cause: "in between etcd",
		},
		{
			name: "components done, the rest not", want: Failed,
			kubeadm: func(ctx context.Context, n *fakeNode) error {
				if err := n.upgradeAll(ctx); err != nil {
					return err
				}
				return bad(n, "failed to determine whether all the control plane instances have been upgraded")
			},
			cause: "failed to determine",
		},
		{
			name: "says it is done but does not serve", want: Failed,
			kubeadm: func(ctx context.Context, n *fakeNode) error {
				if err := n.upgradeAll(ctx); err != nil {
					return err
				}
				n.setManifest(scheduler, from) // seen as put back ...
				if err := sleep(ctx, time.Second); err != nil {
					return err
				}
				n.stop(scheduler)
				n.setManifest(scheduler, to) // ... and changed again, to something that does not start
				return nil
			},
			cause: "not all was seen to serve",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3, 0)
				n := w.node("control-plane[0]")
				n.onKubeadm = func(ctx context.Context) error { return c.kubeadm(ctx, n) }
				w.block = func(Step) error { // the fault is healed
					n.mu.Lock()
					n.onKubeadm = nil
					n.mu.Unlock()
					n.serve(scheduler, "old")
					for _, c := range staticPods() {
						if n.manifest(c) == n.new(c) {
							n.serve(c, n.new(c))
						}
					}
					return nil
				}
				if err := w.strategy().Run(t.Context(), w.env(Options{To: to, Nodes: []string{"control-plane[0]"}})); err != nil {
					t.Fatal(err)
				}
				w.wellFormed()
				if len(w.blocks) != 1 || !strings.HasPrefix(w.blocks[0], "upgrade/control-plane[0] "+string(c.want)+": ") || !strings.Contains(w.blocks[0], c.cause) {
					t.Errorf("asked %q, want %s with %q", w.blocks, c.want, c.cause)
				}
				lines := w.lines()
				const step = "upgrade/control-plane[0]"
				first := slices.Index(lines, step+" began")
				end := slices.Index(lines, step+" ended "+string(c.want))
				if first < 0 || end < 0 || lines[len(lines)-1] != "upgrade ended proceeded" || !slices.Contains(lines[end:], step+" ended proceeded") {
					t.Fatalf("phases: %s", strings.Join(lines, "\n"))
				}
				var got []string
				for _, l := range lines[first+1 : end] {
					got = append(got, strings.TrimPrefix(l, step+"/"))
				}
				if c.parts != nil {
					if d := cmp.Diff(c.parts, got); d != "" {
						t.Error(d)
					}
				}
				// Every component was published as done in the end.
				for _, comp := range append(staticPods(), kubelet) {
					last := ""
					for _, l := range lines {
						if strings.HasPrefix(l, step+"/"+comp+" ended ") {
							last = l
						}
					}
					if !strings.HasSuffix(last, string(Proceeded)) {
						t.Errorf("%s: last said %q", comp, last)
					}
				}
			})
		})
	}
}

// TestNotAgain: what Env.Blocked returns ends the upgrade.
func TestNotAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1)
		enough := errors.New("that is enough")
		w.block = func(Step) error { return enough }
		n := w.node("worker[0]")
		w.pod("app", n.name, "ReplicaSet")
		n.onKubeadm = func(ctx context.Context) error { // partitioned: kubeadm waits for the API
			if err := sleep(ctx, 70*time.Second); err != nil {
				return err
			}
			return n.exit(clusters.Command{}, "failed to get config map: i/o timeout")
		}
		n.denied = true
		began := time.Now()
		err := w.strategy().Run(t.Context(), w.env(Options{To: to, Drain: DrainWorkers}))
		if !errors.Is(err, enough) || !strings.Contains(err.Error(), "upgrade/worker[0]: blocked") {
			t.Fatal(err)
		}
		w.wellFormed()
		lines := w.lines()
		if d := cmp.Diff([]string{"upgrade/worker[0]/kubeadm began", "upgrade/worker[0]/kubeadm ended blocked", "upgrade/worker[0] ended blocked", "upgrade ended blocked"}, lines[len(lines)-4:]); d != "" {
			t.Error(d)
		}
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("took %s", took)
		}
		node, err := w.cs.CoreV1().Nodes().Get(t.Context(), n.name, metav1.GetOptions{})
		if err != nil || node.Spec.Unschedulable || node.Annotations[cordonedBy] != "" {
			t.Errorf("not uncordoned: %v %v", node, err)
		}
	})
}

// TestKubeletOfACutOffNode: the new kubelet cannot say that it is there.
func TestKubeletOfACutOffNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1)
		n := w.node("worker[0]")
		n.onRestart = func(context.Context) error { return nil }
		w.block = func(Step) error { return n.setKubelet(t.Context(), to) }
		if err := w.strategy().Run(t.Context(), w.env(Options{To: to, Drain: DrainWorkers})); err != nil {
			t.Fatal(err)
		}
		w.wellFormed()
		if len(w.blocks) != 1 || !strings.Contains(w.blocks[0], "upgrade/worker[0] failed: the kubelet was restarted") {
			t.Error(w.blocks)
		}
		lines := strings.Join(w.lines(), "\n")
		for _, want := range []string{"worker[0]/kubelet ended failed", "worker[0]/kubelet ended proceeded", "worker[0] ended proceeded"} {
			if !strings.Contains(lines, want) {
				t.Errorf("%q is missing in %s", want, lines)
			}
		}
		if got := n.commands("kubeadm"); len(got) != 1 {
			t.Errorf("kubeadm had ended well, and was run again: %v", got)
		}
	})
}

// TestKubeletRestartsStaticPods: the part is over when they serve again.
func TestKubeletRestartsStaticPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, 0)
		n := w.node("control-plane[0]")
		n.onRestart = func(ctx context.Context) error {
			n.stop(etcd)
			go func() {
				time.Sleep(20 * time.Second)
				n.serve(etcd, toEtcd)
			}()
			return n.setKubelet(ctx, to)
		}
		if err := w.strategy().Run(t.Context(), w.env(Options{To: to})); err != nil {
			t.Fatal(err)
		}
		w.wellFormed()
		var began time.Time
		for _, p := range w.phases {
			switch {
			case p.Path == "upgrade/control-plane[0]/kubelet" && p.State == Began:
				began = p.At
			case p.Path == "upgrade/control-plane[0]/kubelet" && p.At.Sub(began) < 20*time.Second:
				t.Errorf("over after %s", p.At.Sub(began))
			}
		}
	})
}

// TestCancel: Ctrl-C in the middle of kubeadm.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 0)
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("interrupted")
		n := w.node("control-plane[0]")
		n.onKubeadm = func(ctx context.Context) error {
			n.setManifest(etcd, toEtcd)
			if err := sleep(ctx, time.Second); err != nil {
				return err
			}
			cancel(stop)
			<-ctx.Done()
			return ctx.Err()
		}
		n.stop(etcd)
		err := w.strategy().Run(ctx, w.env(Options{To: to}))
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		w.wellFormed()
		lines := w.lines()
		if lines[len(lines)-1] != "upgrade ended failed" || len(w.blocks) > 0 {
			t.Errorf("phases %v, asked %v", lines, w.blocks)
		}

		// Another process goes on where this one stopped.
		w.phases, n.onKubeadm, n.ran = nil, nil, nil
		n.serve(etcd, toEtcd)
		if err := w.strategy().Run(t.Context(), w.env(Options{To: to})); err != nil {
			t.Fatal(err)
		}
		w.wellFormed()
		want := []string{
			"upgrade began", "upgrade/prepare began", "upgrade/prepare ended proceeded", "upgrade/control-plane[0] began",
			"upgrade/control-plane[0]/etcd began", "upgrade/control-plane[0]/etcd ended skipped",
		}
		got := w.lines()
		if d := cmp.Diff(want, slices.DeleteFunc(got[:8:8], func(s string) bool { return strings.Contains(s, "/preflight ") })[:6]); d != "" {
			t.Error(d)
		}
		if got := n.commands("kubeadm"); len(got) != 1 || !strings.Contains(got[0], "upgrade apply") {
			t.Errorf("resumed with %v", got)
		}
		if n.loads != 4 {
			t.Errorf("images were loaded again: %d", n.loads)
		}
	})
}

func (n *fakeNode) manifest(c string) string {
	v, err := look(n.world.t.Context(), n, []string{c})
	if err != nil {
		n.world.t.Fatal(err)
	}
	return v[c]
}

// TestUncordonLeftBehind: a run died between kubelet and uncordon.
func TestUncordonLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1)
		o := Options{To: to, Drain: DrainWorkers}
		if err := w.strategy().Run(t.Context(), w.env(o)); err != nil {
			t.Fatal(err)
		}
		run := "another"
		if err := patchNode(t.Context(), w.cs, "x-worker0", true, &run); err != nil {
			t.Fatal(err)
		}
		if err := w.strategy().Run(t.Context(), w.env(o)); err != nil {
			t.Fatal(err)
		}
		node, err := w.cs.CoreV1().Nodes().Get(t.Context(), "x-worker0", metav1.GetOptions{})
		if err != nil || node.Spec.Unschedulable {
			t.Errorf("not uncordoned: %v %v", node, err)
		}
	})
}

func TestLeftover(t *testing.T) {
	const running = "lrwxrwxrwx 1 root root 0 Nov 21 02:00 /proc/77/exe -> /usr/bin/kubeadm (deleted)\nlrwxrwxrwx 1 root root 0 Nov 21 02:00 /proc/1/exe -> /usr/lib/systemd/systemd\n"
	t.Run("ours is ended", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, 0)
			n := w.node("control-plane[0]")
			n.procs, n.args = running, "kubeadm upgrade node --config /opt/gameday/v1.37.0/upgrade.yaml "
			n.onKill = func() {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.procs = ""
			}
			if err := w.strategy().Run(t.Context(), w.env(Options{To: to})); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]string{"kill -TERM 77"}, n.commands("kill")); d != "" {
				t.Error(d)
			}
		})
	})
	t.Run("another's is not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, 0)
			n := w.node("control-plane[0]")
			n.procs, n.args = running, "kubeadm upgrade apply v1.36.4 "
			err := w.strategy().Run(t.Context(), w.env(Options{To: to}))
			if err == nil || !strings.Contains(err.Error(), "gameday did not start") || !strings.Contains(err.Error(), ": blocked: ") {
				t.Error(err)
			}
			if got := append(n.commands("kill"), n.commands("kubeadm")...); len(got) > 0 {
				t.Error(got)
			}
		})
	})
}

func TestCatalogue(t *testing.T) {
	for _, k := range Catalogue() {
		if got, ok := Lookup(k.Name); !ok || got.Name != k.Name || k.Doc == "" || k.New() == nil {
			t.Errorf("%q is not whole", k.Name)
		}
	}
	if _, ok := Lookup("none"); ok {
		t.Error("found a strategy that is not there")
	}
}

func TestImageVersion(t *testing.T) {
	for image, want := range map[string]string{
		"registry.k8s.io/etcd:3.7.0-0":                         "3.7.0",
		"localhost:5000/etcd:v3.6.8":                           "3.6.8",
		"registry.k8s.io/etcd:3.7.0-0@sha256:0123456789abcdef": "3.7.0",
		"localhost:5000/etcd":                                  "",
	} {
		if got, err := imageVersion(etcd, image); got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v", image, got, err)
		}
	}
	if got, err := imageVersion(apiServer, "registry.k8s.io/kube-apiserver:v1.38.0-alpha.1_abc"); got != "v1.38.0-alpha.1+abc" || err != nil {
		t.Error(got, err)
	}
	if _, err := manifestVersion(etcd, []byte("spec: {}")); err == nil {
		t.Error("a manifest without a container has a version")
	}
}
