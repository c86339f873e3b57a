package slo

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/scenarios"
)

// Alerts promises that the monitoring notices what is broken, and cries no wolf:
// each alert of Must fires within its time after its fault was proven
// (alerts.must), and none of MustNot fires at all (alerts.must-not).
//
// What an alert costs in time is known before: Prometheus's scrape interval, its
// evaluation interval and the rule's `for`; an Alertmanager adds what Prometheus
// takes to send it.
type Alerts struct {
	// URL of a Prometheus or an Alertmanager, as this machine reaches it, as far as
	// /api.
	URL string `yaml:"url"`
	// Kind: prometheus or alertmanager; default: seen from its answers.
	Kind string `yaml:"kind"`
	// TokenFile holds a bearer token.
	TokenFile string `yaml:"tokenFile"`
	// Must fire.
	Must []MustFire `yaml:"must"`
	// MustNot fire, by their names.
	MustNot []string `yaml:"mustNot"`
}

// MustFire is an alert that must fire because of a fault.
type MustFire struct {
	// Alert by its name.
	Alert string `yaml:"alert"`
	// Within so long after the fault was proven.
	Within time.Duration `yaml:"within"`
	// Fault by its id.
	Fault string `yaml:"fault"`
}

func newAlerts() Checker { return &Alerts{} }

// The kinds of sources.
const (
	alertsPrometheus   = "prometheus"
	alertsAlertmanager = "alertmanager"
)

// firing is the state of an alert that counts.
const firing = "firing"

// Names of all alerts that the promise is about.
func (c *Alerts) Names() []string {
	out := slices.Clone(c.MustNot)
	for _, m := range c.Must {
		out = append(out, m.Alert)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Validate implements Validator.
func (c *Alerts) Validate() []error {
	var errs []error
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			errs = append(errs, fmt.Errorf("url: %q is not of the form http://HOST:PORT", c.URL))
		case u.User != nil:
			errs = append(errs, fmt.Errorf("url: it would show its password in the run's folder; put a token into a file and give tokenFile"))
		case u.RawQuery != "" || u.Fragment != "":
			errs = append(errs, fmt.Errorf("url: give it as far as /api, without a query"))
		}
	}
	if c.Kind != "" && c.Kind != alertsPrometheus && c.Kind != alertsAlertmanager {
		errs = append(errs, fmt.Errorf("kind: %q is neither %s nor %s", c.Kind, alertsPrometheus, alertsAlertmanager))
	}
	for i, m := range c.Must {
		if m.Alert == "" || m.Fault == "" {
			errs = append(errs, fmt.Errorf("must[%d]: give alert, within and fault", i))
		}
		if m.Within <= 0 {
			errs = append(errs, fmt.Errorf("must[%d].within: %s is no bound; give a duration above 0", i, m.Within))
		}
		if slices.Contains(c.MustNot, m.Alert) {
			errs = append(errs, fmt.Errorf("mustNot: %s must fire, too, because of %s", m.Alert, m.Fault))
		}
	}
	if slices.Contains(c.MustNot, "") {
		errs = append(errs, fmt.Errorf("mustNot: an alert has a name"))
	}
	return errs
}

// Fits implements scenarios.Fitter.
func (c *Alerts) Fits(run scenarios.Shape) []error {
	var errs []error
	if c.URL == "" {
		errs = append(errs, fmt.Errorf("url: say where Prometheus or Alertmanager answers"))
	}
	if len(c.Must)+len(c.MustNot) == 0 {
		errs = append(errs, fmt.Errorf("nothing is promised; give must: [{alert, within, fault}] or mustNot: [alert]"))
	}
	for i, m := range c.Must {
		if len(run.Faults) > 0 && !slices.Contains(run.Faults, m.Fault) {
			errs = append(errs, fmt.Errorf("must[%d].fault: the run has no fault %q%s", i, m.Fault, scenarios.Suggest(m.Fault, run.Faults)))
		}
	}
	return errs
}

// Check implements Checker.
func (c *Alerts) Check(h *history.History) []Result {
	var out []Result
	around := look(h)
	if len(c.Must) > 0 {
		out = append(out, c.must(h, around))
	}
	if len(c.MustNot) > 0 {
		out = append(out, c.mustNot(h, around))
	}
	return out
}

// bout is a time in which an instance of an alert was firing. It began between
// after and from (after 0: nobody knows when), and was last seen before to.
type bout struct {
	after, from, to time.Duration
	over            bool
}

// bouts of an alert, in the order of their beginnings.
func bouts(h *history.History, name string) (list []bout, suppressed bool) {
	open := map[string]int{} // by instance: its bout
	for _, e := range h.Alerts {
		if e.V.Name != name {
			continue
		}
		key := fmt.Sprint(e.V.Labels) // fmt sorts the keys
		i, is := open[key]
		switch {
		case e.V.State == firing && !is:
			open[key] = len(list)
			list = append(list, bout{e.V.After, e.At, h.Last, false})
		case e.V.State != firing && is:
			list[i].to, list[i].over = e.At, true
			delete(open, key)
		}
		suppressed = suppressed || e.V.State == "suppressed"
	}
	slices.SortStableFunc(list, func(a, b bout) int { return int(a.from - b.from) })
	return list, suppressed
}

// source says what is wrong with what was asked; polls are the answers, end is when
// the asking did.
func (c *Alerts) source(h *history.History, g *grounds) (kind string, polls int, end time.Duration) {
	if len(h.Sources) == 0 {
		g.doubt("nothing was asked for alerts")
		return "", 0, 0
	}
	last := h.Sources[len(h.Sources)-1]
	if !last.V.Ended {
		g.doubt("the record does not say until when alerts were asked for")
		return last.V.Kind, last.V.Polls, 0
	}
	if last.V.Polls == 0 {
		g.doubt("the source of alerts never answered")
	}
	return last.V.Kind, last.V.Polls, last.At
}

func (c *Alerts) must(h *history.History, around surroundings) Result {
	r := Result{Name: "alerts.must", Unit: "count", Promise: "0 alerts that do not fire in time: "}
	for i, m := range c.Must {
		if i > 0 {
			r.Promise += ", "
		}
		r.Promise += fmt.Sprintf("%s <= %s after %s is proven", m.Alert, length(m.Within), m.Fault)
	}
	var g grounds
	var end time.Duration
	_, r.Samples, end = c.source(h, &g)
	for _, m := range c.Must {
		if failed := len(g.failed); end > 0 {
			c.one(h, &g, &r, m, around, end)
			r.Observed += float64(len(g.failed) - failed)
		}
	}
	g.decide(&r)
	return r
}

// one judges one alert that must fire.
func (c *Alerts) one(h *history.History, g *grounds, r *Result, m MustFire, around surroundings, end time.Duration) {
	at := slices.IndexFunc(around.faults, func(f FaultFact) bool { return f.Name == m.Fault })
	if at < 0 || around.faults[at].ProvenAt == nil {
		g.doubt("%s: fault %s was not proven", m.Alert, m.Fault)
		return
	}
	f := around.faults[at]
	proven := time.Duration(*f.ProvenAt * float64(time.Millisecond))
	list, suppressed := bouts(h, m.Alert)
	early := false // one may have begun before the fault did
	for _, b := range list {
		if b.from < f.acting.from && b.over && b.to < f.acting.from {
			continue // another story
		}
		if b.after == 0 || b.after < f.acting.from-alertsNear {
			early = true
			continue
		}
		low, high := max(b.after-proven, 0), max(b.from-proven, 0)
		say := fmt.Sprintf("%s fired %s (+-%s) after %s was proven", m.Alert, length((low+high)/2), length((high-low)/2), m.Fault)
		around.evidence(r, span{proven, b.from}, say)
		g.limit(seconds(low), seconds(high), seconds(m.Within), say)
		return
	}
	due := proven + m.Within
	missing := gaps(h, span{proven, due}, "alerts")
	say := fmt.Sprintf("%s did not fire within %s of %s being proven", m.Alert, length(m.Within), m.Fault)
	if suppressed {
		say += " (it was suppressed: silenced or inhibited)"
	}
	if state := ruleOf(h, m.Alert); state != "" {
		say += " (" + state + ")"
	}
	switch {
	case early:
		g.doubt("%s may have fired before %s began: that it noticed it was not shown", m.Alert, m.Fault)
	case len(missing) > 0:
		g.doubt("%s, but %s", say, gapText(missing))
	case end < due:
		g.doubt("%s, but alerts were asked for only until %s after that", say, length(end-proven))
	default:
		g.fail("%s", say)
		around.evidence(r, span{proven, due}, say)
	}
}

func (c *Alerts) mustNot(h *history.History, around surroundings) Result {
	r := Result{Name: "alerts.must-not", Unit: "count", Promise: "0 of these fire: " + strings.Join(c.MustNot, ", ")}
	var g grounds
	in, why := measured(h)
	if why != "" {
		g.doubt("%s", why)
	}
	kind, polls, end := c.source(h, &g)
	r.Samples = polls
	for _, name := range c.MustNot {
		list, suppressed := bouts(h, name)
		fired := false
		for _, b := range list {
			if !(span{b.from, b.to}).touches(in) {
				continue
			}
			fired = true
			text := fmt.Sprintf("%s was firing from %s on", name, clock(b.from))
			if b.after == 0 {
				text = name + " was firing when it was first asked for"
			}
			around.evidence(&r, span{max(b.from, in.from), min(b.to, in.to)}, text)
		}
		if fired {
			r.Observed++
			g.fail("%s fired", name)
		} else if suppressed {
			g.note("%s was suppressed: silenced or inhibited", name)
		}
		if kind == alertsPrometheus {
			if state := ruleOf(h, name); state != "" {
				g.doubt("%s could not fire: %s", name, state)
			}
		}
	}
	if kind == alertsAlertmanager && len(h.Alerts) == 0 && polls > 0 {
		g.doubt("the Alertmanager never told of any alert: whether one would reach it is not known (an alert that always fires would show it)")
	}
	if missing := gaps(h, in, "alerts"); len(missing) > 0 {
		g.doubt("%s", gapText(missing))
	}
	if end > 0 && end < in.to-alertsSlack {
		g.doubt("alerts were asked for only until %s", clock(end))
	}
	if len(g.failed)+len(g.doubts) == 0 {
		g.note("none fired, in %s", count(polls, "answer", "answers"))
	}
	g.decide(&r)
	return r
}

// alertsNear is how long before a fault began the last answer may be that an alert
// was not firing: two polls. One that fired in between is taken to be the fault's,
// as any is that fires later.
const alertsNear = 10 * time.Second

// alertsSlack is how long before the end of the samplers the asking may end: they
// are stopped one after the other.
const alertsSlack = 10 * time.Second

// ruleOf says why a rule cannot have fired its alert, or "": there was none, or it
// could not be evaluated. Several rules may fire alerts of a name. Of an
// Alertmanager nothing is known.
func ruleOf(h *history.History, name string) string {
	worst := ""
	for _, s := range h.Sources {
		if s.V.Kind != alertsPrometheus || s.V.Ended && s.V.Polls == 0 {
			continue
		}
		found := map[string]string{} // by health: what it said
		for _, r := range s.V.Rules {
			if r.Name == name {
				found[r.Health] = r.Err
			}
		}
		if len(found) == 0 {
			return "there is no rule of that name at " + clock(s.At)
		}
		for _, health := range slices.Sorted(maps.Keys(found)) {
			if health != "ok" {
				worst = strings.TrimSuffix(fmt.Sprintf("its rule was not evaluated at %s: %s, %s", clock(s.At), health, found[health]), ", ")
			}
		}
	}
	return worst
}
