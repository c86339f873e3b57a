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
// none waits for long where it could run (pods.stuck-pending), no owner has
// fewer ready pods than its budget (pods.below-budget), and no Job's pod is
// killed before it is done (jobs.killed).
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
	return &PodsLedger{Toleration: defaultToleration, Pending: 90 * time.Second, Recovery: 60 * time.Second}
}

// podPromises in the order of their results.
var podPromises = []string{"pods.unexplained", "pods.restarts", "pods.stuck-pending", "pods.below-budget", "jobs.killed"}

// Validate implements Validator.
func (c *PodsLedger) Validate() []error {
	errs := noneBelowZero(map[string]int{"unexplained": c.Unexplained, "restarts": c.Restarts, "stuck": c.Stuck, "killed": c.Killed})
	errs = append(errs, notNegative(map[string]time.Duration{"allow": c.Allow, "recovery": c.Recovery, "toleration": c.Toleration})...)
	errs = append(errs, positive(map[string]time.Duration{"pending": c.Pending})...)
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
	checks := []func(*books, []PodFact, *grounds, *Result){c.unexplained, c.restarts, c.pending, c.belowBudget, c.killed}
	var out []Result
	for i, name := range podPromises {
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
	n := 0
	for _, p := range b.pods {
		if p.restarts > 0 && p.restarted >= b.stop {
			r.Excluded++
			continue
		}
		r.Samples++
		if p.restarts > 0 {
			n += p.restarts
			b.around.evidence(r, span{p.restarted, p.restarted}, fmt.Sprintf("%s on %s: %s", p, p.Node, count(p.restarts, "container restart", "container restarts")))
		}
	}
	allowed(g, r, n, c.Restarts, "container restart", "container restarts")
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
		free, at := longestFree(span{created, scheduled}, b.unwell(""))
		what := "was not scheduled"
		if s, t := longestFree(span{scheduled, started}, b.unwell(p.Node)); s > free && scheduled < started {
			free, at, what = s, t, "was not started on "+p.Node
		}
		if free <= c.Pending {
			continue
		}
		say := fmt.Sprintf("%s %s for %s while it could have been", p, what, length(free))
		in := span{at, at + free}
		if p.Unschedulable != "" {
			say += ": " + p.Unschedulable
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
	var out []span
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

func (c *PodsLedger) killed(b *books, facts []PodFact, g *grounds, r *Result) {
	killed, jobPods := 0, 0
	var lost time.Duration
	for i, p := range b.pods {
		if !p.ofJob() {
			continue
		}
		jobPods++
		end := p.ended()
		if p.failed > 0 && (end == 0 || p.failed < end) {
			end = p.failed
		}
		switch {
		case p.succeeded > 0: // it came to its end, whoever asked for that
			r.Samples++
			continue
		case end == 0 || end >= b.stop:
			r.Excluded++ // it runs on
			continue
		case p.Started.IsZero() && p.failed == 0:
			r.Excluded++ // it had not begun: nothing was lost
			continue
		}
		r.Samples++
		if b.jobOver(p, end) {
			continue
		}
		if len(b.jobs[p.OwnerUID]) == 0 {
			g.doubt("%s ended before it was done, but its Job is not in the record", p)
			continue
		}
		killed++
		var work time.Duration
		if !p.Started.IsZero() {
			work = max(0, end-p.Started.Sub(b.h.Run.Began))
		}
		lost += work
		text := fmt.Sprintf("%s of %s on %s: %s", p, p.Owner, p.Node, facts[i].Cause)
		if p.failed > 0 {
			text += fmt.Sprintf(", exit code %d", p.ExitCode)
		}
		if work > 0 {
			text += fmt.Sprintf(", %s of work lost", length(work))
		}
		b.around.evidence(r, span{end - work, end}, text)
	}
	if jobPods == 0 {
		g.doubt("no pod of a Job is in the record")
	}
	allowed(g, r, killed, c.Killed, "pod of a Job killed before it was done", "pods of Jobs killed before they were done")
	if killed > 0 {
		g.note("%s of work lost", length(lost))
	}
	if r.Excluded > 0 {
		g.note("%d still ran, or had not begun", r.Excluded)
	}
}

// jobOver says whether the pod's Job wanted it no more at a moment.
func (b *books) jobOver(p *pod, at time.Duration) bool {
	return slices.ContainsFunc(b.jobs[p.OwnerUID], func(j history.Timed[history.Job]) bool {
		if j.At > at+watchSlack {
			return false
		}
		return over(j.V) && j.V.Condition != "Failed" || b.policies[j.V.CronJobUID] == "Replace" && j.V.Deleted
	})
}
