package upgrade

import (
	"fmt"
	"path"
	"time"

	"sigs.k8s.io/yaml"
)

// How long kubeadm may wait, told to it in its UpgradeConfiguration. The
// defaults are in k8s.io/kubernetes@v1.37.0
// cmd/kubeadm/app/constants/constants.go.
const (
	// apiCall bounds kubeadm's wait for an answer of the API; the default. A
	// node that is cut off is refused after it plus one request of 10 s.
	apiCall = time.Minute
	// etcdCall bounds kubeadm's wait for the status of each etcd member, before
	// and after the upgrade of its own; a member that is down costs all of it,
	// twice. The default is 2 min. One try takes 2 s at most, and after its own
	// member kubeadm looks 10 times, 15 s apart, so that a slow one is not lost.
	etcdCall = 20 * time.Second
	// perManifest bounds the wait for the kubelet to run a changed manifest; the
	// default.
	perManifest = 5 * time.Minute
)

// How long we wait ourselves.
const (
	// controlPlaneBound is for kubeadm on a control plane: four manifests, and
	// as long as one more for checks, etcd (10 looks, 15 s apart) and addons.
	controlPlaneBound = 5 * perManifest
	// workerBound is for kubeadm on a worker: two rounds of apiCall, and its
	// work, which is to write one file.
	workerBound = 3 * time.Minute
	// settleBound is for the last component to serve after kubeadm is content:
	// kubeadm waits for pods to run, not to be ready.
	settleBound = 3 * time.Minute
	// kubeletBound is for a restarted kubelet to report its version and Ready.
	kubeletBound = 3 * time.Minute
	// leftoverBound is for a kubeadm that an earlier run left behind to end by
	// itself: longer than it waits for a manifest.
	leftoverBound = perManifest + time.Minute
	// allowedBound is for the API to let a worker read kubeadm's ConfigMaps.
	allowedBound = 15 * time.Second
	// defaultDrain is the drain timeout of options that name none.
	defaultDrain = 5 * time.Minute
)

// ignored are the preflight checks that cannot pass in a node that is a
// container: it sees the swap and the kernel configuration of its host, and
// bridge netfilter is the host's module. The same as kubeadm's own test tool
// ignores: kubernetes/kubeadm kinder/pkg/constants/constants.go.
func ignored() []string {
	return []string{"Swap", "SystemVerification", "FileContent--proc-sys-net-bridge-bridge-nf-call-iptables"}
}

// stage is the folder on a node that holds what is installed from. Its path in
// the arguments of a kubeadm process tells that process as ours.
const stage = "/opt/gameday"

func staged(to, file string) string { return path.Join(stage, to, file) }

func configPath(to string) string { return staged(to, "upgrade.yaml") }

// upgradeConfiguration is the file that kubeadm is run with. v1beta4 is read by
// every kubeadm from v1.31 on.
func upgradeConfiguration(to string) ([]byte, error) {
	b, err := yaml.Marshal(map[string]any{
		"apiVersion": "kubeadm.k8s.io/v1beta4",
		"kind":       "UpgradeConfiguration",
		"apply":      map[string]any{"kubernetesVersion": to, "ignorePreflightErrors": ignored()},
		"node":       map[string]any{"ignorePreflightErrors": ignored()},
		"timeouts": map[string]any{
			"kubernetesAPICall": apiCall.String(),
			"etcdAPICall":       etcdCall.String(),
			"upgradeManifests":  perManifest.String(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("kubeadm's UpgradeConfiguration: %w", err)
	}
	return b, nil
}
