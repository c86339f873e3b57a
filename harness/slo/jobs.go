package slo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
)

// jobPods are what became of the pods of Jobs.
type jobPods struct {
	all int
	// done came to their end, or were wanted no more; killed did not.
	done   int
	killed []killedPod
	// open still ran when the watches stopped, or had not begun.
	open int
	// unknown ended before they were done, but their Job is not in the record.
	unknown []*pod
}

// killedPod is a pod of a Job that was ended before it was done.
type killedPod struct {
	*pod
	fact PodFact
	end  time.Duration
	// work is how long its container ran, for nothing.
	work time.Duration
}

// jobPods goes through the pods of Jobs.
func (b *books) jobPods(facts []PodFact) jobPods {
	var out jobPods
	for i, p := range b.pods {
		if !p.ofJob() {
			continue
		}
		out.all++
		end := p.ended()
		if p.failed > 0 && (end == 0 || p.failed < end) {
			end = p.failed
		}
		switch {
		case p.succeeded > 0: // it came to its end, whoever asked for that
			out.done++
		case end == 0 || end >= b.stop:
			out.open++ // it runs on
		case p.Started.IsZero() && (p.failed == 0 || facts[i].Cause == CauseRefused):
			out.open++ // it had not begun: nothing was lost
		case b.jobOver(p, end):
			out.done++
		case len(b.jobs[p.OwnerUID]) == 0:
			out.unknown = append(out.unknown, p)
		default:
			k := killedPod{pod: p, fact: facts[i], end: end}
			if !p.Started.IsZero() {
				k.work = max(0, end-p.Started.Sub(b.h.Run.Began))
			}
			out.killed = append(out.killed, k)
		}
	}
	return out
}

// judged is how many pods are known to have ended one way or the other.
func (j jobPods) judged() int { return j.done + len(j.killed) }

// lost is how long the killed ones ran.
func (j jobPods) lost() (d time.Duration) {
	for _, k := range j.killed {
		d += k.work
	}
	return d
}

// share is how many of those that ended came to their end, in per cent.
func (j jobPods) share() float64 { return 100 * float64(j.done) / float64(max(1, j.judged())) }

// tell puts what all promises about Jobs have in common into a result.
func (j jobPods) tell(b *books, g *grounds, r *Result) {
	r.Samples, r.Excluded = j.judged(), j.open
	if j.all == 0 {
		g.doubt("no pod of a Job is in the record")
	}
	for _, p := range j.unknown {
		r.Samples++
		g.doubt("%s ended before it was done, but its Job is not in the record", p)
	}
	for _, k := range j.killed {
		text := fmt.Sprintf("%s of %s on %s: %s", k.pod, k.Owner, k.Node, k.fact.Cause)
		if k.fact.Cause == CauseFault {
			text += ", " + k.fact.Why
		}
		if k.failed > 0 {
			text += fmt.Sprintf(", exit code %d", k.ExitCode)
		}
		if k.work > 0 {
			text += fmt.Sprintf(", %s of work lost", length(k.work))
		}
		b.around.evidence(r, span{k.end - k.work, k.end}, text)
	}
}

// causes says who killed them: "2 drain, 1 fault".
func (j jobPods) causes() string {
	n := map[string]int{}
	for _, k := range j.killed {
		cause := k.fact.Cause
		if cause == CauseFinished { // of its own accord, but without success
			cause = "failed by itself"
		}
		n[cause]++
	}
	var parts []string
	for _, cause := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%d %s", n[cause], cause))
	}
	return strings.Join(parts, ", ")
}

// note tells the share, the work and the causes.
func (j jobPods) note(g *grounds) {
	if j.judged() > 0 {
		g.note("%d of %d (%.4g %%) ran to their end", j.done, j.judged(), j.share())
	}
	if len(j.killed) > 0 {
		g.note("killed by: %s", j.causes())
	}
	if j.open > 0 {
		g.note("%d still ran, or had not begun", j.open)
	}
}

func (c *PodsLedger) killed(b *books, facts []PodFact, g *grounds, r *Result) {
	j := b.jobPods(facts)
	j.tell(b, g, r)
	allowed(g, r, len(j.killed), c.Killed, "pod of a Job killed before it was done", "pods of Jobs killed before they were done")
	if len(j.killed) > 0 {
		g.note("%s of work lost", length(j.lost()))
	}
	j.note(g)
}

// survival judges the share of those that ended. What is promised of fewer pods
// than leave one out is that none is killed: 99.99 % of 198 is all of them.
func (c *PodsLedger) survival(b *books, facts []PodFact, g *grounds, r *Result) {
	j := b.jobPods(facts)
	j.tell(b, g, r)
	r.Unit, r.Budget = "%", c.Survival
	r.Promise = fmt.Sprintf("at least %v %% of the pods of Jobs run to their end", c.Survival)
	if j.judged() == 0 {
		g.doubt("no pod of a Job came to an end")
	} else if r.Observed = j.share(); r.Observed < c.Survival {
		g.fail("%d of %d were killed: %.4g %% ran to their end", len(j.killed), j.judged(), r.Observed)
	}
	if n := enough(c.Survival / 100); c.Survival < 100 && j.judged() < n {
		g.note("%d are too few to lose one: %d are needed", j.judged(), n)
	}
	j.note(g)
}

func (c *PodsLedger) workLost(b *books, facts []PodFact, g *grounds, r *Result) {
	j := b.jobPods(facts)
	j.tell(b, g, r)
	lost, bar := j.lost(), time.Duration(len(j.killed))*apiSecond
	r.Unit, r.Budget, r.Observed, r.ErrorBar = "s", seconds(c.WorkLost), seconds(lost), seconds(bar)
	r.Promise = "no more than " + length(c.WorkLost) + " of work lost in pods of Jobs that were killed"
	if j.judged() == 0 {
		g.doubt("no pod of a Job came to an end")
	}
	g.limit(seconds(max(0, lost-bar)), seconds(lost+bar), seconds(c.WorkLost), length(lost)+" of work lost")
	j.note(g)
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
