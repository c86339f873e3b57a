package upgrade

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

// handWorld is a world whose components are plain programs.
type handWorld struct {
	*world
	hands map[string]*handNode // by place
}

// handNode is a node whose components are replaced one by one.
type handNode struct {
	*fakeNode
	installed map[string]string
	stopped   map[string]bool
	// onStart runs before a component is started.
	onStart func(component string) error
}

func newHandWorld(t *testing.T, controlPlanes, workers int) *handWorld {
	t.Helper()
	w := &handWorld{world: newWorld(t, controlPlanes, workers), hands: map[string]*handNode{}}
	for _, n := range w.nodes {
		w.hands[clusters.Place(n)] = &handNode{fakeNode: n, installed: map[string]string{}, stopped: map[string]bool{}}
	}
	return w
}

func (w *handWorld) Nodes() []clusters.Node {
	var out []clusters.Node
	for _, n := range w.nodes {
		out = append(out, w.hands[clusters.Place(n)])
	}
	return out
}

func (w *handWorld) env(o Options) Env {
	e := w.world.env(o)
	e.Cluster, e.Targets = w, handTargets{w.targets}
	return e
}

func (w *handWorld) hand() *binaries {
	return &binaries{
		openAPI: func(clusters.Cluster) (*api, error) {
			return &api{names: []string{"lb"}, clients: []kubernetes.Interface{w.cs}}, nil
		},
		probes: func(_ clusters.Cluster, n clusters.Node, a *api) (prober, error) {
			h := n.(*handNode)
			return &handProber{node: h, real: &probes{node: n, api: a}}, nil
		},
		says: func(_ context.Context, program string) (string, error) {
			b, err := os.ReadFile(program)
			return string(b), err
		},
	}
}

func (n *handNode) did(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ran = append(n.ran, what)
}

func (n *handNode) StopComponent(_ context.Context, c string) error {
	n.did("stop " + c)
	n.stop(c)
	return nil
}

func (n *handNode) InstallComponent(_ context.Context, c, version, _ string) error {
	n.did("install " + c + " " + version)
	n.installed[c] = version
	return nil
}

func (n *handNode) StartComponent(ctx context.Context, c string) error {
	n.did("start " + c)
	if n.onStart != nil {
		if err := n.onStart(c); err != nil {
			return err
		}
	}
	if c == kubelet {
		return n.setKubelet(ctx, n.installed[c])
	}
	n.serve(c, n.installed[c])
	if c != controllerManager && c != scheduler {
		return nil
	}
	// It leads some time later.
	leases, holder, now := n.world.cs.CoordinationV1().Leases(metav1.NamespaceSystem), n.name+"_1", metav1.NewMicroTime(time.Now().Add(15*time.Second))
	if err := leases.Delete(ctx, c, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	time.AfterFunc(15*time.Second, func() {
		_, err := leases.Create(context.WithoutCancel(ctx), &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: c}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &now},
		}, metav1.CreateOptions{})
		if err != nil {
			n.world.t.Error(err)
		}
	})
	return nil
}

// handProber sees what a node serves; what is stopped has no process.
type handProber struct {
	node *handNode
	real *probes
}

func (*handProber) close() {}

func (p *handProber) probe(ctx context.Context, c string) (sighting, error) {
	if c == kubelet {
		return p.real.reported(ctx)
	}
	p.node.mu.Lock()
	defer p.node.mu.Unlock()
	if s, ok := p.node.serving[c]; ok {
		return s, nil
	}
	return sighting{seen: "no process of it"}, nil
}

// handTargets are programs whose content is their version.
type handTargets struct{ fakeTargets }

func (f handTargets) Program(c string) (string, error) {
	version := to
	if c == etcd {
		version = toEtcd
	}
	at := f.path("program-" + c)
	return at, os.WriteFile(at, []byte(version), 0o755)
}

// managerLast keeps the controller manager for the end.
func managerLast() []string { return []string{etcd, apiServer, scheduler, kubelet, controllerManager} }

func TestBinariesSteps(t *testing.T) {
	o := Options{To: to, Drain: DrainWorkers, DrainTimeout: time.Minute, Order: managerLast(), StopFirst: []string{controllerManager}}
	goldenSteps(t, "by-hand", new(binaries).Steps(places(2, 1), o))
}

func TestBinariesCheck(t *testing.T) {
	for want, o := range map[string]Options{
		"order: kube-scheduler is named 0 times":     {Order: []string{etcd, apiServer, controllerManager, kubelet}},
		"order: etcd is named 2 times":               {Order: append(usualOrder(), etcd)},
		`order: "kubeproxy" is no component`:         {Order: append(usualOrder(), "kubeproxy")},
		"order: kubelet comes before kube-apiserver": {Order: []string{etcd, kubelet, apiServer, controllerManager, scheduler}},
		`stopFirst: "kube-apiserver": only`:          {StopFirst: []string{apiServer}},
		"stopFirst: kube-scheduler is named twice":   {StopFirst: []string{scheduler, scheduler}},
		"nodes: control-plane[1] is not among them":  {Nodes: []string{"control-plane[0]", "worker[0]"}},
	} {
		if err := errors.Join(new(binaries).Check(places(2, 1), o)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	for _, o := range []Options{{}, {Order: managerLast(), StopFirst: []string{controllerManager, scheduler}}} {
		if errs := new(binaries).Check(places(3, 2), o); len(errs) > 0 {
			t.Errorf("%+v: %v", o, errs)
		}
	}
}

// TestBinaries upgrades a whole cluster in an order of its own, and then once more.
func TestBinaries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHandWorld(t, 2, 1)
		w.pod("app", "x-worker0", "ReplicaSet")
		w.slice("app")
		o := Options{To: to, Drain: DrainWorkers, Order: managerLast(), StopFirst: []string{controllerManager}}
		if err := w.hand().Run(t.Context(), w.env(o)); err != nil {
			t.Fatal(err)
		}
		want := []string{"upgrade began", "upgrade/prepare began", "upgrade/prepare ended proceeded"}
		phase := func(path string, parts ...string) {
			want = append(want, path+" began")
			for _, p := range parts {
				want = append(want, path+"/"+p+" began", path+"/"+p+" ended proceeded")
			}
			want = append(want, path+" ended proceeded")
		}
		all := func(component string) {
			phase("upgrade/control-plane[0]/" + component)
			phase("upgrade/control-plane[1]/" + component)
		}
		all("stop-kube-controller-manager")
		all(etcd)
		all(apiServer)
		all(scheduler)
		all(kubelet)
		phase("upgrade/worker[0]/kubelet", partDrain, partUncordon)
		all(controllerManager)
		want = append(want, "upgrade ended proceeded")
		if d := cmp.Diff(want, w.lines()); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"stop kube-controller-manager", "stop etcd", "stop kube-apiserver", "stop kube-scheduler", "stop kubelet", "stop kube-controller-manager"}, w.node("control-plane[0]").commands("stop")); d != "" {
			t.Error(d)
		}
		seen := ""
		for _, p := range w.phases {
			if p.Path == "upgrade/worker[0]/kubelet/uncordon" {
				seen = p.Seen
			}
		}
		if !strings.Contains(seen, "EndpointSlices name 1 of the 1 pods that are gone") {
			t.Errorf("nobody takes pods out of EndpointSlices, but: %q", seen)
		}

		w.phases = nil
		for _, n := range w.nodes {
			n.ran = nil
		}
		if err := w.hand().Run(t.Context(), w.env(o)); err != nil {
			t.Fatal(err)
		}
		for _, l := range w.lines() {
			if strings.Contains(l, "ended") && !strings.HasSuffix(l, "skipped") && l != "upgrade/prepare ended proceeded" {
				t.Errorf("all is done, but %s", l)
			}
		}
		for _, n := range w.nodes {
			if len(n.ran) > 0 {
				t.Errorf("%s was touched again: %v", n.name, n.ran)
			}
		}
	})
}

// slice is an EndpointSlice that names a pod.
func (w *handWorld) slice(pod string) {
	w.t.Helper()
	p, err := w.cs.CoreV1().Pods("default").Get(w.t.Context(), pod, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.cs.DiscoveryV1().EndpointSlices("default").Create(w.t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "s"},
		Endpoints:  []discoveryv1.Endpoint{{TargetRef: &corev1.ObjectReference{UID: p.UID}}},
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
}

// A run that was cut off goes on where the cluster is.
func TestBinariesResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newHandWorld(t, 1, 1)
		o := Options{To: to, Drain: DrainNone, Order: managerLast(), StopFirst: []string{controllerManager}}
		ctx, cancel := context.WithCancel(t.Context())
		n := w.hands["control-plane[0]"]
		n.onStart = func(c string) error {
			if c == scheduler {
				cancel()
				return ctx.Err()
			}
			return nil
		}
		if err := w.hand().Run(ctx, w.env(o)); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		n.onStart, n.ran, w.phases = nil, nil, nil
		if err := w.hand().Run(t.Context(), w.env(o)); err != nil {
			t.Fatal(err)
		}
		var skipped []string
		for _, l := range w.lines() {
			if path, ok := strings.CutSuffix(l, " ended skipped"); ok {
				skipped = append(skipped, strings.TrimPrefix(path, "upgrade/control-plane[0]/"))
			}
		}
		if d := cmp.Diff([]string{"stop-kube-controller-manager", etcd, apiServer}, skipped); d != "" {
			t.Error(d)
		}
		if got := n.serving[controllerManager].version; got != to {
			t.Errorf("the controller manager is at %q", got)
		}
	})
}

// What stands in the way blocks a step, which is tried again when somebody says so.
func TestBinariesBlocked(t *testing.T) {
	for name, c := range map[string]struct {
		set, mend func(w *handWorld)
		step      string
		want      string
	}{
		"a drain that a budget forbids": {
			set: func(w *handWorld) {
				w.pod("app", "x-worker0", "ReplicaSet")
				w.evict = func(string) error { return tooMany() }
			},
			mend: func(w *handWorld) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.evict = nil
			},
			step: "upgrade/worker[0]/kubelet", want: "blocked: the drain of x-worker0 did not end within 1m0s: default/app (Too many requests: disruption budget",
		},
		"another member of etcd is away": {
			set: func(w *handWorld) {
				w.node("control-plane[1]").serving[etcd] = sighting{version: fromEtcd, seen: "no leader"}
			},
			mend: func(w *handWorld) { w.node("control-plane[1]").serve(etcd, fromEtcd) },
			step: "upgrade/control-plane[0]/etcd", want: "blocked: another member of etcd is not healthy, so that this one is not taken away (control-plane[1]: no leader)",
		},
		"a program that does not start": {
			set: func(w *handWorld) {
				w.hands["control-plane[0]"].onStart = func(c string) error {
					if c == apiServer {
						return errors.New("no room")
					}
					return nil
				}
			},
			mend: func(w *handWorld) { w.hands["control-plane[0]"].onStart = nil },
			step: "upgrade/control-plane[0]/kube-apiserver", want: "failed: no room",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newHandWorld(t, 2, 1)
				c.set(w)
				w.block = func(Step) error {
					c.mend(w)
					return nil
				}
				if err := w.hand().Run(t.Context(), w.env(Options{To: to, Drain: DrainWorkers, DrainTimeout: time.Minute})); err != nil {
					t.Fatal(err)
				}
				if len(w.blocks) != 1 || !strings.Contains(w.blocks[0], c.step+" "+c.want) {
					t.Errorf("want %q, was asked %q", c.step+" "+c.want, w.blocks)
				}
				if i := slices.Index(w.lines(), c.step+" ended proceeded"); i < 0 {
					t.Errorf("%s did not proceed in the end", c.step)
				}
			})
		})
	}
}

// Nodes and targets that it is not for are refused before anything is touched.
func TestBinariesRefuses(t *testing.T) {
	static := newHandWorld(t, 1, 0)
	for want, run := range map[string]func() error{
		"cannot be replaced one by one": func() error {
			w := newWorld(t, 1, 0)
			return new(binaries).Run(t.Context(), w.env(Options{To: to}))
		},
		"as static pods": func() error {
			e := static.env(Options{To: to})
			e.Cluster = staticCluster{static}
			return static.hand().Run(t.Context(), e)
		},
		"upgraded one minor version at a time": func() error {
			return newHandWorld(t, 1, 0).run("v1.38.0")
		},
		"newer than the target": func() error {
			return newHandWorld(t, 1, 0).run("v1.35.4")
		},
		"says v1.37.0, not v1.36.4": func() error {
			return newHandWorld(t, 1, 0).run("v1.36.4")
		},
	} {
		if err := run(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if ran := static.node("control-plane[0]").ran; len(ran) > 0 {
		t.Errorf("it was touched: %v", ran)
	}
}

func (w *handWorld) run(to string) error { return w.hand().Run(w.t.Context(), w.env(Options{To: to})) }

type staticCluster struct{ *handWorld }

func (c staticCluster) Nodes() []clusters.Node {
	return []clusters.Node{staticNode{c.hands["control-plane[0]"]}}
}

type staticNode struct{ *handNode }

func (staticNode) Manifests() string { return "/etc/kubernetes/manifests" }

func TestVersionIn(t *testing.T) {
	for out, want := range map[string]string{
		"Kubernetes v1.37.0\n":                         to,
		"etcd Version: 3.7.0\nGit SHA: Not provided\n": toEtcd,
		"usage: etcd":                                  "",
	} {
		if got, err := versionIn(out); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", out, got, err)
		}
	}
}

// TestExecutable finds a program by what its process really runs.
func TestExecutable(t *testing.T) {
	proc := t.TempDir()
	add := func(pid, ns, exe string) {
		if err := os.MkdirAll(filepath.Join(proc, pid, "ns"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Symlink(ns, filepath.Join(proc, pid, "ns/pid")), os.Symlink(exe, filepath.Join(proc, pid, "exe"))); err != nil {
			t.Fatal(err)
		}
	}
	add("7", "pid:[2]", "/usr/bin/machine")
	add("8", "pid:[1]", "/opt/etcd")
	add("9", "pid:[2]", "/opt/etcd (deleted)")
	for name, want := range map[string]string{"etcd": filepath.Join(proc, "9/exe"), "kube-apiserver": ""} {
		if got, err := executable(proc, 7, name); got != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := executable(proc, 1, "etcd"); err == nil {
		t.Error("a namespace that is not there")
	}
}
