package faults

import (
	"context"
	"time"

	"gameday/clusters"
)

// rouseAfter is how long the kubelet may take to start etcd until it counts as
// held up. Unhindered it takes about a second.
const rouseAfter = 2 * time.Second

// rouse makes sure that the kubelet starts the etcd whose manifest was put back.
//
// The kubelet may be held up: when the manifest went away it began to delete the
// mirror pod, in the one loop that also looks for new manifests, and its own API
// server, which has lost its only etcd, lets it wait for 34 s, again and again
// (k8s.io/kubernetes@v1.36.1 pkg/kubelet/kubelet_pods.go HandlePodCleanups). Left
// alone it takes half a minute to three minutes (measured), until the liveness
// probe has that API server restarted. rouse does now what the probe would do
// then: with the API server gone the kubelet is refused at once, and goes on.
func rouse(ctx context.Context, env Env, n clusters.Node) error {
	wait, cancel := context.WithTimeout(ctx, rouseAfter)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		refs, err := find(ctx, n, "etcd")
		if err != nil || len(refs) > 0 {
			return err
		}
		select {
		case <-tick.C:
			continue
		case <-wait.Done():
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		hung, err := find(ctx, n, "kube-apiserver")
		if err != nil {
			return err
		}
		env.Log("%s: the kubelet does not start etcd, because it waits for its API server, which has none: that one is killed (process %s)", n.Name(), pids(hung))
		return kill(ctx, hung)
	}
}
