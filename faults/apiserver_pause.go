package faults

import (
	"context"
	"time"

	"gameday/clusters"
)

var apiserverPause = Kind{
	Name: "apiserver.pause",
	Doc:  "Pauses the kube-apiserver process of the targets: it takes connections and answers nothing.",
	Rehearses: "An API server that hangs: connections to it stay open and silent, so that clients notice only by timeouts of their " +
		"own, and health checks that look at the port alone notice nothing. Kubelets lost their nodes that way " +
		"(https://github.com/kubernetes/kubernetes/issues/48638).",
	// kubeadm's probe fails 8 times in a row, each after 10 to 15 s:
	// k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/util/staticpod/utils.go LivenessProbe.
	Mechanism:   "SIGSTOP by pidfd; one that its liveness probe restarts (after about two minutes) is paused again",
	Undo:        "the guard, or gameday heal, sends SIGCONT to the processes in the journal that still live",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapProcesses},
	Cost:        Cost{APIServers: 1},
	ProveWithin: 20 * time.Second,
	GoneWithin:  7 * time.Minute, // as for apiserver.kill: it may have been restarted meanwhile
	Trials:      []Trial{{Name: "apiserver-pause", Target: Target{Pick: PickOne}}},
	New:         func() Fault { return &APIServerPause{pausing{of: apiserver()}} },
}

// APIServerPause is the fault apiserver.pause. It has no parameters.
type APIServerPause struct {
	pausing `yaml:"-" json:"-"`
}

// apiserverPort is where kubeadm has the API server listen:
// k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/constants/constants.go KubeAPIServerPort.
const apiserverPort = "6443"

func apiserver() service {
	return service{
		name: "kube-apiserver", programs: []string{"kube-apiserver"},
		meet: func(ctx context.Context, _ Env, n clusters.Node) (met, string, error) {
			return meet(ctx, fromHere, at("https", n, apiserverPort, "/livez/ping"))
		},
		serves:  func(ctx context.Context, env Env, n clusters.Node) error { return readyz(ctx, env.Cluster, n) },
		control: readyElsewhere,
	}
}

// readyElsewhere is the control by an API server that is no target.
func readyElsewhere(ctx context.Context, env Env) (string, error) {
	return control(ctx, others(env), "answers /readyz", func(ctx context.Context, n clusters.Node) error {
		return readyz(ctx, env.Cluster, n)
	})
}
