package inject

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/faults"
)

func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJournal(t)
		guardedBy(j)
		f := &fakeFault{}
		i, r := newTestInjection(t, j, "a", f)
		f.do = func(call string) {
			// The intent is on disk before anything is done.
			if call == "inject" && openIDs(t, j.path)["a"] != Armed {
				t.Errorf("inject was called, but the journal says %v", openIDs(t, j.path))
			}
		}
		if err := i.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := openIDs(t, j.path)["a"]; got != Active || i.State() != Active {
			t.Errorf("after Start: %s, journal %s", i.State(), got)
		}
		window, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		i.Watch(window)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := i.Stop(ended); err != nil { // Stop has its own time
			t.Fatal(err)
		}
		if err := i.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f.broken() || len(openIDs(t, j.path)) != 0 || i.State() != Healed {
			t.Errorf("after Stop: broken %v, open %v, state %s", f.broken(), openIDs(t, j.path), i.State())
		}
		want := []string{"requested", "armed", "injected", "proven", "reproven", "reproven", "healing", "healed", "gone"}
		if diff := cmp.Diff(want, r.states()); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
		select {
		case <-i.end:
		default:
			t.Error("Done is not closed")
		}
	})
}

func TestTargetIsRecreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJournal(t)
		guardedBy(j)
		f := &fakeFault{}
		i, r := newTestInjection(t, j, "a", f)
		if err := i.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(f.File); err != nil {
			t.Fatal(err)
		}
		window, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		i.Watch(window)
		if !f.broken() {
			t.Error("the target that was re-created is whole")
		}
		if err := i.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []string{"requested", "armed", "injected", "proven", "lost", "rearmed", "healing", "healed", "gone"}
		if diff := cmp.Diff(want, r.states()); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
	})
}

// A window that closes before it is the injection's turn is told like any other.
func TestStartThatNeverHasItsTurn(t *testing.T) {
	j := newTestJournal(t)
	guardedBy(j)
	f := &fakeFault{}
	i, r := newTestInjection(t, j, "a", f)
	if err := i.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	closed := errors.New("the window has closed")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(closed)
	if err := i.Start(ctx); !errors.Is(err, closed) || f.count("") != 0 {
		t.Errorf("%v, %d calls", err, f.count(""))
	}
	if got := r.states(); !slices.Equal(got, []string{"unproven"}) {
		t.Errorf("recorded %v", got)
	}
	i.give()
	if err := i.Stop(t.Context()); err != nil || i.State() != Healed {
		t.Errorf("%v, %s", err, i.State())
	}
}

func TestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJournal(t)
		guardedBy(j)
		f := &fakeFault{}
		i, _ := newTestInjection(t, j, "a", f)
		if err := i.Again(t.Context()); !errors.Is(err, ErrState) || f.count("inject") != 0 {
			t.Errorf("before Start: %v, %d injections", err, f.count("inject"))
		}
		if err := i.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := i.Again(t.Context()); err != nil || f.count("inject") != 2 || !f.broken() {
			t.Errorf("%v, %d injections, broken %v", err, f.count("inject"), f.broken())
		}
		f.isBlind = yes
		if err := i.Again(t.Context()); !errors.Is(err, ErrUnproven) {
			t.Errorf("not seen: %v", err)
		}
		if err := i.Stop(t.Context()); err != nil || f.broken() {
			t.Errorf("%v, broken %v", err, f.broken())
		}
	})
}

func TestOneBadLookIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJournal(t)
		guardedBy(j)
		f := &fakeFault{}
		i, r := newTestInjection(t, j, "a", f)
		if err := i.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		looks := 0
		f.fail = func(call string) error {
			if looks++; looks%2 == 0 {
				return errors.New("no answer")
			}
			return nil
		}
		window, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		i.Watch(window)
		f.fail = nil
		if got := f.count("inject"); got != 1 {
			t.Errorf("injected %d times", got)
		}
		if err := i.Stop(t.Context()); err != nil || strings.Contains(strings.Join(r.states(), " "), "lost") {
			t.Errorf("%v, recorded %v", err, r.states())
		}
	})
}

func yes() bool { return true }

func TestUnprovenIsHealed(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault *fakeFault
		want  error
	}{
		{"not seen", &fakeFault{isBlind: yes}, ErrUnproven},
		{"half injected", &fakeFault{fail: func(call string) error {
			if call == "inject" {
				return errHalf
			}
			return nil
		}}, errHalf},
		{"hangs", &fakeFault{Slow: true}, context.DeadlineExceeded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newTestJournal(t)
				guardedBy(j)
				f := tc.fault
				i, r := newTestInjection(t, j, "a", f)
				if err := i.Start(t.Context()); !errors.Is(err, tc.want) {
					t.Errorf("Start: got %v, want %v", err, tc.want)
				}
				if f.count("heal") == 0 || f.broken() || i.State() != Healed || len(openIDs(t, j.path)) != 0 {
					t.Errorf("heals %d, broken %v, state %s", f.count("heal"), f.broken(), i.State())
				}
				states := strings.Join(r.states(), " ")
				if !strings.HasSuffix(states, "unproven healing healed gone") || strings.Contains(states, " proven") {
					t.Errorf("recorded %s", states)
				}
			})
		})
	}
}

func TestBrokenBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJournal(t)
		guardedBy(j)
		f := &fakeFault{File: filepath.Join(t.TempDir(), "broken")}
		if err := os.WriteFile(f.File, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		i, r := newTestInjection(t, j, "a", f)
		if err := i.Start(t.Context()); !errors.Is(err, ErrBefore) {
			t.Errorf("got %v, want ErrBefore", err)
		}
		if f.count("inject") != 0 || f.count("heal") != 0 || !f.broken() {
			t.Error("what others broke was touched")
		}
		if diff := cmp.Diff([]string{"requested", "unproven"}, r.states()); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
	})
}

func TestNoGuardNoFault(t *testing.T) {
	j := newTestJournal(t)
	f := &fakeFault{}
	i, _ := newTestInjection(t, j, "a", f)
	if err := i.Start(t.Context()); !errors.Is(err, ErrNoGuard) || f.count("") != 0 {
		t.Errorf("got %v after %d calls", err, f.count(""))
	}
}

func TestStopEndsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJournal(t)
		guardedBy(j)
		f := &fakeFault{isBlind: yes}
		i, _ := newTestInjection(t, j, "a", f)
		began := time.Now()
		started := make(chan error)
		go func() { started <- i.Start(t.Context()) }()
		time.Sleep(time.Second)
		if err := i.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-started; !errors.Is(err, errStopping) {
			t.Errorf("Start: %v", err)
		}
		if took := time.Since(began); took > 2*time.Second || f.broken() {
			t.Errorf("took %v, broken %v", took, f.broken())
		}
	})
}

func TestMaxHoldAndLostGuardEndIt(t *testing.T) {
	for _, lose := range []bool{false, true} {
		t.Run(fmt.Sprintf("guard lost %v", lose), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newTestJournal(t)
				guard := guardedBy(j)
				f := &fakeFault{}
				i, r := newTestInjection(t, j, "a", f)
				began := time.Now()
				if err := i.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				if lose {
					close(guard)
				}
				i.Watch(t.Context()) // nobody closes the window
				<-i.end
				if took := time.Since(began); f.broken() || !lose && took < time.Minute || took > 62*time.Second {
					t.Errorf("broken %v after %v", f.broken(), took)
				}
				if e := r.events[len(r.events)-3]; e.State != "healing" || e.Error == "" {
					t.Errorf("the reason is not recorded: %+v", e)
				}
			})
		})
	}
}

func TestStuckIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJournal(t)
		guardedBy(j)
		f := &fakeFault{}
		i, r := newTestInjection(t, j, "a", f)
		if err := i.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.fail = func(call string) error {
			if call == "heal" {
				return errors.New("no way")
			}
			return nil
		}
		began := time.Now()
		if err := i.Stop(t.Context()); !errors.Is(err, ErrStuck) {
			t.Errorf("got %v, want ErrStuck", err)
		}
		if took := time.Since(began); took < 20*time.Second || took > 21*time.Second || f.count("heal") < 10 {
			t.Errorf("gave up after %v and %d tries", took, f.count("heal"))
		}
		if got := openIDs(t, j.path)["a"]; got != Stuck {
			t.Errorf("journal: %q", got)
		}
		f.fail = nil
		if err := i.Stop(t.Context()); err != nil || i.State() != Healed || len(openIDs(t, j.path)) != 0 {
			t.Errorf("second try: %v, %s", err, i.State())
		}
		want := []string{"requested", "armed", "injected", "proven", "healing", "stuck", "healing", "healed", "gone"}
		if diff := cmp.Diff(want, r.states()); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
	})
}

func TestHealedButNotGoneIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJournal(t)
		guardedBy(j)
		f := &fakeFault{}
		i, _ := newTestInjection(t, j, "a", f)
		if err := i.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.do = func(call string) { // somebody breaks it again
			if call == "prove" {
				if err := os.WriteFile(f.File, nil, 0o600); err != nil {
					t.Error(err)
				}
			}
		}
		if err := i.Stop(t.Context()); !errors.Is(err, ErrStuck) || f.count("heal") < 2 {
			t.Errorf("got %v after %d heals, want ErrStuck after several", err, f.count("heal"))
		}
		f.do = nil
		if err := i.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJournal(t)
		guardedBy(j)
		f := &fakeFault{}
		i, _ := newTestInjection(t, j, "a", f)
		if err := i.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		taken, err := takeOver(t.Context(), j.path, "guard", "test")
		if err != nil {
			t.Fatal(err)
		}
		stopped := make(chan error)
		go func() { stopped <- i.Stop(t.Context()) }()
		time.Sleep(time.Second)
		if f.count("heal") != 0 {
			t.Error("two processes heal at the same time")
		}
		if err := errors.Join(taken.mark("a", Healed, nil), taken.Close()); err != nil {
			t.Fatal(err)
		}
		if err := <-stopped; err != nil || f.broken() {
			t.Errorf("Stop after the other has let go: %v, broken %v", err, f.broken())
		}
		next := &fakeFault{}
		k, _ := newTestInjection(t, j, "b", next)
		if err := k.Start(t.Context()); !errors.Is(err, ErrTakenOver) || next.count("inject") != 0 {
			t.Errorf("Start after the journal was taken over: %v", err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	j := newTestJournal(t)
	good := func() Config {
		c := testCluster()
		return Config{
			ID: "a", Kind: fakeKind(), Fault: &fakeFault{}, Journal: j, Record: (&recorder{}).record,
			Env: faults.Env{Cluster: c, Targets: c.nodes[1:], Tag: "r-a", MaxHold: time.Second},
		}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no id":       func(c *Config) { c.ID = "" },
		"no target":   func(c *Config) { c.Env.Targets = nil },
		"no journal":  func(c *Config) { c.Journal = nil },
		"no bound":    func(c *Config) { c.Env.MaxHold = 0 },
		"no tag":      func(c *Config) { c.Env.Tag = "" },
		"a wild tag":  func(c *Config) { c.Env.Tag = "../x" },
		"no cluster":  func(c *Config) { c.Env.Cluster = nil },
		"no goneTime": func(c *Config) { c.Kind.GoneWithin = 0 },
	} {
		cfg := good()
		spoil(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestParametersSurvive(t *testing.T) {
	p, err := encode(&fakeFault{File: "/x", Slow: true})
	if err != nil {
		t.Fatal(err)
	}
	var back fakeFault
	if err := decode(p, &back); err != nil || back.File != "/x" || !back.Slow {
		t.Errorf("got %+v, %v", &back, err)
	}
}

// TestRandomWalk compares 10 000 random steps, with 10 % of the fault's calls
// failing, with a model of a few lines a step.
func TestRandomWalk(t *testing.T) {
	const steps = 10_000
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		t.Setenv("TMPDIR", "/dev/shm") // where a sync costs nothing: here are fifty thousand
	}
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		j := newTestJournal(t)
		guard := guardedBy(j)
		var (
			i     *Injection
			f     *fakeFault
			model State
			seen  = map[string]int{}
			made  int
		)
		// What is wrong for good, as long as it is; all else is transient.
		var refuses, blind, unhealable atomic.Bool
		fresh := func(n int) {
			path := j.path
			f = &fakeFault{File: filepath.Join(t.TempDir(), "broken")}
			rng := rand.New(rand.NewPCG(3, uint64(n))) // its own, as it is used by other goroutines
			f.fail = func(call string) error {
				if call == "inject" && openIDs(t, path)[fmt.Sprint(n)] == "" {
					t.Errorf("step %d: inject without an intent on disk", n)
				}
				switch {
				case call == "inject" && refuses.Load(), call == "heal" && unhealable.Load():
					return errHalf
				case call != "inject" && rng.IntN(10) == 0:
					return errors.New("transient")
				}
				return nil
			}
			f.isBlind = blind.Load
			i, _ = newTestInjection(t, j, fmt.Sprint(n), f)
			model = Ready
		}
		fresh(0)
		for n := 1; n <= steps; n++ {
			for _, b := range []*atomic.Bool{&refuses, &blind, &unhealable} {
				b.Store(rng.IntN(10) == 0)
			}
			before := f.count("")
			ended := func() State { // what healing leads to now
				if unhealable.Load() {
					return Stuck
				}
				return Healed
			}
			var err error
			op := []string{"start", "start", "stop", "watch", "recreate", "hold", "loseGuard"}[rng.IntN(7)]
			was := model
			switch op {
			case "start":
				err = i.Start(t.Context())
				switch {
				case was != Ready:
					if !errors.Is(err, ErrState) || f.count("") != before {
						t.Fatalf("step %d: start when %s: %v, %d calls", n, was, err, f.count("")-before)
					}
				case refuses.Load() || blind.Load():
					model = ended()
				default:
					model = Active
				}
			case "stop":
				err = i.Stop(t.Context())
				switch was {
				case Ready:
					model = Healed
				case Active, Stuck:
					model = ended()
				}
				if (was == Ready || was == Healed) && f.count("") != before {
					t.Fatalf("step %d: stop when %s reached the fault", n, was)
				}
			case "recreate", "watch":
				if op == "recreate" && was == Active {
					if err := os.RemoveAll(f.File); err != nil {
						t.Fatal(err)
					}
				}
				window, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				i.Watch(window)
				cancel()
				if was != Active && f.count("") != before {
					t.Fatalf("step %d: watch when %s reached the fault", n, was)
				}
				if was == Active && !refuses.Load() && !blind.Load() && i.State() == Active && !f.broken() && rng.IntN(10) > 0 {
					// Transient errors may hide it for a while, not for a minute.
					long, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					i.Watch(long)
					cancel()
					if !f.broken() && i.State() == Active {
						t.Fatalf("step %d: a re-created target stays whole", n)
					}
				}
				model = i.State() // maxHold may be over; checked below
				if was != model && (was != Active || model != ended()) {
					t.Fatalf("step %d: watch led from %s to %s", n, was, model)
				}
			case "hold", "loseGuard":
				if op == "loseGuard" {
					close(guard)
				}
				if was == Active {
					time.Sleep(2 * time.Minute)
					model = ended()
				}
				if op == "loseGuard" {
					if was == Ready {
						if err := i.Start(t.Context()); err == nil || f.count("") != before {
							t.Fatalf("step %d: started without a guard", n)
						}
						model = Healed
					}
					guard = guardedBy(j)
				}
			}
			synctest.Wait()
			if got := i.State(); got != model {
				t.Fatalf("step %d: %s (refuses %v, blind %v, unhealable %v) led from %s to %s, want %s: %v", n, op, &refuses, &blind, &unhealable, was, got, model, err)
			}
			switch model {
			case Healed:
				if f.broken() || openIDs(t, j.path)[i.cfg.ID] != "" {
					t.Fatalf("step %d: healed, but broken %v, journal %v", n, f.broken(), openIDs(t, j.path))
				}
			case Stuck:
				if f.count("inject") == 0 || openIDs(t, j.path)[i.cfg.ID] != Stuck {
					t.Fatalf("step %d: stuck, journal %v", n, openIDs(t, j.path))
				}
			}
			seen[op+" "+string(was)]++
			if model == Healed && rng.IntN(2) == 0 {
				if made++; made%20 == 0 { // reading a short journal is cheap
					j = newTestJournal(t)
					guard = guardedBy(j)
				}
				fresh(n)
			}
		}
		for _, b := range []*atomic.Bool{&refuses, &blind, &unhealable} {
			b.Store(false)
		}
		if err := i.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		for _, op := range []string{"start", "stop", "watch", "recreate", "hold", "loseGuard"} {
			for _, s := range []State{Ready, Active, Healed, Stuck} {
				if seen[op+" "+string(s)] < 10 {
					t.Errorf("%s when %s was tried %d times only", op, s, seen[op+" "+string(s)])
				}
			}
		}
	})
}
