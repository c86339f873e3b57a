// Package hollow is what a control plane sees of kubelets, without machines or
// containers behind them: Node objects, leases and status that are kept up, and
// pods that are said to run, to end and to be gone.
//
// It does what KWOK does (https://kwok.sigs.k8s.io), and is not KWOK's library,
// because that has no kubelet that is cut off: it would go on deleting the pods of
// a node whose lease is stopped. (sigs.k8s.io/kwok v0.8.0 also asks for some sixty
// modules, such as docker/cli, kustomize, cel-go and OpenTelemetry, and for
// client-go v0.36.) Leases are kept by the kubelet's own code,
// k8s.io/component-helpers/apimachinery/lease.
//
// A kubelet that is cut off ([Kubelets.Cut]) renews no lease, reports no status,
// and neither starts, ends nor removes pods, until it is restored. Then it does at
// once what it missed, where a real one may take some seconds to notice that it can
// talk again.
//
// What is not like a kubelet: containers start and end at once, nothing is ever
// pulled, probed or logged, and a container never crashes. A pod that is not to be
// restarted succeeds after the time in its annotation [clusters.AnnotationRunFor].
package hollow

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/connrotation"
	"k8s.io/client-go/util/workqueue"
)

// Renew is how often a kubelet renews its lease, and looks at its status:
// k8s.io/kubernetes@v1.37.0 pkg/kubelet/apis/config/v1beta1/defaults.go
// NodeLeaseDurationSeconds (40 s, of which renewed after a quarter,
// pkg/kubelet/kubelet.go nodeLeaseRenewIntervalFraction) and
// NodeStatusUpdateFrequency.
const Renew = 10 * time.Second

// Node is one that has a hollow kubelet.
type Node struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Taints []corev1.Taint    `json:"taints,omitempty"`
	// IP is its address as it tells it.
	IP string `json:"ip"`
}

// Config of the kubelets of some nodes.
type Config struct {
	// API leads to the API; each kubelet has connections of its own.
	API   *rest.Config
	Nodes []Node
	// Version is what they say to be.
	Version string
	// Renew is how often a lease is renewed; 0 means [Renew].
	Renew time.Duration
	// PodNet is the first address that is given to pods, which nobody listens on.
	PodNet [4]byte
	// Dial opens their connections; nil: as a process of this machine.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Log  *log.Logger
}

// Kubelets are those of some nodes, in one process.
type Kubelets struct {
	cfg    Config
	client kubernetes.Interface
	nodes  map[string]*kubelet
	pods   cache.SharedIndexInformer
	seen   cache.SharedIndexInformer // the nodes as the API has them
	queue  workqueue.TypedRateLimitingInterface[string]
	given  atomic.Uint32 // addresses of pods

	admitted chan struct{} // closed when the API lets them in

	mu      sync.Mutex
	run     context.Context // nil until Run
	started chan struct{}
	all     sync.WaitGroup
}

// podWorkers is how many pods are changed at the same time.
const podWorkers = 16

const byNode = "node"

// New prepares kubelets; nothing is sent before Run.
func New(cfg Config) (*Kubelets, error) {
	if cfg.Renew == 0 {
		cfg.Renew = Renew
	}
	shared := rest.CopyConfig(cfg.API)
	shared.QPS, shared.Dial = -1, cfg.Dial
	shared.Timeout = 0 // of watches, which last
	client, err := kubernetes.NewForConfig(shared)
	if err != nil {
		return nil, fmt.Errorf("client of the kubelets: %w", err)
	}
	k := &Kubelets{
		cfg: cfg, client: client, nodes: map[string]*kubelet{}, started: make(chan struct{}), admitted: make(chan struct{}),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, 5*time.Second)),
	}
	for _, n := range cfg.Nodes {
		one, err := newKubelet(k, n)
		if err != nil {
			return nil, err
		}
		k.nodes[n.Name] = one
	}
	// One watch for all of them: what is not theirs is passed over. A single one
	// asks for its own only, as a kubelet does.
	podsOf, nodesOf := fields.Everything(), fields.Everything()
	if len(cfg.Nodes) == 1 {
		podsOf = fields.OneTermEqualSelector("spec.nodeName", cfg.Nodes[0].Name)
		nodesOf = fields.OneTermEqualSelector("metadata.name", cfg.Nodes[0].Name)
	}
	selected := func(s fields.Selector) informers.SharedInformerOption {
		return informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = s.String() })
	}
	k.pods = informers.NewSharedInformerFactoryWithOptions(client, 0, selected(podsOf)).Core().V1().Pods().Informer()
	k.seen = informers.NewSharedInformerFactoryWithOptions(client, 0, selected(nodesOf)).Core().V1().Nodes().Informer()
	err = k.pods.AddIndexers(cache.Indexers{byNode: func(o any) ([]string, error) {
		return []string{o.(*corev1.Pod).Spec.NodeName}, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("index of pods: %w", err)
	}
	_, err = k.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { k.look(o.(*corev1.Pod)) },
		UpdateFunc: func(_, o any) { k.look(o.(*corev1.Pod)) },
	})
	if err != nil {
		return nil, fmt.Errorf("watch of pods: %w", err)
	}
	return k, nil
}

// Run registers the nodes and keeps them up until ctx ends.
func (k *Kubelets) Run(ctx context.Context) error {
	k.mu.Lock()
	if k.run != nil {
		k.mu.Unlock()
		return errors.New("the kubelets run already")
	}
	k.run = ctx
	k.all.Go(func() { k.knock(ctx) })
	for _, watch := range []cache.SharedIndexInformer{k.pods, k.seen} {
		k.all.Go(func() {
			if k.in(ctx) {
				watch.RunWithContext(ctx)
			}
		})
	}
	for range podWorkers {
		k.all.Go(func() { k.work(ctx) })
	}
	// As on real machines, not all at the same instant.
	draw := rand.New(rand.NewPCG(uint64(len(k.nodes)), 0x9e3779b97f4a7c15))
	for _, n := range k.cfg.Nodes {
		k.nodes[n.Name].start(ctx, time.Duration(draw.Int64N(int64(k.cfg.Renew))))
	}
	close(k.started)
	k.mu.Unlock()
	<-ctx.Done()
	k.queue.ShutDown()
	k.mu.Lock() // nobody is restored any more
	for _, n := range k.nodes {
		n.stop()
	}
	k.mu.Unlock()
	k.all.Wait()
	return nil
}

// knockEvery is between two tries to be let in.
const knockEvery = 100 * time.Millisecond

// knock asks the API until it lets the kubelets in, so that none of them is refused
// again and again, later each time, while it starts.
func (k *Kubelets) knock(ctx context.Context) {
	tick := time.NewTicker(knockEvery)
	defer tick.Stop()
	for {
		one, done := context.WithTimeout(ctx, k.cfg.Renew)
		_, err := k.client.CoreV1().Nodes().List(one, metav1.ListOptions{Limit: 1})
		done()
		if err == nil {
			close(k.admitted)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// in waits until the API lets the kubelets in; false means that ctx ended.
func (k *Kubelets) in(ctx context.Context) bool {
	select {
	case <-k.admitted:
		return true
	case <-ctx.Done():
		return false
	}
}

// Started is closed when Run has begun, from when on they can be cut off.
func (k *Kubelets) Started() <-chan struct{} { return k.started }

// Cut cuts kubelets off. When it returns they write nothing any more. One that is
// cut off stays so.
func (k *Kubelets) Cut(names ...string) error {
	return k.each(names, func(n *kubelet) { n.stop() })
}

// Restore lets kubelets talk again. One that does is left as it is.
func (k *Kubelets) Restore(names ...string) error {
	err := k.each(names, func(n *kubelet) {
		if n.up() {
			return
		}
		n.start(k.run, 0)
		for _, o := range k.podsOf(n.node.Name) {
			k.look(o)
		}
	})
	return err
}

// Replace puts kubelets of another version in the place of some: each says it from
// when it is restored the next time.
func (k *Kubelets) Replace(version string, names ...string) error {
	return k.each(names, func(n *kubelet) { n.replace(version) })
}

// CutOff lists the nodes whose kubelets are cut off.
func (k *Kubelets) CutOff() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for _, n := range k.cfg.Nodes {
		if !k.nodes[n.Name].up() {
			out = append(out, n.Name)
		}
	}
	return out
}

func (k *Kubelets) each(names []string, do func(*kubelet)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.run == nil || k.run.Err() != nil {
		return errors.New("the kubelets do not run")
	}
	for _, name := range names {
		if k.nodes[name] == nil {
			return fmt.Errorf("node %s has no hollow kubelet here", name)
		}
	}
	// All at the same time: one waits for what is on its way.
	var all sync.WaitGroup
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		all.Go(func() { do(k.nodes[name]) })
	}
	all.Wait()
	return nil
}

func (k *Kubelets) podsOf(node string) []*corev1.Pod {
	list, err := k.pods.GetIndexer().ByIndex(byNode, node)
	if err != nil { // only if there is no such index
		k.cfg.Log.Printf("pods of %s: %v", node, err)
	}
	out := make([]*corev1.Pod, len(list))
	for i, o := range list {
		out[i] = o.(*corev1.Pod)
	}
	return out
}

// rotating is a dialer whose connections can be given up, as a kubelet does when
// its heartbeats fail again and again: k8s.io/kubernetes@v1.37.0
// cmd/kubelet/app/server.go.
func (k *Kubelets) rotating() *connrotation.Dialer {
	dial := k.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	return connrotation.NewDialer(connrotation.DialFunc(dial))
}
