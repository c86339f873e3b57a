package faults

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters"
	"gameday/faults/mechanism/process"
	"gameday/faults/mechanism/slowfsync"
)

var diskFsyncError = Kind{
	Name: "disk.fsync-error",
	Doc:  "Makes every fsync of the targets' etcd fail with an I/O error: it gives up at once, and again each time it is restarted.",
	Rehearses: "A disk that reports I/O errors. After a failed fsync nobody knows what is on the disk, and trying again may report " +
		"success for data that is lost (https://lwn.net/Articles/752063/): etcd ends itself, and its member is away until the disk is mended " +
		"or the member replaced (https://etcd.io/docs/v3.6/op-guide/failures/).",
	Mechanism:   "ptrace takes fsync and fdatasync of the etcd process away from the kernel and answers EIO; each new etcd process is attached to",
	Undo:        "the kernel: it detaches when the tracing process ends, and that ends with gameday, or at maxHold",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapProcesses, clusters.CapFiles},
	Cost:        Cost{EtcdMembers: 1, APIServers: 1},
	ProveWithin: 30 * time.Second,
	// The kubelet restarts etcd after its back-off, at most 5 min between crashes:
	// k8s.io/kubernetes@v1.37.0 pkg/kubelet/kubelet.go MaxCrashLoopBackOff.
	GoneWithin: 7 * time.Minute,
	Trials:     []Trial{{Name: "fsync-error", Target: Target{Pick: PickOne}}},
	New:        func() Fault { return &FsyncError{} },
}

// FsyncError is the fault disk.fsync-error.
type FsyncError struct {
	// Match picks files by a part of their path, as in disk.slow-fsync.
	Match string `yaml:"match" json:"match"`

	mu      sync.Mutex
	failers map[string]*slowfsync.Failer // by node
	inits   map[string]process.Ref       // of the node, when its failer was started
}

// fsyncErrors are the notes.
type fsyncErrors struct {
	Began time.Time            `json:"began"`
	Nodes map[string]fsyncFail `json:"nodes"`
}

type fsyncFail struct {
	// Etcd is the process that ran before the first Inject.
	Etcd []process.Ref `json:"etcd"`
	// Failers are the tracing processes.
	Failers []process.Ref `json:"failers"`
}

// Describe implements Describer.
func (f *FsyncError) Describe(targets []string) []string {
	what := "fsync, fdatasync"
	if f.Match != "" {
		what += " of files with " + f.Match + " in their path"
	}
	return each(targets, "%s: ptrace(etcd, and each that follows it): "+what+" = -1 EIO")
}

// Inject notes which etcd runs before it attaches to it. A failer attaches to each
// that is started later itself; one that is gone, or of a node that was restarted,
// is replaced.
func (f *FsyncError) Inject(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failers == nil {
		f.failers, f.inits = map[string]*slowfsync.Failer{}, map[string]process.Ref{}
	}
	var notes fsyncErrors
	if _, err := env.Notes.Load(&notes); err != nil {
		return err
	}
	if notes.Nodes == nil {
		notes = fsyncErrors{Began: time.Now(), Nodes: map[string]fsyncFail{}}
	}
	for _, n := range env.Targets {
		if _, known := notes.Nodes[n.Name()]; known {
			continue
		}
		refs, err := find(ctx, n, "etcd")
		if err != nil {
			return err
		}
		if len(refs) == 0 {
			return fmt.Errorf("%s: no etcd runs there whose fsync could fail", n.Name())
		}
		notes.Nodes[n.Name()] = fsyncFail{Etcd: refs}
	}
	if err := env.Notes.Save(notes); err != nil {
		return err
	}
	for _, n := range env.Targets {
		init, err := initRef(ctx, n)
		if err != nil {
			return err
		}
		if h := f.failers[n.Name()]; h != nil {
			if !isDone(h.Done()) && f.inits[n.Name()] == init {
				continue
			}
			if err := h.Stop(ctx); err != nil {
				return err
			}
		}
		h, err := slowfsync.StartFailing(ctx, slowfsync.FailOptions{Init: init, Program: "etcd", Errno: unix.EIO, Match: f.Match, MaxHold: env.MaxHold})
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name(), err)
		}
		f.failers[n.Name()], f.inits[n.Name()] = h, init
		// After the act: the child could not be named before, and it ends with this
		// process whatever the journal says.
		note := notes.Nodes[n.Name()]
		note.Failers = append(note.Failers, h.Ref())
		notes.Nodes[n.Name()] = note
		if err := env.Notes.Save(notes); err != nil {
			return err
		}
	}
	return nil
}

// initRef names the first process of a node.
func initRef(ctx context.Context, n clusters.Node) (process.Ref, error) {
	p, ok := n.(clusters.Processes)
	if !ok {
		return process.Ref{}, fmt.Errorf("%s does not show its processes (capability %s)", n.Name(), clusters.CapProcesses)
	}
	pid, err := p.InitPID(ctx)
	if err != nil {
		return process.Ref{}, err
	}
	return process.Of(pid)
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Heal ends the tracing processes: by their leases, or in another process by their
// names. The kubelet starts etcd again when its back-off is over.
func (f *FsyncError) Heal(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for name, h := range f.failers {
		if err := h.Stop(ctx); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(f.failers, name)
	}
	var notes fsyncErrors
	if _, err := env.Notes.Load(&notes); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, s := range notes.Nodes {
		errs = append(errs, kill(ctx, s.Failers))
	}
	return errors.Join(errs...)
}

// Prove asks the member, looks for the process that ran before, and reads in etcd's
// own log why it ended.
func (f *FsyncError) Prove(ctx context.Context, env Env) (Effect, error) {
	var notes fsyncErrors
	injected, err := env.Notes.Load(&notes)
	if err != nil {
		return Effect{}, err
	}
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		down := refuses(ctx, n)
		if down != nil && ctx.Err() != nil {
			return seen{}, ctx.Err()
		}
		if down != nil {
			note := notes.Nodes[n.Name()]
			ended, err := gone(note.Etcd)
			if err != nil {
				return seen{}, err
			}
			if !injected || !ended {
				return seen{evidence: down.Error()}, nil
			}
			// Whoever ended otherwise (killed, stopped) has not said so.
			said, err := etcdSaid(ctx, n, notes.Began, unix.EIO.Error())
			if err != nil {
				return seen{}, err
			}
			return seen{broken: said != "", evidence: fmt.Sprintf("process %s ended, %v, its log: %q", pids(note.Etcd), down, said)}, nil
		}
		refs, err := find(ctx, n, "etcd")
		if err != nil {
			return seen{}, err
		}
		for _, r := range refs {
			if tracer, err := slowfsync.TracedBy(r.PID); err != nil || tracer != 0 {
				return seen{evidence: fmt.Sprintf("runs, traced by process %d", tracer)}, err
			}
		}
		if err := serves(ctx, env, n); err != nil {
			return seen{evidence: err.Error()}, nil
		}
		return seen{whole: true, evidence: fmt.Sprintf("voter in sync, API server ready, process %s", pids(refs))}, nil
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

// podLogs is where the kubelet keeps the logs of containers, one file for each:
// k8s.io/kubernetes@v1.37.0 pkg/kubelet/kuberuntime/helpers.go BuildContainerLogsDirectory.
const podLogs = "/var/log/pods"

// etcdSaid is the last message of the etcd on a node, since a time, that has a text
// in it; empty if there is none.
func etcdSaid(ctx context.Context, n clusters.Node, since time.Time, text string) (string, error) {
	f, err := files(n)
	if err != nil {
		return "", err
	}
	pods, err := f.ReadDir(ctx, podLogs)
	if err != nil {
		return "", fmt.Errorf("%s: logs: %w", n.Name(), err)
	}
	var last string
	for _, p := range pods {
		if !strings.HasPrefix(p, "kube-system_etcd-"+n.Name()+"_") {
			continue
		}
		dir := path.Join(podLogs, p, "etcd")
		logs, err := f.ReadDir(ctx, dir)
		if err != nil {
			continue // the kubelet removes the folder of a pod that is gone
		}
		for _, l := range logs {
			b, err := f.ReadFile(ctx, path.Join(dir, l))
			if err != nil {
				continue
			}
			if s := lastSaid(string(b), since, text); s != "" {
				last = s
			}
		}
	}
	return last, nil
}

// lastSaid is etcdSaid of one file, whose lines begin with a time:
// https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md.
func lastSaid(log string, since time.Time, text string) string {
	var last string
	for line := range strings.Lines(log) {
		at, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.Contains(rest, text) {
			continue
		}
		if t, err := time.Parse(time.RFC3339Nano, at); err != nil || t.Before(since) {
			continue
		}
		if _, message, ok := strings.Cut(rest, `"msg":"`); ok {
			rest, _, _ = strings.Cut(message, `"`)
			rest += ": " + text
		}
		last = rest
	}
	return last
}
