package inject

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"gameday/clusters"
	"gameday/faults"
)

// errNotOpened stands for the error of HealAll as a whole.
var errNotOpened = errors.New("its cluster cannot be opened")

// ErrHeld is wrapped when the run that holds the journal is alive.
var ErrHeld = errors.New("the run is alive and heals its faults itself")

// Report says what became of the faults that a dead run left.
type Report struct {
	Run string
	// Healed are injections that were open and are proven gone now.
	Healed []string
	// Stuck are injections that could not be undone, with the reason.
	Stuck []Stick
	// Torn is Contents.Torn. One line is what a crash tears.
	Torn int
}

// Stick is an injection that could not be undone.
type Stick struct {
	ID  string
	Err error
}

// Err is nil if nothing is stuck.
func (r Report) Err() error {
	var errs []error
	for _, s := range r.Stuck {
		errs = append(errs, fmt.Errorf("%s: %w: %w", s.ID, ErrStuck, s.Err))
	}
	return errors.Join(errs...)
}

func (r Report) String() string {
	s := "run " + r.Run + ":"
	if len(r.Healed)+len(r.Stuck) == 0 {
		s += " nothing was open"
	}
	if len(r.Healed) > 0 {
		s += " healed " + strings.Join(r.Healed, ", ")
	}
	for _, x := range r.Stuck {
		s += fmt.Sprintf(" STUCK %s (%v)", x.ID, x.Err)
	}
	switch {
	case r.Torn == 1:
		s += "; one line of its journal cannot be read, which a crash may have torn"
	case r.Torn > 1:
		s += fmt.Sprintf("; %d lines of its journal cannot be read: the file is damaged, look at the nodes for what it does not tell", r.Torn)
	}
	return s
}

// healer heals what others left.
type healer struct {
	open   Open
	lookup func(name string) (faults.Kind, bool)
	say    clusters.Say
}

// HealAll heals everything that is open in the journal of a dead run, and takes
// the journal out of the index when nothing is left. Calling it again, or
// together with the guard, is safe. It refuses while the run is alive.
func HealAll(ctx context.Context, journal string, open Open, say clusters.Say) (Report, error) {
	return healer{open, faults.Lookup, say}.journal(ctx, journal)
}

func (h healer) journal(ctx context.Context, journal string) (Report, error) {
	c, err := ReadJournal(journal)
	if err != nil {
		return Report{}, err
	}
	if c.Holder.As == "harness" {
		alive, err := c.Holder.Alive()
		if err != nil {
			return Report{Run: c.Holder.Run}, err
		}
		if alive {
			return Report{Run: c.Holder.Run}, fmt.Errorf("run %s (%s): %w; end it with Ctrl-C, or kill it", c.Holder.Run, c.Holder.Process, ErrHeld)
		}
	}
	// Who took it over before us heals just now, if it is there still.
	if busy, err := c.Holder.Busy(); err != nil {
		return Report{Run: c.Holder.Run}, err
	} else if busy {
		h.say("run %s: its journal is with another process (%s, %s), which heals; waiting for it", c.Holder.Run, c.Holder.As, c.Holder.Process)
	}
	j, err := takeOver(ctx, journal, asHeal, "asked to")
	if err != nil {
		return Report{Run: c.Holder.Run}, err
	}
	r, err := h.entries(ctx, j)
	return r, errors.Join(err, j.Close())
}

// entries heals what is open in a journal that this process took over. The error
// is about the healing as a whole; what became of each is in the report.
func (h healer) entries(ctx context.Context, j *Journal) (Report, error) {
	c, err := ReadJournal(j.path)
	if err != nil {
		return Report{Run: j.holder.Run}, err
	}
	r := Report{Run: c.Holder.Run, Torn: c.Torn}
	todo := c.Open()
	if len(todo) == 0 {
		return r, nil
	}
	cl, err := h.open(ctx, c.Holder.Provider, c.Holder.Cluster)
	if errors.Is(err, clusters.ErrNotFound) {
		// Nodes, processes and links are gone with it.
		for _, e := range todo {
			h.say("%s: cluster %s is gone, and the fault with it", e.ID, c.Holder.Cluster)
			r.Healed = append(r.Healed, e.ID)
			if err := j.mark(e.ID, Healed, nil); err != nil {
				return r, err
			}
		}
		return r, nil
	}
	if err != nil {
		for _, e := range todo {
			r.Stuck = append(r.Stuck, Stick{e.ID, errNotOpened})
		}
		return r, fmt.Errorf("open cluster %s of run %s: %w", c.Holder.Cluster, c.Holder.Run, err)
	}
	// All at once, as the run itself would: one may be what keeps another from
	// healing.
	var mu sync.Mutex
	var all errgroup.Group
	for _, e := range todo {
		all.Go(func() error {
			err := h.entry(ctx, j, cl, e)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.Stuck = append(r.Stuck, Stick{e.ID, err})
				return j.mark(e.ID, Stuck, err)
			}
			r.Healed = append(r.Healed, e.ID)
			return j.mark(e.ID, Healed, nil)
		})
	}
	err = all.Wait()
	slices.Sort(r.Healed)
	slices.SortFunc(r.Stuck, func(a, b Stick) int { return strings.Compare(a.ID, b.ID) })
	return r, err
}

func (h healer) entry(ctx context.Context, j *Journal, cl clusters.Cluster, e Entry) error {
	if e.Damaged {
		return errDamaged
	}
	k, ok := h.lookup(e.Fault)
	if !ok {
		return fmt.Errorf("this version of gameday has no fault %q; use the version that injected it", e.Fault)
	}
	f := k.New()
	if err := decode(e.Params, f); err != nil {
		return err
	}
	var targets []clusters.Node
	for _, n := range cl.Nodes() {
		if slices.Contains(e.Nodes, n.Name()) {
			targets = append(targets, n)
		}
	}
	began := time.Now()
	u := undoing{
		kind: k, fault: f, locked: j.locked,
		env: faults.Env{
			Cluster: cl, Targets: targets, Tag: e.Tag, MaxHold: time.Until(e.Deadline), Notes: j.notesOf(e.ID),
			Log: func(format string, args ...any) { h.say("%s: %s", e.ID, fmt.Sprintf(format, args...)) },
		},
		healed: func(time.Time) { h.say("%s (%s on %s): healed", e.ID, e.Fault, strings.Join(e.Places, ", ")) },
	}
	seen, err := u.run(ctx)
	if err != nil {
		return err
	}
	h.say("%s: gone after %s: %s", e.ID, time.Since(began).Round(time.Millisecond), seen.Evidence)
	return nil
}
