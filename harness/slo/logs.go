package slo

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/scenarios"
)

// Logs promises what the logs of components, kubelets and containerds hold: a
// pattern that must not occur (logs.must-not), or must (logs.must). Patterns are
// sought when the run collects the logs, so that a run is judged by the patterns
// that it was run with.
type Logs struct {
	// MustNot occur, but so often as is allowed.
	MustNot []LogPattern `yaml:"mustNot"`
	// Must occur at least once in the run, in any of the logs.
	Must []LogPattern `yaml:"must"`
}

// LogPattern is a pattern in some logs.
type LogPattern struct {
	// Pattern is a regular expression (https://pkg.go.dev/regexp/syntax), sought in
	// the text of each line, without time and origin.
	Pattern string `yaml:"pattern"`
	// In names the logs: kubelet, containerd, or a container of kube-system such as
	// kube-apiserver; none: all.
	In []string `yaml:"in"`
	// AtMost is on how many lines it may be found.
	AtMost int `yaml:"atMost"`
	// During allows more in some phases or faults; what is found there does not count
	// elsewhere.
	During []LogDuring `yaml:"during"`
}

// LogDuring is a limit of its own for some phases or faults.
type LogDuring struct {
	// Phases by their paths; * stands for anything in one part.
	Phases []string `yaml:"phases"`
	// Faults by their ids, each from its injection until it is proven gone.
	Faults []string `yaml:"faults"`
	// After is how long after its end a phase's or a fault's effects last.
	After time.Duration `yaml:"after"`
	// AtMost is on how many lines it may be found there.
	AtMost int `yaml:"atMost"`
}

func newLogs() Checker { return &Logs{MustNot: []LogPattern{{Pattern: PanicPattern}}} }

// Patterns are what is sought in the logs of the run.
func (c *Logs) Patterns() []string {
	var out []string
	for _, p := range slices.Concat(c.MustNot, c.Must) {
		out = append(out, p.Pattern)
	}
	return out
}

// Validate implements Validator.
func (c *Logs) Validate() []error {
	var errs []error
	if len(c.MustNot)+len(c.Must) == 0 {
		errs = append(errs, fmt.Errorf("mustNot: no pattern is named, here or in must"))
	}
	for _, x := range []struct {
		field string
		list  []LogPattern
	}{{"mustNot", c.MustNot}, {"must", c.Must}} {
		for i, p := range x.list {
			field := fmt.Sprintf("%s[%d]", x.field, i)
			if p.Pattern == "" {
				errs = append(errs, fmt.Errorf("%s.pattern: it is empty, and would be found on every line", field))
			} else if _, err := regexp.Compile(p.Pattern); err != nil {
				errs = append(errs, fmt.Errorf("%s.pattern: %w", field, err))
			}
			if p.AtMost < 0 {
				errs = append(errs, fmt.Errorf("%s.atMost: %d is below 0", field, p.AtMost))
			}
			if x.field == "must" && (p.AtMost > 0 || len(p.During) > 0) {
				errs = append(errs, fmt.Errorf("%s: atMost and during are for mustNot only", field))
			}
			for n, d := range p.During {
				switch {
				case len(d.Phases)+len(d.Faults) == 0:
					errs = append(errs, fmt.Errorf("%s.during[%d]: neither phases nor faults are named", field, n))
				case d.AtMost <= 0:
					errs = append(errs, fmt.Errorf("%s.during[%d].atMost: %d allows nothing", field, n, d.AtMost))
				case d.After < 0:
					errs = append(errs, fmt.Errorf("%s.during[%d].after: %s is below 0", field, n, d.After))
				}
			}
		}
	}
	return errs
}

// Fits implements scenarios.Fitter.
func (c *Logs) Fits(run scenarios.Shape) []error {
	var errs []error
	for i, p := range c.MustNot {
		for n, d := range p.During {
			errs = append(errs, fits(fmt.Sprintf("mustNot[%d].during", i), n, d.Phases, d.Faults, run)...)
		}
	}
	return errs
}

// Check implements Checker.
func (c *Logs) Check(h *history.History) []Result {
	var out []Result
	around := newBlame(h, 0)
	if len(c.MustNot) > 0 {
		out = append(out, c.mustNot(h, around))
	}
	if len(c.Must) > 0 {
		out = append(out, c.must(h, around))
	}
	return out
}

// logView is what the record holds of one pattern in some logs.
type logView struct {
	lines []history.LogLine
	// looked is how many logs were looked through for it, found on how many lines
	// it is, untold how many of them are not in lines.
	looked, found, untold int
	missing               []history.Log // those of which a part is
	unsought              int           // those that were not looked through for it
	absent                []string      // names of logs of which there is none
}

// newLogView looks at the logs of some sources; of none named, at all.
func newLogView(h *history.History, pattern string, in ...string) logView {
	var v logView
	mine := func(source string) bool { return len(in) == 0 || slices.Contains(in, source) }
	have := map[string]bool{}
	for _, l := range h.Logs {
		if !mine(l.V.Source) {
			continue
		}
		have[l.V.Source] = true
		if l.V.Missing != "" {
			v.missing = append(v.missing, l.V)
		}
		n, sought := l.V.Found[pattern]
		switch {
		case l.V.File == "":
		case !sought && l.V.Missing == "":
			v.unsought++
		case sought:
			v.looked++
			v.found += n
		}
	}
	for _, f := range h.LogLines {
		if f.V.Pattern == pattern && mine(f.V.Source) {
			v.lines = append(v.lines, f.V)
		}
	}
	v.untold = max(0, v.found-len(v.lines))
	for _, s := range in {
		if !have[s] {
			v.absent = append(v.absent, s)
		}
	}
	return v
}

// gaps doubt what was not looked through.
func (v logView) gaps(g *grounds, b blame) {
	if v.looked+v.unsought+len(v.missing) == 0 {
		g.doubt("no log is in the record")
		return
	}
	for _, s := range v.absent {
		g.doubt("no log of %s is in the record", s)
	}
	if v.unsought > 0 {
		g.doubt("%s looked through for it when the run was made", count(v.unsought, "log was not", "logs were not"))
	}
	for _, l := range v.missing {
		g.doubt("the log of %s on %s is not whole: %s", l.Source, b.at(l.Node), l.Missing)
	}
}

// what is a pattern as a person reads it.
func (p LogPattern) what() string {
	s := fmt.Sprintf("/%s/", p.Pattern)
	if len(p.In) > 0 {
		s += " in " + strings.Join(p.In, ", ")
	}
	return s
}

func (c *Logs) mustNot(h *history.History, b blame) Result {
	r := Result{Name: "logs.must-not", Unit: "count"}
	var g grounds
	var promises []string
	over := 0.0
	for i, p := range c.MustNot {
		v := newLogView(h, p.Pattern, p.In...)
		r.Samples += v.looked
		v.gaps(&g, b)
		parts := []Part{{Name: elsewhere, Budget: float64(p.AtMost)}}
		windows := make([]window, len(p.During))
		say := "no " + p.what()
		if p.AtMost > 0 {
			say = fmt.Sprintf("%s on at most %s", p.what(), count(p.AtMost, "line", "lines"))
		}
		for n, d := range p.During {
			windows[n] = b.around.window(d.Phases, d.Faults, d.After)
			parts = append(parts, Part{Name: windows[n].name, Budget: float64(d.AtMost)})
			say += fmt.Sprintf("; at most %d during %s and %s after", d.AtMost, windows[n].name, length(d.After))
		}
		promises = append(promises, say)
		for _, f := range v.lines {
			in := span{0, h.Last} // a line without a time can have been written at any
			if !f.Time.IsZero() {
				at := f.Time.Sub(h.Run.Began)
				in = span{at, at}
			}
			part := 0
			for n := range windows {
				if !f.Time.IsZero() && slices.ContainsFunc(windows[n].wide, in.touches) {
					part = n + 1
					break
				}
			}
			parts[part].Samples++
			parts[part].Observed++
			b.around.evidence(&r, in, fmt.Sprintf("%s on %s: %s (%s:%d)", f.Source, b.at(f.Node), f.Text, f.File, f.Line))
		}
		if v.untold > 0 { // whenever they were written
			g.doubt("%s is on %d lines more than are told", p.what(), v.untold)
		}
		for n, x := range parts {
			where := ""
			if n > 0 {
				where = " during " + x.Name
			}
			if x.Observed > x.Budget {
				g.fail("%s is on %s%s", p.what(), count(int(x.Observed), "line", "lines"), where)
			}
			if d := x.Observed - x.Budget; i == 0 && n == 0 || d > over {
				over, r.Observed, r.Budget = d, x.Observed, x.Budget
			}
		}
		if len(parts) > 1 {
			r.Parts = append(r.Parts, parts...)
		}
	}
	r.Promise = strings.Join(promises, "; ")
	if len(g.failed) == 0 && r.Samples > 0 {
		g.note("%s looked through", count(r.Samples, "log was", "logs were"))
	}
	g.decide(&r)
	return r
}

func (c *Logs) must(h *history.History, b blame) Result {
	r := Result{Name: "logs.must", Unit: "count", Budget: float64(len(c.Must))}
	var g grounds
	var promises []string
	for _, p := range c.Must {
		v := newLogView(h, p.Pattern, p.In...)
		r.Samples += v.looked
		promises = append(promises, p.what())
		if v.found > 0 { // whatever is missing besides
			r.Observed++
			g.note("%s is on %s", p.what(), count(v.found, "line", "lines"))
			continue
		}
		n := len(g.doubts)
		if v.gaps(&g, b); len(g.doubts) == n {
			g.fail("%s was not found in %s", p.what(), count(v.looked, "log", "logs"))
		}
	}
	r.Promise = "there is " + strings.Join(promises, " and ")
	g.decide(&r)
	return r
}
