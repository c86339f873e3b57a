package shrink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/scenarios"
)

// scenario has n faults, f0 to fn-1: every third has no length, every third one that
// ends with a phase, the others last 40s.
func scenario(n int) *scenarios.Scenario {
	s := &scenarios.Scenario{Name: "s"}
	for i := range n {
		f := scenarios.Fault{ID: fmt.Sprintf("f%d", i), MaxHold: time.Minute}
		switch i % 3 {
		case 0:
			f.End.For = 40 * time.Second
		case 1:
			f.End.Phase = "upgrade"
		}
		s.Faults = append(s.Faults, f)
	}
	return s
}

// cluster plays the runs: it fails if all culprits are there, each for long enough.
type cluster struct {
	culprits map[string]time.Duration
	// rate is how often it fails then; 0 is always. Sometimes, by doubt, nothing is
	// shown.
	rate, doubt float64
	rng         *rand.Rand
	runs        int
	now         time.Time
	takes       time.Duration
	// between is called in each run.
	between func(run int)
}

func (c *cluster) run(_ context.Context, s *scenarios.Scenario) (Verdict, error) {
	c.runs++
	c.now = c.now.Add(c.takes)
	if c.between != nil {
		c.between(c.runs)
	}
	if c.rng != nil && c.rng.Float64() < c.doubt {
		return Verdict{Outcome: Inconclusive}, nil
	}
	for id, least := range c.culprits {
		i := slices.IndexFunc(s.Faults, func(f scenarios.Fault) bool { return f.ID == id })
		if i < 0 || s.Faults[i].End.For > 0 && s.Faults[i].End.For < least {
			return Verdict{Outcome: Pass}, nil
		}
	}
	if c.rate > 0 && c.rng.Float64() >= c.rate {
		return Verdict{Outcome: Pass}, nil
	}
	return Verdict{Outcome: Fail, Broken: []string{"writes.kept"}}, nil
}

func config(t *testing.T, s *scenarios.Scenario, c *cluster) Config {
	t.Helper()
	return Config{
		Scenario: s, Run: c.run, Tries: 3, Shortest: time.Second, MaxRuns: 100_000, MaxTime: time.Hour,
		File: filepath.Join(t.TempDir(), "progress.json"), Broken: []string{"writes.kept"},
		Now: func() time.Time { return c.now },
	}
}

func ids(s *scenarios.Scenario) []string {
	out := []string{}
	for _, f := range s.Faults {
		out = append(out, f.ID)
	}
	return out
}

// TestFindsTheCulprits: with a cluster that always does the same, what is left is
// exactly what is needed, whatever that is.
func TestFindsTheCulprits(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 60 {
		n := 1 + rng.IntN(10)
		c := &cluster{culprits: map[string]time.Duration{}}
		var want []string
		for _, i := range rng.Perm(n)[:1+rng.IntN(min(n, 4))] {
			want = append(want, fmt.Sprintf("f%d", i))
			c.culprits[fmt.Sprintf("f%d", i)] = time.Duration(1+rng.IntN(40)) * time.Second
		}
		cfg := config(t, scenario(n), c)
		cfg.Held = map[string]time.Duration{"f1": 25 * time.Second, "f4": 2 * time.Minute}
		cfg.First = rng.IntN(2) == 0
		res, err := Search(t.Context(), cfg)
		if err != nil || !res.Complete || !res.Reproduced {
			t.Fatalf("%+v, %v", res, err)
		}
		got := ids(res.Smallest)
		slices.SortFunc(want, func(a, b string) int { return strings.Compare(fmt.Sprintf("%3s", a), fmt.Sprintf("%3s", b)) })
		if !slices.Equal(got, want) {
			t.Fatalf("%d faults, %v needed: left are %v", n, want, got)
		}
		for _, f := range res.Smallest.Faults {
			if f.End.For == 0 {
				if f.End.Phase != "" && cfg.Held[f.ID] > 0 && min(cfg.Held[f.ID], f.MaxHold)/2 >= c.culprits[f.ID] {
					t.Fatalf("%s is not cut at all", f.ID)
				}
				continue
			}
			// Not halved once more, but a failure still.
			if least := c.culprits[f.ID]; f.End.For < least || f.End.Phase != "" || (f.End.For/2).Truncate(time.Second) >= least {
				t.Fatalf("%s lasts %s, %s are needed", f.ID, f.End.For, least)
			}
		}
		if res.Best.Failed == 0 {
			t.Fatalf("the smallest was not seen to fail: %+v", res.Best)
		}
		for _, x := range res.Tried {
			if x.Tries() != 3 && (!cfg.First || x.Failed == 0) {
				t.Fatalf("%s has %s", x.Name, &x)
			}
		}
	}
}

// TestFlaky: with a cluster that fails now and then, what is left holds the
// culprit, and all was seen to fail; doubt is told and counts as neither.
func TestFlaky(t *testing.T) {
	found, doubts := 0, 0
	for seed := range uint64(50) {
		c := &cluster{culprits: map[string]time.Duration{"f3": 10 * time.Second}, rate: 0.6, doubt: 0.2, rng: rand.New(rand.NewPCG(seed, 1))}
		res, err := Search(t.Context(), config(t, scenario(6), c))
		if err != nil || !res.Complete {
			t.Fatalf("seed %d: %+v, %v", seed, res, err)
		}
		if !res.Reproduced {
			continue // as it happens
		}
		if !slices.Contains(ids(res.Smallest), "f3") || res.Best.Failed == 0 {
			t.Fatalf("seed %d: left are %v, %s", seed, ids(res.Smallest), &res.Best)
		}
		if len(res.Smallest.Faults) == 1 {
			found++
		}
		sum := 0
		for _, x := range res.Tried {
			doubts += x.Inconclusive
			sum += x.Tries()
			if x.Tries() != 3 || len(x.Verdicts) != 3 {
				t.Fatalf("seed %d: %s has %s", seed, x.Name, &x)
			}
		}
		if sum != c.runs {
			t.Fatalf("seed %d: %d tries told, %d runs made", seed, sum, c.runs)
		}
	}
	if found < 20 || doubts == 0 {
		t.Errorf("the culprit alone was found %d of 50 times; %d doubts", found, doubts)
	}
}

func TestEnds(t *testing.T) {
	t.Run("not again", func(t *testing.T) {
		c := &cluster{culprits: map[string]time.Duration{"other": 1}}
		res, err := Search(t.Context(), config(t, scenario(5), c))
		if err != nil || res.Reproduced || !res.Complete || c.runs != 3 || len(res.Smallest.Faults) != 5 || !strings.Contains(res.Why, "did not fail again in 3 tries") {
			t.Errorf("%d runs, %+v, %v", c.runs, res, err)
		}
	})
	t.Run("without a fault", func(t *testing.T) {
		c := &cluster{}
		res, err := Search(t.Context(), config(t, scenario(5), c))
		if err != nil || c.runs != 6 || len(res.Smallest.Faults) != 0 || res.Best.Name != "no fault" || !strings.Contains(res.Why, "without any fault") {
			t.Errorf("%d runs, %+v, %v", c.runs, res, err)
		}
	})
	t.Run("something else breaks", func(t *testing.T) {
		c := &cluster{}
		cfg := config(t, scenario(5), c)
		cfg.Broken = []string{"pods.killed"}
		res, err := Search(t.Context(), cfg)
		if err != nil || res.Reproduced || res.Tried[0].Otherwise != 3 || res.Tried[0].String() != "failed 0 of 3 tries (3 failed otherwise)" {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("the runner cannot", func(t *testing.T) {
		cfg := config(t, scenario(5), &cluster{})
		broken := errors.New("no Docker")
		cfg.Run = func(context.Context, *scenarios.Scenario) (Verdict, error) { return Verdict{}, broken }
		res, err := Search(t.Context(), cfg)
		if !errors.Is(err, broken) || res.Complete || len(res.Smallest.Faults) != 5 {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("time", func(t *testing.T) {
		c := &cluster{takes: 10 * time.Minute}
		cfg := config(t, scenario(5), c)
		cfg.MaxTime = 35 * time.Minute
		res, err := Search(t.Context(), cfg)
		if err != nil || res.Complete || c.runs != 3 || !strings.Contains(res.Why, "takes it up again") {
			t.Errorf("%d runs, %+v, %v", c.runs, res, err)
		}
	})
}

// TestTakenUpAgain: a search in small pieces, one of them interrupted in the middle
// of a run, tries the same and finds the same as one in a whole.
func TestTakenUpAgain(t *testing.T) {
	culprits := map[string]time.Duration{"f2": 0, "f6": 9 * time.Second}
	one := &cluster{culprits: culprits}
	whole, err := Search(t.Context(), config(t, scenario(8), one))
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{culprits: culprits}
	cfg := config(t, scenario(8), c)
	cfg.MaxRuns = 4

	ctx, cancel := context.WithCancel(t.Context())
	c.between = func(int) { cancel() }
	if res, err := Search(ctx, cfg); !errors.Is(err, context.Canceled) || res.Complete || !strings.Contains(res.Why, "interrupted") {
		t.Fatalf("%+v, %v", res, err)
	}
	c.between, c.runs = nil, 0
	var res Result
	pieces := 0
	for ; !res.Complete && pieces < 100; pieces++ {
		before := c.runs
		if res, err = Search(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		if c.runs-before > 4 {
			t.Fatalf("%d runs at once", c.runs-before)
		}
	}
	if diff := cmp.Diff(whole, res); diff != "" || c.runs != one.runs || pieces < 3 {
		t.Errorf("%d pieces, %d runs, not %d, -whole +pieces:\n%s", pieces, c.runs, one.runs, diff)
	}

	cfg.Scenario = scenario(9)
	if _, err := Search(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "the progress of another search") {
		t.Errorf("the progress of another scenario was taken: %v", err)
	}
	cfg.Scenario.Random = &scenarios.Random{}
	if _, err := Search(t.Context(), cfg); err == nil {
		t.Error("random faults were shrunk")
	}
}
