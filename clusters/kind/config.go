package kind

import (
	"encoding/json"
	"fmt"

	"golang.org/x/mod/semver"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/yaml"

	"gameday/clusters"
)

// AuditDir is the folder of the audit log on each control plane; the current
// file is audit.log.
const AuditDir = "/var/log/kubernetes"

// EtcdMetricsPort is where each etcd member serves /metrics and /health over
// plain HTTP, on all its addresses: the cluster's network is this machine's own.
// (kubeadm's default is the same port on 127.0.0.1.)
const EtcdMetricsPort = 2381

const (
	// The audit log is cut at 100 MB, and eleven files are kept at most: about
	// 1.1 GB for each API server. A quarter of an hour under load is well below
	// 100 MB; a gap would make the record of a run incomplete.
	auditMaxSizeMB  = "100"
	auditMaxBackups = "10"

	// podSubnet and serviceSubnet are kind's own defaults for IPv4:
	// sigs.k8s.io/kind@v0.33.0 pkg/apis/config/v1alpha4/default.go. They are
	// written out because the pod network depends on the first.
	podSubnet     = "10.244.0.0/16"
	serviceSubnet = "10.96.0.0/16"
)

// shape is what the configuration depends on besides the Spec.
type shape struct {
	image string
	// kindnetd says that the image brings kind's own pod network.
	kindnetd bool
	// cgroupV2 and sysResource as in docker.Facts.
	cgroupV2, sysResource bool
	// disks are bound to etcd's folder of the control planes; none if they have no
	// disks of their own.
	disks []string
}

// config is the configuration for kind, as YAML.
func config(spec clusters.Spec, s shape) ([]byte, error) {
	labels := func(index int) map[string]string {
		out := map[string]string{clusters.LabelRun: spec.Run}
		if zone := clusters.Zone(spec.Zones, index); zone != "" {
			out[corev1.LabelTopologyZone] = zone
		}
		return out
	}
	c := v1alpha4.Cluster{
		TypeMeta: v1alpha4.TypeMeta{APIVersion: "kind.x-k8s.io/v1alpha4", Kind: "Cluster"},
		Name:     spec.Name,
		Networking: v1alpha4.Networking{
			IPFamily:          v1alpha4.IPv4Family,
			PodSubnet:         podSubnet,
			ServiceSubnet:     serviceSubnet,
			DisableDefaultCNI: !s.kindnetd,
		},
	}
	for i := range spec.ControlPlanes {
		n := v1alpha4.Node{Role: v1alpha4.ControlPlaneRole, Image: s.image, Labels: labels(i)}
		if i < len(s.disks) {
			n.ExtraMounts = []v1alpha4.Mount{{HostPath: s.disks[i], ContainerPath: etcdFolder}}
		}
		c.Nodes = append(c.Nodes, n)
	}
	for i := range spec.Workers {
		c.Nodes = append(c.Nodes, v1alpha4.Node{Role: v1alpha4.WorkerRole, Image: s.image, Labels: labels(i)})
	}

	merge, add, err := kubeadmPatches(spec.Version)
	if err != nil {
		return nil, err
	}
	c.KubeadmConfigPatches = append(c.KubeadmConfigPatches, merge)
	if add != "" {
		c.KubeadmConfigPatchesJSON6902 = []v1alpha4.PatchJSON6902{{
			Group: "kubeadm.k8s.io", Version: "v1beta4", Kind: "ClusterConfiguration", Patch: add,
		}}
	}
	// The kubelet refuses cgroup v1 by default from v1.35 on and knows the field
	// since v1.31: k8s.io/kubernetes@v1.35.0 pkg/kubelet/apis/config/v1beta1/defaults.go.
	// It goes into the cluster's ConfigMap, from which kubeadm upgrade writes each
	// kubelet's configuration anew, so that an upgrade to v1.35 keeps it.
	if !s.cgroupV2 && semver.Compare(spec.Version, "v1.31.0") >= 0 {
		p, err := yaml.Marshal(map[string]any{
			"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "failCgroupV1": false,
		})
		if err != nil {
			return nil, err
		}
		c.KubeadmConfigPatches = append(c.KubeadmConfigPatches, string(p))
	}
	// kind applies the patch that fits the version of the image's file.
	if !s.sysResource {
		for _, version := range []string{"2", "3"} {
			c.ContainerdConfigPatches = append(c.ContainerdConfigPatches, fmt.Sprintf("version = %s\n%s\n%s\n", version, criTables[version], restrictOOM))
		}
	}
	return yaml.Marshal(c)
}

// v1beta4Since is the first version for which kind writes kubeadm's v1beta4
// configuration: sigs.k8s.io/kind@v0.33.0 pkg/cluster/internal/kubeadm/config.go.
// In v1beta4 extra arguments are a list (which a merge patch would replace, kind's
// own entry with it), before that a map.
const v1beta4Since = "v1.36.0"

// Pods ask for oom_score_adj down to -997, which needs CAP_SYS_RESOURCE; so told,
// containerd takes its own score as the lower bound. The setting is in the table of
// the CRI plugin, by the version of containerd's file.
const restrictOOM = "  restrict_oom_score_adj = true"

var criTables = map[string]string{"2": `[plugins."io.containerd.grpc.v1.cri"]`, "3": `[plugins."io.containerd.cri.v1.runtime"]`}

type nameValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// kubeadmPatches are a merge patch and, for v1beta4, a JSON patch of kubeadm's
// ClusterConfiguration. All of it is in the cluster's own ConfigMap afterwards
// and thus survives kubeadm upgrade.
func kubeadmPatches(version string) (merge, add string, err error) {
	audit := []nameValue{
		{"audit-policy-file", auditPolicyPath},
		{"audit-log-path", AuditDir + "/audit.log"},
		// Each line is written before the request is answered: nothing that was
		// acknowledged is missing when an API server is killed.
		{"audit-log-mode", "blocking"},
		{"audit-log-maxsize", auditMaxSizeMB},
		{"audit-log-maxbackup", auditMaxBackups},
	}
	metrics := nameValue{"listen-metrics-urls", fmt.Sprintf("http://0.0.0.0:%d", EtcdMetricsPort)}
	apiServer := map[string]any{
		"extraVolumes": []map[string]any{
			{"name": "audit-log", "hostPath": AuditDir, "mountPath": AuditDir, "pathType": "DirectoryOrCreate"},
			{"name": "audit-policy", "hostPath": auditPolicyPath, "mountPath": auditPolicyPath, "pathType": "File", "readOnly": true},
		},
	}
	var etcdArgs any
	if semver.Compare(version, v1beta4Since) >= 0 {
		var ops []map[string]any
		for _, a := range audit {
			ops = append(ops, map[string]any{"op": "add", "path": "/apiServer/extraArgs/-", "value": a})
		}
		b, err := json.Marshal(ops)
		if err != nil {
			return "", "", err
		}
		add = string(b)
		etcdArgs = []nameValue{metrics}
		// The API server compares its watch cache with etcd every five minutes and
		// panics when they differ: k8s.io/apiserver@v0.37.0
		// pkg/storage/cacher/consistency/checker.go. Extra environment needs v1beta4.
		apiServer["extraEnvs"] = []nameValue{{"KUBE_WATCHCACHE_CONSISTENCY_CHECKER", "true"}}
	} else {
		args := map[string]string{}
		for _, a := range audit {
			args[a.Name] = a.Value
		}
		apiServer["extraArgs"] = args
		etcdArgs = map[string]string{metrics.Name: metrics.Value}
	}
	b, err := yaml.Marshal(map[string]any{
		"kind":      "ClusterConfiguration",
		"apiServer": apiServer,
		"etcd":      map[string]any{"local": map[string]any{"extraArgs": etcdArgs}},
	})
	if err != nil {
		return "", "", err
	}
	return string(b), add, nil
}
