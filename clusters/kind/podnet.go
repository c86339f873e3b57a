package kind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"golang.org/x/mod/semver"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

// The pod network for images that do not bring kind's own: what kindnetd does,
// without a pod. Each node gets
//
//   - a CNI configuration: a veth pair for each pod (ptp) with an address from the
//     node's spec.podCIDR (host-local), and host ports (portmap);
//   - a route to every other node's podCIDR, and address translation for pods
//     that talk to something outside the pods' network, as kindnetd has it; both by
//     a script that a systemd unit runs, so that they are back after a restart of
//     the node's container too.
//
// Nothing of it depends on the kubelet, the API or a version of Kubernetes.

const (
	podNetScriptPath = "/etc/gameday/podnet/up.sh"
	podNetUnit       = "gameday-podnet.service"
	// podCIDRBound is for the controller manager to give every node its podCIDR,
	// which it does within a second.
	podCIDRBound = 60 * time.Second
	// kubeProxyBound is for kube-proxy to start on a node that has just joined (5 s).
	kubeProxyBound = 2 * time.Minute
)

// podNode is what the network must know of a node.
type podNode struct {
	name string
	ip   netip.Addr
	cidr netip.Prefix
}

// setUpPodNetwork makes the network on all nodes.
func setUpPodNetwork(ctx context.Context, c *cluster) error {
	client, err := kubernetes.NewForConfig(c.REST())
	if err != nil {
		return fmt.Errorf("pod network: %w", err)
	}
	known, err := podNodes(ctx, client, c)
	if err != nil {
		return fmt.Errorf("pod network: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes() {
		if n.Role() == clusters.LoadBalancer {
			continue
		}
		g.Go(func() error {
			if err := connect(ctx, client, c.version, n, known); err != nil {
				return fmt.Errorf("pod network: %w", err)
			}
			return nil
		})
	}
	return g.Wait()
}

// beginPodNetwork gives each node its CNI configuration as soon as the node has a
// podCIDR and services work on it, while kind still joins others, until ctx ends:
// CoreDNS is then Ready when kind is done, instead of ten seconds later. What
// fails here (most of the cluster is not there yet) is done by setUpPodNetwork,
// which reports errors.
func beginPodNetwork(ctx context.Context, name string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	done := map[string]bool{}
	var c *cluster
	for {
		if c == nil {
			if there, err := find(ctx, name); err == nil {
				c, _ = open(ctx, there) // nil as long as there is no administrator's configuration
			}
		}
		if c != nil {
			configureNew(ctx, c, done)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// configureNew configures the nodes that have a podCIDR and are not done.
func configureNew(ctx context.Context, c *cluster, done map[string]bool) {
	ctx, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	client, err := kubernetes.NewForConfig(c.REST())
	if err != nil {
		return
	}
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	for _, k := range list.Items {
		cidr, err := netip.ParsePrefix(k.Spec.PodCIDR)
		if err != nil || done[k.Name] || servicesWork(ctx, client, c.version, k.Name) != nil {
			continue
		}
		for _, n := range c.Nodes() {
			if n.Name() == k.Name && writeCNI(ctx, n.(clusters.Files), cidr) == nil {
				done[k.Name] = true
			}
		}
	}
}

// kubeProxyPort is where kube-proxy serves /healthz:
// k8s.io/kubernetes@v1.37.0 pkg/cluster/ports/ports.go.
const kubeProxyPort = 10256

// servicesWork says whether kube-proxy on a node has written its rules. A pod that
// begins before that sends its first packets to a service out of the cluster, and
// waits 30 s for an answer: the kernel does not translate a connection again.
func servicesWork(ctx context.Context, client *kubernetes.Clientset, version, node string) error {
	body, err := client.CoreV1().RESTClient().Get().
		AbsPath(fmt.Sprintf("/api/v1/nodes/http:%s:%d/proxy/healthz", node, kubeProxyPort)).DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("kube-proxy on %s: %w", node, err)
	}
	return rulesWritten(version, node, body)
}

// rulesWritten reads kube-proxy's answer: it is healthy from its start on, and
// names an IP family once its rules are written. Before v1.33 it did not name
// families; an answer is then all there is.
func rulesWritten(version, node string, healthz []byte) error {
	if semver.Compare(version, "v1.33.0") < 0 {
		return nil
	}
	var h struct {
		Status map[string]struct{ LastUpdated time.Time }
	}
	if err := json.Unmarshal(healthz, &h); err != nil {
		return fmt.Errorf("kube-proxy on %s: its answer: %w", node, err)
	}
	for _, family := range h.Status {
		if !family.LastUpdated.IsZero() {
			return nil
		}
	}
	return fmt.Errorf("kube-proxy on %s has not written its rules", node)
}

// podNodes waits until every node has been given its podCIDR.
func podNodes(ctx context.Context, client *kubernetes.Clientset, c *cluster) ([]podNode, error) {
	ctx, cancel := context.WithTimeout(ctx, podCIDRBound)
	defer cancel()
	var known []podNode
	err := poll(ctx, func(ctx context.Context) error {
		known = nil
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		cidrs := map[string]string{}
		for _, n := range list.Items {
			cidrs[n.Name] = n.Spec.PodCIDR
		}
		for _, n := range c.Nodes() {
			if n.Role() == clusters.LoadBalancer {
				continue
			}
			cidr, err := netip.ParsePrefix(cidrs[n.Name()])
			if err != nil {
				return fmt.Errorf("node %s has no podCIDR yet: %w", n.Name(), err)
			}
			known = append(known, podNode{n.Name(), n.IP(), cidr})
		}
		return nil
	})
	return known, err
}

// connect sets up one node. It can be done again.
func connect(ctx context.Context, client *kubernetes.Clientset, version string, n clusters.Node, known []podNode) error {
	f := n.(clusters.Files)
	self, script, err := podNetScript(n.Name(), known)
	if err != nil {
		return err
	}
	for _, w := range []struct {
		path string
		data []byte
	}{
		{podNetScriptPath, script},
		{"/etc/systemd/system/" + podNetUnit, []byte(podNetUnitText)},
	} {
		if err := f.WriteFile(ctx, w.path, w.data, 0o644); err != nil {
			return err
		}
	}
	if _, err := clusters.Output(ctx, n, "sh", "-ec", "systemctl daemon-reload; systemctl enable --quiet --now "+podNetUnit); err != nil {
		return err
	}
	proxy, cancel := context.WithTimeoutCause(ctx, kubeProxyBound, fmt.Errorf("services do not work within %s", kubeProxyBound))
	defer cancel()
	if err := poll(proxy, func(ctx context.Context) error { return servicesWork(ctx, client, version, n.Name()) }); err != nil {
		return err
	}
	return writeCNI(ctx, f, self.cidr)
}

// reroute tells a node of those that came or went since it was set up; gone is the
// podCIDR of one that went, empty if none did.
func reroute(ctx context.Context, n clusters.Node, known []podNode, gone string) error {
	_, script, err := podNetScript(n.Name(), known)
	if err != nil {
		return err
	}
	if err := n.(clusters.Files).WriteFile(ctx, podNetScriptPath, script, 0o644); err != nil {
		return err
	}
	again := "systemctl restart " + podNetUnit
	if gone != "" {
		again = "ip route flush " + gone + "; " + again
	}
	_, err = clusters.Output(ctx, n, "sh", "-ec", again)
	return err
}

// routeAll makes the network anew after a worker joined (n) or went (n is nil, gone
// its podCIDR), one at a time: who comes last knows all that came before. kindnetd
// does it by itself.
func (c *cluster) routeAll(ctx context.Context, client *kubernetes.Clientset, joined clusters.Node, gone string) error {
	first := clusters.ByRole(c.Nodes(), clusters.ControlPlane)[0]
	_, err := first.(clusters.Files).ReadFile(ctx, podNetScriptPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pod network: %w", err)
	}
	c.routes.Lock()
	defer c.routes.Unlock()
	var known []podNode
	if err := again(ctx, func(ctx context.Context) (err error) {
		known, err = podNodesNow(ctx, client, c.Nodes(), joined)
		return err
	}); err != nil {
		return fmt.Errorf("pod network: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes() {
		switch {
		case joined != nil && n.Name() == joined.Name():
			g.Go(func() error { return connect(ctx, client, c.version, n, known) })
		case slices.ContainsFunc(known, func(k podNode) bool { return k.name == n.Name() }):
			g.Go(func() error { return reroute(ctx, n, known, gone) })
		}
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("pod network: %w", err)
	}
	return nil
}

// podNodesNow are the nodes that have a podCIDR now; must is one that has to. One that
// is about to join has none, and tells all others when it has.
func podNodesNow(ctx context.Context, client kubernetes.Interface, nodes []clusters.Node, must clusters.Node) ([]podNode, error) {
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var known []podNode
	there := must == nil
	for _, k := range list.Items {
		cidr, err := netip.ParsePrefix(k.Spec.PodCIDR)
		i := slices.IndexFunc(nodes, func(n clusters.Node) bool { return n.Name() == k.Name })
		if err != nil || i < 0 {
			continue
		}
		known = append(known, podNode{k.Name, nodes[i].IP(), cidr})
		there = there || k.Name == must.Name()
	}
	if !there {
		return nil, fmt.Errorf("node %s has no podCIDR yet", must.Name())
	}
	return known, nil
}

// writeCNI makes the node Ready: containerd watches the folder.
func writeCNI(ctx context.Context, f clusters.Files, cidr netip.Prefix) error {
	raw, err := f.ReadFile(ctx, "/sys/class/net/eth0/mtu")
	if err != nil {
		return err
	}
	mtu, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return fmt.Errorf("MTU of eth0: %w", err)
	}
	conf, err := cniConfig(cidr, mtu)
	if err != nil {
		return err
	}
	return f.WriteFile(ctx, "/etc/cni/net.d/10-gameday.conflist", conf, 0o644)
}

const podNetUnitText = `[Unit]
Description=Pod network of this node (routes to the other nodes' pods)
After=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -e ` + podNetScriptPath + `

[Install]
WantedBy=multi-user.target
`

var podNetTemplate = template.Must(template.New("up.sh").Parse(`# Routes to the pods of the other nodes, and address translation for pods that
# talk to something that is no pod. Can be run again.
{{range .Others -}}
ip route replace {{.CIDR}} via {{.IP}} dev eth0  # {{.Name}}
{{end -}}
nft -f - <<'RULES'
table ip gameday-podnet
delete table ip gameday-podnet
table ip gameday-podnet {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {{.Self}} ip daddr != {{.All}} oifname "eth0" masquerade
  }
}
RULES
`))

// podNetScript is the script for one node.
func podNetScript(name string, known []podNode) (self podNode, script []byte, err error) {
	type other struct{ Name, IP, CIDR string }
	var others []other
	for _, k := range known {
		if k.name == name {
			self = k
			continue
		}
		others = append(others, other{k.name, k.ip.String(), k.cidr.String()})
	}
	if self.name == "" {
		return self, nil, fmt.Errorf("%s is not a node of the cluster", name)
	}
	var b strings.Builder
	err = podNetTemplate.Execute(&b, struct {
		Others    []other
		Self, All string
	}{others, self.cidr.String(), podSubnet})
	return self, []byte(b.String()), err
}

// cniConfig is the CNI configuration of one node. The addresses in use are kept
// below /run, as kind does, so that none is lost to pods from before a restart.
func cniConfig(cidr netip.Prefix, mtu int) ([]byte, error) {
	type m = map[string]any
	return json.MarshalIndent(m{
		"cniVersion": "0.3.1",
		"name":       "gameday",
		"plugins": []m{
			{
				"type": "ptp", "mtu": mtu, "ipMasq": false,
				"ipam": m{
					"type": "host-local", "dataDir": "/run/cni-ipam-state",
					"routes": []m{{"dst": "0.0.0.0/0"}},
					"ranges": [][]m{{{"subnet": cidr.String()}}},
				},
			},
			{"type": "portmap", "capabilities": m{"portMappings": true}},
		},
	}, "", "  ")
}
