package slo

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gameday/harness/history"
	"gameday/scenarios"
)

// whole is a run of 20 minutes in which everything is measured and every
// promise holds: an upgrade of a worker with its drain, a fault, CronJobs, a
// long Job, a Deployment.
func whole() *book {
	b := newBook(1230)
	b.h.Run.To = "v1.37.0"
	b.step(90, 300, "upgrade", "", "proceeded", "").step(90, 300, "upgrade/worker[0]", "w0", "proceeded", "proceed").step(95, 130, "upgrade/worker[0]/drain", "w0", "proceeded", "")
	b.node(290, history.Node{Name: "w0", Place: "worker[0]", Ready: "True", Version: "v1.37.0"})
	b.fault("cut", "upgrade/worker[0]", "w1", 140, 170)
	for i, v := range verbs {
		b.series(i+1, v, "lb", 1230, down(150, 152))
	}
	b.told("lb", 1230, nil)
	b.probes(1235, nil)
	for i := range 120 {
		add(b, &b.h.Writes, float64(i)*10, history.Write{Key: canary(float64(i) * 10), Outcome: "ok", Revision: revision(float64(i) * 10)})
	}
	b.voters(1, 2, 1).stats(1230, nil)
	b.truth(1230)
	for _, e := range []string{"cp0", "cp1", "cp2"} {
		b.told(e, 1230, nil)
	}
	for i := range 40 {
		for j := range 3 {
			b.op(20+float64(10*i), 21+float64(10*i), history.Operation{Key: fmt.Sprintf("shared-%d", i), Client: j, Verb: opCreate, Outcome: map[bool]string{true: writeOK, false: opExists}[j == i%3], Value: "v", Revision: int64(1000 + i), Endpoint: fmt.Sprintf("cp%d", j)})
		}
	}
	for i := range 3 {
		add(b, &b.h.Kept, 1231, history.Kept{Member: fmt.Sprintf("cp%d", i), Read: 120, Revision: 20000, Hash: 5})
	}
	b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Policy = "Forbid" }).minutes("a", 1200, 1)
	w := b.web(3)
	w[0].delete(100, "EvictionByEvictionAPI")
	b.pod(101, "ReplicaSet/web-00-abc", "web-00-abc-3", "w1")
	w[2].delete(110, "")
	b.audit(110, "admin", "create", "eviction", "web-00-abc-2")
	b.pod(111, "ReplicaSet/web-00-abc", "web-00-abc-4", "w1")
	b.system(1230).stage(1200, "heal", stateBegan, "").stage(1201, "heal", "ended", "").gateLook(1202, "")
	return b
}

func judgeAll(h *history.History) []Result {
	var all []Named
	for _, k := range Catalogue() {
		c := k.New()
		if f, ok := c.(scenarios.Fitter); ok && len(f.Fits(scenarios.Shape{})) > 0 {
			continue // it promises nothing until a scenario says what
		}
		all = append(all, Named{k.Name, c})
	}
	return Judge(h, all)
}

func TestWholeRunPasses(t *testing.T) {
	b := whole()
	list := judgeAll(b.h)
	for _, r := range list {
		if r.Verdict != Pass {
			t.Errorf("%s: %s: %s", r.Name, r.Verdict, r.Reason)
		}
		if r.Samples == 0 || r.Promise == "" || r.Reason == "" || r.Unit == "" {
			t.Errorf("%s says too little: %+v", r.Name, r)
		}
	}
	if d := Make(b.h, list); d.ExitCode != ExitPass {
		t.Errorf("exit %d: %s", d.ExitCode, d.Reason)
	}
	seen := map[string]bool{}
	for _, r := range list {
		if seen[r.Name] {
			t.Errorf("%s is told twice", r.Name)
		}
		seen[r.Name] = true
	}
}

// What was not measured never passes: without any one source, the promises that
// need it do not hold.
func TestNothingPassesUnmeasured(t *testing.T) {
	for _, c := range []struct {
		lack  string
		cut   func(h *history.History)
		needs string
	}{
		{"samples", func(h *history.History) { clear(h.Samples) }, "api.read api.quorum-read api.write convergence.faults convergence.end"},
		{"series", func(h *history.History) { clear(h.Series) }, "api.read api.quorum-read api.write"},
		{"half of the samples", func(h *history.History) {
			for id, s := range h.Samples {
				h.Samples[id] = s[:len(s)/2]
			}
		}, "api.read api.quorum-read api.write"},
		{"watches", func(h *history.History) { h.Watches = nil }, "api.watch watch.complete watch.order"},
		{"half of the watches", func(h *history.History) {
			h.Watches = slices.DeleteFunc(h.Watches, func(w history.Timed[history.Watch]) bool { return w.At > h.Last/2 })
		}, "api.watch"},
		{"writes", func(h *history.History) { h.Writes = nil }, "writes.kept"},
		{"etcd's history", func(h *history.History) { h.Changes = nil }, "watch.complete watch.order"},
		{"half of etcd's history", func(h *history.History) { h.Changes = h.Changes[:len(h.Changes)/2] }, "watch.complete"},
		{"the watch at an API server", func(h *history.History) {
			h.Watches = slices.DeleteFunc(h.Watches, func(w history.Timed[history.Watch]) bool { return w.V.Endpoint == "cp1" })
		}, "watch.complete watch.order"},
		{"the states of etcd's members", func(h *history.History) { h.Etcd = nil }, "etcd.leader-changes etcd.members etcd.alarms"},
		{"the state of a member", func(h *history.History) {
			h.Etcd = slices.DeleteFunc(h.Etcd, func(e history.Timed[history.Etcd]) bool { return e.V.Node == "cp1" })
		}, "etcd.members etcd.alarms"},
		{"etcd's metrics", func(h *history.History) { h.EtcdStats = nil }, "etcd.db-size etcd.fsync etcd.commit"},
		{"half of etcd's metrics", func(h *history.History) { h.EtcdStats = h.EtcdStats[:len(h.EtcdStats)/2] }, "etcd.db-size etcd.fsync etcd.commit"},
		{"operations", func(h *history.History) { h.Operations = nil }, "linearizable"},
		{"the operations through an API server", func(h *history.History) {
			h.Operations = slices.DeleteFunc(h.Operations, func(o history.Timed[history.Operation]) bool { return o.V.Endpoint == "cp1" })
		}, "linearizable"},
		{"the final look", func(h *history.History) { h.Kept = nil }, "writes.kept"},
		{"a member", func(h *history.History) { h.Kept = h.Kept[1:] }, "writes.kept"},
		{"nodes and members", func(h *history.History) { h.Nodes, h.Etcd = nil, nil }, "writes.kept linearizable convergence.faults convergence.end evictions.window evictions.missed evictions.rate"},
		{"CronJobs", func(h *history.History) { h.CronJobs = nil }, "cron.start-latency cron.missed cron.duplicate cron.unscheduled"},
		{"Jobs", func(h *history.History) { h.Jobs = nil }, "cron.start-latency cron.missed cron.unscheduled cron.overlap"},
		{"pods", func(h *history.History) { h.Pods = nil }, "cron.start-latency pods.unexplained pods.restarts pods.stuck-pending pods.stuck-terminating pods.below-budget jobs.killed convergence.faults convergence.end evictions.window evictions.missed evictions.rate"},
		{"budgets", func(h *history.History) { h.Budgets = nil }, "pods.below-budget"},
		{"audit", func(h *history.History) { h.Audits = nil }, "pods.unexplained evictions.window"},
		{"probes", func(h *history.History) { h.Probes = nil }, "service.mesh service.cluster-ip service.dns"},
		{"half of the probes", func(h *history.History) { h.Probes = h.Probes[:len(h.Probes)/2] }, "service.mesh service.cluster-ip service.dns"},
		{"phases", func(h *history.History) { h.Phases = nil }, "pods.unexplained"},
		{"the steady state", func(h *history.History) { h.Stages = h.Stages[:1] }, "api.read api.quorum-read api.write api.watch"},
		{"components", func(h *history.History) { h.Components = nil }, "components.restarts components.crash-loops components.panics convergence.faults convergence.end"},
		{"leases", func(h *history.History) { h.Leases = nil }, "components.leader-gap components.leader-changes"},
		{"logs", func(h *history.History) { h.Logs = nil }, "components.restarts components.panics logs.must-not"},
		{"the states of etcd", func(h *history.History) { h.Etcd = nil }, "convergence.faults convergence.end"},
		{"looks of the gate", func(h *history.History) { h.Looks = nil }, "convergence.end"},
		{"the end", func(h *history.History) { h.End = nil }, "all"},
	} {
		t.Run(c.lack, func(t *testing.T) {
			b := whole()
			c.cut(b.h)
			needs := strings.Fields(c.needs)
			list := judgeAll(b.h)
			for _, r := range list {
				if (c.needs == "all" || slices.Contains(needs, r.Name)) && r.Verdict == Pass {
					t.Errorf("%s passes without: %s", r.Name, r.Reason)
				}
			}
			if d := Make(b.h, list); d.ExitCode == ExitPass || d.Verdict == Pass {
				t.Errorf("the run passes: %s", d.Reason)
			}
		})
	}
	for source, needs := range map[string]string{
		"sampler":          "api.read api.quorum-read api.write convergence.faults convergence.end",
		"watch/pods":       "pods.unexplained pods.restarts pods.stuck-pending pods.stuck-terminating pods.below-budget jobs.killed convergence.faults convergence.end evictions.window evictions.missed evictions.rate",
		"watch/jobs":       "cron.duplicate cron.unscheduled cron.overlap",
		"watch/components": "components.restarts components.crash-loops components.panics convergence.faults convergence.end",
		"watch/leases":     "components.leader-gap components.leader-changes",
	} {
		b := whole()
		b.gap(source, 400, 500)
		for _, r := range judgeAll(b.h) {
			if slices.Contains(strings.Fields(needs), r.Name) != (r.Verdict == Inconclusive) {
				t.Errorf("gap in %s: %s: %s: %s", source, r.Name, r.Verdict, r.Reason)
			}
		}
	}
}

// A run that goes wrong everywhere keeps its result readable.
func TestEvidenceIsBounded(t *testing.T) {
	b := newBook(1230)
	n := 0
	b.series(1, "read", "lb", 1230, func(_ float64, s *history.Sample) {
		if n++; n%50 < 20 {
			s.OK, s.Err = false, "refused"
		}
	})
	c := newAPIAvailability().(*APIAvailability)
	c.Longest = sec(.1)
	r := named(t, c.Check(b.h), "api.read")
	if len(r.Evidence) != maxEvidence+1 || r.Evidence[maxEvidence].Text != "and more of the same from here on" || r.Evidence[maxEvidence].To < sec(1200) {
		t.Errorf("%d pieces of evidence, the last: %+v", len(r.Evidence), r.Evidence[len(r.Evidence)-1])
	}
	want(t, r, Fail, "and 483 more")
	if len(r.Reason) > 2000 {
		t.Errorf("a reason of %d bytes", len(r.Reason))
	}
	// An outage whose own samples were late is never certain.
	b = newBook(60)
	b.series(1, "read", "lb", 60, func(at float64, s *history.Sample) {
		if at >= 20 && at <= 30 {
			s.OK, s.Err = false, "timeout"
			if int(at*20)%10 == 0 {
				s.Late = sec(1)
			}
		}
	})
	want(t, named(t, newAPIAvailability().Check(b.h), "api.read"), Inconclusive, "started late or not at all: the harness was starved")
}
