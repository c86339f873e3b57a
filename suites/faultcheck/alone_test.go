package faultcheck

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults"
	"gameday/harness/inject"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// Faults that are tried here by themselves have no journal; their notes are only this process's.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (m *memory) Save(v any) (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b, err = json.Marshal(v)
	return err
}

func (m *memory) Load(v any) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.b == nil {
		return false, nil
	}
	return true, json.Unmarshal(m.b, v)
}

// envOf is where a fault acts without a journal.
func envOf(id, where string, maxHold time.Duration) faults.Env {
	GinkgoHelper()
	return faults.Env{
		Cluster: cluster, Targets: []clusters.Node{place(where)}, Tag: inject.Tag("faultcheck", id),
		MaxHold: maxHold, Notes: &memory{}, Log: say,
	}
}

// until looks at a fault until what it sees is as wanted.
func until(ctx context.Context, f faults.Fault, env faults.Env, within time.Duration, want func(faults.Effect) bool) faults.Effect {
	GinkgoHelper()
	var e faults.Effect
	Eventually(ctx, func() error {
		var err error
		if e, err = f.Prove(ctx, env); err == nil && !want(e) {
			err = fmt.Errorf("active %v, gone %v: %s", e.Active, e.Gone, e.Evidence)
		}
		return err
	}).WithTimeout(within).WithPolling(5 * time.Millisecond).Should(Succeed())
	return e
}

func active(e faults.Effect) bool { return e.Active && !e.Gone }
func gone(e faults.Effect) bool   { return e.Gone && !e.Active }

var _ = Describe("What no journal tells of", Serial, func() {
	It("is swept", func(ctx SpecContext) {
		eventuallyWhole(ctx)
		// The journal of this suite's own run is alive: the sweep is of a machine without one.
		GinkgoT().Setenv("XDG_STATE_HOME", GinkgoT().TempDir())
		f, env := &faults.BadCert{}, envOf("swept", "control-plane[1]", 5*time.Minute)
		k, _ := faults.Lookup("apiserver.bad-cert")
		DeferCleanup(func(ctx SpecContext) { Expect(f.Heal(ctx, env)).To(Succeed()) }, NodeTimeout(time.Minute))
		Expect(f.Inject(ctx, env)).To(Succeed())
		until(ctx, f, env, k.ProveWithin, active)
		for range 2 {
			Expect(inject.Sweep(ctx, cluster, say)).To(Succeed())
		}
		until(ctx, &faults.BadCert{}, envOf("swept", "control-plane[1]", time.Minute), k.GoneWithin, gone)
		eventuallyWhole(ctx)
	}, NodeTimeout(15*time.Minute))
})
