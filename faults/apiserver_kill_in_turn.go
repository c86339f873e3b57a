package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/process"
)

var apiserverKillInTurn = Kind{
	Name: "apiserver.kill-in-turn",
	Doc:  "Kills the kube-apiserver processes of the targets one after the other, each when the one before serves again.",
	Rehearses: "Every change of the control plane that restarts all API servers, new certificates or a new flag: at no time is more " +
		"than one away, yet every client is disconnected once or more, and all land on those that are left " +
		"(https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/#manual-certificate-renewal).",
	Mechanism: "SIGKILL by pidfd to the kube-apiserver below the node's first process, on one target after the other",
	Undo:      "the process that kills ends with gameday, or at maxHold; the kubelet restarts the static pods",
	Roles:     []clusters.Role{clusters.ControlPlane},
	Needs:     []clusters.Capability{clusters.CapProcesses},
	Cost:      Cost{APIServers: 1, InTurn: true},
	// All targets have been down once: each is back after the kubelet's back-off, at
	// most 5 min between crashes, and half a minute at first.
	ProveWithin: 20 * time.Minute,
	GoneWithin:  7 * time.Minute,
	Instant:     true,
	Trials:      []Trial{{Name: "apiserver-kill-in-turn", Target: Target{Pick: PickAll}}},
	New:         func() Fault { return &APIServerKillInTurn{} },
}

// turnEvery is between two looks at whether the next one's turn has come.
const turnEvery = 100 * time.Millisecond

// APIServerKillInTurn is the fault apiserver.kill-in-turn.
type APIServerKillInTurn struct {
	// Gap is the least time from one kill to the next; the next one waits in any case
	// until the one before serves again.
	Gap time.Duration `yaml:"gap" json:"gap"`

	mu    sync.Mutex
	stop  context.CancelFunc
	done  chan struct{}
	err   error // why the round ended early
	turns map[string]turn
}

// turn is what became of one target.
type turn struct {
	killed, down time.Time
}

// Validate implements Validator.
func (f *APIServerKillInTurn) Validate() []error {
	if f.Gap < 0 || f.Gap > 10*time.Minute {
		return []error{fmt.Errorf("gap: %s is not between 0, the next one at once when the one before serves, and 10m", f.Gap)}
	}
	return nil
}

// Describe implements Describer.
func (f *APIServerKillInTurn) Describe(targets []string) []string {
	var out []string
	for i, t := range targets {
		line := t + ": pidfd_send_signal(kube-apiserver, SIGKILL)"
		if i > 0 {
			line += ", when " + targets[i-1] + " serves again"
			if f.Gap > 0 {
				line += ", and no sooner than " + f.Gap.String() + " after its kill"
			}
		}
		out = append(out, line)
	}
	return out
}

// Inject kills the first and lets the others follow, each once. A second Inject does
// not begin anew.
func (f *APIServerKillInTurn) Inject(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop != nil {
		return nil
	}
	notes, err := notesOf(env)
	if err != nil {
		return err
	}
	for _, n := range env.Targets { // none of them may be missing when its turn comes
		if _, err := apiserver().running(ctx, n); err != nil {
			return err
		}
	}
	round, stop := context.WithTimeout(context.WithoutCancel(ctx), env.MaxHold)
	f.stop, f.done, f.turns = stop, make(chan struct{}), map[string]turn{}
	go func() {
		defer close(f.done)
		err := f.round(round, env, notes)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = err
	}()
	return nil
}

// round is one turn after the other.
func (f *APIServerKillInTurn) round(ctx context.Context, env Env, notes struck) error {
	tick := time.NewTicker(turnEvery)
	defer tick.Stop()
	for i, n := range env.Targets {
		refs, err := apiserver().running(ctx, n)
		if err != nil {
			return err
		}
		notes.add(n, refs)
		if err := env.Notes.Save(notes); err != nil {
			return err
		}
		at := time.Now()
		if err := kill(ctx, refs); err != nil {
			return err
		}
		f.mu.Lock()
		f.turns[n.Name()] = turn{killed: at}
		f.mu.Unlock()
		if i == len(env.Targets)-1 {
			return nil
		}
		var last error
		for again := false; !again; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("%s does not serve again, so that the next one is spared: %w", n.Name(), last)
			}
			last = f.back(ctx, env, n, refs)
			again = last == nil && time.Since(at) >= f.Gap
		}
	}
	return nil
}

// back says why a target that was killed does not serve again.
func (f *APIServerKillInTurn) back(ctx context.Context, env Env, n clusters.Node, killed []process.Ref) error {
	f.mu.Lock()
	seen := !f.turns[n.Name()].down.IsZero()
	f.mu.Unlock()
	if !seen { // the next one waits until the proof has seen it down, too
		return fmt.Errorf("%s was not seen to be down", n.Name())
	}
	of, err := stillThere(killed)
	if err == nil && of != "" {
		err = errors.New(of)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name(), err)
	}
	return readyz(ctx, env.Cluster, n)
}

// Heal ends the round. It ends with the process that goes it, so that in another one
// there is nothing to do.
func (f *APIServerKillInTurn) Heal(context.Context, Env) error {
	f.mu.Lock()
	stop, done := f.stop, f.done
	f.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
	return nil
}

// Prove asks every API server, and remembers which it has seen down: all of them are
// hit when each was, though never all at once.
func (f *APIServerKillInTurn) Prove(ctx context.Context, env Env) (Effect, error) {
	notes, err := notesOf(env)
	if err != nil {
		return Effect{}, err
	}
	s := apiserver()
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		out, err := s.look(ctx, env, n, notes, endedAndDown, stillThere)
		if err != nil {
			return out, err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		t, hit := f.turns[n.Name()]
		switch {
		case hit && t.down.IsZero() && out.broken:
			t.down = time.Now()
			f.turns[n.Name()] = t
		case !hit:
			out.broken = false // it was not its turn yet
		}
		if !t.down.IsZero() {
			out.broken = true
			out.evidence = fmt.Sprintf("killed at %s and down %s later; now %s", t.killed.Format("15:04:05.000"), t.down.Sub(t.killed).Round(time.Millisecond), out.evidence)
		}
		return out, nil
	})
	if err != nil {
		return e, err
	}
	e.At = time.Now()
	if e.Active = e.Active && !e.Gone; e.Active {
		e = s.withControl(ctx, env, e)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		e.Evidence += "; " + strings.ReplaceAll(f.err.Error(), "\n", "; ")
	}
	return e, nil
}
