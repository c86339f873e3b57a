package report

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/harness/history"
	"gameday/harness/sample"
	"gameday/harness/slo"
)

// lanesOf is a group of the timeline as text: each bar and dot a line.
func lanesOf(t *testing.T, h *history.History, results []slo.Result, group string) []string {
	t.Helper()
	for _, g := range timeline(h, slo.Make(h, results)).Groups {
		if g.Name != group {
			continue
		}
		var out []string
		for _, l := range g.Lanes {
			for _, b := range l.Bars {
				out = append(out, fmt.Sprintf("%s: %s %g-%g", l.Name, b.Class, b.A, b.B))
			}
			for _, d := range l.Dots {
				out = append(out, fmt.Sprintf("%s: %s at %g", l.Name, d.Class, d.T))
			}
		}
		return out
	}
	t.Fatalf("no group %q", group)
	return nil
}

func TestTimeline(t *testing.T) {
	whole := load(t, events()...)
	node := func(ms int, n history.Node) history.Event { return after(ms, history.Event{Node: &n}) }
	etcd := func(ms int, e history.Etcd) history.Event { return after(ms, history.Event{Etcd: &e}) }
	for _, tc := range []struct {
		name, group string
		h           *history.History
		want        []string
	}{
		{"phases", "Upgrade", whole, []string{
			"upgrade: b-bad 80100-122000", "control-plane[1]: b-bad 80200-120000", "etcd: b-phase2 81000-110000"}},
		{"phases that never end", "Upgrade", load(t, aRun(), phase(1000, "upgrade", "began", "", "", ""), phase(2000, "upgrade/worker[0]", "began", "", "proceed", ""), stage(9000, "x", "began", "", "")), []string{
			"upgrade: b-bad 1000-9000", "worker[0]: b-bad 2000-9000"}},
		{"a phase that comes twice", "Upgrade", load(t, aRun(), phase(1000, "upgrade/worker[0]", "began", "", "", ""), phase(2000, "upgrade/worker[0]", "ended", "blocked", "", ""),
			phase(3000, "upgrade/worker[0]", "began", "", "", ""), phase(4000, "upgrade/worker[0]", "ended", "proceeded", "", "")), []string{
			"worker[0]: b-bad 1000-2000", "worker[0]: b-phase 3000-4000"}},
		{"faults: asked, proven, healed; one that never was", "Faults", whole, []string{
			"drop-etcd: b-asked 82000-101900", "drop-etcd: b-fault 82084-101900", "drop-etcd: d-ok at 101000", "nobody: b-asked 121000-121001"}},
		{"a fault that is still there", "Faults", load(t, aRun(), injection(1000, "f", "requested", history.Injection{}), injection(1000, "f", "injected", history.Injection{}), injection(1500, "f", "proven", history.Injection{}), stage(9000, "x", "began", "", "")), []string{
			"f: b-asked 1000-9000", "f: b-fault 1500-9000"}},
		{"a fault that was injected and is not proven yet", "Faults", load(t, aRun(), injection(1000, "f", "requested", history.Injection{}), injection(1000, "f", "injected", history.Injection{}), stage(9000, "x", "began", "", "")), []string{
			"f: b-asked 1000-9000"}},
		{"stages", "Run", whole, []string{
			"stages: b-stage 100-58100", "stages: b-stage 58200-60000", "stages: b-stage 60000-80000", "stages: b-bad 80000-122100"}},
		{"nodes: version, cordon, NotReady, deleted", "Nodes", load(t, aRun(),
			node(0, history.Node{Name: "w", Place: "worker[0]", Ready: "True", Version: "v1.36.1"}),
			node(1000, history.Node{Name: "w", Place: "worker[0]", Ready: "True", Version: "v1.36.1", Unschedulable: true}),
			node(2000, history.Node{Name: "w", Place: "worker[0]", Ready: "Unknown", Version: "v1.37.0"}),
			node(3000, history.Node{Name: "w", Place: "worker[0]", Ready: "True", Version: "v1.37.0"}),
			node(4000, history.Node{Name: "w", Place: "worker[0]", Deleted: true}), stage(5000, "x", "began", "", "")), []string{
			"worker[0]: b-old 0-1000", "worker[0]: b-old 1000-2000", "worker[0]: b-cordon 1000-2000",
			"worker[0]: b-new 2000-3000", "worker[0]: b-bad 2000-3000", "worker[0]: b-new 3000-4000"}},
		{"etcd: leader, down, learner, member; by place", "etcd", load(t, aRun(),
			node(0, history.Node{Name: "cp", Place: "control-plane[0]", Ready: "True"}),
			etcd(0, history.Etcd{Node: "cp", Healthy: true, Leader: true}), etcd(1000, history.Etcd{Node: "cp", Err: "refused"}),
			etcd(2000, history.Etcd{Node: "cp", Healthy: true, Learner: true}), etcd(3000, history.Etcd{Node: "cp", Healthy: true}), stage(5000, "x", "began", "", "")), []string{
			"control-plane[0]: b-leader 0-1000", "control-plane[0]: b-bad 1000-2000", "control-plane[0]: b-cordon 2000-3000", "control-plane[0]: b-member 3000-5000"}},
		{"promises: what counted and what did not", "Promises: what was spent of them, and when", whole, []string{
			"✗ api.write: b-spent 90000-105000", "✗ api.write: b-spent 95000-96000", "✗ api.write: b-spent 123000-124000", "✗ api.write: b-beside 90000-120000"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, lanesOf(t, tc.h, results(), tc.group)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
	if from := timeline(whole, slo.Make(whole, nil)).From; from != 58200 {
		t.Errorf("the first view begins at %g, not where the load does", from)
	}
}

func TestCronAndPodLanes(t *testing.T) {
	slot := began.Add(time.Minute)
	job := func(name string) history.Event {
		return after(61000, history.Event{Job: &history.Job{Name: name, UID: name, CronJob: "cron", Slot: slot}})
	}
	pod := func(ms int, p history.Pod) history.Event { return after(ms, history.Event{Pod: &p}) }
	h := load(t, aRun(), job("started"), job("started"), job("lost"),
		pod(62000, history.Pod{Name: "a", UID: "a", Owner: "Job/started", Started: slot.Add(30 * time.Second)}),
		pod(63000, history.Pod{Name: "b", UID: "b", Owner: "ReplicaSet/web"}),
		after(63500, history.Event{Phase: &history.Phase{Path: "upgrade/worker[0]", Node: "w0", State: "began"}}),
		pod(64000, history.Pod{Name: "b", UID: "b", Owner: "ReplicaSet/web", Node: "w0", Deleting: began.Add(64 * time.Second), Disruption: "EvictionByEvictionAPI"}),
		pod(65000, history.Pod{Name: "c", UID: "c", Owner: "ReplicaSet/web"}),
		pod(66000, history.Pod{Name: "c", UID: "c", Owner: "ReplicaSet/web", Node: "w1", Deleting: began.Add(66 * time.Second), Disruption: "EvictionByEvictionAPI"}),
		stage(70000, "run", "ended", "", ""))
	if d := cmp.Diff([]string{"all CronJobs: d-ok at 60000", "all CronJobs: d-miss at 60000"}, lanesOf(t, h, nil, "Cron slots: height is lateness (0 to 60 s)")); d != "" {
		t.Errorf("slots (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"Job: d-ok at 62000", "ReplicaSet: d-ok at 63000", "ReplicaSet: d-move at 64000", "ReplicaSet: d-ok at 65000", "ReplicaSet: d-lost at 66000"},
		lanesOf(t, h, nil, "Pods of the workload")); d != "" {
		t.Errorf("pods (-want +got):\n%s", d)
	}
}

// A slot of which there is no Job must be seen, too.
func TestMissedSlotsAreDrawn(t *testing.T) {
	h := load(t, aRun(), after(1000, history.Event{CronJob: &history.CronJob{Name: "cron", UID: "c", Schedule: "* * * * *", Policy: "Allow", Created: began}}),
		after(60000, history.Event{Job: &history.Job{Name: "one", UID: "one", CronJob: "cron", CronJobUID: "c", Slot: began.Truncate(time.Minute).Add(time.Minute)}}),
		after(61000, history.Event{Pod: &history.Pod{Name: "a", UID: "a", Owner: "Job/one", OwnerUID: "one", Started: began.Add(time.Minute)}}),
		stage(150000, "run", "ended", "", ""))
	first := float64(began.Truncate(time.Minute).Add(time.Minute).Sub(began).Milliseconds())
	want := []string{fmt.Sprintf("all CronJobs: d-ok at %g", first), fmt.Sprintf("all CronJobs: d-miss at %g", first+60000)}
	if d := cmp.Diff(want, lanesOf(t, h, nil, "Cron slots: height is lateness (0 to 60 s)")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLatency(t *testing.T) {
	one := func(ms int, s history.Sample) history.Event {
		s.Series = 1
		return after(ms, history.Event{Sample: &s})
	}
	h := load(t, aRun(), history.Event{Series: &history.Series{ID: 1}},
		one(100, history.Sample{OK: true, Took: 3 * time.Millisecond}),
		one(200, history.Sample{OK: true, Took: 5 * time.Millisecond}),
		one(300, history.Sample{OK: true, Took: 90 * time.Millisecond}),
		one(400, history.Sample{Took: 2 * time.Second, Err: "timeout"}),
		one(500, history.Sample{Err: sample.NotSent}),
		one(2500, history.Sample{OK: true, Took: time.Microsecond}))
	want := &band{Step: 1000, P50: []int{5, 0, 1}, Max: []int{90, 0, 1}, Good: []int{3, 0, 1}, Bad: []int{1, 0, 0}}
	if d := cmp.Diff(want, latency(h, 1)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// However long the run and however much went on, the page stays of a size that
// a browser is quick with.
func TestTimelineIsBounded(t *testing.T) {
	const length, series, samples = 48 * time.Hour, 16, 1_000_000
	h := load(t, aRun())
	h.Last = length
	for id := range series {
		h.Series[id] = history.Series{ID: id, Verb: "read", Conn: "new", Endpoint: fmt.Sprint(id), Period: time.Second, Deadline: time.Second}
		list := make([]history.Timed[history.Sample], samples/series)
		for i := range list {
			// Bad twice, good twice: an outage every fourth sample.
			list[i] = history.Timed[history.Sample]{At: length / time.Duration(len(list)) * time.Duration(i), V: history.Sample{Series: id, OK: i&2 == 0, Took: time.Duration(i%1000) * time.Millisecond, Err: "refused"}}
		}
		h.Samples[id] = list
	}
	for i := range 100_000 {
		at := length / 100_000 * time.Duration(i)
		h.Jobs = append(h.Jobs, history.Timed[history.Job]{At: at, V: history.Job{UID: fmt.Sprint(i), Name: fmt.Sprint(i), CronJob: "cron", Slot: began.Add(at)}})
		h.Nodes = append(h.Nodes, history.Timed[history.Node]{At: at, V: history.Node{Name: "w", Place: "worker[0]", Ready: map[bool]string{true: "True", false: "False"}[i%2 == 0]}})
	}
	a := timeline(h, slo.Make(h, nil))
	text, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 6<<20 {
		t.Errorf("the timeline takes %d bytes", len(text))
	}
	t.Logf("%d bytes", len(text))
	for _, g := range a.Groups {
		for _, l := range g.Lanes {
			if len(l.Bars) > maxBars || len(l.Dots) > maxDots || l.Band != nil && len(l.Band.Max) > maxBuckets+1 {
				t.Errorf("%s / %s: %d bars, %d dots, band %v", g.Name, l.Name, len(l.Bars), len(l.Dots), l.Band != nil)
			}
		}
	}
}

func TestBoundNeverHidesWhatWentWrong(t *testing.T) {
	l := lane{Name: "x"}
	for i := range 10 * maxBars {
		b := bar{A: float64(i), B: float64(i + 1), Class: "b-new", Tip: "well"}
		if i == 777 {
			b.Class, b.Tip = "b-bad", "broken"
		}
		l.Bars = append(l.Bars, b)
		d := dot{T: float64(i), Class: "d-ok"}
		if i%1000 == 0 {
			d.Class = "d-miss"
		}
		l.Dots = append(l.Dots, d)
	}
	l.bound()
	bad, miss := 0, 0
	for _, b := range l.Bars {
		if b.Class == "b-bad" && b.Tip == "10 together, one of them: broken" {
			bad++
		}
	}
	for _, d := range l.Dots {
		if d.Class == "d-miss" {
			miss++
		}
	}
	if bad != 1 || miss != 10*maxBars/1000 || l.Bars[0].A != 0 || l.Bars[len(l.Bars)-1].B != 10*maxBars || l.Name == "x" {
		t.Errorf("%d bad bars, %d missed dots, lane %q", bad, miss, l.Name)
	}
}
