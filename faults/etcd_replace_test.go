package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gameday/clusters"
)

// healed checks that a world is as it should be after a heal, whatever was before.
func (w *world) healed(t *testing.T, replaced bool) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[1]
	if len(w.members) != 3 {
		t.Errorf("%d members", len(w.members))
	}
	for _, m := range w.members {
		if m.IsLearner || m.Name == "" {
			t.Errorf("member %v is no voter that was started", m)
		}
	}
	if !w.runs(n) {
		manifest, stands := n.get(standing)
		id, ok := n.data()
		t.Errorf("the member does not run: manifest %v, data %x %v, blocked %v\n%s", stands, id, ok, n.blocked(), manifest)
	}
	if i := w.index(n); i >= 0 && replaced != (w.members[i].ID > 100) {
		t.Errorf("member is %x, want a new one: %v", w.members[i].ID, replaced)
	}
	for _, p := range []string{parking, aside("run-x")} {
		if _, err := os.Stat(n.at(p)); err == nil {
			t.Errorf("%s was left", p)
		}
	}
}

func replaceIn(w *world) *EtcdReplace { return &EtcdReplace{kill: w.kill} }

func within(t *testing.T, ctx context.Context) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestReplace(t *testing.T) {
	w := newWorld(t)
	env := w.env(&memory{w: w})
	f := replaceIn(w)
	if err := f.Heal(t.Context(), env); err != nil { // without an Inject
		t.Fatal(err)
	}
	w.healed(t, false)
	for range 2 {
		if err := f.Inject(within(t, t.Context()), env); err != nil {
			t.Fatal(err)
		}
		if len(w.members) != 2 || w.runs(w.nodes[1]) || !w.nodes[1].blocked() || !w.killed["cp1"] {
			t.Errorf("after Inject: %v", w.members)
		}
	}
	for range 2 {
		if err := f.Heal(within(t, t.Context()), env); err != nil {
			t.Fatal(err)
		}
		w.healed(t, true)
	}
}

// TestReplaceCrashes lets the process die before and after each change that it
// makes, and heals in another one; in half of the cases that one dies too.
func TestReplaceCrashes(t *testing.T) {
	// try lets do crash at each of its changes in turn, until it has no more.
	try := func(name string, do func(f *EtcdReplace, ctx context.Context, env Env) error, before func(w *world, env Env) error, replaced func(w *world) bool) {
		for _, after := range []bool{false, true} {
			n := 0
			for crashed := true; crashed; n++ {
				t.Run(fmt.Sprintf("%s dies at change %d, after it %v", name, n, after), func(t *testing.T) {
					w := newWorld(t)
					env := w.env(&memory{w: w})
					if err := before(w, env); err != nil {
						t.Fatal(err)
					}
					err := do(replaceIn(w), within(t, w.crashAt(n, after)), env)
					if crashed = w.revive(); !crashed && err != nil {
						t.Fatal(err)
					}
					new := replaced(w)
					if err := replaceIn(w).Heal(within(t, t.Context()), env); err != nil {
						t.Fatal(err)
					}
					w.healed(t, new)
				})
			}
			if n < 6 {
				t.Errorf("%s makes only %d changes, so this test misses something", name, n)
			}
		}
	}
	try("inject", (*EtcdReplace).Inject,
		func(*world, Env) error { return nil },
		func(w *world) bool { return w.index(w.nodes[1]) < 0 })
	try("heal", (*EtcdReplace).Heal,
		func(w *world, env Env) error { return replaceIn(w).Inject(within(t, t.Context()), env) },
		func(*world) bool { return true })
}

func TestReplaceMeetsAnUpgrade(t *testing.T) {
	w := newWorld(t)
	env := w.env(&memory{w: w})
	f := replaceIn(w)
	if err := f.Inject(within(t, t.Context()), env); err != nil {
		t.Fatal(err)
	}
	newer := strings.NewReplacer("NAME", "cp1", "ADDR", loopback(1).String(), "etcd:1", "etcd:2").Replace(testManifest)
	node := w.nodes[1]
	if err := node.WriteFile(t.Context(), standing, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	if w.runs(node) {
		t.Error("the wiped member was started") // and check() would have complained
	}
	if err := f.Heal(within(t, t.Context()), env); err != nil {
		t.Fatal(err)
	}
	w.healed(t, true)
	if m, _ := node.get(standing); !strings.Contains(m, "etcd:2") {
		t.Errorf("the upgrade's manifest was undone:\n%s", m)
	}
}

func TestReplaceKeepsTheQuorum(t *testing.T) {
	w := newWorld(t)
	env := w.env(&memory{w: w})
	if err := w.nodes[2].Rename(t.Context(), standing, "/gone"); err != nil {
		t.Fatal(err)
	}
	err := replaceIn(w).Inject(within(t, t.Context()), env)
	if err == nil || !strings.Contains(err.Error(), "no quorum") {
		t.Errorf("got %v", err)
	}
	if len(w.members) != 3 || !w.runs(w.nodes[1]) || w.killed["cp1"] {
		t.Error("the member was touched")
	}
	if err := replaceIn(w).Heal(t.Context(), env); err != nil {
		t.Error(err)
	}
	env.Targets = []clusters.Node{w.nodes[0], w.nodes[1]}
	if err := replaceIn(w).Inject(t.Context(), env); err == nil {
		t.Error("two at a time were accepted")
	}
}

func TestJoin(t *testing.T) {
	const cluster = "a=https://10.0.0.1:2380,b=https://10.0.0.2:2380"
	for _, in := range []string{
		"    - etcd\n    - --initial-cluster=a=https://10.0.0.1:2380\n    - --name=a\n",
		"    - etcd\n    - --initial-cluster=x=y\n    - --initial-cluster-state=existing\n    - --name=a\n",
		"    - etcd\n    - --initial-cluster-state=new\n    - --initial-cluster=x=y\n    - --name=a\n",
	} {
		got, err := join(in, cluster)
		want := "    - etcd\n    - --initial-cluster=" + cluster + "\n    - --initial-cluster-state=existing\n    - --name=a\n"
		if err != nil || got != want {
			t.Errorf("%s\ngot %v\n%s", in, err, got)
		}
		if twice, err := join(got, cluster); err != nil || twice != got {
			t.Errorf("joined twice: %v\n%s", err, twice)
		}
	}
	if _, err := join("- etcd\n", cluster); err == nil {
		t.Error("a manifest without the flag was accepted")
	}
}

func TestStop(t *testing.T) {
	w := newWorld(t)
	env := w.env(&memory{w: w})
	n := w.nodes[1]
	f := &EtcdStop{}
	before, _ := n.get(standing)
	for range 2 {
		if err := park(t.Context(), n, env.Tag); err != nil {
			t.Fatal(err)
		}
	}
	if tags, err := Parked(t.Context(), n); err != nil || len(tags) != 1 || tags[0] != env.Tag || w.runs(n) {
		t.Errorf("parked: %v, %v", tags, err)
	}
	for range 2 {
		if err := f.Heal(t.Context(), env); err != nil {
			t.Fatal(err)
		}
		if now, _ := n.get(standing); now != before || !w.runs(n) {
			t.Errorf("after Heal:\n%s", now)
		}
	}
	// An upgrade writes a new manifest while the member is down: it is parked in
	// place of the old one.
	if err := errors.Join(park(t.Context(), n, env.Tag), n.WriteFile(t.Context(), standing, []byte(before+"# 2\n"), 0o600),
		park(t.Context(), n, env.Tag), f.Heal(t.Context(), env)); err != nil {
		t.Fatal(err)
	}
	if now, _ := n.get(standing); now != before+"# 2\n" {
		t.Errorf("the newer manifest was lost:\n%s", now)
	}
	// And here it is not parked any more: it stays.
	if err := errors.Join(park(t.Context(), n, env.Tag), n.WriteFile(t.Context(), standing, []byte(before+"# 3\n"), 0o600),
		f.Heal(t.Context(), env)); err != nil {
		t.Fatal(err)
	}
	if now, _ := n.get(standing); now != before+"# 3\n" {
		t.Errorf("the newer manifest was overwritten:\n%s", now)
	}
	if _, err := os.Stat(n.at(parking)); err == nil {
		t.Error("our folder was left")
	}
	if err := errors.Join(n.RemoveAll(t.Context(), standing)); err != nil {
		t.Fatal(err)
	}
	if err := park(t.Context(), n, env.Tag); err == nil {
		t.Error("a pod that is not there was stopped")
	}
}

func TestUnpark(t *testing.T) {
	w := newWorld(t)
	n := w.nodes[1]
	if err := errors.Join(park(t.Context(), n, "run-a"), Unpark(t.Context(), n, "run-a"), Unpark(t.Context(), n, "run-a")); err != nil || !w.runs(n) {
		t.Errorf("%v, runs %v", err, w.runs(n))
	}
	env := w.env(&memory{w: w})
	if err := replaceIn(w).Inject(within(t, t.Context()), env); err != nil {
		t.Fatal(err)
	}
	if err := Unpark(t.Context(), n, env.Tag); err == nil || w.runs(n) {
		t.Error("the manifest of a wiped member was put back")
	}
}
