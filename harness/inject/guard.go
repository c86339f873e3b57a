package inject

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters"
	"gameday/faults"
	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/process"
)

// GuardEntry is the name of the guard among the entry points that a program
// gives to child.Main.
const GuardEntry = "guard"

// DefaultLease is how long a run may be silent until the guard heals.
const DefaultLease = 15 * time.Second

// longestAct is how long a run that is well may keep its journal locked: an act is
// an Inject or a Heal, bounded by the ProveWithin or GoneWithin of its kind.
func longestAct() time.Duration {
	var d time.Duration
	for _, k := range faults.Catalogue() {
		d = max(d, k.ProveWithin, k.GoneWithin)
	}
	return d + actSlack
}

// actSlack is for the act to notice that its time is over.
const actSlack = time.Minute

// beatsPerLease is how many heartbeats fit into a lease: a machine under load
// may delay some of them.
const beatsPerLease = 10

// Open finds a running cluster. The error wraps clusters.ErrNotFound if it is
// gone.
type Open func(ctx context.Context, provider, name string) (clusters.Cluster, error)

// Guard is the run's end of its guard: a process in a session of its own, so
// that a Ctrl-C does not reach it, which heals everything that the journal says
// is open
//
//   - at once when the run ends without goodbye (SIGKILL, a panic),
//   - after the lease when the run is there but silent (it hangs),
//   - when a fault is long past its deadline although the run beats: the part of
//     it that should have healed hangs,
//   - when it is asked to end itself (SIGTERM): nobody would watch afterwards.
type Guard struct {
	p    *child.Process
	log  *os.File
	lost chan struct{} // closed when it is gone, or does not answer for a whole lease
	stop context.CancelFunc
	done chan struct{} // the heartbeat has ended
	end  sync.Once
}

type guardArgs struct {
	Journal string        `json:"journal"`
	Lease   time.Duration `json:"lease"`
}

// The requests to a guard.
const (
	beat    = "beat"
	goodbye = "goodbye"
)

// StartGuard starts the guard of a journal. From then on injections may be
// started.
func StartGuard(ctx context.Context, j *Journal, lease time.Duration) (*Guard, error) {
	if lease <= 0 {
		return nil, fmt.Errorf("start the guard: a lease of %s", lease)
	}
	log, err := os.OpenFile(filepath.Join(filepath.Dir(j.path), "guard.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	p, err := child.Start(ctx, child.Command{
		Name: GuardEntry, Args: guardArgs{Journal: j.path, Lease: lease}, Log: log,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the guard: %w", err), log.Close())
	}
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	g := &Guard{p: p, log: log, lost: make(chan struct{}), stop: stop, done: make(chan struct{})}
	go g.beat(beating, lease)
	j.mu.Lock()
	j.guard = g
	j.mu.Unlock()
	return g, nil
}

// beat keeps the lease, and notices when nobody is there to hold it.
func (g *Guard) beat(ctx context.Context, lease time.Duration) {
	defer close(g.done)
	for heard := time.Now(); ; {
		call, cancel := context.WithTimeout(ctx, lease/2)
		err := g.p.Call(call, beat, nil)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			heard = time.Now()
		case errors.Is(err, os.ErrProcessDone), errors.Is(err, unix.EPIPE), time.Since(heard) > lease:
			close(g.lost)
			return
		}
		select {
		case <-time.After(lease / beatsPerLease):
		case <-g.p.Done(): // the next call will say so
		case <-ctx.Done():
			return
		}
	}
}

// PID of the guard process.
func (g *Guard) PID() int { return g.p.PID() }

// Stop says goodbye and waits for the guard's end. If something is open in the
// journal the guard heals that first, within ctx.
func (g *Guard) Stop(ctx context.Context) error {
	var err error
	g.end.Do(func() {
		g.stop()
		<-g.done
		select {
		case <-g.lost:
			err = errors.New("the guard was lost before the end of the run")
		default:
			err = g.p.Call(ctx, goodbye, nil)
		}
		err = errors.Join(err, g.p.Stop(ctx), g.log.Close())
	})
	return err
}

// guarded says whether a guard watches over the journal.
func (j *Journal) guarded() error {
	select {
	case <-j.guardLost():
		return ErrNoGuard
	default:
		return nil
	}
}

func (j *Journal) guardLost() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.guard == nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return j.guard.lost
}

var (
	errLapsed  = errors.New("the run was silent for its whole lease")
	errOverdue = errors.New("the run beats, but does not end its faults")
	errBye     = errors.New("the run said goodbye")
)

// Guarding is the guard process, for child.Main. It opens clusters with open, and
// finds faults in the catalogue.
func Guarding(open Open) child.Func { return GuardingWith(open, faults.Lookup) }

// GuardingWith is Guarding with faults of another catalogue.
func GuardingWith(open Open, lookup func(name string) (faults.Kind, bool)) child.Func {
	return guarding(healer{open: open, lookup: lookup, say: func(format string, a ...any) {
		fmt.Fprintf(os.Stderr, "%s guard: %s\n", time.Now().Format(time.RFC3339Nano), fmt.Sprintf(format, a...))
	}})
}

func guarding(h healer) child.Func {
	return func(ctx context.Context, c *child.Conn) error {
		var args guardArgs
		if err := c.Args(&args); err != nil {
			return err
		}
		if err := c.Ready(nil); err != nil {
			return err
		}
		why := attend(ctx, c, args.Lease, func() error { return h.overdue(args.Journal, time.Now()) })
		ctx = context.WithoutCancel(ctx)
		contents, err := ReadJournal(args.Journal)
		if err != nil {
			return err
		}
		todo := len(unhealed(contents, errors.Is(why, errBye)))
		h.say("%v; %d open", why, todo)
		if todo == 0 && !errors.Is(why, errLapsed) {
			if errors.Is(why, errBye) {
				return nil // the run closes its journal itself
			}
			return forgetIfHealed(ctx, args.Journal, contents)
		}
		j, err := fence(ctx, args.Journal, args.Lease, why, contents.Holder, h.say)
		if err != nil {
			return err
		}
		report, err := h.entries(ctx, j)
		h.say("%s", report)
		return errors.Join(err, report.Err(), j.Close())
	}
}

// overdue says which faults of a journal should have ended by themselves long ago.
// What the run could not heal is none of them: it has said so.
func (h healer) overdue(journal string, now time.Time) error {
	c, err := ReadJournal(journal)
	if err != nil {
		h.say("look for faults that are overdue: %v", err) // the next look may do better
		return nil
	}
	var ids []string
	for _, e := range c.Open() {
		within := longestAct()
		if k, ok := h.lookup(e.Fault); ok {
			// A proof that is under way at the deadline comes before the heal.
			within = k.ProveWithin + k.GoneWithin
		}
		if e.State != Stuck && now.After(e.Deadline.Add(within)) {
			ids = append(ids, e.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", errOverdue, strings.Join(ids, ", "))
}

// attend keeps the lease until it has a reason to end. overdue is asked once per
// lease.
func attend(ctx context.Context, c *child.Conn, lease time.Duration, overdue func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var silent atomic.Int32
	go func() {
		// Ticks are counted, not time: a guard that did not run itself (the
		// machine was suspended, or starved) has not listened either.
		tick := time.NewTicker(lease / beatsPerLease)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if silent.Add(1) > beatsPerLease {
				cancel(errLapsed)
				return
			}
			if n%beatsPerLease > 0 {
				continue
			}
			if err := overdue(); err != nil {
				cancel(err)
				return
			}
		}
	}()
	err := c.Serve(ctx, func(req json.RawMessage) (any, error) {
		silent.Store(0)
		var what string
		if err := json.Unmarshal(req, &what); err != nil {
			return nil, err
		}
		if what == goodbye {
			cancel(errBye)
		}
		return nil, nil
	})
	if err != nil {
		return err
	}
	return context.Cause(ctx)
}

// unhealed are the entries that a guard heals. After a goodbye those that the
// run could not heal are left to a person: it has said so, and another try would
// only hold up its end.
func unhealed(c Contents, bye bool) []Entry {
	var out []Entry
	for _, e := range c.Open() {
		if !bye || e.State != Stuck {
			out = append(out, e)
		}
	}
	return out
}

// fence takes the journal over. A run that hangs in the middle of an act keeps
// it locked; it must not go on with that act later, so it is ended.
func fence(ctx context.Context, path string, lease time.Duration, why error, holder Holder, say clusters.Say) (*Journal, error) {
	patience := longestAct()
	if errors.Is(why, errLapsed) || errors.Is(why, errOverdue) {
		patience = lease // it does not beat either, or has had its time
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	j, err := takeOver(wait, path, "guard", why.Error())
	cancel()
	if err == nil || wait.Err() == nil {
		return j, err
	}
	// Not `gameday heal`, which may take its time, nor a run that is about to end:
	// its lock goes with it.
	if holder.As == "harness" && !errors.Is(why, errBye) {
		say("the run hangs in the middle of an act (%v): it is ended", holder.Process)
		p, err := process.Open(holder.Process)
		if err == nil {
			err = errors.Join(p.Kill(), p.Wait(ctx), p.Close())
		}
		if err != nil && !errors.Is(err, process.ErrGone) {
			return nil, err
		}
	}
	j, err = takeOver(ctx, path, "guard", why.Error())
	return j, err
}

// forgetIfHealed takes the journal of a dead run out of the index.
func forgetIfHealed(ctx context.Context, path string, c Contents) error {
	if len(c.Open()) > 0 {
		return nil
	}
	j, err := takeOver(ctx, path, "guard", "the run ended; nothing is open")
	if err != nil {
		return err
	}
	return j.Close()
}
