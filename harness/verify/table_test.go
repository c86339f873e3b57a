package verify

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/faults"
)

var update = flag.Bool("update", false, "write the golden files")

func testTable() *Table {
	f := func(x float64) *float64 { return &x }
	t := &Table{
		Gameday: "devel (abc)", Seed: 7, Began: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
		Cluster: Cluster{Name: "c", Provider: "kind", Version: "v1.36.1", ControlPlanes: 3, Workers: 2}, Machine: Machine{Kernel: "6.1", CPUs: 2},
		Trials: []Row{
			{
				Fault: "disk.slow-fsync", Trial: "slow-fsync", Asked: "leader", Places: []string{"control-plane[1]"}, Verdict: Pass,
				ProvenFromArmed: f(1512.3), ProvenFromInjected: f(1500.1), Heal: f(14.25), Gone: f(1033), Whole: f(0.4),
				Measure: &Measure{500, 501.5, "ms", f(0.3)}, Looks: 6,
			},
			{
				Fault: "apiserver.kill", Trial: "apiserver-kill", Asked: "one", Places: []string{"control-plane[0]"}, Instant: true, Verdict: Fail,
				Reason: "1 things differ from before", ProvenFromArmed: f(21), ProvenFromInjected: f(3.2), Gone: f(12345), Whole: f(1200),
				SideEffects: []string{"new: worker[0]: queue tbf | on eth0"},
			},
			{Fault: "network.delay", Trial: "delay", Asked: "all", Verdict: NotAvailable, Reason: "provider x cannot do this: worker[0] lacks network"},
		},
		Kills: []Kill{{Fault: "apiserver.kill", Trial: "apiserver-kill", Places: []string{"control-plane[2]"}, Verdict: Pass, Moment: "armed + 3ms", State: "armed", Healed: f(7), Whole: f(1900)}},
		Sequences: []Sequence{{Number: 1, Verdict: Pass, Whole: f(10), Members: []Member{
			{Trial: "partition", Places: []string{"worker[0]"}, Begin: 12, End: 2100, Proven: true},
			{Trial: "slow-fsync", Places: []string{"control-plane[1]"}, Begin: 900, End: 3100},
		}}},
	}
	order := []Trial{}
	for _, name := range []string{"apiserver-kill", "slow-fsync", "delay"} {
		order = append(order, Trial{Trial: faults.Trial{Name: name}})
	}
	t.Finish(order, 61*time.Second)
	return t
}

func TestTable(t *testing.T) {
	tb := testTable()
	if tb.Verdict != Fail || tb.Trials[0].Trial != "apiserver-kill" {
		t.Errorf("%s, first %s", tb.Verdict, tb.Trials[0].Trial)
	}
	var text bytes.Buffer
	if err := tb.Text(&text); err != nil {
		t.Fatal(err)
	}
	b, err := tb.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"table.txt": text.Bytes(), "table.md": tb.Markdown(), "table.json": b} {
		golden(t, name, got)
	}
	var back Table
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*tb, back); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
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
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got), -update writes it:\n%s", name, diff)
	}
}

func TestNumber(t *testing.T) {
	for in, want := range map[float64]string{-30000: "-30000", -29996.52: "-29996.5", 0.12345: "0.123", 500: "500", 0: "0"} {
		if got := number(in); got != want {
			t.Errorf("%v: %s, want %s", in, got, want)
		}
	}
}

func TestVerdictOfTheWhole(t *testing.T) {
	for _, tc := range []struct {
		rows []Verdict
		want Verdict
	}{
		{nil, Inconclusive},
		{[]Verdict{Pass, NotAvailable}, Pass},
		{[]Verdict{NotAvailable}, Inconclusive},
		{[]Verdict{Pass, Inconclusive, Fail}, Fail},
		{[]Verdict{Stuck, Fail}, Stuck},
	} {
		tb := &Table{}
		for _, v := range tc.rows {
			tb.Trials = append(tb.Trials, Row{Verdict: v})
		}
		if tb.Finish(nil, 0); tb.Verdict != tc.want {
			t.Errorf("%v: %s, want %s", tc.rows, tb.Verdict, tc.want)
		}
	}
}
