package slo

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/scenarios"
)

// Components promises that no component of the cluster ends but for what the run
// does to it: restarts, crash loops, changes of who leads and the time without a
// leader (of kube-controller-manager and kube-scheduler), panics. What a fault or
// a step of the upgrade explains does not count; the time without a leader is
// bounded whatever the reason.
type Components struct {
	// Restarts, Loops, LeaderChanges and Panics are how many of them may be
	// unexplained.
	Restarts      int `yaml:"restarts"`
	Loops         int `yaml:"loops"`
	LeaderChanges int `yaml:"leaderChanges"`
	Panics        int `yaml:"panics"`
	// LeaderGap is the longest time from the last renewal of a lease by one holder
	// to the first by the next.
	LeaderGap time.Duration `yaml:"leaderGap"`
	// Settle is how long after it is gone a fault explains what ends: who waits for
	// another component tries again, and ends anew.
	Settle time.Duration `yaml:"settle"`
	// During gives larger limits to phases or faults that are known to cost more.
	During []ComponentsDuring `yaml:"during"`
}

// ComponentsDuring are limits of their own for some phases or faults.
type ComponentsDuring struct {
	// Phases by their paths; * stands for anything in one part.
	Phases []string `yaml:"phases"`
	// Faults by their ids, each from its injection until it is proven gone.
	Faults []string `yaml:"faults"`
	// After is how long after its end a phase's or a fault's effects last.
	After time.Duration `yaml:"after"`
	// Restarts that may be unexplained, all phases together; they do not count
	// elsewhere.
	Restarts int `yaml:"restarts"`
	// LeaderGap as outside of the phases; 0: as there.
	LeaderGap time.Duration `yaml:"leaderGap"`
}

func newComponents() Checker {
	return &Components{LeaderGap: 24 * time.Second, Settle: 60 * time.Second}
}

// PanicPattern is how Go begins to tell that a process dies of its own mistake:
// an uncaught panic, an error of the runtime, and what the race detector found
// (go.dev/src/runtime/panic.go, printpanics and fatalthrow;
// go.dev/doc/articles/race_detector). A panic that was caught is not told so.
const PanicPattern = `^(panic: |fatal error: |WARNING: DATA RACE)`

// unitPattern is what systemd says when a unit has been started
// (systemd src/core/job.c, job_done_messages).
const unitPattern = `^Started (kubelet|containerd)\.service`

// Patterns are what is sought in the logs of the run.
func (c *Components) Patterns() []string { return []string{PanicPattern, unitPattern} }

// Validate implements Validator.
func (c *Components) Validate() []error {
	errs := noneBelowZero(map[string]int{"restarts": c.Restarts, "loops": c.Loops, "leaderChanges": c.LeaderChanges, "panics": c.Panics})
	errs = append(errs, positive(map[string]time.Duration{"leaderGap": c.LeaderGap})...)
	errs = append(errs, notNegative(map[string]time.Duration{"settle": c.Settle})...)
	for i, d := range c.During {
		if len(d.Phases)+len(d.Faults) == 0 {
			errs = append(errs, fmt.Errorf("during[%d]: neither phases nor faults are named", i))
		}
		if d.Restarts == 0 && d.LeaderGap == 0 {
			errs = append(errs, fmt.Errorf("during[%d]: nothing is other than outside; give restarts or leaderGap", i))
		}
		list := append(notNegative(map[string]time.Duration{"after": d.After, "leaderGap": d.LeaderGap}), noneBelowZero(map[string]int{"restarts": d.Restarts})...)
		for _, err := range list {
			errs = append(errs, fmt.Errorf("during[%d].%w", i, err))
		}
	}
	return errs
}

// Fits implements scenarios.Fitter.
func (c *Components) Fits(run scenarios.Shape) []error {
	var errs []error
	for i, d := range c.During {
		errs = append(errs, fits("during", i, d.Phases, d.Faults, run)...)
	}
	return errs
}

// Check implements Checker.
func (c *Components) Check(h *history.History) []Result {
	b := newBlame(h, c.Settle)
	l := livesOf(h)
	return []Result{c.restarts(h, b, l), c.loops(h, b, l), c.leaderGap(h, b), c.leaderChanges(h, b), c.panics(h, b, l)}
}

// ending is one end of a component that was followed by another life.
type ending struct {
	component, node string
	// in is when it ended, as far as is known.
	in  span
	say string
	why string // what explains it
}

// component is a component of a node, or a container of a pod of a controller, over
// the whole record.
type component struct {
	component, node, pod string
	last                 history.Container
	lastAt               time.Duration
	gone                 bool
	id                   string // of the last that was seen running
	manifest             string
	// waits are the times in which the kubelet held it back, with the end that led
	// to it.
	waits []span
}

// lives are all components as the record tells them.
type lives struct {
	all      []*component
	restarts []ending
	began    time.Duration // of the record of components
}

func livesOf(h *history.History) *lives {
	l := &lives{}
	by := map[string]*component{}
	for i, e := range h.Components {
		if i == 0 {
			l.began = e.At
		}
		for _, c := range e.V.Containers {
			// A static pod is the same whatever the API calls it; a pod of a controller is
			// not: another that comes in its place is no restart.
			key := e.V.Node + "/" + c.Name
			if e.V.Manifest == "" {
				key = e.V.UID + "/" + c.Name
			}
			one := by[key]
			if one == nil {
				one = &component{component: c.Name, node: e.V.Node, pod: e.V.Pod, manifest: e.V.Manifest}
				by[key] = one
				l.all = append(l.all, one)
			} else if !e.V.Deleted {
				l.restarts = append(l.restarts, one.next(h, e, c)...)
			}
			if !e.V.Deleted {
				one.last, one.lastAt, one.manifest = c, e.At, e.V.Manifest
				one.id = cmp.Or(c.ID, one.id)
				if c.Waiting == crashLoop && c.Ended != nil {
					one.waits = append(one.waits, ended(h, e, c))
				}
			}
			one.gone = e.V.Deleted
		}
	}
	return l
}

// crashLoop is the reason that the kubelet gives when it holds a container back
// that has ended before (k8s.io/kubernetes@v1.37.0 pkg/kubelet/kuberuntime,
// ErrCrashLoopBackOff).
const crashLoop = "CrashLoopBackOff"

// next are the restarts between the state before and this one.
func (l *component) next(h *history.History, e history.Timed[history.Component], c history.Container) []ending {
	one := ending{component: l.component, node: l.node}
	n := int(c.Restarts - l.last.Restarts)
	if l.manifest != e.V.Manifest {
		at := e.At
		if !c.Started.IsZero() {
			at = min(at, max(0, c.Started.Sub(h.Run.Began)))
		}
		one.in, one.say = span{at, at}, "was started from another manifest"
		out := []ending{one}
		for range c.Restarts {
			one.in, one.say = ended(h, e, c), exit(c)
			out = append(out, one)
		}
		return out
	}
	if n <= 0 && c.ID != "" && l.id != "" && c.ID != l.id {
		n = 1 // the kubelet has lost count
	}
	if n <= 0 {
		return nil
	}
	one.in, one.say = ended(h, e, c), exit(c)
	out := []ending{one}
	for range n - 1 { // of those before only the last end is told
		out = append(out, ending{component: l.component, node: l.node, in: span{min(l.lastAt, one.in.from), one.in.to}, say: "ended, nobody saw how"})
	}
	return out
}

// ended is when the last container ended.
func ended(h *history.History, e history.Timed[history.Component], c history.Container) span {
	if c.Ended == nil || c.Ended.Finished.IsZero() {
		return span{e.At, e.At}
	}
	at := min(e.At, max(0, c.Ended.Finished.Sub(h.Run.Began)))
	return span{at, min(e.At, at+apiSecond)}
}

func exit(c history.Container) string {
	if c.Ended == nil {
		return "ended, nobody saw how"
	}
	return strings.TrimSuffix(fmt.Sprintf("ended with exit code %d, %s", c.Ended.ExitCode, c.Ended.Reason), ", ")
}

// units are the starts of kubelets and containerds after the record of
// components began, and the nodes of which they are not known, each with why.
func (l *lives) units(h *history.History) (out []ending, unseen map[string]string) {
	unseen = map[string]string{}
	for _, n := range h.Nodes {
		if !n.V.Deleted && n.V.Place != "" {
			unseen[n.V.Name] = "it is not in the record"
		}
	}
	for _, g := range h.Logs {
		if g.V.Source != compKubelet && g.V.Source != compContainerd {
			continue
		}
		_, sought := g.V.Found[unitPattern]
		switch {
		case g.V.Missing != "":
			unseen[g.V.Node] = g.V.Missing
		case sought && g.V.Source == compKubelet && unseen[g.V.Node] == "it is not in the record":
			delete(unseen, g.V.Node)
		}
	}
	for _, f := range h.LogLines {
		if f.V.Pattern != unitPattern || f.V.Time.IsZero() {
			continue
		}
		if at := f.V.Time.Sub(h.Run.Began); at > l.began {
			out = append(out, ending{component: f.V.Source, node: f.V.Node, in: span{at, at}, say: fmt.Sprintf("was started again (%s:%d)", f.V.File, f.V.Line)})
		}
	}
	return out, unseen
}

// start is a result about components that needs some sources.
func (c *Components) start(h *history.History, name string, sources ...string) (Result, *grounds) {
	r, g := Result{Name: "components." + name, Unit: "count"}, &grounds{}
	if slices.Contains(sources, "watch/components") && len(h.Components) == 0 {
		g.doubt("no component is in the record")
	}
	if slices.Contains(sources, "watch/leases") && len(h.Leases) == 0 {
		g.doubt("no lease is in the record")
	}
	if list := gaps(h, span{0, Stopped(h)}, sources...); len(list) > 0 {
		g.doubt("%s", gapText(list))
	}
	return r, g
}

// judged sorts restarts by time, leaves out what came after the samplers, and
// finds what explains each.
func judged(h *history.History, b blame, list []ending) (out []ending, after int) {
	stop := Stopped(h)
	for _, r := range list {
		if r.in.from >= stop {
			after++
			continue
		}
		r.why = b.why(r.component, r.node, r.in)
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b ending) int { return cmp.Compare(a.in.from, b.in.from) })
	return out, after
}

func (c *Components) restarts(h *history.History, b blame, l *lives) Result {
	r, g := c.start(h, "restarts", "watch/components")
	units, unseen := l.units(h)
	for _, node := range slices.Sorted(maps.Keys(unseen)) {
		g.doubt("whether the kubelet of %s was started again cannot be told: its log: %s", b.at(node), unseen[node])
	}
	for _, m := range l.absent(b) {
		g.doubt("%s is not in the record", m)
	}
	list, after := judged(h, b, append(slices.Clone(l.restarts), units...))
	r.Samples, r.Excluded = len(l.all), after
	var windows []window // of the parts but the first
	parts := []Part{{Name: elsewhere, Budget: float64(c.Restarts)}}
	for _, d := range c.During {
		if d.Restarts == 0 {
			continue // it is about leaders
		}
		windows = append(windows, b.around.window(d.Phases, d.Faults, d.After))
		parts = append(parts, Part{Name: nameOf(d.Phases, d.Faults), Budget: float64(d.Restarts)})
	}
	causes := map[string]int{}
	for _, one := range list {
		say := fmt.Sprintf("%s on %s %s", one.component, b.at(one.node), one.say)
		if one.why != "" {
			causes[one.why]++
			beside(b.around, &r, one.in, say+", explained by "+one.why)
			continue
		}
		part := 1 + slices.IndexFunc(windows, func(w window) bool { return slices.ContainsFunc(w.wide, one.in.touches) })
		parts[part].Samples++
		parts[part].Observed++
		b.around.evidence(&r, one.in, say)
	}
	worst := 0
	for i, p := range parts {
		if p.Observed-p.Budget > parts[worst].Observed-parts[worst].Budget {
			worst = i
		}
		if p.Observed > p.Budget {
			where := ""
			if i > 0 {
				where = " during " + p.Name
			}
			g.fail("%s that nothing explains%s", count(int(p.Observed), "restart", "restarts"), where)
		}
	}
	r.Budget, r.Observed = parts[worst].Budget, parts[worst].Observed
	r.Promise = upTo(c.Restarts, "restart that nothing explains", "restarts that nothing explains")
	if len(parts) > 1 {
		r.Parts = parts
		for _, p := range parts[1:] {
			r.Allowed = append(r.Allowed, fmt.Sprintf("during %s, %.0f", p.Name, p.Budget))
		}
	}
	explained(g, causes, "restarts")
	if len(g.failed) == 0 {
		g.note("%s of %d containers that nothing explains", count(int(r.Observed), "restart", "restarts"), len(l.all))
	}
	g.decide(&r)
	return r
}

// beside adds evidence that does not count.
func beside(s surroundings, r *Result, in span, text string) {
	n := len(r.Evidence)
	s.evidence(r, in, text)
	if n < maxEvidence {
		r.Evidence[n].Beside = true
	}
}

// upTo is the promise of a count.
func upTo(n int, one, many string) string {
	if n == 0 {
		return "no " + one
	}
	return "no more than " + count(n, one, many)
}

// explained tells how many were explained by what.
func explained(g *grounds, causes map[string]int, many string) {
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(causes)) {
		parts = append(parts, fmt.Sprintf("%d by %s", causes[why], why))
	}
	if len(parts) > 0 {
		g.note("explained %s: %s", many, strings.Join(parts, ", "))
	}
}

// absent are the components that kubeadm puts on each control plane and that the
// record does not have.
func (l *lives) absent(b blame) []string {
	var out []string
	for _, s := range b.servers {
		for _, c := range overEtcd {
			if !slices.ContainsFunc(l.all, func(o *component) bool { return o.component == c && o.node == s }) {
				out = append(out, c+" on "+b.at(s))
			}
		}
	}
	return out
}

// What makes a crash loop: as many unexplained restarts of a container within the
// time after which the kubelet forgets them (k8s.io/kubernetes@v1.37.0
// pkg/kubelet/kubelet.go, MaxCrashLoopBackOff 300 s, forgotten after twice that).
const (
	loopOf     = 3
	loopWithin = 600 * time.Second
)

func (c *Components) loops(h *history.History, b blame, l *lives) Result {
	r, g := c.start(h, "crash-loops", "watch/components")
	list, after := judged(h, b, l.restarts)
	r.Samples, r.Excluded = len(l.all), after
	stop := Stopped(h)
	loops, held := 0, 0
	for _, one := range l.all {
		who := one.component + " on " + b.at(one.node)
		var in span
		say := ""
		var mine []ending
		for _, x := range list {
			if x.why == "" && x.component == one.component && x.node == one.node {
				mine = append(mine, x)
			}
		}
		for i := loopOf - 1; i < len(mine); i++ {
			if from := mine[i-loopOf+1].in.from; mine[i].in.from-from <= loopWithin {
				in, say = span{from, mine[i].in.to}, fmt.Sprintf("ended %d times within %s", loopOf, length(mine[i].in.from-from))
				break
			}
		}
		for _, w := range one.waits {
			switch {
			case w.from >= stop:
			case b.why(one.component, one.node, w) != "":
				held++
			case say == "":
				in, say = span{w.from, w.to}, "was held back by the kubelet ("+crashLoop+")"
			}
		}
		if static := one.manifest != ""; static && one.gone {
			in, say = span{one.lastAt, stop}, "is not there in the end"
		} else if !one.gone && one.last.ID == "" && one.last.Ended != nil && one.lastAt < stop {
			in, say = span{one.lastAt, stop}, "does not run in the end: "+cmp.Or(one.last.Waiting, exit(one.last))
		}
		if say != "" {
			loops++
			b.around.evidence(&r, in, who+" "+say)
		}
	}
	r.Observed, r.Budget = float64(loops), float64(c.Loops)
	r.Promise = upTo(c.Loops, "component that crashes again and again, or does not run in the end", "components that crash again and again, or do not run in the end")
	if loops > c.Loops {
		g.fail("%s again and again, or not running in the end: %s", count(loops, "component crashes", "components crash"), r.Evidence[0].Text)
	} else {
		g.note("%d of %d containers", loops, len(l.all))
	}
	if held > 0 {
		g.note("held back by the kubelet %d times after an end that a fault or the upgrade explains", held)
	}
	g.decide(&r)
	return r
}

func (c *Components) panics(h *history.History, b blame, l *lives) Result {
	r, g := c.start(h, "panics", "watch/components")
	v := newLogView(h, PanicPattern)
	r.Samples = v.looked
	v.gaps(g, b)
	seen := map[string]bool{}
	for _, f := range h.Logs {
		if f.V.File != "" {
			seen[f.V.Node+" "+f.V.Source] = true
		}
	}
	for _, one := range l.all {
		if key := one.node + " " + one.component; !seen[key] && one.last.ID+one.id != "" {
			seen[key] = true
			g.doubt("no log of %s on %s was looked through", one.component, b.at(one.node))
		}
	}
	causes := map[string]int{}
	n := 0
	for _, f := range v.lines {
		say := fmt.Sprintf("%s on %s: %s (%s:%d)", f.Source, b.at(f.Node), f.Text, f.File, f.Line)
		if f.Time.IsZero() {
			g.doubt("when was it: %s", say)
			continue
		}
		at := f.Time.Sub(h.Run.Began)
		if at < l.began {
			r.Excluded++
			continue
		}
		if why := b.why(f.Source, f.Node, span{at, at}); why != "" {
			causes[why]++
			beside(b.around, &r, span{at, at}, say+", explained by "+why)
			continue
		}
		n++
		b.around.evidence(&r, span{at, at}, say)
	}
	if v.untold > 0 {
		g.doubt("%d more were found than are told", v.untold)
	}
	r.Observed, r.Budget = float64(n), float64(c.Panics)
	r.Promise = upTo(c.Panics, "panic that nothing explains", "panics that nothing explains")
	if n > c.Panics {
		g.fail("%s that nothing explains", count(n, "panic", "panics"))
	} else {
		g.note("%d in %d logs", n, v.looked)
	}
	explained(g, causes, "panics")
	g.decide(&r)
	return r
}
