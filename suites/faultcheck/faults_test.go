package faultcheck

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults"
	"gameday/harness/history"
	"gameday/harness/inject"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// check is a fault with parameters, on somebody.
type check struct {
	name string // of the spec and the injection
	kind string
	// where is a place, or the word leader.
	where string
	with  faults.Fault
}

// checks has every fault of the catalogue at least once; a spec below makes sure of it.
func checks() []check {
	return []check{
		{"apiserver-kill", "apiserver.kill", "control-plane[1]", &faults.APIServerKill{}},
		{"etcd-stop", "etcd.stop", "control-plane[2]", &faults.EtcdStop{}},
		{"etcd-replace", "etcd.replace", "control-plane[1]", &faults.EtcdReplace{}},
		{"partition", "network.partition", "worker[0]", &faults.Partition{From: faults.Peers{"apiservers"}, Direction: "both"}},
		{"partition-in", "network.partition", "worker[1]", &faults.Partition{From: faults.Peers{"control-plane"}, Direction: "in"}},
		{"partition-out", "network.partition", "control-plane[2]", &faults.Partition{From: faults.Peers{"all"}, Direction: "out"}},
		{"slow-fsync", "disk.slow-fsync", "leader", &faults.SlowFsync{Delay: 500 * time.Millisecond}},
		{"slow-wal", "disk.slow-fsync", "control-plane[0]", &faults.SlowFsync{Delay: 100 * time.Millisecond, Match: ".wal"}},
	}
}

// on moves a check from its control plane to the n-th after it: the kubelet waits longer for each restart of a container
// within ten minutes, which is the kubelet's time and not the fault's.
func (c check) on(n int) check {
	var i int
	if _, err := fmt.Sscanf(c.where, "control-plane[%d]", &i); err == nil {
		c.where = fmt.Sprintf("control-plane[%d]", (i+n)%3)
	}
	return c
}

func (c check) target(ctx context.Context) clusters.Node {
	GinkgoHelper()
	if c.where != "leader" {
		return place(c.where)
	}
	cli, err := clusters.EtcdClient(ctx, cluster)
	Expect(err).NotTo(HaveOccurred())
	defer cli.Close()
	for _, n := range clusters.ByRole(cluster.Nodes(), clusters.ControlPlane) {
		if s, err := cli.Status(ctx, clusters.EtcdURL(n)); err == nil && s.Leader == s.Header.MemberId {
			return n
		}
	}
	Fail("no etcd member leads")
	return nil
}

func (c check) env(ctx context.Context, notes faults.Notes) faults.Env {
	GinkgoHelper()
	return faults.Env{
		Cluster: cluster, Targets: []clusters.Node{c.target(ctx)}, Tag: inject.Tag("faultcheck", c.name),
		MaxHold: 5 * time.Minute, Notes: notes, Log: say,
	}
}

// memory are notes that only a process remembers.
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

var _ = Describe("The catalogue", func() {
	It("has every fault in this suite", func() {
		for _, k := range faults.Catalogue() {
			Expect(slices.ContainsFunc(checks(), func(c check) bool { return c.kind == k.Name })).To(BeTrue(), k.Name)
		}
	})
})

var _ = Describe("A fault", Serial, Ordered, ContinueOnFailure, func() {
	BeforeEach(func(ctx SpecContext) {
		eventuallyWhole(ctx)
		DeferCleanup(eventuallyWhole, NodeTimeout(8*time.Minute))
	}, NodeTimeout(8*time.Minute))

	for _, c := range checks() {
		k, _ := faults.Lookup(c.kind)

		It(c.name+" keeps its contract", func(ctx SpecContext) {
			f := again(c.with)
			env := c.env(ctx, &memory{})

			By("proving nothing while nothing is broken, after a Heal without an Inject too")
			for i := range 4 {
				if i == 2 {
					Expect(f.Heal(ctx, env)).To(Succeed())
				}
				e, err := f.Prove(ctx, env)
				Expect(err).NotTo(HaveOccurred())
				Expect(e.Active).To(BeFalse(), e.Evidence)
				Expect(e.Gone).To(BeTrue(), e.Evidence)
			}

			By("biting, with a control that is well")
			DeferCleanup(func(ctx SpecContext) { Expect(f.Heal(ctx, env)).To(Succeed()) }, NodeTimeout(k.GoneWithin))
			Expect(f.Inject(ctx, env)).To(Succeed())
			e := until(ctx, f, env, k.ProveWithin, active)
			say("%s", e.Evidence)
			Expect(e.Control).NotTo(BeEmpty())

			By("bearing another Inject")
			Expect(f.Inject(ctx, env)).To(Succeed())
			if !k.Instant {
				until(ctx, f, env, k.ProveWithin, active)
			}

			By("going away by a Heal in another process, and bearing another one")
			// That process has the parameters, the notes and the targets; what the kernel ties to this one is let go here.
			Expect(again(f).Heal(ctx, env)).To(Succeed())
			Expect(f.Heal(ctx, env)).To(Succeed())
			Expect(f.Heal(ctx, env)).To(Succeed())
			e = until(ctx, f, env, k.GoneWithin, gone)
			say("%s", e.Evidence)
			until(ctx, again(f), env, k.ProveWithin, gone)
		}, NodeTimeout(15*time.Minute))

		It(c.name+" is injected, proven, watched and healed", func(ctx SpecContext) {
			c := c.on(1)
			j := newJournal(ctx)
			times := map[string]time.Time{}
			var steps []string
			var mu sync.Mutex
			i, err := inject.New(inject.Config{
				ID: c.name, Kind: k, Fault: again(c.with), Journal: j, Env: c.env(ctx, nil),
				Record: func(h history.Injection, at time.Time) {
					mu.Lock()
					defer mu.Unlock()
					times[h.State] = at
					steps = append(steps, h.State)
					say("%s %s %s %s %s %s", at.Format("15:04:05.000"), h.ID, h.State, h.Proof, h.Control, h.Error)
					if h.State == "proven" && h.Unit != "" {
						AddReportEntry(c.name+" measured", fmt.Sprintf("%.1f %s, asked %.1f %s (%+.2f %%)", h.Measured, h.Unit, h.Asked, h.Unit, 100*(h.Measured/h.Asked-1)))
					}
				},
			})
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(func(ctx SpecContext) { Expect(i.Stop(ctx)).To(Succeed()) }, NodeTimeout(k.GoneWithin+time.Minute))
			Expect(i.Start(ctx)).To(Succeed())
			window, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			i.Watch(window)
			Expect(i.Stop(ctx)).To(Succeed())

			Expect(steps).NotTo(ContainElement("lost"))
			Expect(steps).To(ContainElements("requested", "armed", "injected", "proven", "gone"))
			AddReportEntry(c.name+" proven", fmt.Sprintf("%.1f ms after the injection", ms(times["proven"].Sub(times["injected"]))))
			from, text := times["healed"], "the heal"
			if k.Instant {
				from, text = times["injected"], "the injection"
			}
			AddReportEntry(c.name+" gone", fmt.Sprintf("%.1f ms after %s", ms(times["gone"].Sub(from)), text))
			if !k.Instant {
				AddReportEntry(c.name+" healed", fmt.Sprintf("the heal took %.1f ms", ms(times["healed"].Sub(times["healing"]))))
			}
		}, NodeTimeout(15*time.Minute))
	}
})

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// again is the fault with the same parameters, unused: a value serves one injection.
func again(f faults.Fault) faults.Fault {
	switch f := f.(type) {
	case *faults.APIServerKill:
		return &faults.APIServerKill{}
	case *faults.EtcdStop:
		return &faults.EtcdStop{}
	case *faults.EtcdReplace:
		return &faults.EtcdReplace{}
	case *faults.Partition:
		return &faults.Partition{From: f.From, Direction: f.Direction}
	case *faults.SlowFsync:
		return &faults.SlowFsync{Delay: f.Delay, Match: f.Match}
	}
	Fail(fmt.Sprintf("again does not know %T", f))
	return nil
}
