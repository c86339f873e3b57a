package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters"
	"gameday/faults/mechanism/loopdisk"
)

var diskFull = Kind{
	Name: "disk.full",
	Doc:  "Fills the disk of the targets' etcd up to the last block: it ends itself as soon as it needs another one.",
	Rehearses: "A disk that fills up, by the database itself or by what shares it (logs, images, backups): etcd cannot write its log " +
		"and ends itself, again at each start, until there is space (https://github.com/Azure/acs-engine/issues/382, of a " +
		"Kubernetes master).",
	Mechanism:   "a file without content on etcd's own disk, by fallocate, takes all free blocks",
	Undo:        "the guard, or gameday heal, removes the file, which carries the run's tag",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapDisk, clusters.CapProcesses, clusters.CapFiles},
	Cost:        Cost{EtcdMembers: 1, APIServers: 1},
	ProveWithin: 30 * time.Second,
	GoneWithin:  7 * time.Minute, // the kubelet's back-off, as for disk.fsync-error
	Trials:      []Trial{{Name: "disk-full", Target: Target{Pick: PickOne}}},
	New:         func() Fault { return &DiskFull{} },
}

// DiskFull is the fault disk.full. It has no parameters.
type DiskFull struct {
	mu    sync.Mutex
	fills map[string]*repeater // by node
}

const (
	// walSegment is what etcd needs for the next piece of its log, and hence to go on:
	// go.etcd.io/etcd/server/v3@v3.6.8 storage/wal/wal.go SegmentSizeBytes.
	walSegment = 64 * 1000 * 1000
	// page is one of its database, which has the size of a page of memory.
	page = 4 << 10
	// fillEvery is how soon what came free is taken too.
	fillEvery = 100 * time.Millisecond
)

// Describe implements Describer.
func (*DiskFull) Describe(targets []string) []string {
	return each(targets, "%s: fallocate(gameday-TAG on the disk of etcd) until ENOSPC")
}

// diskTime is the note: when the disk was first broken.
type diskTime struct {
	Began time.Time `json:"began"`
}

func noteBegin(env Env) error {
	var t diskTime
	if ok, err := env.Notes.Load(&t); ok || err != nil {
		return err
	}
	return env.Notes.Save(diskTime{time.Now()})
}

// Inject takes the space that there is, and goes on to take what comes free: an etcd
// that starts anew removes the piece of its log that it had prepared.
func (f *DiskFull) Inject(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fills == nil {
		f.fills = map[string]*repeater{}
	}
	if err := noteBegin(env); err != nil {
		return err
	}
	for _, n := range env.Targets {
		d, err := etcdDisk(ctx, n)
		if err != nil {
			return err
		}
		if err := loopdisk.Fill(d.Mount, env.Tag); err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		if f.fills[n.Name()] == nil {
			f.fills[n.Name()] = &repeater{}
		}
		f.fills[n.Name()].start(ctx, env.MaxHold, fillEvery, func(ctx context.Context) {
			if err := loopdisk.Fill(d.Mount, env.Tag); err != nil && ctx.Err() == nil {
				env.Log("%s: %v", n.Name(), err)
			}
		})
	}
	return nil
}

// Heal removes the file.
func (f *DiskFull) Heal(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, r := range f.fills {
		if err := r.stop(ctx); err != nil { // it would fill again what is emptied
			return err
		}
	}
	for _, n := range env.Targets {
		d, err := etcdDisk(ctx, n)
		if err == nil {
			err = loopdisk.Empty(d.Mount, env.Tag)
		}
		if !errors.Is(err, errors.ErrUnsupported) { // without a disk nothing was filled
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Prove asks the file system for its space, from inside the node, the member whether
// it serves, and its log what it died of.
func (*DiskFull) Prove(ctx context.Context, env Env) (Effect, error) {
	var t diskTime
	injected, err := env.Notes.Load(&t)
	if err != nil {
		return Effect{}, err
	}
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		d, err := etcdDisk(ctx, n)
		if err != nil {
			return seen{}, err
		}
		path, err := seenFrom(ctx, n, d.Path)
		if err != nil {
			return seen{}, err
		}
		space, err := loopdisk.SpaceOf(path)
		if err != nil {
			return seen{}, err
		}
		text := fmt.Sprintf("%d of %d MB free", space.Free>>20, space.Size>>20)
		down := refuses(ctx, n)
		switch {
		case down != nil && ctx.Err() != nil:
			return seen{}, ctx.Err()
		case down != nil && injected:
			said, err := etcdSaid(ctx, n, t.Began, unix.ENOSPC.Error())
			if err != nil {
				return seen{}, err
			}
			return seen{broken: space.Free < walSegment && said != "", evidence: fmt.Sprintf("%s, %v, its log: %q", text, down, said)}, nil
		case down != nil:
			return seen{evidence: text + ", " + down.Error()}, nil
		case space.Free < page:
			// It writes into blocks that it has, as long as there are some.
			return seen{broken: injected, evidence: text + ", and the member lives on what it has"}, nil
		}
		if err := serves(ctx, env, n); err != nil {
			return seen{evidence: text + ", " + err.Error()}, nil
		}
		return seen{whole: space.Free > space.Size/10, evidence: text + ", voter in sync, API server ready"}, nil
	})
	if err != nil {
		return e, err
	}
	if e.Active {
		if e.Control, err = well(ctx, env); err != nil {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but the others do not work either: %v", err)
		}
	}
	e.At = time.Now()
	return e, nil
}
