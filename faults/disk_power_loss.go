package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters"
	"gameday/faults/mechanism/loopdisk"
)

var diskPowerLoss = Kind{
	Name: "disk.power-loss",
	Doc:  "Takes the power from the disk of the targets' etcd: what it had not synced is lost, and nothing can be read or written until it heals.",
	Rehearses: "A power failure, or a machine that is reset: what was acknowledged must be there afterwards, because it was synced " +
		"(https://etcd.io/docs/v3.6/learning/api_guarantees/#durability); on all members at once, that of a whole site.",
	Mechanism:   "EXT4_IOC_SHUTDOWN without a flush of the journal on etcd's own disk; at the heal unmount, mount with recovery of the journal",
	Undo:        "the guard, or gameday heal, mounts the disk again and puts the manifest back",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapDisk, clusters.CapProcesses, clusters.CapFiles},
	Cost:        Cost{EtcdMembers: 1, APIServers: 1},
	ProveWithin: 30 * time.Second,
	GoneWithin:  7 * time.Minute, // as for etcd.stop
	Trials:      []Trial{{Name: "disk-power-loss", Target: Target{Pick: PickOne}}},
	New:         func() Fault { return &DiskPowerLoss{} },
}

// etcdEnds is how long an etcd whose disk is gone may live on, to end by itself: as
// long as there is a leader it writes several times a second.
const etcdEnds = 3 * time.Second

// DiskPowerLoss is the fault disk.power-loss. It has no parameters.
type DiskPowerLoss struct{}

// powerLoss are the notes.
type powerLoss struct {
	Began time.Time `json:"began"`
	// Revisions are what each member had applied, and hence acknowledged, when the
	// power went, by node.
	Revisions map[string]int64 `json:"revisions"`
}

// Describe implements Describer.
func (*DiskPowerLoss) Describe(targets []string) []string {
	var out []string
	for _, f := range []string{
		"%s: ioctl(the disk of etcd, EXT4_IOC_SHUTDOWN, NOLOGFLUSH)",
		"%s: when etcd has ended, or is killed: mv " + standing + " " + parked("TAG"),
		"%s: at the heal: umount, mount, mv back",
	} {
		out = append(out, each(targets, f)...)
	}
	return out
}

// Inject takes the power from all targets at the same moment, and then the manifests:
// a kubelet that tried again and again would only be in back-off when it heals.
func (*DiskPowerLoss) Inject(ctx context.Context, env Env) error {
	for _, n := range env.Targets {
		if _, err := etcdDisk(ctx, n); err != nil {
			return err
		}
	}
	var notes powerLoss
	if ok, err := env.Notes.Load(&notes); err != nil {
		return err
	} else if !ok {
		notes = powerLoss{Began: time.Now(), Revisions: map[string]int64{}}
		for _, n := range env.Targets {
			s, err := memberStatus(ctx, env.Cluster, n)
			if err != nil {
				return err
			}
			notes.Revisions[n.Name()] = s.Header.Revision
		}
		if err := env.Notes.Save(notes); err != nil {
			return err
		}
	}
	for _, n := range env.Targets {
		d, err := etcdDisk(ctx, n)
		if err != nil {
			return err
		}
		if lost, err := loopdisk.IsShutDown(d.Mount); err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		} else if lost {
			continue
		}
		if err := loopdisk.Shutdown(d.Mount); err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
	}
	wait, cancel := context.WithTimeout(ctx, etcdEnds)
	defer cancel()
	for _, n := range env.Targets {
		if err := awaitEnd(ctx, wait, n); err != nil {
			return err
		}
		if err := park(ctx, n, env.Tag); err != nil {
			return err
		}
		// One that had nothing to write, as without a quorum, lives on.
		if err := killEtcd(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// awaitEnd waits until the etcd of a node has ended by itself, or wait ends.
func awaitEnd(ctx, wait context.Context, n clusters.Node) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		refs, err := find(ctx, n, "etcd")
		if err != nil || len(refs) == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-wait.Done():
			return ctx.Err()
		}
	}
}

// Heal mounts the disk again, if it needs it, while no etcd can start: one that saw
// the empty folder below the mount might found a cluster of its own.
func (f *DiskPowerLoss) Heal(ctx context.Context, env Env) error {
	var notes powerLoss
	if ok, err := env.Notes.Load(&notes); err != nil || !ok {
		return err
	}
	var errs []error
	for _, n := range env.Targets {
		errs = append(errs, f.heal(ctx, env, n))
	}
	return errors.Join(errs...)
}

func (*DiskPowerLoss) heal(ctx context.Context, env Env, n clusters.Node) error {
	disks, ok := n.(clusters.Disks)
	if !ok {
		return nil // then nothing was lost either
	}
	good, err := diskIsGood(ctx, n, disks)
	if err != nil {
		return err
	}
	if !good {
		if err := park(ctx, n, env.Tag); err != nil {
			return err
		}
		if err := killEtcd(ctx, n); err != nil {
			return err
		}
		if err := disks.RenewEtcdDisk(ctx); err != nil {
			return err
		}
		env.Log("%s: the disk of etcd is mounted again", n.Name())
	}
	return unpark(ctx, n, env.Tag)
}

// diskIsGood says whether the disk has power and is where it belongs, on this machine
// and in the node.
func diskIsGood(ctx context.Context, n clusters.Node, disks clusters.Disks) (bool, error) {
	d, err := disks.EtcdDisk(ctx)
	if err != nil {
		return false, nil //nolint:nilerr // an earlier Heal came as far as taking it away
	}
	inside, err := seenFrom(ctx, n, d.Path)
	if err != nil {
		return false, err
	}
	if same, err := sameFileSystem(d.Mount, inside); err != nil || !same {
		return false, err
	}
	lost, err := loopdisk.IsShutDown(d.Mount)
	return !lost, err
}

// Prove asks the disk, from inside the node, and the member; afterwards whether all is
// there that it had acknowledged.
func (*DiskPowerLoss) Prove(ctx context.Context, env Env) (Effect, error) {
	var notes powerLoss
	injected, err := env.Notes.Load(&notes)
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
		lost, err := loopdisk.IsShutDown(path)
		if err != nil {
			return seen{}, err
		}
		down := refuses(ctx, n)
		switch {
		case down != nil && ctx.Err() != nil:
			return seen{}, ctx.Err()
		case down == nil && lost:
			return seen{evidence: "its disk has no power, but the member answers still"}, nil
		case lost && injected:
			said, err := etcdSaid(ctx, n, notes.Began, unix.EIO.Error())
			if err != nil {
				return seen{}, err
			}
			return seen{broken: true, evidence: fmt.Sprintf("its disk has no power, %v, its log: %q", down, said)}, nil
		case down != nil:
			return seen{evidence: down.Error()}, nil
		}
		if away, err := isParked(ctx, n, env.Tag); err != nil || away {
			return seen{evidence: "its manifest is away still"}, err
		}
		if err := serves(ctx, env, n); err != nil {
			return seen{evidence: err.Error()}, nil
		}
		if !injected {
			return seen{whole: true, evidence: "voter in sync, API server ready"}, nil
		}
		text, err := keptAll(ctx, env, n, notes.Revisions[n.Name()])
		if err != nil {
			return seen{evidence: err.Error()}, nil
		}
		return seen{whole: true, evidence: "voter in sync, API server ready, " + text}, nil
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

// keptAll says whether a member has what it had acknowledged: at least that revision,
// and the same data as another one. A member whose log lost what it had promised does
// not get as far: raft panics when its peers tell it of it.
func keptAll(ctx context.Context, env Env, n clusters.Node, acknowledged int64) (string, error) {
	s, err := memberStatus(ctx, env.Cluster, n)
	if err != nil {
		return "", err
	}
	if s.Header.Revision < acknowledged {
		return "", fmt.Errorf("%s: revision %d is acknowledged, but the member has %d: acknowledged writes are lost", n.Name(), acknowledged, s.Header.Revision)
	}
	text := fmt.Sprintf("revision %d of acknowledged %d", s.Header.Revision, acknowledged)
	var errs []error
	for _, o := range clusters.ByRole(env.Cluster.Nodes(), clusters.ControlPlane) {
		if o.Name() == n.Name() {
			continue
		}
		hash, err := sameHash(ctx, env.Cluster, n, o)
		if err == nil {
			return text + ", " + hash, nil
		}
		errs = append(errs, err)
	}
	return text, errors.Join(errs...)
}
