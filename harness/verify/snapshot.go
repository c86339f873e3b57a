package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

// Snapshot is what faults touch, as lines: of each node its nftables, mounts,
// control groups, routes, queues, files and the state of its processes; of this
// machine what carries the name of the cluster or the run; of the cluster its etcd
// members and the settings that the API holds. What changes by itself when a
// container is restarted (process ids, container ids, the mounts of pods) is left
// out, or named without its id.
type Snapshot map[string]bool

func (s Snapshot) add(where, format string, args ...any) {
	s[where+": "+fmt.Sprintf(format, args...)] = true
}

// Diff names what is only in s ("gone") or only in after ("new"), in order.
func (s Snapshot) Diff(after Snapshot) []string {
	var out []string
	for l := range s {
		if !after[l] {
			out = append(out, "gone: "+l)
		}
	}
	for l := range after {
		if !s[l] {
			out = append(out, "new: "+l)
		}
	}
	// By what it is about, not by what became of it.
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if x, y := a[len("gone: "):], b[len("gone: "):]; x != y {
			return x < y
		}
		return a < b
	})
	return out
}

// Take takes a snapshot of a cluster and this machine. An error is a part that
// could not be seen; the rest is there.
func Take(ctx context.Context, c clusters.Cluster, cli kubernetes.Interface, run string) (Snapshot, error) {
	var parts []func(context.Context, Snapshot) error
	for _, n := range c.Nodes() {
		parts = append(parts, func(ctx context.Context, s Snapshot) error {
			if err := nodeSnapshot(ctx, n, s); err != nil {
				return fmt.Errorf("%s: %w", clusters.Place(n), err)
			}
			return nil
		})
	}
	parts = append(parts,
		func(ctx context.Context, s Snapshot) error { return machineSnapshot(ctx, c, run, s) },
		func(ctx context.Context, s Snapshot) error { return etcdSnapshot(ctx, c, s) },
		func(ctx context.Context, s Snapshot) error { return apiSnapshot(ctx, cli, s) },
	)
	taken := make([]Snapshot, len(parts))
	errs := make([]error, len(parts))
	var all sync.WaitGroup
	for i, p := range parts {
		taken[i] = Snapshot{}
		all.Go(func() { errs[i] = p(ctx, taken[i]) })
	}
	all.Wait()
	whole := Snapshot{}
	for _, s := range taken {
		for l := range s {
			whole[l] = true
		}
	}
	return whole, errors.Join(errs...)
}

// nodeSnapshot is what can be seen of a node from this machine.
func nodeSnapshot(ctx context.Context, n clusters.Node, s Snapshot) error {
	p, ok := n.(clusters.Processes)
	if !ok {
		return nil // nothing on it can have been touched by a fault either
	}
	pid, err := p.InitPID(ctx)
	if err != nil {
		return err
	}
	where := clusters.Place(n)
	groups, err := groupsOf(pid)
	if err != nil {
		return err
	}
	errs := []error{
		mountLines(pid, where, s), fileLines(pid, where, s), cgroupLines(groups, where, s), processLines(groups, where, s),
	}
	if net, ok := n.(clusters.Network); ok {
		link, err := net.Link(ctx)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, nftLines(link.NetNS, where, nil, s), netLines(link, where, s))
	}
	return errors.Join(errs...)
}

// sorted is a list in order, for a line.
func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}
