package preflight

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/semver"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"gameday/clusters"
)

const (
	// bound is how long all of it may take, callBound one request.
	bound     = time.Minute
	callBound = 10 * time.Second
	// together is how many requests of one kind are under way at a time.
	together = 8
	// agent is by what name the API is asked.
	agent = "gameday-preflight"
)

// Source is where to look.
type Source struct {
	// Config is a client of the API; nil: there is no cluster, only files.
	Config *rest.Config
	// Cluster is one whose nodes and API servers can be reached one by one; nil: only
	// the API.
	Cluster clusters.Cluster
	// Manifests are files and folders, AuditLogs are files.
	Manifests, AuditLogs []string
	// Since leaves out what was asked of the API before.
	Since time.Time
}

// collector reads into the facts; several parts of it at a time.
type collector struct {
	src  Source
	kube kubernetes.Interface

	mu sync.Mutex
	f  *Facts
}

// Collect looks at all there is, and changes nothing. Only what was given wrongly is
// an error: what cannot be read is in the facts.
func Collect(ctx context.Context, to string, src Source) (*Facts, error) {
	if err := CheckTarget(to); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("looking took longer than %s", bound))
	defer cancel()
	f := &Facts{To: to, Now: time.Now(), Since: src.Since, Asked: src.Config != nil}
	if err := f.readManifests(src.Manifests); err != nil {
		return nil, err
	}
	c := &collector{src: src, f: f}
	for _, name := range src.AuditLogs {
		a, err := auditFile(ctx, name)
		switch {
		case err != nil && ctx.Err() != nil: // it is too long
			c.unread("apis", "the rest of an audit log", err, "cut it: only the last days matter", name)
		case err != nil:
			return nil, fmt.Errorf("read the audit log %s: %w", name, err)
		}
		f.Audit = append(f.Audit, a)
	}
	if src.Config == nil {
		return f, nil
	}
	cfg := rest.CopyConfig(src.Config)
	cfg.QPS = -1 // the bounds here are enough
	cfg.Timeout = callBound
	cfg.UserAgent = agent + "/" + to
	cfg.WarningHandler = rest.NoWarnings{} // what is deprecated is a finding
	c.src.Config = cfg
	var err error
	if c.kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return nil, fmt.Errorf("client of the API: %w", err)
	}
	// Where the parts of the control plane run tells the others where to look. What
	// the API servers were asked for is read before they are asked for more.
	c.pods(ctx)
	c.servers(ctx)
	parts := []func(context.Context){
		c.nodes, c.settings, c.objects, c.definitions, c.budgets, c.volumes, c.members, c.auditLogs, c.files,
	}
	var wg sync.WaitGroup
	for _, part := range parts {
		wg.Go(func() { part(ctx) })
	}
	wg.Wait()
	return f, nil
}

// with changes the facts.
func (c *collector) with(do func(f *Facts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do(c.f)
}

// unread tells what could not be read.
func (c *collector) unread(check, what string, err error, mend string, where ...string) {
	why := oneLine(err.Error())
	if apierrors.IsForbidden(err) {
		mend = "look with the rights of an administrator"
	}
	c.with(func(f *Facts) {
		f.Unread = append(f.Unread, Unread{Check: check, What: what, Where: where, Why: why, Mend: mend})
	})
}

// pages lists with one request after the other, so that a big list is no burden.
func pages(list func(o metav1.ListOptions) (next string, err error)) error {
	o := metav1.ListOptions{Limit: 500}
	for {
		next, err := list(o)
		if err != nil || next == "" {
			return err
		}
		o.Continue = next
	}
}

// pods reads all pods; those of the control plane and of kube-proxy also as
// components.
func (c *collector) pods(ctx context.Context) {
	var pods []corev1.Pod
	err := pages(func(o metav1.ListOptions) (string, error) {
		list, err := c.kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, o)
		if err != nil {
			return "", err
		}
		pods = append(pods, list.Items...)
		return list.Continue, nil
	})
	if err != nil {
		c.unread("drain", "pods", err, "")
		c.unread("skew", "the versions of the control plane's components and of kube-proxy", err, "")
		return
	}
	seen := map[string]bool{}
	for _, p := range pods {
		name := p.Labels["component"] // kubeadm's static pods
		if name == "" {
			name = p.Labels["k8s-app"]
		}
		if p.Namespace != metav1.NamespaceSystem || !slices.Contains(componentNames(), name) || len(p.Spec.Containers) == 0 {
			continue
		}
		seen[name] = true
		first := p.Spec.Containers[0]
		v := tagged(first.Image)
		if v == "" {
			c.unread("skew", "the version of "+name, fmt.Errorf("its image is %s", first.Image), "look it up", "Pod "+p.Namespace+"/"+p.Name)
			continue
		}
		c.f.Components = append(c.f.Components, Component{
			Name: name, Pod: p.Name, Node: p.Spec.NodeName, Version: v, Args: slices.Concat(first.Command, first.Args),
		})
	}
	c.f.Pods = pods
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		if !seen[name] {
			c.unread("skew", "the version of "+name, errors.New("no pod of kube-system is it"), "ask whoever runs the control plane")
		}
	}
}

func componentNames() []string {
	return []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "cloud-controller-manager", "etcd", "kube-proxy"}
}

var versionTag = regexp.MustCompile(`:v?(\d+\.\d+\.\d+)[^/:]*$`)

// tagged is the version in the tag of an image; empty if there is none.
func tagged(image string) string {
	image, _, _ = strings.Cut(image, "@")
	m := versionTag.FindStringSubmatch(image)
	if m == nil {
		return ""
	}
	return "v" + m[1]
}

// servers asks each API server for its version, the deprecated APIs that it was asked
// for, and its certificate.
func (c *collector) servers(ctx context.Context) {
	ways := c.ways()
	var wg sync.WaitGroup
	for _, w := range ways {
		wg.Go(func() { c.server(ctx, w) })
	}
	wg.Wait()
	var behind []string
	for _, comp := range c.f.Components {
		if comp.Name == "kube-apiserver" && !slices.ContainsFunc(ways, func(w way) bool { return w.node == comp.Node }) {
			behind = append(behind, comp.Pod)
		}
	}
	if len(behind) > 0 {
		c.unread("apis", "the metrics and the certificate of API servers", errors.New("they are reached through a load balancer, which gives another each time"),
			"give a kubeconfig for each", behind...)
	}
}

func (c *collector) server(ctx context.Context, w way) {
	if v, err := w.version(ctx); err != nil {
		c.unread("skew", "the version of an API server", err, "", w.name)
	} else {
		c.with(func(f *Facts) { f.Servers = append(f.Servers, Server{Name: w.name, Node: w.node, Version: v}) })
	}
	if list, err := w.requested(ctx); err != nil {
		c.unread("apis", "the metrics of an API server", err, "", w.name)
	} else {
		c.with(func(f *Facts) { f.Requested = append(f.Requested, list...) })
	}
	if certs, err := w.certificates(ctx); err != nil {
		c.unread("certificates", "the certificate of an API server", err, "", w.name)
	} else {
		c.with(func(f *Facts) { f.Certificates = append(f.Certificates, certs...) })
	}
}

// ways are the ways to each API server, or the one there is.
func (c *collector) ways() []way {
	if c.src.Cluster != nil {
		var out []way
		for _, e := range c.src.Cluster.Endpoints() {
			if e.Node != nil {
				out = append(out, way{name: e.Name, node: e.Node.Name(), cfg: e.Config})
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	one := way{name: c.src.Config.Host, cfg: c.src.Config}
	var nodes []string
	for _, comp := range c.f.Components {
		if comp.Name == "kube-apiserver" {
			nodes = append(nodes, comp.Node)
		}
	}
	if len(nodes) == 1 { // then it is this one
		one.node = nodes[0]
	}
	return []way{one}
}

// nodes reads all nodes and asks each kubelet.
func (c *collector) nodes(ctx context.Context) {
	var nodes []Node
	err := pages(func(o metav1.ListOptions) (string, error) {
		list, err := c.kube.CoreV1().Nodes().List(ctx, o)
		if err != nil {
			return "", err
		}
		for _, n := range list.Items {
			v := n.Status.NodeInfo.KubeletVersion
			if !semver.IsValid(v) {
				c.unread("skew", "the version of a kubelet", fmt.Errorf("it says %q", v), "", "Node "+n.Name)
				continue
			}
			nodes = append(nodes, Node{Name: n.Name, Kubelet: v})
		}
		return list.Continue, nil
	})
	if err != nil {
		c.unread("skew", "nodes", err, "")
		c.unread("kubelet", "nodes", err, "")
		return
	}
	var g errgroup.Group
	g.SetLimit(together)
	for i := range nodes {
		g.Go(func() error {
			c.kubelet(ctx, &nodes[i])
			return nil
		})
	}
	_ = g.Wait() // each tells of itself
	c.with(func(f *Facts) { f.Nodes = nodes })
}

// settings reads the configurations that kubeadm keeps in ConfigMaps.
func (c *collector) settings(ctx context.Context) {
	read := func(name, key, check string) map[string]any {
		m, err := c.kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil // not made by kubeadm
		}
		var values map[string]any
		if err == nil {
			err = yaml.Unmarshal([]byte(m.Data[key]), &values)
		}
		if err != nil {
			c.unread(check, "a configuration", err, "", "ConfigMap kube-system/"+name)
		}
		return values
	}
	if v, ok := read("kubeadm-config", "ClusterConfiguration", "skew")["kubernetesVersion"].(string); ok {
		c.with(func(f *Facts) { f.Kubeadm = v })
	}
	for _, s := range []struct{ name, key, kind string }{
		{"kubelet-config", "kubelet", kindKubelet}, {"kube-proxy", "config.conf", "KubeProxyConfiguration"},
	} {
		if values := read(s.name, s.key, "kubelet"); values != nil {
			c.with(func(f *Facts) {
				f.Settings = append(f.Settings, Settings{Kind: s.kind, Where: "ConfigMap kube-system/" + s.name, Explicit: true, Values: values})
			})
		}
	}
}

func (c *collector) budgets(ctx context.Context) {
	err := pages(func(o metav1.ListOptions) (string, error) {
		list, err := c.kube.PolicyV1().PodDisruptionBudgets(metav1.NamespaceAll).List(ctx, o)
		if err != nil {
			return "", err
		}
		c.with(func(f *Facts) { f.Budgets = append(f.Budgets, list.Items...) })
		return list.Continue, nil
	})
	if err != nil {
		c.unread("drain", "disruption budgets", err, "")
	}
}

func (c *collector) volumes(ctx context.Context) {
	err := pages(func(o metav1.ListOptions) (string, error) {
		list, err := c.kube.CoreV1().PersistentVolumes().List(ctx, o)
		if err != nil {
			return "", err
		}
		c.with(func(f *Facts) { f.Volumes = append(f.Volumes, list.Items...) })
		return list.Continue, nil
	})
	if err != nil {
		c.unread("drain", "volumes", err, "")
	}
}

// members are etcd's, by their own word, else by the images of their pods.
func (c *collector) members(ctx context.Context) {
	byPod := map[string]string{}
	for _, comp := range c.f.Components {
		if comp.Name == "etcd" {
			byPod[comp.Node] = comp.Version
		}
	}
	if c.src.Cluster != nil {
		if err := c.askMembers(ctx, byPod); err != nil {
			c.unread("etcd", "etcd's members", err, "")
		}
	}
	for _, node := range slices.Sorted(maps.Keys(byPod)) {
		c.with(func(f *Facts) { f.Etcd = append(f.Etcd, Member{Name: node, Version: byPod[node]}) })
	}
	if len(byPod) == 0 {
		c.unread("etcd", "etcd's version", errors.New("no member is in reach"), "ask each for /version")
	}
}

// askMembers puts what the members say in the place of what their images do.
func (c *collector) askMembers(ctx context.Context, versions map[string]string) error {
	cli, err := clusters.EtcdClient(ctx, c.src.Cluster)
	if err != nil {
		return err
	}
	defer cli.Close()
	var errs []error
	for _, n := range clusters.ByRole(c.src.Cluster.Nodes(), clusters.ControlPlane) {
		one, cancel := context.WithTimeout(ctx, callBound)
		s, err := cli.Status(one, clusters.EtcdURL(n))
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("etcd on %s: %w", n.Name(), err))
			continue
		}
		versions[n.Name()] = "v" + s.Version
	}
	return errors.Join(errs...)
}

// auditLogs are those that the API servers say that they write.
func (c *collector) auditLogs(ctx context.Context) {
	const mend = "give the logs with --audit-log, or have the API servers write one: without it a client is only seen by what it wrote"
	servers := 0
	for _, comp := range c.f.Components {
		if comp.Name != "kube-apiserver" {
			continue
		}
		servers++
		file, ok := flagOf(comp.Args, "audit-log-path")
		given := len(c.src.AuditLogs) > 0
		if !ok || file == "-" {
			if !given {
				c.unread("apis", "the audit log", errors.New("the API server writes none to a file"), mend, comp.Pod)
			}
			continue
		}
		n := c.node(comp.Node)
		if n == nil {
			if !given {
				c.unread("apis", "the audit log", errors.New("files of nodes are not in reach"), mend, comp.Node+":"+file)
			}
			continue
		}
		a, err := auditOnNode(ctx, n, file)
		if err != nil {
			c.unread("apis", "the rest of the audit log", err, mend, a.Where)
		}
		c.with(func(f *Facts) { f.Audit = append(f.Audit, a) })
	}
	if servers == 0 && len(c.src.AuditLogs) == 0 {
		c.unread("apis", "the audit log", errors.New("no pod of kube-system is an API server"), mend)
	}
}

// node is the node of that name, if it can be reached.
func (c *collector) node(name string) clusters.Node {
	if c.src.Cluster == nil {
		return nil
	}
	for _, n := range c.src.Cluster.Nodes() {
		if n.Name() == name {
			return n
		}
	}
	return nil
}
