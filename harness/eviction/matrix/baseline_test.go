package matrix

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gameday/harness/eviction"
	"gameday/harness/slo"
)

// written is the matrix of one cell, judged as if it had been seen to be so, and read
// again from its file.
func written(t *testing.T, settings Named, v slo.Verdict) Document {
	t.Helper()
	c := cell(t, settings, One, Above)
	o := Outcome{Cell: c, Verdict: v, Record: Record{Heal: c.Case.Cut.Heal, Seen: eviction.Observation{Until: c.Case.Cut.Heal + time.Second}}}
	if v != slo.Pass {
		o.Why = "a-node-1: grace: Unknown too late"
		o.Broken = []eviction.Violation{{Rule: eviction.RuleGrace, Subject: "a-node-1", Text: "Unknown too late"}}
	}
	if v == "" {
		o.None, o.Record = "no such cell", Record{}
	}
	d := NewDocument("test", time.Now(), time.Minute, []Outcome{o})
	data, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "matrix.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if d, err = Load(path); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestBaseline: whose doing a change is.
func TestBaseline(t *testing.T) {
	of := func(version string, grace time.Duration) Named {
		n := fast(t)
		n.Version, n.ControllerManager.NodeMonitorGracePeriod = version, grace
		return n
	}
	const g = 6 * time.Second
	for _, tc := range []struct {
		name    string
		was, is Document
		kind    ChangeKind
		text    string
	}{
		{"nothing", written(t, of("v1.37.0", g), slo.Pass), written(t, of("v1.37.0", g), slo.Pass), "", ""},
		{"a patch release", written(t, of("v1.36.1", g), slo.Pass), written(t, of("v1.36.4", g), slo.Pass), "", ""},
		{"settings", written(t, of("v1.37.0", g), slo.Pass), written(t, of("v1.37.0", 8*time.Second), slo.Pass), SettingsChanged, "controllerManager.nodeMonitorGracePeriod: 6s -> 8s"},
		{"the taint comes a period sooner from v1.34 on", written(t, of("v1.33.13", g), slo.Pass), written(t, of("v1.34.9", g), slo.Pass), KubernetesChanged, "v1.33.13 -> v1.34.9, as its source says"},
		{"both", written(t, of("v1.33.13", g), slo.Pass), written(t, of("v1.34.9", 8*time.Second), slo.Pass), SettingsChanged, "and Kubernetes v1.33.13 -> v1.34.9"},
		{"another version breaks a rule", written(t, of("v1.36.1", g), slo.Pass), written(t, of("v1.37.0", g), slo.Fail), KubernetesChanged, "it no longer does what v1.36.1 did: a-node-1: grace"},
		{"the same version does", written(t, of("v1.37.0", g), slo.Pass), written(t, of("v1.37.0", g), slo.Fail), Broken, "it was pass in v1.37.0: a-node-1: grace"},
		{"with other settings", written(t, of("v1.37.0", g), slo.Pass), written(t, of("v1.37.0", 8*time.Second), slo.Fail), Broken, "a-node-1: grace"},
		{"still", written(t, of("v1.37.0", g), slo.Fail), written(t, of("v1.37.0", g), slo.Fail), "", ""},
		{"no more", written(t, of("v1.37.0", g), slo.Fail), written(t, of("v1.37.0", g), slo.Pass), Mended, "it failed"},
		{"not measured", written(t, of("v1.37.0", g), slo.Pass), written(t, of("v1.37.0", g), slo.Inconclusive), Unmeasured, "it was pass"},
		{"measured", written(t, of("v1.37.0", g), slo.Inconclusive), written(t, of("v1.37.0", g), slo.Pass), Measured, "it was inconclusive"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if missing := tc.is.Compare(tc.was); len(missing) > 0 {
				t.Errorf("not compared: %v", missing)
			}
			got := tc.is.Cells[0].Change
			switch {
			case tc.kind == "" && got != nil:
				t.Errorf("%s: %s; want none", got.Kind, got.Text)
			case tc.kind != "" && (got == nil || got.Kind != tc.kind || !strings.Contains(got.Text, tc.text)):
				t.Errorf("%+v\nwant %s: %s", got, tc.kind, tc.text)
			}
		})
	}
	// The model itself says something else: what was written down is not what is
	// predicted now.
	was, is := written(t, of("v1.37.0", g), slo.Pass), written(t, of("v1.37.0", g), slo.Pass)
	was.Cells[0].Predicted.Lost.Max++
	if is.Compare(was); is.Cells[0].Change == nil || is.Cells[0].Change.Kind != ModelChanged {
		t.Errorf("%+v", is.Cells[0].Change)
	}
	other := written(t, of("v1.37.0", g), slo.Pass)
	other.Cells[0].Cut = All
	if missing := other.Compare(was); len(missing) != 1 || other.Cells[0].Change.Kind != New {
		t.Errorf("%v, %+v", missing, other.Cells[0].Change)
	}
}

// TestLike: which version a cell is held against.
func TestLike(t *testing.T) {
	of := func(versions ...string) Document {
		var d Document
		for _, v := range versions {
			d.Cells = append(d.Cells, Entry{Version: v})
		}
		return d
	}
	for _, tc := range []struct {
		base Document
		is   string
		want int
	}{
		{of("v1.36.1", "v1.37.0"), "v1.37.0", 1},
		{of("v1.35.0", "v1.36.1", "v1.34.0"), "v1.37.0", 1},
		{of("v1.38.0", "v1.36.1"), "v1.37.0", 1},
		{of("v1.39.0", "v1.38.0"), "v1.37.0", 1},
		{of(), "v1.37.0", -1},
	} {
		if got := tc.base.like(Entry{Version: tc.is}); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.base.Cells, got, tc.want)
		}
	}
}

// TestNoMatrix: files that are none.
func TestNoMatrix(t *testing.T) {
	for _, text := range []string{"", "{}", `{"schema":2,"cells":[{}]}`} {
		path := filepath.Join(t.TempDir(), "x.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// TestDocument compares the table and JUnit with golden files.
func TestDocument(t *testing.T) {
	settings := fast(t)
	c := cell(t, settings, One, Above)
	seen := func(on float64) Record {
		return Record{Heal: c.Case.Cut.Heal, Back: c.Case.Cut.Heal + sec(0.5), Seen: eviction.Observation{
			Unknown: map[string]time.Duration{"a-node-1": sec(on - 0.1)},
			Taints:  []eviction.Taint{{Node: "a-node-1", On: sec(on), Off: c.Case.Cut.Heal + sec(0.4)}},
			Deleted: map[string]time.Duration{"default/a-node-1-0-0": sec(on + 8.1)}, Until: c.Case.Cut.Heal + sec(0.5),
		}}
	}
	all := []Outcome{Judge(c, seen(6.6)), Judge(c, seen(12.6)), Judge(c, Record{Doubts: []string{"not tried: interrupted"}})}
	none := cell(t, settings, All, Below)
	all = append(all, Outcome{Cell: none, Why: none.None})
	d := NewDocument("test", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), 61*time.Second, all)
	d.Compare(written(t, settings, slo.Pass))
	var text bytes.Buffer
	if err := d.Text(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.golden", text.Bytes())
	xml, err := d.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "junit.golden", xml)
}
