package clusters

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// kubeadm's places of the stacked etcd's client certificate on a control plane:
// k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/constants/constants.go.
const (
	etcdCA   = "/etc/kubernetes/pki/etcd/ca.crt"
	etcdCert = "/etc/kubernetes/pki/etcd/healthcheck-client.crt"
	etcdKey  = "/etc/kubernetes/pki/etcd/healthcheck-client.key"
	// EtcdClientPort is where kubeadm's etcd serves clients.
	EtcdClientPort = "2379"
	// EtcdPeerPort is where kubeadm's etcd serves its peers.
	EtcdPeerPort = "2380"
)

// EtcdURL is the client URL of the member on a node.
func EtcdURL(n Node) string {
	return "https://" + net.JoinHostPort(n.IP().String(), EtcdClientPort)
}

// EtcdTLS reads the client certificate of the stacked etcd from the first
// control plane that still has it.
func EtcdTLS(ctx context.Context, c Cluster) (*tls.Config, error) {
	var errs []error
	for _, n := range ByRole(c.Nodes(), ControlPlane) {
		t, err := etcdTLS(ctx, n)
		if err == nil {
			return t, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no control plane gave an etcd client certificate: %w", errors.Join(errs...))
}

func etcdTLS(ctx context.Context, n Node) (*tls.Config, error) {
	f, ok := n.(Files)
	if !ok {
		return nil, fmt.Errorf("%s cannot read files (capability %s)", n.Name(), CapFiles)
	}
	var pem [3][]byte
	for i, p := range []string{etcdCA, etcdCert, etcdKey} {
		b, err := f.ReadFile(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("%s: read %s: %w", n.Name(), p, err)
		}
		pem[i] = b
	}
	pair, err := tls.X509KeyPair(pem[1], pem[2])
	if err != nil {
		return nil, fmt.Errorf("%s: etcd client certificate: %w", n.Name(), err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem[0]) {
		return nil, fmt.Errorf("%s: %s holds no certificate", n.Name(), etcdCA)
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// EtcdClient connects to the etcd members on the given control planes (all of
// them if none is named). The caller closes it. Nothing is sent before its
// first use.
func EtcdClient(ctx context.Context, c Cluster, nodes ...Node) (*clientv3.Client, error) {
	if len(nodes) == 0 {
		nodes = ByRole(c.Nodes(), ControlPlane)
	}
	t, err := EtcdTLS(ctx, c)
	if err != nil {
		return nil, err
	}
	urls := make([]string, len(nodes))
	for i, n := range nodes {
		urls[i] = EtcdURL(n)
	}
	cli, err := clientv3.New(clientv3.Config{
		Endpoints: urls, TLS: t, Logger: zap.NewNop(),
		DialTimeout: 2 * time.Second, DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("etcd client for %v: %w", urls, err)
	}
	return cli, nil
}
