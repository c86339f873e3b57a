// Package local makes Kubernetes clusters out of plain processes: a real etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler on each control plane,
// the very binaries of the node images, and hollow kubelets (package hollow) on all
// nodes. It needs Linux, root and the go command; no Docker and no images.
//
// A control plane, and the load balancer if there are several, is a machine: a
// process of this program in pid, network, mount and UTS namespaces of its own, with
// an address, a root folder laid out as by kubeadm, and a control group. Beneath it
// run the components. So control planes are broken as those of kind are: by the
// processes, links, files and control groups that clusters.Node shows.
//
//	this machine   10.213.X.1 on the link that carries the cluster's label
//	keeper         10.213.X.2, the bridge; hollow kubelets of the workers
//	balancer       10.213.X.3
//	control planes 10.213.X.11 and on
//
// The keeper is the first process of a pid namespace that all machines are below: if
// it ends, however that comes, the kernel ends all of them, and with them goes the
// network. It outlives the program that made the cluster, as Docker's containers do,
// and is found again by a variable in its environment, the folder of the cluster by
// its place. What a killed creation leaves is a folder and empty control groups,
// which Delete removes.
//
// What is not as in kind:
//
//   - There are no static pods, no containers and no system manager, so that nodes
//     lack clusters.CapKubelet. A component that ends is started again by its machine
//     after the kubelet's back-off (supervise.go), but nothing looks whether it is
//     alive: one that hangs is not restarted.
//   - So each component can be stopped, replaced and started by itself
//     (clusters.Components); of a hollow kubelet only the version changes.
//   - Workers are Node objects with hollow kubelets: nothing of them can be broken
//     but their heartbeats ([Cluster.Cut]), and the containers of pods are only said
//     to run.
//   - One certificate authority signs everything, and NodeRestriction is off, because
//     the hollow kubelets have one certificate.
package local
