package slo

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
)

// defaultToleration is how long a pod stays on a node that is unreachable or
// not ready, unless it says otherwise (k8s.io/kubernetes@v1.37.0
// plugin/pkg/admission/defaulttolerationseconds/admission.go).
const defaultToleration = 300 * time.Second

// Causes of the end of a pod.
const (
	CauseAlive      = "alive"           // it did not end
	CauseOver       = "run over"        // it ended after the watches stopped
	CauseFinished   = "finished"        // it had done its work
	CauseDrain      = "drain"           // evicted while its node was being upgraded
	CauseController = "controller"      // its controller scaled, rolled out or replaced it
	CauseOwner      = "owner gone"      // its Job ended and was cleaned up, or was replaced
	CauseTaint      = "taint eviction"  // NoExecute taint, toleration used up
	CauseGC         = "pod gc"          // its node is gone
	CausePreemption = "preemption"      // the scheduler needed the room
	CauseKubelet    = "node pressure"   // the kubelet ended it for want of a resource
	CauseShutdown   = "node shutdown"   // the kubelet ended it as its node shut down
	CauseRefused    = "refused"         // the kubelet did not admit it: it never ran
	CauseFault      = "fault"           // a fault of the run that evicts or kills pods
	CauseUnknown    = "unexplained"     // none of these
	CauseUnseen     = "cannot be known" // the record lacks what would say it
)

// PodFact is the line of one pod in the ledger.
type PodFact struct {
	Namespace, Name, UID, Owner, Node string
	// Created and Ended are times of the run; Ended is 0 for a pod that lives.
	Created, Ended time.Duration
	// Cause of its end, By whom (audit user and agent) if that is known, and Why
	// that is lawful or not.
	Cause, By, Why string
}

// Ledger accounts for every pod of the workload, in the order in which they
// were first seen.
func Ledger(h *history.History) []PodFact {
	b := newBooks(h, defaultToleration)
	out := make([]PodFact, 0, len(b.pods))
	for _, p := range b.pods {
		out = append(out, b.account(p))
	}
	return out
}

// pod is the life of a pod as the record tells it.
type pod struct {
	history.Pod // as last seen
	first       time.Duration
	// deleting, gone, failed and succeeded are when that was first seen; 0 never.
	deleting, gone, failed, succeeded time.Duration
	// asked is when its deletion was asked for, on the clock of the API.
	asked time.Duration
	// wasReady says that it was Ready when its end began.
	wasReady bool
	// ids are all containers that were seen running, atOnce the most at a time.
	ids    []string
	atOnce int
	// restarts of its containers, as they were seen.
	restarts []restart
	// changes are the places of its states in the record.
	changes []int32
}

// restart is when some containers of a pod were first seen to be started again.
type restart struct {
	at time.Duration
	n  int
}

// restarted counts them.
func (p *pod) restarted() (n int) {
	for _, r := range p.restarts {
		n += r.n
	}
	return n
}

// ended is when its end began; 0 if it lives.
func (p *pod) ended() time.Duration {
	switch {
	case p.deleting > 0:
		return p.deleting
	case p.gone > 0:
		return p.gone
	}
	return 0
}

func (p *pod) String() string { return p.Namespace + "/" + p.Name }

// ofJob says whether the pod is a Job's.
func (p *pod) ofJob() bool { return strings.HasPrefix(p.Owner, "Job/") }

// books hold what the cause of a pod's end is read from.
type books struct {
	h          *history.History
	at         []time.Duration // of the states of pods, as they can have been at most
	around     surroundings
	stop       time.Duration
	toleration time.Duration
	pods       []*pod
	audits     map[string][]history.Timed[history.Audit] // of pods, by namespace/name
	jobs       map[string][]history.Timed[history.Job]   // by UID
	nodes      map[string][]history.Timed[history.Node]  // by name
	policies   map[string]string                         // of CronJobs, by UID
	victims    map[string]map[*pod]bool                  // pods that a fault ended, by its name and node
	owners     map[string][]string                       // of budgets, by namespace, the longest name first
	owned      map[string][]*pod                         // by namespace/budget's owner
	siblings   map[string][]*pod                         // by namespace/owner
	notWell    map[string][]span                         // see unwell
	stall      time.Duration                             // how late a pod's state was told at most
	away       []downtime                                // of API servers; nil until it is asked for
}

func newBooks(h *history.History, toleration time.Duration) *books {
	h, at, stall := onTime(h)
	b := &books{
		h: h, at: at, stall: stall, around: look(h), stop: Stopped(h), toleration: toleration,
		audits: map[string][]history.Timed[history.Audit]{}, jobs: map[string][]history.Timed[history.Job]{},
		nodes: map[string][]history.Timed[history.Node]{}, policies: map[string]string{}, victims: map[string]map[*pod]bool{},
		owners: map[string][]string{}, owned: map[string][]*pod{}, siblings: map[string][]*pod{}, notWell: map[string][]span{},
	}
	by := map[string]*pod{}
	for i := range h.Pods {
		e := &h.Pods[i]
		p := by[e.V.UID]
		if p == nil {
			p = &pod{first: at[i]}
			by[e.V.UID] = p
			b.pods = append(b.pods, p)
		}
		p.see(at[i], &e.V, h.Run.Began)
		p.changes = append(p.changes, int32(i)) //nolint:gosec // far fewer lines fit into memory
	}
	b.byOwner()
	for _, a := range h.Audits {
		if a.V.Resource == "pods" && a.V.Code >= 200 && a.V.Code < 300 {
			key := a.V.Namespace + "/" + a.V.Name
			b.audits[key] = append(b.audits[key], a)
		}
	}
	for _, j := range h.Jobs {
		b.jobs[j.V.UID] = append(b.jobs[j.V.UID], j)
	}
	for _, n := range h.Nodes {
		b.nodes[n.V.Name] = append(b.nodes[n.V.Name], n)
	}
	for _, c := range h.CronJobs {
		b.policies[c.V.UID] = c.V.Policy
	}
	return b
}

// onTime is the record with the times of jobs and nodes as they can have been at
// most, those of the states of pods, and how late a pod was told at most. They are
// told by a watch of etcd, and late when that stalls; but what has a revision was
// there when a write with a later one was acknowledged.
func onTime(h *history.History) (_ *history.History, pods []time.Duration, stall time.Duration) {
	writes := acknowledged(h)
	slices.SortFunc(writes, func(a, b ack) int { return cmp.Compare(a.revision, b.revision) })
	for i := len(writes) - 1; i >= 0; i-- {
		if writes[i].first = writes[i].at; i+1 < len(writes) {
			writes[i].first = min(writes[i].at, writes[i+1].first)
		}
	}
	at := func(told time.Duration, revision int64) time.Duration {
		i, _ := slices.BinarySearchFunc(writes, revision, func(a ack, r int64) int { return cmp.Compare(a.revision, r) })
		if revision == 0 || i == len(writes) {
			return told
		}
		return min(told, writes[i].first)
	}
	out := *h
	out.Jobs, out.Nodes = slices.Clone(h.Jobs), slices.Clone(h.Nodes)
	pods = make([]time.Duration, len(h.Pods))
	for i := range h.Pods {
		p := &h.Pods[i]
		pods[i] = at(p.At, p.V.Revision)
		stall = max(stall, p.At-pods[i])
	}
	for i, j := range out.Jobs {
		out.Jobs[i].At = at(j.At, j.V.Revision)
		// Its end has a time of its own, cut to the second.
		if !j.V.Finished.IsZero() && !j.V.Deleted {
			out.Jobs[i].At = min(out.Jobs[i].At, j.V.Finished.Sub(h.Run.Began)+apiSecond)
		}
	}
	for i, n := range out.Nodes {
		out.Nodes[i].At = at(n.At, n.V.Revision)
	}
	return &out, pods, stall
}

// see takes in the next state of the pod.
func (p *pod) see(at time.Duration, v *history.Pod, began time.Time) {
	at = max(at, 1) // 0 stands for never
	if p.ended() == 0 && (!v.Deleting.IsZero() || v.Deleted) {
		p.wasReady = p.Ready
	}
	if p.deleting == 0 && !v.Deleting.IsZero() {
		p.deleting = at
		// The deletionTimestamp holds the grace period already.
		p.asked = v.Deleting.Sub(began) - time.Duration(v.Grace)*time.Second
	}
	if p.gone == 0 && v.Deleted {
		p.gone = at
	}
	if p.failed == 0 && v.Phase == "Failed" {
		p.failed = at
	}
	if p.succeeded == 0 && v.Phase == "Succeeded" {
		p.succeeded = at
	}
	for _, id := range v.Containers {
		if !slices.Contains(p.ids, id) {
			p.ids = append(p.ids, id)
		}
	}
	p.atOnce = max(p.atOnce, len(v.Containers))
	// A new sandbox may begin to count from 0 again: the ids count too.
	if n := max(int(v.Restarts), len(p.ids)-p.atOnce) - p.restarted(); n > 0 {
		p.restarts = append(p.restarts, restart{at, n})
	}
	// What an event leaves out was said before.
	old := p.Pod
	p.Pod = *v
	if v.Owner == "" {
		p.Owner, p.OwnerUID = old.Owner, old.OwnerUID
	}
	if v.Node == "" {
		p.Node = old.Node
	}
	if v.Disruption == "" && p.ended() > 0 {
		p.Disruption = old.Disruption
	}
	p.Reason = cmp.Or(v.Reason, old.Reason)
	// Why it waited is asked for when it does no more.
	p.Unschedulable, p.Waiting = cmp.Or(v.Unschedulable, old.Unschedulable), cmp.Or(v.Waiting, old.Waiting)
	keep := func(to *time.Time, from time.Time) {
		if !from.IsZero() {
			*to = from // the first one counts: later flaps overwrite it
		}
	}
	keep(&p.Created, old.Created)
	keep(&p.Scheduled, old.Scheduled)
	keep(&p.Started, old.Started)
	keep(&p.Deleting, old.Deleting)
}

// account writes the pod's line.
func (b *books) account(p *pod) PodFact {
	f := PodFact{Namespace: p.Namespace, Name: p.Name, UID: p.UID, Owner: p.Owner, Node: p.Node, Created: p.first}
	if !p.Created.IsZero() {
		f.Created = p.Created.Sub(b.h.Run.Began)
	}
	// A pod that is restarted in place never fails unless the kubelet ends it.
	for _, at := range []time.Duration{p.deleting, p.gone, p.failed, p.succeeded} {
		if at > 0 && (f.Ended == 0 || at < f.Ended) {
			f.Ended = at
		}
	}
	f.Cause, f.By, f.Why = b.cause(p, f.Ended)
	return f
}

// Slacks of the joins between sources.
const (
	// watchSlack is between what a phase of the upgrade does and when it is
	// told: phases are published from observations on the node.
	watchSlack = 2 * time.Second
	// auditSlack is how far an audit line, which is written when the request is
	// answered, may lie before the request by a deletionTimestamp, which is cut to
	// the second; auditWait how far behind it, when etcd is slow.
	auditSlack = 3 * time.Second
	auditWait  = 15 * time.Second
	// forceSlack is between the request and the word that a pod is gone that was
	// deleted without grace.
	forceSlack = 30 * time.Second
)

// Controllers by the users that they work as (kubeadm gives each its own
// service account; k8s.io/kubernetes@v1.37.0 cmd/kube-controller-manager/app).
const serviceAccount = "system:serviceaccount:kube-system:"

func (b *books) cause(p *pod, ended time.Duration) (cause, by, why string) {
	switch {
	case ended == 0:
		return CauseAlive, "", ""
	case ended >= b.stop:
		return CauseOver, "", ""
	case p.succeeded > 0 && p.succeeded <= ended:
		return CauseFinished, "", ""
	case p.failed > 0 && p.failed <= ended && p.Disruption == "" && p.Reason != "" && p.Started.IsZero():
		return CauseRefused, "", "the kubelet did not admit it: " + p.Reason
	case p.ofJob() && p.failed > 0 && p.failed <= ended && p.Disruption == "":
		if name := b.killedBy(p, p.failed); name != "" {
			return CauseFault, "", "killed by " + name
		}
		return CauseFinished, "", fmt.Sprintf("it failed by itself, exit code %d", p.ExitCode)
	}
	line, found := b.who(p)
	if found {
		by = line.V.User
		if line.V.Agent != "" {
			by += " (" + line.V.Agent + ")"
		}
	}
	switch p.Disruption {
	case "EvictionByEvictionAPI":
		cause, why = b.evicted(p, ended)
		return cause, by, why
	case "DeletionByTaintManager":
		cause, why = b.tainted(p, ended)
		return cause, by, why
	case "PreemptionByScheduler":
		return CausePreemption, by, ""
	case "DeletionByPodGC":
		cause, why = b.collected(p, ended)
		return cause, by, why
	case "TerminationByKubelet":
		// k8s.io/kubernetes@v1.37.0 pkg/kubelet/nodeshutdown/nodeshutdown_manager.go,
		// nodeShutdownReason; pkg/kubelet/eviction says Evicted.
		if p.Reason == "Terminated" {
			return CauseShutdown, by, ""
		}
		return CauseKubelet, by, ""
	}
	if p.deleting == 0 && p.gone == 0 {
		if p.Reason != "" {
			return CauseUnknown, by, "the kubelet failed it: " + p.Reason
		}
		return CauseUnknown, by, "the kubelet failed it for no reason of the node's"
	}
	if !found {
		if list := gaps(b.h, span{b.askedAt(p) - auditSlack, ended + auditWait}, "audit/"); len(list) > 0 {
			return CauseUnseen, "", gapText(list)
		}
		if len(b.h.Audits) == 0 {
			return CauseUnseen, "", "no audit log is in the record"
		}
		if place := b.serverAway(span{b.askedAt(p) - auditSlack, b.askedAt(p) + auditSlack}); place != "" {
			return CauseUnseen, "", fmt.Sprintf("no audit line says who deleted it, and the API server of %s was down: it may have taken the line with it", place)
		}
		return CauseUnknown, "", "no audit line says who deleted it"
	}
	cause, why = b.deleted(p, ended, line.V)
	return cause, by, why
}

// askedAt is when the deletion was asked for, as well as is known.
func (b *books) askedAt(p *pod) time.Duration {
	if p.deleting > 0 {
		return min(p.asked, p.deleting)
	}
	return p.ended()
}

// who finds the request that ended the pod: the first that was granted. The
// kubelet's own delete only removes a pod that has ended.
func (b *books) who(p *pod) (history.Timed[history.Audit], bool) {
	from, to := b.askedAt(p)-auditSlack, b.askedAt(p)+auditWait
	if p.deleting == 0 {
		from -= forceSlack // only its absence was seen, whenever that was told
	}
	var best history.Timed[history.Audit]
	var first time.Duration
	found := false
	for _, key := range []string{p.Namespace + "/" + p.Name, p.Namespace + "/"} {
		for _, a := range b.audits[key] {
			at := a.V.Time.Sub(b.h.Run.Began)
			switch {
			case a.V.Subresource == "eviction" && a.V.Verb == "create":
			case a.V.Subresource == "" && (a.V.Verb == "delete" || a.V.Verb == "deletecollection"):
			default:
				continue
			}
			if a.V.UID != "" && a.V.UID != p.UID || strings.HasPrefix(a.V.User, "system:node:") {
				continue
			}
			if at < from || at > to || found && at >= first {
				continue
			}
			best, first, found = a, at, true
		}
	}
	return best, found
}

// deleted says what a request means.
func (b *books) deleted(p *pod, ended time.Duration, a history.Audit) (cause, why string) {
	if a.Subresource == "eviction" {
		return b.evicted(p, ended)
	}
	switch strings.TrimPrefix(a.User, serviceAccount) {
	case "node-controller":
		return b.tainted(p, ended)
	case "pod-garbage-collector":
		return b.collected(p, ended)
	case "system:kube-scheduler":
		return CausePreemption, ""
	case "replicaset-controller", "statefulset-controller", "daemon-set-controller", "deployment-controller":
		return b.controlled(p, ended)
	case "job-controller", "generic-garbage-collector", "ttl-after-finished-controller":
		return b.orphaned(p, ended)
	}
	return CauseUnknown, "deleted by " + a.User
}

// evicted: lawful while the pod's node was being drained or upgraded.
func (b *books) evicted(p *pod, ended time.Duration) (cause, why string) {
	if onNode(b.around.phases, p.Node, b.askedAt(p), watchSlack) || onNode(b.around.phases, p.Node, ended, watchSlack) {
		return CauseDrain, ""
	}
	if name := b.evictedBy(p); name != "" {
		return CauseFault, "evicted by " + name
	}
	return CauseUnknown, fmt.Sprintf("evicted while no phase of the upgrade of %s was open", p.Node)
}

// Faults that end pods or containers by themselves.
const (
	evictionFault = "pod.evict"
	killFault     = "pod.kill"
	powerFault    = "node.power-off"
)

// powerBack is how long after a node is proven to serve again the last of its
// containers is started: pods are started one by one, and told after that.
const powerBack = time.Minute

// evictedBy names the fault that evicted a pod.
func (b *books) evictedBy(p *pod) string {
	at := b.askedAt(p)
	for _, f := range b.around.faults {
		if f.Fault == evictionFault && f.hits(p.Node, span{at - watchSlack, at + watchSlack}) && b.victim(f, p) {
			return f.Name
		}
	}
	return ""
}

// killedBy names the fault that ended containers of a pod, which was seen at a
// moment: at the end of the pod, or when they were started again.
func (b *books) killedBy(p *pod, at time.Duration) string {
	for _, f := range b.around.faults {
		if f.acting == (span{}) || !slices.Contains(f.Nodes, p.Node) {
			continue
		}
		in := span{f.acting.from - watchSlack, f.acting.to + watchSlack}
		switch {
		case f.Fault == powerFault:
			in.to += powerBack
		case f.Fault != killFault:
			continue
		}
		if in.touches(span{at, at}) && b.victim(f, p) {
			return f.Name
		}
	}
	return ""
}

// victim says whether a fault may have hit a pod: it looks in its namespace, and
// had not all the pods of that node that it wanted.
func (b *books) victim(f FaultFact, p *pod) bool {
	if f.ns != "" && f.ns != p.Namespace {
		return false
	}
	key := f.Name + " " + p.Node
	if b.victims[key] == nil {
		b.victims[key] = map[*pod]bool{}
	}
	if !b.victims[key][p] && f.count > 0 && len(b.victims[key]) >= f.count {
		return false
	}
	b.victims[key][p] = true
	return true
}

// downtime is when the API server of a node did not answer.
type downtime struct {
	span
	place string
}

// serverAway says which API server was down at some moment of a span: one that
// is killed takes its last audit lines with it, and those of requests under way.
func (b *books) serverAway(in span) string {
	if b.away == nil {
		b.away = []downtime{}
		places := map[string]string{}
		for _, n := range b.h.Nodes {
			places[n.V.Name] = n.V.Place
		}
		for _, id := range slices.Sorted(maps.Keys(b.h.Series)) {
			s := b.h.Series[id]
			if s.Verb != "read" || s.Endpoint == endpointLB {
				continue
			}
			for _, o := range outages(b.h, id, rules{late: LateBound}) {
				b.away = append(b.away, downtime{span{o.LastGood, o.FirstGood}, cmp.Or(places[s.Endpoint], s.Endpoint)})
			}
		}
	}
	for _, d := range b.away {
		if d.touches(in) {
			return d.place
		}
	}
	return ""
}

// tainted: lawful when a NoExecute taint that the pod tolerates only for a time
// was on its node for that long. The timer starts over with each new leader of
// the controller manager, so that later is lawful too.
func (b *books) tainted(p *pod, ended time.Duration) (cause, why string) {
	states := b.nodes[p.Node]
	if len(states) == 0 {
		return CauseUnseen, fmt.Sprintf("the taints of %s are not in the record", p.Node)
	}
	at := b.askedAt(p)
	if list := gaps(b.h, span{at - b.toleration - watchSlack, ended}, "watch/nodes"); len(list) > 0 {
		return CauseUnseen, gapText(list)
	}
	var since time.Duration // when the taint that is on now was put there
	on, ever, other := false, false, ""
	for _, n := range states {
		if n.At > at+watchSlack {
			break
		}
		was := on
		if on, other = noExecute(n.V.Taints); on && !was {
			since, ever = n.At, true
		}
	}
	held := at - since
	switch {
	case other != "":
		return CauseTaint, fmt.Sprintf("taint %s on %s", other, p.Node)
	case !ever:
		return CauseUnknown, fmt.Sprintf("the taint manager deleted it, but no NoExecute taint was seen on %s", p.Node)
	case !on:
		return CauseUnknown, fmt.Sprintf("the taint manager deleted it, but the taint was gone from %s", p.Node)
	case held < b.toleration-watchSlack:
		return CauseUnknown, fmt.Sprintf("the taint manager deleted it after %s, though it tolerates the taint for %s", length(held), length(b.toleration))
	}
	return CauseTaint, fmt.Sprintf("the taint was on %s for %s", p.Node, length(held))
}

// noExecute says whether taints hold one of those that are tolerated for a
// time, and names one that is not tolerated at all.
func noExecute(taints []string) (timed bool, other string) {
	for _, t := range taints {
		key, ok := strings.CutSuffix(t, ":NoExecute")
		if !ok {
			continue
		}
		key, _, _ = strings.Cut(key, "=")
		switch key {
		case "node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready":
			timed = true
		default:
			other = key
		}
	}
	return timed, other
}

// collected: lawful when the pod's node is gone, or was declared out of service.
func (b *books) collected(p *pod, ended time.Duration) (cause, why string) {
	for _, s := range b.nodes[p.Node] {
		if s.At > ended+watchSlack {
			break
		}
		if s.V.Deleted {
			return CauseGC, "its node was deleted"
		}
		if _, other := noExecute(s.V.Taints); other == "node.kubernetes.io/out-of-service" {
			return CauseGC, "its node was out of service"
		}
	}
	if p.Node == "" {
		return CauseGC, "it was never scheduled"
	}
	return CauseUnknown, fmt.Sprintf("garbage collected, though %s is there", p.Node)
}

// controlled: a controller may replace a pod that does not serve, and take away
// one too many. Nothing in a run declares a rollout, so that a controller that
// deletes a pod which serves and is wanted has lost its mind
// (kubernetes/kubernetes#134773 did that to every StatefulSet).
func (b *books) controlled(p *pod, ended time.Duration) (cause, why string) {
	if !p.wasReady {
		return CauseController, "it was not Ready"
	}
	budget, before, ok := b.budget(p, ended)
	switch {
	case !ok:
		return CauseController, "nothing says how many its owner wants"
	case budget.Deleted:
		return CauseController, "its owner was deleted"
	case before > budget.Desired:
		return CauseController, "its owner was scaled down"
	}
	// Only its own ReplicaSet's: in a rollout there is one too many for a moment,
	// but of two ReplicaSets.
	alive := 0
	for _, q := range b.siblings[p.Namespace+"/"+p.Owner] {
		if q.first <= ended && (q.ended() == 0 || q.ended() >= ended) && q.failed == 0 {
			alive++
		}
	}
	if alive > int(budget.Desired) {
		return CauseController, fmt.Sprintf("%d pods were there, %d wanted", alive, budget.Desired)
	}
	return CauseUnknown, "its controller deleted it while it was Ready and wanted: a rollout that nobody declared"
}

// budget is what the pod's owner promised at a moment, and the most that it
// ever wanted before.
func (b *books) budget(p *pod, at time.Duration) (now history.Budget, most int32, ok bool) {
	owner := b.budgetOwner(p)
	for _, e := range b.h.Budgets {
		if e.V.Namespace == p.Namespace && e.V.Owner == owner && (e.At <= at || !ok) {
			now, ok = e.V, true
			most = max(most, e.V.Desired)
		}
	}
	return now, most, ok
}

// orphaned: lawful when the Job of the pod had ended, or gave way to the next
// one by policy.
func (b *books) orphaned(p *pod, ended time.Duration) (cause, why string) {
	if !p.ofJob() {
		if budget, _, ok := b.budget(p, ended); ok && budget.Deleted {
			return CauseOwner, "its owner was deleted"
		}
		return CauseUnknown, "garbage collected, though its owner is wanted"
	}
	var last history.Job
	for _, j := range b.jobs[p.OwnerUID] {
		if j.At > ended+watchSlack {
			break
		}
		deleted := last.Deleted
		last = j.V
		last.Deleted = last.Deleted || deleted
		if over(j.V) {
			return CauseOwner, "its Job had ended"
		}
	}
	switch {
	case b.policies[last.CronJobUID] == "Replace":
		return CauseOwner, "its Job was replaced, as its CronJob's policy says"
	case last.Deleted:
		return CauseUnknown, "its Job was deleted while it ran"
	case last.UID == "":
		return CauseUnseen, "its Job is not in the record"
	}
	return CauseUnknown, "deleted while its Job ran"
}

// over says that a Job wants no more pods.
func over(j history.Job) bool { return !j.Finished.IsZero() || j.Condition != "" }
