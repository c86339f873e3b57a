package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

// apiPatience bounds a question to the API, which takes some milliseconds, through an
// API server that has to ask etcd.
const apiPatience = 3 * time.Second

// askAPI asks all ways to the API at once, and takes the first answer: which of them
// work is not known under a fault. The others are not called off, which client-go
// would tell the world as an error; they end by themselves.
func askAPI[T any](ctx context.Context, c clusters.Cluster, ask func(context.Context, kubernetes.Interface) (T, error)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	ways := c.Endpoints()
	answers := make(chan answer, len(ways))
	for _, e := range ways {
		go func() {
			own, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiPatience)
			defer cancel()
			var a answer
			cli, err := kubernetes.NewForConfig(e.Config)
			if err == nil {
				a.v, err = ask(own, cli)
			}
			if a.err = err; err != nil {
				a.err = fmt.Errorf("through %s: %w", e.Name, err)
			}
			answers <- a
		}()
	}
	var errs []error
	var none T
	for range ways {
		select {
		case a := <-answers:
			if a.err == nil {
				return a.v, nil
			}
			errs = append(errs, a.err)
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
	}
	return none, fmt.Errorf("no way to the API answers: %w", errors.Join(errs...))
}

func leaseNamed(ctx context.Context, c clusters.Cluster, namespace, name string) (*coordinationv1.Lease, error) {
	return askAPI(ctx, c, func(ctx context.Context, cli kubernetes.Interface) (*coordinationv1.Lease, error) {
		return cli.CoordinationV1().Leases(namespace).Get(ctx, name, metav1.GetOptions{})
	})
}

// leaseSeen is a leader election's lease, as it was at some moment.
type leaseSeen struct {
	// Holder is the identity, Node the node it is on.
	Holder, Node string
	// Acquired and Renewed are by the holder's clock.
	Acquired, Renewed time.Time
}

// leadership reads the lease by which a component elects its leader.
func leadership(ctx context.Context, c clusters.Cluster, component string) (leaseSeen, error) {
	l, err := leaseNamed(ctx, c, metav1.NamespaceSystem, component)
	if err != nil {
		return leaseSeen{}, fmt.Errorf("lease of %s: %w", component, err)
	}
	return seenLease(l), nil
}

func seenLease(l *coordinationv1.Lease) leaseSeen {
	var s leaseSeen
	if l.Spec.HolderIdentity != nil {
		s.Holder = *l.Spec.HolderIdentity
		// HOSTNAME_UUID: k8s.io/kubernetes@v1.37.0 cmd/kube-controller-manager/app/controllermanager.go
		// and cmd/kube-scheduler/app/options/options.go.
		s.Node, _, _ = strings.Cut(s.Holder, "_")
	}
	if l.Spec.AcquireTime != nil {
		s.Acquired = l.Spec.AcquireTime.Time
	}
	if l.Spec.RenewTime != nil {
		s.Renewed = l.Spec.RenewTime.Time
	}
	return s
}

// renewals are often: a leader renews each 2 s and loses its lease after 15 s
// (k8s.io/component-base@v0.37.0 config/v1alpha1/defaults.go RetryPeriod,
// LeaseDuration); a kubelet renews each 10 s
// (k8s.io/kubernetes@v1.37.0 pkg/kubelet/kubelet.go nodeLeaseRenewIntervalFraction).
const (
	leaderFresh = 8 * time.Second
	nodeFresh   = 20 * time.Second
)

// gap says how long nobody led, when a leader that was hit has lost its lease to now's
// holder: from its last renewal to the next one's first. It is false while nobody else
// has it.
func (was leaseSeen) gap(now leaseSeen) (time.Duration, bool) {
	if now.Holder == "" || now.Holder == was.Holder {
		return 0, false
	}
	return now.Acquired.Sub(was.Renewed), true
}

// nodeServes says why a node is not Ready, or its kubelet does not renew its lease.
func nodeServes(ctx context.Context, env Env, n clusters.Node) error {
	l, err := leaseNamed(ctx, env.Cluster, corev1.NamespaceNodeLease, n.Name())
	if err != nil {
		return fmt.Errorf("lease of node %s: %w", n.Name(), err)
	}
	if age := time.Since(seenLease(l).Renewed); age > nodeFresh {
		return fmt.Errorf("%s: its lease was renewed last %s ago", n.Name(), age.Round(time.Second))
	}
	k, err := askAPI(ctx, env.Cluster, func(ctx context.Context, cli kubernetes.Interface) (*corev1.Node, error) {
		return cli.CoreV1().Nodes().Get(ctx, n.Name(), metav1.GetOptions{})
	})
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name(), err)
	}
	for _, c := range k.Status.Conditions {
		if c.Type == corev1.NodeReady {
			if c.Status == corev1.ConditionTrue {
				return nil
			}
			return fmt.Errorf("%s is not Ready: %s %s", n.Name(), c.Status, c.Reason)
		}
	}
	return fmt.Errorf("%s has not said whether it is Ready", n.Name())
}
