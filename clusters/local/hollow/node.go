package hollow

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/component-helpers/apimachinery/lease"
	"k8s.io/utils/clock"

	"gameday/clusters"
)

const (
	// LeaseParts is how many times a lease is renewed within its duration:
	// k8s.io/kubernetes@v1.37.0 pkg/kubelet/kubelet.go nodeLeaseRenewIntervalFraction.
	LeaseParts = 4
	// reportEvery is how often a status is reported that has not changed:
	// k8s.io/kubernetes@v1.37.0 pkg/kubelet/apis/config/v1beta1/defaults.go
	// NodeStatusReportFrequency.
	reportEvery = 5 * time.Minute
	// registerEvery is between two tries to register.
	registerEvery = 200 * time.Millisecond
)

// kubelet is that of one node.
type kubelet struct {
	of     *Kubelets
	node   Node
	client kubernetes.Interface
	closer func() // gives up all connections

	mu     sync.Mutex
	next   string          // the version that it says from its next start on
	ctx    context.Context // ends when it is cut off
	cancel context.CancelFunc
	busy   sync.WaitGroup // requests and loops that must end before it is cut off
}

func newKubelet(of *Kubelets, n Node) (*kubelet, error) {
	cfg := rest.CopyConfig(of.cfg.API)
	cfg.QPS = -1
	// As the kubelet's client for heartbeats: its status period, and no more than the
	// lease (k8s.io/kubernetes@v1.37.0 cmd/kubelet/app/server.go).
	cfg.Timeout = min(Renew, LeaseParts*of.cfg.Renew)
	// A dialer of its own keeps client-go from sharing the connections of others.
	d := of.rotating()
	cfg.Dial = d.DialContext
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", n.Name, err)
	}
	return &kubelet{of: of, node: n, client: client, closer: d.CloseAll, next: of.cfg.Version}, nil
}

// start begins, or begins again; the first renewal of its lease comes after the
// offset.
func (n *kubelet) start(ctx context.Context, offset time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	version := n.next
	n.ctx, n.cancel = context.WithCancel(ctx)
	ctx = n.ctx
	n.busy.Go(func() {
		if n.of.in(ctx) {
			n.status(ctx, version)
		}
	})
	n.busy.Go(func() {
		if !n.of.in(ctx) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(offset):
		}
		lease.NewController(clock.RealClock{}, n.client, n.node.Name, int32(max(1, LeaseParts*n.of.cfg.Renew/time.Second)), n.closer,
			n.of.cfg.Renew, n.node.Name, corev1.NamespaceNodeLease, nil).Run(ctx)
	})
}

// replace is the version that it says from its next start on.
func (n *kubelet) replace(version string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next = version
}

// stop cuts it off, and returns when nothing of it is on its way.
func (n *kubelet) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.busy.Wait()
	n.ctx, n.cancel = nil, nil
}

// up says whether it is not cut off.
func (n *kubelet) up() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cancel != nil
}

// doing runs one piece of work unless it is cut off, which waits for the end of it.
func (n *kubelet) doing(do func(context.Context) error) error {
	n.mu.Lock()
	if n.cancel == nil {
		n.mu.Unlock()
		return nil
	}
	ctx := n.ctx
	n.busy.Add(1)
	n.mu.Unlock()
	defer n.busy.Done()
	if err := do(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// status registers the node and keeps its status up.
func (n *kubelet) status(ctx context.Context, version string) {
	said := ""
	try := func(what string, do func(context.Context) error) bool {
		err := do(ctx)
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			n.of.cfg.Log.Printf("%s: %s: %v", n.node.Name, what, err)
		}
		return err == nil
	}
	every := func(d time.Duration, until func() bool) {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for !until() {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
	every(registerEvery, func() bool {
		return try("register", func(ctx context.Context) error { return n.register(ctx, version) })
	})
	reported := time.Now()
	every(n.of.cfg.Renew, func() bool {
		if n.isReady() && time.Since(reported) < reportEvery {
			return false
		}
		if try("report the status", func(ctx context.Context) error { return n.report(ctx, version) }) {
			reported = time.Now()
		}
		return false
	})
}

// register makes the Node, Ready; one that is there gets a new status.
func (n *kubelet) register(ctx context.Context, version string) error {
	labels := map[string]string{
		corev1.LabelHostname: n.node.Name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: runtime.GOARCH,
	}
	for k, v := range n.node.Labels {
		labels[k] = v
	}
	_, err := n.client.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.node.Name, Labels: labels},
		Spec:       corev1.NodeSpec{Taints: n.node.Taints},
		Status:     n.wants(version),
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return n.report(ctx, version)
	}
	return err
}

// isReady says whether the API has the node as Ready, as far as is known here.
func (n *kubelet) isReady() bool {
	o, ok, err := n.of.seen.GetStore().GetByKey(n.node.Name)
	if err != nil || !ok {
		return true // not known yet
	}
	for _, c := range o.(*corev1.Node).Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// report writes the status.
func (n *kubelet) report(ctx context.Context, version string) error {
	patch, err := json.Marshal(map[string]any{"status": n.wants(version)})
	if err != nil {
		return err
	}
	_, err = n.client.CoreV1().Nodes().Patch(ctx, n.node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// wants is the status of a node on which all is well. Its size is that of a large
// one, so that the scheduler finds room.
func (n *kubelet) wants(version string) corev1.NodeStatus {
	now := metav1.Now()
	condition := func(t corev1.NodeConditionType, s corev1.ConditionStatus, reason string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: t, Status: s, Reason: reason, Message: "hollow kubelet", LastHeartbeatTime: now, LastTransitionTime: now}
	}
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"), corev1.ResourcePods: resource.MustParse("110"),
	}
	return corev1.NodeStatus{
		Capacity: room, Allocatable: room,
		Conditions: []corev1.NodeCondition{
			condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory"),
			condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure"),
			condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID"),
			condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady"),
		},
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: n.node.IP}, {Type: corev1.NodeHostName, Address: n.node.Name},
		},
		NodeInfo: corev1.NodeSystemInfo{
			KubeletVersion: version, ContainerRuntimeVersion: clusters.HollowContainer + version,
			OperatingSystem: "linux", Architecture: runtime.GOARCH, OSImage: "hollow", MachineID: n.node.Name,
		},
	}
}
