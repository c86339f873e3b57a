package slo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gameday/faults"
	"gameday/harness/history"
)

// container is the state of a static pod's container from a moment on: the
// restarts-th life, begun at its start. ended is when the life before it ended.
func (b *book) container(at float64, node, name string, restarts int32, ended float64, change ...func(*history.Component)) *book {
	c := history.Container{Name: name, ID: fmt.Sprintf("%s-%s-%d", name, node, restarts), Started: wall(at), Restarts: restarts}
	if restarts > 0 {
		c.Ended = &history.Termination{Finished: wall(ended), ExitCode: 137, Reason: "Error"}
	}
	p := history.Component{Pod: name + "-" + node, UID: "u", Node: node, Manifest: "m1", Ready: true, Containers: []history.Container{c}}
	for _, f := range change {
		f(&p)
	}
	return add(b, &b.h.Components, at, p)
}

// system are the static pods of all control planes, the logs of all, and leases
// that cp0 renews every two seconds to the end.
func (b *book) system(end float64) *book {
	for i := range 3 {
		for _, c := range overEtcd {
			b.container(0, fmt.Sprintf("cp%d", i), c, 0, 0)
			b.log(fmt.Sprintf("cp%d", i), c)
		}
	}
	for _, n := range []string{"cp0", "cp1", "cp2", "w0", "w1"} {
		b.log(n, compKubelet).log(n, compContainerd)
	}
	for _, c := range electing {
		b.renew(c, "cp0_a", 0, end)
	}
	return b
}

func (b *book) log(node, source string, change ...func(*history.Log)) *book {
	l := history.Log{Node: node, Source: source, File: node + "/" + source + ".log", Lines: 10, Found: map[string]int{PanicPattern: 0, unitPattern: 0}}
	for _, f := range change {
		f(&l)
	}
	return add(b, &b.h.Logs, 61, l)
}

// line is a line of the log of a source in which a pattern was found.
func (b *book) line(at float64, node, source, pattern, text string) *book {
	for i, l := range b.h.Logs {
		if l.V.Node == node && l.V.Source == source {
			found := map[string]int{}
			for p, n := range l.V.Found {
				found[p] = n
			}
			found[pattern]++
			b.h.Logs[i].V.Found = found
		}
	}
	return add(b, &b.h.LogLines, 61, history.LogLine{Pattern: pattern, Node: node, Source: source, File: node + "/" + source + ".log", Line: 7, Time: zero.Add(sec(at)), Text: text})
}

// renew is a lease that is renewed every two seconds, and told 50 ms later.
func (b *book) renew(component, holder string, from, to float64) *book {
	for at := from; at <= to; at += 2 {
		add(b, &b.h.Leases, at+.05, history.Lease{Name: component, Holder: holder, Renewed: zero.Add(sec(at)), Seconds: 15})
	}
	return b
}

// led takes the leases of a component away, to be written anew.
func (b *book) led(component string) *book {
	var rest []history.Timed[history.Lease]
	for _, l := range b.h.Leases {
		if l.V.Name != component {
			rest = append(rest, l)
		}
	}
	b.h.Leases = rest
	return b
}

// breaks is a fault of a kind on a node that went well.
func (b *book) breaks(kind, node string, proven, gone float64, params map[string]any) *book {
	n := len(b.h.Injections)
	b.fault("f", "", node, proven, gone)
	for i := range b.h.Injections[n:] {
		b.h.Injections[n+i].V.Fault, b.h.Injections[n+i].V.Params = kind, params
	}
	return b
}

func TestComponents(t *testing.T) {
	waiting := func(p *history.Component) {
		p.Ready, p.Containers[0].ID, p.Containers[0].Waiting = false, "", crashLoop
	}
	manifest := func(p *history.Component) { p.Manifest, p.UID = "m2", "v" }
	for _, c := range []struct {
		name string
		make func(b *book)
		set  func(c *Components)
		// result and verdict; all others pass.
		result string
		want   Verdict
		reason string
	}{
		{name: "nothing happens", make: func(*book) {}, result: "restarts", want: Pass, reason: "0 restarts of 12 containers"},
		{name: "a restart out of nothing", make: func(b *book) { b.container(40, "cp1", compServer, 1, 39) }, result: "restarts", want: Fail, reason: "1 restart that nothing explains"},
		{name: "it may", make: func(b *book) { b.container(40, "cp1", compServer, 1, 39) }, set: func(c *Components) { c.Restarts = 1 }, result: "restarts", want: Pass, reason: "1 restart of 12 containers"},
		{name: "killed by a fault", make: func(b *book) {
			b.breaks("apiserver.kill", "cp1", 39, 45, nil).container(40, "cp1", compServer, 1, 39)
		}, result: "restarts", want: Pass, reason: "explained restarts: 1 by f"},
		{name: "taken along by a fault", make: func(b *book) {
			b.breaks("etcd.stop", "cp1", 20, 45, nil).container(40, "cp1", compServer, 1, 39).container(50, "cp1", compManager, 1, 49)
		}, result: "restarts", want: Pass, reason: "explained restarts: 2 by f"},
		{name: "on another node than the fault", make: func(b *book) {
			b.breaks("apiserver.kill", "cp1", 39, 45, nil).container(40, "cp2", compServer, 1, 39)
		}, result: "restarts", want: Fail, reason: "1 restart that nothing explains"},
		{name: "another component than the fault's", make: func(b *book) {
			b.breaks("scheduler.kill", "cp1", 39, 45, nil).container(40, "cp1", compManager, 1, 39)
		}, result: "restarts", want: Fail, reason: "1 restart that nothing explains"},
		{name: "before the fault", make: func(b *book) {
			b.breaks("apiserver.kill", "cp1", 39, 45, nil).container(31, "cp1", compServer, 1, 30)
		}, result: "restarts", want: Fail, reason: "1 restart that nothing explains"},
		{name: "long after the fault", make: func(b *book) {
			b.breaks("apiserver.kill", "cp1", 20, 25, nil).container(50, "cp1", compServer, 1, 49)
		}, set: func(c *Components) { c.Settle = 10 * time.Second }, result: "restarts", want: Fail, reason: "1 restart that nothing explains"},
		{name: "an alarm is everybody's", make: func(b *book) {
			b.breaks("etcd.alarm-nospace", "cp0", 20, 45, nil).container(40, "cp2", compScheduler, 1, 39)
		}, result: "restarts", want: Pass, reason: "explained restarts: 1 by f"},
		{name: "no quorum is everybody's", make: func(b *book) {
			b.breaks("etcd.stop", "cp0", 20, 45, nil).step(20, 30, "upgrade/control-plane[1]/etcd", "cp1", "proceeded", "").container(29, "cp2", compServer, 1, 28)
		}, result: "restarts", want: Pass, reason: "by f with upgrade/control-plane[1]/etcd"},
		{name: "a clock takes its own component", make: func(b *book) {
			b.breaks("clock.skew", "cp0", 20, 45, map[string]any{"component": compScheduler}).container(40, "cp0", compServer, 1, 39)
		}, result: "restarts", want: Fail, reason: "1 restart that nothing explains"},
		{name: "the upgrade of its node", make: func(b *book) {
			b.step(20, 45, "upgrade/control-plane[1]", "cp1", "proceeded", "proceed").container(30, "cp1", compEtcd, 0, 0, manifest).container(40, "cp1", compEtcd, 1, 39, manifest)
		}, result: "restarts", want: Pass, reason: "explained restarts: 2 by upgrade/control-plane[1]"},
		{name: "the upgrade of another node", make: func(b *book) {
			b.step(20, 45, "upgrade/control-plane[1]", "cp1", "proceeded", "proceed").container(40, "cp0", compEtcd, 0, 0, manifest)
		}, result: "restarts", want: Fail, reason: "1 restart that nothing explains"},
		{name: "more than once between two states", make: func(b *book) { b.container(50, "cp1", compManager, 3, 49) }, set: func(c *Components) { c.Loops = 1 }, result: "restarts", want: Fail, reason: "3 restarts that nothing explains"},
		{name: "the kubelet lost count", make: func(b *book) {
			b.container(40, "cp1", compManager, 0, 0, func(p *history.Component) { p.Containers[0].ID = "other" })
		}, result: "restarts", want: Fail, reason: "1 restart that nothing explains"},
		{name: "another pod of a controller is no restart", make: func(b *book) {
			dns := func(uid string) func(*history.Component) {
				return func(p *history.Component) { p.UID, p.Manifest = uid, "" }
			}
			b.container(0, "w0", "coredns", 0, 0, dns("a")).container(40, "w0", "coredns", 0, 0, dns("b")).log("w0", "coredns")
		}, result: "restarts", want: Pass, reason: "0 restarts of 14 containers"},
		{name: "after the samplers stopped", make: func(b *book) { b.container(60.5, "cp1", compServer, 1, 60.2) }, result: "restarts", want: Pass, reason: "0 restarts"},
		{name: "in a phase that allows it", make: func(b *book) {
			b.step(20, 45, "upgrade/control-plane[1]/etcd", "cp1", "proceeded", "").container(40, "cp2", compServer, 1, 39)
		}, set: func(c *Components) {
			c.During = []ComponentsDuring{{Phases: []string{"upgrade/*/etcd"}, Restarts: 1}}
		}, result: "restarts", want: Pass, reason: "0 restarts"},
		{name: "more than the phase allows", make: func(b *book) {
			b.step(20, 45, "upgrade/control-plane[1]/etcd", "cp1", "proceeded", "").container(30, "cp2", compServer, 1, 29).container(40, "cp2", compServer, 2, 39)
		}, set: func(c *Components) {
			c.During = []ComponentsDuring{{Phases: []string{"upgrade/*/etcd"}, Restarts: 1}}
		}, result: "restarts", want: Fail, reason: "2 restarts that nothing explains during upgrade/*/etcd"},
		{name: "a kubelet", make: func(b *book) { b.line(40, "w0", compKubelet, unitPattern, "Started kubelet.service") }, result: "restarts", want: Fail, reason: "1 restart that nothing explains"},
		{name: "a kubelet under fault", make: func(b *book) {
			b.breaks("kubelet.kill", "w0", 39, 42, nil).line(40, "w0", compKubelet, unitPattern, "Started kubelet.service")
		}, result: "restarts", want: Pass, reason: "explained restarts: 1 by f"},
		{name: "a kubelet whose log is not there", make: func(b *book) {
			b.h.Logs[12].V = history.Log{Node: "cp0", Source: compKubelet, Missing: "it was not collected"}
		}, result: "restarts", want: Inconclusive, reason: "whether the kubelet of control-plane[0] was started again cannot be told: its log: it was not collected"},
		{name: "a component that nobody saw", make: func(b *book) { b.h.Components = b.h.Components[1:] }, result: "restarts", want: Inconclusive, reason: "etcd on control-plane[0] is not in the record"},
		{name: "a gap", make: func(b *book) { b.gap("watch/components", 20, 30) }, result: "restarts", want: Inconclusive, reason: "watch/components has no data from 0:20.00"},

		{name: "three times within ten minutes", make: func(b *book) {
			b.container(20, "cp1", compServer, 1, 19).container(30, "cp1", compServer, 2, 29).container(40, "cp1", compServer, 3, 39)
		}, set: func(c *Components) { c.Restarts = 3 }, result: "crash-loops", want: Fail, reason: "kube-apiserver on control-plane[1] ended 3 times within 20.0 s"},
		{name: "held back", make: func(b *book) {
			b.container(20, "cp1", compServer, 1, 19, waiting).container(30, "cp1", compServer, 2, 29)
		}, set: func(c *Components) { c.Restarts = 2 }, result: "crash-loops", want: Fail, reason: "was held back by the kubelet (CrashLoopBackOff)"},
		{name: "held back by a fault", make: func(b *book) {
			b.breaks("apiserver.kill", "cp1", 19, 25, nil).container(20, "cp1", compServer, 1, 19, waiting).container(30, "cp1", compServer, 2, 29)
		}, result: "crash-loops", want: Pass, reason: "held back by the kubelet 1 times after an end that a fault or the upgrade explains"},
		{name: "down in the end, whatever the fault", make: func(b *book) {
			b.breaks("controller-manager.crash-loop", "cp1", 19, 50, nil).container(50, "cp1", compManager, 4, 49, waiting)
		}, result: "crash-loops", want: Fail, reason: "kube-controller-manager on control-plane[1] does not run in the end: CrashLoopBackOff"},
		{name: "gone in the end", make: func(b *book) {
			b.container(50, "cp1", compManager, 0, 0, func(p *history.Component) { p.Deleted = true })
		}, result: "crash-loops", want: Fail, reason: "is not there in the end"},

		{name: "a leader that is lost", make: func(b *book) {
			b.breaks("controller-manager.kill", "cp0", 20, 25, nil).led(compManager).renew(compManager, "cp0_a", 0, 20).renew(compManager, "cp1_b", 39, 60)
		}, result: "leader-gap", want: Pass, reason: "1 gap in"},
		{name: "lost for too long", make: func(b *book) {
			b.breaks("controller-manager.kill", "cp0", 20, 25, nil).led(compManager).renew(compManager, "cp0_a", 0, 20).renew(compManager, "cp1_b", 46, 60)
		}, result: "leader-gap", want: Fail, reason: "nobody led kube-controller-manager for 26.0 s (+-50 ms), from control-plane[0] to control-plane[1] at 0:20.00"},
		{name: "too close to tell", make: func(b *book) {
			b.breaks("controller-manager.kill", "cp0", 20, 25, nil).led(compManager).renew(compManager, "cp0_a", 0, 20).renew(compManager, "cp1_b", 44, 60)
		}, result: "leader-gap", want: Inconclusive, reason: "too close to the budget for its error bar"},
		{name: "a phase allows more", make: func(b *book) {
			b.step(20, 45, "upgrade/control-plane[0]", "cp0", "proceeded", "proceed").step(20, 45, "upgrade/control-plane[0]/etcd", "cp0", "proceeded", "").led(compManager).renew(compManager, "cp0_a", 0, 20).renew(compManager, "cp1_b", 46, 60)
		}, set: func(c *Components) {
			c.During = []ComponentsDuring{{Phases: []string{"upgrade/*/etcd"}, LeaderGap: 30 * time.Second}}
		}, result: "leader-gap", want: Pass, reason: "1 gap in"},
		{name: "paused, and renewed by the same", make: func(b *book) {
			b.led(compScheduler).renew(compScheduler, "cp0_a", 0, 20).renew(compScheduler, "cp0_a", 46, 60)
		}, result: "leader-gap", want: Fail, reason: "nobody led kube-scheduler for 26.0 s"},
		{name: "nobody leads in the end", make: func(b *book) { b.led(compScheduler).renew(compScheduler, "cp0_a", 0, 42) }, result: "leader-gap", want: Inconclusive, reason: "had not ended when the samplers stopped"},
		{name: "nobody leads for long in the end", make: func(b *book) { b.led(compScheduler).renew(compScheduler, "cp0_a", 0, 20) }, result: "leader-gap", want: Fail, reason: "nobody led kube-scheduler for 40.0 s"},
		{name: "let go, taken at once", make: func(b *book) {
			b.step(20, 45, "upgrade/control-plane[0]", "cp0", "proceeded", "proceed").led(compScheduler).renew(compScheduler, "cp0_a", 0, 20)
			add(b, &b.h.Leases, 22.05, history.Lease{Name: compScheduler, Renewed: zero.Add(sec(22)), Seconds: 1})
			b.renew(compScheduler, "cp1_b", 24, 60)
		}, result: "leader-gap", want: Pass, reason: "1 gap in"},
		{name: "another leads for no reason", make: func(b *book) {
			b.led(compScheduler).renew(compScheduler, "cp0_a", 0, 20).renew(compScheduler, "cp1_b", 38, 60)
		}, result: "leader-changes", want: Fail, reason: "1 change of leader that nothing explains"},
		{name: "no lease of one", make: func(b *book) { b.led(compScheduler) }, result: "leader-changes", want: Inconclusive, reason: "no lease of kube-scheduler is in the record"},

		{name: "a panic", make: func(b *book) { b.line(40, "cp1", compServer, PanicPattern, "panic: oops") }, result: "panics", want: Fail, reason: "1 panic that nothing explains"},
		{name: "a panic that a fault explains", make: func(b *book) {
			b.breaks("disk.fsync-error", "cp1", 39, 45, nil).line(40, "cp1", compEtcd, PanicPattern, "panic: fsync")
		}, result: "panics", want: Pass, reason: "explained panics: 1 by f"},
		{name: "a panic before the samplers", make: func(b *book) {
			for i := range b.h.Components {
				b.h.Components[i].At = sec(5)
			}
			b.line(3, "cp1", compServer, PanicPattern, "panic: oops")
		}, result: "panics", want: Pass, reason: "0 in 22 logs"},
		{name: "a log that was cut", make: func(b *book) { b.h.Logs[0].V.Missing = "it was rotated 4 times" }, result: "panics", want: Inconclusive, reason: "the log of etcd on control-plane[0] is not whole: it was rotated 4 times"},
		{name: "a log that is not there", make: func(b *book) { b.h.Logs = b.h.Logs[1:] }, result: "panics", want: Inconclusive, reason: "no log of etcd on control-plane[0] was looked through"},
		{name: "not sought", make: func(b *book) { delete(b.h.Logs[0].V.Found, PanicPattern) }, result: "panics", want: Inconclusive, reason: "1 log was not looked through for it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(60).system(60)
			c.make(b)
			k := newComponents().(*Components)
			k.LeaderChanges = map[bool]int{true: 0, false: 9}[c.result == "leader-changes"]
			if c.set != nil {
				c.set(k)
			}
			seen := false
			for _, r := range k.Check(b.h) {
				if r.Name == "components."+c.result {
					seen = true
					want(t, r, c.want, c.reason)
					if r.Promise == "" || c.want == Fail && len(r.Evidence) == 0 {
						t.Errorf("says too little: %+v", r)
					}
				} else if c.want == Fail && r.Verdict == Fail {
					t.Errorf("%s fails, too: %s", r.Name, r.Reason)
				}
			}
			if !seen {
				t.Errorf("no result components.%s", c.result)
			}
		})
	}
	bad := Components{Restarts: -1, Settle: -1, During: []ComponentsDuring{{}, {Phases: []string{"x"}, Restarts: -1}}}
	if errs := bad.Validate(); len(errs) != 6 {
		t.Errorf("%d problems: %v", len(errs), errs)
	}
}

// A record from before components were in it proves nothing.
func TestComponentsOfAnOldRecord(t *testing.T) {
	for _, r := range newComponents().Check(newBook(60).h) {
		want(t, r, Inconclusive, "is in the record")
	}
}

// Canary writes tell when a renewal was made, however late it was told and
// whatever the holder's clock says.
func TestRenewalsAreBoundByWrites(t *testing.T) {
	b := newBook(60)
	for i := range 6 {
		add(b, &b.h.Writes, float64(i)*10, history.Write{Key: fmt.Sprint(i), Outcome: writeOK, Revision: int64(100 + 10*i), Took: sec(.1)})
	}
	add(b, &b.h.Leases, 50, history.Lease{Name: compManager, Holder: "cp0_a", Renewed: zero.Add(sec(3600)), Revision: 115})
	if r := renewals(b.h)[compManager][0]; r.from != sec(10) || r.to != sec(20.1) {
		t.Errorf("between the writes at revisions 110 and 120: %v", r.span)
	}
	b.h.Leases[0].V.Renewed = zero.Add(sec(15))
	if r := renewals(b.h)[compManager][0]; r.from != sec(15) || r.to != sec(20.1) {
		t.Errorf("the holder's clock, which does not contradict, was not heard: %v", r.span)
	}
}

// Every fault says what it may end.
func TestEveryFaultIsKnownToBlame(t *testing.T) {
	for _, k := range faults.Catalogue() {
		known := false
		for name := range downs {
			known = known || strings.HasPrefix(k.Name, name)
		}
		if !known {
			t.Errorf("%s: name in downs which components it may end", k.Name)
		}
	}
}

// The record of a real cluster of one control plane and one worker (its samples
// left out), in which the leaders and a kubelet were killed.
func TestComponentsOfARealRun(t *testing.T) {
	h, err := history.Load("testdata/killed-leaders.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	c := newComponents().(*Components)
	for _, r := range c.Check(h) {
		want(t, r, Pass, "")
		if r.Name == "components.leader-gap" && (r.Observed < 21.3 || r.Observed > 21.31 || r.ErrorBar > .01) {
			t.Errorf("%v +- %v", r.Observed, r.ErrorBar)
		}
	}
	want(t, named(t, c.Check(h), "components.restarts"), Pass, "1 by kill-kcm, 1 by kill-kubelet, 1 by kill-scheduler")
	for _, r := range newLogs().Check(h) {
		want(t, r, Pass, "14 logs were looked through")
	}
	// The same without the word of the faults, and with a closer bound.
	h.Injections = nil
	c.LeaderGap = 10 * time.Second
	list := c.Check(h)
	want(t, named(t, list, "components.restarts"), Fail, "3 restarts that nothing explains")
	want(t, named(t, list, "components.leader-changes"), Fail, "2 changes of leader that nothing explains")
	want(t, named(t, list, "components.leader-gap"), Fail, "nobody led kube-controller-manager for 21.3 s (+-4 ms)")
	want(t, named(t, list, "components.crash-loops"), Pass, "0 of 8 containers")
}
