package slo

import (
	"fmt"
	"testing"
	"time"

	"gameday/harness/history"
)

// byHand adds the steps of an upgrade by hand that stops every controller manager at
// 290 s and starts the first new one at 500 s.
func (b *book) byHand(stopped ...string) *book {
	b.step(280, 530, "upgrade", "", "proceeded", "")
	for _, n := range stopped {
		b.step(285, 290, "upgrade/control-plane["+n+"]/stop-kube-controller-manager", "cp"+n, "proceeded", "proceed")
	}
	for i := range 3 {
		b.step(500+10*float64(i), 505+10*float64(i), fmt.Sprintf("upgrade/control-plane[%d]/kube-controller-manager", i), fmt.Sprintf("cp%d", i), "proceeded", "proceed")
	}
	return b
}

func TestCronJobLatency(t *testing.T) {
	late := func(seconds float64) func(j *history.Job) {
		return func(j *history.Job) { j.Created = wall(480 + seconds) }
	}
	for _, c := range []struct {
		name   string
		set    CronJobLatency
		make   func(b *book)
		want   Verdict
		reason string
	}{
		// That containers start late is nothing of the controller's.
		{"in time", CronJobLatency{Max: 5 * time.Second}, func(b *book) { b.minutes("a", 1200, 45) }, Pass, "max is 0 s"},
		{"no container", CronJobLatency{Max: 5 * time.Second}, func(b *book) { b.minutes("a", 1200, -1) }, Pass, "max is 0 s"},
		{"late", CronJobLatency{Max: 5 * time.Second}, func(b *book) { b.minutes("a", 1200, 1, 480).job("a", 480, 9, late(8)) }, Fail, "max is 8.00 s"},
		{"no Job", CronJobLatency{Max: 5 * time.Second}, func(b *book) { b.minutes("a", 1200, 1, 480) }, Fail, "max never started"},
		{"the upgrade had stopped them all", CronJobLatency{Max: 5 * time.Second, During: []CronDuring{{Phases: []string{"upgrade"}, After: 30 * time.Second, Max: 90 * time.Second}}}, func(b *book) {
			b.minutes("a", 1200, 1, 300, 360, 420, 480).job("a", 480, 40, late(25)).byHand("0", "1", "2")
		}, Pass, "3 slots were missed lawfully"},
		{"the upgrade had stopped all but one", CronJobLatency{Max: 5 * time.Second}, func(b *book) {
			b.minutes("a", 1200, 1, 300, 360).byHand("0", "2")
		}, Fail, "2 slots never started"},
		{"they were back", CronJobLatency{Max: 5 * time.Second}, func(b *book) {
			b.minutes("a", 1200, 1, 300, 360, 420, 480, 540).byHand("0", "1", "2")
		}, Fail, "3 slots were missed lawfully"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(1230).cronJob("a", "* * * * *", nil)
			c.make(b)
			c.set.Min = 10
			list := c.set.Check(b.h)
			if len(list) != 1 || list[0].Name != "cron.job-latency" {
				t.Fatalf("got %+v", list)
			}
			want(t, list[0], c.want, c.reason)
		})
	}
	if errs := (&CronJobLatency{Min: 1}).Validate(); len(errs) != 1 {
		t.Errorf("nothing is judged: %v", errs)
	}
}
