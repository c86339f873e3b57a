package faults

import (
	"context"
	"fmt"
	"time"

	"gameday/clusters"
)

var nodeHang = Kind{
	Name: "node.hang",
	Doc:  "Pauses kubelet and containerd of the targets: the node does not respond, while its pods go on running.",
	Rehearses: "A node on which nothing can be started, stopped or asked any more, though what runs there goes on and serves: it is " +
		"NotReady after 40 s, its pods are replaced elsewhere after five minutes more, and the old ones run beside the new ones " +
		"(https://kubernetes.io/docs/concepts/architecture/nodes/#condition).",
	Mechanism:   "SIGSTOP by pidfd; what was restarted is paused again",
	Undo:        "the guard, or gameday heal, sends SIGCONT to the processes in the journal that still live",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapProcesses, clusters.CapKubelet},
	Cost:        Cost{Kubelets: 1},
	ProveWithin: 20 * time.Second,
	GoneWithin:  2 * time.Minute,
	Trials:      []Trial{{Name: "node-hang", Target: Target{Pick: PickOne, Role: "worker"}}},
	New: func() Fault {
		return &NodeHang{pausing{of: service{
			name: "kubelet and containerd", programs: []string{"kubelet", "containerd"}, meet: meetHanging,
			serves: func(ctx context.Context, env Env, n clusters.Node) error {
				m, text, err := meetContainerd(ctx, n)
				if err != nil {
					return err
				}
				if m != speaks {
					return fmt.Errorf("containerd %s: %s", m, text)
				}
				return nodeServes(ctx, env, n)
			},
			control: elsewhere(machines, "has a kubelet that answers", meetKubelet),
		}}}
	},
}

// NodeHang is the fault node.hang. It has no parameters.
type NodeHang struct {
	pausing `yaml:"-" json:"-"`
}

// meetHanging asks kubelet and containerd, and a pod of the node: it hangs only if
// both are mute and the pod is not.
func meetHanging(ctx context.Context, env Env, n clusters.Node) (met, string, error) {
	m, text, err := meetKubelet(ctx, env, n)
	if err != nil || m != mute {
		return m, text, err
	}
	m, text, err = meetContainerd(ctx, n)
	if err != nil {
		return m, text, err
	}
	if m != mute {
		return cutOff, "the kubelet is mute, but containerd " + m.String(), nil
	}
	if m, text, err = meet(ctx, fromHere, at("http", n, kubeProxyPort, "/healthz")); err != nil {
		return m, text, err
	}
	if m != speaks {
		return absent, "both are mute, but so is a pod of the node: kube-proxy " + m.String() + ", " + text, nil
	}
	return mute, "both of them, while kube-proxy, a pod of the node, answers " + text, nil
}
