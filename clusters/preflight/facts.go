package preflight

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Facts is what was seen of a cluster, and of the files that are given beside it.
type Facts struct {
	// To is the target, v1.X.Y.
	To string
	// Now is when it was looked.
	Now time.Time
	// Since leaves out what was asked of the API before; zero counts all.
	Since time.Time
	// Unread is what could not be read.
	Unread []Unread

	// Asked says that there is a cluster; without one only files were looked at.
	Asked bool
	// Servers are the API servers (or the one way to them) that were asked.
	Servers []Server
	// Components are the pods of the control plane and of kube-proxy.
	Components []Component
	Nodes      []Node
	// Kubeadm is the version in kubeadm's own ConfigMap; empty if it has none.
	Kubeadm string
	Etcd    []Member
	// Settings are configurations that the upgrade carries on: ConfigMaps, what
	// the kubelets say they run with, files on nodes.
	Settings []Settings
	// Flags are the kubelets' flags that nodes keep in files.
	Flags []Flags

	// Uses are the API versions through which stored objects were written; Objects
	// and Resources are how many were looked at.
	Uses               []Use
	Objects, Resources int
	Audit              []AuditLog
	Requested          []Requested
	// Documents are the manifests that were given; ManifestFiles how many files, and
	// NoObjects how many documents in them are no objects of Kubernetes.
	Documents                []Document
	ManifestFiles, NoObjects int

	Definitions []Definition

	Budgets []policyv1.PodDisruptionBudget
	Pods    []corev1.Pod
	Volumes []corev1.PersistentVolume

	Certificates []Certificate
}

// Unread is something that was to be looked at and could not be.
type Unread struct {
	Check, What string
	Where       []string
	Why, Mend   string
}

// Server is an API server, by its own answer.
type Server struct {
	// Name of the endpoint; Node is empty if it is not known on which it runs.
	Name, Node, Version string
}

// Component is a pod of Kubernetes' own.
type Component struct {
	// Name as in the label component or k8s-app: kube-scheduler.
	Name, Pod, Node string
	// Version is the tag of its image.
	Version string
	Args    []string
}

// Node is what the API says of a node, and its kubelet of itself.
type Node struct {
	Name, Kubelet string
	// Cgroup is 1 or 2; 0 if it is not known.
	Cgroup int
	// RuntimeUntil is the version from which the kubelet will refuse the node's
	// container runtime, by the kubelet's own word; empty if it says none.
	RuntimeUntil string
}

// Member is a member of etcd.
type Member struct{ Name, Version string }

// Settings is a configuration: its kind (KubeletConfiguration), where it is, and
// what it says.
type Settings struct {
	Kind, Where string
	// Node is whose it is; empty if it is of all.
	Node string
	// Explicit says that defaults are not filled in.
	Explicit bool
	Values   map[string]any
}

// Flags are the flags of a node's kubelet in one file.
type Flags struct {
	Node, File string
	Args       []string
}

// Use is an API version through which objects were written.
type Use struct {
	GVK schema.GroupVersionKind
	// Manager is the field manager; empty if kubectl's annotation of the last
	// applied configuration says it.
	Manager string
	// Applied says that the manager applied on the server's side, and so will again:
	// its entry is replaced. One of another write stays until another takes its
	// fields.
	Applied bool
	// Objects are some of them, Count is how many there are.
	Objects []string
	Count   int
	Last    time.Time
}

// AuditLog is the audit log of one API server.
type AuditLog struct {
	Where string
	// Node is whose API server wrote it; empty if it is not known.
	Node string
	// Requests is how many events it has, First and Last when they were asked.
	Requests    int
	First, Last time.Time
	// Deprecated are those that the API server marked.
	Deprecated []Request
}

// Request is what one client asked of a deprecated API.
type Request struct {
	Resource schema.GroupVersionResource
	// Removed is the release that removes it, 1.X; empty if none is planned.
	Removed     string
	User, Agent string
	// Object is one that was asked for.
	Object string
	Count  int
	Last   time.Time
}

// Requested is a deprecated API that an API server counts as asked for since it
// started; by whom it does not say.
type Requested struct {
	Server, Node string
	Resource     schema.GroupVersionResource
	Removed      string
}

// Document is one object of a manifest.
type Document struct {
	// File and Line are where it begins.
	File string
	Line int
	GVK  schema.GroupVersionKind
	Name string
}

// Definition is a CustomResourceDefinition.
type Definition struct {
	Name, Group string
	// Stored are the versions in which objects may be stored; Storage is the one in
	// which new ones are.
	Stored  []string
	Storage string
	// Served are the versions that are served.
	Served []string
}

// Certificate is one that the cluster rests on.
type Certificate struct {
	// What it is for, and where it was read.
	What, Where string
	Until       time.Time
	CA          bool
}

// looked counts what was looked at.
func (f *Facts) looked() []string {
	var out []string
	count := func(n int, what string) { out = append(out, plural(n, what)) }
	if f.Asked {
		count(len(f.Servers), "API server")
		count(len(f.Components), "component pod")
		count(len(f.Nodes), "node")
		count(len(f.Etcd), "etcd member")
		out = append(out, fmt.Sprintf("%s of %s", plural(f.Objects, "object"), plural(f.Resources, "resource")))
		for _, a := range f.Audit {
			span := ""
			if !a.First.IsZero() {
				span = fmt.Sprintf(" (%s to %s)", a.First.Format(time.RFC3339), a.Last.Format(time.RFC3339))
			}
			out = append(out, plural(a.Requests, "audit event")+span)
		}
		count(len(f.Definitions), "custom resource definition")
		count(len(f.Budgets), "disruption budget")
		count(len(f.Pods), "pod")
		count(len(f.Certificates), "certificate")
		count(len(f.Settings), "component configuration")
	}
	manifests := fmt.Sprintf("%s in %s", plural(len(f.Documents), "manifest"), plural(f.ManifestFiles, "file"))
	if f.NoObjects > 0 {
		manifests += fmt.Sprintf(" (left out: %s without apiVersion and kind)", plural(f.NoObjects, "document"))
	}
	out = append(out, manifests)
	return out
}
