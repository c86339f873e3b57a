package slo

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"gameday/harness/history"
	"gameday/scenarios"
)

// series adds a series of good samples each 50 ms from 0 to end, then lets
// change alter them.
func (b *book) series(id int, verb, endpoint string, end float64, change func(at float64, s *history.Sample)) *book {
	const p = 50 * time.Millisecond
	b.h.Series[id] = history.Series{ID: id, Verb: verb, Conn: "new", Endpoint: endpoint, Period: p, Deadline: 2 * time.Second}
	for at := time.Duration(0); at <= sec(end); at += p {
		s := history.Sample{Series: id, Took: 5 * time.Millisecond, OK: true}
		if change != nil {
			change(at.Seconds(), &s)
		}
		if s.Series != 0 { // 0: there was none
			b.h.Samples[id] = append(b.h.Samples[id], history.Timed[history.Sample]{At: at, V: s})
		}
	}
	return b
}

// down makes the samples between two moments bad.
func down(from, to float64) func(float64, *history.Sample) {
	return func(at float64, s *history.Sample) {
		if at >= from && at <= to {
			s.OK, s.Err = false, "connection refused"
		}
	}
}

func both(list ...func(float64, *history.Sample)) func(float64, *history.Sample) {
	return func(at float64, s *history.Sample) {
		for _, f := range list {
			f(at, s)
		}
	}
}

func TestAPIAvailability(t *testing.T) {
	late := func(every float64) func(float64, *history.Sample) {
		n := 0.0
		return func(_ float64, s *history.Sample) {
			if n++; n >= every {
				n, s.Late = 0, time.Second
			}
		}
	}
	missing := func(from, to float64) func(float64, *history.Sample) {
		return func(at float64, s *history.Sample) {
			if at > from && at < to {
				s.Series = 0
			}
		}
	}
	slow := func(share float64) func(float64, *history.Sample) {
		rng := rand.New(rand.NewPCG(1, 2))
		return func(_ float64, s *history.Sample) {
			if rng.Float64() < share {
				s.Took = 1500 * time.Millisecond
			}
		}
	}
	// One of ten is good.
	flaps := func(from, to float64) func(float64, *history.Sample) {
		n := 0
		return func(at float64, s *history.Sample) {
			if n++; at >= from && at <= to && n%10 != 0 {
				s.OK, s.Err = false, "connection refused"
			}
		}
	}
	slowly := func(from, to float64) func(float64, *history.Sample) {
		return func(at float64, s *history.Sample) {
			if at >= from && at <= to {
				s.Took = 1500 * time.Millisecond
			}
		}
	}
	// The API answers nothing and then all that is still waited for.
	held := func(from, to float64) func(float64, *history.Sample) {
		return func(at float64, s *history.Sample) {
			if at < from || at > to {
				return
			}
			if s.Took = sec(to - at); s.Took > 2*time.Second {
				s.Took, s.OK, s.Err = 2*time.Second, false, "no answer"
			}
		}
	}
	for _, c := range []struct {
		name   string
		set    func(c *APIAvailability)
		change func(float64, *history.Sample)
		more   func(b *book)
		want   Verdict
		reason string
		check  func(t *testing.T, r Result)
	}{
		{name: "all good", want: Pass, reason: "no outage in", check: func(t *testing.T, r Result) {
			t.Helper()
			if r.Samples != 1001 || r.Excluded != 400 || r.Observed != 0 {
				t.Errorf("%+v", r)
			}
		}},
		{name: "within the budget", change: down(20, 24), want: Pass, reason: "1 outage", check: func(t *testing.T, r Result) {
			t.Helper()
			if r.Observed != 4.053 || r.ErrorBar != 0.053 || len(r.Evidence) != 1 {
				t.Errorf("%+v", r)
			}
			if d := strings.Join(r.Evidence[0].During, " "); d != "cut upgrade/worker[0]/drain" {
				t.Errorf("during %q", d)
			}
		}, more: func(b *book) {
			b.step(15, 30, "upgrade", "", "proceeded", "").step(15, 30, "upgrade/worker[0]", "w0", "proceeded", "")
			b.step(19, 21, "upgrade/worker[0]/drain", "w0", "proceeded", "").step(25, 28, "upgrade/worker[0]/kubelet", "w0", "proceeded", "")
			b.fault("cut", "upgrade/worker[0]", "w0", 20, 24).fault("later", "upgrade/worker[0]", "w0", 26, 27)
		}},
		{name: "too long", change: down(20, 26), want: Fail, reason: "outage of 6.05 s (+-53 ms) via lb (new) at 0:20.00"},
		{name: "as long as the budget", change: down(20, 24.95), want: Inconclusive, reason: "too close to the budget"},
		{name: "too much in all", set: func(c *APIAvailability) { c.Total = time.Second }, change: both(down(20, 21), down(30, 31)), want: Fail, reason: "down for 2.10 s (+-105 ms) in all via lb (new), 95.79 % available"},
		{name: "in all too close", set: func(c *APIAvailability) { c.Total = 2 * time.Second }, change: both(down(20, 21), down(30, 31)), want: Inconclusive, reason: "in all via lb (new), 95.79 % available: too close"},
		{name: "now and then for too long", change: flaps(20, 30), want: Inconclusive, set: func(c *APIAvailability) { c.Total = time.Minute }, reason: "outage of 9.05 s (+-1.05 s) via lb (new) at 0:20.00: too close"},
		{name: "now and then, mostly down", change: flaps(20, 50), want: Fail, reason: "in all"},
		{name: "in all, by default as long as one", change: both(down(20, 23), down(30, 33)), want: Fail, reason: "down for 6.11 s (+-105 ms) in all"},
		{name: "in all, by default as long as one for each fault", change: both(down(20, 23), down(30, 33)), more: func(b *book) {
			b.fault("a", "", "w0", 20, 24)
		}, want: Pass, reason: "down for 6.11 s (+-105 ms) in all"},
		{name: "in all, with each control plane", change: both(down(20, 23), down(30, 33)), more: func(b *book) {
			b.step(15, 30, "upgrade/control-plane[0]", "cp0", "proceeded", "")
		}, want: Pass, reason: "down for 6.11 s (+-105 ms) in all"},
		{name: "in all, with what was not seen", change: both(down(20, 23), missing(30, 32.5)), want: Inconclusive, reason: "in all via lb (new), 91.40 % available: too close"},
		{name: "starved and slow", set: func(c *APIAvailability) { c.P99 = time.Second }, change: both(slow(0.02), late(10)), want: Inconclusive, reason: "is 1.50 s, but the harness was starved"},
		{name: "not ended", change: down(58, 99), want: Inconclusive, reason: "had not ended when the samplers stopped"},
		{name: "not ended and too long", change: down(50, 99), want: Fail, reason: "outage of"},
		{name: "before the steady state", change: down(0, 9), want: Pass, reason: "400 outside the judged time"},
		{name: "slow", set: func(c *APIAvailability) { c.P99 = time.Second }, change: slow(0.02), want: Fail, reason: "p99 of good answers via lb (new) is 1.50 s"},
		{name: "slow now and then", set: func(c *APIAvailability) { c.P99 = time.Second }, change: slow(0.001), want: Pass, reason: "p99 of good answers via lb (new) is 5 ms"},
		{name: "slow but not judged", set: func(c *APIAvailability) { c.Slow = 2 * time.Second }, change: slow(0.02), want: Pass, reason: "p99 of good answers via lb (new) is 1.50 s"},
		{name: "slow for too long", change: slowly(20, 26), want: Fail, reason: "outage of 6.05 s (+-53 ms) via lb (new)", check: func(t *testing.T, r Result) {
			t.Helper()
			if !strings.Contains(r.Evidence[0].Text, "answered after 1.50 s") {
				t.Errorf("%+v", r.Evidence)
			}
		}},
		{name: "held for too long", change: held(20, 26.3), want: Fail, reason: "outage of 5.80 s (+-550 ms)"},
		{name: "held as long as the budget", change: held(20, 25.7), want: Inconclusive, reason: "too close"},
		{name: "a p99 that cannot be broken", set: func(c *APIAvailability) { c.P99 = 5 * time.Second }, want: Inconclusive, reason: "their deadline is 2.00 s: a budget of 5.00 s could never be broken"},
		{name: "starved", change: late(10), want: Inconclusive, reason: "the harness was starved: of 1001 samples"},
		{name: "a few late", change: late(100), want: Pass, reason: "10 late"},
		{name: "blind for too long", change: missing(20, 27), want: Inconclusive, reason: "no sample via lb (new) for 7.00 s from 0:20.00 on"},
		{name: "blind for a while", change: missing(20, 23), want: Pass, reason: "no outage"},
		{name: "samplers died", change: missing(40, 100), want: Inconclusive, reason: "for 20.0 s from 0:40.00 on"},
		{name: "gap", more: func(b *book) { b.gap("sampler", 20, 21) }, want: Inconclusive, reason: "sampler has no data from 0:20.00 to 0:21.00 (lost)"},
		{name: "gap within an outage", change: down(20, 24), more: func(b *book) { b.gap("sampler", 21, 22) }, want: Pass, reason: "1 outage"},
		{name: "gap of another source", more: func(b *book) { b.gap("watch/pods", 20, 21) }, want: Pass, reason: "no outage"},
		{name: "too few", set: func(c *APIAvailability) { c.Min = 5000 }, want: Inconclusive, reason: "1001 samples via lb (new), at least 5000 are needed"},
		{name: "no such endpoint", set: func(c *APIAvailability) { c.Endpoints = []string{"direct"} }, want: Inconclusive, reason: "no read was sampled at control-plane[0]; no read was sampled at control-plane[1]"},
		{name: "no such place", set: func(c *APIAvailability) { c.Endpoints = []string{"control-plane[7]"} }, want: Inconclusive, reason: "no read was sampled at control-plane[7]: no such node is in the record"},
		{name: "one of two not sampled", set: func(c *APIAvailability) { c.Endpoints = []string{"lb", "control-plane[1]"} }, want: Inconclusive, reason: "no read was sampled at control-plane[1]"},
		{name: "one of three API servers not sampled", set: func(c *APIAvailability) { c.Endpoints = []string{"direct"} }, more: func(b *book) {
			b.series(2, "read", "cp0", 60, nil).series(3, "read", "cp2", 60, nil)
		}, want: Inconclusive, reason: "no read was sampled at control-plane[1]"},
		{name: "direct down is told", more: func(b *book) { b.series(2, "read", "cp1", 60, down(20, 40)) }, want: Pass, reason: "not judged, but down for a while: at control-plane[1] (new)", check: func(t *testing.T, r Result) {
			t.Helper()
			if len(r.Evidence) != 1 || !strings.Contains(r.Evidence[0].Text, "at control-plane[1] (new) 1 outage, 20.1 s in all") || !r.Evidence[0].Beside {
				t.Errorf("%+v", r.Evidence)
			}
		}},
		{name: "direct judged", set: func(c *APIAvailability) { c.Endpoints = []string{"lb", "direct"} }, more: func(b *book) { b.series(2, "read", "cp1", 60, down(20, 40)) }, want: Fail, reason: "at control-plane[1] (new)"},
		{name: "a place judged", set: func(c *APIAvailability) { c.Endpoints = []string{"control-plane[1]"} }, more: func(b *book) { b.series(2, "read", "cp1", 60, down(20, 40)) }, want: Fail, reason: "at control-plane[1] (new)"},
		{name: "no steady state", more: func(b *book) { b.h.Stages[1].V.Error = "timeout" }, want: Inconclusive, reason: "the steady state was not reached: timeout"},
		{name: "steady state never shown", more: func(b *book) { b.h.Stages = b.h.Stages[:1] }, want: Inconclusive, reason: "never shown"},
		{name: "nothing after it", more: func(b *book) { b.h.Stages[1].At = sec(60) }, want: Inconclusive, reason: "nothing was measured after the steady state"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(60)
			b.series(1, "read", "lb", 70, c.change)
			if c.more != nil {
				c.more(b)
			}
			a := newAPIAvailability().(*APIAvailability)
			if c.set != nil {
				c.set(a)
			}
			list := Judge(b.h, []Named{{"api.availability", a}})
			r := named(t, list, "api.read")
			want(t, r, c.want, c.reason)
			if c.check != nil {
				c.check(t, r)
			}
			want(t, named(t, list, "api.write"), Inconclusive, "no write was sampled")
			named(t, list, "api.quorum-read")
			named(t, list, "api.watch")
		})
	}
}

func TestAPIAvailabilityFits(t *testing.T) {
	c := newAPIAvailability().(*APIAvailability)
	if errs := c.Fits(scenarios.Shape{ControlPlanes: 1}); len(errs) != 1 || !strings.Contains(errs[0].Error(), "has no load balancer") {
		t.Errorf("lb of one control plane: %v", errs)
	}
	if errs := append(c.Fits(scenarios.Shape{ControlPlanes: 3}), c.Fits(scenarios.Shape{})...); errs != nil {
		t.Errorf("%v", errs)
	}
	c.Endpoints = []string{endpointDirect}
	if errs := c.Fits(scenarios.Shape{ControlPlanes: 1}); errs != nil {
		t.Errorf("direct of one control plane: %v", errs)
	}
}

func TestAPIAvailabilityValidate(t *testing.T) {
	if errs := newAPIAvailability().(Validator).Validate(); errs != nil {
		t.Errorf("the defaults: %v", errs)
	}
	bad := &APIAvailability{Longest: -1, Total: -1, P99: -1, Endpoints: []string{"cp0"}}
	if errs := bad.Validate(); len(errs) != 8 {
		t.Errorf("%d problems: %v", len(errs), errs)
	}
	if errs := (&APIAvailability{Longest: 1, Slow: 1, Watch: 1, Late: 1, Min: 1}).Validate(); len(errs) != 1 || !strings.Contains(errs[0].Error(), "none would be judged") {
		t.Errorf("no endpoints: %v", errs)
	}
}

// BenchmarkJudge judges ten series of 20000 samples each, as of a run of 17
// minutes at 20 samples a second.
func BenchmarkJudge(b *testing.B) {
	k := newBook(1000)
	id := 0
	for _, verb := range verbs {
		for _, e := range []string{"lb", "cp0", "cp1", "cp2"} {
			if id++; id <= 10 {
				k.series(id, verb, e, 1000, both(down(100, 102), down(300, 301), down(500, 500)))
			}
		}
	}
	c := newAPIAvailability()
	b.ReportAllocs()
	for b.Loop() {
		if list := Judge(k.h, []Named{{"api.availability", c}}); len(list) != 4 {
			b.Fatal(len(list))
		}
	}
}

func TestPinnedConnectionsHaveABudgetOfTheirOwn(t *testing.T) {
	c := &APIAvailability{Longest: 5 * time.Second, Pinned: 40 * time.Second}
	if got := c.longest("reused"); got != c.Pinned {
		t.Errorf("reused connections are judged by %s", got)
	}
	if got := c.longest("new"); got != c.Longest {
		t.Errorf("new connections are judged by %s", got)
	}
	if c.Pinned = 0; c.longest("reused") != c.Longest {
		t.Error("without a budget of their own, reused connections have the common one")
	}
}

// A sampler that was found wrong leaves nothing to be said of the API.
func TestAPIRestsOnTheSelfCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		checks []history.SelfCheck
		want   bool // that the promises are judged
	}{
		{"before there was one", nil, true},
		{"passed", []history.SelfCheck{{Verdict: "pass"}}, true},
		{"failed", []history.SelfCheck{{Verdict: "fail", Reason: "refused for 50ms was not seen"}}, false},
		{"starved", []history.SelfCheck{{Verdict: "inconclusive", Reason: "starved"}}, false},
		{"without a verdict", []history.SelfCheck{{}}, false},
	} {
		h := newBook(60).h
		for _, s := range c.checks {
			h.SelfChecks = append(h.SelfChecks, history.Timed[history.SelfCheck]{V: s})
		}
		for _, was := range []Verdict{Pass, Fail} {
			r := Result{Name: "api.read", Verdict: was, Reason: "as judged"}
			instrument(h, &r)
			if c.want && r.Verdict != was || !c.want && (r.Verdict != Inconclusive || !strings.Contains(r.Reason, "self-check of the samplers") || !strings.Contains(r.Reason, string(was)+": as judged")) {
				t.Errorf("%s: %+v", c.name, r)
			}
		}
	}
	h := newBook(60).h
	h.SelfChecks = []history.Timed[history.SelfCheck]{{V: history.SelfCheck{Verdict: "fail", Reason: "refused for 50ms was not seen"}}}
	for _, r := range newAPIAvailability().Check(h) {
		if r.Verdict != Inconclusive || !strings.HasPrefix(r.Reason, "the self-check of the samplers: fail: refused for 50ms was not seen") {
			t.Errorf("%s: %s: %s", r.Name, r.Verdict, r.Reason)
		}
	}
}
