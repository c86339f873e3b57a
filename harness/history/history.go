package history

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"time"
)

// Timed is an event's content with its time.
type Timed[T any] struct {
	At  time.Duration
	Seq int64
	V   T
}

// History is a run's record in memory, each kind in order of Seq (samples in
// order of their start).
type History struct {
	Run        Run
	Stages     []Timed[Stage]
	Nodes      []Timed[Node]
	Phases     []Timed[Phase]
	Injections []Timed[Injection]
	Series     map[int]Series
	Samples    map[int][]Timed[Sample] // by series, in order of start
	Watches    []Timed[Watch]
	Writes     []Timed[Write]
	Kept       []Timed[Kept]
	Pods       []Timed[Pod]
	Jobs       []Timed[Job]
	CronJobs   []Timed[CronJob]
	Budgets    []Timed[Budget]
	Audits     []Timed[Audit]
	Etcd       []Timed[Etcd]
	Operations []Timed[Operation]
	Changes    []Timed[Changes]
	EtcdStats  []Timed[EtcdStats]
	Components []Timed[Component]
	Leases     []Timed[Lease]
	Logs       []Timed[Log]
	LogLines   []Timed[LogLine]
	Looks      []Timed[Look]
	Probes     []Timed[Probes]
	Beacons    []Timed[Beacon]
	Clocks     []Timed[Clock]
	Endpoints  []Timed[Endpoints]
	Gaps       []Timed[Gap]
	Findings   []Timed[Finding]
	Usage      []Timed[Usage]
	Busy       []Timed[Busy]
	SelfChecks []Timed[SelfCheck]
	Sources    []Timed[AlertSource]
	Alerts     []Timed[Alert]
	// End is nil if the run did not come to its end (the harness died).
	End *Timed[End]
	// Last is the latest time in the record.
	Last time.Duration
	// Torn says that the last line was not whole and was left out.
	Torn bool
}

// ErrHole is wrapped when lines are missing or damaged before the last one.
var ErrHole = errors.New("the history has a hole")

// Load reads a history. A torn last line is left out and noted; any other
// damage is an error that wraps ErrHole.
func Load(path string) (*History, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	defer f.Close()
	h, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}

// Read is Load from a reader.
func Read(r io.Reader) (*History, error) {
	h := &History{Series: map[int]Series{}, Samples: map[int][]Timed[Sample]{}}
	if err := decode(r, func(n int64, e Event) error {
		if e.Seq != n {
			return fmt.Errorf("line %d has sequence number %d: %w", n, e.Seq, ErrHole)
		}
		if n == 1 && e.Run == nil {
			return fmt.Errorf("line 1 does not describe a run: %w", ErrHole)
		}
		h.add(e)
		return nil
	}, func() { h.Torn = true }); err != nil {
		return nil, err
	}
	if h.Run.APIVersion == "" {
		return nil, fmt.Errorf("empty: %w", ErrHole)
	}
	if h.Run.APIVersion != APIVersion {
		return nil, fmt.Errorf("apiVersion %q is not %q: use the gameday that wrote it (%s)", h.Run.APIVersion, APIVersion, h.Run.Gameday)
	}
	for _, s := range h.Samples {
		sort.SliceStable(s, func(i, j int) bool { return s[i].At < s[j].At })
	}
	return h, nil
}

func (h *History) add(e Event) {
	h.Last = max(h.Last, e.At)
	switch {
	case e.Run != nil:
		h.Run = *e.Run
	case e.Stage != nil:
		put(&h.Stages, e, e.Stage)
	case e.Node != nil:
		put(&h.Nodes, e, e.Node)
	case e.Phase != nil:
		put(&h.Phases, e, e.Phase)
	case e.Injection != nil:
		put(&h.Injections, e, e.Injection)
	case e.Series != nil:
		h.Series[e.Series.ID] = *e.Series
	case e.Sample != nil:
		h.Samples[e.Sample.Series] = append(h.Samples[e.Sample.Series], Timed[Sample]{e.At, e.Seq, *e.Sample})
	case e.Watch != nil:
		put(&h.Watches, e, e.Watch)
	case e.Write != nil:
		put(&h.Writes, e, e.Write)
	case e.Kept != nil:
		put(&h.Kept, e, e.Kept)
	case e.Pod != nil:
		put(&h.Pods, e, e.Pod)
	case e.Job != nil:
		put(&h.Jobs, e, e.Job)
	case e.CronJob != nil:
		put(&h.CronJobs, e, e.CronJob)
	case e.Budget != nil:
		put(&h.Budgets, e, e.Budget)
	case e.Audit != nil:
		put(&h.Audits, e, e.Audit)
	case e.Etcd != nil:
		put(&h.Etcd, e, e.Etcd)
	case e.Operation != nil:
		put(&h.Operations, e, e.Operation)
	case e.Changes != nil:
		put(&h.Changes, e, e.Changes)
	case e.EtcdStats != nil:
		put(&h.EtcdStats, e, e.EtcdStats)
	case e.Component != nil:
		put(&h.Components, e, e.Component)
	case e.Lease != nil:
		put(&h.Leases, e, e.Lease)
	case e.Log != nil:
		put(&h.Logs, e, e.Log)
	case e.LogLine != nil:
		put(&h.LogLines, e, e.LogLine)
	case e.Look != nil:
		put(&h.Looks, e, e.Look)
	case e.Probes != nil:
		put(&h.Probes, e, e.Probes)
	case e.Beacon != nil:
		put(&h.Beacons, e, e.Beacon)
	case e.Clock != nil:
		put(&h.Clocks, e, e.Clock)
	case e.Endpoints != nil:
		put(&h.Endpoints, e, e.Endpoints)
	case e.Gap != nil:
		put(&h.Gaps, e, e.Gap)
	case e.Finding != nil:
		put(&h.Findings, e, e.Finding)
	case e.Usage != nil:
		put(&h.Usage, e, e.Usage)
	case e.SelfCheck != nil:
		put(&h.SelfChecks, e, e.SelfCheck)
	case e.Source != nil:
		put(&h.Sources, e, e.Source)
	case e.Alert != nil:
		put(&h.Alerts, e, e.Alert)
	case e.Busy != nil:
		put(&h.Busy, e, e.Busy)
	case e.End != nil:
		h.End = &Timed[End]{e.At, e.Seq, *e.End}
	}
}

func put[T any](to *[]Timed[T], e Event, v *T) {
	*to = append(*to, Timed[T]{e.At, e.Seq, *v})
}
