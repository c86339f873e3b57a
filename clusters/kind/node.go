package kind

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"gameday/clusters"
)

// apiServerPort is where every API server and the load balancer listen.
const apiServerPort = 6443

// node is a node seen through Docker only. It can run commands and read and
// write files.
type node struct {
	name  string
	id    string // of the container
	role  clusters.Role
	index int
	ip    netip.Addr
	// published is the address on this machine that leads to port 6443 of the
	// container; empty for a worker.
	published string
	gateway   netip.Addr

	// kill ends what is left on the node of a command with this token.
	kill func(ctx context.Context, token string) error
}

func (n *node) Name() string        { return n.name }
func (n *node) Role() clusters.Role { return n.role }
func (n *node) Index() int          { return n.index }
func (n *node) IP() netip.Addr      { return n.ip }

// Manifests implements clusters.Kubelet.
func (n *node) Manifests() string { return "/etc/kubernetes/manifests" }

// localNode is a node whose container runs on this machine, seen by root: its
// files, processes and link are reached without its help.
type localNode struct {
	*node
	state state
}

// state is what is known of the running container. A restart makes it stale.
type state struct {
	mu    sync.Mutex
	pid   int
	start string // of the process, to tell it from a later one with its pid
	mac   net.HardwareAddr
}

// nodesOf turns a cluster's containers into nodes in stable order. local says
// that processes and networks of the containers can be reached from here.
func nodesOf(cluster string, containers []container, local bool) ([]clusters.Node, error) {
	var nodes []*node
	for _, c := range containers {
		n, err := newNode(cluster, c)
		if err != nil {
			return nil, err
		}
		if local && !n.ip.IsValid() && c.HostsPath != "" {
			// It is off. Who cannot say its address cannot be switched on, but all else
			// can be done.
			n.ip, _ = lastAddress(c.HostsPath, n.name)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes { // kind has them all on one network
		for _, other := range nodes {
			if !n.gateway.IsValid() {
				n.gateway = other.gateway
			}
		}
	}
	slices.SortFunc(nodes, func(a, b *node) int { return inOrder(a, b) })
	out := make([]clusters.Node, len(nodes))
	for i, n := range nodes {
		if local {
			l := &localNode{node: n}
			n.kill = killLocal
			out[i] = l
		} else {
			n.kill = n.killInside
			out[i] = n
		}
	}
	return out, nil
}

// inOrder is the order of nodes: by role, then by index.
func inOrder(a, b clusters.Node) int {
	order := map[clusters.Role]int{clusters.ControlPlane: 0, clusters.Worker: 1, clusters.LoadBalancer: 2}
	return cmp.Or(cmp.Compare(order[a.Role()], order[b.Role()]), cmp.Compare(a.Index(), b.Index()))
}

func newNode(cluster string, c container) (*node, error) {
	n := &node{name: c.name(), id: c.ID}
	var err error
	if n.role, n.index, err = place(cluster, n.name, c.Config.Labels[kindRole]); err != nil {
		return nil, err
	}
	// kind puts its containers on one network.
	for _, net := range c.NetworkSettings.Networks {
		if net.IPAddress == "" {
			continue // the container does not run
		}
		if n.ip, err = netip.ParseAddr(net.IPAddress); err != nil {
			return nil, fmt.Errorf("address of %s: %w", n.name, err)
		}
		if net.Gateway != "" {
			if n.gateway, err = netip.ParseAddr(net.Gateway); err != nil {
				return nil, fmt.Errorf("gateway of %s: %w", n.name, err)
			}
		}
	}
	const port = "6443/tcp"
	bindings := c.NetworkSettings.Ports[port]
	if len(bindings) == 0 { // off: kind chose the port itself, and it stays
		bindings = c.HostConfig.PortBindings[port]
	}
	for _, p := range bindings {
		n.published = net.JoinHostPort(p.HostIP, p.HostPort)
	}
	return n, nil
}

// place reads role and index out of kind's role label and container name:
// NAME-control-plane, NAME-control-plane2, NAME-worker, ...
func place(cluster, name, label string) (clusters.Role, int, error) {
	var role clusters.Role
	switch label {
	case "control-plane":
		role = clusters.ControlPlane
	case "worker":
		role = clusters.Worker
	case "external-load-balancer":
		role = clusters.LoadBalancer
	default:
		return "", 0, fmt.Errorf("container %s has the unknown role %q in its label %s", name, label, kindRole)
	}
	number, ok := strings.CutPrefix(name, cluster+"-"+label)
	if !ok {
		return "", 0, fmt.Errorf("container %s is not named after its cluster %s and role %s", name, cluster, label)
	}
	if number == "" {
		return role, 0, nil
	}
	i, err := strconv.Atoi(number)
	if err != nil || i < 2 {
		return "", 0, fmt.Errorf("container %s: %q is no number of a node", name, number)
	}
	return role, i - 1, nil
}

// InitPID implements clusters.Processes.
func (n *localNode) InitPID(ctx context.Context) (int, error) {
	s, err := n.current(ctx)
	return s.pid, err
}

// running is a snapshot of state.
type running struct {
	pid int
	mac net.HardwareAddr
}

// current is the container's state: remembered as long as its first process
// lives, asked for again after a restart.
func (n *localNode) current(ctx context.Context) (running, error) {
	n.state.mu.Lock()
	defer n.state.mu.Unlock()
	if n.state.pid != 0 {
		if start, err := startTime(n.state.pid); err == nil && start == n.state.start {
			return running{n.state.pid, n.state.mac}, nil
		}
		n.state.pid = 0
	}
	found, err := inspect(ctx, n.id)
	if err != nil {
		return running{}, fmt.Errorf("%s: %w", n.name, err)
	}
	c := found[0]
	if !c.State.Running || c.State.Pid == 0 {
		return running{}, fmt.Errorf("%s: its container does not run", n.name)
	}
	start, err := startTime(c.State.Pid)
	if err != nil {
		return running{}, fmt.Errorf("%s: its first process %d: %w", n.name, c.State.Pid, err)
	}
	var mac net.HardwareAddr
	for _, e := range c.NetworkSettings.Networks {
		if mac, err = net.ParseMAC(e.MacAddress); err != nil {
			return running{}, fmt.Errorf("%s: MAC address: %w", n.name, err)
		}
	}
	n.state.pid, n.state.start, n.state.mac = c.State.Pid, start, mac
	return running{c.State.Pid, mac}, nil
}

// startTime is field 22 of /proc/PID/stat; the name before it, in parentheses,
// may hold anything: proc(5).
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", err
	}
	s := string(b)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	const n = 22 - 3
	if len(fields) <= n {
		return "", errors.New("its stat is too short")
	}
	return fields[n], nil
}
