package inject

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"gameday/clusters"
	"gameday/faults"
	"gameday/faults/mechanism/cut"
)

// HealDead heals what every dead run of this machine left, by the index of open
// journals; runs that are alive are passed over. A journal that was deleted can
// tell nothing any more: it leaves the index, and Sweep is for what it knew. The
// error is about runs that could not be looked at; what became of each fault is in
// the reports.
func HealDead(ctx context.Context, open Open, say clusters.Say) ([]Report, error) {
	return healer{open, faults.Lookup, say}.dead(ctx)
}

func (h healer) dead(ctx context.Context) ([]Report, error) {
	say := h.say
	found, err := OpenJournals()
	if err != nil {
		return nil, err
	}
	var reports []Report
	var errs []error
	for _, f := range found {
		r, err := h.journal(ctx, f.Path)
		switch {
		case errors.Is(err, ErrHeld):
			say("run %s is alive", f.Run)
			continue
		case errors.Is(err, fs.ErrNotExist):
			say("run %s: its journal %s is gone; gameday heal looks for its leftovers in the clusters that there are", f.Run, f.Path)
			errs = append(errs, Forget(f.Run))
			continue
		case err != nil:
			errs = append(errs, fmt.Errorf("run %s: %w", f.Run, err))
			if len(r.Healed)+len(r.Stuck) == 0 {
				continue // the error says all there is to say
			}
		}
		reports = append(reports, r)
	}
	return reports, errors.Join(errs...)
}

// Sweep removes from a cluster what faults left there and no journal tells of any
// more: parked manifests, and nftables tables that no process owns. It refuses
// while a run on this cluster is alive, and leaves what an open journal has to
// HealAll. It touches only what carries our name.
func Sweep(ctx context.Context, c clusters.Cluster, say clusters.Say) error {
	found, err := OpenJournals()
	if err != nil {
		return err
	}
	var known []string // tags of open journals
	others := false    // runs on other clusters that are alive
	for _, f := range found {
		j, err := ReadJournal(f.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		alive, err := j.Holder.Busy()
		if err != nil {
			return err
		}
		if alive && j.Holder.Cluster == c.Name() {
			return fmt.Errorf("sweep cluster %s: run %s (%s): %w", c.Name(), j.Holder.Run, j.Holder.Process, ErrHeld)
		}
		others = others || alive
		for _, e := range j.Open() {
			known = append(known, e.Tag)
		}
	}
	return errors.Join(sweepNodes(ctx, c, known, say), sweepTables(ctx, c, others, say))
}

func sweepNodes(ctx context.Context, c clusters.Cluster, known []string, say clusters.Say) error {
	var errs []error
	for _, n := range clusters.ByRole(c.Nodes(), clusters.ControlPlane) {
		if !clusters.Has(n, clusters.CapFiles) {
			continue
		}
		tags, err := faults.Parked(ctx, n)
		errs = append(errs, err)
		for _, tag := range tags {
			if slices.Contains(known, tag) {
				errs = append(errs, fmt.Errorf("%s: %s is left to its journal, which is not healed", n.Name(), tag))
				continue
			}
			err := faults.Unpark(ctx, n, tag)
			errs = append(errs, err)
			if err == nil {
				say("%s: put back what %s had parked", n.Name(), tag)
			}
		}
	}
	return errors.Join(errs...)
}

func sweepTables(ctx context.Context, c clusters.Cluster, others bool, say clusters.Say) error {
	// The kernel has removed the tables of dead processes, or (before Linux 5.12)
	// does not know whose they are. Then those of runs that are alive on other
	// clusters must not be taken.
	prefix := ""
	if others {
		prefix = clean(c.Run()) + "-"
	}
	var errs []error
	swept := map[string]bool{}
	for _, n := range c.Nodes() {
		l, ok := n.(clusters.Network)
		if !ok {
			continue
		}
		link, err := l.Link(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if swept[link.BridgeNetNS] {
			continue
		}
		swept[link.BridgeNetNS] = true
		tables, err := cut.Sweep(link.BridgeNetNS, prefix)
		errs = append(errs, err)
		for _, t := range tables {
			if !t.Held {
				say("removed the nftables table bridge %s", t.Table)
			}
		}
	}
	return errors.Join(errs...)
}
