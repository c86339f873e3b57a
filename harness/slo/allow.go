package slo

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"gameday/scenarios"
)

// Part is what one budget of a promise that has several was measured against.
type Part struct {
	// Name is the phases of the budget, or "elsewhere".
	Name     string  `json:"name"`
	Budget   float64 `json:"budget"`
	Observed float64 `json:"observed"`
	ErrorBar float64 `json:"errorBar"`
	// Samples counts the outages or slots that fell to it.
	Samples int `json:"samples"`
}

// elsewhere is the name of what no phase allows more.
const elsewhere = "elsewhere"

// window is when a budget of its own holds: during phases or faults, and for a while
// after. Both are told from observations, late by a little: within wide the
// budget may hold, within narrow it surely does.
type window struct {
	name         string
	wide, narrow []span
	// open is a phase or a fault of which no end is recorded: nobody knows how long it
	// allowed what.
	open string
}

// window are the times of all attempts of the phases that a pattern names, and of
// faults.
func (s surroundings) window(patterns, faults []string, after time.Duration) window {
	w := window{name: nameOf(patterns, faults)}
	for _, f := range s.faults {
		if !slices.Contains(faults, f.Name) || f.acting == (span{}) {
			continue
		}
		if f.GoneAt == nil {
			w.open = f.Name
		}
		w.add(f.acting, after)
	}
	for _, p := range s.phases {
		if !slices.ContainsFunc(patterns, func(pattern string) bool { return isNamed(pattern, p.Name) }) {
			continue
		}
		if p.Outcome == didNotEnd || slices.Contains(p.Attempts, didNotEnd) {
			w.open = p.Name
		}
		for _, s := range p.spans {
			w.add(s, after)
		}
	}
	return w
}

func (w *window) add(s span, after time.Duration) {
	w.wide = append(w.wide, span{s.from - watchSlack, s.to + after + watchSlack})
	if n := (span{s.from + watchSlack, s.to + after - watchSlack}); n.from < n.to {
		w.narrow = append(w.narrow, n)
	}
}

// nameOf is how a window is called.
func nameOf(phases, faults []string) string {
	return strings.Join(slices.Concat(phases, faults), ", ")
}

// Short is the promise in one line: of the windows with budgets of their own it tells
// how many there are.
func (r Result) Short() string {
	if len(r.Allowed) == 0 {
		return r.Promise
	}
	return fmt.Sprintf("%s, but for %s", r.Promise, count(len(r.Allowed), "window with a budget of its own", "windows with budgets of their own"))
}

// allowedIn says what a window allows, for its result.
func allowedIn(phases, faults []string, after time.Duration, what string) string {
	return fmt.Sprintf("during %s and %s after, %s", nameOf(phases, faults), length(after), what)
}

// isNamed says whether a pattern names a phase: * stands for anything within one
// part of the path. Places have brackets, which are no classes here.
func isNamed(pattern, phase string) bool {
	ok, err := path.Match(literal.Replace(pattern), phase)
	return err == nil && ok
}

var literal = strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`, `?`, `\?`)

// fits says which of the patterns name none of the run's phases, and which of the
// faults it has not. What is not known cannot be wrong.
func fits(field string, i int, patterns, faults []string, run scenarios.Shape) []error {
	var errs []error
	phases := run.Phases
	for _, f := range faults {
		if len(run.Faults) > 0 && !slices.Contains(run.Faults, f) {
			errs = append(errs, fmt.Errorf("%s[%d].faults: the run has no fault %q%s", field, i, f, scenarios.Suggest(f, run.Faults)))
		}
	}
	for _, p := range patterns {
		if len(phases) > 0 && !slices.ContainsFunc(phases, func(phase string) bool { return isNamed(p, phase) }) {
			errs = append(errs, fmt.Errorf("%s[%d].phases: %q names no phase of the run", field, i, p))
		}
	}
	return errs
}

// limits of a length: everywhere, and the larger ones in windows.
type limits struct {
	base time.Duration
	in   []limit
}

type limit struct {
	window
	budget time.Duration
}

// of is the largest limit that holds at some moment of a span, and whose it is
// (-1: everywhere); surely: only those that do beyond doubt.
func (l limits) of(in span, surely bool) (budget time.Duration, i int) {
	budget, i = l.base, -1
	for n, w := range l.in {
		list := w.wide
		if surely {
			list = w.narrow
		}
		if w.budget > budget && slices.ContainsFunc(list, in.touches) {
			budget, i = w.budget, n
		}
	}
	return budget, i
}

// outside is how much of a span lies outside of all windows; surely: of what they
// may be at most.
func (l limits) outside(in span, surely bool) time.Duration {
	var list []span
	for _, w := range l.in {
		if surely {
			list = append(list, w.wide...)
		} else {
			list = append(list, w.narrow...)
		}
	}
	return outside(in, list)
}

// outside is how much of a span lies in none of the others.
func outside(in span, others []span) time.Duration {
	others = slices.Clone(others)
	slices.SortFunc(others, func(a, b span) int { return int(a.from - b.from) })
	left, from := time.Duration(0), in.from
	for _, o := range others {
		if o.from > from {
			left += max(0, min(o.from, in.to)-from)
		}
		from = max(from, o.to)
	}
	return left + max(0, in.to-from)
}

// ruling is what limits say of an outage.
type ruling struct {
	fails, doubt bool
	// limit of the whole, in whose name (-1: everywhere).
	limit time.Duration
	part  int
	// least and most of it lie outside of all windows; sure of least in one
	// stretch.
	least, most, sure time.Duration
	// open is a phase without an end that is the only excuse.
	open string
}

// length is the middle of what lies outside.
func (r ruling) length() time.Duration { return (r.least + r.most) / 2 }

// rule judges an outage: what of it lies outside of all windows by the base, the
// whole by the largest limit that it met.
func (l limits) rule(o Outage) ruling {
	var r ruling
	whole := span{o.LastGood, o.FirstGood}
	r.limit, r.part = l.of(whole, false)
	if !o.starved() {
		for _, s := range o.stretches {
			d := l.outside(s, true)
			r.least += d
			r.sure = max(r.sure, d)
		}
	}
	r.most = l.outside(whole, false)
	narrow, _ := l.of(o.span(), true)
	r.fails = r.sure > l.base || o.least() > r.limit
	r.doubt = r.most > l.base || o.Most() > narrow
	if r.part >= 0 && o.Most() > l.base {
		r.open = l.in[r.part].open
	}
	return r
}

// parts collect what was worst by each limit.
type parts struct {
	list  []Part
	ratio []float64
}

func newParts(l limits) *parts {
	p := &parts{list: []Part{{Name: elsewhere, Budget: seconds(l.base)}}}
	for _, w := range l.in {
		p.list = append(p.list, Part{Name: w.name, Budget: seconds(w.budget)})
	}
	p.ratio = make([]float64, len(p.list))
	return p
}

// add takes a length that fell to a part (-1: elsewhere) with its limit.
func (p *parts) add(part int, length, bar, limit time.Duration) {
	x := &p.list[part+1]
	x.Samples++
	if r := float64(length) / float64(limit); r >= p.ratio[part+1] {
		p.ratio[part+1] = r
		x.Observed, x.ErrorBar, x.Budget = seconds(length), seconds(bar), seconds(limit)
	}
}

// merge takes what others have collected by limits of which the first are the same.
func (p *parts) merge(o *parts) {
	for i := range p.list {
		p.list[i].Samples += o.list[i].Samples
		if o.list[i].Samples > 0 && o.ratio[i] >= p.ratio[i] {
			p.ratio[i] = o.ratio[i]
			p.list[i].Observed, p.list[i].ErrorBar, p.list[i].Budget = o.list[i].Observed, o.list[i].ErrorBar, o.list[i].Budget
		}
	}
}

// take writes the parts into a result: the worst by its own limit stands for it.
func (p *parts) take(r *Result) {
	worst := 0
	for i, ratio := range p.ratio {
		if ratio > p.ratio[worst] {
			worst = i
		}
	}
	r.Budget, r.Observed, r.ErrorBar = p.list[worst].Budget, p.list[worst].Observed, p.list[worst].ErrorBar
	if len(p.list) == 1 {
		return
	}
	for i, x := range p.list { // a phase may allow more to others only
		if i == 0 || x.Samples > 0 || x.Budget > p.list[0].Budget {
			r.Parts = append(r.Parts, x)
		}
	}
}
