package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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

// afterHang is how long a run that goes on is watched: longer than Watch needs to
// inject again.
const afterHang = 4 * time.Second

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

// victimReady is what a victim says when it has come to its state.
type victimReady struct {
	State string
	// Guard is the process id of its guard.
	Guard int
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
	g, err := inject.StartGuard(ctx, j, args.Lease)
	if err != nil {
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
				told.Do(func() {
					if err := c.Ready(victimReady{State: h.State, Guard: g.PID()}); err != nil {
						fmt.Fprintln(os.Stderr, err)
					}
				})
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

// Victims are the trials that are killed: one of each fault, of those that passed
// the one whose cluster was whole again soonest.
func Victims(trials []Trial, rows []Row) []Trial {
	var order []string
	best := map[string]Trial{}
	length := map[string]time.Duration{}
	for _, t := range trials {
		r, ok := rowOf(rows, t.Name)
		if !ok || r.Verdict != Pass {
			continue // what does not let go by itself is not made worse
		}
		if _, ok := best[t.Kind.Name]; !ok {
			order = append(order, t.Kind.Name)
		} else if length[t.Kind.Name] <= r.lengthOf() {
			continue
		}
		best[t.Kind.Name], length[t.Kind.Name] = t, r.lengthOf()
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
	v.inAnother(ctx, t, "kill", &k, func(targets []clusters.Node) error { return v.kill(ctx, t, m, targets, &k) })
	return k
}

// Hang makes one trial in a process of its own that hangs once the fault is proven,
// and later goes on. Its guard has undone the fault by then, and it does not take
// it up again.
func (v *Verifier) Hang(ctx context.Context, t Trial, lease time.Duration) Kill {
	k := Kill{Fault: t.Kind.Name, Trial: t.Name, Moment: "proven, by SIGSTOP"}
	v.inAnother(ctx, t, "hang", &k, func(targets []clusters.Node) error { return v.hang(ctx, t, lease, targets, &k) })
	return k
}

// KillWithGuard makes one trial in a process of its own that is killed together with
// its guard once the fault is proven. What the kernel does not take back then is
// healed by heal from the journal, as by `gameday heal`.
func (v *Verifier) KillWithGuard(ctx context.Context, t Trial, heal func(ctx context.Context, journal string) error) Kill {
	k := Kill{Fault: t.Kind.Name, Trial: t.Name, Moment: "proven, with its guard"}
	v.inAnother(ctx, t, "guard", &k, func(targets []clusters.Node) error { return v.killBoth(ctx, t, targets, &k, heal) })
	return k
}

func (v *Verifier) killBoth(ctx context.Context, t Trial, targets []clusters.Node, k *Kill, heal func(context.Context, string) error) error {
	p, guard, journal, err := v.victim(ctx, t, VictimArgs{Until: "proven", Hold: maxHold, Lease: inject.DefaultLease}, targets, k)
	if err != nil {
		return err
	}
	// Held first, so that neither sees the end of the other. The guard is a child of
	// the victim, which is not waited for yet: the pid is its own.
	err = errors.Join(unix.Kill(p.PID(), unix.SIGSTOP), unix.Kill(guard, unix.SIGSTOP), unix.Kill(guard, unix.SIGKILL))
	if err := errors.Join(err, p.Kill(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	if closed(journal) == nil {
		return failed("nothing is open in the journal although nobody healed")
	}
	killed := time.Now()
	if err := heal(context.WithoutCancel(ctx), journal); err != nil {
		return &outcome{Stuck, err}
	}
	if err := closed(journal); err != nil {
		return &outcome{Stuck, err}
	}
	k.Healed = millis(time.Since(killed))
	return nil
}

// inAnother does with a trial, in another process, what do says, on a cluster that
// is whole, and wants nothing to be left of it.
func (v *Verifier) inAnother(ctx context.Context, t Trial, how string, k *Kill, do func([]clusters.Node) error) {
	targets, before, err := v.ready(ctx, t, v.rand("verify/"+how+"/target/"+t.Name))
	k.Places = places(targets)
	if err != nil {
		k.Verdict, k.Reason = judge(err)
		return
	}
	v.cfg.Say("%s: %s on %s, in a process of its own, ended when %s", t.Name, t.Kind.Name, strings.Join(k.Places, ", "), k.Moment)
	err = do(targets)
	settled := v.settle(ctx, before, &k.Whole, &k.SideEffects)
	k.Verdict, k.Reason = judge(err, settled)
}

func (v *Verifier) kill(ctx context.Context, t Trial, m Moment, targets []clusters.Node, k *Kill) error {
	p, _, journal, err := v.victim(ctx, t, VictimArgs{Until: m.State, Hold: v.hold, Lease: inject.DefaultLease}, targets, k)
	if err != nil {
		return err
	}
	// Also when this is interrupted: it is killed, and its guard waited for.
	err = errors.Join(pause(ctx, m.After), p.Kill(context.WithoutCancel(ctx)))
	return errors.Join(err, v.swept(ctx, t, journal, "SIGKILL", k))
}

func (v *Verifier) hang(ctx context.Context, t Trial, lease time.Duration, targets []clusters.Node, k *Kill) (err error) {
	p, _, journal, err := v.victim(ctx, t, VictimArgs{Until: "proven", Hold: maxHold, Lease: lease}, targets, k)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Kill(context.WithoutCancel(ctx))) }()
	// A run that beats keeps its fault for longer than its lease.
	if err := pause(ctx, lease*3/2); err != nil {
		return err
	}
	c, err := inject.ReadJournal(journal)
	if err != nil {
		return err
	}
	if c.Holder.As != "harness" {
		return failed("the %s has come although the run beats", c.Holder.As)
	}
	if err := unix.Kill(p.PID(), unix.SIGSTOP); err != nil {
		return err
	}
	if err := v.swept(ctx, t, journal, "SIGSTOP", k); err != nil {
		return err
	}
	if err := unix.Kill(p.PID(), unix.SIGCONT); err != nil {
		return err
	}
	f, err := t.fault()
	if err != nil {
		return err
	}
	env := v.env(t, targets, &memory{})
	for woken := time.Now(); time.Since(woken) < afterHang; {
		e, err := f.Prove(ctx, env)
		if err != nil {
			return unclear("after the run went on: %w", err)
		}
		if e.Active {
			return failed("the run took the fault up again: %s", e.Evidence)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// victim starts a process with one fault, and returns when that has come to a
// state.
func (v *Verifier) victim(ctx context.Context, t Trial, args VictimArgs, targets []clusters.Node, k *Kill) (p *child.Process, guard int, journal string, err error) {
	id := v.nextID("other-" + t.Name)
	dir := filepath.Join(v.cfg.Dir, id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, 0, "", err
	}
	// As the journal's own path, by which it is found in the index.
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, 0, "", err
	}
	log, err := os.Create(filepath.Join(dir, "run.log"))
	if err != nil {
		return nil, 0, "", err
	}
	defer log.Close()
	args.Provider, args.Cluster = v.cfg.Cluster.Provider(), v.cfg.Cluster.Name()
	args.Run, args.Dir, args.Trial = v.cfg.Run+"-"+id, dir, t.Name
	for _, n := range targets {
		args.Nodes = append(args.Nodes, n.Name())
	}
	journal = filepath.Join(dir, "journal.jsonl")
	var ready victimReady
	start, cancel := context.WithTimeout(ctx, startWithin+t.Kind.ProveWithin)
	defer cancel()
	p, err = child.Start(start, child.Command{Name: VictimEntry, Args: args, Log: log, Ready: &ready})
	if err != nil {
		return nil, 0, "", errors.Join(unclear("it did not come to %s: %w", args.Until, err), v.swept(ctx, t, journal, "its end", k))
	}
	k.State = ready.State
	return p, ready.Guard, journal, nil
}

// nextID makes a name unique in this verification.
func (v *Verifier) nextID(id string) string {
	if v.tries[id]++; v.tries[id] > 1 {
		id = fmt.Sprintf("%s-%d", id, v.tries[id])
	}
	return id
}

// swept waits until the guard of a process that was killed, or hangs, has left
// nothing open.
func (v *Verifier) swept(ctx context.Context, t Trial, journal, what string, k *Kill) error {
	killed := time.Now()
	bound := inject.DefaultLease + t.Kind.GoneWithin
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), bound, fmt.Errorf("waited %s after %s", bound, what))
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
