package faults

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/cgroup"
)

var pidsPressure = Kind{
	Name: "pids.pressure",
	Doc:  "Leaves the targets only a few more processes and threads to start; then fork and clone fail.",
	Rehearses: "A program that leaks processes or threads until nobody on the node can start one: Go programs die of it " +
		"(\"failed to create new OS thread\"), and no container is started. It is why the kubelet limits process ids " +
		"(https://kubernetes.io/docs/concepts/policy/pid-limiting/).",
	Mechanism:   "pids.max of the node's control group = what it has now and a few more",
	Undo:        "the guard, or gameday heal, puts the noted limit back",
	Roles:       []clusters.Role{clusters.ControlPlane, clusters.Worker},
	Needs:       []clusters.Capability{clusters.CapCgroup, clusters.CapExec, clusters.CapKubelet},
	Cost:        Cost{Nodes: 1},
	ProveWithin: 30 * time.Second,
	// What died for want of a thread is started again by systemd and the kubelet.
	GoneWithin: 3 * time.Minute,
	Trials:     []Trial{{Name: "pids-pressure", Target: Target{Pick: PickOne, Role: "worker"}}},
	New:        func() Fault { return &PIDsPressure{Left: 60} },
}

// pidsSlack is how many more than are left a node must be able to start to count
// as whole, and how many fewer it may: others start and end meanwhile.
const pidsSlack = 100

// PIDsPressure is the fault pids.pressure.
type PIDsPressure struct {
	// Left is how many processes and threads a target may start beyond those of the
	// time of the injection. To run a command on it takes some 20.
	Left int `yaml:"left" json:"left"`
}

// Validate implements Validator.
func (f *PIDsPressure) Validate() []error {
	if f.Left < 0 || f.Left > 10_000 {
		return []error{fmt.Errorf("left: %d is not between 0 and 10000", f.Left)}
	}
	return nil
}

// Describe implements Describer.
func (f *PIDsPressure) Describe(targets []string) []string {
	return each(targets, fmt.Sprintf("%%s: pids.max of its control group = pids.current + %d", f.Left))
}

// Inject lowers the limit. A second one does so from what runs then.
func (f *PIDsPressure) Inject(ctx context.Context, env Env) error {
	return lower(ctx, env, cgroup.PIDs, func(_ clusters.Node, g cgroup.Group, l cgroup.Limit) error {
		now, err := settled(ctx, g.Processes)
		if err != nil {
			return err
		}
		return l.Lower(now + int64(f.Left))
	})
}

const (
	// settleLooks is how many looks in a row must see no fewer than the one before,
	// settleEvery the time between two, settleBound the time for all.
	settleLooks = 5
	settleEvery = 50 * time.Millisecond
	settleBound = 5 * time.Second
)

// settled counts when the number has ceased to fall: those that a look before has
// started are still ending, and would leave as many more to start.
func settled(ctx context.Context, count func() (int64, error)) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, settleBound)
	defer cancel()
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	least, calm := int64(math.MaxInt64), 0
	for {
		now, err := count()
		if err != nil {
			return 0, err
		}
		if calm++; now < least {
			least, calm = now, 0
		}
		if calm >= settleLooks {
			return least, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("the number of processes goes on falling, %d now: %w", now, context.Cause(ctx))
		}
	}
}

// Heal puts the old limits back.
func (*PIDsPressure) Heal(ctx context.Context, env Env) error { return raise(ctx, env) }

// Prove has a shell on the node start processes until one fails.
func (f *PIDsPressure) Prove(ctx context.Context, env Env) (Effect, error) {
	want := f.Left + pidsSlack
	var mu sync.Mutex
	most := -1
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		g, err := group(ctx, n)
		if err != nil {
			return seen{}, err
		}
		l, err := g.Read(cgroup.PIDs)
		if err != nil {
			return seen{}, fmt.Errorf("%s: %w", n.Name(), err)
		}
		got, all, err := canStart(ctx, n, want)
		if err != nil {
			return seen{}, err
		}
		mu.Lock()
		most = max(most, got)
		mu.Unlock()
		s := seen{broken: !all, whole: all && !l.Marked(env.Tag), evidence: fmt.Sprintf("a shell there could start %d processes", got)}
		if !all {
			s.evidence += ", and then no more"
		}
		return s, nil
	})
	if err != nil {
		return e, err
	}
	e.Asked, e.Measured, e.Unit = float64(f.Left), float64(most), "processes"
	if rest := restNodes(env); e.Active && len(rest) > 0 {
		e.Control, err = control(ctx, rest, fmt.Sprintf("can start %d processes", want), func(ctx context.Context, n clusters.Node) error {
			got, all, err := canStart(ctx, n, want)
			if err == nil && !all {
				err = fmt.Errorf("%s could start only %d", n.Name(), got)
			}
			return err
		})
		if err != nil {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but no other node can either: %v", err)
		}
	}
	e.At = time.Now()
	return e, nil
}

// startMany starts $1 processes that wait, says how many there are each time, and
// ends them all, also when it ends itself because it cannot start another (which
// dash, the sh of Debian, does at once; bash would go on trying for half a minute).
const startMany = `i=0; trap 'kill $pids' EXIT
while [ $i -lt $1 ]; do sleep 20 >/dev/null 2>&1 & pids="$pids $!"; i=$((i+1)); echo $i; done; echo done`

// canStart says how many processes a node can start, up to want.
func canStart(ctx context.Context, n clusters.Node, want int) (got int, all bool, err error) {
	x, ok := n.(clusters.Execer)
	if !ok {
		return 0, false, fmt.Errorf("%s cannot run commands (capability %s)", n.Name(), clusters.CapExec)
	}
	var out strings.Builder
	err = x.Exec(ctx, clusters.Command{Argv: []string{"sh", "-c", startMany, "sh", strconv.Itoa(want)}, Stdout: &out})
	if err != nil && ctx.Err() != nil {
		return 0, false, err
	}
	got, all = counted(out.String())
	switch {
	case all && err == nil, got > 0 && got < want:
		return got, all, nil
	case err != nil && lacksProcesses(err):
		return got, false, nil
	case err == nil:
		err = errors.New("the shell said nothing of its end")
	}
	return 0, false, fmt.Errorf("%s: start %d processes: %w", n.Name(), want, err)
}

// counted reads the last number that the shell said.
func counted(out string) (got int, all bool) {
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "done" {
			return got, true
		}
		if n, err := strconv.Atoi(line); err == nil {
			got = n
		}
	}
	return got, false
}

// lacksProcesses tells the errors of those who cannot start a process: of the
// shell (strerror of EAGAIN), and of what Docker starts it with.
func lacksProcesses(err error) bool {
	s := err.Error()
	for _, words := range []string{"Resource temporarily unavailable", "resource temporarily unavailable", "failed to create new OS thread", "pthread_create", "newosproc", "Cannot fork", "retry: "} {
		if strings.Contains(s, words) {
			return true
		}
	}
	return false
}
