package slo

import (
	"fmt"
	"slices"
	"time"

	"gameday/harness/history"
)

// oneAtATime says that no two Jobs of a CronJob may run at once: Forbid waits for
// the one before, Replace deletes it first.
func oneAtATime(c history.CronJob) bool { return c.Policy == "Forbid" || c.Policy == "Replace" }

// overlap: the pods of a Job that was replaced may still be going, the Job may not.
func (c *CronStartLatency) overlap(w cronWork) Result {
	r := Result{Name: "cron.overlap", Unit: "count", Promise: "no two Jobs of a CronJob with policy Forbid or Replace at once"}
	var g grounds
	w.ready(&g, &r, c.Min)
	r.Samples, r.Excluded = 0, 0
	seen := map[string]bool{}
	overlaps := 0
	for _, j := range w.h.CronJobs {
		if !oneAtATime(j.V) || seen[j.V.UID] {
			continue
		}
		seen[j.V.UID] = true
		jobs := w.law.jobs[j.V.UID]
		r.Samples += len(jobs)
		var before jobSpan
		for i, b := range jobs {
			// Both times are cut to the second, and a deletion is told by a watch: less
			// than that may be none.
			slack := apiSecond
			if before.deleted {
				slack = watchSlack
			}
			if i > 0 && before.finished-b.started >= slack {
				overlaps++
				w.around.evidence(&r, span{b.started, before.finished}, fmt.Sprintf("%s: %s started while %s ran, though %s", j.V.Name, b.name, before.name, j.V.Policy))
			}
			if b.finished == 0 {
				b.finished = w.stop
			}
			if i == 0 || b.finished > before.finished {
				before = b
			}
		}
	}
	if r.Samples == 0 {
		g.doubt("no Job of a CronJob with policy Forbid or Replace is in the record")
	}
	r.Observed = float64(overlaps)
	if overlaps > 0 {
		g.fail("%s, though Forbid or Replace (known before v1.37.0: kubernetes/kubernetes#136918)", count(overlaps, "Job started while another ran", "Jobs started while another ran"))
	} else {
		g.note("none among %s", count(r.Samples, "Job", "Jobs"))
	}
	if list := gaps(w.h, span{0, w.stop}, "watch/jobs"); len(list) > 0 {
		g.doubt("a Job may have come and gone unseen: %s", gapText(list))
	}
	g.decide(&r)
	return r
}

// jobSpan is when a Job of a CronJob ran; finished is 0 if it did not end, deleted
// says that it ended by that.
type jobSpan struct {
	name, uid         string
	started, finished time.Duration
	deleted           bool
}

// jobSpans are, by the UID of their CronJob, the Jobs that started, in the order
// of their start.
func jobSpans(h *history.History) map[string][]jobSpan {
	all := map[string]*jobSpan{}
	of := map[string][]*jobSpan{}
	for _, j := range h.Jobs {
		if j.V.CronJobUID == "" || j.V.Slot.IsZero() || j.V.Started.IsZero() {
			continue
		}
		s := all[j.V.UID]
		if s == nil {
			s = &jobSpan{name: j.V.Name, uid: j.V.UID, started: j.V.Started.Sub(h.Run.Began)}
			all[j.V.UID] = s
			of[j.V.CronJobUID] = append(of[j.V.CronJobUID], s)
		}
		if s.finished == 0 {
			switch {
			case !j.V.Finished.IsZero():
				s.finished = j.V.Finished.Sub(h.Run.Began)
			case j.V.Deleted:
				s.finished, s.deleted = j.At, true
			}
		}
	}
	out := make(map[string][]jobSpan, len(of))
	for uid, list := range of {
		for _, s := range list {
			out[uid] = append(out[uid], *s)
		}
		slices.SortStableFunc(out[uid], func(a, b jobSpan) int { return int(a.started - b.started) })
	}
	return out
}
