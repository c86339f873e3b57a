package upgrade

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	k8stesting "k8s.io/client-go/testing"

	"gameday/clusters"
)

const (
	from, to         = "v1.36.1", "v1.37.0"
	fromEtcd, toEtcd = "3.6.8", "3.7.0"
)

// world is a cluster in memory: nodes that run kubeadm as told, and an API.
type world struct {
	clusters.Cluster
	t       *testing.T
	cs      *fake.Clientset
	nodes   []*fakeNode
	targets fakeTargets
	ends    []clusters.Endpoint

	mu     sync.Mutex
	phases []Phase
	evict  func(pod string) error // nil: every eviction is accepted
	blocks []string               // what Env.Blocked was asked
	block  func(step Step) error  // its answer
}

func newWorld(t *testing.T, controlPlanes, workers int) *world {
	t.Helper()
	w := &world{t: t, cs: fake.NewClientset(), targets: newTargets(t)}
	add := func(role clusters.Role, i int) {
		name := fmt.Sprintf("x-%s%d", role, i)
		n := &fakeNode{
			world: w, name: name, role: role, index: i, kubelet: from,
			files: map[string][]byte{kubeletConfig: []byte("failCgroupV1: false\n")}, sums: map[string]string{},
			serving: map[string]sighting{}, images: map[string]bool{},
		}
		if role == clusters.ControlPlane {
			for _, c := range staticPods() {
				n.setManifest(c, n.old(c))
				n.serve(c, n.old(c))
			}
		}
		w.nodes = append(w.nodes, n)
		if role == clusters.LoadBalancer {
			return
		}
		_, err := w.cs.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status: corev1.NodeStatus{
				NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: from},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range controlPlanes {
		add(clusters.ControlPlane, i)
	}
	for i := range workers {
		add(clusters.Worker, i)
	}
	add(clusters.LoadBalancer, 0)
	w.cs.PrependReactor("create", "pods", func(a k8stesting.Action) (bool, runtime.Object, error) {
		if a.GetSubresource() != "eviction" {
			return false, nil, nil
		}
		name := a.(k8stesting.CreateAction).GetObject().(*policyv1.Eviction).Name
		w.mu.Lock()
		evict := w.evict
		w.mu.Unlock()
		if evict != nil {
			if err := evict(name); err != nil {
				return true, nil, err
			}
		}
		return true, nil, w.cs.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), a.GetNamespace(), name)
	})
	return w
}

func (w *world) Name() string { return "x" }
func (w *world) Run() string  { return "run1" }
func (w *world) Nodes() []clusters.Node {
	out := make([]clusters.Node, len(w.nodes))
	for i, n := range w.nodes {
		out[i] = n
	}
	return out
}

func (w *world) LoadImages(_ context.Context, n clusters.Node, archive io.Reader) error {
	b, err := io.ReadAll(archive) // the archive of a fake image is its name
	if err != nil {
		return err
	}
	f := n.(*fakeNode)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[string(b)] = true
	f.loads++
	return nil
}

func (w *world) node(place string) *fakeNode {
	w.t.Helper()
	for _, n := range w.nodes {
		if clusters.Place(n) == place {
			return n
		}
	}
	w.t.Fatalf("no %s", place)
	return nil
}

// pod puts a pod of a controller onto a node.
func (w *world) pod(name, node, ownerKind string) {
	w.t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)},
		Spec:       corev1.PodSpec{NodeName: node},
	}
	if ownerKind != "" {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{Kind: ownerKind, Name: "o", Controller: &yes}}
	}
	if _, err := w.cs.CoreV1().Pods("default").Create(w.t.Context(), p, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// env is what a strategy is given to upgrade the world.
func (w *world) env(o Options) Env {
	return Env{
		Cluster: w, Options: o, Targets: w.targets,
		Publish: func(p Phase) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.phases = append(w.phases, p)
		},
		Blocked: func(_ context.Context, s Step, out Outcome, cause error) error {
			w.mu.Lock()
			w.blocks = append(w.blocks, fmt.Sprintf("%s %s: %v", s.Phase, out, cause))
			block := w.block
			w.mu.Unlock()
			if block == nil {
				return cause
			}
			return block(s)
		},
	}
}

func (w *world) strategy() *kubeadm {
	return &kubeadm{
		openAPI: func(clusters.Cluster) (*api, error) {
			return &api{names: []string{"lb"}, clients: []kubernetes.Interface{w.cs}}, nil
		},
		probes: func(_ clusters.Cluster, n clusters.Node, a *api) (prober, error) {
			return &fakeProber{node: n.(*fakeNode), real: &probes{node: n, api: a}}, nil
		},
	}
}

// lines are the phases as text, without the times.
func (w *world) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, p := range w.phases {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", p.Path, p.State, p.Outcome)))
	}
	return out
}

// wellFormed checks what every reader of phases relies on.
func (w *world) wellFormed() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	open := map[string]Phase{}
	for _, p := range w.phases {
		b, isOpen := open[p.Path]
		switch {
		case p.At.IsZero() || p.Seen == "":
			w.t.Errorf("%s %s has no time or nothing seen", p.Path, p.State)
		case p.State == Began && isOpen:
			w.t.Errorf("%s began twice", p.Path)
		case p.State == Ended && !isOpen:
			w.t.Errorf("%s ended without having begun", p.Path)
		case p.State == Ended && p.At.Before(b.At):
			w.t.Errorf("%s ended before it began", p.Path)
		case p.State == Ended && p.Outcome == "", p.State == Began && p.Outcome != "":
			w.t.Errorf("%s %s with outcome %q", p.Path, p.State, p.Outcome)
		}
		if p.State == Ended {
			delete(open, p.Path)
			for other := range open {
				if strings.HasPrefix(other, p.Path+"/") {
					w.t.Errorf("%s ended while %s is open", p.Path, other)
				}
			}
			continue
		}
		open[p.Path] = p
		if parent := p.Path[:max(0, strings.LastIndexByte(p.Path, '/'))]; parent != "" {
			if _, ok := open[parent]; !ok {
				w.t.Errorf("%s began outside of %s", p.Path, parent)
			}
		}
	}
	for path := range open {
		w.t.Errorf("%s did not end", path)
	}
}

// fakeNode is a node in memory.
type fakeNode struct {
	world *world
	name  string
	role  clusters.Role
	index int

	mu      sync.Mutex
	files   map[string][]byte
	sums    map[string]string
	images  map[string]bool
	serving map[string]sighting
	fails   map[string]bool // components that cannot be looked at
	kubelet string
	loads   int
	ran     []string // commands, as run

	// journal is what journalctl prints.
	journal string

	// onKubeadm runs instead of upgradeAll when it is set.
	onKubeadm func(ctx context.Context) error
	// onRestart runs instead of the kubelet's restart when it is set.
	onRestart func(ctx context.Context) error
	// denied makes the API refuse the worker's own credentials.
	denied bool
	// procs is the listing of /proc, args the command line of any pid.
	procs, args string
	onKill      func()
}

// InitPID implements clusters.Processes; nobody goes inside.
func (*fakeNode) InitPID(context.Context) (int, error) { return 0, errors.New("a fake has no process") }

func (n *fakeNode) Name() string        { return n.name }
func (n *fakeNode) Role() clusters.Role { return n.role }
func (n *fakeNode) Index() int          { return n.index }
func (n *fakeNode) IP() netip.Addr      { return netip.MustParseAddr("10.0.0.1") }

func (n *fakeNode) old(c string) string {
	if c == etcd {
		return fromEtcd
	}
	return from
}

func (n *fakeNode) new(c string) string {
	if c == etcd {
		return toEtcd
	}
	return to
}

func (n *fakeNode) setManifest(c, version string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c == etcd {
		version += "-0"
	}
	n.files[manifestPath(c)] = fmt.Appendf(nil, "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: %s\n    image: registry.k8s.io/%s:%s\n", c, c, version)
}

func (n *fakeNode) serve(c, version string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.serving[c] = sighting{version: version, well: true, seen: c + " serves " + version}
}

func (n *fakeNode) stop(c string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.serving, c)
}

// upgrade does to one component what kubeadm and the kubelet do.
func (n *fakeNode) upgrade(ctx context.Context, c string) error {
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	n.setManifest(c, n.new(c))
	n.stop(c)
	if err := sleep(ctx, 5*time.Second); err != nil {
		return err
	}
	n.serve(c, n.new(c))
	return nil
}

// upgradeAll is kubeadm without trouble.
func (n *fakeNode) upgradeAll(ctx context.Context) error {
	if n.role == clusters.ControlPlane {
		for _, c := range staticPods() {
			n.mu.Lock()
			is := bytes.Contains(n.files[manifestPath(c)], []byte(":"+n.new(c)))
			n.mu.Unlock()
			if is {
				continue
			}
			if err := n.upgrade(ctx, c); err != nil {
				return err
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.files[kubeletConfig] = []byte("failCgroupV1: false\nnew: true\n")
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (n *fakeNode) exit(c clusters.Command, text string) error {
	return &clusters.ExitError{Node: n.name, Argv: c.Argv, Code: 1, Output: text}
}

func (n *fakeNode) Exec(ctx context.Context, c clusters.Command) error {
	line := strings.Join(c.Argv, " ")
	n.mu.Lock()
	n.ran = append(n.ran, line)
	onKubeadm, onRestart, denied, procs, args, onKill := n.onKubeadm, n.onRestart, n.denied, n.procs, n.args, n.onKill
	n.mu.Unlock()
	out := c.Stdout
	if out == nil {
		out = io.Discard
	}
	switch {
	case c.Argv[0] == "sh" && strings.Contains(c.Argv[2], "crictl images"):
		n.mu.Lock()
		defer n.mu.Unlock()
		type image struct {
			RepoTags []string `json:"repoTags"`
		}
		var list struct {
			Images []image `json:"images"`
		}
		for name := range n.images {
			list.Images = append(list.Images, image{RepoTags: []string{name}})
		}
		b, err := json.Marshal(list)
		n.files[c.Argv[3]] = b
		return err
	case c.Argv[0] == "sha256sum":
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.sums[c.Argv[1]] == "" {
			return n.exit(c, "No such file or directory")
		}
		fmt.Fprintf(out, "%s  %s\n", n.sums[c.Argv[1]], c.Argv[1])
		return nil
	case c.Argv[0] == "install":
		return nil
	case c.Argv[0] == "sh" && strings.Contains(c.Argv[2], "journalctl "):
		n.mu.Lock()
		defer n.mu.Unlock()
		n.files[c.Argv[3]] = []byte(n.journal)
		return nil
	case strings.HasPrefix(line, "kubeadm upgrade "):
		if onKubeadm != nil {
			return onKubeadm(ctx)
		}
		return n.upgradeAll(ctx)
	case line == "/usr/bin/kubelet --version":
		fmt.Fprintln(out, "Kubernetes "+to)
		return nil
	case line == "systemctl restart kubelet":
		if onRestart != nil {
			return onRestart(ctx)
		}
		return n.setKubelet(ctx, to)
	case c.Argv[0] == "kubectl":
		if denied {
			return n.exit(c, "Error from server (Forbidden): no relationship found between node and this object")
		}
		return nil
	case c.Argv[0] == "kill":
		if onKill != nil {
			onKill()
		}
		return nil
	case c.Argv[0] == "sh" && strings.HasPrefix(c.Argv[2], "cat "):
		h := sha256.New()
		if _, err := io.Copy(h, c.Stdin); err != nil {
			return err
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.sums[c.Argv[3]] = hex.EncodeToString(h.Sum(nil))
		return nil
	case c.Argv[0] == "sh" && strings.HasPrefix(c.Argv[2], "ls "):
		io.WriteString(out, procs+"\n"+listed)
		return nil
	case c.Argv[0] == "sh" && strings.HasPrefix(c.Argv[2], "tr "):
		io.WriteString(out, args)
		return nil
	}
	return n.exit(c, "the fake node does not know this command")
}

// setKubelet is a kubelet that reports a version and Ready.
func (n *fakeNode) setKubelet(ctx context.Context, version string) error {
	node, err := n.world.cs.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	node.Status.NodeInfo.KubeletVersion = version
	_, err = n.world.cs.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
	return err
}

func (n *fakeNode) ReadFile(_ context.Context, name string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b, ok := n.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Clone(b), nil
}

func (n *fakeNode) WriteFile(_ context.Context, name string, data []byte, _ fs.FileMode) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.files[name] = slices.Clone(data)
	return nil
}

func (n *fakeNode) Rename(context.Context, string, string) error { return errors.ErrUnsupported }
func (n *fakeNode) RemoveAll(context.Context, string) error      { return errors.ErrUnsupported }
func (n *fakeNode) ReadDir(context.Context, string) ([]string, error) {
	return nil, errors.ErrUnsupported
}

func (n *fakeNode) commands(prefix string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, c := range n.ran {
		if strings.HasPrefix(c, prefix) {
			out = append(out, c)
		}
	}
	return out
}

// fakeProber sees what the fake node serves; the kubelet it looks up in the
// fake API, as the real one does.
type fakeProber struct {
	node *fakeNode
	real *probes
}

func (p *fakeProber) close() {}

func (p *fakeProber) probe(ctx context.Context, c string) (sighting, error) {
	p.node.mu.Lock()
	fails := p.node.fails[c]
	s, ok := p.node.serving[c]
	p.node.mu.Unlock()
	switch {
	case fails:
		<-ctx.Done() // black hole
		return sighting{}, ctx.Err()
	case c == kubelet:
		s, err := p.real.reported(ctx)
		p.node.mu.Lock()
		defer p.node.mu.Unlock()
		for _, c := range staticPods() { // as the real one: all must serve again
			if _, ok := p.node.serving[c]; !ok && p.node.role == clusters.ControlPlane {
				s.well = false
				s.seen += "; it does not run " + c + " yet"
			}
		}
		return s, err
	case !ok:
		return sighting{}, errors.New("connection refused")
	}
	return s, nil
}

// fakeTargets are files whose content is their name.
type fakeTargets struct{ dir string }

func newTargets(t *testing.T) fakeTargets {
	t.Helper()
	f := fakeTargets{dir: t.TempDir()}
	for _, b := range append([]string{"kubeadm", "kubelet", "kubectl"}, f.names(clusters.ControlPlane)...) {
		if err := os.WriteFile(f.path(b), []byte(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f fakeTargets) path(name string) string {
	return filepath.Join(f.dir, strings.NewReplacer("/", "_", ":", "_").Replace(name))
}

func (f fakeTargets) names(role clusters.Role) []string {
	out := []string{"registry.k8s.io/kube-proxy:" + to, "registry.k8s.io/pause:3.10.2"}
	if role == clusters.ControlPlane {
		out = append(out, "registry.k8s.io/etcd:"+toEtcd+"-0", "registry.k8s.io/kube-apiserver:"+to)
	}
	return out
}

func (f fakeTargets) Binaries(context.Context) (kubeadm, kubelet, kubectl string, err error) {
	return f.path("kubeadm"), f.path("kubelet"), f.path("kubectl"), nil
}

func (f fakeTargets) Images(_ context.Context, role clusters.Role) (map[string]string, error) {
	out := map[string]string{}
	for _, n := range f.names(role) {
		out[n] = f.path(n)
	}
	return out, nil
}

func (f fakeTargets) Etcd() string      { return toEtcd }
func (f fakeTargets) NodeImage() string { return "node:" + to }

func tooMany() error {
	return apierrors.NewTooManyRequestsError("disruption budget of the app is spent")
}

func (w *world) REST() *rest.Config             { return nil }
func (w *world) Endpoints() []clusters.Endpoint { return w.ends }
