package slo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gameday/harness/history"
)

// probes adds what the pods on all nodes saw: a good sample of each series each
// second from 0 to end, in a line of each node each 5 s. change alters them; one
// that ends up without Took is none.
func (b *book) probes(end float64, change func(k probeKey, at float64, s *history.Sample)) *book {
	nodes := []string{"cp0", "cp1", "cp2", "w0", "w1"}
	b.endpoints(0, "web-00", "web-00-1", "w0", "w1").endpoints(0, "kube-dns", "kube-dns-1", "cp0", "cp1")
	for i, node := range nodes {
		keys := []probeKey{{kindClusterIP, "new", node, "web-00"}, {kindClusterIP, "kept", node, "web-00"}, {kindDNS, "", node, "web-00.ns.svc.cluster.local"}}
		for _, to := range nodes {
			if to != node {
				keys = append(keys, probeKey{kindMesh, "", node, to})
			}
		}
		for from, seq := 0.0, int64(1); from < end; from, seq = from+5, seq+1 {
			until := from + 5
			p := history.Probes{Node: node, Process: "p", Seq: seq, Period: time.Second, Until: sec(until), Bar: 2 * time.Millisecond, CPU: sec(until / 1000)}
			for _, k := range keys {
				s := history.ProbeSeries{Kind: k.kind, Conn: k.conn, To: k.to, Late: map[int]int64{}, Bad: map[int]string{}}
				for at := from + float64(i)*.1; at < until; at++ {
					v := history.Sample{Took: time.Millisecond, OK: true}
					if change != nil {
						change(k, at, &v)
					}
					if v.Took == 0 {
						continue
					}
					n := len(s.Start)
					s.Start, s.Took = append(s.Start, (sec(at)-sec(until)).Microseconds()), append(s.Took, v.Took.Microseconds())
					if v.Late > 0 {
						s.Late[n] = v.Late.Microseconds()
					}
					if v.Err != "" {
						s.Bad[n] = v.Err
					}
				}
				p.Series = append(p.Series, s)
			}
			add(b, &b.h.Probes, until+3, p)
		}
	}
	return b
}

// endpoints are the nodes of a Service's ready pods from a moment on.
func (b *book) endpoints(at float64, service, slice string, nodes ...string) *book {
	return add(b, &b.h.Endpoints, at, history.Endpoints{Namespace: "ns", Slice: slice, Service: service, Ready: nodes})
}

// lost makes the samples of some series bad for a time.
func lost(from, to float64, why string, which func(k probeKey) bool) func(probeKey, float64, *history.Sample) {
	return func(k probeKey, at float64, s *history.Sample) {
		if at >= from && at <= to && which(k) {
			s.OK, s.Err = false, why
		}
	}
}

// none takes samples away.
func none(from, to float64, which func(k probeKey) bool) func(probeKey, float64, *history.Sample) {
	return func(k probeKey, at float64, s *history.Sample) {
		if at >= from && at <= to && which(k) {
			s.Took = 0
		}
	}
}

func meshOf(node, to string) func(probeKey) bool {
	return func(k probeKey) bool {
		return k.kind == kindMesh && (node == "" || k.node == node) && (to == "" || k.to == to)
	}
}

func kindOf(kind string) func(probeKey) bool { return func(k probeKey) bool { return k.kind == kind } }

func fromNode(node string) func(probeKey) bool {
	return func(k probeKey) bool { return k.node == node }
}

func TestServiceAvailability(t *testing.T) {
	type change = func(probeKey, float64, *history.Sample)
	// One request in three is sent to a pod that is gone.
	n := 0
	stale := func(from, to float64) change {
		return func(k probeKey, at float64, s *history.Sample) {
			if k.kind != kindClusterIP || k.conn != "new" || k.node != "w0" {
				return
			}
			if n++; at >= from && at <= to && n%3 == 0 {
				s.OK, s.Err = false, "no answer"
			}
		}
	}
	called := func(b *book, fault string) {
		for i := range b.h.Injections {
			b.h.Injections[i].V.Fault = fault
		}
	}
	for _, c := range []struct {
		name    string
		samples change
		more    func(b *book)
		with    func(c *ServiceAvailability)
		// fails or doubts is the promise that does not hold, because of reason.
		fails, doubts, reason string
	}{
		{name: "all is well"},
		{name: "a single sample is lost", samples: lost(100, 100.9, "no answer", meshOf("w0", "w1"))},
		{name: "short of the budget", samples: lost(100, 102, "no answer", kindOf(kindDNS))},

		{name: "one direction is lost", samples: lost(100, 110, "no answer", meshOf("w0", "w1")),
			fails: "service.mesh", reason: "from worker[0] to worker[1] at 1:40"},
		{name: "a stale endpoint", samples: stale(100, 160),
			fails: "service.cluster-ip", reason: "from worker[0] to web-00 (new connections)"},
		{name: "a stale endpoint, seldom hit", samples: func(k probeKey, at float64, s *history.Sample) {
			if k == (probeKey{kindClusterIP, "new", "w1", "web-00"}) && int(at)%10 == 0 {
				s.OK, s.Err = false, "connect: connection refused"
			}
		}, fails: "service.cluster-ip", reason: "samples from worker[1] to web-00 (new connections) were good (90"},
		{name: "kept connections hang", samples: lost(100, 130, "no answer", func(k probeKey) bool { return k.conn == "kept" && k.node == "cp1" }),
			fails: "service.cluster-ip", reason: "from control-plane[1] to web-00 (kept connections)"},
		{name: "the DNS answers wrongly", samples: lost(100, 120, "wrong answer: [10.0.0.9], not 10.0.0.1", func(k probeKey) bool { return k.kind == kindDNS && k.node == "w1" }),
			fails: "service.dns", reason: "of web-00.ns.svc.cluster.local from worker[1] to the DNS"},
		{name: "as long as a phase allows", samples: lost(100, 106, "no answer", meshOf("w0", "w1")),
			more: func(b *book) { b.step(95, 110, "upgrade/worker[0]/kubelet", "w0", "proceeded", "") },
			with: func(c *ServiceAvailability) {
				c.During = []ServiceDuring{{Phases: []string{"upgrade/*/kubelet"}, Mesh: 10 * time.Second}}
			}},
		{name: "longer than a phase allows", samples: lost(95, 109, "no answer", meshOf("w0", "w1")),
			more: func(b *book) { b.step(95, 110, "upgrade/worker[0]/kubelet", "w0", "proceeded", "") },
			with: func(c *ServiceAvailability) {
				c.During = []ServiceDuring{{Phases: []string{"upgrade/*/kubelet"}, Mesh: 10 * time.Second}}
			}, fails: "service.mesh", reason: "outage of"},
		{name: "p99", samples: func(k probeKey, _ float64, s *history.Sample) {
			if k.kind == kindDNS {
				s.Took = 300 * time.Millisecond
			}
		}, with: func(c *ServiceAvailability) { c.P99 = 200 * time.Millisecond }, fails: "service.dns", reason: "p99 of good answers"},

		{name: "explained by a fault of a node", samples: lost(100, 120, "no answer", func(k probeKey) bool { return k.kind == kindMesh && (k.node == "w1" || k.to == "w1") }),
			more: func(b *book) { b.fault("cut", "run", "w1", 100, 120) }},
		{name: "a fault of another node explains nothing", samples: lost(100, 120, "no answer", meshOf("w0", "cp0")),
			more: func(b *book) { b.fault("cut", "run", "w1", 100, 120) }, fails: "service.mesh", reason: "from worker[0] to control-plane[0]"},
		{name: "a stopped kubelet loses no packet", samples: lost(100, 120, "no answer", meshOf("w0", "w1")),
			more:  func(b *book) { b.fault("stop", "run", "w1", 100, 120); called(b, "kubelet.stop") },
			fails: "service.mesh", reason: "from worker[0] to worker[1]"},
		{name: "too long after the fault", samples: lost(100, 200, "no answer", meshOf("w0", "w1")),
			more:  func(b *book) { b.fault("cut", "run", "w1", 100, 120) },
			fails: "service.mesh", reason: "of it outside of fault cut"},
		{name: "a fault where the Service's pods are", samples: lost(100, 120, "no answer", kindOf(kindClusterIP)),
			more: func(b *book) { b.fault("cut", "run", "w1", 100, 120) }},
		{name: "a fault where its pods are no longer", samples: lost(100, 120, "no answer", func(k probeKey) bool { return k.kind == kindClusterIP && k.node == "cp0" }),
			more: func(b *book) {
				b.endpoints(50, "web-00", "web-00-1", "w0").fault("cut", "run", "w1", 100, 120)
			}, fails: "service.cluster-ip", reason: "from control-plane[0]"},
		{name: "a fault of which no end is recorded", samples: lost(240, 270, "no answer", meshOf("w0", "w1")),
			more:   func(b *book) { b.inject("cut", "run", "w1", "armed", 239, "injected", 239.5, "proven", 240) },
			doubts: "service.mesh", reason: "the end of cut is not in the record"},
		{name: "as long as a fault is allowed", samples: lost(100, 108, "no answer", meshOf("w0", "w1")),
			more: func(b *book) { b.fault("stop", "run", "cp0", 100, 120); called(b, "etcd.stop") },
			with: func(c *ServiceAvailability) {
				c.During = []ServiceDuring{{Faults: []string{"stop"}, Mesh: 10 * time.Second}}
			}},
		{name: "the DNS's pods are killed", samples: lost(100, 115, "no answer", kindOf(kindDNS)),
			more: func(b *book) { b.fault("kill", "run", "cp0", 100, 105); called(b, "pod.kill") }},

		{name: "a node without any sample", samples: none(0, 400, fromNode("cp1")), doubts: "service.mesh service.cluster-ip service.dns", reason: "no sample from control-plane[1]"},
		{name: "a pair without any sample", samples: none(0, 400, meshOf("w0", "w1")), doubts: "service.mesh", reason: "0 samples from worker[0] to worker[1]"},
		{name: "a node whose samples end", samples: none(200, 400, fromNode("w0")), doubts: "service.mesh service.cluster-ip service.dns", reason: "an outage could hide there"},
		{name: "a hole in the samples", samples: none(100, 110, fromNode("w0")), doubts: "service.mesh service.cluster-ip service.dns", reason: "from 1:39"},
		{name: "a node that was frozen", samples: none(100, 110, fromNode("w0")), more: func(b *book) { b.fault("freeze", "run", "w0", 100, 110) }},
		{name: "a starved pod", samples: func(k probeKey, at float64, s *history.Sample) {
			if k.node == "w0" && int(at)%5 == 0 {
				s.Late = time.Second
			}
		}, doubts: "service.mesh service.cluster-ip service.dns", reason: "the pod was starved"},
		{name: "still down in the end", samples: lost(298, 400, "no answer", kindOf(kindDNS)), doubts: "service.dns", reason: "had not ended"},
		{name: "faults all the time", more: func(b *book) { b.fault("cut", "run", "w1", 11, 299) }, doubts: "service.mesh service.cluster-ip service.dns", reason: "that no fault excuses"},
		{name: "no Service", samples: none(0, 400, kindOf(kindClusterIP)), more: func(b *book) {
			for i := range b.h.Probes {
				p := &b.h.Probes[i].V
				p.Series = p.Series[2:]
			}
		}, doubts: "service.cluster-ip", reason: "needs Deployments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(300).probes(303, c.samples)
			if c.more != nil {
				c.more(b)
			}
			if c.name == "a node without any sample" { // it has no lines either
				list := b.h.Probes[:0]
				for _, p := range b.h.Probes {
					if p.V.Node != "cp1" {
						list = append(list, p)
					}
				}
				b.h.Probes = list
			}
			checker := newServiceAvailability().(*ServiceAvailability)
			if c.with != nil {
				c.with(checker)
			}
			if errs := checker.Validate(); len(errs) > 0 {
				t.Fatal(errs)
			}
			for _, r := range checker.Check(b.h) {
				switch {
				case strings.Contains(c.fails, r.Name):
					want(t, r, Fail, c.reason)
				case strings.Contains(c.doubts, r.Name):
					want(t, r, Inconclusive, c.reason)
				default:
					want(t, r, Pass, "")
				}
			}
		})
	}
}

// What a fault explains is shown, and does not count.
func TestExplainedOutagesAreBeside(t *testing.T) {
	b := newBook(300).probes(303, lost(100, 120, "no answer", meshOf("w0", "w1"))).fault("cut", "run", "w1", 100, 120)
	r := named(t, newServiceAvailability().Check(b.h), "service.mesh")
	want(t, r, Pass, "0 outages in 5804 samples of 20 series, 1 more explained by faults")
	if len(r.Evidence) != 1 || !r.Evidence[0].Beside || fmt.Sprint(r.Evidence[0].During) != "[cut]" {
		t.Errorf("evidence %+v", r.Evidence)
	}
	if r.Observed != 0 || r.Budget != 3 {
		t.Errorf("observed %v of %v", r.Observed, r.Budget)
	}
}

func TestServiceAvailabilityValidate(t *testing.T) {
	bad := &ServiceAvailability{P99: 2 * time.Second, Available: 101, During: []ServiceDuring{{}}}
	if errs := bad.Validate(); len(errs) != 9 {
		t.Errorf("%d problems: %v", len(errs), errs)
	}
}
