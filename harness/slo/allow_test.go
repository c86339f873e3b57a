package slo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gameday/harness/history"
	"gameday/scenarios"
)

func TestIsNamed(t *testing.T) {
	for _, c := range []struct {
		pattern, phase string
		want           bool
	}{
		{"upgrade/*/etcd", "upgrade/control-plane[0]/etcd", true},
		{"upgrade/*/etcd", "upgrade/control-plane[0]/kubelet", false},
		{"upgrade/*", "upgrade/control-plane[0]/etcd", false},
		{"upgrade/control-plane[0]/etcd", "upgrade/control-plane[0]/etcd", true},
		{"upgrade/control-plane[0]/etcd", "upgrade/control-plane0/etcd", false},
		{"upgrade/control-plane[*]/etcd", "upgrade/control-plane[2]/etcd", true},
		{"upgrade/worker?0]/drain", "upgrade/worker[0]/drain", false},
	} {
		if got := isNamed(c.pattern, c.phase); got != c.want {
			t.Errorf("%s names %s: %v", c.pattern, c.phase, got)
		}
	}
}

func TestAPIDuring(t *testing.T) {
	const etcd = "upgrade/control-plane[0]/etcd"
	during := func(list ...APIDuring) func(*APIAvailability) {
		return func(c *APIAvailability) { c.Total, c.During = time.Minute, list }
	}
	ten := during(APIDuring{Phases: []string{"upgrade/*/etcd"}, After: 10 * time.Second, Longest: 20 * time.Second})
	drop := during(APIDuring{Faults: []string{"drop-etcd"}, After: 5 * time.Second, Longest: 20 * time.Second})
	for _, c := range []struct {
		name   string
		set    func(c *APIAvailability)
		change func(float64, *history.Sample)
		make   func(b *book)
		want   Verdict
		reason string
		parts  string
	}{
		{name: "within the phase", set: ten, change: down(35, 49), want: Pass, reason: "1 outage", parts: "elsewhere 0 of 5, 0; upgrade/*/etcd 14.053 of 20, 1"},
		{name: "longer than the phase allows", set: ten, change: down(32, 53), want: Fail, reason: "outage of 21.1 s (+-53 ms) via lb (new) at 0:32.00, 25 ms of it outside of upgrade/*/etcd"},
		{name: "as long as the phase allows", set: ten, change: down(32, 51.95), want: Inconclusive, reason: "too close to the budget"},
		{name: "after the phase", set: ten, change: down(52, 58), want: Pass, reason: "1 outage"},
		{name: "elsewhere", set: ten, change: down(70, 76), want: Fail, reason: "outage of 6.05 s (+-53 ms) via lb (new) at 1:10.00", parts: "elsewhere 6.053 of 5, 1; upgrade/*/etcd 0 of 20, 0"},
		{name: "too much of it outside", set: ten, change: down(50, 68), want: Fail, reason: "of it outside of upgrade/*/etcd"},
		{name: "nearly too much of it outside", set: ten, change: down(50, 64), want: Inconclusive, reason: "too close"},
		{name: "a little of it outside", set: ten, change: down(50, 61), want: Pass, reason: "1 outage"},
		{name: "perhaps not in the phase at all", set: ten, change: down(61, 67), want: Inconclusive, reason: "too close"},
		{name: "no such phase", set: during(APIDuring{Phases: []string{"upgrade/*/kubelet"}, Longest: 20 * time.Second}), change: down(35, 49), want: Fail, reason: "outage of 14.1 s"},
		{name: "the largest counts", set: during(APIDuring{Phases: []string{"upgrade/*"}, Longest: 8 * time.Second}, APIDuring{Phases: []string{"upgrade/*/etcd"}, Longest: 20 * time.Second}),
			change: down(35, 49), want: Pass, reason: "1 outage", parts: "elsewhere 0 of 5, 0; upgrade/* 0 of 8, 0; upgrade/*/etcd 14.053 of 20, 1"},
		{name: "of another kind of connection", set: during(APIDuring{Phases: []string{"upgrade/*/etcd"}, Pinned: 20 * time.Second}), change: down(35, 49), want: Fail, reason: "outage of 14.1 s"},
		{name: "a second attempt", set: ten, change: down(85, 95), make: func(b *book) { b.step(80, 100, etcd, "cp0", "proceeded", "") }, want: Pass, reason: "1 outage"},
		{name: "a phase that did not end", set: ten, change: down(85, 95), make: func(b *book) { b.phase(80, etcd, "cp0", stateBegan, "", "") }, want: Inconclusive, reason: "the end of " + etcd + " is not in the record"},
		{name: "in a fault, to the end of its effects", set: drop, change: down(62, 78), make: func(b *book) { b.fault("drop-etcd", "run", "cp0", 61, 75) }, want: Pass, reason: "1 outage"},
		{name: "longer than a fault allows", set: drop, change: down(55, 88), make: func(b *book) { b.fault("drop-etcd", "run", "cp0", 61, 75) }, want: Fail, reason: "outside of drop-etcd"},
		{name: "a fault that is not seen to be gone", set: drop, change: down(62, 78), make: func(b *book) { b.inject("drop-etcd", "run", "cp0", "armed", 60, "proven", 61) }, want: Inconclusive, reason: "the end of drop-etcd is not in the record"},
		{name: "a fault that never acted allows nothing", set: drop, change: down(62, 78), make: func(b *book) { b.inject("drop-etcd", "run", "cp0", "requested", 60) }, want: Fail, reason: "outage of"},
		{name: "the sum is of what lies outside", set: func(c *APIAvailability) { ten(c); c.Total = time.Second }, change: down(35, 49), want: Pass, reason: "down for 0 s (+-0 s) in all"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(120).series(1, "read", "lb", 120, c.change).step(30, 50, etcd, "cp0", "proceeded", "").step(25, 55, "upgrade/control-plane[0]", "cp0", "proceeded", "")
			if c.make != nil {
				c.make(b)
			}
			a := newAPIAvailability().(*APIAvailability)
			c.set(a)
			if errs := a.Validate(); errs != nil {
				t.Fatal(errs)
			}
			r := named(t, a.Check(b.h), "api.read")
			want(t, r, c.want, c.reason)
			var got []string
			for _, p := range r.Parts {
				got = append(got, fmt.Sprintf("%s %v of %v, %d", p.Name, p.Observed, p.Budget, p.Samples))
			}
			if c.parts != "" && strings.Join(got, "; ") != c.parts {
				t.Errorf("parts %q", got)
			}
		})
	}
}

func TestDuringFits(t *testing.T) {
	c := newAPIAvailability().(*APIAvailability)
	c.During = []APIDuring{{Phases: []string{"upgrade/*/etcd", "upgrade/*/ectd"}, Longest: time.Minute}}
	phases := []string{"upgrade", "upgrade/control-plane[0]/etcd"}
	if errs := c.Fits(scenarios.Shape{ControlPlanes: 3, Phases: phases}); len(errs) != 1 || !strings.Contains(errs[0].Error(), `during[0].phases: "upgrade/*/ectd" names no phase`) {
		t.Errorf("%v", errs)
	}
	if errs := c.Fits(scenarios.Shape{ControlPlanes: 3}); errs != nil {
		t.Errorf("phases that are not known: %v", errs)
	}
	c.During = []APIDuring{{Faults: []string{"drop-etcd", "drop-ectd"}, Longest: time.Minute}}
	if errs := c.Fits(scenarios.Shape{Faults: []string{"drop-etcd"}}); len(errs) != 1 || !strings.Contains(errs[0].Error(), `during[0].faults: the run has no fault "drop-ectd"; did you mean "drop-etcd"?`) {
		t.Errorf("%v", errs)
	}
	if errs := c.Fits(scenarios.Shape{}); errs != nil {
		t.Errorf("faults that are drawn later: %v", errs)
	}
	c.During = []APIDuring{{}, {Phases: []string{"x"}, After: -1, Longest: 1}}
	if errs := c.Validate(); len(errs) != 3 || !strings.Contains(errs[2].Error(), "during[1].after: -1ns is below 0") {
		t.Errorf("%v", errs)
	}
}

func TestCronDuring(t *testing.T) {
	const etcd = "upgrade/control-plane[0]/etcd"
	for _, c := range []struct {
		name   string
		make   func(b *book)
		lates  map[float64]float64 // by slot
		want   Verdict
		reason string
	}{
		{name: "in the phase", lates: map[float64]float64{600: 80}, want: Pass, reason: "p99 is 1.00 s elsewhere; p99 is 80.0 s during upgrade/*/etcd"},
		{name: "later than the phase allows", lates: map[float64]float64{600: 95}, want: Fail, reason: "p99 is 95.0 s during upgrade/*/etcd"},
		{name: "close to what it allows", lates: map[float64]float64{600: 90}, want: Inconclusive, reason: "too close"},
		{name: "elsewhere", lates: map[float64]float64{300: 80}, want: Fail, reason: "p99 is 80.0 s elsewhere"},
		{name: "waiting when the phase began", lates: map[float64]float64{540: 80}, want: Pass, reason: "during upgrade/*/etcd"},
		{name: "started in the phase, far too late", lates: map[float64]float64{480: 110}, want: Fail, reason: "p99 is 110.0 s elsewhere"},
		{name: "at the edge", make: func(b *book) { b.step(901, 910, etcd, "cp0", "proceeded", "") }, lates: map[float64]float64{840: 80}, want: Inconclusive, reason: "at the edge of a phase"},
		{name: "a phase that did not end", make: func(b *book) { b.phase(900, etcd, "cp0", stateBegan, "", "") }, lates: map[float64]float64{960: 80}, want: Inconclusive, reason: "the end of " + etcd + " is not in the record"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(1230).cronJob("a", "* * * * *", nil).step(590, 605, etcd, "cp0", "proceeded", "")
			if c.make != nil {
				c.make(b)
			}
			for slot := 60.0; slot <= 1200; slot += 60 {
				b.job("a", slot, max(1, c.lates[slot]), nil)
			}
			k := newCronStartLatency().(*CronStartLatency)
			k.During = []CronDuring{{Phases: []string{"upgrade/*/etcd"}, After: 30 * time.Second, P99: 90 * time.Second}}
			if errs := k.Validate(); errs != nil {
				t.Fatal(errs)
			}
			r := named(t, k.Check(b.h), "cron.start-latency")
			want(t, r, c.want, c.reason)
			if len(r.Parts) != 2 || r.Parts[0].Samples+r.Parts[1].Samples != r.Samples {
				t.Errorf("%+v", r.Parts)
			}
		})
	}
	k := newCronStartLatency().(*CronStartLatency)
	k.During = []CronDuring{{Phases: []string{"upgrade/*/ectd"}, P99: time.Minute}, {}}
	if errs := k.Validate(); len(errs) != 2 {
		t.Errorf("%v", errs)
	}
	if errs := k.Fits(scenarios.Shape{ControlPlanes: 3, Phases: []string{"upgrade", etcd}}); len(errs) != 1 || !strings.Contains(errs[0].Error(), "names no phase") {
		t.Errorf("%v", errs)
	}
}

func TestAllowed(t *testing.T) {
	c := newAPIAvailability().(*APIAvailability)
	c.During = []APIDuring{
		{Phases: []string{"upgrade/*/etcd"}, Faults: []string{"drop-etcd"}, After: 10 * time.Second, Longest: 20 * time.Second, Pinned: time.Minute},
		{Phases: []string{"upgrade/*/kubelet"}, Watch: 20 * time.Second}, // says nothing of requests
	}
	r := Result{Promise: "no outage longer than 5.00 s", Allowed: c.allowed()}
	if got, want := strings.Join(r.Allowed, "; "), "during upgrade/*/etcd, drop-etcd and 10.0 s after, 20.0 s, 60.0 s on reused connections"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := r.Short(), "no outage longer than 5.00 s, but for 1 window with a budget of its own"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	r.Allowed = nil
	if got := r.Short(); got != r.Promise {
		t.Errorf("%s, want %s", got, r.Promise)
	}
}
