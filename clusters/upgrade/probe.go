package upgrade

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/clusters"
)

// kubelet is the component that every node has.
const kubelet = "kubelet"

// probes looks at the components of one node from outside: etcd and the API
// server on their own ports, the others through whichever API server answers.
type probes struct {
	cluster clusters.Cluster
	node    clusters.Node
	api     *api
	direct  *http.Client // this node's API server; nil on a worker
	base    string
	// loopback asks what listens on the node's own 127.0.0.1, each time anew: the
	// component may be another one.
	loopback *http.Client

	mu   sync.Mutex
	etcd *clientv3.Client
}

func newProbes(c clusters.Cluster, n clusters.Node, a *api) (*probes, error) {
	if !clusters.Has(n, clusters.CapProcesses) {
		return nil, fmt.Errorf("%s does not show its processes (capability %s), so that its components cannot be asked", n.Name(), clusters.CapProcesses)
	}
	p := &probes{cluster: c, node: n, api: a, loopback: &http.Client{Timeout: probeBound, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return clusters.DialInside(ctx, n, network, address)
		},
		// The components sign their own certificates at each start.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}}}
	if n.Role() != clusters.ControlPlane {
		return p, nil
	}
	return p, p.ofServer()
}

// newServerProbe looks at nothing but the API server of a node.
func newServerProbe(c clusters.Cluster, n clusters.Node, a *api) (*probes, error) {
	p := &probes{cluster: c, node: n, api: a}
	return p, p.ofServer()
}

// ofServer makes the client of the node's own API server.
func (p *probes) ofServer() error {
	c, n := p.cluster, p.node
	for _, e := range c.Endpoints() {
		if e.Node == nil || e.Node.Name() != n.Name() {
			continue
		}
		cfg := rest.CopyConfig(e.Config)
		cfg.Timeout = probeBound
		h, err := client(cfg, true)
		if err != nil {
			return fmt.Errorf("client of the API server on %s: %w", n.Name(), err)
		}
		u, _, err := rest.DefaultServerUrlFor(cfg)
		if err != nil {
			return fmt.Errorf("address of the API server on %s: %w", n.Name(), err)
		}
		p.direct, p.base = h, strings.TrimSuffix(u.String(), "/")
		return nil
	}
	return fmt.Errorf("cluster %s names no direct endpoint of %s", c.Name(), n.Name())
}

func (p *probes) probe(ctx context.Context, component string) (sighting, error) {
	switch component {
	case etcd:
		return p.member(ctx)
	case apiServer:
		return p.server(ctx)
	case kubelet:
		return p.kubelet(ctx)
	default:
		return p.pod(ctx, component)
	}
}

func (p *probes) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget()
}

// member asks the etcd member of this node, and no other, for its status. After
// a failure it connects anew: gRPC's own reconnect would back off for longer
// and longer while the member is down, and see it come back that much late.
func (p *probes) member(ctx context.Context) (sighting, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.etcd == nil {
		c, err := clusters.EtcdClient(ctx, p.cluster, p.node)
		if err != nil {
			return sighting{}, err
		}
		p.etcd = c
	}
	st, err := p.etcd.Status(ctx, clusters.EtcdURL(p.node))
	if err != nil {
		p.forget()
		return sighting{}, fmt.Errorf("etcd member on %s: %w", p.node.Name(), err)
	}
	s := sighting{version: st.Version, well: st.Leader != 0 && len(st.Errors) == 0 && !st.IsLearner}
	switch {
	case s.well:
		s.seen = "member serves " + st.Version + ", healthy"
	case st.Leader == 0:
		s.seen = "member serves " + st.Version + ", without a leader"
	case st.IsLearner:
		s.seen = "member serves " + st.Version + ", as a learner"
	default:
		s.seen = "member serves " + st.Version + ", not healthy: " + strings.Join(st.Errors, ", ")
	}
	return s, nil
}

func (p *probes) forget() {
	if p.etcd != nil {
		// What the connection says on its way out is of no use: it is thrown
		// away because it failed, or because nobody needs it any more.
		_ = p.etcd.Close()
		p.etcd = nil
	}
}

// server asks the API server of this node for its version and readiness.
func (p *probes) server(ctx context.Context) (sighting, error) {
	body, code, err := p.get(ctx, "/version")
	if err != nil {
		return sighting{}, err
	}
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return sighting{}, fmt.Errorf("/version of %s answered %d: %w", p.node.Name(), code, err)
	}
	if v.GitVersion == "" {
		return sighting{}, fmt.Errorf("/version of %s answered %d without a version", p.node.Name(), code)
	}
	if _, code, err = p.get(ctx, "/readyz"); err != nil {
		return sighting{}, err
	}
	if code != http.StatusOK {
		return sighting{version: v.GitVersion, seen: fmt.Sprintf("apiserver serves %s, /readyz %d", v.GitVersion, code)}, nil
	}
	return sighting{version: v.GitVersion, well: true, seen: "apiserver serves " + v.GitVersion + ", ready"}, nil
}

func (p *probes) get(ctx context.Context, path string) (body []byte, code int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := p.direct.Do(req)
	if err != nil {
		return nil, 0, err
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return body, resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// pod looks at the mirror pod of a static pod. The kubelet makes a new mirror
// pod when the manifest changes, and reports in it on the new containers only:
// a new image in its spec and a ready container in its status belong together.
func (p *probes) pod(ctx context.Context, component string) (sighting, error) {
	var pod *corev1.Pod
	err := p.api.once(ctx, func(ctx context.Context, c kubernetes.Interface) (err error) {
		pod, err = c.CoreV1().Pods(metav1.NamespaceSystem).Get(ctx, component+"-"+p.node.Name(), metav1.GetOptions{})
		return err
	})
	if err != nil {
		return sighting{}, err
	}
	if len(pod.Spec.Containers) == 0 || len(pod.Status.ContainerStatuses) == 0 {
		return sighting{seen: "no container yet"}, nil
	}
	v, err := imageVersion(component, pod.Spec.Containers[0].Image)
	if err != nil {
		return sighting{}, err
	}
	st := pod.Status.ContainerStatuses[0]
	s := sighting{version: v}
	if st.State.Running != nil && pod.DeletionTimestamp == nil {
		s.well = st.Ready || p.healthy(ctx, component)
	}
	switch {
	case s.well && st.Ready:
		s.seen = "container runs " + st.Image + ", ready"
	case s.well:
		s.seen = "container runs " + st.Image + ", /healthz ok"
	case st.State.Waiting != nil:
		s.seen = fmt.Sprintf("container of %s waits: %s", v, st.State.Waiting.Reason)
	default:
		s.seen = "container of " + v + " is not ready"
	}
	return s, nil
}

// healthPorts are where the components without a port on the network serve
// /healthz, on the node's loopback:
// k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/phases/controlplane/manifests.go.
var healthPorts = map[string]string{controllerManager: "10257", scheduler: "10259"}

// healthy asks the component itself, on the node's loopback. The kubelet would say so
// 10 to 20 s later: its startup probe first waits for 10 s, and tries each 10 s.
func (p *probes) healthy(ctx context.Context, component string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://127.0.0.1:"+healthPorts[component]+"/healthz", nil)
	if err != nil {
		return false
	}
	resp, err := p.loopback.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// kubelet looks at what the node's kubelet says of itself and, on a control
// plane, of its static pods. The UID of a static pod is a hash of the pod as
// the kubelet's own version of the type holds it (k8s.io/kubernetes@v1.37.0
// pkg/kubelet/config/common.go): a kubelet of another minor version takes every
// one for a new pod and restarts it, seconds after it was started itself. Until
// they serve again one etcd member is away, and no other must be touched.
func (p *probes) kubelet(ctx context.Context) (sighting, error) {
	s, err := p.reported(ctx)
	if err != nil || !s.well || p.node.Role() != clusters.ControlPlane {
		return s, err
	}
	running, err := p.running(ctx)
	if err != nil {
		return sighting{}, err
	}
	for _, c := range staticPods() {
		if !running[c] {
			s.well = false
			s.seen += "; it does not run " + c + " yet"
			return s, nil
		}
	}
	for c := range healthPorts {
		if !p.healthy(ctx, c) {
			s.well = false
			s.seen += "; " + c + " is not healthy yet"
			return s, nil
		}
	}
	for _, look := range []func(context.Context) (sighting, error){p.member, p.server} {
		served, err := look(ctx)
		if err != nil {
			return sighting{}, err
		}
		s.well = s.well && served.well
		s.seen += "; " + served.seen
	}
	return s, nil
}

// reported is what the API knows of the kubelet.
func (p *probes) reported(ctx context.Context) (sighting, error) {
	n, err := p.api.node(ctx, p.node.Name())
	if err != nil {
		return sighting{}, err
	}
	return reportOf(n), nil
}

func reportOf(n *corev1.Node) sighting {
	v, r := n.Status.NodeInfo.KubeletVersion, ready(n)
	return sighting{version: v, well: r == string(corev1.ConditionTrue), seen: fmt.Sprintf("kubelet reports %s, node Ready=%s", v, r)}
}

// running asks the kubelet itself which of its static pods run. The API
// would answer with mirror pods, which lag behind and may be of the kubelet
// before.
func (p *probes) running(ctx context.Context) (map[string]bool, error) {
	var pods corev1.PodList
	err := p.api.once(ctx, func(ctx context.Context, c kubernetes.Interface) error {
		b, err := c.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes", p.node.Name(), "proxy", "pods").DoRaw(ctx)
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &pods)
	})
	if err != nil {
		return nil, fmt.Errorf("pods of the kubelet on %s: %w", p.node.Name(), err)
	}
	return runningStatic(pods.Items, p.node.Name()), nil
}

// runningStatic are the components among a kubelet's own pods that are static
// pods with a running container.
func runningStatic(pods []corev1.Pod, node string) map[string]bool {
	out := map[string]bool{}
	for _, pod := range pods {
		st := pod.Status.ContainerStatuses
		// k8s.io/kubernetes@v1.37.0 pkg/kubelet/types/pod_update.go
		if pod.Annotations["kubernetes.io/config.source"] != "file" || len(st) == 0 {
			continue
		}
		out[strings.TrimSuffix(pod.Name, "-"+node)] = st[0].State.Running != nil
	}
	return out
}
