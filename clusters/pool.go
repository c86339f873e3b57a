package clusters

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// Pool is a cluster whose workers come and go while it runs, as those of a managed
// node pool do.
//
// Places stay what they are: adding or removing a worker gives no other node another
// place. A place that became free can be given again; then there is another machine in
// it, with the same name as the one before, and whatever is bound to the place is
// bound to that machine. So worker[0] that is replaced is worker[0] still, and what a
// surge adds is in places after the last.
type Pool interface {
	// AddWorker makes a machine, joins it, and returns when its node is Ready, its
	// services work and its pods reach those on other nodes. The machine is among
	// Nodes before it has joined. When it fails, or ctx ends, nothing of it is left.
	AddWorker(ctx context.Context, w NewWorker) (Node, error)
	// RemoveWorker takes the machine away, whatever runs on it, and the Node object
	// with it. One that is gone already is no error.
	RemoveWorker(ctx context.Context, n Node) error
}

// NewWorker is a worker to add.
type NewWorker struct {
	// Index of its place, which must be free.
	Index int
	// Image that the machine is made of, which sets its version: with kind a node
	// image that is in Docker.
	Image string
	// Labels and Taints that the node registers with. The kubelet may set no label
	// of kubernetes.io but a few (the zone is one of them).
	Labels map[string]string
	Taints []corev1.Taint
	// Prepare brings onto the machine what it would pull from a registry if there
	// were one. It is called when images can be loaded, before the machine joins.
	// May be nil.
	Prepare func(ctx context.Context, n Node) error
}
