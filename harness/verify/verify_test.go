package verify

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gameday/clusters"
	"gameday/faults"
	"gameday/harness/inject"
)

func TestTry(t *testing.T) {
	for _, tc := range []struct {
		defect string
		want   Verdict
		reason string
	}{
		{"", Pass, ""},
		{"measure", Pass, ""},
		{"always active", Fail, "although nothing was injected"},
		{"active later", Fail, "although nothing was injected"},
		{"blind", Inconclusive, "could not be looked at"},
		{"nothing", Fail, "not proven"},
		{"no control", Fail, "no control"},
		{"does not last", Fail, "did not last"},
		{"no second inject", Fail, "inject again"},
		{"no second heal", Fail, "a Heal without an Inject"},
		{"leaves something", Fail, "1 things differ from before"},
		{"unsupported", NotAvailable, "unsupported operation"},
	} {
		t.Run(tc.defect, func(t *testing.T) {
			v := newTestVerifier(t)
			if tc.defect == "does not last" {
				v.hold = hold // two looks
			}
			row := v.Try(t.Context(), fakeTrial(t, tc.defect))
			if row.Verdict != tc.want || !strings.Contains(row.Reason, tc.reason) {
				t.Errorf("%s %q, want %s %q", row.Verdict, row.Reason, tc.want, tc.reason)
			}
			if tc.want != Pass {
				return
			}
			if row.ProvenFromArmed == nil || row.ProvenFromInjected == nil || row.Heal == nil || row.Gone == nil || row.Whole == nil || row.Looks < 3 {
				t.Errorf("figures are missing: %+v", row)
			}
			if tc.defect == "measure" && (row.Measure == nil || row.Measure.Off == nil || *row.Measure.Off != 2) {
				t.Errorf("measure: %v", row.Measure)
			}
		})
	}
}

func TestCannotBeUndone(t *testing.T) {
	v := newTestVerifier(t)
	tr := fakeTrial(t, "cannot be undone")
	targets, _, err := v.ready(t.Context(), tr, v.rand("x"))
	if err != nil {
		t.Fatal(err)
	}
	var r Row
	if got, why := judge(v.live(t.Context(), tr, targets, &r)); got != Stuck {
		t.Errorf("%s %s", got, why)
	}
	if err := os.RemoveAll(os.Getenv(fakeDir)); err != nil {
		t.Fatal(err)
	}
}

func TestNotAvailable(t *testing.T) {
	v := newTestVerifier(t)
	lacks := fakeTrial(t, "")
	lacks.Kind.Needs = []clusters.Capability{clusters.CapExec, clusters.CapDisk}
	nobody := fakeTrial(t, "")
	nobody.Target = faults.Target{Nodes: []string{"worker[7]"}}
	for _, tc := range []struct {
		trial  Trial
		reason string
	}{{lacks, "worker[0] lacks disk"}, {nobody, "matches no node"}} {
		if r := v.Try(t.Context(), tc.trial); r.Verdict != NotAvailable || !strings.Contains(r.Reason, tc.reason) {
			t.Errorf("%s %q, want %q", r.Verdict, r.Reason, tc.reason)
		}
	}
	tb := Table{Trials: []Row{{Verdict: NotAvailable}}}
	if tb.Finish(nil, 0); tb.Verdict != Inconclusive {
		t.Errorf("nothing was measured, and the table is %s", tb.Verdict)
	}
}

func TestInterrupted(t *testing.T) {
	v := newTestVerifier(t)
	v.hold = hold
	ctx, cancel := context.WithCancel(t.Context())
	tr := fakeTrial(t, "")
	time.AfterFunc(1500*time.Millisecond, cancel) // while it is held
	tb := v.Run(ctx, Options{Trials: []Trial{tr, {Kind: tr.Kind, Trial: tr.Kind.Trials[1]}}})
	if tb.Verdict != Inconclusive || len(tb.Trials) != 2 {
		t.Errorf("%s: %+v", tb.Verdict, tb.Trials)
	}
	s, err := v.take(t.Context())
	if err != nil || len(s) > 0 {
		t.Errorf("left: %v, %v", s, err)
	}
}

func TestKill(t *testing.T) {
	for _, m := range []Moment{{"armed", 0}, {"proven", 50 * time.Millisecond}, {"healing", time.Millisecond}} {
		t.Run(m.String(), func(t *testing.T) {
			v := newTestVerifier(t)
			tr := Trial{Kind: fakeKind(), Trial: fakeKind().Trials[0]}
			k := v.KillAt(t.Context(), tr, m)
			if k.Verdict != Pass || k.State != m.State || k.Healed == nil || k.Whole == nil {
				t.Errorf("%+v", k)
			}
		})
	}
}

func TestHang(t *testing.T) {
	v := newTestVerifier(t)
	k := v.Hang(t.Context(), Trial{Kind: fakeKind(), Trial: fakeKind().Trials[0]}, 500*time.Millisecond)
	if k.Verdict != Pass || k.Healed == nil || k.Whole == nil {
		t.Errorf("%+v", k)
	}
}

func TestKillWithGuard(t *testing.T) {
	v := newTestVerifier(t)
	k := v.KillWithGuard(t.Context(), Trial{Kind: fakeKind(), Trial: fakeKind().Trials[0]}, func(ctx context.Context, journal string) error {
		// What `gameday heal` does, with faults of the catalogue: this one is none.
		r, err := inject.HealAll(ctx, journal, openFake, t.Logf)
		if len(r.Stuck) != 1 {
			t.Errorf("%v", r)
		}
		return errors.Join(err, r.Err())
	})
	if k.Verdict != Stuck || k.State != "proven" {
		t.Errorf("%+v", k)
	}
	if err := os.RemoveAll(os.Getenv(fakeDir)); err != nil {
		t.Fatal(err)
	}
}

func TestVictims(t *testing.T) {
	f := func(x float64) *float64 { return &x }
	k, other := fakeKind(), faults.Kind{Name: "other.break"}
	trials := []Trial{{Kind: k, Trial: k.Trials[0]}, {Kind: other, Trial: faults.Trial{Name: "other"}}, {Kind: k, Trial: k.Trials[1]}}
	rows := []Row{
		{Trial: "fake-break", Verdict: Pass, Gone: f(100), Whole: f(20_000)}, {Trial: "fake-break-other", Verdict: Pass, Gone: f(100), Whole: f(20)},
		{Trial: "other", Verdict: Fail, Gone: f(1), Whole: f(1)},
	}
	if got := Victims(trials, rows); len(got) != 1 || got[0].Name != "fake-break-other" {
		t.Errorf("%+v", got)
	}
	if got := Quick(trials, rows); len(got) != 1 || got[0].Name != "fake-break-other" {
		t.Errorf("quick: %+v", got)
	}
}

func TestSequence(t *testing.T) {
	v := newTestVerifier(t)
	k := fakeKind()
	from := []Trial{{Kind: k, Trial: k.Trials[0]}, {Kind: k, Trial: k.Trials[1]}}
	s := v.Sequence(t.Context(), 1, from)
	if s.Verdict != Pass || len(s.Members) != 2 || !s.Members[0].Proven || !s.Members[1].Proven {
		t.Errorf("%+v", s)
	}
	if s := v.Sequence(t.Context(), 2, from[:1]); s.Verdict != Inconclusive {
		t.Errorf("one trial: %+v", s)
	}
}

func TestSequencesStayInTheBudget(t *testing.T) {
	var nodes []clusters.Node
	for i := range 3 {
		nodes = append(nodes, fakeNode{string(rune('a' + i)), clusters.ControlPlane, i})
	}
	for i := range 2 {
		nodes = append(nodes, fakeNode{string(rune('x' + i)), clusters.Worker, i})
	}
	etcd, api, node := faults.Kind{Cost: faults.Cost{EtcdMembers: 1, APIServers: 1}}, faults.Kind{Cost: faults.Cost{APIServers: 1}}, faults.Kind{Cost: faults.Cost{Nodes: 1}}
	kubelet := faults.Kind{Cost: faults.Cost{Kubelets: 1}}
	a := away{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	for _, tc := range []struct {
		k    faults.Kind
		n    int
		want bool
	}{
		{etcd, 0, true}, {node, 1, false}, {etcd, 1, false}, {etcd, 0, true}, {api, 1, true}, {api, 2, false}, {node, 3, true}, {node, 4, false}, {node, 3, true},
		{kubelet, 4, false}, {kubelet, 3, true},
	} {
		targets := nodes[tc.n : tc.n+1]
		if got := a.fits(tc.k, targets, nodes); got != tc.want {
			t.Errorf("%+v on %s: %v", tc.k.Cost, targets[0].Name(), got)
		} else if got {
			a.take(tc.k, targets)
		}
	}
}

func TestSelect(t *testing.T) {
	all, err := Select(faults.Catalogue(), nil)
	if err != nil || len(all) < len(faults.Catalogue()) {
		t.Errorf("%d trials, %v", len(all), err)
	}
	one, err := Select(faults.Catalogue(), []string{"partition-in"})
	if err != nil || len(one) != 1 || one[0].Kind.Name != "network.partition" {
		t.Errorf("%v, %v", one, err)
	}
	var unknown *UnknownError
	if _, err := Select(faults.Catalogue(), []string{"network.partitio"}); !errors.As(err, &unknown) || !slices.Contains(unknown.Known, "network.partition") {
		t.Errorf("%v", err)
	}
	wrong := fakeKind()
	wrong.Trials[0].With = "{fiel: x}"
	if _, err := Select([]faults.Kind{wrong}, nil); err == nil || !strings.Contains(err.Error(), "fake-break") {
		t.Errorf("an unknown parameter: %v", err)
	}
}

func TestSeedsReplay(t *testing.T) {
	all, err := Select(faults.Catalogue(), nil)
	if err != nil {
		t.Fatal(err)
	}
	names := func(trials []Trial) (out []string) {
		for _, t := range trials {
			out = append(out, t.Name)
		}
		return out
	}
	back := slices.Clone(all)
	slices.Reverse(back)
	if a, b := names(Shuffle(all, 7)), names(Shuffle(back, 7)); !slices.Equal(a, b) {
		t.Errorf("%v and %v", a, b)
	}
	if a, b := names(Shuffle(all, 7)), names(Shuffle(all, 8)); slices.Equal(a, b) {
		t.Errorf("two seeds, one order: %v", a)
	}
}
