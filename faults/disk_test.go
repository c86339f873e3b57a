package faults

import (
	"errors"
	"os"
	"testing"
	"time"

	"gameday/faults/mechanism/process"
)

// TestDiskFaultsWithoutADisk: a node of a cluster that was made without disks for
// etcd says so, and is left as it is.
func TestDiskFaultsWithoutADisk(t *testing.T) {
	for name, f := range map[string]Fault{"full": &DiskFull{}, "hang": &DiskHang{}, "power-loss": &DiskPowerLoss{}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			env := w.env(&memory{w: w})
			if err := f.Heal(t.Context(), env); err != nil { // without an Inject
				t.Error(err)
			}
			if err := f.Inject(t.Context(), env); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("inject: got %v", err)
			}
			if e, err := f.Prove(t.Context(), env); !errors.Is(err, errors.ErrUnsupported) || e.Active || e.Gone {
				t.Errorf("prove: got %+v, %v", e, err)
			}
			if err := f.Heal(t.Context(), env); err != nil {
				t.Error(err)
			}
			if !w.runs(w.nodes[1]) || w.killed["cp1"] {
				t.Error("the member was touched")
			}
		})
	}
}

func TestNoteBegin(t *testing.T) {
	w := &world{t: t, left: -1}
	env := Env{Notes: &memory{w: w}}
	var first, second diskTime
	if err := noteBegin(env); err != nil {
		t.Fatal(err)
	}
	if ok, err := env.Notes.Load(&first); err != nil || !ok || time.Since(first.Began) > time.Minute {
		t.Fatalf("noted %v, %v, %v", first, ok, err)
	}
	if err := noteBegin(env); err != nil { // another Inject
		t.Fatal(err)
	}
	if _, err := env.Notes.Load(&second); err != nil || !second.Began.Equal(first.Began) {
		t.Errorf("noted anew: %v, %v", second, err)
	}
}

func TestInUninterruptible(t *testing.T) {
	self, err := process.Of(os.Getpid())
	if err != nil {
		t.Skip(err)
	}
	n, err := inUninterruptible([]process.Ref{self, {PID: 1 << 30}})
	if err != nil || n != 0 {
		t.Errorf("got %d, %v", n, err)
	}
}
