package slo

import (
	"fmt"
	"strings"
	"testing"

	"gameday/harness/eviction"
	"gameday/harness/history"
)

const (
	unreachableTaint = "node.kubernetes.io/unreachable:NoExecute"
	rsWeb            = "ReplicaSet/web"
)

// leads records that a process held the controller manager's lease.
func (b *book) leads(holder string, from, to float64) *book {
	for at := max(from, 0); at <= to; at += 2 {
		add(b, &b.h.Leases, at, history.Lease{Name: compManager, Holder: holder, Renewed: zero.Add(sec(at))})
	}
	return b
}

// worker records a state of a worker.
func (b *book) worker(at float64, i int, ready string, taints ...string) *book {
	return b.node(at, history.Node{Name: fmt.Sprintf("w%d", i), Place: fmt.Sprintf("worker[%d]", i), Ready: ready, Version: "v1.36.1", Taints: taints})
}

// tolerant is a pod that tolerates the taint for some seconds; below 0 for ever.
func (b *book) tolerant(name, owner, node string, seconds int64) *teller {
	l := b.pod(2, owner, name, node)
	t := history.Toleration{Key: "node.kubernetes.io/unreachable", Operator: "Exists", Effect: "NoExecute"}
	if seconds >= 0 {
		t.Seconds = &seconds
	}
	l.p.Tolerations = []history.Toleration{t}
	return l.tell(5)
}

// evicted is the pod's deletion by the taint eviction controller.
func (l *teller) evicted(at float64) *teller {
	l.b.audit(at, "node-controller", "delete", "", l.p.Name)
	return l.delete(at, "DeletionByTaintManager")
}

// TestEvictionsDefaults: they are Kubernetes' own.
func TestEvictionsDefaults(t *testing.T) {
	c, ok := newEvictions().(*Evictions)
	if want := eviction.Defaults(""); !ok || c.settings() != want {
		t.Errorf("%+v, want %+v", c, want)
	}
}

// TestEvictions: each bad history names the promise that broke, and the rule.
func TestEvictions(t *testing.T) {
	// away is a run of 10 minutes in which w0 falls silent at 20 s.
	away := func() *book {
		b := newBook(600).leads("a", -300, 600)
		b.worker(60, 0, "Unknown").worker(60.2, 0, "Unknown", unreachableTaint)
		b.tolerant("log", "DaemonSet/log", "w0", -1)
		b.tolerant("other", rsWeb, "w1", 100)
		return b
	}
	// many is one of three control planes and eight workers.
	many := func() *book {
		b := newBook(600).leads("a", -300, 600)
		for i := 2; i < 8; i++ {
			b.worker(0, i, "True")
		}
		b.tolerant("other", rsWeb, "w7", 100)
		return b
	}
	// silent are some of them that become Unknown at 60 s; taints at the times.
	silent := func(b *book, n int, taints ...float64) {
		for i := range n {
			b.worker(60+float64(i)/10, i, "Unknown")
		}
		for i, at := range taints {
			b.worker(at, i, "Unknown", unreachableTaint)
		}
	}
	for _, tc := range []struct {
		name   string
		make   func() *book
		broken string // the promise that fails or is in doubt; none if empty
		want   Verdict
		rule   string // in the evidence or the reason
	}{
		{"in time", func() *book { b := away(); b.tolerant("p", rsWeb, "w0", 100).evicted(160.5); return b }, "", Pass, ""},
		{"too early", func() *book { b := away(); b.tolerant("p", rsWeb, "w0", 100).evicted(100); return b }, "evictions.window", Fail, "toleration: ns/p on w0 deleted"},
		{"too late", func() *book { b := away(); b.tolerant("p", rsWeb, "w0", 100).evicted(300); return b }, "evictions.window", Fail, "toleration: ns/p"},
		{"never", func() *book { b := away(); b.tolerant("p", rsWeb, "w0", 100); return b }, "evictions.missed", Fail, "toleration: ns/p on w0 was due"},
		{"tolerations ignored", func() *book { b := away(); b.tolerant("p", "DaemonSet/x", "w0", -1).evicted(60.5); return b }, "evictions.window", Fail, "toleration: ns/p"},
		{"its node kept in touch", func() *book { b := away(); b.tolerant("p", rsWeb, "w1", 100).evicted(160.5); return b }, "evictions.window", Fail, "reachable: ns/p"},
		{"its node had come back", func() *book {
			b := away().worker(120, 0, "True")
			b.tolerant("p", rsWeb, "w0", 100).evicted(160.5)
			return b
		}, "evictions.window", Fail, "reachable: ns/p"},
		{"its node came back, it stays", func() *book { b := away().worker(120, 0, "True"); b.tolerant("p", rsWeb, "w0", 100); return b }, "", Pass, ""},
		{"its node came back as it was due", func() *book { b := away().worker(161, 0, "True"); b.tolerant("p", rsWeb, "w0", 100); return b }, "", Pass, ""},
		{"not tolerated at all", func() *book {
			b := away().worker(99.9, 0, "Unknown", unreachableTaint, "node.kubernetes.io/out-of-service=yes:NoExecute")
			b.h.Pods = nil // none but this
			b.tolerant("p", rsWeb, "w0", 300).evicted(100)
			return b
		}, "", Pass, ""},
		{"a new leader: from the beginning", func() *book {
			b := away()
			b.h.Leases = nil
			b.leads("a", -300, 100).leads("b", 120, 600)
			b.worker(121, 0, "Unknown").worker(121.5, 0, "Unknown", unreachableTaint)
			b.tolerant("p", rsWeb, "w0", 100).evicted(222)
			return b
		}, "", Pass, ""},
		{"a new leader: too early for it", func() *book {
			b := away()
			b.h.Leases = nil
			b.leads("a", -300, 100).leads("b", 120, 600)
			b.worker(121, 0, "Unknown").worker(121.5, 0, "Unknown", unreachableTaint)
			b.tolerant("p", rsWeb, "w0", 100).evicted(161)
			return b
		}, "evictions.window", Fail, "toleration: ns/p"},
		{"nobody led when it was due", func() *book {
			b := away()
			b.h.Leases = nil
			b.leads("a", -300, 150)
			b.tolerant("p", rsWeb, "w0", 100)
			return b
		}, "", Pass, ""},
		{"at the rate", func() *book { b := many(); silent(b, 4, 61, 71, 81, 91); return b }, "", Pass, ""},
		{"too fast", func() *book { b := many(); silent(b, 4, 61, 62, 63, 64); return b }, "evictions.rate", Fail, "rate: w1 was tainted"},
		{"too slow", func() *book { b := many(); silent(b, 4, 61, 161, 261, 361); return b }, "evictions.rate", Fail, "longer than its zone's rate allows"},
		{"never tainted", func() *book { b := many(); silent(b, 1); return b }, "evictions.rate", Fail, "rate: w0 was not ready"},
		{"what leaks before the brake", func() *book { b := many(); silent(b, 7, 60.65); return b }, "", Pass, ""},
		{"the brake removed", func() *book { b := many(); silent(b, 7, 61, 71, 81, 91, 101, 111, 121); return b }, "evictions.rate", Fail, "partial-disruption: w1 was tainted"},
		{"a brake that holds", func() *book { b := many(); silent(b, 7); return b }, "", Pass, ""},
		{"all zones stop", func() *book {
			b := newBook(600).leads("a", -300, 600)
			b.tolerant("other", rsWeb, "w1", 100)
			for i := range 3 {
				b.node(60, history.Node{Name: fmt.Sprintf("cp%d", i), Place: fmt.Sprintf("control-plane[%d]", i), Ready: "Unknown"})
			}
			b.worker(60, 0, "Unknown").worker(60, 1, "Unknown").worker(100, 0, "Unknown", unreachableTaint)
			return b
		}, "evictions.rate", Fail, "all-zones-stop: w0 was tainted"},
		{"the lease is not known", func() *book { b := away(); b.h.Leases = nil; return b }, "evictions.window", Inconclusive, "lease of the controller manager is not in the record"},
		{"the tolerations are not known", func() *book { b := away(); b.pod(2, rsWeb, "p", "w0"); return b }, "evictions.missed", Inconclusive, "the tolerations of ns/p"},
		{"nobody knows who deleted it", func() *book { b := away(); b.tolerant("p", rsWeb, "w1", 100).delete(100, ""); return b }, "evictions.window", Inconclusive, "no audit line says who"},
		{"nodes not seen", func() *book { return away().gap("watch/nodes", 100, 110) }, "evictions.rate", Inconclusive, "watch/nodes"},
		{"nothing happened", func() *book { b := newBook(600); b.tolerant("p", rsWeb, "w0", 100); return b }, "", Pass, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list := newEvictions().Check(tc.make().h)
			for _, r := range list {
				switch {
				case tc.broken == "" && r.Verdict != Pass, tc.broken != "" && r.Name != tc.broken && r.Verdict == Fail:
					t.Errorf("%s: %s: %s %v", r.Name, r.Verdict, r.Reason, r.Evidence)
				case r.Name == tc.broken:
					text := r.Reason
					for _, e := range r.Evidence {
						text += "\n" + e.Text
					}
					if r.Verdict != tc.want || !strings.Contains(text, tc.rule) {
						t.Errorf("%s: %s: %s\nwant %s with %q", r.Name, r.Verdict, text, tc.want, tc.rule)
					}
				}
			}
		})
	}
}
