package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/loopdisk"
	"gameday/faults/mechanism/process"
)

var diskHang = Kind{
	Name: "disk.hang",
	Doc:  "Lets every write to the disk of the targets' etcd wait, without an error and without an end.",
	Rehearses: "A disk, or the storage network before it, that answers nothing any more: the process cannot even be killed, its ports " +
		"stay open, and its peers must find out by time (https://etcd.io/docs/v3.6/op-guide/failures/; the kernel's rules for such a wait: " +
		"https://docs.kernel.org/admin-guide/sysctl/kernel.html#hung-task-timeout-secs).",
	Mechanism:   "FIFREEZE on etcd's own disk, held by a child process",
	Undo:        "the child thaws when gameday is gone, or at maxHold; if it was killed itself, the guard or gameday heal thaws",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapDisk, clusters.CapProcesses},
	Cost:        Cost{EtcdMembers: 1, APIServers: 1},
	ProveWithin: 30 * time.Second,
	GoneWithin:  7 * time.Minute, // the kubelet may have restarted it meanwhile
	Trials:      []Trial{{Name: "disk-hang", Target: Target{Pick: PickLeader}}},
	New:         func() Fault { return &DiskHang{} },
}

// DiskHang is the fault disk.hang. It has no parameters.
type DiskHang struct {
	mu       sync.Mutex
	freezers map[string]*loopdisk.Freezer // by node
}

// Describe implements Describer.
func (*DiskHang) Describe(targets []string) []string {
	return each(targets, "%s: ioctl(the disk of etcd, FIFREEZE)")
}

// Inject notes that it will freeze before it does. A disk that is frozen by us stays so.
func (f *DiskHang) Inject(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.freezers == nil {
		f.freezers = map[string]*loopdisk.Freezer{}
	}
	if err := noteBegin(env); err != nil {
		return err
	}
	for _, n := range env.Targets {
		d, err := etcdDisk(ctx, n)
		if err != nil {
			return err
		}
		if h := f.freezers[n.Name()]; h != nil {
			if !isDone(h.Done()) {
				continue
			}
			// It was killed, and what it froze may still be so.
			if err := loopdisk.Thaw(d.Mount); err != nil {
				return fmt.Errorf("%s: %w", n.Name(), err)
			}
		}
		h, err := loopdisk.StartFreeze(ctx, d.Mount, env.MaxHold)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		f.freezers[n.Name()] = h
	}
	return nil
}

// Heal thaws: by the child, or in another process itself. Only if Inject came to be:
// a freeze of somebody else (a backup) is not ours to end.
func (f *DiskHang) Heal(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for name, h := range f.freezers {
		if err := h.Stop(ctx); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(f.freezers, name)
	}
	var t diskTime
	injected, err := env.Notes.Load(&t)
	if err != nil || !injected {
		return errors.Join(append(errs, err)...)
	}
	for _, n := range env.Targets {
		d, err := etcdDisk(ctx, n)
		if err == nil {
			err = loopdisk.Thaw(d.Mount)
		}
		if !errors.Is(err, errors.ErrUnsupported) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Prove makes a read through the member, which it can only answer when it writes its
// log, and looks how its threads wait.
func (f *DiskHang) Prove(ctx context.Context, env Env) (Effect, error) {
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		if _, err := etcdDisk(ctx, n); err != nil {
			return seen{}, err
		}
		refs, err := find(ctx, n, "etcd")
		if err != nil {
			return seen{}, err
		}
		stuck, err := inUninterruptible(refs)
		if err != nil {
			return seen{}, err
		}
		text := fmt.Sprintf("process %s, %d of its threads wait for a disk", pids(refs), stuck)
		answer := readThrough(ctx, env.Cluster, n)
		if answer != nil {
			if ctx.Err() != nil {
				return seen{}, ctx.Err()
			}
			return seen{broken: stuck > 0, evidence: text + ", " + answer.Error()}, nil
		}
		if err := serves(ctx, env, n); err != nil {
			return seen{evidence: text + ", " + err.Error()}, nil
		}
		return seen{whole: true, evidence: fmt.Sprintf("process %s, voter in sync, API server ready", pids(refs))}, nil
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

// inUninterruptible counts the threads of processes that are in uninterruptible
// sleep, state D of proc_pid_stat(5).
func inUninterruptible(refs []process.Ref) (int, error) {
	count := 0
	for _, r := range refs {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", r.PID))
		if err != nil {
			return 0, err
		}
		for _, s := range stats {
			b, err := os.ReadFile(s)
			if err != nil {
				continue // the thread has ended
			}
			// The name before the state, in parentheses, may hold anything.
			if i := bytes.LastIndexByte(b, ')'); i > 0 && i+2 < len(b) && b[i+2] == 'D' {
				count++
			}
		}
	}
	return count, nil
}
