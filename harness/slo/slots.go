package slo

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // as kube-controller-manager: zones must not depend on this machine

	"github.com/robfig/cron/v3"

	"gameday/harness/history"
)

// maxSlots bounds the slots of one CronJob: robfig/cron can be asked for each
// second, and a run lasts hours at most.
const maxSlots = 100_000

// Slot is one moment at which a CronJob promised a start. Wall-clock times are
// those of the API, to the second.
type Slot struct {
	Namespace, CronJob, CronJobUID string
	At                             time.Time
	// Next is the slot after it.
	Next time.Time
	// Policy and Deadline are those of the spec that was in force.
	Policy   string
	Deadline time.Duration
	// Jobs are the UIDs of the Jobs made for it, in the order seen.
	Jobs []string
	// Created is when the first of them was made. PodCreated, Scheduled and Started
	// are of the pod whose container started first, in the end that of the container;
	// if none did, of the pod that came furthest. Own says that the container itself
	// said when it Started, give or take Bar; else it is a time of the API, up to Bar
	// before the start.
	Created, PodCreated, Scheduled, Started time.Time
	Own                                     bool
	Bar                                     time.Duration
}

// parseSchedule reads a schedule exactly as the CronJob controller does
// (k8s.io/kubernetes@v1.37.0 pkg/controller/cronjob/cronjob_controllerv2.go,
// formatSchedule). Without a zone it is in the controller's own, which is UTC
// in its image.
func parseSchedule(c history.CronJob) (cron.Schedule, error) {
	text := c.Schedule
	if !strings.Contains(text, "TZ") && c.TimeZone != "" {
		if _, err := time.LoadLocation(c.TimeZone); err == nil {
			text = fmt.Sprintf("TZ=%s %s", c.TimeZone, text)
		}
	}
	s, err := cron.ParseStandard(text)
	if err != nil {
		return nil, fmt.Errorf("schedule %q of CronJob %s: %w", text, c.Name, err)
	}
	return s, nil
}

// Slots lists every slot that the CronJobs of a run promised until a moment,
// and joins what became of each. A spec counts from the moment it was seen
// (the first one: from the creation of the CronJob) to the next one; a slot
// within a second of such a change is left out, because nobody can say which
// spec it belongs to. unsure counts those. Nothing in a run takes a CronJob away,
// so that one that is gone still owes its slots, until another has its name.
func Slots(h *history.History, until time.Duration) (slots []Slot, unsure int, err error) {
	specs := map[string][]history.Timed[history.CronJob]{}
	var order []string
	heir := map[string]time.Time{} // of a CronJob: since when another has its name
	name := map[[2]string]string{} // the CronJob that has a name
	for _, c := range h.CronJobs {
		if c.V.Deleted {
			continue
		}
		if _, ok := specs[c.V.UID]; !ok {
			order = append(order, c.V.UID)
			key := [2]string{c.V.Namespace, c.V.Name}
			if before, ok := name[key]; ok {
				heir[before] = c.V.Created
			}
			name[key] = c.V.UID
		}
		if n := len(specs[c.V.UID]); n == 0 || specs[c.V.UID][n-1].V != c.V {
			specs[c.V.UID] = append(specs[c.V.UID], c)
		}
	}
	schedules := map[[2]string]cron.Schedule{} // of a schedule in a zone
	for _, uid := range order {
		list := specs[uid]
		for i, c := range list {
			if c.V.Suspended {
				continue
			}
			from := c.V.Created
			if i > 0 {
				from = h.Run.Began.Add(c.At)
			}
			to, last := h.Run.Began.Add(until), true
			if i+1 < len(list) && list[i+1].At < until {
				to, last = h.Run.Began.Add(list[i+1].At), false
			}
			if at, ok := heir[uid]; ok && at.Before(to) {
				to, last = at, false
			}
			key := [2]string{c.V.Schedule, c.V.TimeZone}
			schedule, ok := schedules[key]
			if !ok {
				if schedule, err = parseSchedule(c.V); err != nil {
					return nil, unsure, err
				}
				schedules[key] = schedule
			}
			n := 0
			// The controller asks for the times after the creation, not at it.
			var next time.Time
			for at := schedule.Next(from.UTC()); !at.IsZero() && !at.After(to); at = next {
				next = schedule.Next(at)
				if n++; n > maxSlots {
					return nil, unsure, fmt.Errorf("CronJob %s has more than %d slots in the run", c.V.Name, maxSlots)
				}
				if i > 0 && at.Sub(from) < time.Second || !last && to.Sub(at) < time.Second {
					unsure++
					continue
				}
				slots = append(slots, Slot{
					Namespace: c.V.Namespace, CronJob: c.V.Name, CronJobUID: uid, At: at, Next: next,
					Policy: c.V.Policy, Deadline: time.Duration(c.V.Deadline) * time.Second,
				})
			}
		}
	}
	slices.SortStableFunc(slots, func(a, b Slot) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.CronJob, b.CronJob))
	})
	join(h, slots)
	return slots, unsure, nil
}

// slotKey is a slot as the annotation on its Job names it.
type slotKey struct {
	cronJob string // UID
	at      int64  // unix seconds
}

// join finds the Jobs of each slot and the first start of their containers.
func join(h *history.History, slots []Slot) {
	at := make(map[slotKey]*Slot, len(slots))
	for i := range slots {
		at[slotKey{slots[i].CronJobUID, slots[i].At.Unix()}] = &slots[i]
	}
	of := map[string]*Slot{} // by Job UID
	for i := range h.Jobs {
		j := &h.Jobs[i]
		if j.V.Slot.IsZero() || of[j.V.UID] != nil {
			continue
		}
		if s := at[slotKey{j.V.CronJobUID, j.V.Slot.Unix()}]; s != nil {
			of[j.V.UID] = s
			if s.Jobs = append(s.Jobs, j.V.UID); s.Created.IsZero() || j.V.Created.Before(s.Created) {
				s.Created = j.V.Created
			}
		}
	}
	own := map[string]history.Timed[history.Beacon]{} // by pod UID
	for _, b := range h.Beacons {
		own[b.V.UID] = b
	}
	for i := range h.Pods {
		p := &h.Pods[i]
		s := of[p.V.OwnerUID]
		if s == nil {
			continue
		}
		started, bar := p.V.Started, apiSecond
		b, said := own[p.V.UID]
		if said {
			started, bar = h.Run.Began.Add(b.At).UTC(), b.V.Bar
		}
		switch {
		case p.V.Started.IsZero():
			if s.Started.IsZero() && (s.PodCreated.IsZero() || s.Scheduled.IsZero() && !p.V.Scheduled.IsZero()) {
				s.PodCreated, s.Scheduled = p.V.Created, p.V.Scheduled
			}
		case s.Started.IsZero() || started.Before(s.Started):
			s.PodCreated, s.Scheduled, s.Started = p.V.Created, p.V.Scheduled, started
			s.Own, s.Bar = said, bar
		}
	}
}
