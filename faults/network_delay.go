package faults

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/intake"
	"gameday/faults/mechanism/late"
)

var networkDelay = Kind{
	Name: "network.delay",
	Doc:  "Delays what other nodes send to the targets: each round trip between them takes that much longer.",
	Rehearses: "A stretched cluster, or a congested link. etcd's heartbeat interval should be about the round trip between its members, " +
		"and its election timeout ten times that (https://etcd.io/docs/v3.6/tuning/#time-parameters).",
	Mechanism: "packets from the peers' hardware addresses wait in a netfilter queue of the target's namespace, whose listener is a " +
		"process of its own; no netem, which many kernels lack and whose qdiscs nothing takes away with a killed process",
	Undo:        "the kernel: the nftables table goes with the listening process and that with gameday; without a listener packets pass",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapNetwork},
	Cost:        Cost{},
	ProveWithin: 30 * time.Second,
	GoneWithin:  30 * time.Second,
	Trials: []Trial{
		{Name: "delay", Target: Target{Pick: PickOne, Role: "worker"}},
		{Name: "delay-jitter", Target: Target{Pick: PickOne, Role: "control-plane"}, With: "{from: control-plane, delay: 60ms, jitter: 30ms}"},
	},
	New: func() Fault { return &Delay{From: Peers{"nodes"}, Delay: 50 * time.Millisecond} },
}

// Delay is the fault network.delay.
type Delay struct {
	// From says what is delayed: what these send, as for network.partition, their pods
	// too.
	From Peers `yaml:"from" json:"from"`
	// Delay of each packet. What the target sends is not delayed, so that the round trip
	// takes that much longer.
	Delay time.Duration `yaml:"delay" json:"delay"`
	// Jitter is by how much the delay goes up and down, as the length of a queue does: no
	// packet overtakes another. For that there is network.reorder.
	Jitter time.Duration `yaml:"jitter,omitempty" json:"jitter,omitempty"`

	held holding
}

const (
	// delayProbes are sent to each peer, one each delayEvery.
	delayProbes = 60
	delayEvery  = 5 * time.Millisecond
	// answerGrace is how long an answer may take beyond what was asked for.
	answerGrace = 300 * time.Millisecond
	// delayMiss is how far the median may be from what was asked for, on a busy machine.
	delayMiss = 5 * time.Millisecond
)

// Validate implements Validator.
func (f *Delay) Validate() []error {
	errs := f.From.validate()
	// A round trip takes 0.1 ms between nodes on one machine.
	if f.Delay < 5*time.Millisecond || f.Delay > 10*time.Second {
		errs = append(errs, fmt.Errorf("delay: %s is not between 5ms and 10s", f.Delay))
	}
	if f.Jitter < 0 || f.Jitter > f.Delay {
		errs = append(errs, fmt.Errorf("jitter: %s is not between 0 and the delay, %s", f.Jitter, f.Delay))
	}
	return errs
}

// Describe implements Describer.
func (f *Delay) Describe(targets []string) []string {
	by := f.Delay.String()
	if f.Jitter > 0 {
		by += " ± " + f.Jitter.String()
	}
	return each(targets, "%s: nft add rule inet gameday-TAG prerouting ether saddr { "+strings.Join(f.From, ", ")+" } queue bypass; verdict after "+by)
}

func (f *Delay) shape() late.Shape { return late.Shape{Delay: f.Delay, Jitter: f.Jitter} }

// Inject begins to delay, or changes by how much.
func (f *Delay) Inject(ctx context.Context, env Env) error {
	return f.held.hold(ctx, env, f.shape(), func(ctx context.Context, _ clusters.Node) ([]intake.Rule, error) {
		return f.From.sent(ctx, env, intake.Rule{})
	})
}

// Heal ends the process that holds packets back.
func (f *Delay) Heal(ctx context.Context, env Env) error { return f.held.heal(ctx, env) }

// Prove measures round trips from inside the targets.
func (f *Delay) Prove(ctx context.Context, env Env) (Effect, error) {
	peers, err := f.From.nodes(env)
	if err != nil {
		return Effect{}, err
	}
	var fig figure
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		probes := delayProbes
		if f.Jitter > 0 { // several turns of it: see late.Shape
			probes = max(probes, int(24*f.Jitter/delayEvery))
		}
		w, err := measureWay(ctx, env, n, peers, probes, delayEvery, f.Delay+f.Jitter+answerGrace)
		if err != nil {
			return seen{}, err
		}
		s := seen{broken: true, whole: true}
		var lines []string
		for i, p := range w.peers {
			m := p.Quantile(0.5)
			s.broken = s.broken && p.Answered > p.Sent/2 && (m-f.Delay).Abs() <= delayMiss+f.Delay/20+f.Jitter/2
			// As fast as others, who are not delayed.
			s.whole = s.whole && p.Answered > p.Sent/2 && m < max(f.Delay/3, time.Millisecond)
			line := fmt.Sprintf("%s %.1f ms", clusters.Place(peers[i]), ms(m))
			if f.Jitter > 0 {
				line += fmt.Sprintf(" (%.1f to %.1f)", ms(p.Quantile(0.02)), ms(p.Quantile(0.98)))
			}
			lines = append(lines, line)
		}
		if w.control.Quantile(0.5) > f.Delay/3 { // the machine is too busy to tell
			s.broken, s.whole = false, false
		}
		fig.add(ms(f.Delay), ms(w.median(f.Delay)), fmt.Sprintf("%s answers %s in %.1f ms", w.name, clusters.Place(n), ms(w.control.Quantile(0.5))))
		s.evidence = "median round trip to " + strings.Join(lines, ", ")
		return s, nil
	})
	return fig.into(e, "ms"), err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// figure is the measure of the target that is farthest from what was asked for, and the
// controls of all.
type figure struct {
	mu              sync.Mutex
	asked, measured float64
	seen            bool
	controls        []string
}

func (f *figure) add(asked, measured float64, control string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.seen || math.Abs(measured-asked) > math.Abs(f.measured-f.asked) {
		f.asked, f.measured, f.seen = asked, measured, true
	}
	f.controls = append(f.controls, control)
}

func (f *figure) into(e Effect, unit string) Effect {
	e.Asked, e.Measured, e.Unit = f.asked, f.measured, unit
	e.Control, e.At = strings.Join(f.controls, ", "), time.Now()
	return e
}
