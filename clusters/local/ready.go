package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/clusters"
)

const (
	// readyBound is for a loaded machine; a quiet one takes some seconds.
	readyBound = 5 * time.Minute
	// askBound is for one question to the cluster.
	askBound = 10 * time.Second
	// readyEvery is between two looks, sayEvery between two words about them.
	readyEvery = 100 * time.Millisecond
	sayEvery   = 10 * time.Second
)

// waitReady returns when the whole cluster works: every member of etcd a healthy
// voter, every endpoint ready, every node Ready and without a taint of the node
// controller.
func (c *Cluster) waitReady(ctx context.Context, settings Settings, say clusters.Say) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyBound, fmt.Errorf("not ready within %s", readyBound))
	defer cancel()
	cfg := c.REST()
	cfg.QPS, cfg.Timeout = -1, askBound
	cli, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	began, said := time.Now(), time.Now()
	for i, look := range []func(context.Context) error{
		c.etcdReady,
		c.endpointsReady,
		func(ctx context.Context) error { return allowHollow(ctx, cli) },
		func(ctx context.Context) error { return c.nodesReady(ctx, cli, settings) },
		c.endpointsReady, // again: the first looks are seconds old
	} {
		tick := time.NewTicker(readyEvery)
		for {
			one, done := context.WithTimeout(ctx, askBound)
			err := look(one)
			done()
			if err == nil {
				break
			}
			if time.Since(said) > sayEvery {
				said = time.Now()
				first, _, _ := strings.Cut(err.Error(), "\n")
				say("local: waiting for %s (%s of up to %s): %s", c.name, time.Since(began).Round(time.Second), readyBound, first)
			}
			select {
			case <-ctx.Done():
				tick.Stop()
				return fmt.Errorf("cluster %s, look %d: %w: %w", c.name, i, context.Cause(ctx), err)
			case <-tick.C:
			}
		}
		tick.Stop()
	}
	return nil
}

// Whole says what of the control plane does not work just now: a member of etcd, or a
// way to the API.
func (c *Cluster) Whole(ctx context.Context) error {
	return errors.Join(c.etcdReady(ctx), c.endpointsReady(ctx))
}

// etcdReady wants each member to be a healthy voter, and a read through the quorum.
func (c *Cluster) etcdReady(ctx context.Context) (err error) {
	controlPlanes := clusters.ByRole(c.nodes, clusters.ControlPlane)
	cli, err := clusters.EtcdClient(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cli.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := cli.Get(ctx, "health"); err != nil {
		return fmt.Errorf("etcd read: %w", err)
	}
	for _, n := range controlPlanes {
		s, err := cli.Status(ctx, clusters.EtcdURL(n))
		if err != nil {
			return fmt.Errorf("etcd member on %s: %w", n.Name(), err)
		}
		if s.Leader == 0 || s.IsLearner || len(s.Errors) > 0 {
			return fmt.Errorf("etcd member on %s is not healthy (leader %x, %v)", n.Name(), s.Leader, s.Errors)
		}
	}
	return nil
}

func (c *Cluster) endpointsReady(ctx context.Context) error {
	for _, e := range c.endpoints {
		cfg := rest.CopyConfig(e.Config)
		cfg.Timeout = 2 * time.Second
		client, err := rest.HTTPClientFor(cfg)
		if err != nil {
			return err
		}
		err = askReady(ctx, client, cfg.Host+"/readyz")
		client.CloseIdleConnections()
		if err != nil {
			return fmt.Errorf("endpoint %s is not ready: %w", e.Name, err)
		}
	}
	return nil
}

// allowHollow lets the hollow kubelets do what many nodes may do together.
func allowHollow(ctx context.Context, cli kubernetes.Interface) error {
	_, err := cli.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: hollowGroup},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: hollowGroup}},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (c *Cluster) nodesReady(ctx context.Context, cli kubernetes.Interface, settings Settings) error {
	list, err := cli.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	whole := map[string]bool{}
	for _, n := range list.Items {
		whole[n.Name] = healthy(n)
	}
	var missing []string
	for _, n := range c.nodes {
		if n.Role() == clusters.LoadBalancer || n.Role() == clusters.ControlPlane && settings.NoControlPlaneNodes {
			continue
		}
		if !whole[n.Name()] {
			missing = append(missing, n.Name())
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%d nodes are not Ready yet, %s among them", len(missing), missing[0])
	}
	return nil
}

func healthy(n corev1.Node) bool {
	for _, t := range n.Spec.Taints {
		if strings.HasPrefix(t.Key, "node.kubernetes.io/") {
			return false
		}
	}
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			return cond.Status == corev1.ConditionTrue
		}
	}
	return false
}

// explain is the end of each log, for a cluster that did not get ready and whose files
// are about to go.
func (c *Cluster) explain() error {
	const kept = 1 << 10
	var errs []error
	logs := []string{filepath.Join(dirOf(c.name), "keeper.log")}
	for _, n := range clusters.ByRole(c.nodes, clusters.ControlPlane) {
		logs = append(logs, filepath.Join(dirOf(c.name), n.Name()+".log"))
		for _, p := range []string{"etcd", "kube-apiserver", "kube-controller-manager"} {
			logs = append(logs, filepath.Join(rootOf(c.name, n.Name()), output, p+".log"))
		}
	}
	for _, file := range logs {
		b, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, err)
		} else if len(b) > 0 {
			errs = append(errs, fmt.Errorf("%s: ... %s", file, b[max(0, len(b)-kept):]))
		}
	}
	return errors.Join(errs...)
}
