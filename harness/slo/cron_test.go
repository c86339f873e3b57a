package slo

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"gameday/harness/history"
)

// cronJob adds a CronJob that was created 5 s after the run began.
func (b *book) cronJob(name, schedule string, change func(c *history.CronJob)) *book {
	c := history.CronJob{Namespace: "ns", Name: name, UID: "uid-" + name, Schedule: schedule, Policy: "Allow", Created: wall(5)}
	if change != nil {
		change(&c)
	}
	return add(b, &b.h.CronJobs, 0, c)
}

// job adds a Job for a slot; its pod's container starts late seconds after the
// slot, or never if late is negative. It runs for 2 s.
func (b *book) job(cron string, slot, late float64, change func(j *history.Job)) *book {
	n := len(b.h.Jobs)
	j := history.Job{
		Namespace: "ns", Name: fmt.Sprintf("%s-%d", cron, n), UID: fmt.Sprintf("job-%d", n),
		CronJob: cron, CronJobUID: "uid-" + cron, Slot: wall(slot), Created: wall(slot), Started: wall(slot),
	}
	if late >= 0 {
		j.Finished, j.Condition, j.Succeeded = wall(slot+late+2), "Complete", 1
	}
	if change != nil {
		change(&j)
	}
	add(b, &b.h.Jobs, slot+.1, j)
	p := history.Pod{Namespace: "ns", Name: j.Name + "-x", UID: "pod-" + j.UID, Owner: "Job/" + j.Name, OwnerUID: j.UID, Node: "w0", Phase: "Pending", Created: wall(slot)}
	add(b, &b.h.Pods, slot+.2, p)
	if late >= 0 {
		p.Phase, p.Node, p.Scheduled, p.Started = "Running", "w0", wall(slot+min(late, 1)), wall(slot+late)
		add(b, &b.h.Pods, slot+late, p)
		p.Phase, p.Finished = "Succeeded", wall(slot+late+2)
		add(b, &b.h.Pods, slot+late+2, p)
	}
	return b
}

// minutes adds a Job for each minute of a run, each late, except those that skip
// names by the second of their slot.
func (b *book) minutes(cron string, to, late float64, skip ...float64) *book {
slots:
	for slot := 60.0; slot <= to; slot += 60 {
		for _, s := range skip {
			if s == slot {
				continue slots
			}
		}
		b.job(cron, slot, late, nil)
	}
	return b
}

func TestCronStartLatency(t *testing.T) {
	// A run of 20 minutes has 20 slots; with bounds of 60 s the last one is too
	// young to be judged.
	const end = 1230
	type results map[string]string // name: verdict and part of the reason
	good := results{"cron.start-latency": "pass: p99 is 1.00 s", "cron.missed": "pass: 0 missed of 19 slots", "cron.duplicate": "pass: 0 of 20 slots"}
	for _, c := range []struct {
		name  string
		set   func(c *CronStartLatency)
		make  func(b *book)
		want  results
		check func(t *testing.T, list []Result)
	}{
		{name: "on time", make: func(b *book) { b.cronJob("a", "* * * * *", nil).minutes("a", 1200, 1) }, want: good, check: func(t *testing.T, list []Result) {
			t.Helper()
			if r := list[0]; r.Samples != 19 || r.Excluded != 1 || r.Observed != 1 || r.Budget != 60 || r.ErrorBar != 1 {
				t.Errorf("%+v", r)
			}
		}},
		{name: "a slot too young to be judged may be missing", make: func(b *book) { b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1) }, want: results{
			"cron.start-latency": "pass: ", "cron.missed": "pass: 0 missed of 19 slots; 1 slot was too young to be judged"}},
		{name: "late", make: func(b *book) { b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 600).job("a", 600, 61, nil) }, want: results{
			"cron.start-latency": "fail: p99 is 61.0 s", "cron.missed": "pass: "}, check: func(t *testing.T, list []Result) {
			t.Helper()
			if e := list[0].Evidence; len(e) != 1 || !strings.Contains(e[0].Text, "a: slot 10:10:00 started 61.0 s late") || e[0].From != sec(600) || e[0].To != sec(661) {
				t.Errorf("%+v", e)
			}
		}},
		{name: "as late as the budget", make: func(b *book) { b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 600).job("a", 600, 60, nil) }, want: results{
			"cron.start-latency": "inconclusive: p99 is 60.0 s: too close to the budget"}},
		{name: "just within", make: func(b *book) { b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 600).job("a", 600, 59, nil) }, want: results{
			"cron.start-latency": "pass: p99 is 59.0 s"}},
		{name: "never started", make: func(b *book) { b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 600).job("a", 600, -1, nil) }, want: results{
			"cron.start-latency": "fail: p99 never started (waited 10m30s)", "cron.missed": "fail: 1 slot was missed; 1 of these has a Job that never started a container"}, check: func(t *testing.T, list []Result) {
			t.Helper()
			if r := list[0]; r.Observed != 630 || !strings.Contains(r.Evidence[0].Text, "pods started no container") {
				t.Errorf("%+v", r)
			}
		}},
		{name: "never started, among so many that no percentile tells", make: func(b *book) {
			for i := range 10 {
				n := fmt.Sprintf("a%d", i)
				b.cronJob(n, "* * * * *", nil).minutes(n, 1140, 1, 600)
				b.job(n, 600, float64(min(1, i)*2-1), nil)
			}
		}, want: results{"cron.start-latency": "pass: p99 is 1.00 s", "cron.missed": "fail: 1 slot was missed; 1 of these has a Job that never"}},
		{name: "never started, pods not seen", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 600).job("a", 600, -1, nil).gap("watch/pods", 610, 620)
		}, want: results{"cron.missed": "inconclusive: 1 slot is without a start, and watch/pods has no data"}},
		{name: "one not seen, but many late", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 300, 600, 660).gap("watch/jobs", 290, 340)
			b.job("a", 600, 61, nil).job("a", 660, 62, nil)
		}, want: results{"cron.start-latency": "fail: p99 never started", "cron.missed": "inconclusive: "}},
		{name: "missed", make: func(b *book) { b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 600) }, want: results{
			"cron.start-latency": "fail: p99 never started", "cron.missed": "fail: 1 slot was missed", "cron.duplicate": "pass"}},
		{name: "missed, allowed, and one more percentile", set: func(c *CronStartLatency) { c.Missed, c.P99, c.Percentile, c.Within = 1, 0, 90, 30*time.Second },
			make: func(b *book) { b.cronJob("a", "* * * * *", nil).minutes("a", 1200, 1, 600) }, want: results{
				"cron.start-latency": "pass: p90 is 1.00 s", "cron.missed": "pass: 1 missed of 19"}},
		{name: "max", set: func(c *CronStartLatency) { c.Max = 20 * time.Second }, make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 600).job("a", 600, 30, nil)
		}, want: results{"cron.start-latency": "fail: max is 30.0 s"}},
		{name: "a promise longer than the run", set: func(c *CronStartLatency) { c.Percentile, c.Within = 99.99, 20*time.Minute },
			make: func(b *book) { b.cronJob("a", "* * * * *", nil).minutes("a", 1200, 1) }, want: results{
				"cron.start-latency": "inconclusive: 0 slots to judge, at least 10 are needed"}},
		{name: "not seen", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 600).gap("watch/jobs", 590, 700)
		}, want: results{
			"cron.start-latency": "inconclusive: a: slot 10:10:00 was late or not seen, and watch/jobs has no data",
			"cron.missed":        "inconclusive: 1 slot is without a start, and watch/jobs has no data from 9:50.00",
			"cron.duplicate":     "inconclusive: a Job may have come and gone unseen"}},
		{name: "a gap that hides nothing", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1).gap("watch/pods", 590, 700)
		}, want: results{"cron.start-latency": "pass", "cron.missed": "pass", "cron.duplicate": "pass"}},
		{name: "twice", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1).job("a", 300, 50, nil)
		}, want: results{"cron.start-latency": "pass: p99 is 1.00 s", "cron.duplicate": "fail: 1 Job was made for a slot more than once"}},
		{name: "by hand", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1).job("a", 300, 50, func(j *history.Job) { j.Slot = time.Time{} })
		}, want: results{"cron.start-latency": "pass", "cron.missed": "1 Job made by hand left out", "cron.duplicate": "pass"}},
		{name: "no CronJob", make: func(*book) {}, want: results{"cron.start-latency": "inconclusive: no CronJob is in the record", "cron.missed": "inconclusive", "cron.duplicate": "inconclusive"}},
		{name: "too few", make: func(b *book) { b.cronJob("a", "*/5 * * * *", nil) }, want: results{"cron.missed": "fail: 3 slots were missed; 3 slots to judge, at least 10 are needed"}},
		{name: "bad schedule", make: func(b *book) { b.cronJob("a", "every day", nil) }, want: results{"cron.start-latency": `inconclusive: schedule "every day" of CronJob a`}},
		{name: "clocks disagree", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1)
			b.h.Pods[1].V.Started = wall(55)
		}, want: results{"cron.start-latency": "inconclusive: 1 container started before the slot"}},
		{name: "suspended for a while", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 300, 360)
			c := b.h.CronJobs[0].V
			c.Suspended = true
			add(b, &b.h.CronJobs, 290, c)
			c.Suspended = false
			add(b, &b.h.CronJobs, 370, c)
		}, want: results{"cron.missed": "pass: 0 missed of 17 slots"}},
		{name: "changed within a second of a slot", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 300)
			c := b.h.CronJobs[0].V
			c.Policy = "Replace"
			add(b, &b.h.CronJobs, 299.5, c)
			add(b, &b.h.CronJobs, 700, c) // told again: no change
		}, want: results{"cron.missed": "pass: 0 missed of 18 slots; 1 slot was too young to be judged when the watches stopped; 1 slot was within a second of a change"}},
		{name: "deleted", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 780, 1)
			c := b.h.CronJobs[0].V
			c.Deleted = true
			add(b, &b.h.CronJobs, 790, c)
		}, want: results{"cron.missed": "fail: 6 slots were missed", "cron.start-latency": "fail: p99 never started"}},
		{name: "deleted and made again", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 780, 1)
			c := b.h.CronJobs[0].V
			c.Deleted = true
			add(b, &b.h.CronJobs, 790, c)
			c.Deleted, c.UID, c.Created = false, "uid-b", wall(905)
			add(b, &b.h.CronJobs, 905, c)
			b.minutes("b", 1140, 1, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 660, 720, 780, 840, 900)
		}, want: results{"cron.missed": "fail: 2 slots were missed"}},
		{name: "twice, of a moment between two specs", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1).job("a", 300, 50, nil)
			c := b.h.CronJobs[0].V
			c.Policy = "Replace"
			add(b, &b.h.CronJobs, 299.5, c)
		}, want: results{"cron.duplicate": "fail: 1 Job was made for a slot more than once"}},
		{name: "missed, Forbid, lawful", make: func(b *book) {
			b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Policy = "Forbid" }).minutes("a", 1200, 1, 540, 600)
			b.job("a", 540, 118, nil)
		}, want: results{"cron.missed": "pass: 0 missed of 19 slots; 1 more was missed lawfully: policy Forbid, and Job a-18 ran all the while", "cron.overlap": "pass: none among 19 Jobs",
			"cron.start-latency": "fail: p99 is 118.0 s"}},
		{name: "missed, Forbid, the Job ended before", make: func(b *book) {
			b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Policy = "Forbid" }).minutes("a", 1200, 1, 540, 600)
			b.job("a", 540, 100, nil)
		}, want: results{"cron.missed": "fail: 1 slot was missed"}},
		{name: "overlap", make: func(b *book) {
			b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Policy = "Forbid" }).minutes("a", 1200, 1, 540)
			b.job("a", 540, 61, nil)
		}, want: results{"cron.overlap": "fail: 1 Job started while another ran, though Forbid or Replace"}},
		{name: "one after the other is no overlap", make: func(b *book) {
			b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Policy = "Forbid" }).minutes("a", 1200, 1, 540)
			b.job("a", 540, 58, nil)
		}, want: results{"cron.overlap": "pass: none among 20 Jobs"}},
		{name: "missed, no API server wrote", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1200, 1, 600)
			for i, e := range []string{"cp0", "cp1", "cp2"} {
				b.series(i+1, "write", e, 1300, down(590, 670))
			}
		}, want: results{"cron.missed": "pass: 0 missed of 19 slots; 1 more was missed lawfully: no API server took a write", "cron.start-latency": "1 slot was missed lawfully"}},
		{name: "missed, one API server wrote", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1200, 1, 600)
			for i, e := range []string{"cp0", "cp1", "cp2"} {
				b.series(i+1, "write", e, 1300, down(590, 670-20*float64(i)))
			}
		}, want: results{"cron.missed": "fail: 1 slot was missed"}},
		{name: "missed, one API server was not written to", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1200, 1, 600).series(1, "write", "cp0", 1300, down(590, 670))
		}, want: results{"cron.missed": "fail: 1 slot was missed"}},
		{name: "any percentile", set: func(c *CronStartLatency) {
			c.P99, c.More = 0, Percentiles{"p50": 2500 * time.Millisecond, "p99.99": 50 * time.Second}
		}, make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 600).job("a", 600, 55, nil)
		}, want: results{"cron.start-latency": "fail: p99.99 is 55.0 s; p50 is 1.00 s; p99.99 of 19 slots is the latest of them: 10000 leave one out"}},
		{name: "a percentile that leaves one out", set: func(c *CronStartLatency) { c.P99, c.More = 0, Percentiles{"p90": 20 * time.Second} }, make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1200, 1, 600).job("a", 600, 55, nil)
		}, want: results{"cron.start-latency": "pass: p90 is 1.00 s; by hop, p50/p99/max: job 0/0/0 s, pod 0/0/0 s, scheduled 1/1/1 s, started 0/54/54 s; the latest start was 55.0 s"}},
		{name: "a controller that is late, hop by hop", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 600).job("a", 600, 61, func(j *history.Job) { j.Created = wall(648) })
			for i := range b.h.Pods {
				if p := &b.h.Pods[i].V; p.OwnerUID == "job-18" {
					p.Created, p.Scheduled = wall(650), wall(655)
				}
			}
		}, want: results{"cron.start-latency": "1 Job was caught up late, up to 48.0 s after it was due"}, check: func(t *testing.T, list []Result) {
			t.Helper()
			if e := list[0].Evidence; len(e) != 1 || !strings.Contains(e[0].Text, "started 61.0 s late: job after 48.0 s, pod after 2.00 s, scheduled after 5.00 s, started after 6.00 s") {
				t.Errorf("%+v", e)
			}
			if hops := list[0].Hops; len(hops) != 4 || hops[0] != (Hop{"job", 19, 0, 0, 48, 48}) {
				t.Errorf("%+v", hops)
			}
		}},
		{name: "a phase allows another percentile", set: func(c *CronStartLatency) {
			c.More = Percentiles{"p99.9": 65 * time.Second}
			c.During = []CronDuring{{Phases: []string{"upgrade/*/etcd"}, After: 10 * time.Second, P99: 90 * time.Second}}
		}, make: func(b *book) {
			b.step(590, 630, "upgrade/control-plane[0]/etcd", "cp0", "proceeded", "")
			b.cronJob("a", "* * * * *", nil).minutes("a", 1080, 1, 600).job("a", 600, 80, nil)
		}, want: results{"cron.start-latency": "pass: p99 is 1.00 s elsewhere; p99.9 is 1.00 s elsewhere; p99 is 80.0 s during upgrade/*/etcd; p99.9 is 80.0 s during"}},
		{name: "a name of 52 characters", make: func(b *book) {
			name := strings.Repeat("n", 52)
			b.cronJob(name, "* * * * *", nil).minutes(name, 1140, 1, 600)
		}, want: results{"cron.missed": "fail: 1 slot was missed", "cron.unscheduled": "pass: none among 18 Jobs"}},
		{name: "Forbid holds a slot back: late from the end of the Job before", make: func(b *book) {
			b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Policy = "Forbid" }).minutes("a", 1200, 1, 540, 600)
			b.job("a", 540, 1, func(j *history.Job) { j.Finished = wall(642) }).job("a", 600, 45, func(j *history.Job) { j.Created, j.Started = wall(642), wall(642) })
		}, set: func(c *CronStartLatency) { c.P99, c.More = 0, Percentiles{"p94": 20 * time.Second} },
			want: results{"cron.start-latency": "pass: p94 is 1.00 s", "cron.overlap": "pass", "cron.missed": "pass: 0 missed of 20"}, check: func(t *testing.T, list []Result) {
				t.Helper()
				want(t, list[0], Pass, "1 slot waited for the Job before, as policy Forbid says")
			}},
		{name: "missed, every controller manager was away, and the last slot is caught up", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 300, 360, 420, 480).job("a", 480, 55, func(j *history.Job) { j.Created = wall(533) })
			b.fault("gone", "", "cp0", 290, 515)
			for i := range b.h.Injections {
				b.h.Injections[i].V.Fault, b.h.Injections[i].V.Nodes = "controller-manager.crash-loop", []string{"cp0", "cp1", "cp2"}
			}
		}, want: results{"cron.missed": "pass: 0 missed of 19 slots; 3 more were missed lawfully: gone took every controller manager", "cron.start-latency": "1 Job was caught up late, up to 53.0 s"}},
		{name: "missed, one controller manager was away", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 300)
			b.fault("gone", "", "cp0", 290, 515)
			for i := range b.h.Injections {
				b.h.Injections[i].V.Fault = "controller-manager.crash-loop"
			}
		}, want: results{"cron.missed": "fail: 1 slot was missed"}},
		{name: "missed, one controller manager was away and the deadline passed", make: func(b *book) {
			b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Deadline = 10 }).minutes("a", 1140, 1, 300)
			b.fault("gone", "", "cp0", 299, 515)
			for i := range b.h.Injections {
				b.h.Injections[i].V.Fault = "controller-manager.crash-loop"
			}
		}, want: results{"cron.missed": "1 more was missed lawfully: gone may have taken the leading controller manager until the starting deadline of 10.0 s had passed"}},
		{name: "missed, a controller manager was upgraded and the deadline passed", make: func(b *book) {
			b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Deadline = 10 }).minutes("a", 1140, 1, 300, 600)
			b.step(290, 301, "upgrade/control-plane[0]/kube-controller-manager", "cp0", "proceeded", "")
		}, want: results{"cron.missed": "fail: 1 slot was missed"}, check: func(t *testing.T, list []Result) {
			t.Helper()
			if e := named(t, list, "cron.missed").Evidence; len(e) != 2 || !strings.Contains(e[0].Text, "lawfully: upgrade/control-plane[0]/kube-controller-manager may") {
				t.Errorf("%+v", e)
			}
		}},
		{name: "missed more than 100: the last one starts all the same", make: func(b *book) {
			b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Created = zero.Add(-3 * time.Hour) })
			b.job("a", -60, 30, nil).job("a", 0, 1, nil).minutes("a", 1140, 1)
			b.fault("gone", "", "cp0", -3*3600, -60)
			for i := range b.h.Injections {
				b.h.Injections[i].V.Fault, b.h.Injections[i].V.Nodes = "controller-manager.pause", []string{"cp0", "cp1", "cp2"}
			}
		}, want: results{"cron.missed": "pass: 0 missed of 199 slots; 178 more were missed lawfully"}},
		{name: "overlap, Replace", make: func(b *book) {
			b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Policy = "Replace" }).minutes("a", 1200, 1, 540)
			b.job("a", 540, 70, nil)
		}, want: results{"cron.overlap": "fail: 1 Job started while another ran, though Forbid or Replace"}},
		{name: "replaced, told a moment late", make: func(b *book) {
			b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Policy = "Replace" }).minutes("a", 1200, 1, 540)
			b.job("a", 540, -1, nil)
			gone := b.h.Jobs[len(b.h.Jobs)-1].V
			gone.Deleted = true
			add(b, &b.h.Jobs, 601.5, gone)
		}, want: results{"cron.overlap": "pass: none among 20 Jobs"}},
		{name: "a Job for a moment that is no slot", make: func(b *book) {
			b.cronJob("a", "*/2 * * * *", nil).minutes("a", 1140, 1)
		}, want: results{"cron.unscheduled": "fail: 10 Jobs were made that no schedule asked for"}},
		{name: "a Job in another zone than its CronJob's", make: func(b *book) {
			b.cronJob("a", "30 15 * * *", func(c *history.CronJob) { c.TimeZone = "Asia/Kolkata" }).job("a", 1800, 1, nil)
		}, want: results{"cron.unscheduled": "fail: 1 Job was made that no schedule asked for"}},
		{name: "made while suspended", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1)
			c := b.h.CronJobs[0].V
			c.Suspended = true
			add(b, &b.h.CronJobs, 290, c)
			c.Suspended = false
			add(b, &b.h.CronJobs, 310, c)
		}, want: results{"cron.unscheduled": "fail: 1 Job was made that no schedule", "cron.missed": "pass: 0 missed of 18"}, check: func(t *testing.T, list []Result) {
			t.Helper()
			if e := named(t, list, "cron.unscheduled").Evidence; len(e) != 1 || !strings.Contains(e[0].Text, "was made for 10:05:00, though its CronJob was suspended") {
				t.Errorf("%+v", e)
			}
		}},
		{name: "caught up when it was suspended no more", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1, 300, 360).job("a", 360, 12, func(j *history.Job) { j.Created = wall(370) })
			c := b.h.CronJobs[0].V
			c.Suspended = true
			add(b, &b.h.CronJobs, 290, c)
			c.Suspended = false
			add(b, &b.h.CronJobs, 370, c)
		}, want: results{"cron.unscheduled": "pass: none among 18 Jobs; 1 Job was for a slot that was not owed", "cron.missed": "pass: 0 missed of 17"}},
		{name: "a change of a CronJob may have been missed", make: func(b *book) {
			b.cronJob("a", "* * * * *", nil).minutes("a", 1140, 1).gap("watch/cronjobs", 590, 592)
		}, want: results{"cron.unscheduled": "inconclusive: a Job or a change of a CronJob may have gone unseen"}},
		{name: "missed, deadline", make: func(b *book) {
			b.cronJob("a", "* * * * *", func(c *history.CronJob) { c.Deadline = 20 }).minutes("a", 1200, 1, 600)
			for i, e := range []string{"cp0", "cp1", "cp2"} {
				b.series(i+1, "write", e, 1300, down(595, 625))
			}
		}, want: results{"cron.missed": "pass: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(end)
			c.make(b)
			k := newCronStartLatency().(*CronStartLatency)
			if c.set != nil {
				c.set(k)
			}
			if errs := k.Validate(); errs != nil {
				t.Fatal(errs)
			}
			list := Judge(b.h, []Named{{"cron.start-latency", k}})
			for name, text := range c.want {
				r := named(t, list, name)
				if got := string(r.Verdict) + ": " + r.Reason; !strings.Contains(got, text) {
					t.Errorf("%s: %s\nwant %q", name, got, text)
				}
			}
			if c.check != nil {
				c.check(t, list)
			}
		})
	}
}

// Slots must be those of the controller, in every zone and over a change of the
// clock.
func TestSlots(t *testing.T) {
	for _, c := range []struct {
		name, schedule, zone string
		began                time.Time
		want                 []string
	}{
		{"each minute", "* * * * *", "", zero, []string{"10:01:00", "10:02:00", "10:03:00"}},
		{"creation is not a slot", "0 * * * *", "", zero, nil},
		{"zone", "2 15 * * *", "Asia/Kolkata", zero.Add(-30 * time.Minute), []string{"09:32:00"}},
		{"zone in the schedule", "TZ=Asia/Kolkata 2 15 * * *", "Europe/Berlin", zero.Add(-30 * time.Minute), []string{"09:32:00"}},
		{"unknown zone is the controller's own", "2 10 * * *", "Mars/Base", zero, []string{"10:02:00"}},
		{"the hour that does not exist", "1 2 * * *", "Europe/Berlin", time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), nil},
		{"the hour that comes twice", "1 2 * * *", "Europe/Berlin", time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC), []string{"00:01:00"}},
		{"every", "@every 90s", "", zero, []string{"10:01:30", "10:03:00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(200)
			b.h.Run.Began = c.began
			b.cronJob("a", c.schedule, func(j *history.CronJob) { j.TimeZone, j.Created = c.zone, c.began })
			slots, _, err := Slots(b.h, sec(199))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range slots {
				got = append(got, s.At.Format("15:04:05"))
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	b := newBook(200)
	b.h.Run.Began = zero.Add(-500 * 24 * time.Hour)
	b.cronJob("a", "* * * * *", func(j *history.CronJob) { j.Created = b.h.Run.Began })
	if _, _, err := Slots(b.h, 499*24*time.Hour); err == nil || !strings.Contains(err.Error(), "more than 100000 slots") {
		t.Errorf("unbounded: %v", err)
	}
}

func TestCronStartLatencyValidate(t *testing.T) {
	for _, c := range []struct {
		c    CronStartLatency
		want string
	}{
		{CronStartLatency{Min: 1}, "no latency would be judged"},
		{CronStartLatency{Min: 1, P99: 1, Percentile: 50}, "belong together"},
		{CronStartLatency{Min: 1, Percentile: 101, Within: 1}, "not between 0 and 100"},
		{CronStartLatency{Min: 1, P99: -1}, "below 0"},
		{CronStartLatency{Min: 1, P99: 1, Missed: -1}, "missed: -1 is below 0"},
		{CronStartLatency{P99: 1}, "prove nothing"},
		{CronStartLatency{Min: 1, P99: 1, More: Percentiles{"p99.9": 0}}, "p99.9: 0s is no bound"},
		{CronStartLatency{Min: 1, P99: 1, During: []CronDuring{{Phases: []string{"x"}}}}, "nothing is other than outside"},
		{CronStartLatency{Min: 1, P99: 1, During: []CronDuring{{Phases: []string{"x"}, More: Percentiles{"p50": -1}}}}, "during[0].p50"},
	} {
		if errs := c.c.Validate(); len(errs) != 1 || !strings.Contains(errs[0].Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.c, errs, c.want)
		}
	}
}

func TestPercentileNames(t *testing.T) {
	names := regexp.MustCompile(Percentiles{}.KeyPattern())
	for name, want := range map[string]bool{"p50": true, "p99.99": true, "p5": true, "p99.9999": true, "p0": false, "p100": false, "p99.": false, "p99.99999": false, "max": false, "p099": false} {
		if names.MatchString(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	for p, want := range map[float64]int{.5: 2, .9: 10, .99: 100, .999: 1000, .9999: 10000} {
		if n := enough(p); n != want || rank(n, p) != n-1 || rank(n-1, p) != n-1 {
			t.Errorf("%v: %d, %d of %d, %d of %d", p, n, rank(n, p), n, rank(n-1, p), n-1)
		}
	}
}

// beacons adds what the container of every Job's pod says of its start: so long
// after its slot, by a clock that is known within 4 ms.
func (b *book) beacons(late float64) *book {
	for _, j := range b.h.Jobs {
		at := j.V.Slot.Sub(zero).Seconds() + late
		add(b, &b.h.Beacons, at, history.Beacon{Namespace: "ns", Pod: j.V.Name + "-x", UID: "pod-" + j.V.UID, Node: "w0", Alive: sec(at + 2), Ended: true, Bar: 4 * time.Millisecond})
	}
	return b
}

// The container's own clock says when it started; without it the API does, which
// cuts the start to the second.
func TestCronStartByTheContainersClock(t *testing.T) {
	for _, c := range []struct {
		name     string
		own      bool
		late     float64
		verdict  Verdict
		reason   string
		observed float64
		bar      float64
	}{
		{"own, below", true, 59.98, Pass, "19 of 19 starts are by the containers' own clocks (+-4 ms)", 59.98, .004},
		{"own, at the edge from below", true, 59.998, Inconclusive, "too close to the budget for its error bar", 59.998, .004},
		{"own, at the edge from above", true, 60.002, Inconclusive, "too close to the budget for its error bar", 60.002, .004},
		{"own, above", true, 60.01, Fail, "p99 is 60.0 s", 60.01, .004},
		{"by the API, below", false, 58.5, Pass, "p99 is 58.0 s", 58, 1},
		{"by the API, at the edge", false, 60.5, Inconclusive, "too close to the budget for its error bar", 60, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(1230).cronJob("a", "* * * * *", nil).minutes("a", 1140, c.late)
			if c.own {
				b.beacons(c.late)
			}
			r := named(t, newCronStartLatency().Check(b.h), "cron.start-latency")
			want(t, r, c.verdict, c.reason)
			if r.Observed != c.observed || r.ErrorBar != c.bar {
				t.Errorf("observed %v +-%v, not %v +-%v", r.Observed, r.ErrorBar, c.observed, c.bar)
			}
		})
	}
}
