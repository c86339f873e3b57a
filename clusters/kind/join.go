package kind

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"gameday/clusters"
	"gameday/clusters/docker"
)

// Workers come and go while the cluster runs, for which kind has no call
// (https://github.com/kubernetes-sigs/kind/issues/452). A machine is made as kind
// makes one, joined as kind joins one, and gets what create.go gives every node: the
// pod network, and the settings of containerd. What is cluster-wide (the settings of
// kubelets, failCgroupV1 among them) comes with kubeadm from the cluster's own
// ConfigMaps. Workers have neither an audit log nor a disk of their own.
//
// Labels can be given to a container that is made here, so that no image has to be
// marked: the container has those that the others inherit, and is found, healed and
// deleted with them.

const (
	// joinBound is for a worker from nothing to Ready: 10 to 15 s on two idle cores.
	joinBound = 4 * time.Minute
	// bootBound is for its system manager and containerd to run: 30 s are kind's own
	// (sigs.k8s.io/kind@v0.33.0 pkg/cluster/internal/providers/docker/provision.go).
	bootBound = 60 * time.Second
	// removeBound is for taking one away: a second or two.
	removeBound = 2 * time.Minute
	// tokenLife is how long the token is good for that a worker joins with.
	tokenLife = 2 * joinBound
	// askAgain is between two looks of a join, which is to be quick.
	askAgain = 200 * time.Millisecond
)

var _ clusters.Pool = (*cluster)(nil)

// AddWorker implements clusters.Pool.
func (c *cluster) AddWorker(ctx context.Context, w clusters.NewWorker) (_ clusters.Node, err error) {
	name := workerName(c.name, w.Index)
	ctx, cancel := context.WithTimeoutCause(ctx, joinBound, fmt.Errorf("it did not join within %s", joinBound))
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("adding %s: %w", name, err)
		}
	}()
	client, err := kubernetes.NewForConfig(c.REST())
	if err != nil {
		return nil, err
	}
	n, err := c.machine(ctx, name, w.Image)
	if err != nil {
		return nil, err
	}
	c.enter(n)
	defer func() {
		if err != nil {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeBound)
			defer cancel()
			err = errors.Join(err, c.RemoveWorker(clean, n))
		}
	}()
	if w.Prepare != nil {
		if err := w.Prepare(ctx, n); err != nil {
			return nil, err
		}
	}
	if err := c.join(ctx, client, n, w); err != nil {
		return nil, err
	}
	if err := c.routeAll(ctx, client, n, ""); err != nil {
		return nil, err
	}
	return n, again(ctx, func(ctx context.Context) error { return nodeReady(ctx, client, n.Name()) })
}

// workerName is the name that kind gives the worker of an index.
func workerName(cluster string, index int) string {
	if index == 0 {
		return cluster + "-worker"
	}
	return fmt.Sprintf("%s-worker%d", cluster, index+1)
}

// enter adds a node to those of the cluster, leave takes it out.
func (c *cluster) enter(n clusters.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(c.nodes, n)
	slices.SortFunc(c.nodes, inOrder)
}

func (c *cluster) leave(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = slices.DeleteFunc(c.nodes, func(n clusters.Node) bool { return n.Name() == name })
}

// machine makes and starts a container in which containerd runs. When it fails
// nothing is left.
func (c *cluster) machine(ctx context.Context, name, image string) (_ clusters.Node, err error) {
	facts, err := docker.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	all, err := containersOf(ctx, c.name)
	if err != nil {
		return nil, err
	}
	like, err := model(all, c.name, name)
	if err != nil {
		return nil, err
	}
	if facts.Local {
		if err := raiseInotify(inotifyDir, len(all)+1, func(string, ...any) {}); err != nil {
			return nil, err
		}
	}
	// Docker's daemon goes on when its command is killed: it is let come to its end,
	// so that it is known what there is to remove.
	making, cancel := context.WithTimeout(context.WithoutCancel(ctx), dockerBound)
	defer cancel()
	defer func() {
		if err != nil {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), dockerBound)
			defer cancel()
			err = errors.Join(err, removeNamed(clean, c.name, name))
		}
	}()
	if _, err := docker.Run(making, append([]string{"create"}, workerArgs(name, like, image)...)...); err != nil {
		return nil, err
	}
	if _, err := docker.Run(making, "start", name); err != nil {
		return nil, err
	}
	found, err := inspect(making, name)
	if err != nil {
		return nil, err
	}
	nodes, err := nodesOf(c.name, found, local(facts))
	if err != nil {
		return nil, err
	}
	n := nodes[0]
	if err := booted(ctx, n); err != nil {
		return nil, err
	}
	if !facts.SysResource {
		return n, restrict(ctx, n)
	}
	return n, nil
}

// removeNamed removes a container of the cluster by its name.
func removeNamed(ctx context.Context, cluster, name string) error {
	all, err := containersOf(ctx, cluster)
	if err != nil {
		return err
	}
	return removeContainers(ctx, slices.DeleteFunc(all, func(k container) bool {
		return k.name() != name || k.Config.Labels[labelCluster] != cluster
	}))
}

// model is the node to make another one like: what depends on this machine
// (devices, user namespaces, proxies) is taken over from it.
func model(all []container, cluster, name string) (container, error) {
	var like container
	for _, k := range all {
		switch {
		case k.name() == name:
			return k, errors.New("there is one already")
		case k.Config.Labels[labelCluster] == cluster && (like.ID == "" || k.Config.Labels[kindRole] == "worker"):
			like = k
		}
	}
	if like.ID == "" {
		return like, fmt.Errorf("no node of cluster %s is there to make one like it", cluster)
	}
	return like, nil
}

// workerArgs are the arguments of docker create: those of kind's docker run,
// sigs.k8s.io/kind@v0.33.0 pkg/cluster/internal/providers/docker/provision.go,
// commonArgs and runArgsForNode.
func workerArgs(name string, like container, image string) []string {
	args := []string{
		"--name", name, "--hostname", name, "--tty", "--net", like.network(),
		"--restart=on-failure:1", "--init=false", "--cgroupns=private",
		"--privileged", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
		"--tmpfs", "/tmp", "--tmpfs", "/run", "--volume", "/var",
	}
	labels := map[string]string{kindRole: "worker"}
	for _, k := range []string{clusters.LabelRun, clusters.LabelProvider, labelCluster, labelKubernetes, kindCluster} {
		labels[k] = like.Config.Labels[k]
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		args = append(args, "--label", k+"="+labels[k])
	}
	for _, b := range like.HostConfig.Binds {
		// The disk of a control plane's etcd is that one's own.
		if parts := strings.Split(b, ":"); len(parts) > 1 && parts[1] != etcdFolder {
			args = append(args, "--volume", b)
		}
	}
	if like.HostConfig.UsernsMode != "" {
		args = append(args, "--userns="+like.HostConfig.UsernsMode)
	}
	for _, d := range like.HostConfig.Devices {
		args = append(args, "--device", d.PathOnHost)
	}
	for _, e := range like.Config.Env {
		if key, _, _ := strings.Cut(e, "="); handedDown(key) {
			args = append(args, "-e", e)
		}
	}
	return append(args, image)
}

// handedDown says whether kind gives a variable of its own environment to nodes. The
// rest of a node's environment comes from its image.
func handedDown(key string) bool {
	switch strings.ToUpper(key) {
	case "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "KIND_DNS_SEARCH", "KIND_EXPERIMENTAL_CONTAINERD_SNAPSHOTTER":
		return true
	}
	return false
}

// up is what a node prints when commands can be run on it: before, one would stand
// in the way of the hierarchy of control groups
// (https://github.com/kubernetes-sigs/kind/issues/2409).
var up = regexp.MustCompile("Reached target .*Multi-User System|detected cgroup v1")

// booted waits until containerd answers on a node.
func booted(ctx context.Context, n clusters.Node) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootBound, fmt.Errorf("it did not boot within %s", bootBound))
	defer cancel()
	return again(ctx, func(ctx context.Context) error {
		said, err := docker.Run(ctx, "logs", kindNode(n).id)
		if err != nil {
			return err
		}
		if !up.MatchString(said) {
			return errors.New("its system manager is starting")
		}
		_, err = clusters.Output(ctx, n, "ctr", "version")
		return err
	})
}

const containerdConfig = "/etc/containerd/config.toml"

// restrict does to containerd what the patch of config.go does on kind's own nodes.
func restrict(ctx context.Context, n clusters.Node) error {
	f := n.(clusters.Files)
	before, err := f.ReadFile(ctx, containerdConfig)
	if err != nil {
		return err
	}
	after, err := restricted(string(before))
	if err != nil {
		return fmt.Errorf("%s: %w", containerdConfig, err)
	}
	if err := f.WriteFile(ctx, containerdConfig, []byte(after), 0o644); err != nil {
		return err
	}
	if _, err := clusters.Output(ctx, n, "systemctl", "restart", "containerd"); err != nil {
		return err
	}
	return booted(ctx, n)
}

var (
	versionLine  = regexp.MustCompile(`(?m)^version\s*=\s*([0-9]+)\s*$`)
	restrictLine = regexp.MustCompile(`(?m)^[ \t]*restrict_oom_score_adj\s*=.*$`)
)

// restricted is containerd's configuration with the setting.
func restricted(conf string) (string, error) {
	if restrictLine.MatchString(conf) {
		return restrictLine.ReplaceAllString(conf, restrictOOM), nil
	}
	v := versionLine.FindStringSubmatch(conf)
	if v == nil || criTables[v[1]] == "" {
		return "", errors.New("it is of no version that is known")
	}
	table := criTables[v[1]]
	if before, after, ok := strings.Cut(conf, table+"\n"); ok {
		return before + table + "\n" + restrictOOM + "\n" + after, nil
	}
	return conf + "\n" + table + "\n" + restrictOOM + "\n", nil
}

// Where a node finds what it joins with; kind's own is in the same place.
const (
	joinPath      = "/kind/kubeadm.conf"
	discoveryPath = "/kind/discovery.conf"
)

// join lets kubeadm join the node, with a token of its own: kind's runs out after a
// day.
func (c *cluster) join(ctx context.Context, client kubernetes.Interface, n clusters.Node, w clusters.NewWorker) (err error) {
	id, secret := strings.ToLower(rand.Text()[:6]), strings.ToLower(rand.Text()[:16])
	conf, err := joinConfiguration(c.name, n, w, id+"."+secret)
	if err != nil {
		return err
	}
	var where string
	if err := again(ctx, func(ctx context.Context) error {
		// What kubeadm publishes for those who want to join.
		m, err := client.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, "cluster-info", metav1.GetOptions{})
		if err != nil {
			return err
		}
		where = m.Data["kubeconfig"]
		_, err = client.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, bootstrapToken(id, secret, time.Now()), metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil // by an attempt that got no answer
		}
		return err
	}); err != nil {
		return err
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), askBound)
		defer cancel()
		// If it cannot be deleted it runs out.
		_ = client.CoreV1().Secrets(metav1.NamespaceSystem).Delete(clean, tokenPrefix+id, metav1.DeleteOptions{})
	}()
	f := n.(clusters.Files)
	if err := errors.Join(f.WriteFile(ctx, joinPath, conf, 0o600), f.WriteFile(ctx, discoveryPath, []byte(where), 0o644)); err != nil {
		return err
	}
	_, err = clusters.Output(ctx, n, "kubeadm", "join", "--config", joinPath)
	return err
}

const tokenPrefix = "bootstrap-token-"

// bootstrapToken is what kubeadm's own tokens are
// (https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/).
func bootstrapToken(id, secret string, now time.Time) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: tokenPrefix + id, Namespace: metav1.NamespaceSystem},
		Type:       corev1.SecretTypeBootstrapToken,
		StringData: map[string]string{
			"token-id": id, "token-secret": secret, "expiration": now.Add(tokenLife).UTC().Format(time.RFC3339),
			"usage-bootstrap-authentication": "true",
			"auth-extra-groups":              "system:bootstrappers:kubeadm:default-node-token",
		},
	}
}

// joinConfiguration is the file for kubeadm: what kind gives a worker
// (sigs.k8s.io/kind@v0.33.0 pkg/cluster/internal/kubeadm/config.go,
// JoinConfiguration). v1beta4 is read by every kubeadm from v1.31 on. The API servers
// are found by a file, so that nobody has to sign the token first.
func joinConfiguration(cluster string, n clusters.Node, w clusters.NewWorker, token string) ([]byte, error) {
	type m = map[string]any
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(w.Labels)) {
		labels = append(labels, k+"="+w.Labels[k])
	}
	taints := w.Taints
	if taints == nil {
		taints = []corev1.Taint{}
	}
	return yaml.Marshal(m{
		"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "JoinConfiguration",
		"nodeRegistration": m{
			"criSocket": "unix:///run/containerd/containerd.sock",
			"taints":    taints,
			"kubeletExtraArgs": []nameValue{
				{"node-ip", n.IP().String()},
				{"provider-id", "kind://docker/" + cluster + "/" + n.Name()},
				{"node-labels", strings.Join(labels, ",")},
			},
		},
		"discovery":  m{"file": m{"kubeConfigPath": discoveryPath}, "tlsBootstrapToken": token},
		"skipPhases": []string{"preflight"},
	})
}

// RemoveWorker implements clusters.Pool.
func (c *cluster) RemoveWorker(ctx context.Context, n clusters.Node) (err error) {
	if n.Role() != clusters.Worker {
		return fmt.Errorf("removing %s: only workers come and go, and it is a %s", n.Name(), n.Role())
	}
	ctx, cancel := context.WithTimeoutCause(ctx, removeBound, fmt.Errorf("it was not gone within %s", removeBound))
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("removing %s: %w", n.Name(), err)
		}
	}()
	client, err := kubernetes.NewForConfig(c.REST())
	if err != nil {
		return err
	}
	if err := removeNamed(ctx, c.name, n.Name()); err != nil {
		return err
	}
	// A cloud's own controller deletes the Node of a machine that is gone. Nobody
	// else does it here.
	var pods string
	if err := again(ctx, func(ctx context.Context) error {
		node, err := client.CoreV1().Nodes().Get(ctx, n.Name(), metav1.GetOptions{})
		if err == nil {
			pods = node.Spec.PodCIDR
			err = client.CoreV1().Nodes().Delete(ctx, n.Name(), metav1.DeleteOptions{})
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}); err != nil {
		return err
	}
	c.leave(n.Name())
	return c.routeAll(ctx, client, nil, pods)
}

// nodeReady says whether the API calls a node Ready.
func nodeReady(ctx context.Context, client kubernetes.Interface, name string) error {
	n, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, k := range n.Status.Conditions {
		if k.Type == corev1.NodeReady && k.Status != corev1.ConditionTrue {
			return fmt.Errorf("it is not Ready: %s", k.Message)
		} else if k.Type == corev1.NodeReady {
			return nil
		}
	}
	return errors.New("it has not reported")
}

// again asks until there is no error, each time for askBound at most. When ctx ends
// it returns the last answer and why it ended.
func again(ctx context.Context, ask func(context.Context) error) error {
	return pollEvery(ctx, askAgain, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, askBound)
		defer cancel()
		return ask(ctx)
	})
}
