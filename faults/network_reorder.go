package faults

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/intake"
	"gameday/faults/mechanism/late"
)

var networkReorder = Kind{
	Name: "network.reorder",
	Doc:  "Holds a part of what other nodes send to the targets back, so that what was sent later overtakes it.",
	Rehearses: "Packets of one connection over ways of different length, as when a router or a bond of links spreads them one by one: TCP takes " +
		"it for loss and sends again (https://www.rfc-editor.org/rfc/rfc4737).",
	Mechanism:   "as network.delay, of which packets drawn one by one pass at once",
	Undo:        "the kernel: the nftables table goes with the listening process and that with gameday; without a listener packets pass",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapNetwork},
	Cost:        Cost{},
	ProveWithin: 30 * time.Second,
	GoneWithin:  30 * time.Second,
	Trials:      []Trial{{Name: "reorder", Target: Target{Pick: PickOne, Role: "worker"}}},
	New:         func() Fault { return &Reorder{From: Peers{"nodes"}, Percent: 25, Delay: 20 * time.Millisecond} },
}

// Reorder is the fault network.reorder.
type Reorder struct {
	// From says what is reordered: what these send, as for network.partition.
	From Peers `yaml:"from" json:"from"`
	// Percent of the packets that are held back, each for Delay.
	Percent float64       `yaml:"percent" json:"percent"`
	Delay   time.Duration `yaml:"delay" json:"delay"`

	held holding
}

// Validate implements Validator.
func (f *Reorder) Validate() []error {
	errs := f.From.validate()
	if !(f.Percent >= 5 && f.Percent <= 75) {
		errs = append(errs, fmt.Errorf("percent: %v is not between 5 and 75; with more there is hardly anything left that overtakes", f.Percent))
	}
	if f.Delay < 10*time.Millisecond || f.Delay > time.Second {
		errs = append(errs, fmt.Errorf("delay: %s is not between 10ms and 1s", f.Delay))
	}
	return errs
}

// Describe implements Describer.
func (f *Reorder) Describe(targets []string) []string {
	return each(targets, fmt.Sprintf("%%s: nft add rule inet gameday-TAG prerouting ether saddr { %s } queue bypass; verdict for %g percent of them after %s",
		strings.Join(f.From, ", "), f.Percent, f.Delay))
}

// Inject begins to hold packets back.
func (f *Reorder) Inject(ctx context.Context, env Env) error {
	return f.held.hold(ctx, env, late.Shape{Delay: f.Delay, Part: f.Percent / 100}, func(ctx context.Context, _ clusters.Node) ([]intake.Rule, error) {
		return f.From.sent(ctx, env, intake.Rule{})
	})
}

// Heal ends the process that holds packets back.
func (f *Reorder) Heal(ctx context.Context, env Env) error { return f.held.heal(ctx, env) }

// Prove counts the answers that come after the answer to a later echo request. Of those
// that are held back nearly all do, because the requests follow in a tenth of the delay.
func (f *Reorder) Prove(ctx context.Context, env Env) (Effect, error) {
	peers, err := f.From.nodes(env)
	if err != nil {
		return Effect{}, err
	}
	var fig figure
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		w, err := measureWay(ctx, env, n, peers, max(200, 1000/len(peers)), min(f.Delay/10, 5*time.Millisecond), f.Delay+answerGrace)
		if err != nil {
			return seen{}, err
		}
		sent, answered, overtaken := w.sum()
		if answered <= sent/2 {
			return seen{evidence: fmt.Sprintf("%d of %d probes answered", answered, sent)}, nil
		}
		part, asked := float64(overtaken)/float64(answered), f.Percent/100
		s := seen{
			broken: math.Abs(part-asked) <= sigmas*math.Sqrt(asked*(1-asked)/float64(answered))+0.05,
			whole:  part < asked/5,
			evidence: fmt.Sprintf("%d of %d answers from %s were overtaken, %.1f %%", overtaken, answered,
				strings.Join(f.From, ", "), part*100),
		}
		turned := 0.0
		if w.control.Answered > 0 {
			turned = float64(w.control.Overtaken) / float64(w.control.Answered)
		}
		if turned > asked/5 {
			s.broken, s.whole = false, false
		}
		fig.add(f.Percent, part*100, fmt.Sprintf("%.1f %% of those from %s to %s", turned*100, w.name, clusters.Place(n)))
		return s, nil
	})
	return fig.into(e, "% overtaken"), err
}
