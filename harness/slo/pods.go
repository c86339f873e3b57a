package slo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
)

// PodsLedger promises that no pod of the workload is lost: every one that ended
// has a lawful cause (pods.unexplained), no container restarts (pods.restarts),
// none waits for long where it could run (pods.stuck-pending) or could be gone
// (pods.stuck-terminating), no owner has fewer ready pods than its budget
// (pods.below-budget), and no Job's pod is killed before it is done (jobs.killed;
// with budgets of their own: jobs.survival, jobs.work-lost).
//
// What "no pod is lost" can mean, and who judges it:
//
//   - a pod is deleted for no reason, or vanishes: pods.unexplained (drain, taint
//     eviction, pod GC, preemption, node pressure, node shutdown, a fault, its
//     controller, its owner; anything else is a failure)
//   - it is evicted without right: a taint or the GC before its time,
//     pods.unexplained; beyond a PodDisruptionBudget, pods.below-budget, since the
//     budget's own status is not in the record
//   - a container restarts in a pod that stays: pods.restarts. A restart of the
//     kubelet is no reason for one (kubernetes/kubernetes#63814, #129385)
//   - a pod that serves is not Ready for a while: pods.below-budget, as soon as the
//     others are too few
//   - it is stuck pending or terminating: pods.stuck-pending, pods.stuck-terminating
//   - there are fewer replicas than promised: pods.below-budget
//   - a Job's pod is killed before it is done: jobs.killed, whatever the cause
//   - acknowledged writes are lost: writes.kept; watches leave events out:
//     api.watch-missed; reads go back in time: linearizable
//   - a rollout that nobody asked for: pods.unexplained, as its controller deletes
//     pods that serve and are wanted (kubernetes/kubernetes#134773)
//
// Not observable from etcd and the audit log, and so judged nowhere: containers
// that run without a pod or pods without their containers, two containers of one
// StatefulSet pod at once on two nodes (both would need the nodes' own runtimes),
// and controllers that stand still without a pod or Job showing it.
type PodsLedger struct {
	// Unexplained, Restarts, Stuck and Killed are how many are allowed.
	Unexplained int `yaml:"unexplained"`
	Restarts    int `yaml:"restarts"`
	Stuck       int `yaml:"stuck"`
	Killed      int `yaml:"killed"`
	// Toleration of the workload's pods for the taints not-ready and unreachable.
	Toleration time.Duration `yaml:"toleration"`
	// Pending is how long a pod may be unscheduled, or scheduled and not
	// started, while the nodes that it needs are well.
	Pending time.Duration `yaml:"pending"`
	// Terminating is how long a pod may be there after its grace period, while its
	// node is well.
	Terminating time.Duration `yaml:"terminating"`
	// Survival is the least share, in per cent, of the pods of Jobs that run to
	// their end; WorkLost the most that all those that do not may have run together.
	// 0 does not judge it.
	Survival float64       `yaml:"survival,omitempty"`
	WorkLost time.Duration `yaml:"workLost,omitempty"`
	// Allow is how much one owner may be below its budget, in replica-seconds:
	// one replica short for 10 s is 10s.
	Allow time.Duration `yaml:"allow"`
	// Recovery is how long after a fault is gone its victims' pods may be missing.
	Recovery time.Duration `yaml:"recovery"`
	// Skip names promises that are not judged, for a workload that lacks what
	// they are about: jobs.killed, pods.below-budget.
	Skip []string `yaml:"skip"`
}

func newPodsLedger() Checker {
	return &PodsLedger{Toleration: defaultToleration, Pending: 90 * time.Second, Terminating: 90 * time.Second, Recovery: 60 * time.Second}
}

// podPromises in the order of their results.
var podPromises = []string{"pods.unexplained", "pods.restarts", "pods.stuck-pending", "pods.stuck-terminating", "pods.below-budget", "jobs.killed"}

// Validate implements Validator.
func (c *PodsLedger) Validate() []error {
	errs := noneBelowZero(map[string]int{"unexplained": c.Unexplained, "restarts": c.Restarts, "stuck": c.Stuck, "killed": c.Killed})
	errs = append(errs, notNegative(map[string]time.Duration{"allow": c.Allow, "recovery": c.Recovery, "toleration": c.Toleration})...)
	errs = append(errs, positive(map[string]time.Duration{"pending": c.Pending, "terminating": c.Terminating})...)
	errs = append(errs, notNegative(map[string]time.Duration{"workLost": c.WorkLost})...)
	if c.Survival < 0 || c.Survival > 100 {
		errs = append(errs, fmt.Errorf("survival: %v is no share in per cent", c.Survival))
	}
	for _, s := range c.Skip {
		if !slices.Contains(podPromises, s) {
			errs = append(errs, fmt.Errorf("skip: unknown promise %q (one of %s)", s, strings.Join(podPromises, ", ")))
		}
	}
	if len(c.Skip) >= len(podPromises) {
		errs = append(errs, fmt.Errorf("skip: nothing would be judged; leave the SLO out instead"))
	}
	return errs
}

// Check implements Checker.
func (c *PodsLedger) Check(h *history.History) []Result {
	b := newBooks(h, c.Toleration)
	facts := make([]PodFact, len(b.pods))
	for i, p := range b.pods {
		facts[i] = b.account(p)
	}
	names := slices.Clone(podPromises)
	checks := []func(*books, []PodFact, *grounds, *Result){c.unexplained, c.restarts, c.pending, c.terminating, c.belowBudget, c.killed}
	if c.Survival > 0 {
		names, checks = append(names, "jobs.survival"), append(checks, c.survival)
	}
	if c.WorkLost > 0 {
		names, checks = append(names, "jobs.work-lost"), append(checks, c.workLost)
	}
	var out []Result
	for i, name := range names {
		if slices.Contains(c.Skip, name) {
			continue
		}
		r := Result{Name: name, Unit: "count"}
		var g grounds
		if len(b.pods) == 0 {
			g.doubt("no pod of the workload is in the record")
		}
		if list := gaps(h, span{0, b.stop}, "watch/pods"); len(list) > 0 {
			g.doubt("%s", gapText(list))
		}
		checks[i](b, facts, &g, &r)
		g.decide(&r)
		out = append(out, r)
	}
	return out
}

// allowed judges a count against its budget.
func allowed(g *grounds, r *Result, n, budget int, one, many string) {
	r.Observed, r.Budget = float64(n), float64(budget)
	if r.Promise = "no " + one; budget > 0 {
		r.Promise = fmt.Sprintf("no more than %s", count(budget, one, many))
	}
	if n > budget {
		g.fail("%s", count(n, one, many))
	} else {
		g.note("%d of %d", n, r.Samples)
	}
}

func (c *PodsLedger) unexplained(b *books, facts []PodFact, g *grounds, r *Result) {
	causes := map[string]int{}
	unknown := 0
	for i, f := range facts {
		causes[f.Cause]++
		p := b.pods[i]
		switch f.Cause {
		case CauseOver:
			r.Excluded++
			continue
		case CauseUnknown:
			unknown++
			text := fmt.Sprintf("%s on %s: %s", p, f.Node, f.Why)
			if f.By != "" && !strings.Contains(f.Why, f.By) {
				text += ", by " + f.By
			}
			b.around.evidence(r, span{f.Ended, f.Ended}, text)
		case CauseUnseen:
			if causes[CauseUnseen] == 1 {
				g.doubt("why %s ended cannot be known: %s", p, f.Why)
			}
		}
		r.Samples++
	}
	allowed(g, r, unknown, c.Unexplained, "pod lost without a lawful cause", "pods lost without a lawful cause")
	if n := causes[CauseUnseen]; n > 1 {
		g.doubt("and of %d more", n-1)
	}
	var parts []string
	for _, cause := range slices.Sorted(maps.Keys(causes)) {
		if cause != CauseUnknown && cause != CauseUnseen {
			parts = append(parts, fmt.Sprintf("%d %s", causes[cause], cause))
		}
	}
	if b.stall > watchSlack {
		g.note("the watch of pods stalled: states were told up to %s late", length(b.stall))
	}
	if len(parts) > 0 {
		g.note("pods: %s", strings.Join(parts, ", "))
	}
}

func (c *PodsLedger) restarts(b *books, _ []PodFact, g *grounds, r *Result) {
	n, faults := 0, 0
	for _, p := range b.pods {
		if len(p.restarts) > 0 && p.restarts[0].at >= b.stop {
			r.Excluded++
			continue
		}
		r.Samples++
		own, first := 0, time.Duration(0)
		struck := map[string]int{} // restarts that a fault explains: each container once
		for _, s := range p.restarts {
			name := b.killedBy(p, s.at)
			explained := 0
			if name != "" {
				explained = min(s.n, max(p.atOnce, 1)-struck[name])
				struck[name] += explained
			}
			if faults += explained; s.n > explained {
				if own == 0 {
					first = s.at
				}
				own += s.n - explained
			}
		}
		if n += own; own > 0 {
			b.around.evidence(r, span{first, first}, fmt.Sprintf("%s on %s: %s", p, p.Node, count(own, "container restart", "container restarts")))
		}
	}
	allowed(g, r, n, c.Restarts, "container restart", "container restarts")
	if faults > 0 {
		g.note("%s more by faults that end containers", count(faults, "restart", "restarts"))
	}
}

func (c *PodsLedger) pending(b *books, _ []PodFact, g *grounds, r *Result) {
	stuck, young := 0, 0
	for _, p := range b.pods {
		if p.Created.IsZero() {
			r.Excluded++
			continue
		}
		r.Samples++
		end := b.stop
		if e := p.ended(); e > 0 {
			end = min(end, e)
		}
		created := p.Created.Sub(b.h.Run.Began)
		scheduled, started := end, end
		switch {
		case !p.Scheduled.IsZero():
			scheduled = min(end, p.Scheduled.Sub(b.h.Run.Began))
		case !p.Started.IsZero(): // it was, at some time before
			scheduled = min(end, p.Started.Sub(b.h.Run.Began))
		}
		switch {
		case !p.Started.IsZero():
			started = min(end, p.Started.Sub(b.h.Run.Began))
		case p.failed > 0 || p.succeeded > 0: // it never will
			started = scheduled
		case p.ended() == 0 && b.stop-created < c.Pending:
			young++
			r.Samples--
			r.Excluded++
		}
		if started-created <= c.Pending {
			continue
		}
		free, at := longestFree(span{created, scheduled}, b.unwell(""))
		what, why := "was not scheduled", p.Unschedulable
		if s, t := longestFree(span{scheduled, started}, b.unwell(p.Node)); s > free && scheduled < started {
			free, at, what, why = s, t, "was not started on "+p.Node, p.Waiting
		}
		if free <= c.Pending {
			continue
		}
		say := fmt.Sprintf("%s %s for %s while it could have been", p, what, length(free))
		in := span{at, at + free}
		if why != "" {
			say += ": " + why
		}
		b.around.evidence(r, in, say)
		switch list := gaps(b.h, in, "watch/nodes"); {
		case free-apiSecond <= c.Pending:
			g.doubt("%s: too close to the budget for its error bar", say)
		case len(b.nodes) == 0:
			g.doubt("%s, but the state of the nodes is not in the record", say)
		case len(list) > 0:
			g.doubt("%s, but %s", say, gapText(list))
		default:
			stuck++
		}
	}
	allowed(g, r, stuck, c.Stuck, "pod stuck pending", "pods stuck pending")
	r.Promise += " for longer than " + length(c.Pending)
	if young > 0 {
		g.note("%s still pending, too young to be judged", count(young, "pod was", "pods were"))
	}
}

// unwell are the times in which a node (with no name: any node that takes
// workload) could not take a pod: not Ready, cordoned, tainted, or under fault.
func (b *books) unwell(node string) []span {
	out, ok := b.notWell[node]
	if ok {
		return out
	}
	workers := false
	for _, states := range b.nodes {
		workers = workers || strings.HasPrefix(states[0].V.Place, "worker[")
	}
	for name, states := range b.nodes {
		if node != "" && name != node || node == "" && workers && !strings.HasPrefix(states[0].V.Place, "worker[") {
			continue
		}
		for i, s := range states {
			end := b.h.Last
			if i+1 < len(states) {
				end = states[i+1].At
			}
			if s.V.Deleted || s.V.Ready != "True" || s.V.Unschedulable || slices.ContainsFunc(s.V.Taints, keepsOut) {
				out = append(out, span{s.At, end})
			}
		}
		for _, f := range b.around.faults {
			if f.hits(name, span{0, b.h.Last}) {
				out = append(out, f.acting)
			}
		}
	}
	b.notWell[node] = out
	return out
}

// keepsOut says whether a taint keeps new pods away. The one that kubeadm puts
// on every control plane for good does not count: such a node is never needed.
func keepsOut(taint string) bool {
	key, effect, _ := strings.Cut(taint, ":")
	return key != "node-role.kubernetes.io/control-plane" && (effect == "NoSchedule" || effect == "NoExecute")
}

// longestFree is the longest part of a span that none of the others touches.
func longestFree(in span, others []span) (longest, at time.Duration) {
	others = slices.Clone(others)
	slices.SortFunc(others, func(a, b span) int { return int(a.from - b.from) })
	from := in.from
	free := func(to time.Duration) {
		if to-from > longest {
			longest, at = to-from, from
		}
	}
	for _, o := range others {
		if o.to <= from || o.from >= in.to {
			continue
		}
		free(min(o.from, in.to))
		from = max(from, o.to)
	}
	if from < in.to {
		free(in.to)
	}
	return longest, at
}
