package slo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gameday/harness/history"
)

// book builds histories by hand. Times are seconds of the run.
type book struct{ h *history.History }

// zero is the wall clock at the beginning: a whole minute.
var zero = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

func sec(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// wall is a time as the API says it: cut to the second.
func wall(s float64) time.Time { return zero.Add(sec(s)).Truncate(time.Second) }

// newBook is a run from 0 to end: steady from 0 to 10 s, samplers stopped at
// end, with three control planes and two workers.
func newBook(end float64) *book {
	b := &book{&history.History{
		Run:    history.Run{APIVersion: history.APIVersion, ID: "r1", Scenario: "test", Began: zero, Seed: 7, Provider: "kind", From: "v1.36.1", Gameday: "dev"},
		Series: map[int]history.Series{}, Samples: map[int][]history.Timed[history.Sample]{},
	}}
	b.stage(0, "steady", stateBegan, "").stage(10, "steady", "ended", "")
	b.stage(end, "final", stateBegan, "").stage(end+1, "final", "ended", "")
	for i := range 3 {
		b.node(0, history.Node{Name: fmt.Sprintf("cp%d", i), Place: fmt.Sprintf("control-plane[%d]", i), Ready: "True", Version: "v1.36.1", Taints: []string{"node-role.kubernetes.io/control-plane:NoSchedule"}})
	}
	for i := range 2 {
		b.node(0, history.Node{Name: fmt.Sprintf("w%d", i), Place: fmt.Sprintf("worker[%d]", i), Ready: "True", Version: "v1.36.1"})
	}
	b.h.End = &history.Timed[history.End]{At: sec(end + 2)}
	b.h.Last = sec(end + 2)
	return b
}

// add puts an event at its time and gives it the next number.
func add[T any](b *book, to *[]history.Timed[T], at float64, v T) *book {
	*to = append(*to, history.Timed[T]{At: sec(at), Seq: int64(len(b.h.Pods)+len(b.h.Writes)+len(b.h.Kept)) + 1, V: v})
	return b
}

func (b *book) stage(at float64, name, state, err string) *book {
	return add(b, &b.h.Stages, at, history.Stage{Name: name, State: state, Error: err})
}
func (b *book) node(at float64, n history.Node) *book { return add(b, &b.h.Nodes, at, n) }
func (b *book) gap(source string, from, to float64) *book {
	return add(b, &b.h.Gaps, to, history.Gap{Source: source, From: sec(from), To: sec(to), Reason: "lost"})
}
func (b *book) phase(at float64, path, node, state, outcome, expected string) *book {
	return add(b, &b.h.Phases, at, history.Phase{Path: path, Node: node, State: state, Outcome: outcome, Expected: expected})
}

// step is a phase with its beginning and its end.
func (b *book) step(from, to float64, path, node, outcome, expected string) *book {
	return b.phase(from, path, node, stateBegan, "", expected).phase(to, path, node, "ended", outcome, expected)
}

// inject records the states of an injection at their times.
func (b *book) inject(id, phase, node string, states ...any) *book {
	for i := 0; i < len(states); i += 2 {
		v := history.Injection{ID: id, Fault: "network.partition", Phase: phase, State: states[i].(string), Targets: []string{"worker[0]"}, Nodes: []string{node}}
		switch v.State {
		case "proven":
			v.Proof, v.Control, v.Asked, v.Measured, v.Unit = "no way through", "others reach each other", 500, 510, "ms"
		case "unproven", "skipped", "stuck":
			v.Error = "because of " + id
		}
		add(b, &b.h.Injections, toFloat(states[i+1]), v)
	}
	return b
}

func toFloat(v any) float64 {
	switch v := v.(type) {
	case int:
		return float64(v)
	case float64:
		return v
	}
	panic("no number")
}

// fault is one that went well.
func (b *book) fault(id, phase, node string, proven, gone float64) *book {
	return b.inject(id, phase, node, "requested", proven-1, "armed", proven-.2, "injected", proven-.1, "proven", proven, "healing", gone-.2, "healed", gone-.1, "gone", gone)
}

// want checks a result.
func want(t *testing.T, r Result, v Verdict, reason string) {
	t.Helper()
	if r.Verdict != v || !strings.Contains(r.Reason, reason) {
		t.Errorf("%s: %s: %s\nwant %s with %q", r.Name, r.Verdict, r.Reason, v, reason)
	}
}

// named finds a result.
func named(t *testing.T, list []Result, name string) Result {
	t.Helper()
	for _, r := range list {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("no result %s among %+v", name, list)
	return Result{}
}
