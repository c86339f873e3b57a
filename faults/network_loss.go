package faults

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/intake"
)

var networkLoss = Kind{
	Name: "network.loss",
	Doc:  "Loses a part of what other nodes send to the targets.",
	Rehearses: "A bad cable, optic or switch port: most of it works, health checks pass, and all of it is slow, because TCP waits for its " +
		"retransmission timeout and sends less after each loss (https://www.rfc-editor.org/rfc/rfc6298, " +
		"https://www.rfc-editor.org/rfc/rfc5681).",
	Mechanism:   "nftables inet table in the target's namespace that drops packets from the peers' hardware addresses as drawn by the kernel (numgen)",
	Undo:        "the kernel: the table goes with the process that owns it, and its rules expire 10 s after their last refresh",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapNetwork},
	Cost:        Cost{},
	ProveWithin: 30 * time.Second,
	GoneWithin:  30 * time.Second,
	Trials: []Trial{
		{Name: "loss", Target: Target{Pick: PickOne, Role: "worker"}},
		{Name: "loss-much", Target: Target{Pick: PickOne, Role: "control-plane"}, With: "{from: control-plane, percent: 30}"},
	},
	New: func() Fault { return &Loss{From: Peers{"nodes"}, Percent: 10} },
}

// Loss is the fault network.loss.
type Loss struct {
	// From says what is lost: a part of what these send, as for network.partition, their
	// pods too.
	From Peers `yaml:"from" json:"from"`
	// Percent of the packets that are lost.
	Percent float64 `yaml:"percent" json:"percent"`

	rules intakes
}

const (
	// lossProbes are sent to all peers together, one each lossEvery to each.
	lossProbes = 4000
	lossEvery  = time.Millisecond
	// sigmas is how many standard deviations of the draw the measure may be off.
	sigmas = 4
)

// Validate implements Validator.
func (f *Loss) Validate() []error {
	errs := f.From.validate()
	if !(f.Percent >= 1 && f.Percent <= 95) {
		errs = append(errs, fmt.Errorf("percent: %v is not between 1 and 95; all of it is network.partition", f.Percent))
	}
	return errs
}

// Describe implements Describer.
func (f *Loss) Describe(targets []string) []string {
	return each(targets, fmt.Sprintf("%%s: nft add rule inet gameday-TAG prerouting ether saddr { %s } numgen random mod 100000 < %.0f drop",
		strings.Join(f.From, ", "), f.Percent*1000))
}

// Inject begins to lose packets.
func (f *Loss) Inject(ctx context.Context, env Env) error {
	return f.rules.set(ctx, env, func(ctx context.Context, _ clusters.Node) ([]intake.Rule, error) {
		return f.From.sent(ctx, env, intake.Rule{Lose: f.Percent / 100})
	})
}

// Heal removes the rules.
func (f *Loss) Heal(ctx context.Context, env Env) error { return f.rules.heal(ctx, env) }

// Prove counts the answers to echo requests from inside the targets.
func (f *Loss) Prove(ctx context.Context, env Env) (Effect, error) {
	peers, err := f.From.nodes(env)
	if err != nil {
		return Effect{}, err
	}
	var fig figure
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		w, err := measureWay(ctx, env, n, peers, lossProbes/len(peers), lossEvery, answerGrace)
		if err != nil {
			return seen{}, err
		}
		sent, answered, _ := w.sum()
		if sent == 0 {
			return seen{}, fmt.Errorf("%s: no probe could be sent", n.Name())
		}
		part, asked := 1-float64(answered)/float64(sent), f.Percent/100
		off := sigmas*math.Sqrt(asked*(1-asked)/float64(sent)) + w.control.Lost()
		s := seen{
			broken:   math.Abs(part-asked) <= off,
			whole:    part < asked/5,
			evidence: fmt.Sprintf("%d of %d probes to %s lost, %.1f %%", sent-answered, sent, strings.Join(f.From, ", "), part*100),
		}
		if w.control.Lost() > asked/5 { // something else loses packets too
			s.broken, s.whole = false, false
			s.evidence += fmt.Sprintf("; but so does %s", w.name)
		}
		fig.add(f.Percent, part*100, fmt.Sprintf("%s loses %.1f %% to %s", w.name, w.control.Lost()*100, clusters.Place(n)))
		return s, nil
	})
	return fig.into(e, "%"), err
}
