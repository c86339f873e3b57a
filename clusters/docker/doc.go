// Package docker makes sure that this machine has a Docker engine that can run
// the privileged containers that kind nodes are.
//
// A working Docker is used as it is. Where there is none, root on Debian and its
// descendants gets one installed and started. On a restricted machine (one
// without CAP_SYS_RESOURCE, as in many sandboxes and CI runners) Docker is given
// an OCI runtime that asks for no more than the machine has; see restricted.go.
// Nothing else on the machine is touched.
package docker
