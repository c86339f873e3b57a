package matrix

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gameday/harness/eviction"
	"gameday/harness/slo"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

func fast(t *testing.T) Named {
	t.Helper()
	data, err := os.ReadFile("testdata/fast.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f, err := eviction.LoadFile(data, "fast.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return Named{"fast", f}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date; it would be:\n%s", path, got)
	}
}

func sec(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// cell of fast.yaml.
func cell(t *testing.T, settings Named, cut Cut, l Length) Cell {
	t.Helper()
	cells, err := Cells(settings, []Cut{cut}, []Length{l})
	if err != nil {
		t.Fatal(err)
	}
	return cells[0]
}

// TestCells: the whole matrix of fast.yaml and what the model says of it. Look at it,
// then `go test ./harness/eviction/matrix -update`.
func TestCells(t *testing.T) {
	cells, err := Cells(fast(t), Cuts(), Lengths())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range cells {
		if c.None != "" {
			b.WriteString(c.Name() + ": not there: " + c.None + "\n")
			continue
		}
		b.WriteString(c.Name() + ": " + strings.Join(c.Case.Cut.Nodes, " ") + " for " + c.Case.Cut.Heal.String() + ": " + c.Answer().String() + "\n")
		// What is planned must be decided, or be of the length that is not.
		s := c.Case
		s.Settings.Slack += room
		if open := undecided(eviction.Predict(s)); (open == "") != (c.Length != Between) {
			t.Errorf("%s: %q", c.Name(), open)
		}
	}
	golden(t, "cells.golden", []byte(b.String()))
}

// TestNoCells: clusters that have no such cell.
func TestNoCells(t *testing.T) {
	small := fast(t)
	small.Zones = []eviction.ZoneOf{{Name: "a", Nodes: 2}}
	cells, err := Cells(small, Cuts(), []Length{Above})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cells {
		if want := slices.Contains([]Cut{Under, Threshold, Zone, Workers}, c.Cut); (c.None != "") != want {
			t.Errorf("%s: %q", c.Name(), c.None)
		}
	}
	none := fast(t)
	none.Zones = nil
	if _, err := Cells(none, Cuts(), Lengths()); err == nil {
		t.Error("cells of a cluster without nodes")
	}
}

// TestGiven: what the components are started with.
func TestGiven(t *testing.T) {
	spec, s, err := Given(fast(t).File)
	if err != nil {
		t.Fatal(err)
	}
	if spec.ControlPlanes != 1 || spec.Workers != 12 || len(s.WorkerLabels) != 12 || s.NoControlPlaneNodes || s.NodeLease != 4*time.Second {
		t.Errorf("%+v %+v", spec, s)
	}
	if got := s.ControllerManager["node-monitor-grace-period"]; got != "6s" {
		t.Errorf("grace period %s", got)
	}
	managed := fast(t)
	managed.Zones[0].ControlPlanes = 0
	if spec, s, err := Given(managed.File); err != nil || spec.ControlPlanes != 1 || spec.Workers != 13 || !s.NoControlPlaneNodes {
		t.Errorf("%+v %+v %v", spec, s, err)
	}
	apart := fast(t)
	apart.Zones[1].ControlPlanes = 1
	if _, _, err := Given(apart.File); err == nil {
		t.Error("control planes of two zones")
	}
}

// TestJudge: records of a cell in which one node is cut off, good and bad.
func TestJudge(t *testing.T) {
	c := cell(t, fast(t), One, Above)
	good := func() Record {
		return Record{
			Seen: eviction.Observation{
				Unknown: map[string]time.Duration{"a-node-1": sec(6.4)},
				Taints:  []eviction.Taint{{Node: "a-node-1", On: sec(6.5), Off: c.Case.Cut.Heal + sec(0.7)}},
				Deleted: map[string]time.Duration{"default/a-node-1-0-0": sec(14.6)},
				Until:   c.Case.Cut.Heal + sec(0.8),
			},
			Heal: c.Case.Cut.Heal, Back: c.Case.Cut.Heal + sec(0.8), Took: sec(0.01), Late: sec(0.1),
		}
	}
	for _, tc := range []struct {
		name    string
		spoil   func(*Cell, *Record)
		verdict slo.Verdict
		why     string
	}{
		{"as predicted", func(*Cell, *Record) {}, slo.Pass, ""},
		{"the controller has a longer grace period", func(_ *Cell, r *Record) {
			r.Seen.Unknown["a-node-1"], r.Seen.Taints[0].On, r.Seen.Deleted["default/a-node-1-0-0"] = sec(12.4), sec(12.5), sec(20.6)
		}, slo.Fail, "a-node-1: grace: Unknown at 0:12.4"},
		{"the settings file says another grace period", func(c *Cell, _ *Record) {
			c.Case.Settings.ControllerManager.NodeMonitorGracePeriod = 12 * time.Second
		}, slo.Fail, "a-node-1: grace: Unknown at 0:06.4, 4.56s too early"},
		{"tolerations ignored", func(_ *Cell, r *Record) { r.Seen.Deleted["default/a-node-1-0-0"] = sec(6.7) }, slo.Fail, "default/a-node-1-0-0: toleration: deleted at 0:06.7, and it was due"},
		{"a DaemonSet's pod deleted", func(_ *Cell, r *Record) { r.Seen.Deleted["default/a-node-1-1-0"] = sec(14.7) }, slo.Fail, "default/a-node-1-1-0: toleration"},
		{"a healthy node", func(_ *Cell, r *Record) { r.Seen.Unknown["b-node-1"] = sec(7) }, slo.Fail, "b-node-1: reachable"},
		{"not back", func(_ *Cell, r *Record) { r.Back, r.Seen.Until = 0, r.Heal+time.Minute; r.Seen.Taints[0].Off = 0 }, slo.Fail, "a-node-1: returns-in-time"},
		{"a machine that was late widens the windows", func(_ *Cell, r *Record) { r.Seen.Unknown["a-node-1"], r.Late = sec(9.2), sec(1.5) }, slo.Pass, ""},
		{"so late that healthy nodes may be Unknown", func(_ *Cell, r *Record) { r.Late = sec(5) }, slo.Inconclusive, "(heartbeat)"},
		{"a record with a gap, whatever is in it", func(_ *Cell, r *Record) {
			r.Doubts, r.Seen.Deleted = []string{"the watch of pods ended"}, nil
		}, slo.Inconclusive, "the watch of pods ended"},
		{"healed between the bounds", func(_ *Cell, r *Record) {
			r.Heal, r.Back, r.Seen.Until, r.Seen.Taints[0].Off = sec(14), sec(14.8), sec(14.9), sec(14.7)
		}, slo.Inconclusive, "leaves open whether 0 to 1 of 1 nodes"},
		{"nothing was cut off", func(_ *Cell, r *Record) { *r = Record{Doubts: []string{"the cluster was not whole"}} }, slo.Inconclusive, "the cluster was not whole"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, r := c, good()
			tc.spoil(&c, &r)
			o := Judge(c, r)
			if o.Verdict != tc.verdict || tc.why == "" && o.Why != "" || !strings.Contains(o.Why, tc.why) {
				t.Errorf("%s: %s\nwant %s: %s", o.Verdict, o.Why, tc.verdict, tc.why)
			}
		})
	}
}

// TestBrakeRemoved: a controller that taints on though the brake must hold.
func TestBrakeRemoved(t *testing.T) {
	c := cell(t, fast(t), Threshold, Above)
	r := Record{
		Seen: eviction.Observation{Unknown: map[string]time.Duration{}, Deleted: map[string]time.Duration{}, Until: c.Case.Cut.Heal + time.Second},
		Heal: c.Case.Cut.Heal, Back: c.Case.Cut.Heal + time.Second, Late: sec(0.1),
	}
	for i, n := range c.Case.Cut.Nodes {
		on := sec(6.5 + 2*float64(i))
		r.Seen.Unknown[n] = sec(6.4)
		r.Seen.Taints = append(r.Seen.Taints, eviction.Taint{Node: n, On: on, Off: c.Case.Cut.Heal + sec(0.7)})
		r.Seen.Deleted["default/"+n+"-0-0"] = on + sec(8.1)
	}
	o := Judge(c, r)
	if o.Verdict != slo.Fail || !slices.ContainsFunc(o.Broken, func(v eviction.Violation) bool { return v.Rule == eviction.RulePartial }) {
		t.Errorf("%s: %v", o.Verdict, o.Broken)
	}
}

// TestWorst: what is not tried passes nothing.
func TestWorst(t *testing.T) {
	of := func(list ...slo.Verdict) []Outcome {
		var out []Outcome
		for _, v := range list {
			out = append(out, Outcome{Verdict: v})
		}
		return out
	}
	for _, tc := range []struct {
		in   []Outcome
		want slo.Verdict
	}{
		{of(slo.Pass, "", slo.Pass), slo.Pass}, {of("", ""), slo.Inconclusive}, {of(), slo.Inconclusive},
		{of(slo.Pass, slo.Inconclusive), slo.Inconclusive}, {of(slo.Fail, slo.Inconclusive, slo.Pass), slo.Fail},
	} {
		if got := Worst(tc.in); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.in, got, tc.want)
		}
	}
}
