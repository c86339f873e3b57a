package slo

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"

	"gameday/harness/history"
)

// unscheduled: a Job that a CronJob made is for a moment of its schedule, in its
// time zone, and is not made while the CronJob is suspended. A slot of the time in
// which it was may be caught up afterwards.
func (c *CronStartLatency) unscheduled(w cronWork) Result {
	r := Result{Name: "cron.unscheduled", Unit: "count", Promise: "no Job for a moment that is no slot, none while suspended"}
	var g grounds
	w.ready(&g, &r, c.Min)
	r.Samples, r.Excluded = 0, 0
	specs := map[string][]history.Timed[history.CronJob]{}
	for _, e := range w.h.CronJobs {
		if !e.V.Deleted {
			specs[e.V.UID] = append(specs[e.V.UID], e)
		}
	}
	owed := make(map[slotKey]bool, len(w.all))
	for _, s := range w.all {
		owed[slotKey{s.CronJobUID, s.At.Unix()}] = true
	}
	schedules := map[[2]string]cron.Schedule{}
	seen := map[string]bool{}
	wrong, afterwards := 0, 0
	for _, j := range w.h.Jobs {
		if j.V.CronJobUID == "" || j.V.Slot.IsZero() || seen[j.V.UID] {
			continue
		}
		seen[j.V.UID] = true
		list := specs[j.V.CronJobUID]
		if len(list) == 0 {
			r.Excluded++
			continue
		}
		r.Samples++
		at := w.at(j.V.Created)
		why := ""
		switch {
		case suspendedAt(list, at):
			why = "its CronJob was suspended"
		case owed[slotKey{j.V.CronJobUID, j.V.Slot.Unix()}]:
		case !anySlot(list, j.V.Slot, schedules):
			why = fmt.Sprintf("%q has no slot then", list[len(list)-1].V.Schedule)
		default:
			afterwards++
		}
		if why != "" {
			wrong++
			w.around.evidence(&r, span{at, at}, fmt.Sprintf("%s: Job %s was made for %s, though %s", j.V.CronJob, j.V.Name, j.V.Slot.Format("15:04:05"), why))
		}
	}
	if r.Samples == 0 {
		g.doubt("no Job of a CronJob is in the record")
	}
	r.Observed = float64(wrong)
	if wrong > 0 {
		g.fail("%s", count(wrong, "Job was made that no schedule asked for", "Jobs were made that no schedule asked for"))
	} else {
		g.note("none among %s", count(r.Samples, "Job", "Jobs"))
	}
	if afterwards > 0 {
		g.note("%s for a slot that was not owed: caught up after it was suspended, or at a change of the spec", count(afterwards, "Job was", "Jobs were"))
	}
	if r.Excluded > 0 {
		g.note("%s whose CronJob is not in the record", count(r.Excluded, "Job", "Jobs"))
	}
	if list := gaps(w.h, span{0, w.stop}, "watch/jobs", "watch/cronjobs"); len(list) > 0 {
		g.doubt("a Job or a change of a CronJob may have gone unseen: %s", gapText(list))
	}
	g.decide(&r)
	return r
}

// suspendedAt says that a CronJob was surely suspended at a moment, and for so
// long that the controller knew.
func suspendedAt(specs []history.Timed[history.CronJob], at time.Duration) bool {
	for i, s := range specs {
		ends := i+1 < len(specs)
		if s.V.Suspended && s.At+watchSlack < at && (!ends || specs[i+1].At-watchSlack > at) {
			return true
		}
	}
	return false
}

// anySlot says whether a moment is a slot of any of a CronJob's specs.
func anySlot(specs []history.Timed[history.CronJob], at time.Time, known map[[2]string]cron.Schedule) bool {
	for _, s := range specs {
		key := [2]string{s.V.Schedule, s.V.TimeZone}
		schedule, ok := known[key]
		if !ok {
			var err error
			if schedule, err = parseSchedule(s.V); err != nil {
				return true // told by the other promises
			}
			known[key] = schedule
		}
		if schedule.Next(at.UTC().Add(-time.Second)).Equal(at) {
			return true
		}
	}
	return false
}
