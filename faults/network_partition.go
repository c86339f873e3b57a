package faults

import (
	"bufio"
	"context"
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
	"gameday/faults/mechanism/reach"
)

var networkPartition = Kind{
	Name: "network.partition",
	Doc:  "Cuts the targets off from other nodes on the wire: packets are lost, nobody is told, connections hang.",
	Rehearses: "A failing switch or a wrong firewall rule. One way it is what took Cloudflare's control plane down on " +
		"2020-11-02 (https://blog.cloudflare.com/a-byzantine-failure-in-the-real-world/); both ways, for 43 s, what cost " +
		"GitHub a day on 2018-10-21 (https://github.blog/2018-10-30-oct21-post-incident-analysis/).",
	Mechanism: "nftables bridge table that drops frames by pairs of hardware addresses (IPv4 and IPv6, pod traffic of the node " +
		"too), with timeouts; the proof is by IPv4",
	Undo:        "the kernel: the table goes with the process that owns it, and each pair expires 10 s after its last refresh",
	Roles:       []clusters.Role{clusters.ControlPlane, clusters.Worker},
	Needs:       []clusters.Capability{clusters.CapNetwork},
	Cost:        Cost{Nodes: 1},
	ProveWithin: 10 * time.Second,
	GoneWithin:  30 * time.Second, // a hung process's pairs expire in cutTTL
	Trials: []Trial{
		{Name: "partition", Target: Target{Nodes: []string{"worker[0]"}}},
		{Name: "partition-in", Target: Target{Nodes: []string{"worker[1]"}}, With: "{from: control-plane, direction: in}"},
		{Name: "partition-out", Target: Target{Pick: PickOne, Role: "control-plane"}, With: "{from: all, direction: out}"},
	},
	New: func() Fault { return &Partition{From: Peers{"apiservers"}, Direction: "both"} },
}

const (
	// cutTTL is how long a pair stays cut without a refresh; cutRefresh is between
	// two refreshes. A process that hangs keeps its cut for cutTTL.
	cutTTL     = 10 * time.Second
	cutRefresh = 2 * time.Second
	// reachWindow bounds one look at who can be reached, which takes about 20 ms.
	reachWindow = 2 * time.Second
)

// Partition is the fault network.partition. Targets stay connected among
// themselves: two control planes that are cut off from the control-plane are an
// island of two.
type Partition struct {
	// From says from whom: apiservers (every control plane and the load balancer,
	// through which kind's workers reach the API), control-plane, workers, nodes
	// (control planes and workers), all (nodes and the load balancer), or places
	// such as worker[1]. Several may be given as a list.
	From Peers `yaml:"from" json:"from"`
	// Direction as the targets see it: both, out (what they send is lost), in
	// (what is sent to them is lost).
	Direction string `yaml:"direction" json:"direction"`

	cut heldCut
}

// Validate implements Validator.
func (f *Partition) Validate() []error {
	errs := f.From.validate()
	if !slices.Contains([]string{"both", "in", "out"}, f.Direction) {
		errs = append(errs, fmt.Errorf("direction: %q is none of both, in, out (as the target sees it)", f.Direction))
	}
	return errs
}

// Describe implements Describer.
func (f *Partition) Describe(targets []string) []string {
	arrow := map[string]string{"both": "<->", "in": "<-", "out": "->"}[f.Direction]
	return each(targets, "nft add element bridge gameday-TAG pairs { %s "+arrow+" "+strings.Join(f.From, ", ")+" timeout "+cutTTL.String()+" }, refreshed each "+cutRefresh.String())
}

// pairs are what is to be cut, by the addresses that the nodes have now.
func (f *Partition) pairs(ctx context.Context, env Env) (pairs []cut.Pair, bridge string, err error) {
	peers, err := f.From.nodes(env)
	if err != nil {
		return nil, "", err
	}
	links := map[string]clusters.Link{}
	for _, n := range slices.Concat(env.Targets, peers) {
		l, err := link(ctx, n)
		if err != nil {
			return nil, "", err
		}
		links[n.Name()] = l
		if l.BridgeNetNS != links[env.Targets[0].Name()].BridgeNetNS {
			return nil, "", fmt.Errorf("%s and %s are on different bridges, and no pair of addresses is seen by both", n.Name(), env.Targets[0].Name())
		}
	}
	for _, t := range env.Targets {
		for _, p := range peers {
			target, peer := links[t.Name()].MAC, links[p.Name()].MAC
			if f.Direction != "in" {
				pairs = append(pairs, cut.Pair{Src: target, Dst: peer})
			}
			if f.Direction != "out" {
				pairs = append(pairs, cut.Pair{Src: peer, Dst: target})
			}
		}
	}
	return pairs, links[env.Targets[0].Name()].BridgeNetNS, nil
}

// Inject resolves the addresses anew each time: a container that was restarted
// has another one.
func (f *Partition) Inject(ctx context.Context, env Env) error {
	pairs, bridge, err := f.pairs(ctx, env)
	if err != nil {
		return err
	}
	return f.cut.set(ctx, env,
		func() (*cut.Cut, error) { return cut.Open(env.Tag, bridge) },
		func(c *cut.Cut, ttl time.Duration) error { return c.Set(pairs, ttl) })
}

// Heal implements Fault.
func (f *Partition) Heal(ctx context.Context, env Env) error { return f.cut.heal(ctx, env) }

// Prove looks from inside the targets who answers.
func (f *Partition) Prove(ctx context.Context, env Env) (Effect, error) {
	peers, err := f.From.nodes(env)
	if err != nil {
		return Effect{}, err
	}
	var mu sync.Mutex
	var controls []string
	var last time.Time
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		s, control, at, err := f.from(ctx, env, n, peers)
		mu.Lock()
		defer mu.Unlock()
		controls = append(controls, control)
		if at.After(last) {
			last = at
		}
		return s, err
	})
	if err != nil {
		return e, err
	}
	slices.Sort(controls)
	e.Control, e.At = strings.Join(slices.Compact(controls), ", "), last
	return e, nil
}

// from looks at the peers from inside one target.
func (f *Partition) from(ctx context.Context, env Env, n clusters.Node, peers []clusters.Node) (seen, string, time.Time, error) {
	own, err := link(ctx, n)
	if err != nil {
		return seen{}, "", time.Time{}, err
	}
	var addrs []netip.Addr
	var nets []string
	for _, p := range peers {
		l, err := link(ctx, p)
		if err != nil {
			return seen{}, "", time.Time{}, err
		}
		a, err := ipv4(l)
		if err != nil {
			return seen{}, "", time.Time{}, fmt.Errorf("%s: %w", p.Name(), err)
		}
		addrs, nets = append(addrs, a), append(nets, l.NetNS)
	}
	before, err := echoes(nets)
	if err != nil {
		return seen{}, "", time.Time{}, err
	}
	names, controls := outside(ctx, env, own, peers)
	if len(controls) == 0 {
		return seen{}, "", time.Time{}, fmt.Errorf("%s: nobody can be the control: there is no node outside the cut, and no default gateway", n.Name())
	}
	found, err := reach.Look(ctx, own.NetNS, slices.Concat(addrs, controls), reachWindow)
	at := time.Now()
	if err != nil {
		return seen{}, "", at, fmt.Errorf("%s: %w", n.Name(), err)
	}
	after, err := echoes(nets)
	if err != nil {
		return seen{}, "", at, err
	}
	// Another fault may have hit a control too: one that answers is enough.
	var control string
	for i, c := range found[len(peers):] {
		if c.State == reach.Answering {
			control = fmt.Sprintf("%s answers %s (%d/%d echoes)", names[i], clusters.Place(n), c.Answered, c.Sent)
			break
		}
	}
	if control == "" {
		return seen{}, "", at, fmt.Errorf("%s: no control answers: %v", n.Name(), found[len(peers):])
	}
	s := seen{broken: true, whole: true}
	var lines []string
	for i, p := range found[:len(peers)] {
		s.broken = s.broken && p.State == reach.Silent && f.arrived(after[i]-before[i], p.Sent)
		s.whole = s.whole && p.State == reach.Answering
		lines = append(lines, fmt.Sprintf("%s %s (%d/%d echoes, %d arrived there)", clusters.Place(peers[i]), p.State, p.Answered, p.Sent, after[i]-before[i]))
	}
	s.evidence = strings.Join(lines, ", ")
	return s, control, at, nil
}

// arrived tells the direction: with the way in cut, what the target sends must
// still arrive (all but the newest few), and only the answers are lost; with the
// way out cut nothing may.
func (f *Partition) arrived(n, sent int) bool {
	if f.Direction == "in" {
		return n >= sent/2
	}
	return n < max(sent/2, 1)
}

// echoes are the ICMP echo requests that each namespace has received.
func echoes(nets []string) ([]int, error) {
	var out []int
	for _, ns := range nets {
		n, err := inEchos(procFile(ns, "snmp"))
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// inEchos reads Icmp InEchos (RFC 2011) from a file like /proc/net/snmp, which
// has a line of names and a line of values for each protocol.
func inEchos(snmp string) (int, error) {
	f, err := os.Open(snmp)
	if err != nil {
		return 0, fmt.Errorf("count echo requests: %w", err)
	}
	defer f.Close()
	var names []string
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		switch {
		case len(fields) == 0 || fields[0] != "Icmp:":
		case names == nil:
			names = fields
		default:
			i := slices.Index(names, "InEchos")
			if i < 0 || i >= len(fields) {
				return 0, fmt.Errorf("%s has no InEchos", snmp)
			}
			return strconv.Atoi(fields[i])
		}
	}
	return 0, fmt.Errorf("%s has no counters of ICMP", snmp)
}
