package faults

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/cut"
)

var networkHalfOpen = Kind{
	Name: "network.half-open",
	Doc: "Lets the connections that the targets have to the API at this moment go dead without a reset: neither end hears the other any more, " +
		"new connections pass.",
	Rehearses: "A firewall, a NAT or a load balancer that forgets connections, or a peer that vanished: whoever does not look after his connections " +
		"waits for TCP to give up, about 15 minutes. That is how kubelets hung, their nodes NotReady, when a load balancer lost a master " +
		"(https://github.com/kubernetes/kubernetes/issues/41916, https://github.com/kubernetes/kubernetes/issues/48638); since then they close " +
		"connections whose heartbeat fails, which this tries.",
	Mechanism:   "nftables bridge table that drops the segments of single TCP connections, which were established when the fault was injected",
	Undo:        "the kernel: the table goes with the process that owns it, and each connection expires 10 s after its last refresh",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapNetwork, clusters.CapProcesses},
	Cost:        Cost{Kubelets: 1},
	ProveWithin: 60 * time.Second,
	// TCP tries again after at most two minutes: linux include/net/tcp.h TCP_RTO_MAX.
	GoneWithin: 4 * time.Minute,
	Trials:     []Trial{{Name: "half-open", Target: Target{Pick: PickOne, Role: "worker"}}},
	New:        func() Fault { return &HalfOpen{} },
}

// HalfOpen is the fault network.half-open. It has no parameters.
type HalfOpen struct {
	cut heldCut
	mu  sync.Mutex
	// bitten are the nodes of which a connection was seen to send in vain.
	bitten map[string]bool
}

// deadConnections are the notes: what is cut, by node.
type deadConnections map[string][]cut.Connection

// Describe implements Describer.
func (*HalfOpen) Describe(targets []string) []string {
	return each(targets, "nft add element bridge gameday-TAG connections { each that %s has now to port "+apiserverPort+
		" of a control plane or the load balancer } timeout "+cutTTL.String()+", refreshed each "+cutRefresh.String())
}

// Inject cuts the connections that there are the first time. A second one cuts no more:
// those that took their place are what the fault is to leave alone.
func (f *HalfOpen) Inject(ctx context.Context, env Env) error {
	notes := deadConnections{}
	if _, err := env.Notes.Load(&notes); err != nil {
		return err
	}
	var bridge string
	for i, n := range env.Targets {
		l, err := link(ctx, n)
		if err != nil {
			return err
		}
		if i > 0 && bridge != l.BridgeNetNS {
			return fmt.Errorf("%s and %s are on different bridges", n.Name(), env.Targets[0].Name())
		}
		bridge = l.BridgeNetNS
		if len(notes[n.Name()]) > 0 {
			continue
		}
		conns, err := f.established(ctx, env, l)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		for _, c := range conns {
			notes[n.Name()] = append(notes[n.Name()], c.ends)
		}
		if len(conns) == 0 {
			return fmt.Errorf("%s has no connection to the API that could be cut", n.Name())
		}
	}
	if err := env.Notes.Save(notes); err != nil {
		return err
	}
	var all []cut.Connection
	for _, n := range env.Targets {
		all = append(all, notes[n.Name()]...)
	}
	return f.cut.set(ctx, env,
		func() (*cut.Cut, error) { return cut.OpenConnections(env.Tag, bridge) },
		func(c *cut.Cut, ttl time.Duration) error { return c.SetConnections(all, ttl) })
}

// Heal implements Fault. Connections that live still go on.
func (f *HalfOpen) Heal(ctx context.Context, env Env) error { return f.cut.heal(ctx, env) }

// socket is a line of /proc/net/tcp.
type socket struct {
	ends        cut.Connection
	established bool
	// retried says how often what was sent last was sent again, in vain.
	retried int
}

// established are the connections of a node to the API.
func (f *HalfOpen) established(ctx context.Context, env Env, own clusters.Link) ([]socket, error) {
	b, err := os.ReadFile(procFile(own.NetNS, "tcp"))
	if err != nil {
		return nil, err
	}
	all, err := sockets(string(b))
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(apiserverPort, 10, 16)
	if err != nil {
		return nil, err
	}
	servers := map[netip.Addr]bool{}
	for _, n := range env.Cluster.Nodes() {
		if n.Role() == clusters.Worker {
			continue
		}
		l, err := link(ctx, n)
		if err != nil {
			continue // down: nobody is connected to it
		}
		for _, a := range l.IPs {
			servers[a] = !slices.Contains(own.IPs, a)
		}
	}
	return slices.DeleteFunc(all, func(s socket) bool {
		return !s.established || !servers[s.ends.B.Addr()] || s.ends.B.Port() != uint16(port)
	}), nil
}

// sockets reads a file like /proc/net/tcp: linux Documentation/networking/proc_net_tcp.rst.
func sockets(table string) ([]socket, error) {
	var out []socket
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 7 || f[0] == "sl" {
			continue
		}
		var ends [2]netip.AddrPort
		for i, s := range f[1:3] {
			a, p, ok := strings.Cut(s, ":")
			raw, err := hex.DecodeString(a)
			port, perr := strconv.ParseUint(p, 16, 16)
			if !ok || err != nil || perr != nil || len(raw) != 4 {
				return nil, fmt.Errorf("%q is no line of /proc/net/tcp", line)
			}
			var ip [4]byte
			binary.NativeEndian.PutUint32(ip[:], binary.BigEndian.Uint32(raw))
			ends[i] = netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(port))
		}
		retried, err := strconv.ParseUint(f[6], 16, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is no line of /proc/net/tcp: %w", line, err)
		}
		const established = "01" // TCP_ESTABLISHED: linux include/net/tcp_states.h
		out = append(out, socket{ends: cut.Connection{A: ends[0], B: ends[1]}, established: f[3] == established, retried: int(retried)})
	}
	return out, nil
}

// Prove looks at the kernel's own account of the connections: those that are cut send
// again and again without an answer, until their owner gives them up, while new ones to
// the same servers are opened.
func (f *HalfOpen) Prove(ctx context.Context, env Env) (Effect, error) {
	notes := deadConnections{}
	if _, err := env.Notes.Load(&notes); err != nil {
		return Effect{}, err
	}
	holds := f.cut.held()
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		own, err := link(ctx, n)
		if err != nil {
			return seen{}, err
		}
		now, err := f.established(ctx, env, own)
		if err != nil {
			return seen{}, err
		}
		var stuck, alive, idle, ended int
		for _, c := range notes[n.Name()] {
			i := slices.IndexFunc(now, func(s socket) bool { return s.ends == c })
			switch {
			case i < 0:
				ended++
			case now[i].retried >= 2: // one may be the network's own
				stuck++
			case now[i].retried == 1:
				idle++
			default:
				alive++
			}
		}
		open, err := f.fresh(ctx, env, n)
		if err != nil {
			return seen{}, err
		}
		f.mu.Lock()
		if f.bitten == nil {
			f.bitten = map[string]bool{}
		}
		// Once seen, it may be given up by its owner: that is what is hoped for.
		f.bitten[n.Name()] = f.bitten[n.Name()] || stuck > 0
		bitten := f.bitten[n.Name()]
		f.mu.Unlock()
		return seen{
			broken: open && bitten && holds,
			whole:  open && stuck == 0 && idle == 0 && (!holds || len(notes[n.Name()]) == 0),
			evidence: fmt.Sprintf("of %d connections to the API %d send in vain, %d were given up, %d had nothing to send; a new one %s",
				len(notes[n.Name()]), stuck, ended, alive+idle, map[bool]string{true: "is opened", false: "is not opened"}[open]),
		}, nil
	})
	if err != nil {
		return e, err
	}
	e.At = time.Now()
	if e.Active {
		rest := f.bystanders(env)
		e.Control, err = control(ctx, rest, "opens connections to the API, none of its own is stuck", func(ctx context.Context, n clusters.Node) error {
			own, err := link(ctx, n)
			if err != nil {
				return err
			}
			now, err := f.established(ctx, env, own)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(now, func(s socket) bool { return s.retried >= 2 }) {
				return fmt.Errorf("%s: connections are stuck too", n.Name())
			}
			return nil
		})
		if err != nil {
			e.Active = false
			e.Evidence += "; but nobody else is well either: " + err.Error()
		}
	}
	return e, nil
}

func (*HalfOpen) bystanders(env Env) []clusters.Node {
	return slices.DeleteFunc(env.Cluster.Nodes(), func(n clusters.Node) bool {
		return isTarget(env, n) || !slices.Contains(machines, n.Role())
	})
}

// fresh says whether a new connection from a node to some API server is opened.
func (*HalfOpen) fresh(ctx context.Context, env Env, n clusters.Node) (bool, error) {
	var errs []error
	for _, to := range others(env) {
		open, err := peerOpen(ctx, n, to, apiserverPort)
		if open {
			return true, nil
		}
		errs = append(errs, err)
	}
	return false, errors.Join(errs...)
}
