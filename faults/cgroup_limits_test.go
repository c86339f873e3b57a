package faults

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gameday/clusters"
	"gameday/faults/mechanism/cgroup"
)

// limitedNode has a control group made of ordinary files.
type limitedNode struct {
	*fakeNode
	dir string
}

func (n limitedNode) Cgroup(context.Context) (clusters.Cgroup, error) {
	return clusters.Cgroup{Controllers: map[string]string{"pids": n.dir}}, nil
}

// Whenever it is interrupted, and however often it is called, the old limit comes
// back; and only by the one who lowered it.
func TestLoweredLimitsComeBack(t *testing.T) {
	for crash := range 4 {
		w := &world{t: t, left: -1}
		n := limitedNode{&fakeNode{w: w, dir: t.TempDir()}, t.TempDir()}
		put := func(file, data string) {
			if err := os.WriteFile(filepath.Join(n.dir, file), []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		says := func(want string) {
			t.Helper()
			b, err := os.ReadFile(filepath.Join(n.dir, "pids.max"))
			if got := strings.TrimSpace(string(b)); err != nil || got != want {
				t.Errorf("pids.max: got %q, %v, want %q", got, err, want)
			}
		}
		put("pids.max", "5000\n")
		put("pids.current", "40\n")
		notes := &memory{w: w}
		env := Env{Targets: []clusters.Node{n}, Tag: "run-1", Notes: notes}
		if err := (&PIDsPressure{}).Heal(t.Context(), env); err != nil {
			t.Errorf("heal of nothing: %v", err)
		}
		w.left, w.crash = crash, func() {}
		err := (&PIDsPressure{Left: 10}).Inject(t.Context(), env)
		w.left, w.dead = -1, false
		if crash == 0 && err == nil {
			t.Error("it was not interrupted")
		}
		if crash == 0 {
			says("5000")
		}
		for range 2 {
			if err := (&PIDsPressure{Left: 10}).Inject(t.Context(), env); err != nil {
				t.Fatal(err)
			}
			put("pids.current", "60\n")
		}
		says("70")
		other := Env{Targets: env.Targets, Tag: "run-2", Notes: &memory{w: w}}
		if err := (&PIDsPressure{}).Inject(t.Context(), other); err == nil || !strings.Contains(err.Error(), cgroup.ErrTaken.Error()) {
			t.Errorf("another one's: %v", err)
		}
		if err := (&PIDsPressure{}).Heal(t.Context(), other); err != nil {
			t.Error(err)
		}
		says("70")
		for range 2 {
			if err := (&PIDsPressure{}).Heal(t.Context(), env); err != nil {
				t.Fatal(err)
			}
			says("5000")
		}
	}
}
