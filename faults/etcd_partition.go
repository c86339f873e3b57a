package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/cut"
)

var etcdPartition = Kind{
	Name: "etcd.partition",
	Doc:  "Cuts etcd members off from one another, in one of the shapes of a partition; all else between their nodes passes.",
	Rehearses: "A network partition among the members. With the target leader it is the leader that is cut off: the others elect another one, " +
		"and it must step down instead of answering with what is old (https://etcd.io/docs/v3.6/op-guide/failures/#network-partition). The shapes " +
		"bridge and ring, in which not everybody sees the same, broke etcd's elections at Cloudflare on 2020-11-02 " +
		"(https://blog.cloudflare.com/a-byzantine-failure-in-the-real-world/).",
	Mechanism: "nftables bridge table that drops TCP to and from port 2380, by pairs of hardware addresses: it is etcd's alone, so that kubelets, " +
		"API servers and probes see only what etcd's trouble makes of them (network.partition cuts everything)",
	Undo:        "the kernel: the table goes with the process that owns it, and each pair expires 10 s after its last refresh",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapNetwork, clusters.CapProcesses},
	Cost:        Cost{EtcdMembers: 1, APIServers: 1},
	ProveWithin: 15 * time.Second,
	// The API server beside a member that lost its quorum may be restarted by its
	// liveness probe: as for etcd.stop.
	GoneWithin: 7 * time.Minute,
	Trials: []Trial{
		{Name: "etcd-isolate-leader", Target: Target{Pick: PickLeader}},
		{Name: "etcd-isolate-follower", Target: Target{Pick: PickFollower}},
		{Name: "etcd-split", Target: Target{Pick: PickMinority}, With: "{shape: split}"},
		{Name: "etcd-bridge", Target: Target{Pick: PickFollower}, With: "{shape: bridge}"},
		{Name: "etcd-ring", Target: Target{Pick: PickAll}, With: "{shape: ring}"},
	},
	New: func() Fault { return &EtcdPartition{Shape: "isolate"} },
}

// EtcdPartition is the fault etcd.partition.
type EtcdPartition struct {
	// Shape says who is cut off from whom: isolate (each target from all members), split
	// (the targets together from the others), bridge (the others are in two halves that
	// only the targets see both of), ring (of all targets: each hears a majority, and each
	// another one), all (each target from each other one).
	Shape string `yaml:"shape" json:"shape"`

	cut heldCut
}

var etcdShapes = []string{"isolate", "split", "bridge", "ring", "all"}

// peerConnect is how long a connection to a peer may take. Between nodes on one machine
// it takes less than a millisecond, and the first retransmission comes after a second.
const peerConnect = 700 * time.Millisecond

// Validate implements Validator.
func (f *EtcdPartition) Validate() []error {
	if !slices.Contains(etcdShapes, f.Shape) {
		return []error{fmt.Errorf("shape: %q is none of %s", f.Shape, strings.Join(etcdShapes, ", "))}
	}
	return nil
}

// Describe implements Describer.
func (f *EtcdPartition) Describe(targets []string) []string {
	return each(targets, "nft add element bridge gameday-TAG pairs { "+f.Shape+" %s } (tcp port "+clusters.EtcdPeerPort+") timeout "+
		cutTTL.String()+", refreshed each "+cutRefresh.String())
}

// lost are the directions that are cut, by the places of the nodes.
func (f *EtcdPartition) lost(targets, all []string) ([]lost[string], error) {
	var out []lost[string]
	switch f.Shape {
	case "isolate":
		out = isolated(targets, all)
	case "split":
		out = split(targets, all)
	case "bridge":
		out = bridged(targets, all)
	case "ring":
		out = ringOfMajorities(targets)
	case "all":
		out = allApart(targets)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("shape %s of %s among %s: nobody would be cut off from anybody", f.Shape, strings.Join(targets, ", "), strings.Join(all, ", "))
	}
	return out, nil
}

// members are all that may be cut off, and what is cut.
func (f *EtcdPartition) members(env Env) (map[string]clusters.Node, []lost[string], error) {
	at := map[string]clusters.Node{}
	var all, targets []string
	for _, n := range clusters.ByRole(env.Cluster.Nodes(), clusters.ControlPlane) {
		at[clusters.Place(n)] = n
		all = append(all, clusters.Place(n))
		if isTarget(env, n) {
			targets = append(targets, clusters.Place(n))
		}
	}
	pairs, err := f.lost(targets, all)
	return at, pairs, err
}

// Inject resolves the addresses anew each time.
func (f *EtcdPartition) Inject(ctx context.Context, env Env) error {
	at, directions, err := f.members(env)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(clusters.EtcdPeerPort, 10, 16)
	if err != nil {
		return err
	}
	links := map[string]clusters.Link{}
	first, err := link(ctx, env.Targets[0])
	if err != nil {
		return err
	}
	for place, n := range at {
		if links[place], err = link(ctx, n); err != nil {
			return err
		}
		if links[place].BridgeNetNS != first.BridgeNetNS {
			return fmt.Errorf("%s and %s are on different bridges, and no pair of addresses is seen by both", place, clusters.Place(env.Targets[0]))
		}
	}
	var pairs []cut.Pair
	for _, d := range directions {
		pairs = append(pairs, cut.Pair{Src: links[d.from].MAC, Dst: links[d.to].MAC})
	}
	return f.cut.set(ctx, env,
		func() (*cut.Cut, error) { return cut.OpenPort(env.Tag, first.BridgeNetNS, uint16(port)) },
		func(c *cut.Cut, ttl time.Duration) error { return c.Set(pairs, ttl) })
}

// Heal implements Fault.
func (f *EtcdPartition) Heal(ctx context.Context, env Env) error { return f.cut.heal(ctx, env) }

// Prove connects from inside each member's node to each other one's peer port, asks what
// each says of itself, and connects to a port beside it.
func (f *EtcdPartition) Prove(ctx context.Context, env Env) (Effect, error) {
	at, directions, err := f.members(env)
	if err != nil {
		return Effect{}, err
	}
	// A connection needs both directions.
	cutOff := func(a, b string) bool {
		return slices.Contains(directions, lost[string]{a, b}) || slices.Contains(directions, lost[string]{b, a})
	}
	type ask struct {
		from, to string
		open     bool
		err      error
	}
	var asks []*ask
	var all sync.WaitGroup
	for a := range at {
		for b := range at {
			if a == b {
				continue
			}
			x := &ask{from: a, to: b}
			asks = append(asks, x)
			all.Go(func() { x.open, x.err = peerOpen(ctx, at[a], at[b], clusters.EtcdPeerPort) })
		}
	}
	var beside bool
	var besideErr error
	all.Go(func() {
		d := directions[0]
		beside, besideErr = peerOpen(ctx, at[d.from], at[d.to], clusters.EtcdClientPort)
	})
	all.Wait()
	e := Effect{Active: true, Gone: true, At: time.Now()}
	var silent, open []string
	for _, x := range asks {
		if x.err != nil {
			return Effect{}, x.err
		}
		name := x.from + ">" + x.to
		if x.open {
			open = append(open, name)
		} else {
			silent = append(silent, name)
		}
		if cutOff(x.from, x.to) {
			e.Active, e.Gone = e.Active && !x.open, e.Gone && x.open
		} else {
			// Another fault may have hit somebody else, which is not for this one to say.
			e.Gone = e.Gone && (x.open || !f.about(env, at, x.from, x.to))
		}
	}
	slices.Sort(silent)
	slices.Sort(open)
	e.Evidence = fmt.Sprintf("port %s: silent %s, open %s; leaders: %s", clusters.EtcdPeerPort, listed(silent), listed(open), f.views(ctx, env, at))
	if e.Active {
		// The nodes see each other beside that port, and members that are not cut off do by it.
		if besideErr != nil || !beside {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but port %s from %s to %s is not open either", clusters.EtcdClientPort, directions[0].from, directions[0].to)
		} else {
			e.Control = fmt.Sprintf("port %s from %s to %s is open", clusters.EtcdClientPort, directions[0].from, directions[0].to)
		}
	}
	if e.Gone {
		var errs []error
		for _, n := range env.Targets {
			errs = append(errs, serves(ctx, env, n))
		}
		if err := errors.Join(errs...); err != nil {
			e.Gone = false
			e.Evidence += "; but " + err.Error()
		}
	}
	return e, nil
}

// about says whether one of two places is a target.
func (*EtcdPartition) about(env Env, at map[string]clusters.Node, a, b string) bool {
	return isTarget(env, at[a]) || isTarget(env, at[b])
}

func listed(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, " ")
}

// views says whom each member takes for its leader.
func (*EtcdPartition) views(ctx context.Context, env Env, at map[string]clusters.Node) string {
	var lines []string
	var mu sync.Mutex
	var all sync.WaitGroup
	for place, n := range at {
		all.Go(func() {
			s, err := memberStatus(ctx, env.Cluster, n)
			line := place + " none"
			switch {
			case s == nil && err != nil:
				line = place + " does not answer"
			case s.Leader != 0:
				line = fmt.Sprintf("%s %x in term %d", place, s.Leader, s.RaftTerm)
			}
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, line)
		})
	}
	all.Wait()
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// peerOpen connects from inside one node to a port of another one. Silence is what is
// looked for; a refusal means that nobody listens, and the way is open.
func peerOpen(ctx context.Context, from, to clusters.Node, port string) (bool, error) {
	within, cancel := context.WithTimeout(ctx, peerConnect)
	defer cancel()
	conn, err := fromInside(from)(within, "tcp", net.JoinHostPort(to.IP().String(), port))
	var silent net.Error
	switch {
	case err == nil:
		return true, conn.Close()
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.As(err, &silent) && silent.Timeout():
		return false, nil
	case judge(err, false, false) == refusing:
		return true, nil
	}
	return false, err
}
