package compare

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/harness/history"
	"gameday/harness/plan"
	"gameday/harness/slo"
	"gameday/scenarios"
)

// Against published values: the permeability of the human chorioamnion (Hollander
// and Wolfe, Nonparametric Statistical Methods, 1973, p. 69), as in R's help of
// wilcox.test, and small samples whose p can be counted by hand.
func TestDiffer(t *testing.T) {
	term := []float64{0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46}
	early := []float64{1.15, 0.88, 0.90, 0.74, 1.21}
	for _, tc := range []struct {
		name          string
		without, with []float64
		shift, p      float64 // p < 0: none
		interval      *[2]float64
		says, why     string
	}{
		{"R: W = 35, p = 0.2544", early, term, 0.515, 0.2544, &[2]float64{-0.15, 0.76}, NoneSeen, "not to say that there is none"},
		{"4 and 4, apart: 2 of 70 orders", []float64{1, 2, 3, 4}, []float64{5, 6, 7, 8}, 4, 2.0 / 70, &[2]float64{1, 7}, Worse, "p = 0.0286"},
		{"the same, the other way", []float64{5, 6, 7, 8}, []float64{1, 2, 3, 4}, -4, 2.0 / 70, &[2]float64{-7, -1}, Better, "p = 0.0286"},
		{"3 and 3, apart: 2 of 20 orders are not enough", []float64{1, 2, 3}, []float64{50, 60, 70}, 58, 0.1, nil, CannotTell, "3 and 3 runs give p = 0.1 at best"},
		{"2 and 2", []float64{1, 2}, []float64{3, 4}, 2, 2.0 / 6, nil, CannotTell, "p = 0.333 at best"},
		{"one each: only a difference", []float64{1}, []float64{9}, 8, -1, nil, CannotTell, "only a difference"},
		{"nothing on one side", nil, []float64{9}, 0, -1, nil, CannotTell, "one side has no run"},
		{"all equal", []float64{2, 2, 2, 2}, []float64{2, 2, 2, 2}, 0, -1, &[2]float64{0, 0}, NoneSeen, "all values are equal"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := Differ(tc.without, tc.with)
			if math.Abs(d.Shift-tc.shift) > 1e-9 || d.Says != tc.says || !strings.Contains(d.Why, tc.why) {
				t.Errorf("%+v", d)
			}
			if (d.P != nil) != (tc.p >= 0) || d.P != nil && math.Abs(*d.P-tc.p) > 5e-5 {
				t.Errorf("p is %v, want %v", d.P, tc.p)
			}
			near := func(a, b [2]float64) bool { return math.Abs(a[0]-b[0]) < 1e-9 && math.Abs(a[1]-b[1]) < 1e-9 }
			if (d.Interval != nil) != (tc.interval != nil) || d.Interval != nil && !near(*d.Interval, *tc.interval) {
				t.Errorf("interval is %v, want %v", d.Interval, tc.interval)
			}
		})
	}
}

func TestOrder(t *testing.T) {
	began := map[string]int{}
	for seed := range uint64(100) {
		o := Order(seed, 5)
		if !slices.Equal(o, Order(seed, 5)) {
			t.Fatalf("seed %d gave two orders", seed)
		}
		began[o[0]]++
		for i := range 5 {
			if o[2*i] == o[2*i+1] {
				t.Fatalf("pair %d of %v is none", i, o)
			}
			if i > 0 && o[2*i] == o[2*i-2] {
				t.Fatalf("%v does not alternate", o)
			}
		}
	}
	if began[With] < 20 || began[Without] < 20 {
		t.Errorf("a seed does not decide who begins: %v", began)
	}
}

func TestTwin(t *testing.T) {
	s := record(t, sketch{id: "a"}).Scenario
	twin, dropped := Twin(s)
	want := []string{"fault cut", "that upgrade/worker[1] is expected to be blocked"}
	if d := cmp.Diff(want, dropped); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if len(twin.Faults) != 0 || twin.Expected("upgrade/worker[1]").Outcome != scenarios.ExpectProceed || twin.Expected("upgrade/worker[0]").Because == "" {
		t.Errorf("%+v", twin)
	}
	if len(s.Faults) != 1 || s.Expected("upgrade/worker[1]").Outcome != scenarios.ExpectBlocked {
		t.Error("the scenario itself was changed")
	}
	long := *s
	long.Name = strings.Repeat("a", 33) + "-bcdefg"
	if twin, _ := Twin(&long); len(twin.Name) > 40 || !strings.HasSuffix(twin.Name, "a-clean") {
		t.Errorf("%q is no name", twin.Name)
	}
}

// A promise may have budgets during faults that the twin has not: it is a scenario all
// the same.
func TestTwinsOfTheLibrary(t *testing.T) {
	library, err := scenarios.Library()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range library {
		s, err := scenarios.Load(e.Data, e.File, plan.Known())
		if err != nil {
			t.Fatal(err)
		}
		twin, _ := Twin(s)
		out, err := twin.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := scenarios.Load(out, twin.Name, plan.Known()); err != nil {
			t.Errorf("the twin of %s: %v", s.Name, err)
		}
	}
}

func TestJudge(t *testing.T) {
	n := 0
	some := func(clean bool, late ...time.Duration) []*Record {
		var out []*Record
		for _, l := range late {
			n++
			out = append(out, record(t, sketch{id: fmt.Sprintf("r%d", n), clean: clean, late: l}))
		}
		return out
	}
	s := func(list ...int) (out []time.Duration) {
		for _, v := range list {
			out = append(out, time.Duration(v)*time.Second)
		}
		return out
	}
	without := func(late ...int) []*Record { return some(true, s(late...)...) }
	with := func(late ...int) []*Record { return some(false, s(late...)...) }
	broken := func(clean bool, edit func(*history.History)) []*Record {
		n++
		return []*Record{record(t, sketch{id: fmt.Sprintf("r%d", n), clean: clean, edit: edit})}
	}
	for _, tc := range []struct {
		name          string
		without, with []*Record
		repeat, code  int
		reason, says  string // says of cron.start-latency
	}{
		{"kept, once each", without(4), with(9), 1, slo.ExitPass, "held with the faults and without", CannotTell},
		{"kept, though slower", without(4, 5, 6, 7), with(10, 11, 12, 13), 4, slo.ExitPass, "held with the faults and without", Worse},
		{"broken with faults alone", without(4), with(45), 1, slo.ExitFail, "cron.start-latency: broken in 1 of 1 runs with faults, in 0 of 1 without", CannotTell},
		{"broken anyway, no worse", without(45), with(46), 1, slo.ExitInconclusive, "that it is because of the faults was not shown", CannotTell},
		{"broken anyway, surely worse", without(40, 41, 42, 43), with(50, 51, 52, 53), 4, slo.ExitFail, "with them (4 of 4) it is worse: p = 0.0286", Worse},
		{"broken without faults alone", without(45), with(4), 1, slo.ExitInconclusive, "the cluster does not keep it by itself", CannotTell},
		{"one says nothing", slices.Concat(without(4), broken(true, func(h *history.History) { h.Kept = nil })), with(9, 9), 2, slo.ExitInconclusive, "1 of 4 runs say nothing", CannotTell},
		{"a fault that was not proven", without(4), broken(false, func(h *history.History) { h.Injections = h.Injections[:3] }), 1, slo.ExitInconclusive, "1 of 2 runs say nothing", ""},
		{"a step departed under the faults", without(4), broken(false, func(h *history.History) { h.Phases[3].V.Outcome = "proceeded" }), 1, slo.ExitFail, "upgrade/worker[1]: expected blocked, proceeded", CannotTell},
		{"a step departed by itself", broken(true, func(h *history.History) { h.Phases[3].V.Outcome = "failed" }), with(0), 1, slo.ExitInconclusive, "without faults: upgrade/worker[1]: expected proceed, failed", CannotTell},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := Judge(tc.without, tc.with, tc.repeat, Order(1, tc.repeat), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if p.ExitCode != tc.code || !strings.Contains(p.Reason, tc.reason) {
				t.Errorf("exit %d: %s; want %d: %s", p.ExitCode, p.Reason, tc.code, tc.reason)
			}
			for _, r := range p.Rows {
				if r.Name == "cron.start-latency" && r.Difference.Says != tc.says {
					t.Errorf("says %q: %s", r.Difference.Says, r.Difference.Why)
				}
			}
		})
	}
}

// What was not run is no pass.
func TestJudgeOfMissingRuns(t *testing.T) {
	p, err := Judge([]*Record{record(t, sketch{id: "a", clean: true})}, nil, 1, nil, nil, []string{"with faults 1 of 1: not made: interrupted"})
	if err != nil {
		t.Fatal(err)
	}
	if p.ExitCode != slo.ExitInconclusive || len(p.LeftOut) != 1 {
		t.Errorf("%+v", p)
	}
	if _, err := p.HTML("example", nil); err != nil {
		t.Error(err)
	}
}

func TestPairedTable(t *testing.T) {
	var a, b []*Record
	for i := range 4 {
		a = append(a, record(t, sketch{id: fmt.Sprintf("a%d", i), clean: true, late: time.Duration(3+i) * time.Second}))
		b = append(b, record(t, sketch{id: fmt.Sprintf("b%d", i), late: time.Duration(9+2*i) * time.Second}))
	}
	_, dropped := Twin(b[0].Scenario)
	p, err := Judge(a, b, 4, Order(7, 4), dropped, nil)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := p.Text(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "paired", text.Bytes())
	page, err := p.HTML("example", Counted(a, b))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"What the faults made of it", "Mann-Whitney", `<section class="banner pass"`, "Steps of the upgrade"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}
