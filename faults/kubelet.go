package faults

import (
	"context"

	"gameday/clusters"
)

// kubeletPort is where the kubelet serves the API server, and kubeProxyPort where
// kube-proxy, which is a pod on every node, says that it is well:
// k8s.io/kubernetes@v1.37.0 pkg/cluster/ports/ports.go.
const (
	kubeletPort   = "10250"
	kubeProxyPort = "10256"
)

var machines = []clusters.Role{clusters.ControlPlane, clusters.Worker}

func kubelet() service {
	return service{
		name: "kubelet", programs: []string{"kubelet"}, meet: meetKubelet, serves: nodeServes,
		control: elsewhere(machines, "has a kubelet that answers", meetKubelet),
	}
}

// meetKubelet asks without credentials: that it refuses the question is an answer.
func meetKubelet(ctx context.Context, _ Env, n clusters.Node) (met, string, error) {
	return meet(ctx, fromHere, at("https", n, kubeletPort, "/healthz"))
}
