package slo

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gameday/harness/history"
)

// teller is a pod that is told state by state.
type teller struct {
	b *book
	p history.Pod
}

// pod begins a pod: created and scheduled at once, its container started a
// second later and Ready one more second later. With node "" it is only created.
func (b *book) pod(at float64, owner, name, node string) *teller {
	l := &teller{b, history.Pod{Namespace: "ns", Name: name, UID: "uid-" + name, Owner: owner, OwnerUID: "uid-" + owner, Phase: "Pending", Created: wall(at)}}
	l.tell(at)
	if node == "" {
		return l
	}
	l.p.Node, l.p.Scheduled = node, wall(at)
	l.tell(at + .1)
	l.p.Phase, l.p.Started, l.p.Containers = "Running", wall(at+1), []string{"c-" + name}
	l.tell(at + 1)
	l.p.Ready = true
	return l.tell(at + 2)
}

func (l *teller) tell(at float64) *teller {
	add(l.b, &l.b.h.Pods, at, l.p)
	return l
}

// delete asks for the deletion at a time, for a reason or none; the pod is gone
// 2 s later.
func (l *teller) delete(at float64, disruption string) *teller {
	l.p.Disruption, l.p.Deleting, l.p.Grace = disruption, wall(at+10), 10
	l.tell(at)
	return l.gone(at + 2)
}

func (l *teller) gone(at float64) *teller {
	l.p.Deleted = true
	return l.tell(at)
}

func (l *teller) ends(at float64, phase string, code int32) *teller {
	l.p.Phase, l.p.Ready, l.p.Containers, l.p.Finished, l.p.ExitCode = phase, false, nil, wall(at), code
	return l.tell(at)
}

func (l *teller) ready(at float64, yes bool) *teller {
	l.p.Ready = yes
	return l.tell(at)
}

// audit is a line about a pod.
func (b *book) audit(at float64, user, verb, sub, name string) *book {
	if !strings.Contains(user, ":") && user != "admin" {
		user = serviceAccount + user
	}
	return add(b, &b.h.Audits, at, history.Audit{
		ID: "a", Endpoint: "cp0", User: user, Verb: verb, Resource: "pods", Subresource: sub, Namespace: "ns", Name: name,
		Code: 200, Time: zero.Add(sec(at)), Agent: "test/1",
	})
}

// evicts is a fault that evicts pods of a node.
func (b *book) evicts(id, node string, count, from, to float64) *book {
	return b.strikes("pod.evict", id, node, map[string]any{"count": count}, from, to)
}

// strikes is a fault that ends pods or containers on a node.
func (b *book) strikes(fault, id, node string, params map[string]any, from, to float64) *book {
	n := len(b.h.Injections)
	b.inject(id, "", node, "requested", from, "armed", from, "proven", to, "gone", to)
	for i := range b.h.Injections[n:] {
		b.h.Injections[n+i].V.Fault, b.h.Injections[n+i].V.Params = fault, params
	}
	return b
}

// restart starts a pod's containers again.
func (l *teller) restart(at float64) *teller {
	l.p.Restarts++
	l.p.Containers = []string{fmt.Sprintf("c-%s-%d", l.p.Name, l.p.Restarts)}
	return l.tell(at)
}

func (b *book) budget(at float64, owner string, desired, least int32) *book {
	return add(b, &b.h.Budgets, at, history.Budget{Namespace: "ns", Owner: owner, Desired: desired, MinAvailable: least})
}

// longJob adds a Job that no CronJob made, and its pod.
func (b *book) longJob(at float64, name string, change func(j *history.Job)) *teller {
	j := history.Job{Namespace: "ns", Name: name, UID: "uid-Job/" + name, Created: wall(at), Started: wall(at)}
	add(b, &b.h.Jobs, at, j)
	if change != nil {
		change(&j)
	}
	return b.pod(at, "Job/"+name, name+"-x", "w0")
}

// web adds the pods of a Deployment web-00 with two nodes, and its budget.
func (b *book) web(n int) []*teller {
	b.budget(1, "ReplicaSet/web-00", int32(n), int32(n-1))
	var out []*teller
	for i := range n {
		out = append(out, b.pod(2, "ReplicaSet/web-00-abc", fmt.Sprintf("web-00-abc-%d", i), fmt.Sprintf("w%d", i%2)))
	}
	return out
}

func TestLedgerCauses(t *testing.T) {
	drain := func(b *book) {
		b.step(90, 130, "upgrade/worker[0]", "w0", "proceeded", "").step(91, 110, "upgrade/worker[0]/drain", "w0", "proceeded", "")
	}
	taint := func(from, to float64) func(b *book) {
		return func(b *book) {
			b.node(from, history.Node{Name: "w0", Place: "worker[0]", Ready: "Unknown", Taints: []string{"node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"}})
			b.node(to, history.Node{Name: "w0", Place: "worker[0]", Ready: "True"})
		}
	}
	const rs, ss = "ReplicaSet/web-00-abc", "StatefulSet/store-00"
	for _, c := range []struct {
		name  string
		make  func(b *book)
		cause string
		why   string
	}{
		{"alive", func(b *book) { b.pod(2, rs, "p", "w0") }, CauseAlive, ""},
		{"after the end", func(b *book) { b.pod(2, rs, "p", "w0").delete(601, "") }, CauseOver, ""},
		{"finished", func(b *book) { b.longJob(2, "p", nil).ends(50, "Succeeded", 0) }, CauseFinished, ""},
		{"finished, then cleaned up", func(b *book) { b.longJob(2, "p", nil).ends(50, "Succeeded", 0).delete(100, "") }, CauseFinished, ""},
		{"failed by itself", func(b *book) { b.longJob(2, "p", nil).ends(50, "Failed", 3) }, CauseFinished, "exit code 3"},
		{"drained", func(b *book) { drain(b); b.pod(2, rs, "p", "w0").delete(100, "EvictionByEvictionAPI") }, CauseDrain, ""},
		{"drained, by the audit log", func(b *book) {
			drain(b)
			b.pod(2, rs, "p", "w0").delete(100, "")
			b.audit(100, "admin", "create", "eviction", "p")
		}, CauseDrain, ""},
		{"evicted from another node", func(b *book) { drain(b); b.pod(2, rs, "p", "w1").delete(100, "EvictionByEvictionAPI") }, CauseUnknown, "evicted while no phase of the upgrade of w1 was open"},
		{"evicted later", func(b *book) { drain(b); b.pod(2, rs, "p", "w0").delete(140, "EvictionByEvictionAPI") }, CauseUnknown, "evicted while no phase"},
		{"evicted by a fault", func(b *book) {
			b.evicts("away", "w0", 1, 95, 105)
			b.pod(2, rs, "p", "w0").delete(100, "EvictionByEvictionAPI")
		}, CauseFault, "evicted by away"},
		{"evicted, a fault evicted on another node", func(b *book) {
			b.evicts("away", "w1", 1, 95, 105)
			b.pod(2, rs, "p", "w0").delete(100, "EvictionByEvictionAPI")
		}, CauseUnknown, "evicted while no phase"},
		{"evicted, a fault of another kind was there", func(b *book) {
			b.fault("cut", "", "w0", 95, 105)
			b.pod(2, rs, "p", "w0").delete(100, "EvictionByEvictionAPI")
		}, CauseUnknown, "evicted while no phase"},
		{"no audit line, and an API server was down", func(b *book) {
			b.audit(50, "admin", "delete", "", "other").series(1, "read", "cp1", 600, down(95, 102))
			b.pod(2, rs, "p", "w0").delete(100, "")
		}, CauseUnseen, "the API server of control-plane[1] was down"},
		{"no audit line, and an API server was down before", func(b *book) {
			b.audit(50, "admin", "delete", "", "other").series(1, "read", "cp1", 600, down(80, 90))
			b.pod(2, rs, "p", "w0").delete(100, "")
		}, CauseUnknown, "no audit line says who"},
		{"taint, toleration used up", func(b *book) { taint(50, 400)(b); b.pod(2, rs, "p", "w0").delete(351, "DeletionByTaintManager") }, CauseTaint, "the taint was on w0 for 5m1s"},
		{"taint, by the audit log", func(b *book) {
			taint(50, 400)(b)
			b.pod(2, rs, "p", "w0").delete(351, "")
			b.audit(351, "node-controller", "delete", "", "p")
		}, CauseTaint, ""},
		{"taint, too early", func(b *book) { taint(50, 400)(b); b.pod(2, rs, "p", "w0").delete(250, "DeletionByTaintManager") }, CauseUnknown, "deleted it after 3m20s, though it tolerates the taint for 5m0s"},
		{"taint, gone", func(b *book) { taint(50, 100)(b); b.pod(2, rs, "p", "w0").delete(400, "DeletionByTaintManager") }, CauseUnknown, "the taint was gone from w0"},
		{"taint put back: the timer starts again", func(b *book) {
			taint(50, 300)(b)
			taint(301, 500)(b)
			b.pod(2, rs, "p", "w0").delete(400, "DeletionByTaintManager")
		}, CauseUnknown, "after 99.0 s"},
		{"taint never seen", func(b *book) { b.pod(2, rs, "p", "w0").delete(400, "DeletionByTaintManager") }, CauseUnknown, "no NoExecute taint was seen on w0"},
		{"taint that is not tolerated", func(b *book) {
			b.node(50, history.Node{Name: "w0", Place: "worker[0]", Ready: "True", Taints: []string{"broken=yes:NoExecute"}})
			b.pod(2, rs, "p", "w0").delete(50, "DeletionByTaintManager")
		}, CauseTaint, "taint broken on w0"},
		{"taint, nodes not seen", func(b *book) {
			taint(50, 400)(b)
			b.gap("watch/nodes", 60, 70)
			b.pod(2, rs, "p", "w0").delete(351, "DeletionByTaintManager")
		}, CauseUnseen, "watch/nodes has no data"},
		{"taint, node unknown", func(b *book) { b.pod(2, rs, "p", "w9").delete(400, "DeletionByTaintManager") }, CauseUnseen, "the taints of w9 are not in the record"},
		{"preempted", func(b *book) { b.pod(2, rs, "p", "w0").delete(100, "PreemptionByScheduler") }, CausePreemption, ""},
		{"preempted, by the audit log", func(b *book) {
			b.pod(2, rs, "p", "w0").delete(100, "")
			b.audit(100, "system:kube-scheduler", "delete", "", "p")
		}, CausePreemption, ""},
		{"node pressure", func(b *book) {
			l := b.pod(2, rs, "p", "w0")
			l.p.Disruption = "TerminationByKubelet"
			l.ends(100, "Failed", 137)
		}, CauseKubelet, ""},
		{"node shutdown", func(b *book) {
			l := b.pod(2, rs, "p", "w0")
			l.p.Disruption, l.p.Reason = "TerminationByKubelet", "Terminated"
			l.ends(100, "Failed", 143)
		}, CauseShutdown, ""},
		{"not admitted", func(b *book) {
			l := b.pod(2, rs, "p", "")
			l.p.Node, l.p.Reason = "w0", "OutOfcpu"
			l.ends(3, "Failed", 0)
		}, CauseRefused, "the kubelet did not admit it: OutOfcpu"},
		{"ran, and then was not admitted", func(b *book) {
			l := b.pod(2, rs, "p", "w0")
			l.p.Reason = "NodeAffinity"
			l.ends(100, "Failed", 137)
		}, CauseUnknown, "the kubelet failed it: NodeAffinity"},
		{"a Job's, killed by a fault", func(b *book) {
			b.strikes("pod.kill", "crash", "w0", map[string]any{"count": 1.0}, 98, 101)
			b.longJob(2, "p", nil).ends(100, "Failed", 137)
		}, CauseFault, "killed by crash"},
		{"a Job's, killed by a fault in another namespace", func(b *book) {
			b.strikes("pod.kill", "crash", "w0", map[string]any{"namespace": "kube-system"}, 98, 101)
			b.longJob(2, "p", nil).ends(100, "Failed", 137)
		}, CauseFinished, "failed by itself, exit code 137"},
		{"a Job's, by itself after a fault", func(b *book) {
			b.strikes("pod.kill", "crash", "w0", nil, 90, 95)
			b.longJob(2, "p", nil).ends(100, "Failed", 137)
		}, CauseFinished, "failed by itself"},
		{"failed without a reason", func(b *book) { b.pod(2, rs, "p", "w0").ends(100, "Failed", 137) }, CauseUnknown, "the kubelet failed it"},
		{"node deleted", func(b *book) {
			b.node(50, history.Node{Name: "w0", Place: "worker[0]", Deleted: true})
			b.pod(2, rs, "p", "w0").delete(100, "DeletionByPodGC")
		}, CauseGC, "its node was deleted"},
		{"node out of service", func(b *book) {
			b.node(50, history.Node{Name: "w0", Place: "worker[0]", Taints: []string{"node.kubernetes.io/out-of-service=x:NoExecute"}})
			b.pod(2, rs, "p", "w0").delete(100, "")
			b.audit(100, "pod-garbage-collector", "delete", "", "p")
		}, CauseGC, "out of service"},
		{"never scheduled", func(b *book) { b.pod(2, rs, "p", "").delete(100, "DeletionByPodGC") }, CauseGC, "never scheduled"},
		{"garbage collected from a node that is there", func(b *book) { b.pod(2, rs, "p", "w0").delete(100, "DeletionByPodGC") }, CauseUnknown, "though w0 is there"},
		{"replaced by its controller", func(b *book) {
			b.budget(1, "StatefulSet/store-00", 2, 1)
			b.pod(2, ss, "p", "w0").ready(90, false).delete(100, "")
			b.audit(100, "statefulset-controller", "delete", "", "p")
		}, CauseController, "it was not Ready"},
		{"a rollout that nobody declared", func(b *book) {
			b.budget(1, "StatefulSet/store-00", 2, 1)
			b.pod(2, ss, "p", "w0").delete(100, "")
			b.audit(100, "statefulset-controller", "delete", "", "p")
		}, CauseUnknown, "a rollout that nobody declared"},
		{"scaled down", func(b *book) {
			b.budget(1, "StatefulSet/store-00", 2, 1).budget(95, "StatefulSet/store-00", 1, 1)
			b.pod(2, ss, "p", "w0").delete(100, "")
			b.audit(100, "statefulset-controller", "delete", "", "p")
		}, CauseController, "scaled down"},
		{"one too many", func(b *book) {
			b.budget(1, "ReplicaSet/web-00", 1, 1)
			b.pod(2, rs, "p", "w0").delete(100, "")
			b.pod(50, rs, "q", "w1")
			b.audit(100, "replicaset-controller", "delete", "", "p")
		}, CauseController, "2 pods were there, 1 wanted"},
		{"a rollout of a Deployment that nobody declared", func(b *book) {
			b.budget(1, "ReplicaSet/web-00", 1, 1)
			b.pod(2, rs, "p", "w0").delete(100, "")
			b.pod(50, "ReplicaSet/web-00-new", "q", "w1")
			b.audit(100, "replicaset-controller", "delete", "", "p")
		}, CauseUnknown, "a rollout that nobody declared"},
		{"owner deleted", func(b *book) {
			add(b, &b.h.Budgets, 1, history.Budget{Namespace: "ns", Owner: "StatefulSet/store-00", Desired: 1, Deleted: true})
			b.pod(2, ss, "p", "w0").delete(100, "")
			b.audit(100, "statefulset-controller", "delete", "", "p")
		}, CauseController, "its owner was deleted"},
		{"no budget says how many", func(b *book) {
			b.pod(2, ss, "p", "w0").delete(100, "")
			b.audit(100, "statefulset-controller", "delete", "", "p")
		}, CauseController, "nothing says"},
		{"collected though wanted", func(b *book) {
			b.budget(1, "StatefulSet/store-00", 2, 1)
			b.pod(2, ss, "p", "w0").delete(100, "")
			b.audit(100, "generic-garbage-collector", "delete", "", "p")
		}, CauseUnknown, "though its owner is wanted"},
		{"its Job had ended", func(b *book) {
			b.longJob(2, "p", func(j *history.Job) {
				done := *j
				done.Finished, done.Condition = wall(90), "Failed"
				add(b, &b.h.Jobs, 90, done)
			}).delete(100, "")
			b.audit(100, "job-controller", "delete", "", "p-x")
		}, CauseOwner, "its Job had ended"},
		{"deleted while its Job ran", func(b *book) {
			b.longJob(2, "p", nil).delete(100, "")
			b.audit(100, "job-controller", "delete", "", "p-x")
		}, CauseUnknown, "deleted while its Job ran"},
		{"its Job was deleted while it ran", func(b *book) {
			b.longJob(2, "p", func(j *history.Job) {
				done := *j
				done.Deleted = true
				add(b, &b.h.Jobs, 99, done)
			}).delete(100, "")
			b.audit(100, "generic-garbage-collector", "delete", "", "p-x")
		}, CauseUnknown, "its Job was deleted while it ran"},
		{"its Job was replaced", func(b *book) {
			b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Policy = "Replace" })
			b.longJob(2, "p", func(j *history.Job) {
				done := *j
				done.Deleted, done.CronJobUID = true, "uid-a"
				add(b, &b.h.Jobs, 99, done)
			}).delete(100, "")
			b.audit(100, "generic-garbage-collector", "delete", "", "p-x")
		}, CauseOwner, "replaced"},
		{"its Job is unknown", func(b *book) {
			b.pod(2, "Job/x", "p", "w0").delete(100, "")
			b.audit(100, "job-controller", "delete", "", "p")
		}, CauseUnseen, "its Job is not in the record"},
		{"by a person", func(b *book) {
			b.pod(2, rs, "p", "w0").delete(100, "")
			b.audit(100, "admin", "delete", "", "p")
		}, CauseUnknown, "deleted by admin"},
		{"by the namespace", func(b *book) {
			b.pod(2, rs, "p", "w0").delete(100, "")
			b.audit(100, "namespace-controller", "deletecollection", "", "")
		}, CauseUnknown, "deleted by " + serviceAccount + "namespace-controller"},
		{"the first request counts, and not the kubelet's", func(b *book) {
			b.pod(2, rs, "p", "w0").delete(100, "")
			b.audit(99.5, "system:node:w0", "delete", "", "p").audit(102, "admin", "delete", "", "p").audit(101, "system:kube-scheduler", "delete", "", "p")
		}, CausePreemption, ""},
		{"a request that was refused, one for another, one long before", func(b *book) {
			b.pod(2, rs, "p", "w0").delete(100, "")
			b.audit(99.5, "admin", "delete", "", "p")
			b.h.Audits[0].V.Code = 403
			b.audit(99.5, "admin", "delete", "", "q").audit(50, "admin", "delete", "", "p").audit(99.5, "admin", "delete", "", "p")
			b.h.Audits[3].V.UID = "another"
			b.audit(99.5, "admin", "patch", "", "p")
		}, CauseUnknown, "no audit line says who deleted it"},
		{"gone without grace", func(b *book) {
			b.pod(2, rs, "p", "w0").gone(120)
			b.audit(100, "admin", "delete", "", "p")
		}, CauseUnknown, "deleted by admin"},
		{"no audit log", func(b *book) { b.pod(2, rs, "p", "w0").delete(100, "") }, CauseUnseen, "no audit log is in the record"},
		{"a gap of the audit log", func(b *book) {
			b.pod(2, rs, "p", "w0").delete(100, "")
			b.audit(50, "admin", "delete", "", "q").gap("audit/cp1", 0, 104)
		}, CauseUnseen, "audit/cp1 has no data"},
		{"a gap of the audit log at another time", func(b *book) {
			b.pod(2, rs, "p", "w0").delete(100, "")
			b.audit(50, "admin", "delete", "", "q").gap("audit/cp1", 0, 50)
		}, CauseUnknown, "no audit line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(600)
			c.make(b)
			f := Ledger(b.h)[0]
			if f.Cause != c.cause || !strings.Contains(f.Why, c.why) {
				t.Fatalf("%s: %s\nwant %s: %s", f.Cause, f.Why, c.cause, c.why)
			}
			r := named(t, newPodsLedger().Check(b.h), "pods.unexplained")
			switch c.cause {
			case CauseUnknown:
				want(t, r, Fail, "1 pod lost without a lawful cause")
				if len(r.Evidence) != 1 || !strings.Contains(r.Evidence[0].Text, c.why) || r.Evidence[0].From != f.Ended {
					t.Errorf("%+v", r.Evidence)
				}
			case CauseUnseen:
				// A gap of the pods' nodes is a doubt too; the first one is the pod's.
				want(t, r, Inconclusive, c.why)
			case CauseOver:
				want(t, r, Pass, "0 of 0")
				if r.Excluded != 1 {
					t.Errorf("%+v", r)
				}
			default:
				want(t, r, Pass, c.cause)
			}
		})
	}
}

func TestPodsLedger(t *testing.T) {
	for _, c := range []struct {
		name   string
		set    func(c *PodsLedger)
		make   func(b *book)
		result string
		want   Verdict
		reason string
		check  func(t *testing.T, r Result)
	}{
		// pods.unexplained
		{name: "allowed", set: func(c *PodsLedger) { c.Unexplained = 1 }, make: func(b *book) { b.web(2)[0].ends(100, "Failed", 1) }, result: "pods.unexplained", want: Pass, reason: "1 of 2"},
		{name: "several not seen", make: func(b *book) {
			for _, l := range b.web(3) {
				l.delete(100, "")
			}
		}, result: "pods.unexplained", want: Inconclusive, reason: "why ns/web-00-abc-0 ended cannot be known: no audit log is in the record; and of 2 more"},
		{name: "gap", make: func(b *book) { b.web(2); b.gap("watch/pods", 50, 60) }, result: "pods.unexplained", want: Inconclusive, reason: "watch/pods has no data"},
		{name: "gap at the very end", make: func(b *book) { b.web(2); b.gap("watch/pods", 601, 602) }, result: "pods.unexplained", want: Pass},
		{name: "no pods", make: func(*book) {}, result: "pods.unexplained", want: Inconclusive, reason: "no pod of the workload"},

		// pods.restarts
		{name: "no restart", make: func(b *book) { b.web(2) }, result: "pods.restarts", want: Pass, reason: "0 of 2"},
		{name: "restart count", make: func(b *book) {
			l := b.web(2)[0]
			l.p.Restarts, l.p.Containers = 2, []string{"c2"}
			l.tell(100)
		}, result: "pods.restarts", want: Fail, reason: "2 container restarts", check: func(t *testing.T, r Result) {
			t.Helper()
			if len(r.Evidence) != 1 || r.Evidence[0].From != sec(100) {
				t.Errorf("%+v", r.Evidence)
			}
		}},
		{name: "new container, count from 0 again", make: func(b *book) {
			l := b.web(2)[0]
			l.p.Containers = []string{"c2"}
			l.tell(100)
		}, result: "pods.restarts", want: Fail, reason: "1 container restart"},
		{name: "a second container is no restart", make: func(b *book) {
			l := b.web(2)[0]
			l.p.Containers = []string{"c2", l.p.Containers[0]}
			l.tell(100)
		}, result: "pods.restarts", want: Pass},
		{name: "restart after the end", make: func(b *book) {
			l := b.web(2)[0]
			l.p.Restarts = 1
			l.tell(601)
		}, result: "pods.restarts", want: Pass, check: func(t *testing.T, r Result) {
			t.Helper()
			if r.Samples != 1 || r.Excluded != 1 {
				t.Errorf("%+v", r)
			}
		}},

		{name: "restarted by a fault", make: func(b *book) {
			b.strikes("pod.kill", "crash", "w0", map[string]any{"count": 1.0}, 98, 104)
			b.web(2)[0].restart(103)
		}, result: "pods.restarts", want: Pass, reason: "0 of 2; 1 restart more by faults that end containers"},
		{name: "restarted by a fault, and again", make: func(b *book) {
			b.strikes("pod.kill", "crash", "w0", nil, 98, 104)
			b.web(2)[0].restart(101).restart(103).restart(200)
		}, result: "pods.restarts", want: Fail, reason: "2 container restarts; 1 restart more", check: func(t *testing.T, r Result) {
			t.Helper()
			if len(r.Evidence) != 1 || r.Evidence[0].From != sec(103) {
				t.Errorf("%+v", r.Evidence)
			}
		}},
		{name: "more restarted than a fault asked for", make: func(b *book) {
			b.strikes("pod.kill", "crash", "w0", map[string]any{"count": 1.0}, 98, 104)
			w := b.web(3) // 0 and 2 are on w0
			w[0].restart(101)
			w[2].restart(102)
		}, result: "pods.restarts", want: Fail, reason: "1 container restart"},
		{name: "restarted, and a fault was on another node", make: func(b *book) {
			b.strikes("pod.kill", "crash", "w1", nil, 98, 104)
			b.web(2)[0].restart(101)
		}, result: "pods.restarts", want: Fail, reason: "1 container restart"},
		{name: "restarted, and a fault was there that restarts nothing", make: func(b *book) {
			b.strikes("kubelet.kill", "crash", "w0", nil, 98, 104)
			b.web(2)[0].restart(101)
		}, result: "pods.restarts", want: Fail, reason: "1 container restart"},
		{name: "restarted with its node", make: func(b *book) {
			b.strikes("node.power-off", "off", "w0", nil, 98, 140)
			b.web(2)[0].restart(170)
		}, result: "pods.restarts", want: Pass, reason: "1 restart more by faults"},

		// pods.stuck-terminating
		{name: "gone in time", make: func(b *book) { b.web(2)[0].delete(100, "") }, result: "pods.stuck-terminating", want: Pass, reason: "0 of 1"},
		{name: "not gone", make: func(b *book) {
			l := b.web(2)[0]
			l.p.Deleting, l.p.Grace, l.p.Finalizers = wall(110), 10, []string{"batch.kubernetes.io/job-tracking"}
			l.tell(100)
		}, result: "pods.stuck-terminating", want: Fail, reason: "1 pod stuck terminating", check: func(t *testing.T, r Result) {
			t.Helper()
			if len(r.Evidence) != 1 || r.Evidence[0].Text != "ns/web-00-abc-0 on w0 was there for 8m10s after its grace period, with finalizers batch.kubernetes.io/job-tracking" || r.Evidence[0].From != sec(110) {
				t.Errorf("%+v", r.Evidence)
			}
		}},
		{name: "gone late", make: func(b *book) {
			l := b.web(2)[0]
			l.p.Deleting, l.p.Grace = wall(110), 10
			l.tell(100).gone(202)
		}, result: "pods.stuck-terminating", want: Fail, reason: "1 pod stuck terminating"},
		{name: "gone as late as is allowed", make: func(b *book) {
			l := b.web(2)[0]
			l.p.Deleting, l.p.Grace = wall(110), 10
			l.tell(100).gone(200.5)
		}, result: "pods.stuck-terminating", want: Inconclusive, reason: "too close to the budget"},
		{name: "its node was not heard of", make: func(b *book) {
			b.fault("cut", "", "w0", 95, 400)
			l := b.web(2)[0]
			l.p.Deleting, l.p.Grace = wall(110), 10
			l.tell(100).gone(420)
		}, result: "pods.stuck-terminating", want: Pass, reason: "0 of 1"},
		{name: "not gone after its node was back", make: func(b *book) {
			b.fault("cut", "", "w0", 95, 400)
			l := b.web(2)[0]
			l.p.Deleting, l.p.Grace = wall(110), 10
			l.tell(100).gone(500)
		}, result: "pods.stuck-terminating", want: Fail, reason: "1 pod stuck"},
		{name: "its node is gone", make: func(b *book) {
			b.node(105, history.Node{Name: "w0", Place: "worker[0]", Deleted: true})
			l := b.web(2)[0]
			l.p.Deleting, l.p.Grace = wall(110), 10
			l.tell(100)
		}, result: "pods.stuck-terminating", want: Fail, reason: "1 pod stuck", check: func(t *testing.T, r Result) {
			t.Helper()
			if len(r.Evidence) != 1 || !strings.Contains(r.Evidence[0].Text, "its node was gone") {
				t.Errorf("%+v", r.Evidence)
			}
		}},
		{name: "terminating, too young", make: func(b *book) {
			l := b.web(2)[0]
			l.p.Deleting, l.p.Grace = wall(560), 10
			l.tell(550)
		}, result: "pods.stuck-terminating", want: Pass, reason: "1 pod was still terminating, too young"},
		{name: "terminating, nodes not seen", make: func(b *book) {
			b.gap("watch/nodes", 120, 130)
			l := b.web(2)[0]
			l.p.Deleting, l.p.Grace = wall(110), 10
			l.tell(100)
		}, result: "pods.stuck-terminating", want: Inconclusive, reason: "watch/nodes has no data"},

		// pods.stuck-pending
		{name: "not scheduled", make: func(b *book) {
			l := b.pod(100, "ReplicaSet/web-00-abc", "p", "")
			l.p.Unschedulable = "Unschedulable: no room"
			l.tell(101)
		}, result: "pods.stuck-pending", want: Fail, reason: "1 pod stuck pending", check: func(t *testing.T, r Result) {
			t.Helper()
			if len(r.Evidence) != 1 || r.Evidence[0].Text != "ns/p was not scheduled for 8m20s while it could have been: Unschedulable: no room" {
				t.Errorf("%+v", r.Evidence)
			}
		}},
		{name: "not started", make: func(b *book) {
			l := b.pod(100, "ReplicaSet/web-00-abc", "p", "")
			l.p.Node, l.p.Scheduled, l.p.Waiting = "w0", wall(101), "ErrImageNeverPull"
			l.tell(101)
		}, result: "pods.stuck-pending", want: Fail, reason: "1 pod stuck pending", check: func(t *testing.T, r Result) {
			t.Helper()
			if len(r.Evidence) != 1 || !strings.Contains(r.Evidence[0].Text, "was not started on w0 for 8m19s while it could have been: ErrImageNeverPull") {
				t.Errorf("%+v", r.Evidence)
			}
		}},
		{name: "scheduled late", make: func(b *book) {
			l := b.pod(100, "ReplicaSet/web-00-abc", "p", "")
			l.p.Unschedulable = "Unschedulable: no room"
			l.tell(101)
			l.p.Node, l.p.Scheduled, l.p.Started, l.p.Unschedulable = "w0", wall(192), wall(193), ""
			l.tell(193)
		}, result: "pods.stuck-pending", want: Fail, reason: "1 pod stuck pending", check: func(t *testing.T, r Result) {
			t.Helper()
			if len(r.Evidence) != 1 || !strings.HasSuffix(r.Evidence[0].Text, ": Unschedulable: no room") {
				t.Errorf("%+v", r.Evidence)
			}
		}},
		{name: "scheduled as late as is allowed", make: func(b *book) {
			l := b.pod(100, "ReplicaSet/web-00-abc", "p", "")
			l.p.Node, l.p.Scheduled, l.p.Started = "w0", wall(191), wall(192)
			l.tell(192)
		}, result: "pods.stuck-pending", want: Inconclusive, reason: "too close to the budget"},
		{name: "waits for a cordoned node", make: func(b *book) {
			b.node(90, history.Node{Name: "w0", Place: "worker[0]", Ready: "True", Unschedulable: true}).node(400, history.Node{Name: "w0", Place: "worker[0]", Ready: "True"})
			l := b.pod(100, "ReplicaSet/web-00-abc", "p", "")
			l.p.Node, l.p.Scheduled, l.p.Started = "w1", wall(405), wall(406)
			l.tell(406)
		}, result: "pods.stuck-pending", want: Pass},
		{name: "waits for a node under fault", make: func(b *book) {
			b.fault("cut", "", "w1", 95, 400)
			l := b.pod(100, "ReplicaSet/web-00-abc", "p", "")
			l.p.Node, l.p.Scheduled, l.p.Started = "w1", wall(405), wall(406)
			l.tell(406)
		}, result: "pods.stuck-pending", want: Pass},
		{name: "its own node is well", make: func(b *book) {
			b.fault("cut", "", "w1", 95, 400)
			l := b.pod(100, "ReplicaSet/web-00-abc", "p", "")
			l.p.Node, l.p.Scheduled, l.p.Started = "w0", wall(101), wall(300)
			l.tell(300)
		}, result: "pods.stuck-pending", want: Fail, reason: "1 pod stuck pending"},
		{name: "nodes unknown", make: func(b *book) { b.h.Nodes = nil; b.pod(100, "ReplicaSet/web-00-abc", "p", "") }, result: "pods.stuck-pending", want: Inconclusive, reason: "the state of the nodes is not in the record"},
		{name: "nodes not seen", make: func(b *book) {
			b.gap("watch/nodes", 200, 300)
			b.pod(100, "ReplicaSet/web-00-abc", "p", "")
		}, result: "pods.stuck-pending", want: Inconclusive, reason: "watch/nodes has no data"},
		{name: "too young", make: func(b *book) { b.pod(550, "ReplicaSet/web-00-abc", "p", ""); b.web(2) }, result: "pods.stuck-pending", want: Pass, reason: "1 pod was still pending, too young", check: func(t *testing.T, r Result) {
			t.Helper()
			if r.Samples != 2 || r.Excluded != 1 {
				t.Errorf("%+v", r)
			}
		}},
		{name: "deleted while pending", make: func(b *book) { b.pod(100, "ReplicaSet/web-00-abc", "p", "").delete(120, "") }, result: "pods.stuck-pending", want: Pass},

		// pods.below-budget
		{name: "one of three away", make: func(b *book) { b.web(3)[0].ready(100, false).ready(200, true) }, result: "pods.below-budget", want: Pass, reason: "none of 1 owner below its budget"},
		{name: "two of three away", make: func(b *book) {
			w := b.web(3)
			w[0].ready(100, false)
			w[1].ready(110, false)
			w[0].ready(130.5, true)
			w[1].ready(140, true)
		}, result: "pods.below-budget", want: Fail, reason: "ns/ReplicaSet/web-00 was 20.5 replica-s below its budget of 2", check: func(t *testing.T, r Result) {
			t.Helper()
			if r.Observed != 20.5 || r.Unit != "replica-s" || len(r.Evidence) != 1 || r.Evidence[0].From != sec(110) || r.Evidence[0].To != sec(130.5) {
				t.Errorf("%+v", r)
			}
		}},
		{name: "three of three away", make: func(b *book) {
			w := b.web(3)
			w[0].ready(100, false)
			w[1].ready(110, false)
			w[2].ready(115, false)
			w[2].ready(120, true)
			w[0].ready(130, true)
		}, result: "pods.below-budget", want: Fail, reason: "25.0 replica-s below"},
		{name: "allowed for a while", set: func(c *PodsLedger) { c.Allow = 20 * time.Second }, make: func(b *book) {
			w := b.web(3)
			w[0].ready(100, false)
			w[1].ready(110, false)
			w[0].ready(130, true)
		}, result: "pods.below-budget", want: Pass},
		{name: "evicted beyond the budget", make: func(b *book) {
			w := b.web(2)
			w[0].delete(100, "EvictionByEvictionAPI")
			w[1].delete(103, "EvictionByEvictionAPI")
			b.pod(105, "ReplicaSet/web-00-abc", "new", "w1")
		}, result: "pods.below-budget", want: Fail, reason: "4.0 replica-s below its budget of 1"},
		{name: "under fault", make: func(b *book) {
			b.fault("cut", "", "w0", 90, 200)
			w := b.web(3) // 0 and 2 are on w0
			w[0].ready(100, false)
			w[2].ready(100, false)
			w[0].ready(230, true)
			w[2].ready(230, true)
		}, result: "pods.below-budget", want: Pass, reason: "130.0 replica-s excused by faults"},
		{name: "under fault, but others too", make: func(b *book) {
			b.fault("cut", "", "w1", 90, 200)
			w := b.web(3) // 1 is on w1
			w[0].ready(100, false)
			w[1].ready(100, false)
			w[2].ready(100, false)
			w[0].ready(150, true)
			w[1].ready(150, true)
		}, result: "pods.below-budget", want: Fail, reason: "50.0 replica-s below its budget of 2; 50.0 replica-s excused"},
		{name: "not back in time after a fault", make: func(b *book) {
			b.fault("cut", "", "w0", 90, 200)
			w := b.web(3)
			w[0].ready(100, false)
			w[2].ready(100, false)
			w[0].ready(270, true)
		}, result: "pods.below-budget", want: Fail, reason: "10.0 replica-s below"},
		{name: "away at the end", make: func(b *book) {
			w := b.web(2)
			w[0].ready(100, false)
			w[1].ready(590, false)
		}, result: "pods.below-budget", want: Fail, reason: "10.0 replica-s below"},
		{name: "a victim that is ready excuses nobody", make: func(b *book) {
			b.fault("cut", "", "w0", 100, 200) // pods 0 and 2
			w := b.web(3)
			w[1].ready(110, false).ready(160, true)
			w[2].ready(110, false).ready(160, true)
			w[0].ready(130, false).ready(140, true)
		}, result: "pods.below-budget", want: Pass, reason: "60.0 replica-s excused"},
		{name: "only the victims are excused", make: func(b *book) {
			b.fault("cut", "", "w1", 100, 200) // pod 1
			w := b.web(3)
			w[0].ready(110, false).ready(160, true)
			w[2].ready(110, false).ready(160, true)
		}, result: "pods.below-budget", want: Fail, reason: "50.0 replica-s below its budget of 2"},
		{name: "a victim of two faults is excused once", make: func(b *book) {
			b.fault("cut", "", "w1", 100, 200).fault("again", "", "w1", 105, 200)
			w := b.web(3)
			for _, l := range w {
				l.ready(110, false).ready(160, true)
			}
		}, result: "pods.below-budget", want: Fail, reason: "50.0 replica-s below its budget of 2; 50.0 replica-s excused"},
		{name: "a victim that was replaced excuses nobody", make: func(b *book) {
			b.fault("cut", "", "w1", 100, 200)
			w := b.web(3)
			w[1].delete(110, "")
			b.pod(111, "ReplicaSet/web-00-abc", "new", "w0")
			w[0].ready(150, false).ready(170, true)
			w[2].ready(150, false).ready(170, true)
		}, result: "pods.below-budget", want: Fail, reason: "20.0 replica-s below its budget of 2"},
		{name: "a new pod in another's place does not replace a victim", make: func(b *book) {
			b.fault("cut", "", "w1", 100, 200)
			w := b.web(3)
			w[1].ready(110, false).ready(190, true)
			w[0].delete(120, "")
			b.pod(121, "ReplicaSet/web-00-abc", "new", "w0")
			w[2].ready(150, false).ready(170, true)
		}, result: "pods.below-budget", want: Pass, reason: "excused"},
		{name: "never ready", make: func(b *book) { b.web(2); b.budget(3, "StatefulSet/store-00", 2, 1) }, result: "pods.below-budget", want: Inconclusive, reason: "ns/StatefulSet/store-00 never had its 2 pods ready"},
		{name: "no budget", make: func(b *book) { b.pod(2, "ReplicaSet/web-00-abc", "p", "w0") }, result: "pods.below-budget", want: Inconclusive, reason: "no budget is in the record"},
		{name: "budget gone", make: func(b *book) {
			w := b.web(2)
			add(b, &b.h.Budgets, 300, history.Budget{Namespace: "ns", Owner: "ReplicaSet/web-00", Deleted: true})
			w[0].ready(310, false)
			w[1].ready(310, false)
		}, result: "pods.below-budget", want: Pass},
		{name: "a name that begins like another", make: func(b *book) {
			b.web(2)
			b.budget(1, "ReplicaSet/web-00-canary", 1, 1)
			b.pod(2, "ReplicaSet/web-00-canary-xyz", "other", "w0").ready(100, false)
		}, result: "pods.below-budget", want: Fail, reason: "ns/ReplicaSet/web-00-canary was 500.0 replica-s below its budget of 1"},

		// jobs.killed
		{name: "done", make: func(b *book) { b.longJob(2, "p", nil).ends(50, "Succeeded", 0) }, result: "jobs.killed", want: Pass, reason: "0 of 1"},
		{name: "evicted", make: func(b *book) { b.longJob(2, "p", nil).delete(103, "EvictionByEvictionAPI") }, result: "jobs.killed", want: Fail, reason: "1 pod of a Job killed before it was done; 100.0 s of work lost", check: func(t *testing.T, r Result) {
			t.Helper()
			if len(r.Evidence) != 1 || r.Evidence[0].Text != "ns/p-x of Job/p on w0: unexplained, 100.0 s of work lost" {
				t.Errorf("%+v", r.Evidence)
			}
		}},
		{name: "killed by a fault: counted, and told", make: func(b *book) {
			b.strikes("pod.kill", "crash", "w0", nil, 98, 101)
			b.longJob(2, "p", nil).ends(100, "Failed", 137)
			b.longJob(3, "q", nil).ends(50, "Succeeded", 0)
		}, result: "jobs.killed", want: Fail, reason: "1 pod of a Job killed before it was done; 97.0 s of work lost; 1 of 2 (50 %) ran to their end; killed by: 1 fault", check: func(t *testing.T, r Result) {
			t.Helper()
			if len(r.Evidence) != 1 || r.Evidence[0].Text != "ns/p-x of Job/p on w0: fault, killed by crash, exit code 137, 97.0 s of work lost" {
				t.Errorf("%+v", r.Evidence)
			}
		}},
		{name: "survival", set: func(c *PodsLedger) { c.Survival = 99.99 }, make: func(b *book) {
			b.longJob(2, "p", nil).ends(100, "Failed", 1)
			b.longJob(3, "q", nil).ends(50, "Succeeded", 0)
		}, result: "jobs.survival", want: Fail, reason: "1 of 2 were killed: 50 % ran to their end; 2 are too few to lose one: 10000 are needed; 1 of 2 (50 %) ran to their end; killed by: 1 failed by itself"},
		{name: "survival, as much as is promised", set: func(c *PodsLedger) { c.Survival = 50 }, make: func(b *book) {
			b.longJob(2, "p", nil).ends(100, "Failed", 1)
			b.longJob(3, "q", nil).ends(50, "Succeeded", 0)
		}, result: "jobs.survival", want: Pass, reason: "1 of 2 (50 %)"},
		{name: "survival of none", set: func(c *PodsLedger) { c.Survival = 50 }, make: func(b *book) { b.longJob(2, "p", nil) }, result: "jobs.survival", want: Inconclusive, reason: "no pod of a Job came to an end"},
		{name: "work lost", set: func(c *PodsLedger) { c.WorkLost = 90 * time.Second }, make: func(b *book) { b.longJob(2, "p", nil).ends(100, "Failed", 1) }, result: "jobs.work-lost", want: Fail, reason: "97.0 s of work lost"},
		{name: "work lost, about as much as is allowed", set: func(c *PodsLedger) { c.WorkLost = 97 * time.Second }, make: func(b *book) { b.longJob(2, "p", nil).ends(100, "Failed", 1) }, result: "jobs.work-lost", want: Inconclusive, reason: "too close to the budget"},
		{name: "work lost, allowed", set: func(c *PodsLedger) { c.WorkLost = 2 * time.Minute }, make: func(b *book) { b.longJob(2, "p", nil).ends(100, "Failed", 1) }, result: "jobs.work-lost", want: Pass, reason: "97.0 s of work lost"},
		{name: "crashed", make: func(b *book) { b.longJob(2, "p", nil).ends(50, "Failed", 137) }, result: "jobs.killed", want: Fail, reason: "1 pod of a Job"},
		{name: "done though asked to go", make: func(b *book) {
			l := b.longJob(2, "p", nil)
			l.p.Deleting, l.p.Grace = wall(110), 10
			l.tell(100).ends(105, "Succeeded", 0).gone(106)
		}, result: "jobs.killed", want: Pass},
		{name: "runs on", make: func(b *book) { b.longJob(2, "p", nil); b.longJob(3, "q", nil).ends(9, "Succeeded", 0) }, result: "jobs.killed", want: Pass, reason: "1 still ran", check: func(t *testing.T, r Result) {
			t.Helper()
			if r.Samples != 1 || r.Excluded != 1 {
				t.Errorf("%+v", r)
			}
		}},
		{name: "not begun", make: func(b *book) { b.pod(2, "Job/x", "p", "").delete(50, "") }, result: "jobs.killed", want: Pass, reason: "1 still ran, or had not begun"},
		{name: "wanted no more", make: func(b *book) {
			b.longJob(2, "p", func(j *history.Job) {
				j.Condition = "Suspended"
				add(b, &b.h.Jobs, 99, *j)
			}).delete(100, "")
		}, result: "jobs.killed", want: Pass},
		{name: "its Job failed because of it", make: func(b *book) {
			b.longJob(2, "p", func(j *history.Job) {
				j.Condition, j.Finished = "Failed", wall(101)
				add(b, &b.h.Jobs, 101, *j)
			}).ends(100, "Failed", 1)
		}, result: "jobs.killed", want: Fail, reason: "1 pod of a Job"},
		{name: "its Job is unknown", make: func(b *book) { b.pod(2, "Job/x", "p", "w0").delete(50, "") }, result: "jobs.killed", want: Inconclusive, reason: "its Job is not in the record"},
		{name: "no Jobs", make: func(b *book) { b.web(2) }, result: "jobs.killed", want: Inconclusive, reason: "no pod of a Job"},
	} {
		t.Run(c.result+" "+c.name, func(t *testing.T) {
			b := newBook(600)
			c.make(b)
			// A record is in the order of time; a case may tell pod by pod.
			slices.SortStableFunc(b.h.Pods, func(x, y history.Timed[history.Pod]) int { return cmp.Compare(x.At, y.At) })
			k := newPodsLedger().(*PodsLedger)
			if c.set != nil {
				c.set(k)
			}
			r := named(t, Judge(b.h, []Named{{"pods.ledger", k}}), c.result)
			want(t, r, c.want, c.reason)
			if c.check != nil {
				c.check(t, r)
			}
		})
	}
	b := newBook(600)
	b.web(2)
	k := &PodsLedger{Skip: []string{"jobs.killed"}}
	if list := k.Check(b.h); len(list) != 5 {
		t.Errorf("%d results, one was to be skipped", len(list))
	}
	if errs := (&PodsLedger{Skip: []string{"x"}, Restarts: -1, Recovery: -1, Survival: 101}).Validate(); len(errs) != 6 {
		t.Errorf("%v", errs)
	}
	if errs := (&PodsLedger{Pending: 1, Terminating: 1, Skip: podPromises}).Validate(); len(errs) != 1 {
		t.Errorf("%v", errs)
	}
}

func TestLongestFree(t *testing.T) {
	s := func(a, b float64) span { return span{sec(a), sec(b)} }
	for _, c := range []struct {
		others    []span
		want, at_ float64
	}{
		{nil, 10, 0},
		{[]span{s(3, 4)}, 6, 4},
		{[]span{s(6, 20), s(-5, 1)}, 5, 1},
		{[]span{s(0, 10)}, 0, 0},
		{[]span{s(2, 8), s(3, 4)}, 2, 0},
		{[]span{s(20, 30)}, 10, 0},
	} {
		if d, at := longestFree(s(0, 10), c.others); d != sec(c.want) || at != sec(c.at_) {
			t.Errorf("%v: %v at %v", c.others, d, at)
		}
	}
}

// What is told late happened before a write that was acknowledged since.
func TestToldLate(t *testing.T) {
	b := newBook(600)
	for at := 1.0; at < 500; at++ {
		add(b, &b.h.Writes, at, history.Write{Outcome: "ok", Revision: revision(at), Took: sec(.1)})
	}
	b.node(50, history.Node{Name: "w0", Place: "worker[0]", Ready: "Unknown", Revision: revision(50), Taints: []string{"node.kubernetes.io/unreachable:NoExecute"}})
	b.h.Nodes[len(b.h.Nodes)-1].At = sec(350) // the watch stalled
	b.pod(2, "ReplicaSet/web-00-abc", "p", "w0").delete(351, "DeletionByTaintManager")
	if f := Ledger(b.h)[0]; f.Cause != CauseTaint || f.Why != "the taint was on w0 for 5m1s" {
		t.Errorf("%+v", f)
	}
	b.h.Nodes[len(b.h.Nodes)-1].V.Revision = 0
	if f := Ledger(b.h)[0]; f.Cause != CauseUnknown {
		t.Errorf("%+v", f)
	}
	add(b, &b.h.Pods, 100, history.Pod{Namespace: "ns", Name: "q", UID: "q", Revision: revision(60)})
	want(t, named(t, newPodsLedger().Check(b.h), "pods.unexplained"), Fail, "the watch of pods stalled: states were told up to 39.9 s late")
	// The end of a Job and of its pod are told late together, and the pod's time is
	// known better.
	b = newBook(600)
	b.longJob(2, "p", func(j *history.Job) {
		done := *j
		done.Finished, done.Condition = wall(90), "Failed"
		add(b, &b.h.Jobs, 300, done)
	}).delete(100, "")
	b.audit(100, "job-controller", "delete", "", "p-x")
	if f := Ledger(b.h)[0]; f.Cause != CauseOwner {
		t.Errorf("%+v", f)
	}
	b = newBook(600)
	b.node(50, history.Node{Name: "w0", Place: "worker[0]", Ready: "True", Revision: 7})
	add(b, &b.h.Writes, 10, history.Write{Outcome: "ok", Revision: 8})
	told := b.h.Nodes[len(b.h.Nodes)-1].At
	if newBooks(b.h, defaultToleration); b.h.Nodes[len(b.h.Nodes)-1].At != told {
		t.Error("the record itself was changed")
	}
}

func TestFaultHasNoMoreVictimsThanItAskedFor(t *testing.T) {
	b := newBook(600).evicts("away", "w0", 1, 95, 105)
	for _, name := range []string{"p", "q"} {
		b.pod(2, "ReplicaSet/web-00-abc", name, "w0").delete(100, "EvictionByEvictionAPI")
	}
	if list := Ledger(b.h); list[0].Cause != CauseFault || list[1].Cause != CauseUnknown {
		t.Errorf("%+v", list)
	}
}
