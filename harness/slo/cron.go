package slo

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/scenarios"
)

// CronStartLatency promises that every slot of every CronJob starts a container
// in time, none is missed, none is started twice, nothing else is started, and
// those that forbid it never overlap: cron.start-latency, cron.missed,
// cron.duplicate, cron.unscheduled and, if a CronJob has the policy Forbid or
// Replace, cron.overlap.
//
// Latency is from the slot (of a CronJob that forbids overlaps: from the end of
// the Job before, if that ran then) to the first start of a container of the Job's
// pods, over all slots: one that never started counts as longer than any bound. The
// container's own clock says when it started, or, if that is not in the record, the
// API, which cuts it to the second.
//
// A percentile is the nearest rank: of 100 slots p99 is the last but one. Among
// fewer than leave one out it is the latest of all, and is judged and told as
// that: a single late slot of 19 is more than 0.01 % of them, so that p99.99 did
// not hold; that it held says nothing of the slots that were not there.
type CronStartLatency struct {
	// P99 of the latency; 0 does not judge it.
	P99 time.Duration `yaml:"p99"`
	// Max of the latency; 0 does not judge it.
	Max time.Duration `yaml:"max"`
	// More are any other percentiles of the latency, by their names: p99.99.
	More Percentiles `yaml:",inline"`
	// Percentile is one more percentile, such as 99.99, that must be Within: as
	// older records say p99.99.
	Percentile float64       `yaml:"percentile"`
	Within     time.Duration `yaml:"within"`
	// During gives larger bounds to slots that meet phases which are known to cost
	// more.
	During []CronDuring `yaml:"during"`
	// Missed and Duplicates are how many are allowed.
	Missed     int `yaml:"missed"`
	Duplicates int `yaml:"duplicates"`
	// Min is the least number of slots.
	Min int `yaml:"min"`
}

// CronDuring are bounds of their own for slots that meet some phases or faults: within the
// longest common bound from the slot on. The other slots are judged without them.
type CronDuring struct {
	// Phases by their paths; * stands for anything in one part: upgrade/*/etcd.
	Phases []string `yaml:"phases"`
	// Faults by their ids, each from its injection until it is proven gone.
	Faults []string `yaml:"faults"`
	// After is how long after its end a phase's or a fault's effects last.
	After time.Duration `yaml:"after"`
	// P99, Max and More as outside of the phases; 0: as there. A higher percentile
	// may always be as late as a lower one.
	P99  time.Duration `yaml:"p99"`
	Max  time.Duration `yaml:"max"`
	More Percentiles   `yaml:",inline"`
}

// Percentiles are bounds of percentiles by their names: p50, p99.99.
type Percentiles map[string]time.Duration

// KeyPattern implements scenarios.Keyed.
func (Percentiles) KeyPattern() string { return `^p[1-9][0-9]?(\.[0-9]{1,4})?$` }

// bounds are the percentiles in ascending order.
func (p Percentiles) bounds() []bound {
	var out []bound
	for name, budget := range p {
		if share, err := strconv.ParseFloat(strings.TrimPrefix(name, "p"), 64); err == nil && budget > 0 {
			out = append(out, bound{name, share / 100, budget})
		}
	}
	slices.SortFunc(out, func(a, b bound) int { return cmp.Compare(a.p, b.p) })
	return out
}

func newCronStartLatency() Checker {
	return &CronStartLatency{P99: 60 * time.Second, Min: 10}
}

// apiSecond is the resolution of times in the Kubernetes API: a time is cut to
// the second, so that what it says lies up to a second before what it was.
const apiSecond = time.Second

// Validate implements Validator.
func (c *CronStartLatency) Validate() []error {
	errs := notNegative(map[string]time.Duration{"p99": c.P99, "max": c.Max, "within": c.Within})
	for _, name := range slices.Sorted(maps.Keys(c.More)) {
		errs = append(errs, positive(map[string]time.Duration{name: c.More[name]})...)
	}
	if len(c.bounds()) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("p99: no latency would be judged; give p99, max, or any percentile: p99.99"))
	}
	if (c.Percentile != 0) != (c.Within != 0) {
		errs = append(errs, fmt.Errorf("percentile: percentile and within belong together; give both or none"))
	}
	if c.Percentile < 0 || c.Percentile > 100 {
		errs = append(errs, fmt.Errorf("percentile: %v is not between 0 and 100", c.Percentile))
	}
	errs = append(errs, noneBelowZero(map[string]int{"missed": c.Missed, "duplicates": c.Duplicates})...)
	for i, d := range c.During {
		if len(d.Phases)+len(d.Faults) == 0 {
			errs = append(errs, fmt.Errorf("during[%d]: neither phases nor faults are named", i))
		}
		if d.P99 == 0 && d.Max == 0 && len(d.More) == 0 {
			errs = append(errs, fmt.Errorf("during[%d]: nothing is other than outside; give p99, max or any percentile", i))
		}
		for _, name := range slices.Sorted(maps.Keys(d.More)) {
			for _, err := range positive(map[string]time.Duration{name: d.More[name]}) {
				errs = append(errs, fmt.Errorf("during[%d].%w", i, err))
			}
		}
		for _, err := range notNegative(map[string]time.Duration{"after": d.After, "p99": d.P99, "max": d.Max}) {
			errs = append(errs, fmt.Errorf("during[%d].%w", i, err))
		}
	}
	if c.Min < 1 {
		errs = append(errs, fmt.Errorf("min: %d slots prove nothing; give at least 1", c.Min))
	}
	return errs
}

// Fits implements scenarios.Fitter.
func (c *CronStartLatency) Fits(run scenarios.Shape) []error {
	var errs []error
	for i, d := range c.During {
		errs = append(errs, fits("during", i, d.Phases, d.Faults, run)...)
	}
	return errs
}

// bound is a percentile of the latency and its budget.
type bound struct {
	name   string
	p      float64
	budget time.Duration
}

func (c *CronStartLatency) bounds() []bound {
	out := c.More.bounds()
	if c.P99 > 0 {
		out = append(out, bound{"p99", 0.99, c.P99})
	}
	if c.Within > 0 {
		out = append(out, bound{fmt.Sprintf("p%v", c.Percentile), c.Percentile / 100, c.Within})
	}
	if c.Max > 0 {
		out = append(out, bound{"max", 1, c.Max})
	}
	slices.SortStableFunc(out, func(a, b bound) int { return cmp.Compare(a.p, b.p) })
	return out
}

// boundsOf are the bounds of a slot that fell to a part (-1: elsewhere).
func (c *CronStartLatency) boundsOf(part int) []bound {
	out := c.bounds()
	if part < 0 {
		return out
	}
	d := c.During[part]
	for _, b := range (&CronStartLatency{P99: d.P99, Max: d.Max, More: d.More}).bounds() {
		if !slices.ContainsFunc(out, func(o bound) bool { return o.p == b.p }) {
			out = append(out, b)
		}
		for i := range out {
			if out[i].p >= b.p {
				out[i].budget = max(out[i].budget, b.budget)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b bound) int { return cmp.Compare(a.p, b.p) })
	return out
}

// longest is the longest of some bounds.
func longestOf(bounds []bound) time.Duration {
	var d time.Duration
	for _, b := range bounds {
		d = max(d, b.budget)
	}
	return d
}

// parts are the windows of During, as limits by their longest bound.
func (c *CronStartLatency) parts(around surroundings) limits {
	l := limits{base: longestOf(c.bounds())}
	for i, d := range c.During {
		l.in = append(l.in, limit{around.window(d.Phases, d.Faults, d.After), longestOf(c.boundsOf(i))})
	}
	return l
}

// Check implements Checker.
func (c *CronStartLatency) Check(h *history.History) []Result {
	w := c.work(h)
	out := []Result{c.latency(w), c.missed(w), c.duplicate(w), c.unscheduled(w)}
	if slices.ContainsFunc(h.CronJobs, func(j history.Timed[history.CronJob]) bool { return oneAtATime(j.V) }) {
		out = append(out, c.overlap(w))
	}
	return out
}

// work is what is to be judged.
func (c *CronStartLatency) work(h *history.History) cronWork {
	around := look(h)
	stop := Stopped(h)
	// A slot is judged only if it had time to break the longest bound.
	slack := apiSecond
	for part := -1; part < len(c.During); part++ {
		slack = max(slack, longestOf(c.boundsOf(part))+apiSecond)
	}
	slots, unsure, err := Slots(h, stop)
	var judged, young []Slot
	for _, s := range slots {
		if h.Run.Began.Add(stop).Sub(s.At) < slack {
			young = append(young, s)
		} else {
			judged = append(judged, s)
		}
	}
	w := cronWork{
		h: h, around: around, stop: stop, slots: judged, all: slots, slack: slack, err: err,
		young: len(young), unsure: unsure, excuses: map[slotKey]string{}, law: newLaw(h, around, stop),
	}
	for _, s := range judged {
		if len(s.Jobs) == 0 {
			if why := w.law.excuse(s); why != "" {
				w.excuses[slotKey{s.CronJobUID, s.At.Unix()}] = why
			}
		}
	}
	return w
}

// cronWork is what the promises about CronJobs share.
type cronWork struct {
	h      *history.History
	around surroundings
	stop   time.Duration
	// slots that are judged, all that were promised.
	slots, all    []Slot
	slack         time.Duration // a slot that is younger is not judged
	err           error
	young, unsure int
	law           *law
	// excuses say why a slot was missed lawfully.
	excuses map[slotKey]string
}

func (w cronWork) lawful(s Slot) (string, bool) {
	why, ok := w.excuses[slotKey{s.CronJobUID, s.At.Unix()}]
	return why, ok
}

// at is a wall-clock time on the run's clock.
func (w cronWork) at(t time.Time) time.Duration { return t.Sub(w.h.Run.Began) }

// ready says what all promises need: schedules that can be read, and enough
// slots.
func (w cronWork) ready(g *grounds, r *Result, least int) {
	if w.err != nil {
		g.doubt("%v", w.err)
	}
	r.Samples, r.Excluded = len(w.slots), w.young+w.unsure
	if len(w.h.CronJobs) == 0 {
		g.doubt("no CronJob is in the record")
	} else if len(w.slots) < least {
		g.doubt("%s to judge, at least %d are needed", count(len(w.slots), "slot", "slots"), least)
	}
}

// besides tells what was left out.
func (w cronWork) besides(g *grounds) {
	if w.young > 0 {
		g.note("%s too young to be judged when the watches stopped", count(w.young, "slot was", "slots were"))
	}
	if w.unsure > 0 {
		g.note("%s within a second of a change of the spec", count(w.unsure, "slot was", "slots were"))
	}
	manual := map[string]bool{}
	for _, j := range w.h.Jobs {
		if j.V.CronJob != "" && j.V.Slot.IsZero() {
			manual[j.V.UID] = true
		}
	}
	if len(manual) > 0 {
		g.note("%s made by hand left out", count(len(manual), "Job", "Jobs"))
	}
}

func (c *CronStartLatency) latency(w cronWork) Result {
	r := Result{Name: "cron.start-latency", Unit: "s", ErrorBar: seconds(apiSecond)}
	r.Promise = "slot to first container: " + promised(c.bounds())
	for i, d := range c.During {
		r.Allowed = append(r.Allowed, allowedIn(d.Phases, d.Faults, d.After, promised(c.boundsOf(i))))
	}
	var g grounds
	w.ready(&g, &r, c.Min)

	by := c.parts(w.around)
	blind := "" // the first slot that may have started unseen
	var late []start
	var worst, waited time.Duration // longest latency; longest wait for a start that never came
	never, excused, early, held, caughtUp, own := 0, 0, 0, 0, 0, 0
	var latestJob time.Duration
	var bar time.Duration // of the containers' own clocks
	for _, s := range w.slots {
		if _, ok := w.lawful(s); ok {
			excused++
			continue
		}
		wait := w.law.waited(s)
		if len(s.Jobs) > 0 && wait > 0 {
			held++
		}
		if skew := s.Created.Sub(s.At) - wait; len(s.Jobs) > 0 && skew > jobSkew {
			caughtUp, latestJob = caughtUp+1, max(latestJob, skew)
		}
		from := w.at(s.At)
		x := start{took: forever, sure: forever, most: forever}
		until := w.stop
		if !s.Started.IsZero() {
			x.took = s.Started.Sub(s.At)
			off := s.Bar
			if wait > 0 { // from the end of a Job, which the API tells to the second
				x.took, off = max(0, x.took-wait), max(s.Bar, apiSecond)
			}
			x.sure, x.most = x.took, x.took+off
			if s.Own {
				x.sure -= off
				own, bar = own+1, max(bar, s.Bar)
			}
			until = w.at(s.Started)
		}
		// The part depends on the slot alone, not on when it started.
		at := span{from, from + by.base}
		_, x.lenient = by.of(at, false)
		_, x.strict = by.of(at, true)
		strictest := forever
		for _, b := range c.boundsOf(x.lenient) {
			strictest = min(strictest, b.budget)
		}
		if x.took <= strictest {
			worst = max(worst, x.took)
			if x.took < -apiSecond {
				early++
			}
			late = append(late, x)
			continue
		}
		slot := fmt.Sprintf("%s: slot %s", s.CronJob, s.At.Format("15:04:05"))
		switch {
		case x.took < forever:
			worst = max(worst, x.took)
			w.around.evidence(&r, span{from, until}, fmt.Sprintf("%s started %s late: %s", slot, length(x.took), s.hops()))
		case len(s.Jobs) > 0:
			w.around.evidence(&r, span{from, until}, slot+" never started: its Job's pods started no container")
		default:
			w.around.evidence(&r, span{from, until}, slot+" never started: no Job was made")
		}
		if x.took == forever {
			never++
			waited = max(waited, w.stop-from)
		}
		if list := gaps(w.h, span{from, until}, jobSources...); len(list) > 0 {
			x.sure = 0
			if blind == "" {
				blind = fmt.Sprintf("%s was late or not seen, and %s", slot, gapText(list))
			}
		}
		late = append(late, x)
	}
	r.Excluded += excused
	if early > 0 {
		g.doubt("%s before the slot: the clocks of cluster and schedule disagree", count(early, "container started", "containers started"))
	}
	c.percentiles(&g, &r, by, late, waited, blind)
	r.Hops = hopsOf(w.slots)
	if text := hopsText(r.Hops); text != "" {
		g.note("%s", text)
	}
	if started := len(late) - never; started > 0 {
		if own > 0 {
			g.note("%d of %d starts are by the containers' own clocks (+-%s), the rest by the API, to the second", own, started, length(bar))
		}
		g.note("the latest start was %s after its slot", length(worst))
	}
	if never > 0 {
		g.note("%s", count(never, "slot never started", "slots never started"))
	}
	if excused > 0 {
		g.note("%s lawfully", count(excused, "slot was missed", "slots were missed"))
	}
	if held > 0 {
		g.note("%s for the Job before, as policy Forbid says: measured from its end", count(held, "slot waited", "slots waited"))
	}
	if caughtUp > 0 {
		g.note("%s caught up late, up to %s after it was due", count(caughtUp, "Job was", "Jobs were"), length(latestJob))
	}
	w.besides(&g)
	g.decide(&r)
	return r
}

// jobSkew is how long after its slot the controller makes a Job when nothing holds
// it up: 100 ms (k8s.io/kubernetes@v1.37.0 pkg/controller/cronjob/utils.go,
// nextScheduleDelta), the time of a request, and what the API cuts off.
const jobSkew = 2 * time.Second

// start is the latency of a slot: as known, what of it is sure, and what it is at
// most.
type start struct {
	took, sure, most time.Duration
	// The part that it falls to (-1: elsewhere), as the windows are at most and
	// at least.
	lenient, strict int
}

func promised(bounds []bound) string {
	var words []string
	for _, b := range bounds {
		words = append(words, b.name+" <= "+length(b.budget))
	}
	return strings.Join(words, ", ")
}

// percentiles judges each part by its own bounds. A slot at the edge of a window
// may be of two parts: a bound is broken for sure only if it is either way.
func (c *CronStartLatency) percentiles(g *grounds, r *Result, by limits, late []start, waited time.Duration, blind string) {
	all := newParts(by)
	var few []string
	r.Budget = seconds(c.bounds()[0].budget)
	for part := -1; part < len(by.in); part++ {
		var known, sure, most [2][]time.Duration // by strict and by lenient windows
		for _, x := range late {
			for i, of := range []int{x.strict, x.lenient} {
				if of == part {
					known[i], sure[i], most[i] = append(known[i], x.took), append(sure[i], x.sure), append(most[i], x.most)
				}
			}
		}
		where := ""
		if part >= 0 {
			where = " during " + by.in[part].name
		} else if len(by.in) > 0 {
			where = " elsewhere"
		}
		worst := 0.0
		for _, b := range c.boundsOf(part) {
			p := max(percentile(known[0], b.p), percentile(known[1], b.p))
			if len(known[0])+len(known[1]) == 0 {
				break
			}
			high := max(percentile(most[0], b.p), percentile(most[1], b.p))
			say, value, bar := b.name+" is "+length(p)+where, p, high-p
			if p == forever {
				bar = apiSecond
				say, value = fmt.Sprintf("%s never started%s (waited %s)", b.name, where, length(waited)), waited
			}
			if x := &all.list[part+1]; worst == 0 || p > b.budget {
				worst = float64(value) / float64(b.budget)
				all.ratio[part+1] = worst
				x.Budget, x.Observed, x.ErrorBar, x.Samples = seconds(b.budget), seconds(value), seconds(bar), len(known[1])
			}
			broken := percentile(sure[0], b.p) > b.budget && percentile(sure[1], b.p) > b.budget
			if n := len(known[1]); b.p < 1 && n > 0 && rank(n, b.p) == n {
				few = append(few, fmt.Sprintf("%s of %s%s is the latest of them: %d leave one out", b.name, count(n, "slot", "slots"), where, enough(b.p)))
			}
			open := ""
			if part >= 0 {
				open = by.in[part].open
			}
			switch {
			case p > b.budget && broken:
				g.fail("%s", say)
			case p > b.budget && blind != "":
				g.doubt("%s; %s", blind, say)
			case p > b.budget && percentile(known[0], b.p) > b.budget && percentile(known[1], b.p) > b.budget:
				g.doubt("%s: too close to the budget for its error bar", say)
			case p > b.budget:
				g.doubt("%s, but with slots at the edge of a phase", say)
			case open != "" && p > by.base:
				g.doubt("%s, but the end of %s is not in the record", say, open)
			case high > b.budget:
				g.doubt("%s: too close to the budget for its error bar", say)
			default:
				g.note("%s", say)
			}
		}
	}
	for _, text := range few {
		g.note("%s", text)
	}
	if len(late) > 0 {
		all.take(r)
	}
}

// forever is the latency of a slot that never started.
const forever = time.Duration(math.MaxInt64)

// jobSources are the sources that say whether a slot started.
var jobSources = []string{"watch/jobs", "watch/pods", "watch/cronjobs"}

func (c *CronStartLatency) missed(w cronWork) Result {
	r := Result{Name: "cron.missed", Unit: "count", Budget: float64(c.Missed), Promise: fmt.Sprintf("no more than %d slots missed", c.Missed)}
	if c.Missed == 0 {
		r.Promise = "no slot missed"
	}
	var g grounds
	w.ready(&g, &r, c.Min)
	missed, idle := 0, 0
	var excuses []string
	var unseen []history.Gap
	for _, s := range w.slots {
		if !s.Started.IsZero() {
			continue
		}
		from := w.at(s.At)
		to := min(w.at(s.Next), w.stop)
		text := fmt.Sprintf("%s: slot %s has no Job", s.CronJob, s.At.Format("15:04:05"))
		if len(s.Jobs) > 0 {
			// A slot is judged only when it is older than any bound of its start.
			if list := gaps(w.h, span{from, w.stop}, jobSources...); len(list) > 0 {
				unseen = append(unseen, list[0])
				r.Excluded++
				continue
			}
			missed++
			idle++
			w.around.evidence(&r, span{from, w.stop}, fmt.Sprintf("%s: slot %s has a Job that never started a container: %s", s.CronJob, s.At.Format("15:04:05"), some(s.Jobs)))
			continue
		}
		if why, ok := w.lawful(s); ok {
			r.Excluded++
			excuses = append(excuses, why)
			w.around.evidence(&r, span{from, to}, text+", lawfully: "+why)
			continue
		}
		if list := gaps(w.h, span{from, to}, "watch/jobs"); len(list) > 0 {
			unseen = append(unseen, list[0])
			r.Excluded++
			continue
		}
		missed++
		w.around.evidence(&r, span{from, to}, text)
	}
	r.Observed = float64(missed)
	if missed > c.Missed {
		g.fail("%s missed", count(missed, "slot was", "slots were"))
	} else {
		g.note("%d missed of %s", missed, count(len(w.slots), "slot", "slots"))
	}
	if len(unseen) > 0 {
		g.doubt("%s without a start, and %s", count(len(unseen), "slot is", "slots are"), gapText(unseen))
	}
	if idle > 0 {
		g.note("%s a Job that never started a container", count(idle, "of these has", "of these have"))
	}
	if len(excuses) > 0 {
		g.note("%s lawfully: %s", count(len(excuses), "more was missed", "more were missed"), excuses[0])
	}
	w.besides(&g)
	g.decide(&r)
	return r
}

func (c *CronStartLatency) duplicate(w cronWork) Result {
	r := Result{Name: "cron.duplicate", Unit: "count", Budget: float64(c.Duplicates), Promise: fmt.Sprintf("no more than %d slots started twice", c.Duplicates)}
	if c.Duplicates == 0 {
		r.Promise = "no slot started twice"
	}
	var g grounds
	w.ready(&g, &r, c.Min)
	// A slot that is too young to be late can be a duplicate all the same.
	r.Samples, r.Excluded = len(w.all), w.unsure
	// Also of moments that no spec promised for sure, as after a change of it.
	jobs := map[slotKey][]history.Job{}
	var order []slotKey
	seen := map[string]bool{}
	for _, j := range w.h.Jobs {
		if j.V.CronJobUID == "" || j.V.Slot.IsZero() || seen[j.V.UID] {
			continue
		}
		seen[j.V.UID] = true
		key := slotKey{j.V.CronJobUID, j.V.Slot.Unix()}
		if len(jobs[key]) == 0 {
			order = append(order, key)
		}
		jobs[key] = append(jobs[key], j.V)
	}
	twice := 0
	for _, key := range order {
		list := jobs[key]
		if len(list) < 2 {
			continue
		}
		twice += len(list) - 1
		var names []string
		for _, j := range list {
			names = append(names, j.UID)
		}
		at := w.at(list[0].Slot)
		w.around.evidence(&r, span{at, at}, fmt.Sprintf("%s: slot %s has %d Jobs: %s", list[0].CronJob, list[0].Slot.Format("15:04:05"), len(list), some(names)))
	}
	r.Observed = float64(twice)
	if twice > c.Duplicates {
		g.fail("%s more than once", count(twice, "Job was made for a slot", "Jobs were made for slots"))
	} else {
		g.note("%d of %s", twice, count(len(w.all), "slot", "slots"))
	}
	if list := gaps(w.h, span{0, w.stop}, "watch/jobs"); len(list) > 0 {
		g.doubt("a Job may have come and gone unseen: %s", gapText(list))
	}
	g.decide(&r)
	return r
}
