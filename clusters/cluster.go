// Package clusters says what a cluster, a node and a provider of clusters are.
//
// The interfaces are small on purpose. What every node can do is in Node; what
// only some can do (run a command, show its processes to this machine, be cut
// off on the wire) is asked with a type assertion on the capability interfaces
// in capability.go, so that a provider that cannot do something says so by not
// implementing it.
package clusters

import (
	"context"
	"io"
	"net/netip"
	"time"

	"k8s.io/client-go/rest"
)

// Role is what a node is for.
type Role string

// The roles of a node.
const (
	ControlPlane Role = "control-plane"
	Worker       Role = "worker"
	LoadBalancer Role = "load-balancer"
)

// LabelRun is the label (on containers, networks and images: the Docker label;
// on Kubernetes objects: the label) that says which run made a thing. It is how
// things are found again: there is no state file.
const LabelRun = "gameday.run"

// LabelProvider marks everything gameday made, whatever the run.
const LabelProvider = "gameday.provider"

// AnnotationRunFor on a pod says for how long its containers run before they end
// by themselves (a Go duration). It is for nodes that run no containers and only
// say so; others pay no heed to it.
const AnnotationRunFor = "gameday.run-for"

// HollowContainer begins the ids of containers that such nodes say to run.
const HollowContainer = "hollow://"

// Spec is the cluster to make.
type Spec struct {
	// Name of the cluster, as in kind's --name.
	Name string
	// Run is the id of the run that owns it.
	Run string
	// Version is the Kubernetes version, v1.X.Y.
	Version string
	// ControlPlanes and Workers are counts of nodes.
	ControlPlanes, Workers int
	// Zones are dealt to the nodes of each role in turn (Zone), as the label
	// topology.kubernetes.io/zone; none: no node has a zone.
	Zones []string
	// Replace puts patched module trees under test: module path to directory,
	// as Go's own replace.
	Replace map[string]string
}

// Zone is the zone of the nodes with an index among those of their role; empty
// without zones.
func Zone(zones []string, index int) string {
	if len(zones) == 0 {
		return ""
	}
	return zones[index%len(zones)]
}

// Say reports progress to the person who waits: one line, no newline.
type Say func(format string, args ...any)

// Found is a cluster that a provider found by its label.
type Found struct {
	Name, Run, Provider string
	Version             string
	Created             time.Time
	Nodes               int
}

// Provider makes clusters and finds them again.
type Provider interface {
	// Name of the provider, as in --provider.
	Name() string
	// Check lists, as one joined error, every obstacle on this machine that
	// cannot be served, each with its mend. It changes nothing.
	Check(ctx context.Context, spec Spec) error
	// Create makes the cluster and returns when every node is Ready. When it
	// fails, or ctx ends, nothing of the cluster is left.
	Create(ctx context.Context, spec Spec, say Say) (Cluster, error)
	// Open finds a running cluster by name. It returns an error that wraps
	// ErrNotFound if there is none.
	Open(ctx context.Context, name string) (Cluster, error)
	// List finds every cluster that gameday made with this provider.
	List(ctx context.Context) ([]Found, error)
	// Delete removes a cluster and all that was made with it. Deleting one that
	// is not there is no error; deleting one that gameday did not make is.
	Delete(ctx context.Context, name string) error
}

// Cluster is a running cluster.
type Cluster interface {
	Name() string
	// Run is the id of the run that made it.
	Run() string
	// Provider is the name of the provider that made it.
	Provider() string
	// Nodes in stable order: control planes, workers, load balancer, each role
	// by index.
	Nodes() []Node
	// REST is the client configuration of an administrator, through the load
	// balancer where there is one. The caller may change its copy.
	REST() *rest.Config
	// Endpoints are all ways to the API: the load balancer first (where there
	// is one), then every API server directly.
	Endpoints() []Endpoint
	// LoadImages imports an image archive (docker save or OCI layout) into the
	// container runtime of one node.
	LoadImages(ctx context.Context, node Node, archive io.Reader) error
	// Collect writes the logs of all nodes and components below dir. It
	// collects as much as it can and joins the errors.
	Collect(ctx context.Context, dir string) error
}

// Endpoint is one way to the API.
type Endpoint struct {
	// Name is "lb" or the name of the node whose API server it is.
	Name string
	// Node is nil for the load balancer.
	Node Node
	// Config reaches exactly this endpoint, with full TLS verification.
	Config *rest.Config
}

// Node is one machine of the cluster (in kind: a container).
type Node interface {
	// Name is the Kubernetes node name (and the container's name in kind).
	Name() string
	Role() Role
	// Index within the role, from 0: the 1 of control-plane[1].
	Index() int
	// IP is the address by which the other nodes reach it.
	IP() netip.Addr
}
