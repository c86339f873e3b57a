package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults"
	"gameday/faults/mechanism/child"
	"gameday/harness/history"
	"gameday/harness/inject"
)

// VictimEntry is the name, among the entry points that a program gives to
// child.Main, of the process that injects a fault and is killed for it.
const VictimEntry = "verify-victim"

// startWithin bounds the start of a victim and the way to its moment.
const startWithin = time.Minute

// Moment in the life of a fault: some time after a state was reached.
type Moment struct {
	State string        `json:"state"`
	After time.Duration `json:"after"`
}

func (m Moment) String() string {
	return fmt.Sprintf("%s + %s", m.State, m.After.Round(100*time.Microsecond))
}

// DrawMoment draws a moment: while it is injected, while it is held, or while it is
// healed, each as likely as the others.
func DrawMoment(rng *rand.Rand) Moment {
	switch rng.IntN(3) {
	case 0: // an injection takes up to some tens of milliseconds
		return Moment{"armed", time.Duration(rng.Int64N(int64(60 * time.Millisecond)))}
	case 1:
		return Moment{"proven", time.Duration(rng.Int64N(int64(time.Second)))}
	}
	return Moment{"healing", time.Duration(rng.Int64N(int64(30 * time.Millisecond)))}
}

// VictimArgs are the arguments of a victim.
type VictimArgs struct {
	Provider, Cluster, Run, Dir string
	Trial                       string
	Nodes                       []string
	// Until is the state that is reported.
	Until string
	Hold  time.Duration
	Lease time.Duration
}

// Victim is a run with one fault, for child.Main. It lives its whole life, and
// reports when that has come to a state.
func Victim(catalogue []faults.Kind, open inject.Open) child.Func {
	return func(ctx context.Context, c *child.Conn) error {
		var args VictimArgs
		if err := c.Args(&args); err != nil {
			return err
		}
		trials, err := Select(catalogue, []string{args.Trial})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(trials, func(t Trial) bool { return t.Name == args.Trial })
		if i < 0 {
			return fmt.Errorf("no trial %s", args.Trial)
		}
		cl, err := open(ctx, args.Provider, args.Cluster)
		if err != nil {
			return err
		}
		return args.live(ctx, c, trials[i], cl)
	}
}

func (args VictimArgs) live(ctx context.Context, c *child.Conn, t Trial, cl clusters.Cluster) error {
	j, err := inject.OpenJournal(filepath.Join(args.Dir, "journal.jsonl"), inject.Header{Run: args.Run, Provider: args.Provider, Cluster: args.Cluster})
	if err != nil {
		return err
	}
	if _, err := inject.StartGuard(ctx, j, args.Lease); err != nil {
		return err
	}
	f, err := t.fault()
	if err != nil {
		return err
	}
	var targets []clusters.Node
	for _, n := range cl.Nodes() {
		if slices.Contains(args.Nodes, n.Name()) {
			targets = append(targets, n)
		}
	}
	var told sync.Once
	in, err := inject.New(inject.Config{
		ID: t.Name, Kind: t.Kind, Fault: f, Journal: j,
		Env: faults.Env{
			Cluster: cl, Targets: targets, Tag: inject.Tag(args.Run, t.Name), MaxHold: maxHold,
			Log: func(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) },
		},
		Record: func(h history.Injection, at time.Time) {
			fmt.Fprintln(os.Stderr, at.Format(time.RFC3339Nano), h.State, h.Error)
			if h.State == args.Until {
				told.Do(func() { err = c.Ready(h.State) })
			}
		},
	})
	if err != nil {
		return err
	}
	if err := in.Start(ctx); err != nil {
		return err
	}
	window, cancel := context.WithTimeout(ctx, args.Hold)
	in.Watch(window)
	cancel()
	if t.Kind.Instant {
		// It has no length: a moment of its being held is one of waiting.
		if err := pause(ctx, args.Hold); err != nil {
			return err
		}
	}
	if err := in.Stop(ctx); err != nil {
		return err
	}
	<-ctx.Done() // whoever kills it is on the way
	return nil
}

// victims are the trials that are killed: one of each fault, of those that passed
// the one that was whole again soonest.
func (v *Verifier) victims(trials []Trial, rows []Row) []Trial {
	best := map[string]Trial{}
	var order []string
	for _, t := range trials {
		r, err := rowOf(rows, t.Name)
		if err != nil || r.Verdict != Pass {
			continue // what does not let go by itself is not made worse
		}
		b, ok := best[t.Kind.Name]
		if !ok {
			order = append(order, t.Kind.Name)
		} else if have, err := rowOf(rows, b.Name); err == nil && have.lengthOf() <= r.lengthOf() {
			continue
		}
		best[t.Kind.Name] = t
	}
	var out []Trial
	for _, name := range order {
		out = append(out, best[name])
	}
	return out
}

// Kill makes one trial in a process of its own that is killed at a moment drawn
// from the seed. Then the guard, or the kernel, leaves nothing of it.
func (v *Verifier) Kill(ctx context.Context, t Trial) Kill {
	m := DrawMoment(v.rand("verify/kill/" + t.Name))
	if t.Kind.Instant && m.State == "healing" {
		m.State = "proven" // what the cluster heals has no such state
	}
	return v.KillAt(ctx, t, m)
}

// KillAt is Kill at a given moment.
func (v *Verifier) KillAt(ctx context.Context, t Trial, m Moment) Kill {
	k := Kill{Fault: t.Kind.Name, Trial: t.Name, Moment: m.String()}
	targets, before, err := v.ready(ctx, t, v.rand("verify/kill/target/"+t.Name))
	k.Places = places(targets)
	if err != nil {
		k.Verdict, k.Reason = judge(err)
		return k
	}
	v.cfg.Say("%s: %s on %v, killed when %s", t.Name, t.Kind.Name, k.Places, m)
	err = v.kill(ctx, t, m, targets, &k)
	settled := v.settle(ctx, before, &k.Whole, &k.SideEffects)
	k.Verdict, k.Reason = judge(err, settled)
	return k
}

func (v *Verifier) kill(ctx context.Context, t Trial, m Moment, targets []clusters.Node, k *Kill) error {
	id := "kill-" + t.Name
	if v.tries[id]++; v.tries[id] > 1 {
		id = fmt.Sprintf("%s-%d", id, v.tries[id])
	}
	dir := filepath.Join(v.cfg.Dir, id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "run.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	args := VictimArgs{
		Provider: v.cfg.Cluster.Provider(), Cluster: v.cfg.Cluster.Name(), Run: v.cfg.Run + "-" + id, Dir: dir,
		Trial: t.Name, Until: m.State, Hold: v.hold, Lease: inject.DefaultLease,
	}
	for _, n := range targets {
		args.Nodes = append(args.Nodes, n.Name())
	}
	start, cancel := context.WithTimeout(ctx, startWithin+t.Kind.ProveWithin+v.hold)
	defer cancel()
	p, err := child.Start(start, child.Command{Name: VictimEntry, Args: args, Log: log, Ready: &k.State})
	if err != nil {
		return errors.Join(unclear("it did not come to %s: %w", m.State, err), v.swept(ctx, t, filepath.Join(dir, "journal.jsonl"), k))
	}
	perr := pause(ctx, m.After)
	if err := errors.Join(perr, p.Kill(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	return v.swept(ctx, t, filepath.Join(dir, "journal.jsonl"), k)
}

// swept waits until the guard of a process that was killed has left nothing open.
func (v *Verifier) swept(ctx context.Context, t Trial, journal string, k *Kill) error {
	killed := time.Now()
	bound := inject.DefaultLease + t.Kind.GoneWithin
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), bound, fmt.Errorf("waited %s after SIGKILL", bound))
	defer cancel()
	for {
		err := closed(journal)
		if err == nil {
			k.Healed = millis(time.Since(killed))
			return nil
		}
		if perr := pause(ctx, 5*time.Millisecond); perr != nil {
			return &outcome{Stuck, errors.Join(perr, err)}
		}
	}
}

// closed says what is still open in a journal, or that the index has it still.
func closed(journal string) error {
	c, err := inject.ReadJournal(journal)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it did not come that far
	}
	if err != nil {
		return err
	}
	for _, e := range c.Open() {
		return fmt.Errorf("%s is %s: %s", e.ID, e.State, e.Error)
	}
	found, err := inject.OpenJournals()
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.Path == journal {
			return errors.New("the journal is in the index of open ones still")
		}
	}
	return nil
}
