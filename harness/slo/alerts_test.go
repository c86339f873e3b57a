package slo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gameday/harness/history"
	"gameday/scenarios"
)

// alert puts a change of an alert into the book, seen so long after the answer
// before.
func (b *book) alert(at, since float64, name, state string) *book {
	after := sec(at - since)
	if since < 0 {
		after = 0 // the first answer
	}
	return add(b, &b.h.Alerts, at, history.Alert{Name: name, State: state, After: after, Labels: map[string]string{"severity": "page"}})
}

func (b *book) rules(at float64, health string, names ...string) *book {
	s := history.AlertSource{Kind: alertsPrometheus, Polls: 1}
	for _, n := range names {
		s.Rules = append(s.Rules, history.AlertRule{Name: n, Health: health})
	}
	return add(b, &b.h.Sources, at, s)
}

// asked ends the asking.
func (b *book) asked(at float64, kind string) *book {
	s := history.AlertSource{Kind: kind, Polls: 40, Ended: true}
	if n := len(b.h.Sources); n > 0 {
		s.Rules = b.h.Sources[n-1].V.Rules
	}
	return add(b, &b.h.Sources, at, s)
}

// A fault is proven at 50 s, begun 0.2 s before, and gone at 80 s. Down must fire
// within 60 s of that, Wolf must not.
func TestAlerts(t *testing.T) {
	for _, c := range []struct {
		name    string
		make    func(b *book)
		must    Verdict
		reason  string
		mustNot Verdict
		not     string
	}{
		{name: "in time", make: func(b *book) { b.alert(90, 5, "Down", firing) },
			must: Pass, reason: "Down fired 37.5 s (+-2.50 s) after cut was proven", mustNot: Pass, not: "none fired, in 40 answers"},
		{name: "pending is not firing", make: func(b *book) { b.alert(90, 5, "Down", "pending").alert(90, 5, "Wolf", "pending") },
			must: Fail, reason: "Down did not fire within 60.0 s of cut being proven", mustNot: Pass, not: "none fired"},
		{name: "another alert", make: func(b *book) { b.alert(90, 5, "Watchdog", firing) }, must: Fail, reason: "Down did not fire", mustNot: Pass, not: "none fired"},
		{name: "late", make: func(b *book) { b.alert(140, 5, "Down", firing) }, must: Fail, reason: "Down fired 87.5 s (+-2.50 s) after", mustNot: Pass, not: "none fired"},
		{name: "on the edge", make: func(b *book) { b.alert(112, 5, "Down", firing) }, must: Inconclusive, reason: "too close to the budget for its error bar", mustNot: Pass, not: "none fired"},
		{name: "at once", make: func(b *book) { b.alert(53, 3, "Down", firing) }, must: Pass, reason: "Down fired 1.50 s", mustNot: Pass, not: "none fired"},
		{name: "in the poll after it began", make: func(b *book) { b.alert(51, 5, "Down", firing) }, must: Pass, reason: "Down fired 500 ms (+-500 ms) after cut was proven", mustNot: Pass, not: "none fired"},
		{name: "perhaps long before the fault", make: func(b *book) { b.alert(51, 20, "Down", firing).gap("alerts", 31, 51) }, must: Inconclusive, reason: "Down may have fired before cut began", mustNot: Inconclusive, not: "no data"},
		{name: "for ever", make: func(b *book) { b.alert(1, -1, "Down", firing) }, must: Inconclusive, reason: "Down may have fired before cut began", mustNot: Pass, not: "none fired"},
		{name: "before, and again", make: func(b *book) {
			b.alert(20, 5, "Down", firing).alert(30, 5, "Down", "inactive").alert(90, 5, "Down", firing)
		}, must: Pass, reason: "fired 37.5 s", mustNot: Pass, not: "none fired"},
		{name: "only before", make: func(b *book) { b.alert(20, 5, "Down", firing).alert(30, 5, "Down", "inactive") },
			must: Fail, reason: "Down did not fire", mustNot: Pass, not: "none fired"},
		{name: "suppressed", make: func(b *book) { b.alert(90, 5, "Down", "suppressed").alert(90, 5, "Wolf", "suppressed") },
			must: Fail, reason: "it was suppressed", mustNot: Pass, not: "Wolf was suppressed"},
		{name: "wolf", make: func(b *book) {
			b.alert(90, 5, "Down", firing).alert(100, 5, "Wolf", firing).alert(120, 5, "Wolf", "inactive")
		},
			must: Pass, reason: "fired", mustNot: Fail, not: "Wolf fired"},
		{name: "wolf from the beginning", make: func(b *book) { b.alert(90, 5, "Down", firing).alert(1, -1, "Wolf", firing) },
			must: Pass, reason: "fired", mustNot: Fail, not: "Wolf fired"},
		{name: "wolf before the steady state", make: func(b *book) {
			b.alert(90, 5, "Down", firing).alert(1, -1, "Wolf", firing).alert(6, 5, "Wolf", "inactive")
		},
			must: Pass, reason: "fired", mustNot: Pass, not: "none fired"},
		{name: "a gap", make: func(b *book) { b.gap("alerts", 60, 70) }, must: Inconclusive, reason: "but alerts has no data from 1:00.00 to 1:10.00 (lost)", mustNot: Inconclusive, not: "alerts has no data"},
		{name: "a gap, but fired before", make: func(b *book) { b.alert(58, 5, "Down", firing).gap("alerts", 60, 70) }, must: Pass, reason: "fired 5.50 s", mustNot: Inconclusive, not: "alerts has no data"},
		{name: "a gap that it fired in", make: func(b *book) { b.alert(130, 65, "Down", firing).gap("alerts", 65, 130) }, must: Inconclusive, reason: "too close to the budget", mustNot: Inconclusive, not: "alerts has no data"},
		{name: "a gap, and a wolf", make: func(b *book) { b.alert(90, 5, "Wolf", firing).gap("alerts", 60, 70) }, must: Inconclusive, reason: "no data", mustNot: Fail, not: "Wolf fired"},
		{name: "no rule", make: func(b *book) { b.h.Sources = nil; b.rules(1, "ok", "Other").asked(199, alertsPrometheus) },
			must: Fail, reason: "there is no rule of that name", mustNot: Inconclusive, not: "Wolf could not fire: there is no rule of that name at 0:01.00"},
		{name: "a rule that cannot be evaluated", make: func(b *book) {
			b.h.Sources = nil
			b.rules(1, "ok", "Down", "Wolf").rules(60, "err", "Down", "Wolf").rules(120, "ok", "Down", "Wolf").asked(199, alertsPrometheus)
		}, must: Fail, reason: "its rule was not evaluated at 1:00.00: err", mustNot: Inconclusive, not: "Wolf could not fire: its rule was not evaluated"},
		{name: "an Alertmanager that nothing reaches", make: func(b *book) { b.h.Sources = nil; b.asked(199, alertsAlertmanager) },
			must: Fail, reason: "Down did not fire", mustNot: Inconclusive, not: "never told of any alert"},
		{name: "an Alertmanager", make: func(b *book) {
			b.h.Sources = nil
			b.asked(199, alertsAlertmanager).alert(90, 5, "Down", firing)
		}, must: Pass, reason: "fired", mustNot: Pass, not: "none fired"},
		{name: "nothing was asked", make: func(b *book) { b.h.Sources = nil }, must: Inconclusive, reason: "nothing was asked for alerts", mustNot: Inconclusive, not: "nothing was asked for alerts"},
		{name: "nothing was answered", make: func(b *book) {
			b.h.Sources = []history.Timed[history.AlertSource]{{At: sec(199), V: history.AlertSource{Ended: true}}}
			b.gap("alerts", 0, 199)
		}, must: Inconclusive, reason: "never answered", mustNot: Inconclusive, not: "never answered"},
		{name: "asked until nobody knows", make: func(b *book) { b.h.Sources = b.h.Sources[:1] }, must: Inconclusive, reason: "does not say until when", mustNot: Inconclusive, not: "does not say until when"},
		{name: "asked too short", make: func(b *book) { b.h.Sources = nil; b.rules(1, "ok", "Down", "Wolf").asked(80, alertsPrometheus) },
			must: Inconclusive, reason: "only until 30.0 s after that", mustNot: Inconclusive, not: "only until 1:20.00"},
		{name: "the fault was not proven", make: func(b *book) {
			b.h.Injections = nil
			b.inject("cut", "", "w0", "requested", 40, "unproven", 50).alert(90, 5, "Down", firing)
		}, must: Inconclusive, reason: "Down: fault cut was not proven", mustNot: Pass, not: "none fired"},
		{name: "no such fault", make: func(b *book) { b.h.Injections = nil }, must: Inconclusive, reason: "fault cut was not proven", mustNot: Pass, not: "none fired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(200)
			b.fault("cut", "", "w0", 50, 80)
			b.rules(1, "ok", "Down", "Wolf").asked(199, alertsPrometheus)
			c.make(b)
			k := &Alerts{URL: "http://p", Must: []MustFire{{"Down", time.Minute, "cut"}}, MustNot: []string{"Wolf"}}
			list := k.Check(b.h)
			must, not := named(t, list, "alerts.must"), named(t, list, "alerts.must-not")
			want(t, must, c.must, c.reason)
			want(t, not, c.mustNot, c.not)
			for _, r := range list {
				if (r.Observed > 0) != (r.Verdict == Fail) {
					t.Errorf("%s: %s with %v observed", r.Name, r.Verdict, r.Observed)
				}
				if r.Verdict == Fail && len(r.Evidence) == 0 {
					t.Errorf("%s fails without evidence", r.Name)
				}
			}
		})
	}
}

func TestAlertsParameters(t *testing.T) {
	good := Alerts{URL: "https://prometheus.example:9090/prom", Kind: alertsPrometheus, Must: []MustFire{{"Down", time.Minute, "cut"}}, MustNot: []string{"Wolf"}}
	shape := scenarios.Shape{Faults: []string{"cut"}}
	if errs := append(good.Validate(), good.Fits(shape)...); errs != nil {
		t.Errorf("%v", errs)
	}
	if names := fmt.Sprint(good.Names()); names != "[Down Wolf]" {
		t.Error(names)
	}
	for _, c := range []struct {
		name   string
		change func(a *Alerts)
		want   string
	}{
		{"no url", func(a *Alerts) { a.URL = "" }, "url: say where"},
		{"no scheme", func(a *Alerts) { a.URL = "prometheus:9090" }, `"prometheus:9090" is not of the form http://HOST:PORT`},
		{"password", func(a *Alerts) { a.URL = "http://a:b@p" }, "would show its password"},
		{"query", func(a *Alerts) { a.URL = "http://p/?x=1" }, "without a query"},
		{"kind", func(a *Alerts) { a.Kind = "grafana" }, `kind: "grafana" is neither prometheus nor alertmanager`},
		{"nothing", func(a *Alerts) { a.Must, a.MustNot = nil, nil }, "nothing is promised"},
		{"no bound", func(a *Alerts) { a.Must[0].Within = 0 }, "must[0].within: 0s is no bound"},
		{"no fault", func(a *Alerts) { a.Must[0].Fault = "" }, "must[0]: give alert, within and fault"},
		{"another fault", func(a *Alerts) { a.Must[0].Fault = "cat" }, `must[0].fault: the run has no fault "cat"; did you mean "cut"?`},
		{"both", func(a *Alerts) { a.MustNot = []string{"Down"} }, "mustNot: Down must fire, too"},
		{"no name", func(a *Alerts) { a.MustNot = []string{""} }, "mustNot: an alert has a name"},
	} {
		a := good
		a.Must = []MustFire{good.Must[0]}
		c.change(&a)
		if text := fmt.Sprint(append(a.Validate(), a.Fits(shape)...)); !strings.Contains(text, c.want) {
			t.Errorf("%s: %s", c.name, text)
		}
	}
}
