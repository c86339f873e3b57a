// Package kind makes Kubernetes clusters out of Docker containers, with
// sigs.k8s.io/kind as a library.
//
// kind brings up the cluster; this package adds what a game day needs and kind
// leaves to others:
//
//   - ctx is honoured: kind takes none, so that an interrupted creation is undone
//     by name (create.go);
//   - readiness is checked, and a cluster that does not get ready is an error
//     (ready.go); kind's own wait only warns;
//   - everything is found again by label (label.go): no state file;
//   - each API server writes an audit log, etcd's metrics can be read from here
//     (config.go), pods have a network also where kindnetd cannot be had
//     (podnet.go);
//   - the etcd of each control plane has a disk of its own, where this machine can
//     give it one (disk.go);
//   - nodes are seen from this machine: their files, processes and links
//     (node.go, files.go, link.go), so that a broken node can still be worked on;
//   - workers join and leave while the cluster runs (join.go).
//
// The user's own kubeconfig is never touched.
package kind
