package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"gameday/clusters"
	"gameday/clusters/docker"
)

// adminConf is kubeadm's kubeconfig of an administrator on each control plane.
const adminConf = "/etc/kubernetes/admin.conf"

// cluster implements clusters.Cluster.
type cluster struct {
	name, run string
	version   string // of Kubernetes, when it was made
	endpoints []clusters.Endpoint

	mu    sync.Mutex
	nodes []clusters.Node // in order; workers come and go (join.go)
	// routes is held by who tells the nodes of each other's pods.
	routes sync.Mutex
}

var _ clusters.Cluster = (*cluster)(nil)

// open makes a cluster of what was found.
func open(ctx context.Context, there remains) (*cluster, error) {
	facts, err := docker.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	nodes, err := nodesOf(there.name, there.containers, local(facts))
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", there.name, err)
	}
	withDisks(diskRoot, there.name, nodes)
	c := &cluster{name: there.name, run: there.label(clusters.LabelRun), version: there.label(labelKubernetes), nodes: nodes}
	admin, err := c.admin(ctx)
	if err != nil {
		return nil, err
	}
	if c.endpoints, err = endpoints(nodes, admin, facts); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", there.name, err)
	}
	return c, nil
}

// admin reads the administrator's configuration from the first control plane
// that gives it. Its address is the one inside the cluster.
func (c *cluster) admin(ctx context.Context) (*rest.Config, error) {
	var errs []error
	for _, n := range clusters.ByRole(c.Nodes(), clusters.ControlPlane) {
		b, err := n.(clusters.Files).ReadFile(ctx, adminConf)
		if err == nil {
			cfg, err := clientcmd.RESTConfigFromKubeConfig(b)
			if err == nil {
				return cfg, nil
			}
			errs = append(errs, fmt.Errorf("%s: %s: %w", n.Name(), adminConf, err))
			continue
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no control plane of cluster %s gave %s: %w", c.name, adminConf, errors.Join(errs...))
}

// endpoints are all ways to the API. kubeadm's certificates hold every control
// plane's name and address, and kind's configuration adds 127.0.0.1 and
// localhost, so that each way is verified in full.
func endpoints(nodes []clusters.Node, admin *rest.Config, facts docker.Facts) ([]clusters.Endpoint, error) {
	var out []clusters.Endpoint
	to := func(address string) *rest.Config {
		cfg := rest.CopyConfig(admin)
		cfg.Host = "https://" + address
		return cfg
	}
	for _, n := range clusters.ByRole(nodes, clusters.LoadBalancer) {
		k := kindNode(n)
		if k.published == "" {
			return nil, fmt.Errorf("%s publishes no port for the API: its container does not run", k.name)
		}
		out = append(out, clusters.Endpoint{Name: "lb", Config: to(k.published)})
	}
	for _, n := range clusters.ByRole(nodes, clusters.ControlPlane) {
		k := kindNode(n)
		direct, err := onThisMachine(k.gateway)
		if err != nil {
			return nil, err
		}
		switch {
		case facts.Local && direct && k.ip.IsValid():
			out = append(out, clusters.Endpoint{Name: k.name, Node: n, Config: to(net.JoinHostPort(k.ip.String(), strconv.Itoa(apiServerPort)))})
		case k.published != "":
			out = append(out, clusters.Endpoint{Name: k.name, Node: n, Config: to(k.published)})
		default:
			return nil, fmt.Errorf("%s cannot be reached: its container does not run", k.name)
		}
	}
	return out, nil
}

// onThisMachine says whether the gateway of the nodes' network is an address of
// this machine: then the nodes can be reached by their own.
func onThisMachine(gateway netip.Addr) (bool, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("addresses of this machine: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == gateway {
				return true, nil
			}
		}
	}
	return false, nil
}

// kindNode is what is behind either kind of node.
func kindNode(n clusters.Node) *node {
	switch n := n.(type) {
	case *diskNode:
		return n.node
	case *localNode:
		return n.node
	}
	return n.(*node)
}

func (c *cluster) Name() string       { return c.name }
func (c *cluster) Run() string        { return c.run }
func (c *cluster) Provider() string   { return providerName }
func (c *cluster) REST() *rest.Config { return rest.CopyConfig(c.endpoints[0].Config) }
func (c *cluster) Nodes() []clusters.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}
func (c *cluster) Endpoints() []clusters.Endpoint {
	out := append([]clusters.Endpoint(nil), c.endpoints...)
	for i := range out {
		out[i].Config = rest.CopyConfig(out[i].Config)
	}
	return out
}

// snapshotterForm finds containerd's snapshotter in its configuration, which is
// another one than overlayfs where Docker's disk has ZFS or FUSE.
var snapshotterForm = regexp.MustCompile(`(?m)^\s*snapshotter\s*=\s*["']([a-z0-9-]+)["']`)

// LoadImages implements clusters.Cluster. Only this machine's platform is
// imported: an archive that was saved from a multi-platform image holds no more,
// and asking for all of them fails (https://github.com/kubernetes-sigs/kind/issues/3795).
func (c *cluster) LoadImages(ctx context.Context, n clusters.Node, archive io.Reader) error {
	x, ok := n.(clusters.Execer)
	if !ok {
		return fmt.Errorf("%s cannot run commands (capability %s)", n.Name(), clusters.CapExec)
	}
	f, ok := n.(clusters.Files)
	if !ok {
		return fmt.Errorf("%s cannot read files (capability %s)", n.Name(), clusters.CapFiles)
	}
	conf, err := f.ReadFile(ctx, "/etc/containerd/config.toml")
	if err != nil {
		return fmt.Errorf("loading images: %w", err)
	}
	argv := []string{"ctr", "--namespace=k8s.io", "images", "import"}
	if m := snapshotterForm.FindSubmatch(conf); m != nil {
		argv = append(argv, "--snapshotter="+string(m[1]))
	}
	var out bytes.Buffer
	if err := x.Exec(ctx, clusters.Command{Argv: append(argv, "-"), Stdin: archive, Stdout: &out}); err != nil {
		return fmt.Errorf("loading images: %w", err)
	}
	return nil
}
