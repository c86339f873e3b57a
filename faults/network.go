package faults

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"gameday/clusters"
	"gameday/faults/mechanism/intake"
	"gameday/faults/mechanism/late"
	"gameday/faults/mechanism/process"
	"gameday/faults/mechanism/reach"
)

// What the faults of the network have in common: who the peers are, rules that are kept
// alive in the targets' namespaces, and how the way between two nodes is measured.

// Peers are words and places. In a scenario it is one, or a list.
type Peers []string

// UnmarshalYAML reads one or several.
func (p *Peers) UnmarshalYAML(v *yaml.Node) error {
	if v.Kind == yaml.ScalarNode {
		*p = Peers{v.Value}
		return nil
	}
	var list []string
	if err := v.Decode(&list); err != nil {
		return fmt.Errorf("line %d: a peer, or a list of peers: %w", v.Line, err)
	}
	*p = list
	return nil
}

// peerWords are the roles behind each word of From.
var peerWords = map[string][]clusters.Role{
	"apiservers":    {clusters.ControlPlane, clusters.LoadBalancer},
	"control-plane": {clusters.ControlPlane},
	"workers":       {clusters.Worker},
	"nodes":         {clusters.ControlPlane, clusters.Worker},
	"all":           {clusters.ControlPlane, clusters.Worker, clusters.LoadBalancer},
}

var placePattern = regexp.MustCompile(`^(control-plane|worker|load-balancer)\[\d+\]$`)

func (p Peers) validate() []error {
	var errs []error
	if len(p) == 0 {
		errs = append(errs, errors.New("from: say from whom: apiservers, control-plane, workers, nodes, all, or places such as worker[1]"))
	}
	for _, w := range p {
		if _, ok := peerWords[w]; !ok && !placePattern.MatchString(w) {
			errs = append(errs, fmt.Errorf("from: %q is none of apiservers, control-plane, workers, nodes, all, nor a place such as worker[1]", w))
		}
	}
	return errs
}

// nodes are those that are meant and are no targets.
func (p Peers) nodes(env Env) ([]clusters.Node, error) {
	var out []clusters.Node
	for _, n := range env.Cluster.Nodes() {
		hit := slices.ContainsFunc(p, func(w string) bool {
			return w == clusters.Place(n) || slices.Contains(peerWords[w], n.Role())
		})
		if hit && !isTarget(env, n) {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("cut off from %s: no node of the cluster is meant by that", strings.Join(p, ", "))
	}
	return out, nil
}

// sent is a rule about what the peers send, or forward for their pods.
func (p Peers) sent(ctx context.Context, env Env, r intake.Rule) ([]intake.Rule, error) {
	peers, err := p.nodes(env)
	if err != nil {
		return nil, err
	}
	for _, n := range peers {
		l, err := link(ctx, n)
		if err != nil {
			return nil, err
		}
		r.From = append(r.From, l.MAC)
	}
	return []intake.Rule{r}, nil
}

func link(ctx context.Context, n clusters.Node) (clusters.Link, error) {
	l, ok := n.(clusters.Network)
	if !ok {
		return clusters.Link{}, fmt.Errorf("%s does not show its link (capability %s)", n.Name(), clusters.CapNetwork)
	}
	return l.Link(ctx)
}

// life is how long pairs may live from now, in the kernel.
func life(deadline time.Time) time.Duration {
	return max(min(cutTTL, time.Until(deadline)), time.Millisecond)
}

// refresh keeps rules alive in the kernel. Those that have expired are not made again
// here: the proof finds them lost.
func refresh(ctx context.Context, again func(time.Duration) error, deadline time.Time, done chan struct{}, log func(string, ...any)) {
	defer close(done)
	tick := time.NewTicker(cutRefresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := again(life(deadline)); err != nil {
				log("keep it up: %v", err)
			}
		}
	}
}

// intakes are rules in the targets' own namespaces, kept alive by this process.
type intakes struct {
	mu       sync.Mutex
	nodes    map[string]*intakeOn
	deadline time.Time
	stop     context.CancelFunc
	done     chan struct{}
}

type intakeOn struct {
	in *intake.Intake
	ns string // which namespace it is
}

// namespace says which network namespace is behind a path: a restarted node has another.
func namespace(path string) (string, error) {
	ns, err := os.Readlink(path)
	if err != nil {
		return "", fmt.Errorf("network namespace: %w", err)
	}
	return ns, nil
}

// set puts rules onto all targets. Called again it replaces them, and follows a node that
// was restarted into its new namespace.
func (x *intakes) set(ctx context.Context, env Env, rules func(context.Context, clusters.Node) ([]intake.Rule, error)) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.nodes == nil {
		x.nodes = map[string]*intakeOn{}
		x.deadline = time.Now().Add(env.MaxHold)
		keep, stop := context.WithDeadline(context.WithoutCancel(ctx), x.deadline)
		x.stop, x.done = stop, make(chan struct{})
		go refresh(keep, x.again, x.deadline, x.done, env.Log)
	}
	for _, n := range env.Targets {
		l, err := link(ctx, n)
		if err != nil {
			return err
		}
		ns, err := namespace(l.NetNS)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		on := x.nodes[n.Name()]
		if on != nil && on.ns != ns {
			if err := on.in.Close(); err != nil {
				return err
			}
			on = nil
		}
		if on == nil {
			in, err := intake.Open(env.Tag, l.NetNS)
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name(), err)
			}
			on = &intakeOn{in, ns}
			x.nodes[n.Name()] = on
		}
		r, err := rules(ctx, n)
		if err != nil {
			return err
		}
		if err := on.in.Set(r, life(x.deadline)); err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
	}
	return nil
}

// again refreshes all.
func (x *intakes) again(ttl time.Duration) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var errs []error
	for _, on := range x.nodes {
		errs = append(errs, on.in.Refresh(ttl))
	}
	return errors.Join(errs...)
}

// heal removes the rules. In another process there is nothing to do where the kernel knows
// the owner of the tables; elsewhere (Linux before 5.12) it removes them.
func (x *intakes) heal(ctx context.Context, env Env) error {
	x.mu.Lock()
	nodes, stop := x.nodes, x.stop
	x.nodes, x.stop = nil, nil
	x.mu.Unlock()
	if nodes == nil {
		return sweepIntakes(ctx, env)
	}
	stop()
	<-x.done
	var errs []error
	for _, on := range nodes {
		errs = append(errs, on.in.Close())
	}
	return errors.Join(errs...)
}

func sweepIntakes(ctx context.Context, env Env) error {
	var errs []error
	for _, n := range env.Targets {
		l, err := link(ctx, n)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		left, err := intake.Sweep(l.NetNS, env.Tag)
		for _, t := range left {
			if t.Held {
				env.Log("%s: the table inet %s belongs to a living process; its rules expire within %s", n.Name(), t.Table, cutTTL)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// holding is a process that holds packets back on all targets.
type holding struct {
	mu       sync.Mutex
	holder   *late.Holder
	on       string // which namespaces and packets
	deadline time.Time
}

// holdingNotes are the notes: to kill the process is a safe way to end the effect.
type holdingNotes struct {
	Holder process.Ref `json:"holder"`
}

// hold begins, changes the shape, or follows targets that were re-created.
func (h *holding) hold(ctx context.Context, env Env, s late.Shape, rules func(context.Context, clusters.Node) ([]intake.Rule, error)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var targets []late.Target
	var on []string
	for _, n := range env.Targets {
		l, err := link(ctx, n)
		if err != nil {
			return err
		}
		ns, err := namespace(l.NetNS)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		r, err := rules(ctx, n)
		if err != nil {
			return err
		}
		targets = append(targets, late.Target{NetNS: l.NetNS, Rules: r})
		on = append(on, fmt.Sprintf("%s %+v", ns, r))
	}
	is := strings.Join(on, "\n")
	if h.holder != nil {
		if h.on == is && h.holder.Set(ctx, s) == nil {
			return nil
		}
		if err := h.holder.Stop(ctx); err != nil {
			return err
		}
		h.holder = nil
	}
	if h.deadline.IsZero() {
		h.deadline = time.Now().Add(env.MaxHold)
	}
	holder, err := late.Start(ctx, late.Options{
		Tag: env.Tag, Targets: targets, Shape: s, MaxHold: max(time.Until(h.deadline), time.Millisecond), TTL: cutTTL,
	})
	if err != nil {
		return err
	}
	h.holder, h.on = holder, is
	// After the act, for once: the child could not be named before, and it ends with
	// this process whatever the journal says.
	return env.Notes.Save(holdingNotes{holder.Ref()})
}

// heal ends the process: by its lease, or in another process by its name.
func (h *holding) heal(ctx context.Context, env Env) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holder != nil {
		if err := h.holder.Stop(ctx); err != nil {
			return err
		}
		h.holder = nil
	}
	var notes holdingNotes
	if found, err := env.Notes.Load(&notes); err != nil || !found {
		return err
	}
	return errors.Join(kill(ctx, []process.Ref{notes.Holder}), sweepIntakes(ctx, env))
}

// way is what was measured of the way between a target and its peers.
type way struct {
	peers []reach.Series
	// control is the way to somebody else, who has that name.
	control reach.Series
	name    string
}

// sum adds up what was sent and answered.
func (w way) sum() (sent, answered, overtaken int) {
	for _, s := range w.peers {
		sent, answered, overtaken = sent+s.Sent, answered+s.Answered, overtaken+s.Overtaken
	}
	return sent, answered, overtaken
}

// median is that of the peer for whom it differs most from d.
func (w way) median(d time.Duration) time.Duration {
	worst := w.peers[0].Quantile(0.5)
	for _, s := range w.peers {
		if m := s.Quantile(0.5); (m - d).Abs() > (worst - d).Abs() {
			worst = m
		}
	}
	return worst
}

// addresses are the link of a node, and where its peers are.
func addresses(ctx context.Context, n clusters.Node, peers []clusters.Node) (clusters.Link, []netip.Addr, error) {
	own, err := link(ctx, n)
	if err != nil {
		return own, nil, err
	}
	var addrs []netip.Addr
	for _, p := range peers {
		l, err := link(ctx, p)
		if err != nil {
			return own, nil, err
		}
		a, err := ipv4(l)
		if err != nil {
			return own, nil, fmt.Errorf("%s: %w", p.Name(), err)
		}
		addrs = append(addrs, a)
	}
	return own, addrs, nil
}

// measureWay sends n echo requests from inside a node to each peer and to those outside.
func measureWay(ctx context.Context, env Env, n clusters.Node, peers []clusters.Node, probes int, every, wait time.Duration) (way, error) {
	own, addrs, err := addresses(ctx, n, peers)
	if err != nil {
		return way{}, err
	}
	names, controls := outside(ctx, env, own, peers)
	if len(controls) == 0 {
		return way{}, fmt.Errorf("%s: nobody can be the control: there is no other node, and no default gateway", n.Name())
	}
	found, err := reach.Measure(ctx, own.NetNS, slices.Concat(addrs, controls), probes, every, wait)
	if err != nil {
		return way{}, fmt.Errorf("%s: %w", n.Name(), err)
	}
	w := way{peers: found[:len(peers)]}
	// Another fault may have hit a control too: the best one is enough.
	best := -1
	for i, s := range found[len(peers):] {
		if s.Answered > 0 && (best < 0 || s.Lost() < w.control.Lost() || s.Lost() == w.control.Lost() && s.Quantile(0.5) < w.control.Quantile(0.5)) {
			best, w.control, w.name = i, s, names[i]
		}
	}
	if best < 0 {
		return way{}, fmt.Errorf("%s: no control answers", n.Name())
	}
	return w, nil
}

// outside are those who must go on answering: the nodes that are neither targets nor
// peers, and the bridge's own host, to which no frame is touched.
func outside(ctx context.Context, env Env, own clusters.Link, peers []clusters.Node) (names []string, addrs []netip.Addr) {
	for _, n := range env.Cluster.Nodes() {
		if isTarget(env, n) || slices.ContainsFunc(peers, func(p clusters.Node) bool { return p.Name() == n.Name() }) {
			continue
		}
		l, err := link(ctx, n)
		if err != nil {
			continue // down itself: no control
		}
		if a, err := ipv4(l); err == nil {
			names, addrs = append(names, clusters.Place(n)), append(addrs, a)
		}
	}
	if a, err := gateway(procFile(own.NetNS, "route")); err == nil {
		names, addrs = append(names, "the bridge's host "+a.String()), append(addrs, a)
	}
	return names, addrs
}

func ipv4(l clusters.Link) (netip.Addr, error) {
	for _, a := range l.IPs {
		if a.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, errors.New("its link has no IPv4 address, which the proof needs")
}

// procFile is a file of /proc/PID/net, for the namespace /proc/PID/ns/net.
func procFile(netns, name string) string {
	return filepath.Join(filepath.Dir(filepath.Dir(netns)), "net", name)
}

// gateway is the default gateway in a file like /proc/net/route.
func gateway(route string) (netip.Addr, error) {
	b, err := os.ReadFile(route)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("default gateway: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != "00000000" {
			continue
		}
		raw, err := hex.DecodeString(f[2]) // in the byte order of this machine: little-endian on amd64 and arm64
		if err != nil || len(raw) != 4 {
			return netip.Addr{}, fmt.Errorf("%s: %q is no gateway", route, f[2])
		}
		return netip.AddrFrom4([4]byte{raw[3], raw[2], raw[1], raw[0]}), nil
	}
	return netip.Addr{}, fmt.Errorf("%s has no default route", route)
}
