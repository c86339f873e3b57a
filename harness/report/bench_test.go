package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"syscall"
	"testing"
	"time"

	"gameday/harness/history"
	"gameday/harness/slo"
)

// million is the record of an hour with a million events: 1,000 CronJobs that start
// a Job each minute, 10 Deployments of 1,000 pods, of which one node's are drained,
// and twenty series of samples.
func million() []history.Event {
	const hour, crons, owners, replicas = 3600, 1000, 10, 1000
	sec := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	wall := func(s float64) time.Time { return began.Add(sec(s)).Truncate(time.Second) }
	var out []history.Event
	add := func(at float64, e history.Event) {
		e.Seq, e.At = int64(len(out)+1), sec(at)
		out = append(out, e)
	}
	out = append(out, aRun())
	out[0].Seq = 1
	add(0, history.Event{Stage: &history.Stage{Name: "steady", State: "began"}})
	for i := range 6 {
		place := fmt.Sprintf("worker[%d]", i-3)
		if i < 3 {
			place = fmt.Sprintf("control-plane[%d]", i)
		}
		add(0, history.Event{Node: &history.Node{Name: fmt.Sprintf("n%d", i), Place: place, Ready: "True", Version: "v1.36.1"}})
	}
	for i := range crons {
		name := fmt.Sprintf("cron-%d", i)
		add(0, history.Event{CronJob: &history.CronJob{Namespace: "ns", Name: name, UID: name, Schedule: "* * * * *", TimeZone: "Etc/UTC", Policy: "Forbid", Created: wall(1)}})
	}
	pod := func(at float64, p history.Pod) { add(at, history.Event{Pod: &p}) }
	serve := func(at float64, owner, name, node string) history.Pod {
		p := history.Pod{Namespace: "ns", Name: name, UID: name, Owner: "ReplicaSet/" + owner + "-5b5b5b", OwnerUID: owner, Phase: "Pending", Created: wall(at)}
		pod(at, p)
		p.Node, p.Scheduled = node, wall(at)
		pod(at, p)
		p.Phase, p.Started, p.Containers, p.Ready = "Running", wall(at+1), []string{"containerd://" + name}, true
		pod(at+2, p)
		return p
	}
	var first []history.Pod
	for o := range owners {
		owner := fmt.Sprintf("web-%02d", o)
		add(1, history.Event{Budget: &history.Budget{Namespace: "ns", Owner: "ReplicaSet/" + owner, Desired: replicas, MinAvailable: replicas * 9 / 10}})
		for i := range replicas {
			first = append(first, serve(2, owner, fmt.Sprintf("%s-%d", owner, i), fmt.Sprintf("n%d", 3+i%3)))
		}
	}
	add(10, history.Event{Stage: &history.Stage{Name: "steady", State: "ended"}})
	for id := range 20 {
		add(10, history.Event{Series: &history.Series{ID: id + 1, Verb: []string{"read", "quorum-read", "write"}[id%3], Conn: []string{"new", "reused"}[id%2], Endpoint: []string{"lb", "n0", "n1", "n2"}[id/5], Period: 200 * time.Millisecond, Deadline: 5 * time.Second}})
	}
	add(600, history.Event{Phase: &history.Phase{Path: "upgrade/worker[0]", Node: "n3", State: "began"}})
	for s := 10; s < hour; s++ {
		at := float64(s)
		if s%60 == 0 {
			for i := range crons {
				name, cron := fmt.Sprintf("cron-%d-%d", i, s), fmt.Sprintf("cron-%d", i)
				j := history.Job{Namespace: "ns", Name: name, UID: name, CronJob: cron, CronJobUID: cron, Slot: wall(at), Created: wall(at), Started: wall(at)}
				add(at, history.Event{Job: &j})
				p := history.Pod{Namespace: "ns", Name: name + "-x", UID: name + "-x", Owner: "Job/" + name, OwnerUID: name, Phase: "Pending", Created: wall(at)}
				pod(at+.1, p)
				p.Node, p.Scheduled = fmt.Sprintf("n%d", 3+i%3), wall(at)
				pod(at+.2, p)
				p.Phase, p.Started, p.Containers = "Running", wall(at+1), []string{"containerd://" + name}
				pod(at+1, p)
				p.Phase, p.Finished, p.Containers = "Succeeded", wall(at+3), nil
				pod(at+3, p)
				done := j
				done.Finished, done.Condition, done.Succeeded = wall(at+3), "Complete", 1
				add(at+3, history.Event{Job: &done})
				p.Deleted = true
				pod(at+30, p)
				done.Deleted = true
				add(at+30, history.Event{Job: &done})
			}
		}
		for id := range 20 {
			for n := range 6 {
				ok := s < 1000 || s > 1002
				add(at+float64(n)/6, history.Event{Sample: &history.Sample{Series: id + 1, Took: 3 * time.Millisecond, OK: ok}})
			}
		}
		add(at, history.Event{Write: &history.Write{Key: fmt.Sprint(s), Endpoint: "lb", Outcome: "ok", Revision: int64(s), Took: 3 * time.Millisecond}})
	}
	// Drained, one in three; replaced on another node.
	for i, p := range first {
		if p.Node != "n3" {
			continue
		}
		at := 601 + float64(i)/50
		p.Disruption, p.Deleting, p.Grace = "EvictionByEvictionAPI", wall(at+30), 30
		pod(at, p)
		p.Deleted = true
		pod(at+2, p)
		serve(at, p.OwnerUID, p.Name+"-new", "n4")
	}
	add(900, history.Event{Phase: &history.Phase{Path: "upgrade/worker[0]", Node: "n3", State: "ended", Outcome: "proceeded"}})
	for i := range 3 {
		add(hour, history.Event{Kept: &history.Kept{Member: fmt.Sprintf("n%d", i), Read: hour - 10, Revision: hour, Hash: 7}})
	}
	add(hour, history.Event{Stage: &history.Stage{Name: "final", State: "began"}})
	add(hour+1, history.Event{End: &history.End{}})
	return out
}

// BenchmarkMillion loads, judges and draws a record of a million events: go test
// -run xxx -bench Million -benchtime 1x ./harness/report
func BenchmarkMillion(b *testing.B) {
	var file bytes.Buffer
	enc := json.NewEncoder(&file)
	events := million()
	for _, e := range events {
		if err := enc.Encode(e); err != nil {
			b.Fatal(err)
		}
	}
	h, err := history.Read(bytes.NewReader(file.Bytes()))
	if err != nil {
		b.Fatal(err)
	}
	var all []slo.Named
	for _, k := range slo.Catalogue() {
		all = append(all, slo.Named{Name: k.Name, Checker: k.New()})
	}
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			if h, err = history.Read(bytes.NewReader(file.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(events)), "events")
	})
	for _, n := range all {
		b.Run("judge/"+n.Name, func(b *testing.B) {
			for b.Loop() {
				slo.Judge(h, []slo.Named{n})
			}
		})
	}
	b.Run("judge-and-render", func(b *testing.B) {
		size, rounds, before := 0, 0, cpu(b)
		for b.Loop() {
			rounds++
			d := slo.Make(h, slo.Judge(h, all))
			page, err := HTML(h, d)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := JUnit(h, d); err != nil {
				b.Fatal(err)
			}
			size = len(page)
			for _, r := range d.SLOs {
				switch r.Name {
				case "cron.missed", "pods.unexplained", "pods.stuck-pending", "pods.stuck-terminating", "jobs.killed":
					if r.Verdict != slo.Pass {
						b.Errorf("%s: %s: %s", r.Name, r.Verdict, r.Reason)
					}
				}
			}
		}
		b.ReportMetric(float64(size), "page-bytes")
		b.ReportMetric((cpu(b)-before).Seconds()/float64(rounds), "cpu-s/op")
	})
}

// cpu is what this process used, so far: what a busy machine cannot change.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
