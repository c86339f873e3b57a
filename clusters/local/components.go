package local

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// Paths on a control plane, as kubeadm has them: k8s.io/kubernetes@v1.37.0
// cmd/kubeadm/app/constants/constants.go.
const (
	confDir   = "/etc/kubernetes"
	pkiDir    = confDir + "/pki"
	adminConf = confDir + "/admin.conf"
	auditFile = confDir + "/audit-policy.yaml"
	// auditDir is where clusters/kind has the audit logs, too.
	auditDir = "/var/log/kubernetes"
	etcdData = "/var/lib/etcd"
	// programs is where a machine sees the binaries, output where it keeps what they
	// print.
	programs = "/opt/gameday"
	output   = "/var/log/components"
	// replaced is where programs are that were put in the place of those.
	replaced = "/opt/replaced"

	apiServerPort = 6443
	serviceSubnet = "10.96.0.0/16"
	apiServiceIP  = "10.96.0.1"
	// etcdMetrics is on all addresses, as in clusters/kind.
	etcdMetrics = "http://0.0.0.0:2381"
)

// component is a program that a machine keeps running.
type component struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"`
	// After is the address of an API server that must be ready before it is started
	// for the first time: it would fail, and lose time by trying again.
	After string `json:"after,omitempty"`
	// Program is its path on the machine; empty: that among the programs of the
	// version that the cluster was made of.
	Program string `json:"program,omitempty"`
	// Stopped keeps it from being started.
	Stopped bool `json:"stopped,omitempty"`
}

// as is the component as a program of another version is started: only these two are
// started differently.
func (c component) as(version string, me member, all []member) component {
	switch c.Name {
	case "etcd":
		c.Args = etcd(me, all, version).Args
	case "kube-apiserver":
		c.Env = apiServerEnv(version)
	}
	return c
}

// Settings are the part of a cluster that is asked for beyond its size.
type Settings struct {
	// APIServer and ControllerManager are flags (without dashes) of these, in place of
	// or besides the usual ones.
	APIServer         map[string]string `json:"apiServer,omitempty"`
	ControllerManager map[string]string `json:"controllerManager,omitempty"`
	// WorkerLabels are those of the workers: worker i has those of the place
	// i modulo their number. (Zones are in clusters.Spec.)
	WorkerLabels []map[string]string `json:"workerLabels,omitempty"`
	// ControlPlaneLabels are those of each control plane.
	ControlPlaneLabels map[string]string `json:"controlPlaneLabels,omitempty"`
	// NoControlPlaneNodes leaves the control planes out of the Node objects, as
	// managed clusters do.
	NoControlPlaneNodes bool `json:"noControlPlaneNodes,omitempty"`
	// NodeLease is the duration of the nodes' leases, of which hollow kubelets renew
	// them four times; 0 means 40 s, the kubelet's default.
	NodeLease time.Duration `json:"nodeLease,omitempty"`
}

// flags are arguments in a stable order; overrides win.
func flags(usual, overrides map[string]string) []string {
	all := maps.Clone(usual)
	maps.Copy(all, overrides)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, "--"+k+"="+all[k])
	}
	return out
}

// member is a control plane, for etcd.
type member struct {
	name string
	ip   netip.Addr
}

// etcd has the flags that kubeadm gives it: k8s.io/kubernetes@v1.37.0
// cmd/kubeadm/app/phases/etcd/local.go.
func etcd(m member, all []member, version string) component {
	var cluster []string
	for _, o := range all {
		cluster = append(cluster, fmt.Sprintf("%s=https://%s:2380", o.name, o.ip))
	}
	args := map[string]string{
		"name": m.name, "data-dir": etcdData, "snapshot-count": "10000",
		"listen-client-urls":    fmt.Sprintf("https://127.0.0.1:2379,https://%s:2379", m.ip),
		"advertise-client-urls": fmt.Sprintf("https://%s:2379", m.ip),
		"listen-peer-urls":      fmt.Sprintf("https://%s:2380", m.ip), "initial-advertise-peer-urls": fmt.Sprintf("https://%s:2380", m.ip),
		"initial-cluster": strings.Join(cluster, ","),
		"cert-file":       pkiDir + "/etcd/server.crt", "key-file": pkiDir + "/etcd/server.key", "trusted-ca-file": pkiDir + "/etcd/ca.crt",
		"client-cert-auth": "true",
		"peer-cert-file":   pkiDir + "/etcd/peer.crt", "peer-key-file": pkiDir + "/etcd/peer.key", "peer-trusted-ca-file": pkiDir + "/etcd/ca.crt",
		"peer-client-cert-auth": "true", "listen-metrics-urls": etcdMetrics,
	}
	// Older ones have these as experimental flags: go.etcd.io/etcd/server/v3@v3.6.0 embed/config.go.
	if semver.Compare(version, "v3.6.0") >= 0 {
		args["feature-gates"], args["watch-progress-notify-interval"] = "InitialCorruptCheck=true", "5s"
	} else {
		args["experimental-initial-corrupt-check"], args["experimental-watch-progress-notify-interval"] = "true", "5s"
	}
	return component{Name: "etcd", Args: flags(args, nil)}
}

// apiServer has the flags that kubeadm gives it (k8s.io/kubernetes@v1.37.0
// cmd/kubeadm/app/phases/controlplane/manifests.go), without NodeRestriction, and
// the audit log of clusters/kind.
func apiServer(m member, version string, s Settings) component {
	return component{Name: "kube-apiserver", Env: apiServerEnv(version), Args: flags(map[string]string{
		"advertise-address": m.ip.String(), "secure-port": fmt.Sprint(apiServerPort), "allow-privileged": "true",
		"authorization-mode": "Node,RBAC", "client-ca-file": pkiDir + "/ca.crt",
		"etcd-servers": "https://127.0.0.1:2379", "etcd-cafile": pkiDir + "/etcd/ca.crt",
		"etcd-certfile": pkiDir + "/apiserver-etcd-client.crt", "etcd-keyfile": pkiDir + "/apiserver-etcd-client.key",
		"kubelet-client-certificate": pkiDir + "/apiserver-kubelet-client.crt", "kubelet-client-key": pkiDir + "/apiserver-kubelet-client.key",
		"kubelet-preferred-address-types":  "InternalIP,ExternalIP,Hostname",
		"tls-cert-file":                    pkiDir + "/apiserver.crt",
		"tls-private-key-file":             pkiDir + "/apiserver.key",
		"service-cluster-ip-range":         serviceSubnet,
		"service-account-issuer":           "https://kubernetes.default.svc.cluster.local",
		"service-account-key-file":         pkiDir + "/sa.pub",
		"service-account-signing-key-file": pkiDir + "/sa.key",
		"requestheader-client-ca-file":     pkiDir + "/front-proxy-ca.crt", "requestheader-allowed-names": "front-proxy-client",
		"requestheader-username-headers": "X-Remote-User", "requestheader-group-headers": "X-Remote-Group",
		"requestheader-extra-headers-prefix": "X-Remote-Extra-",
		"proxy-client-cert-file":             pkiDir + "/front-proxy-client.crt", "proxy-client-key-file": pkiDir + "/front-proxy-client.key",
		"audit-policy-file": auditFile, "audit-log-path": auditDir + "/audit.log", "audit-log-mode": "blocking",
		"audit-log-maxsize": "100", "audit-log-maxbackup": "10",
	}, s.APIServer)}
}

func apiServerEnv(version string) []string {
	if semver.Compare(version, "v1.36.0") >= 0 { // as in clusters/kind
		return []string{"KUBE_WATCHCACHE_CONSISTENCY_CHECKER=true"}
	}
	return nil
}

// controllerManager and scheduler talk to the API server of their own machine, as
// kubeadm has it.
func controllerManager(m member, s Settings) component {
	return component{Name: "kube-controller-manager", After: api(m), Args: flags(map[string]string{
		"bind-address": "127.0.0.1", "leader-elect": "true",
		"kubeconfig":                confDir + "/controller-manager.conf",
		"authentication-kubeconfig": confDir + "/controller-manager.conf", "authorization-kubeconfig": confDir + "/controller-manager.conf",
		"client-ca-file": pkiDir + "/ca.crt", "requestheader-client-ca-file": pkiDir + "/front-proxy-ca.crt",
		"root-ca-file": pkiDir + "/ca.crt", "service-account-private-key-file": pkiDir + "/sa.key",
		"cluster-signing-cert-file": pkiDir + "/ca.crt", "cluster-signing-key-file": pkiDir + "/ca.key",
		"use-service-account-credentials": "true", "controllers": "*",
	}, s.ControllerManager)}
}

func scheduler(m member) component {
	return component{Name: "kube-scheduler", After: api(m), Args: flags(map[string]string{
		"bind-address": "127.0.0.1", "leader-elect": "true", "kubeconfig": confDir + "/scheduler.conf",
		"authentication-kubeconfig": confDir + "/scheduler.conf", "authorization-kubeconfig": confDir + "/scheduler.conf",
	}, nil)}
}

func api(m member) string { return netip.AddrPortFrom(m.ip, apiServerPort).String() }
