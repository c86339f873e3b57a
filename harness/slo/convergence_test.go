package slo

import (
	"testing"
	"time"

	"gameday/harness/history"
)

func (b *book) member(at float64, node string, healthy bool) *book {
	return add(b, &b.h.Etcd, at, history.Etcd{Node: node, Healthy: healthy})
}

func (b *book) gateLook(at float64, why string) *book {
	l := history.Look{Gate: "converge", Took: sec(.1), Why: why}
	if why == "" {
		l.Back = calmAfter
	}
	return add(b, &b.h.Looks, at, l)
}

// settledBook is a run of 200 s in which everything is as it should be, whose
// last fault was healed at 150 s.
func settledBook() *book {
	b := newBook(200).system(200)
	b.series(1, "read", "lb", 200, nil)
	for _, n := range []string{"cp0", "cp1", "cp2"} {
		b.member(0, n, true)
	}
	b.web(3)
	b.stage(149, "heal", stateBegan, "").stage(150, "heal", "ended", "")
	return b
}

func TestConvergence(t *testing.T) {
	ready := func(b *book, at float64, node, place, is string) {
		b.node(at, history.Node{Name: node, Place: place, Ready: is, Version: "v1.36.1"})
	}
	away := func(b *book, from, to float64) {
		ready(b, from, "w1", "worker[1]", "Unknown")
		ready(b, to, "w1", "worker[1]", "True")
	}
	for _, c := range []struct {
		name     string
		make     func(b *book)
		set      func(c *Convergence)
		result   string
		want     Verdict
		reason   string
		observed float64
	}{
		{name: "at once", make: func(b *book) { b.fault("f", "", "w1", 50, 60) }, result: "faults", want: Pass, reason: "1 fault was healed", observed: .1},
		{name: "a node comes back", make: func(b *book) { b.fault("f", "", "w1", 50, 60); away(b, 55, 80) }, result: "faults", want: Pass, reason: "1 fault was healed", observed: 10.15},
		{name: "a node that the upgrade had added is gone", make: func(b *book) {
			ready(b, 20, "w9", "worker[2]", "True")
			b.step(100, 120, "upgrade/scale-in/worker[2]", "w9", "proceeded", "").gateLook(155, "")
			b.node(110, history.Node{Name: "w9", Place: "worker[2]", Ready: "True", Deleted: true})
		}, result: "end", want: Pass},
		{name: "a node is gone that nobody removed", make: func(b *book) {
			b.step(100, 120, "upgrade/scale-in/worker[2]", "w9", "proceeded", "").gateLook(155, "")
			b.node(110, history.Node{Name: "w1", Place: "worker[1]", Ready: "True", Deleted: true})
		}, result: "end", set: func(c *Convergence) { c.Within = 20 * time.Second }, want: Fail, reason: "worker[1] is gone"},
		{name: "a node comes back late", make: func(b *book) { b.fault("f", "", "w1", 50, 60); away(b, 55, 140) }, set: func(c *Convergence) { c.Within = 15 * time.Second }, result: "faults", want: Inconclusive, reason: "too close to the budget"},
		{name: "a node comes back late, and writes tell when", make: func(b *book) {
			b.fault("f", "", "w1", 50, 60).writes(0, 200)
			away(b, 55, 140)
			for i := range b.h.Nodes {
				b.h.Nodes[i].V.Revision = revision(b.h.Nodes[i].At.Seconds())
			}
		}, set: func(c *Convergence) { c.Within = 15 * time.Second }, result: "faults", want: Fail, reason: "worker[1] Ready=Unknown"},
		{name: "an etcd member is back late", make: func(b *book) {
			b.fault("f", "", "cp1", 50, 60).member(52, "cp1", false).member(130, "cp1", true)
		}, result: "faults", want: Fail, reason: "after f was healed at 0:59.90: etcd on cp1 is no healthy voter", observed: 69.15},
		{name: "a static pod is back late", make: func(b *book) {
			b.fault("f", "", "cp1", 50, 60).container(70, "cp1", compServer, 1, 69, func(p *history.Component) { p.Ready = false }).container(100, "cp1", compServer, 1, 69)
		}, set: func(c *Convergence) { c.Within = 10 * time.Second }, result: "faults", want: Pass, reason: "1 fault was healed", observed: .1},
		{name: "a fault's trouble shows within ten seconds", make: func(b *book) {
			b.fault("f", "", "cp1", 50, 60).member(66, "cp1", false).member(140, "cp1", true)
		}, result: "faults", want: Fail, reason: "no healthy voter"},
		{name: "the API is down", make: func(b *book) {
			b.fault("f", "", "w1", 50, 60).series(2, "write", "lb", 200, down(62, 75))
		}, result: "faults", want: Pass, reason: "1 fault was healed", observed: 15.15},
		{name: "an API server is down, which the load balancer hides", make: func(b *book) {
			b.fault("f", "", "w1", 50, 60).series(2, "write", "cp0", 200, down(62, 175))
		}, result: "faults", want: Pass, reason: "1 fault was healed", observed: .1},
		{name: "the workload is short of a pod", make: func(b *book) {
			b.fault("f", "", "w1", 50, 60).budget(1, "StatefulSet/s", 1, 1)
			b.pod(2, "StatefulSet/s", "s-0", "w0").delete(62, "")
			b.pod(70, "StatefulSet/s", "s-1", "w0")
		}, result: "faults", want: Pass, reason: "1 fault was healed", observed: 12.15},
		{name: "more during the fault", make: func(b *book) {
			b.fault("f", "", "cp1", 50, 60).member(52, "cp1", false).member(130, "cp1", true)
		}, set: func(c *Convergence) {
			c.During = []ConvergenceDuring{{Faults: []string{"f"}, Within: 90 * time.Second}}
		}, result: "faults", want: Pass, reason: "1 fault was healed"},
		{name: "never", make: func(b *book) { b.fault("f", "", "cp1", 50, 60).member(52, "cp1", false) }, result: "faults", want: Fail, reason: "no healthy voter"},
		{name: "not to the end, but not for long", make: func(b *book) { b.fault("f", "", "cp1", 150, 180).member(160, "cp1", false) }, result: "faults", want: Inconclusive, reason: "had not ended when the samplers stopped"},
		{name: "another fault is in the way", make: func(b *book) {
			b.fault("f", "", "cp1", 50, 60).fault("g", "", "cp2", 65, 140).member(52, "cp1", false).member(130, "cp1", true)
		}, result: "faults", want: Inconclusive, reason: "too close to the budget for its error bar"},
		{name: "the node of another fault", make: func(b *book) {
			b.fault("f", "", "cp1", 50, 60).fault("g", "", "cp2", 65, 140).member(66, "cp2", false).member(141, "cp2", true)
		}, result: "faults", want: Pass, reason: "2 faults were healed"},
		{name: "the node that is upgraded", make: func(b *book) {
			b.step(45, 145, "upgrade/worker[1]", "w1", "proceeded", "proceed").fault("f", "", "cp1", 50, 60)
			away(b, 55, 140)
		}, result: "faults", want: Pass, reason: "1 fault was healed"},
		{name: "a fault that was never there", make: func(b *book) { b.inject("f", "", "w1", "skipped", 50) }, result: "faults", want: Inconclusive, reason: "f was never undone, or never there: skipped"},
		{name: "no member was asked", make: func(b *book) { b.fault("f", "", "w1", 50, 60).h.Etcd = nil }, result: "faults", want: Inconclusive, reason: "no etcd member is in the record"},
		{name: "a gap", make: func(b *book) { b.fault("f", "", "w1", 50, 60).gap("watch/nodes", 60, 70) }, result: "faults", want: Inconclusive, reason: "watch/nodes has no data"},

		{name: "the end, at once", make: func(b *book) { b.gateLook(150.1, "") }, result: "end", want: Pass, reason: "all was as before"},
		{name: "the end, a node", make: func(b *book) { away(b, 140, 170); b.gateLook(150.1, "w1").gateLook(170.2, "") }, result: "end", want: Pass, reason: "worker[1] Ready=Unknown"},
		{name: "the end, a node for too long", make: func(b *book) { away(b, 140, 170); b.gateLook(150.1, "w1").gateLook(170.2, "") }, set: func(c *Convergence) { c.Within = 8 * time.Second }, result: "end", want: Inconclusive, reason: "too close"},
		{name: "the end, what only the gate saw", make: func(b *book) { b.gateLook(150.1, "w1 runs v1.36.1").gateLook(190, "") }, set: func(c *Convergence) { c.Within = 20 * time.Second }, result: "end", want: Fail, reason: "w1 runs v1.36.1"},
		{name: "the end, never", make: func(b *book) { b.gateLook(150.1, "w1").gateLook(198, "w1 runs v1.36.1") }, set: func(c *Convergence) { c.Within = 20 * time.Second }, result: "end", want: Fail, reason: "not all was as before 48.0 s after the last heal: w1 runs v1.36.1"},
		{name: "the end, nobody looked", make: func(*book) {}, result: "end", want: Inconclusive, reason: "the looks of the converge gate are not in the record"},
		{name: "the end, not healed", make: func(b *book) { b.h.Stages = b.h.Stages[:4] }, result: "end", want: Inconclusive, reason: "does not say that the last fault was healed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := settledBook()
			c.make(b)
			k := newConvergence().(*Convergence)
			if c.set != nil {
				c.set(k)
			}
			r := named(t, k.Check(b.h), "convergence."+c.result)
			want(t, r, c.want, c.reason)
			if c.observed > 0 && (r.Observed < c.observed-.06 || r.Observed > c.observed+.06) {
				t.Errorf("observed %v +- %v, want %v", r.Observed, r.ErrorBar, c.observed)
			}
		})
	}
	bad := Convergence{During: []ConvergenceDuring{{}, {Phases: []string{"x"}, After: -1, Within: 1}}}
	if errs := bad.Validate(); len(errs) != 4 {
		t.Errorf("%d problems: %v", len(errs), errs)
	}
}
