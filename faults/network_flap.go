package faults

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/cut"
	"gameday/faults/mechanism/reach"
)

var networkFlap = Kind{
	Name: "network.flap",
	Doc:  "Cuts the targets off from other nodes again and again: a partition that comes and goes.",
	Rehearses: "A link or a route that flaps: each time connections stall and come back with TCP's backoff, leases are nearly lost, and whoever waits " +
		"for calm before he acts never does (https://www.rfc-editor.org/rfc/rfc2439).",
	Mechanism:   "as network.partition, both ways, lifted and made again by a clock",
	Undo:        "the kernel: the table goes with the process that owns it, and each pair expires at the end of its down time",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapNetwork},
	Cost:        Cost{Nodes: 1},
	ProveWithin: 90 * time.Second,
	GoneWithin:  90 * time.Second,
	Trials:      []Trial{{Name: "flap", Target: Target{Pick: PickOne, Role: "worker"}, With: "{down: 1s, up: 1s}"}},
	New:         func() Fault { return &Flap{From: Peers{"apiservers"}, Down: 5 * time.Second, Up: 10 * time.Second} },
}

// flapSlack is how much longer than a turn is watched.
const flapSlack = 500 * time.Millisecond

// Flap is the fault network.flap.
type Flap struct {
	// From says from whom, as for network.partition.
	From Peers `yaml:"from" json:"from"`
	// Down and Up are how long the partition lasts, and how long it does not, in turn.
	Down time.Duration `yaml:"down" json:"down"`
	Up   time.Duration `yaml:"up" json:"up"`

	mu    sync.Mutex
	cut   *cut.Cut
	pairs []cut.Pair
	stop  context.CancelFunc
	done  chan struct{}
}

// Validate implements Validator.
func (f *Flap) Validate() []error {
	errs := f.From.validate()
	for name, d := range map[string]time.Duration{"down": f.Down, "up": f.Up} {
		// Shorter ones cannot be told from a busy machine; longer ones from two partitions,
		// and that it is over is seen only by watching for so long.
		if d < 500*time.Millisecond || d > 10*time.Second {
			errs = append(errs, fmt.Errorf("%s: %s is not between 500ms and 10s", name, d))
		}
	}
	return errs
}

// Describe implements Describer.
func (f *Flap) Describe(targets []string) []string {
	return each(targets, "nft add element bridge gameday-TAG pairs { %s <-> "+strings.Join(f.From, ", ")+" timeout "+f.Down.String()+" }, again "+f.Up.String()+" after each end")
}

// Inject begins, or follows targets that were re-created.
func (f *Flap) Inject(ctx context.Context, env Env) error {
	p := &Partition{From: f.From, Direction: "both"}
	pairs, bridge, err := p.pairs(ctx, env)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pairs = pairs
	if f.cut != nil {
		return nil // the next time it is these
	}
	c, err := cut.Open(env.Tag, bridge)
	if err != nil {
		return err
	}
	if err := c.Set(pairs, min(f.Down, env.MaxHold)); err != nil {
		return joinClose(err, c)
	}
	deadline := time.Now().Add(env.MaxHold)
	again, stop := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	f.cut, f.stop, f.done = c, stop, make(chan struct{})
	go f.flap(again, c, deadline, f.done, env.Log)
	return nil
}

func joinClose(err error, c *cut.Cut) error {
	if cerr := c.Close(); cerr != nil {
		return fmt.Errorf("%w; %w", err, cerr)
	}
	return err
}

// flap makes the cut again. What ends each is its time to live, in the kernel, so that a
// process that hangs leaves it up.
func (f *Flap) flap(ctx context.Context, c *cut.Cut, deadline time.Time, done chan struct{}, log func(string, ...any)) {
	defer close(done)
	tick := time.NewTicker(f.Down + f.Up)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.mu.Lock()
			pairs := f.pairs
			f.mu.Unlock()
			if err := c.Set(pairs, max(min(f.Down, time.Until(deadline)), time.Millisecond)); err != nil {
				log("cut again: %v", err)
			}
		}
	}
}

// Heal is as that of network.partition.
func (f *Flap) Heal(ctx context.Context, env Env) error {
	f.mu.Lock()
	c, stop, done := f.cut, f.stop, f.done
	f.cut = nil
	f.mu.Unlock()
	if c == nil {
		return sweepCuts(ctx, env)
	}
	stop()
	<-done
	return c.Close()
}

// Prove looks for longer than a turn takes. It flaps if all peers were seen answering as
// well as silent, and does not if they were never silent.
func (f *Flap) Prove(ctx context.Context, env Env) (Effect, error) {
	peers, err := f.From.nodes(env)
	if err != nil {
		return Effect{}, err
	}
	var fig figure
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		w, err := f.watch(ctx, env, n, peers)
		if err != nil {
			return seen{}, err
		}
		if len(w.lengths) > 0 {
			var sum time.Duration
			for _, d := range w.lengths {
				sum += d
			}
			fig.add(ms(f.Down), ms(sum/time.Duration(len(w.lengths))), w.control)
		} else {
			fig.add(0, 0, w.control)
		}
		return seen{
			broken: w.downs > 0 && w.ups > 0,
			whole:  w.downs == 0 && w.odd == 0 && w.ups > 0,
			evidence: fmt.Sprintf("in %.1f s its peers were seen silent %d times, answering %d times, neither %d times",
				w.took.Seconds(), w.downs, w.ups, w.odd),
		}, nil
	})
	if fig.asked == 0 {
		e.Control, e.At = strings.Join(fig.controls, ", "), time.Now()
		return e, err
	}
	return fig.into(e, "ms"), err
}

// flapSeen is what was seen in a turn.
type flapSeen struct {
	downs, ups, odd int
	// lengths of the silences that were seen from begin to end.
	lengths []time.Duration
	control string
	took    time.Duration
}

func (f *Flap) watch(ctx context.Context, env Env, n clusters.Node, peers []clusters.Node) (flapSeen, error) {
	var out flapSeen
	began := time.Now()
	var since, lastDown time.Time // of the silence now; zero if there is none, or its begin was not seen
	wasUp := false
	// Long enough for a silence from begin to end. When there was none in the time
	// between two of them, it does not flap.
	for window := 2*f.Down + f.Up + flapSlack; time.Since(began) < window && (out.downs > 0 || time.Since(began) < f.Up+flapSlack); {
		states, control, err := f.look(ctx, env, n, peers)
		if err != nil {
			return out, err
		}
		out.control = control
		switch {
		case states[reach.Silent] == len(peers):
			if out.downs++; wasUp {
				since = time.Now()
			}
			wasUp, lastDown = false, time.Now()
		case states[reach.Answering] == len(peers):
			if !since.IsZero() && !lastDown.IsZero() {
				out.lengths = append(out.lengths, time.Since(since))
			}
			out.ups++
			wasUp, since = true, time.Time{}
		default:
			out.odd++
		}
		if out.downs > 0 && out.ups > 0 && len(out.lengths) > 0 {
			break
		}
	}
	out.took = time.Since(began)
	return out, nil
}

// look looks at the peers once, which takes about 20 ms.
func (f *Flap) look(ctx context.Context, env Env, n clusters.Node, peers []clusters.Node) (map[reach.State]int, string, error) {
	own, addrs, err := addresses(ctx, n, peers)
	if err != nil {
		return nil, "", err
	}
	names, controls := outside(ctx, env, own, peers)
	found, err := reach.Look(ctx, own.NetNS, append(addrs, controls...), reachWindow)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", n.Name(), err)
	}
	states := map[reach.State]int{}
	for _, p := range found[:len(peers)] {
		states[p.State]++
	}
	for i, c := range found[len(peers):] {
		if c.State == reach.Answering {
			return states, fmt.Sprintf("%s answers %s all the time", names[i], clusters.Place(n)), nil
		}
	}
	return nil, "", fmt.Errorf("%s: no control answers: %v", n.Name(), found[len(peers):])
}
