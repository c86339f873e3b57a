package faults

import (
	"context"
	"fmt"
	"testing"
)

func loseIn(w *world) *EtcdLoseData { return &EtcdLoseData{replace: EtcdReplace{kill: w.kill}} }

func TestLoseData(t *testing.T) {
	w := newWorld(t)
	env := w.env(&memory{w: w})
	f := loseIn(w)
	if err := f.Heal(t.Context(), env); err != nil { // without an Inject
		t.Fatal(err)
	}
	w.healed(t, false)
	for range 2 {
		if err := f.Inject(within(t, t.Context()), env); err != nil {
			t.Fatal(err)
		}
		_, stands := w.nodes[1].get(standing)
		if len(w.members) != 3 || w.runs(w.nodes[1]) || !w.nodes[1].blocked() || !stands {
			t.Errorf("after Inject: %v, blocked %v, manifest %v", w.members, w.nodes[1].blocked(), stands)
		}
	}
	for range 2 {
		if err := loseIn(w).Heal(within(t, t.Context()), env); err != nil {
			t.Fatal(err)
		}
		w.healed(t, true)
	}
}

// TestLoseDataCrashes lets the process die before and after each change that it
// makes, and heals in another one.
func TestLoseDataCrashes(t *testing.T) {
	for _, step := range []struct {
		name string
		do   func(*EtcdLoseData, context.Context, Env) error
		heal bool
	}{{"inject", (*EtcdLoseData).Inject, false}, {"heal", (*EtcdLoseData).Heal, true}} {
		for _, after := range []bool{false, true} {
			n := 0
			for crashed := true; crashed; n++ {
				t.Run(fmt.Sprintf("%s dies at change %d, after it %v", step.name, n, after), func(t *testing.T) {
					w := newWorld(t)
					env := w.env(&memory{w: w})
					if step.heal {
						if err := loseIn(w).Inject(within(t, t.Context()), env); err != nil {
							t.Fatal(err)
						}
					}
					err := step.do(loseIn(w), within(t, w.crashAt(n, after)), env)
					if crashed = w.revive(); !crashed && err != nil {
						t.Fatal(err)
					}
					replaced := step.heal || w.nodes[1].blocked()
					if err := loseIn(w).Heal(within(t, t.Context()), env); err != nil {
						t.Fatal(err)
					}
					w.healed(t, replaced)
				})
			}
			if n < 5 {
				t.Errorf("%s makes only %d changes, so this test misses something", step.name, n)
			}
		}
	}
}
