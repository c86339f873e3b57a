// Package verify shows, with figures, that every fault of the catalogue keeps its
// contract on a real cluster: that its proof says no while nothing is broken, that
// it bites and is proven while others are well, that it bears a second Inject and a
// second Heal, that it goes away, and that nothing differs from before then; and
// the same when the process that injected it is killed at any moment.
//
//	Verifier.Try        one trial of a fault, through harness/inject
//	Verifier.Kill       one trial in a process that is killed at a drawn moment
//	Verifier.Sequence   several faults that overlap, within the fault budget
//	Take, Snapshot      what faults touch on every node and on this machine
//	Table               the figures, as text, JSON and Markdown
package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
	"gameday/faults"
	"gameday/harness/gate"
	"gameday/harness/inject"
	"gameday/harness/plan"
)

const (
	// hold is how long a trial keeps its fault. Watch looks once a second, so that
	// is two looks.
	hold = 2500 * time.Millisecond
	// maxHold ends a fault of a trial that nobody ended.
	maxHold = 5 * time.Minute
	// twin is how long the proof is looked at while nothing is injected, twinLooks
	// how often at least.
	twin      = 500 * time.Millisecond
	twinLooks = 2
	// convergeWithin bounds the wait until the cluster is whole: the kubelet's
	// back-off is at most 5 min, k8s.io/kubernetes@v1.37.0 pkg/kubelet/kubelet.go
	// MaxCrashLoopBackOff.
	convergeWithin = 8 * time.Minute
	// settleWithin is how much longer what differs from before may go on
	// disappearing: the kubelet and containerd clear up behind them.
	settleWithin = 45 * time.Second
	// settlePoll is between two looks at what differs.
	settlePoll = time.Second
)

// Trial is a trial of the catalogue with its fault.
type Trial struct {
	faults.Trial
	Kind faults.Kind
}

// Select names the trials of the given faults and trials, or all, in the order of
// the catalogue.
func Select(catalogue []faults.Kind, names []string) ([]Trial, error) {
	var out []Trial
	var known []string
	seen := map[string]bool{}
	for _, k := range catalogue {
		known = append(known, k.Name)
		for _, t := range k.Trials {
			known = append(known, t.Name)
			if len(names) == 0 || slices.Contains(names, k.Name) || slices.Contains(names, t.Name) {
				out = append(out, Trial{t, k})
				seen[k.Name], seen[t.Name] = true, true
			}
		}
	}
	for _, n := range names {
		if !seen[n] {
			return nil, &UnknownError{Name: n, Known: known}
		}
	}
	for _, t := range out {
		if _, err := t.fault(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// UnknownError is a name that is neither a fault nor a trial of the catalogue.
type UnknownError struct {
	Name  string
	Known []string
}

func (e *UnknownError) Error() string { return fmt.Sprintf("%q is no fault and no trial", e.Name) }

// Shuffle puts trials into the order that the seed draws.
func Shuffle(trials []Trial, seed uint64) []Trial {
	out := slices.Clone(trials)
	// From the same order, whatever the catalogue's is.
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	plan.Rand(seed, "verify/order").Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// fault is a fresh value with the trial's parameters.
func (t Trial) fault() (faults.Fault, error) {
	f := t.Kind.New()
	d := yaml.NewDecoder(strings.NewReader(t.With))
	d.KnownFields(true)
	if err := d.Decode(f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("parameters of trial %s: %w", t.Name, err)
	}
	if v, ok := f.(faults.Validator); ok {
		if err := errors.Join(v.Validate()...); err != nil {
			return nil, fmt.Errorf("parameters of trial %s: %w", t.Name, err)
		}
	}
	return f, nil
}

// Config of a verification.
type Config struct {
	Cluster clusters.Cluster
	// Run names what it makes; Dir is its folder, which exists.
	Run, Dir string
	Seed     uint64
	// Say reports progress.
	Say clusters.Say
}

// Verifier tries faults on a cluster.
type Verifier struct {
	cfg     Config
	client  kubernetes.Interface
	journal *inject.Journal
	guard   *inject.Guard
	// whole waits until the cluster is, take takes a snapshot of it; tests have
	// others.
	whole func(ctx context.Context, bound time.Duration) error
	take  func(ctx context.Context) (Snapshot, error)
	facts func(ctx context.Context, k faults.Kind, t faults.Target) (faults.Facts, error)
	// hold and settleWithin of this verification.
	hold, settleFor time.Duration
	// tries counts how often a trial was tried: an injection's name is used once.
	tries map[string]int
}

// New opens the journal of a verification and starts its guard.
func New(ctx context.Context, cfg Config) (*Verifier, error) {
	client, err := gate.Client(cfg.Cluster)
	if err != nil {
		return nil, err
	}
	v := &Verifier{cfg: cfg, client: client, hold: hold, settleFor: settleWithin, tries: map[string]int{}}
	v.whole = func(ctx context.Context, bound time.Duration) error {
		return gate.Wait(ctx, "the cluster to be whole", bound, func(ctx context.Context) string {
			return gate.All(ctx, cfg.Cluster, client)
		})
	}
	v.take = func(ctx context.Context) (Snapshot, error) { return Take(ctx, cfg.Cluster, client, cfg.Run) }
	v.facts = func(ctx context.Context, k faults.Kind, t faults.Target) (faults.Facts, error) {
		return faults.FactsOf(ctx, cfg.Cluster, client, k, t)
	}
	return v, v.open(ctx)
}

func (v *Verifier) open(ctx context.Context) (err error) {
	v.journal, err = inject.OpenJournal(filepath.Join(v.cfg.Dir, "journal.jsonl"), inject.Header{
		Run: v.cfg.Run, Provider: v.cfg.Cluster.Provider(), Cluster: v.cfg.Cluster.Name(),
	})
	if err != nil {
		return err
	}
	if v.guard, err = inject.StartGuard(ctx, v.journal, inject.DefaultLease); err != nil {
		return errors.Join(err, v.journal.Close())
	}
	return nil
}

// Close ends the guard, which first heals what is open still.
func (v *Verifier) Close(ctx context.Context) error {
	return errors.Join(v.guard.Stop(ctx), v.journal.Close())
}

// rand is the generator of one draw.
func (v *Verifier) rand(id string) *rand.Rand { return plan.Rand(v.cfg.Seed, id) }

// Unhealed refuses to begin beside faults that a dead run left on the same
// cluster.
func Unhealed(cluster string) error {
	open, err := inject.OpenJournals()
	if err != nil {
		return err
	}
	for _, f := range open {
		c, err := inject.ReadJournal(f.Path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if c.Holder.Cluster != cluster || len(c.Open()) == 0 {
			continue
		}
		alive, err := c.Holder.Alive()
		if err != nil {
			return err
		}
		if !alive {
			return fmt.Errorf("run %s left %d faults on cluster %s that are not healed: run `gameday heal` first", f.Run, len(c.Open()), cluster)
		}
	}
	return nil
}

// resolve names the nodes that a trial hits, or says why it cannot.
func (v *Verifier) resolve(ctx context.Context, t Trial, rng *rand.Rand) ([]clusters.Node, error) {
	facts, err := v.facts(ctx, t.Kind, t.Target)
	if err != nil {
		return nil, err
	}
	nodes, err := t.Target.Resolve(t.Kind, v.cfg.Cluster.Nodes(), facts, rng)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		for _, c := range t.Kind.Needs {
			if !clusters.Has(n, c) {
				return nodes, &lackError{node: clusters.Place(n), provider: v.cfg.Cluster.Provider(), lacks: c}
			}
		}
	}
	return nodes, nil
}

// lackError is a target that cannot do what the fault needs.
type lackError struct {
	node, provider string
	lacks          clusters.Capability
}

func (e *lackError) Error() string {
	return fmt.Sprintf("provider %s cannot do this: %s lacks %s", e.provider, e.node, e.lacks)
}

func (e *lackError) Unwrap() error { return errors.ErrUnsupported }

func places(nodes []clusters.Node) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, clusters.Place(n))
	}
	return out
}

// oneLine is an error on one line of a table.
func oneLine(err error) string {
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}
