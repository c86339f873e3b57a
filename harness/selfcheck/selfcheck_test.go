package selfcheck

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gameday/harness/history"
	"gameday/harness/sample"
	"gameday/harness/slo"
)

// Real outages, real samplers: none may be misjudged. A machine that is too busy
// may say so.
func TestQuick(t *testing.T) {
	c := Run(t.Context(), Quick())
	if c.Verdict == string(slo.Fail) || len(c.Trials) != 18 {
		t.Errorf("%s: %s, %d trials", c.Verdict, c.Reason, len(c.Trials))
	}
	for _, one := range c.Trials {
		if one.Verdict == string(slo.Inconclusive) && one.Late <= starvedAt && !strings.HasPrefix(one.Reason, "it could not be tried") {
			t.Errorf("inconclusive on a machine that had time: %+v", one)
		}
	}
	var out strings.Builder
	if err := Table(&out, c); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + out.String())
	if n := strings.Count(out.String(), "\nblack-holed "); n != 4 {
		t.Errorf("%d of 4 black-holed outages are in the table", n)
	}
}

// A sampler that looks elsewhere sees nothing of an outage, and that is found out.
func TestDeafSamplerFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	record, err := history.Create(path, history.Run{ID: "deaf"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	hit, sampled := open(t), open(t)
	trial := Trial{kindRefused, densest("reused"), 200 * time.Millisecond}
	rehearsal := sample.Rehearse(record)
	schedule, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- rehearsal.Sample(schedule, 1, trial.Way, sampled.as()) }()
	if err := sampled.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range warm {
		hit.answers <- struct{}{} // as if it were the one that is sampled
	}
	m, err := trial.happen(t.Context(), record, hit, 1)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := rehearsal.Close(); err != nil {
		t.Fatal(err)
	}
	if err := record.Close(); err != nil {
		t.Fatal(err)
	}
	h, err := history.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	r := judge(h, 1, trial, m, 0)
	if r.Verdict == string(slo.Pass) || !strings.HasPrefix(r.Reason, "it was not seen") {
		t.Errorf("%+v", r)
	}
}

func open(t *testing.T) *endpoint {
	t.Helper()
	e, err := newEndpoint(slo.SlowBound + slower)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestInterruptedIsInconclusive(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c := Run(ctx, Quick()); c.Verdict != string(slo.Inconclusive) || !strings.Contains(c.Reason, "did not come to its end") {
		t.Errorf("%s: %s", c.Verdict, c.Reason)
	}
	if c := Run(t.Context(), nil); c.Verdict != string(slo.Inconclusive) || c.Reason != "nothing was tried" {
		t.Errorf("%s: %s", c.Verdict, c.Reason)
	}
}

// at is a number of ms on the record's clock.
func at(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }

// TestJudge holds what was made from 1000 to 1200 ms against what a series of 40 ms
// has in the record: bad from the first to the last ms that are given.
func TestJudge(t *testing.T) {
	way := densest("reused")
	type stretch struct{ from, to int }
	for _, c := range []struct {
		name    string
		kind    string
		bad     []stretch
		end     int // of the record; 0: 2000
		step    int // between samples; 0: 25
		late    time.Duration
		err     string
		verdict slo.Verdict
		reason  string
	}{
		{name: "as it was", kind: kindRefused, bad: []stretch{{1000, 1199}}, verdict: slo.Pass},
		{name: "as it was, busy", kind: kindRefused, bad: []stretch{{1000, 1199}}, late: at(50), verdict: slo.Pass},
		{name: "missed", kind: kindReset, verdict: slo.Fail, reason: "it was not seen"},
		{name: "missed, busy", kind: kindReset, late: at(11), verdict: slo.Inconclusive, reason: "it was not seen, but gameday was starved: something was 11.0 ms late"},
		{name: "twice", kind: kindReset, bad: []stretch{{0, 50}, {1200, 1350}}, verdict: slo.Fail, reason: "it was seen as 2 outages"},
		{name: "too early", kind: kindRefused, bad: []stretch{{900, 1199}}, verdict: slo.Fail, reason: "it was seen 100.0 ms before it began"},
		{name: "too late", kind: kindRefused, bad: []stretch{{1075, 1199}}, verdict: slo.Fail, reason: "a sample 50.0 ms after its beginning counts as good"},
		{name: "too long", kind: kindRefused, bad: []stretch{{1000, 1299}}, verdict: slo.Fail, reason: "a sample 75.0 ms after its end counts as bad"},
		{name: "too short", kind: kindRefused, bad: []stretch{{1000, 1124}}, verdict: slo.Fail, reason: "it was seen to end 74.0 ms before it did"},
		{name: "without an end", kind: kindRefused, bad: []stretch{{1000, 1199}}, end: 1190, verdict: slo.Fail, reason: "its end was not seen"},
		{name: "too blurred", kind: kindRefused, bad: []stretch{{1000, 1199}}, step: 90, verdict: slo.Fail, reason: "is larger than the 42.5 ms that the paces of the series explain"},
		{name: "taken for another", kind: kindBlackHoled, bad: []stretch{{1000, 1199}}, err: "500: no", verdict: slo.Fail, reason: "it was taken for another"},
		{name: "black-holed", kind: kindBlackHoled, bad: []stretch{{1000, 1199}}, err: "timeout: too long", verdict: slo.Pass},
		{name: "none", kind: kindNone, verdict: slo.Pass},
		{name: "one where none was", kind: kindNone, bad: []stretch{{1000, 1000}}, verdict: slo.Fail, reason: "was seen where none was made: refused: no"},
		{name: "one where none was, busy", kind: kindNone, bad: []stretch{{1000, 1000}}, late: at(300), verdict: slo.Inconclusive, reason: "starved"},
		{name: "none, but hardly looked", kind: kindNone, step: 200, end: 400, verdict: slo.Fail, reason: "3 samples in 200.0 ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := &history.History{
				Series:  map[int]history.Series{1: {ID: 1, Period: way.Period, Deadline: way.Deadline}},
				Samples: map[int][]history.Timed[history.Sample]{},
			}
			end, step := c.end, c.step
			if end == 0 {
				end = 3000
			}
			if step == 0 {
				step = 25
			}
			for ms := 0; ms <= end; ms += step {
				s := history.Sample{Series: 1, OK: true, Took: at(1)}
				for _, b := range c.bad {
					if b.from <= ms && ms <= b.to {
						s = history.Sample{Series: 1, Err: "refused: no"}
						if c.err != "" {
							s.Err = c.err
						}
					}
				}
				h.Samples[1] = append(h.Samples[1], history.Timed[history.Sample]{At: at(ms), V: s})
				h.Last = at(ms)
			}
			m := made{at(1000), at(1000), at(1200), at(1200)}
			trial := Trial{c.kind, way, at(200)}
			if c.name == "none, but hardly looked" {
				trial.Length = at(3000)
			}
			r := judge(h, 1, trial, m, c.late)
			reason := c.reason
			if c.name == "none, but hardly looked" {
				reason = "3 samples in 3000.0 ms, at least 73 were due"
			}
			if r.Verdict != string(c.verdict) || !strings.Contains(r.Reason, reason) {
				t.Errorf("%s: %s\nwant %s with %q", r.Verdict, r.Reason, c.verdict, reason)
			}
		})
	}
}

// What lies in the samples themselves counts as lateness, too.
func TestLateness(t *testing.T) {
	h := &history.History{Samples: map[int][]history.Timed[history.Sample]{1: {
		{At: at(0), V: history.Sample{OK: true, Took: at(90)}}, // the first one connects
		{At: at(100), V: history.Sample{OK: true, Took: at(7), Late: at(3)}},
		{At: at(990), V: history.Sample{OK: true, Took: at(210)}}, // held by the outage
	}}}
	if got := lateness(h, 1, made{at(1000), at(1001), at(1200), at(1200)}); got != at(7) {
		t.Error(got)
	}
	if got := lateness(h, 1, made{at(1000), at(1008), at(1200), at(1200)}); got != at(8) {
		t.Error(got)
	}
}

func TestDecide(t *testing.T) {
	one := func(v slo.Verdict) history.SelfTrial {
		return history.SelfTrial{Kind: kindReset, Verb: "read", Conn: "new", Where: "lb", Asked: at(50), Verdict: string(v), Reason: "because"}
	}
	for _, c := range []struct {
		list    []history.SelfTrial
		verdict slo.Verdict
		reason  string
	}{
		{nil, slo.Inconclusive, "nothing was tried"},
		{[]history.SelfTrial{one(slo.Pass), one(slo.Pass)}, slo.Pass, "2 known outages and controls were seen as what they were"},
		{[]history.SelfTrial{one(slo.Pass), one(slo.Inconclusive)}, slo.Inconclusive, "reset for 50ms, seen by read on new connections (lb): because"},
		{[]history.SelfTrial{one(slo.Inconclusive), one(slo.Fail), one(slo.Fail)}, slo.Fail, "because (and 1 more)"},
		{[]history.SelfTrial{one(slo.Pass), {}}, slo.Inconclusive, ""},
	} {
		verdict, reason := decide(c.list)
		if verdict != string(c.verdict) || !strings.Contains(reason, c.reason) {
			t.Errorf("%s: %s, want %s: %s", verdict, reason, c.verdict, c.reason)
		}
	}
}

// Every series of a run is tried with every kind, and none with an outage that it
// may miss.
func TestFull(t *testing.T) {
	ways := map[string]map[string]bool{}
	for _, c := range Full() {
		if c.Kind != kindNone && !sure(c.Way, c.Length) {
			t.Errorf("%+v may be missed", c)
		}
		key := c.Way.Verb + c.Way.Conn + c.Way.Where
		if ways[key] == nil {
			ways[key] = map[string]bool{}
		}
		ways[key][c.Kind] = true
	}
	for key, kinds := range ways {
		if len(kinds) != 5 {
			t.Errorf("%s is tried with %v", key, kinds)
		}
	}
	if len(ways) != len(sample.Ways()) {
		t.Errorf("%d of %d series are tried", len(ways), len(sample.Ways()))
	}
}
