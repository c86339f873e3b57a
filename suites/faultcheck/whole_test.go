package faultcheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/clusters"
	"gameday/faults"
	"gameday/faults/mechanism/cut"
	"gameday/faults/mechanism/process"
	"gameday/faults/mechanism/slowfsync"

	. "github.com/onsi/gomega"
)

// whole says, in other words than the faults' own proofs, what is not as it was before any fault: nil if all is.
func whole(ctx context.Context) error {
	return errors.Join(nothingLeft(ctx), etcdWell(ctx), apiWell(ctx))
}

// nothingLeft looks for what faults make: tables, parked manifests, data set aside, tracers.
func nothingLeft(ctx context.Context) error {
	var errs []error
	tables, err := cut.Sweep("", "faultcheck")
	errs = append(errs, err)
	for _, t := range tables {
		errs = append(errs, fmt.Errorf("nftables table %s was left (held %v)", t.Table, t.Held))
	}
	for _, n := range clusters.ByRole(cluster.Nodes(), clusters.ControlPlane) {
		f := n.(clusters.Files)
		tags, err := faults.Parked(ctx, n)
		errs = append(errs, err)
		if len(tags) > 0 {
			errs = append(errs, fmt.Errorf("%s: parked files of %v were left", n.Name(), tags))
		}
		names, err := f.ReadDir(ctx, "/var/lib/etcd")
		errs = append(errs, err)
		for _, name := range names {
			if name != "member" {
				errs = append(errs, fmt.Errorf("%s: /var/lib/etcd/%s was left", n.Name(), name))
			}
		}
		if _, err := f.ReadDir(ctx, "/etc/kubernetes/gameday"); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%s: /etc/kubernetes/gameday was left (%w)", n.Name(), err))
		}
		init, err := n.(clusters.Processes).InitPID(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		refs, err := process.Find(init, process.Named("etcd"))
		errs = append(errs, err)
		if len(refs) != 1 {
			errs = append(errs, fmt.Errorf("%s: %d etcd processes", n.Name(), len(refs)))
		}
		for _, r := range refs {
			tracer, err := slowfsync.TracedBy(r.PID)
			errs = append(errs, err)
			if tracer != 0 {
				errs = append(errs, fmt.Errorf("%s: etcd is traced by process %d", n.Name(), tracer))
			}
		}
	}
	return errors.Join(errs...)
}

// etcdWell wants three voters that agree on the leader.
func etcdWell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cli, err := clusters.EtcdClient(ctx, cluster)
	if err != nil {
		return err
	}
	defer cli.Close()
	list, err := cli.MemberList(ctx)
	if err != nil {
		return err
	}
	var errs []error
	if len(list.Members) != 3 {
		errs = append(errs, fmt.Errorf("%d etcd members", len(list.Members)))
	}
	for _, m := range list.Members {
		if m.IsLearner || m.Name == "" {
			errs = append(errs, fmt.Errorf("etcd member %x %q: learner %v", m.ID, m.Name, m.IsLearner))
		}
	}
	leaders := map[uint64]bool{}
	for _, n := range clusters.ByRole(cluster.Nodes(), clusters.ControlPlane) {
		s, err := cli.Status(ctx, clusters.EtcdURL(n))
		if err != nil {
			errs = append(errs, fmt.Errorf("etcd on %s: %w", n.Name(), err))
			continue
		}
		leaders[s.Leader] = true
		if len(s.Errors) > 0 || s.IsLearner {
			errs = append(errs, fmt.Errorf("etcd on %s: errors %v, learner %v", n.Name(), s.Errors, s.IsLearner))
		}
	}
	if len(leaders) != 1 || leaders[0] {
		errs = append(errs, fmt.Errorf("etcd leaders: %v", leaders))
	}
	return errors.Join(errs...)
}

// apiWell wants every endpoint ready, and every node Ready.
func apiWell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var errs []error
	for _, e := range cluster.Endpoints() {
		cfg := rest.CopyConfig(e.Config)
		cfg.Timeout = 5 * time.Second
		h, err := rest.HTTPClientFor(cfg)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.Host+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := h.Do(req)
		if err == nil {
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
			err = errors.Join(err, resp.Body.Close())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("endpoint %s: %w", e.Name, err))
		}
	}
	client, err := kubernetes.NewForConfig(cluster.REST())
	if err != nil {
		return err
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, n := range nodes.Items {
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				errs = append(errs, fmt.Errorf("node %s: Ready is %s", n.Name, c.Status))
			}
		}
	}
	return errors.Join(errs...)
}

// eventuallyWhole waits until all is as before.
func eventuallyWhole(ctx context.Context) {
	Eventually(ctx, func() string {
		if err := whole(ctx); err != nil {
			return strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		return ""
	}).WithTimeout(7*time.Minute).WithPolling(500*time.Millisecond).Should(BeEmpty(), "something is not as it was before the fault")
}
