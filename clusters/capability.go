package clusters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"strings"
)

// ErrNotFound is wrapped by errors about a cluster or node that is not there.
var ErrNotFound = errors.New("not found")

// Capability names what a node (or a cluster) can do beyond the basics.
type Capability string

// The capabilities, each with the interface that a node implements for it.
const (
	CapExec       Capability = "exec"       // Execer
	CapFiles      Capability = "files"      // Files
	CapProcesses  Capability = "processes"  // Processes
	CapNetwork    Capability = "network"    // Network
	CapCgroup     Capability = "cgroup"     // Cgroups
	CapPower      Capability = "power"      // Power
	CapDisk       Capability = "disk"       // Disks
	CapKubelet    Capability = "kubelet"    // Kubelet
	CapComponents Capability = "components" // Components
)

// Has says whether a node has a capability.
func Has(n Node, c Capability) bool {
	var ok bool
	switch c {
	case CapExec:
		_, ok = n.(Execer)
	case CapFiles:
		_, ok = n.(Files)
	case CapProcesses:
		_, ok = n.(Processes)
	case CapNetwork:
		_, ok = n.(Network)
	case CapCgroup:
		_, ok = n.(Cgroups)
	case CapPower:
		_, ok = n.(Power)
	case CapDisk:
		_, ok = n.(Disks)
	case CapKubelet:
		_, ok = n.(Kubelet)
	case CapComponents:
		_, ok = n.(Components)
	}
	return ok
}

// Command is a command to run on a node. Stdout and Stderr may be nil.
type Command struct {
	Argv           []string
	Env            []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Execer runs commands on the node.
type Execer interface {
	// Exec runs the command to its end; when ctx ends the command is killed on
	// the node too. A non-zero exit is an *ExitError.
	Exec(ctx context.Context, c Command) error
}

// ExitError is a command that ran and failed. Its text can be pasted into a
// shell.
type ExitError struct {
	Node   string
	Argv   []string
	Code   int
	Output string // the end of stderr, or of stdout if stderr was empty
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s: %q exited %d: %s", e.Node, strings.Join(e.Argv, " "), e.Code, strings.TrimSpace(e.Output))
}

// Files reads and changes files of the node without going through anything
// that runs on the node where possible, so that it works on a broken node too.
// Paths are absolute on the node. Errors match fs.ErrNotExist where they should.
type Files interface {
	ReadFile(ctx context.Context, path string) ([]byte, error)
	// WriteFile replaces the file atomically (write beside, rename) and makes
	// missing folders.
	WriteFile(ctx context.Context, path string, data []byte, mode fs.FileMode) error
	// Rename moves within one file system and makes missing folders.
	Rename(ctx context.Context, from, to string) error
	// RemoveAll is not an error if nothing is there.
	RemoveAll(ctx context.Context, path string) error
	// ReadDir lists the names in a folder, sorted.
	ReadDir(ctx context.Context, path string) ([]string, error)
}

// Opener opens a file of the node to be read as a stream. What is open stays
// readable when the file is removed or the node is switched off.
type Opener interface {
	Open(ctx context.Context, path string) (io.ReadCloser, error)
}

// Processes shows the node's processes as processes of this machine.
type Processes interface {
	// InitPID is the process id, on this machine, of the node's first process:
	// all processes of the node are below it.
	InitPID(ctx context.Context) (int, error)
}

// Link is how a node hangs on the network of the cluster, seen from this
// machine.
type Link struct {
	// NetNS is a path (/proc/PID/ns/net) of the node's network namespace.
	NetNS string
	// Interface is the node's interface inside it.
	Interface string
	MAC       net.HardwareAddr
	IPs       []netip.Addr
	// BridgeNetNS is the path of the namespace that holds the bridge between
	// the nodes; empty means the namespace of this process.
	BridgeNetNS string
}

// Network is a node whose link can be seen (and cut on the wire) from here.
// It is asked at each use: a restarted container has a new namespace.
type Network interface {
	Link(ctx context.Context) (Link, error)
}

// Cgroup is the control group that holds everything on a node, on this machine.
type Cgroup struct {
	// Unified is its folder in the cgroup v2 hierarchy; empty where the machine
	// has none, or none with this node in it.
	Unified string
	// Controllers are its folders in the v1 hierarchies, by controller (cpu,
	// memory, freezer, pids, blkio). Empty with cgroup v2.
	Controllers map[string]string
}

// Cgroups is a node whose control group can be reached from here. It is asked at
// each use: a restarted container has a new one.
type Cgroups interface {
	Cgroup(ctx context.Context) (Cgroup, error)
}

// Power is a node that can be switched off, as by pulling its plug, and on again
// with the same address.
type Power interface {
	// PowerOff ends all processes of the node at once. Off already is no error.
	PowerOff(ctx context.Context) error
	// PowerOn starts it again and returns when its first process runs. On already
	// is no error.
	PowerOn(ctx context.Context) error
}

// Disk is a file system of its own, in an image file.
type Disk struct {
	// Device is the loop device, Mount where it is mounted on this machine, Path
	// where the node sees it.
	Device, Mount, Path string
}

// Disks is a node whose etcd has a disk of its own, that can be filled, frozen or
// lost without touching anything else.
type Disks interface {
	EtcdDisk(ctx context.Context) (Disk, error)
	// RenewEtcdDisk takes the disk away from whoever has it and gives it to the node
	// anew, as after a power failure: what it holds is what had reached it. No etcd
	// may run meanwhile, or be about to start.
	RenewEtcdDisk(ctx context.Context) error
}

// Kubelet is a node with a real kubelet: its control plane runs as static pods, pods
// have containers and images, and a system manager runs it all.
type Kubelet interface {
	// Manifests is the folder on the node whose static pods the kubelet runs.
	Manifests() string
}

// Components is a node whose components (kube-apiserver, kubelet, ...) are plain
// programs: each is stopped, replaced and started by itself, as a person does it on a
// machine without static pods. All three are told again without harm.
type Components interface {
	// StopComponent ends it and keeps it from being started, also when the node is
	// switched on. It returns when it has ended.
	StopComponent(ctx context.Context, name string) error
	// InstallComponent puts a program of this machine in the place of that which the
	// next start runs; what runs goes on. A kubelet that is hollow has no program,
	// and only says the version.
	InstallComponent(ctx context.Context, name, version, program string) error
	// StartComponent starts it, and keeps it running from now on.
	StartComponent(ctx context.Context, name string) error
}

// Output runs a command and returns its stdout.
func Output(ctx context.Context, n Node, argv ...string) ([]byte, error) {
	x, ok := n.(Execer)
	if !ok {
		return nil, fmt.Errorf("%s cannot run commands (capability %s)", n.Name(), CapExec)
	}
	var out strings.Builder
	if err := x.Exec(ctx, Command{Argv: argv, Stdout: &out}); err != nil {
		return nil, err
	}
	return []byte(out.String()), nil
}

// ByRole returns the nodes of one role, in order.
func ByRole(nodes []Node, r Role) []Node {
	var out []Node
	for _, n := range nodes {
		if n.Role() == r {
			out = append(out, n)
		}
	}
	return out
}

// Place is the name of a node's position that stays the same from run to run:
// control-plane[1], worker[0], load-balancer[0]. Scenarios, phases and JUnit
// use it; the node's own name carries the cluster's name.
func Place(n Node) string { return fmt.Sprintf("%s[%d]", n.Role(), n.Index()) }
