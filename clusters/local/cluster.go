package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"gameday/clusters"
)

// Cluster is a cluster of this provider.
type Cluster struct {
	name      string
	label     label
	nodes     []clusters.Node
	endpoints []clusters.Endpoint
}

var _ clusters.Cluster = (*Cluster)(nil)

// nodeName is kind's way to name nodes: NAME-worker, NAME-worker2.
func nodeName(cluster string, r clusters.Role, index int) string {
	name := cluster + "-" + string(r)
	if r == clusters.LoadBalancer {
		name = cluster + "-external-load-balancer"
	}
	if index > 0 {
		name += fmt.Sprint(index + 1)
	}
	return name
}

// layout are the nodes of a cluster.
func layout(cluster string, l label) []clusters.Node {
	keeper := &process{what: cluster + "/" + keeperPart}
	var out []clusters.Node
	for i := range l.ControlPlanes {
		out = append(out, newMachine(cluster, nodeName(cluster, clusters.ControlPlane, i), i, address(l.Subnet, controlPlaneByte+i), l.Groups, keeper))
	}
	for i := range l.Workers {
		out = append(out, &worker{name: nodeName(cluster, clusters.Worker, i), cluster: cluster, index: i, ip: address(l.Subnet, keeperByte)})
	}
	if l.ControlPlanes > 1 {
		out = append(out, &balancerNode{newMachine(cluster, nodeName(cluster, clusters.LoadBalancer, 0), 0, address(l.Subnet, balancerByte), l.Groups, keeper)})
	}
	return out
}

// front is the address that clients of the API use.
func (l label) front() netip.Addr {
	if l.ControlPlanes > 1 {
		return address(l.Subnet, balancerByte)
	}
	return address(l.Subnet, controlPlaneByte)
}

// open makes a cluster of its label.
func open(ctx context.Context, name string, l label) (*Cluster, error) {
	c := &Cluster{name: name, label: l, nodes: layout(name, l)}
	conf, err := c.nodes[0].(clusters.Files).ReadFile(ctx, adminConf)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	admin, err := clientcmd.RESTConfigFromKubeConfig(conf)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %s: %w", name, adminConf, err)
	}
	to := func(ip netip.Addr) *rest.Config {
		cfg := rest.CopyConfig(admin)
		cfg.Host = apiURL(ip)
		return cfg
	}
	if l.ControlPlanes > 1 {
		c.endpoints = append(c.endpoints, clusters.Endpoint{Name: "lb", Config: to(l.front())})
	}
	for _, n := range clusters.ByRole(c.nodes, clusters.ControlPlane) {
		c.endpoints = append(c.endpoints, clusters.Endpoint{Name: n.Name(), Node: n, Config: to(n.IP())})
	}
	return c, nil
}

// Name implements clusters.Cluster.
func (c *Cluster) Name() string { return c.name }

// Run implements clusters.Cluster.
func (c *Cluster) Run() string { return c.label.Run }

// Provider implements clusters.Cluster.
func (c *Cluster) Provider() string { return providerName }

// Nodes implements clusters.Cluster.
func (c *Cluster) Nodes() []clusters.Node { return append([]clusters.Node(nil), c.nodes...) }

// REST implements clusters.Cluster.
func (c *Cluster) REST() *rest.Config { return rest.CopyConfig(c.endpoints[0].Config) }

// Endpoints implements clusters.Cluster.
func (c *Cluster) Endpoints() []clusters.Endpoint {
	out := append([]clusters.Endpoint(nil), c.endpoints...)
	for i := range out {
		out[i].Config = rest.CopyConfig(out[i].Config)
	}
	return out
}

// LoadImages implements clusters.Cluster. There is nothing to load into: no
// container is ever run, and none asks for its image.
func (c *Cluster) LoadImages(_ context.Context, _ clusters.Node, archive io.Reader) error {
	_, err := io.Copy(io.Discard, archive)
	return err
}

// Cut cuts the hollow kubelets of nodes off, as if nothing on these nodes could talk
// to the API: when it returns they renew no lease, report no status and change no pod
// any more, until they are restored.
func (c *Cluster) Cut(ctx context.Context, nodes ...string) error {
	if err := tell(ctx, dirOf(c.name), "Cut", nodes); err != nil {
		return fmt.Errorf("cut off %d nodes of %s: %w", len(nodes), c.name, err)
	}
	return nil
}

// Restore lets hollow kubelets talk again: each renews its lease and reports its
// status at once.
func (c *Cluster) Restore(ctx context.Context, nodes ...string) error {
	if err := tell(ctx, dirOf(c.name), "Restore", nodes); err != nil {
		return fmt.Errorf("restore %d nodes of %s: %w", len(nodes), c.name, err)
	}
	return nil
}

// KeeperPID is the process that all of the cluster is below; 0 if it has ended.
func (c *Cluster) KeeperPID() (int, error) {
	pid, _, err := processOf(c.name + "/" + keeperPart)
	return pid, err
}

// Collect implements clusters.Cluster. Below dir:
//
//	keeper.log          the keeper, and the hollow kubelets of the workers
//	NODE/machine.log    the machine itself, its hollow kubelet or the balancer
//	NODE/log/           what is in /var/log of it: the components, the audit log
//	objects/KIND.yaml   the objects of the cluster
func (c *Cluster) Collect(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	errs := []error{copyFile(filepath.Join(dirOf(c.name), "keeper.log"), filepath.Join(dir, "keeper.log"))}
	for _, n := range c.nodes {
		if n.Role() == clusters.Worker {
			continue
		}
		to := filepath.Join(dir, n.Name())
		errs = append(errs, os.MkdirAll(to, 0o755),
			copyFile(filepath.Join(dirOf(c.name), n.Name()+".log"), filepath.Join(to, "machine.log")))
		if n.Role() == clusters.ControlPlane {
			errs = append(errs, os.CopyFS(filepath.Join(to, "log"), os.DirFS(filepath.Join(rootOf(c.name, n.Name()), "var/log"))))
		}
	}
	errs = append(errs, c.collectObjects(ctx, filepath.Join(dir, "objects")))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("collecting the logs of %s: %w", c.name, err)
	}
	return nil
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}

// collectObjects takes the objects from the first endpoint that gives them.
func (c *Cluster) collectObjects(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var errs []error
	for _, e := range c.Endpoints() {
		cli, err := kubernetes.NewForConfig(e.Config)
		if err == nil {
			err = writeObjects(ctx, cli, dir)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", e.Name, err))
	}
	return errors.Join(errs...)
}

func writeObjects(ctx context.Context, cli kubernetes.Interface, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	opts := metav1.ListOptions{}
	for kind, list := range map[string]func() (any, error){
		"nodes":        func() (any, error) { return cli.CoreV1().Nodes().List(ctx, opts) },
		"pods":         func() (any, error) { return cli.CoreV1().Pods("").List(ctx, opts) },
		"events":       func() (any, error) { return cli.CoreV1().Events("").List(ctx, opts) },
		"leases":       func() (any, error) { return cli.CoordinationV1().Leases("").List(ctx, opts) },
		"deployments":  func() (any, error) { return cli.AppsV1().Deployments("").List(ctx, opts) },
		"statefulsets": func() (any, error) { return cli.AppsV1().StatefulSets("").List(ctx, opts) },
		"jobs":         func() (any, error) { return cli.BatchV1().Jobs("").List(ctx, opts) },
		"cronjobs":     func() (any, error) { return cli.BatchV1().CronJobs("").List(ctx, opts) },
		"budgets":      func() (any, error) { return cli.PolicyV1().PodDisruptionBudgets("").List(ctx, opts) },
	} {
		objects, err := list()
		if err != nil {
			return fmt.Errorf("list %s: %w", kind, err)
		}
		b, err := yaml.Marshal(objects)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, kind+".yaml"), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
