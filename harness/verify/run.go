package verify

import (
	"context"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gameday/clusters"
)

// Options say what to try.
type Options struct {
	// Trials in the order of the catalogue.
	Trials []Trial
	// Kill tries each fault once in a process that is killed.
	Kill bool
	// Sequences is how many sequences of overlapping faults to try.
	Sequences int
	// Gameday is version and revision of the program.
	Gameday string
}

// Run tries all, and returns what it found, whatever that is. After the end of ctx
// it begins nothing more.
func (v *Verifier) Run(ctx context.Context, o Options) *Table {
	began := time.Now()
	t := v.NewTable(ctx, o.Gameday)
	trials := Shuffle(o.Trials, v.cfg.Seed)
	for i, tr := range trials {
		if ctx.Err() != nil {
			t.Trials = append(t.Trials, Row{Fault: tr.Kind.Name, Trial: tr.Name, Asked: tr.Target.String(), Verdict: Inconclusive, Reason: "interrupted before it"})
			continue
		}
		r := v.Try(ctx, tr)
		v.cfg.Say("[%d/%d] %s: %s %s", i+1, len(trials), tr.Name, r.Verdict, r.Reason)
		t.Trials = append(t.Trials, r)
	}
	if o.Kill {
		for _, tr := range Victims(trials, t.Trials) {
			if ctx.Err() != nil {
				break
			}
			k := v.Kill(ctx, tr)
			v.cfg.Say("%s killed when %s: %s %s", tr.Name, k.Moment, k.Verdict, k.Reason)
			t.Kills = append(t.Kills, k)
		}
	}
	if o.Sequences > 0 {
		quick := Quick(trials, t.Trials)
		for n := 1; n <= o.Sequences && ctx.Err() == nil; n++ {
			s := v.Sequence(ctx, n, quick)
			v.cfg.Say("sequence %d: %s %s", n, s.Verdict, s.Reason)
			t.Sequences = append(t.Sequences, s)
		}
	}
	t.Finish(o.Trials, time.Since(began))
	if ctx.Err() != nil && rank(t.Verdict) < rank(Inconclusive) {
		t.Verdict = Inconclusive // what was not begun
	}
	return t
}

// NewTable is an empty one, with what is known beforehand.
func (v *Verifier) NewTable(ctx context.Context, gameday string) *Table {
	c := v.cfg.Cluster
	t := &Table{
		Gameday: gameday, Seed: v.cfg.Seed, Began: time.Now().UTC().Truncate(time.Second),
		Cluster: Cluster{
			Name: c.Name(), Provider: c.Provider(),
			ControlPlanes: len(clusters.ByRole(c.Nodes(), clusters.ControlPlane)), Workers: len(clusters.ByRole(c.Nodes(), clusters.Worker)),
		},
		Machine: Machine{CPUs: runtime.NumCPU()},
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		t.Machine.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if v.client == nil {
		return t
	}
	nodes, err := v.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		v.cfg.Say("version of the cluster: %v", err)
		return t
	}
	for _, n := range nodes.Items {
		t.Cluster.Version = n.Status.NodeInfo.KubeletVersion
	}
	return t
}

// lengthOf is how long it took from the heal until the cluster was whole.
func (r Row) lengthOf() time.Duration {
	if r.Gone == nil || r.Whole == nil {
		return 0
	}
	return time.Duration((*r.Gone + *r.Whole) * float64(time.Millisecond))
}

// rowOf finds the row of a trial.
func rowOf(rows []Row, trial string) (Row, bool) {
	i := slices.IndexFunc(rows, func(r Row) bool { return r.Trial == trial })
	if i < 0 {
		return Row{}, false
	}
	return rows[i], true
}
