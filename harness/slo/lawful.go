package slo

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
)

// takeover is how long a change of the leader of kube-controller-manager may take:
// the lease of 15 s runs out, and who wants it asks every 2 s and waits for its
// caches (k8s.io/component-base@v0.37.0 config/v1alpha1/defaults.go: LeaseDuration
// 15 s, RenewDeadline 10 s, RetryPeriod 2 s).
const takeover = 25 * time.Second

// controllerFault is what the names of the faults that hit controller managers
// begin with.
const controllerFault = "controller-manager."

// law says which missed slots break none.
//
// A slot may be missed if at every moment until the next one, or until its
// starting deadline, the controller could not start it: no API server took a
// write, no controller manager led, or the policy Forbid held it back. After that
// it starts the last slot that was missed and drops those before it
// (k8s.io/kubernetes@v1.37.0 pkg/controller/cronjob/utils.go,
// mostRecentScheduleTime). More than 100 missed slots only make it warn: the last
// one still starts, so that they excuse nothing. Slots while the CronJob is
// suspended are never owed: see Slots.
type law struct {
	h     *history.History
	stop  time.Duration
	jobs  map[string][]jobSpan // of CronJobs, by UID
	quiet writeOutages         // nil until it is asked for
	// away are times without a leading controller manager by a fault on all of
	// them; changes are times in which the lead may have changed hands.
	away, changes []absence
}

// absence is a time in which nobody need have led, and why.
type absence struct {
	span
	why string
}

func newLaw(h *history.History, around surroundings, stop time.Duration) *law {
	l := &law{h: h, stop: stop, jobs: jobSpans(h)}
	servers, _ := etcdMembers(h) // kubeadm puts a controller manager on each control plane
	for _, f := range around.faults {
		hit := slices.DeleteFunc(slices.Clone(servers), func(s string) bool { return !slices.Contains(f.Nodes, s) })
		switch {
		case f.acting == (span{}) || len(hit) == 0:
		case strings.HasPrefix(f.Fault, controllerFault) && len(hit) == len(servers):
			l.away = append(l.away, absence{span{f.acting.from, f.acting.to + takeover}, f.Name + " took every controller manager"})
		default:
			l.changes = append(l.changes, absence{span{f.acting.from, f.acting.from + takeover}, f.Name + " may have taken the leading controller manager"})
		}
	}
	if s, ok := stoppedByUpgrade(around.phases, servers, stop); ok {
		l.away = append(l.away, absence{s, "the upgrade had stopped every controller manager"})
	}
	for _, p := range around.phases {
		switch path.Base(p.Name) {
		case "kube-controller-manager", "kube-apiserver", "etcd": // it uses the API server beside it
			for _, s := range p.spans {
				l.changes = append(l.changes, absence{span{s.from, s.to + takeover}, p.Name + " may have taken the leading controller manager"})
			}
		}
	}
	return l
}

// stopController is the name of the step in which an upgrade by hand stops the
// controller manager of a node before its turn, as clusters/upgrade publishes it.
const stopController = "stop-kube-controller-manager"

// stoppedByUpgrade is the time in which the upgrade itself kept the controller managers
// of all nodes stopped: from when the last was seen to be until the first new one may
// have taken the lead.
func stoppedByUpgrade(phases []PhaseFact, servers []string, stop time.Duration) (span, bool) {
	out, stopped := span{to: stop}, map[string]bool{}
	for _, p := range phases {
		switch n := len(p.spans); path.Base(p.Name) {
		case stopController:
			if p.Outcome == outcomeProceeded && n > 0 {
				stopped[p.Node] = true
				out.from = max(out.from, p.spans[n-1].to)
			}
		case "kube-controller-manager":
			if n > 0 {
				out.to = min(out.to, p.spans[n-1].to+takeover)
			}
		}
	}
	if len(servers) == 0 || slices.ContainsFunc(servers, func(n string) bool { return !stopped[n] }) {
		return span{}, false
	}
	return out, true
}

// excuse says why a slot without a Job breaks no law; "" if that cannot be
// shown.
func (l *law) excuse(s Slot) string {
	in := span{s.At.Sub(l.h.Run.Began), s.Next.Sub(l.h.Run.Began)}
	short := s.Deadline > 0 && in.from+s.Deadline < in.to
	if short {
		in.to = in.from + s.Deadline
	}
	if in.to > l.stop {
		return ""
	}
	until := ""
	if short {
		until = " until the starting deadline of " + length(s.Deadline) + " had passed"
	}
	if s.Policy == "Forbid" {
		for _, j := range l.jobs[s.CronJobUID] {
			// Times are cut to the second; only what is sure counts.
			if j.started+apiSecond <= in.from && (j.finished == 0 || j.finished >= in.to) {
				return "policy Forbid, and Job " + j.name + " ran all the while" + until
			}
		}
	}
	if l.quiet == nil {
		l.quiet = noWriteTaken(l.h)
	}
	if l.quiet.all(l.h, in) {
		return "no API server took a write all the while" + until
	}
	// A single change of the lead is shorter than any interval: it only explains
	// that a deadline passed.
	list := l.away
	if short {
		list = append(slices.Clone(list), l.changes...)
	}
	for _, a := range list {
		if a.from <= in.from && in.to <= a.to {
			return a.why + until
		}
	}
	return ""
}

// waited is how long a slot was held back by the Job before it: none but Forbid
// does that.
func (l *law) waited(s Slot) time.Duration {
	if s.Policy != "Forbid" {
		return 0
	}
	from := s.At.Sub(l.h.Run.Began)
	jobs := l.jobs[s.CronJobUID] // in the order of their start: one at a time
	i, _ := slices.BinarySearchFunc(jobs, from, func(j jobSpan, at time.Duration) int { return cmp.Compare(j.started, at) })
	if i == 0 || slices.Contains(s.Jobs, jobs[i-1].uid) {
		return 0
	}
	return max(0, jobs[i-1].finished-from)
}

// writeOutages are, by API server and by series of writes to it, the stretches
// in which it surely refused or swallowed all of them.
type writeOutages map[string][][]span

func noWriteTaken(h *history.History) writeOutages {
	out := writeOutages{}
	for id, s := range h.Series {
		if s.Verb != "write" || s.Endpoint == endpointLB {
			continue
		}
		var list []span
		// A write that was answered late was taken.
		for _, o := range outages(h, id, rules{late: LateBound}) {
			if !o.starved() {
				list = append(list, o.stretches...)
			}
		}
		out[s.Endpoint] = append(out[s.Endpoint], list)
	}
	return out
}

// all says that no API server took a write during the whole of a span.
func (w writeOutages) all(h *history.History, in span) bool {
	servers, _ := etcdMembers(h) // kubeadm puts both on each control plane
	for _, n := range servers {
		if _, ok := w[n]; !ok {
			return false // one that nobody wrote to
		}
	}
	for _, series := range w {
		for _, list := range series {
			if !slices.ContainsFunc(list, func(s span) bool { return s.from <= in.from && in.to <= s.to }) {
				return false
			}
		}
	}
	return len(w) > 0
}
