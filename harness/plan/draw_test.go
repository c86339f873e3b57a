package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/clusters"
	"gameday/faults"
	"gameday/scenarios"
)

func random(more string) string { return "faults: {random: {" + more + "}}\n" }

// TestAnySeedIsWithinItsBudgets draws with many seeds, and plays what was drawn
// with random lengths of phases, holds and heals.
func TestAnySeedIsWithinItsBudgets(t *testing.T) {
	const seeds, timings = 60, 3
	rng := rand.New(rand.NewPCG(20251121, 1))
	f := fakeFacts()
	const three = "from: [etcd.stop, node.cut, api.kill]"
	for _, tc := range []struct {
		name, text  string
		budget, met int
	}{
		{"one at once", head(3, 0, false, random("meanGap: 20s, "+three)), 1, 0},
		{"two at once", head(3, 0, false, random("meanGap: 10s, budget: 2, "+three)), 2, 50},
		{"many at once", head(5, 0, false, random("meanGap: 2s, budget: 9, hold: 40s, "+three)), 9, 50},
		{"an upgrade, one at once", head(3, 2, true, random("meanGap: 20s, "+three)), 1, 0},
		{"an upgrade, three at once", head(3, 2, true, random("meanGap: 5s, budget: 3, "+three)), 3, 50},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := load(t, tc.text, f)
			faultsDrawn, met := 0, 0
			for seed := range uint64(seeds) {
				drawn, err := Draw(s, seed+1, f)
				if err != nil {
					t.Fatalf("seed %d: %v", seed+1, err)
				}
				faultsDrawn += len(drawn.Faults)
				p, err := Make(drawn, seed+1, f)
				if err != nil {
					t.Fatalf("seed %d drew what is refused: %v", seed+1, err)
				}
				for range timings {
					over, together := play(t, drawn, p, f, rng, tc.budget)
					if over != "" {
						t.Fatalf("seed %d: %s\n%s", seed+1, over, p)
					}
					met += together
				}
			}
			if faultsDrawn < 2*seeds || met < tc.met {
				t.Errorf("%d faults drawn, %d times two were there at once: nothing is shown", faultsDrawn, met)
			}
		})
	}
}

// TestDrawnIsOrdinary: what is drawn is the same for the same seed, another for
// another, and written as a scenario it gives the same plan; with another seed of
// the run, too.
func TestDrawnIsOrdinary(t *testing.T) {
	f := fakeFacts()
	f.Known.Faults[2].Trials[0].Target = faults.Target{Pick: faults.PickLeader}
	f.Known.Faults[4].Trials[0].Target = faults.Target{Pick: faults.PickMinority, Role: "control-plane"}
	for _, text := range []string{
		head(3, 2, false, random("meanGap: 15s, budget: 2, hold: 7s")),
		head(5, 2, false, random("meanGap: 15s, budget: 3, count: 4")),
		head(3, 2, true, random("meanGap: 20s, budget: 2, until: 2m")),
	} {
		s := load(t, text, f)
		plans := map[string]bool{}
		for seed := range uint64(50) {
			seed++
			first, err := Make(s, seed, f)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			again, err := Make(s, seed, f)
			if err != nil || !cmp.Equal(first, again) {
				t.Fatalf("seed %d gave two plans (%v):\n%s", seed, err, cmp.Diff(first, again))
			}
			drawn, err := Draw(s, seed, f)
			if err != nil {
				t.Fatal(err)
			}
			out, err := drawn.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			saved := load(t, string(out), f)
			if saved.Random != nil || len(saved.Faults) == 0 || s.Random == nil || len(s.Faults) > 0 {
				t.Fatalf("random %v, %d faults saved", saved.Random, len(saved.Faults))
			}
			for _, other := range []uint64{seed, seed + 1000} {
				p, err := Make(saved, other, f)
				if err != nil {
					t.Fatalf("seed %d, saved and planned with %d: %v\n%s", seed, other, err, out)
				}
				p.Seed = seed
				if diff := cmp.Diff(first, p); diff != "" {
					t.Fatalf("seed %d, saved and planned with %d, -drawn +saved:\n%s", seed, other, diff)
				}
			}
			body := first.String()
			plans[body[strings.Index(body, "\n"):]] = true
		}
		if len(plans) < 25 {
			t.Errorf("50 seeds gave %d plans", len(plans))
		}
	}
}

func TestDrawHeedsItsWords(t *testing.T) {
	f := fakeFacts()
	for seed := range uint64(60) {
		s, err := Draw(load(t, head(3, 2, false, random("meanGap: 5s, budget: 2, hold: 7s, count: 3, until: 2m, from: [disk.slow, kubelet.stop]")), f), seed, f)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(s.Faults); n < 1 || n > 3 {
			t.Errorf("seed %d: %d faults", seed, n)
		}
		for i, x := range s.Faults {
			if x.ID != fmt.Sprintf("%02d-%s", i+1, strings.ReplaceAll(x.Fault, ".", "-")) || x.Begin.Phase != "run" ||
				x.Begin.After >= 2*time.Minute || x.Begin.After%time.Second != 0 || x.End.For != 7*time.Second || x.MaxHold != 37*time.Second ||
				!slices.Contains([]string{"disk.slow", "kubelet.stop"}, x.Fault) || len(x.Target.Nodes) != 1 {
				t.Errorf("seed %d: %+v", seed, x)
			}
		}
	}
	// The seed of the scenario goes before that of the run.
	s := load(t, head(3, 2, false, random("meanGap: 5s, budget: 2, seed: 5")), f)
	a, errA := Draw(s, 1, f)
	b, errB := Draw(s, 2, f)
	if errA != nil || errB != nil || !cmp.Equal(a.Faults, b.Faults) {
		t.Errorf("%v, %v:\n%s", errA, errB, cmp.Diff(a.Faults, b.Faults))
	}
	// The order of the catalogue does not matter.
	s = load(t, head(3, 2, false, random("meanGap: 5s, budget: 2")), f)
	a, errA = Draw(s, 9, f)
	slices.Reverse(f.Known.Faults)
	b, errB = Draw(s, 9, f)
	if errA != nil || errB != nil || !cmp.Equal(a.Faults, b.Faults) {
		t.Errorf("%v, %v:\n%s", errA, errB, cmp.Diff(a.Faults, b.Faults))
	}
}

func TestMoments(t *testing.T) {
	const mean, until = 10 * time.Second, 5 * time.Minute
	var n int
	var sum time.Duration
	for seed := range uint64(200) {
		at := (&drawer{seed: seed}).moments(mean, until)
		for i := 1; i < len(at); i++ {
			sum += at[i] - at[i-1]
			n++
		}
		if short := (&drawer{seed: seed}).moments(time.Hour, time.Second); len(short) == 0 || short[0] >= time.Second {
			t.Errorf("seed %d: no moment in time: %v", seed, short)
		}
	}
	if got := sum / time.Duration(n); got < 9*time.Second || got > 11*time.Second {
		t.Errorf("the mean of %d gaps is %s, not %s", n, got, mean)
	}
}

func TestNothingToDraw(t *testing.T) {
	f := fakeFacts()
	for _, tc := range []struct{ text, want string }{
		{head(1, 0, false, random("meanGap: 5s, from: [etcd.stop]")), "s.yaml:8: faults.random: with seed 3 no fault fits into the budgets; draw from others"},
		{head(3, 0, false, random("meanGap: 5s, from: [lb.kill]")), "no fault fits"}, // all API servers
		{head(3, 0, false, random("meanGap: 1ms")), "faults.random.meanGap: in 5m there would be more than 1000 moments; raise it"},
	} {
		if _, err := Make(load(t, tc.text, f), 3, f); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v\nwant: %s", err, tc.want)
		}
	}
	f.Capabilities = map[clusters.Role][]clusters.Capability{}
	if _, err := Make(load(t, head(3, 0, false, random("meanGap: 5s, from: [etcd.stop]")), f), 3, f); err == nil || !strings.Contains(err.Error(), "take another provider") {
		t.Errorf("a provider that can do nothing: %v", err)
	}
	if _, err := Make(&scenarios.Scenario{Random: &scenarios.Random{}}, 3, f); err == nil {
		t.Error("a scenario made in Go is not checked")
	}
}

// TestRandomChaosOfAnySeed: the scenario of the library, drawn from the real
// catalogue with any seed, is within its budgets and has something to show.
func TestRandomChaosOfAnySeed(t *testing.T) {
	library, err := scenarios.Library()
	if err != nil {
		t.Fatal(err)
	}
	facts := Facts{Provider: "kind", Known: Known()}
	e := library[slices.IndexFunc(library, func(e scenarios.Entry) bool { return e.Name == "random-chaos" })]
	for seed := range uint64(150) {
		s, err := scenarios.Load(e.Data, e.File, facts.Known)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = Draw(s, seed, facts); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if _, err := Make(s, seed, facts); err != nil || len(s.Faults) < 2 {
			t.Errorf("seed %d: %d faults, %v", seed, len(s.Faults), err)
		}
	}
}
