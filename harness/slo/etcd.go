package slo

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"gameday/harness/history"
)

// Etcd promises that etcd is well but for what is done to it: it does not change
// its leader (etcd.leader-changes), each member is a healthy voter (etcd.members),
// none raises an alarm (etcd.alarms) or nears its quota (etcd.db-size), while a
// fault or an upgrade of a control plane acts, or did a short while ago, but for
// those. How long its disks take is told, and judged if a limit is given
// (etcd.fsync, etcd.commit).
type Etcd struct {
	// After is how long after its end the effects of a fault, or of an upgrade of a
	// control plane, last.
	After time.Duration `yaml:"after"`
	// LeaderChanges is how many may be without such a reason.
	LeaderChanges int `yaml:"leaderChanges"`
	// Unhealthy is for how long a member may be no healthy voter without such a
	// reason.
	Unhealthy time.Duration `yaml:"unhealthy"`
	// DBSize is how much of its quota a member's database may take, in percent. It
	// has no reasons.
	DBSize int `yaml:"dbSize"`
	// Fsync and Commit are the p99 of the log's fsync and of the backend's commit
	// in every window without such a reason; 0 only tells them.
	Fsync  time.Duration `yaml:"fsync"`
	Commit time.Duration `yaml:"commit"`
	// Window of a p99.
	Window time.Duration `yaml:"window"`
}

func newEtcd() Checker {
	return &Etcd{After: 30 * time.Second, Unhealthy: 5 * time.Second, DBSize: 95, Window: time.Minute}
}

// Validate implements Validator.
func (c *Etcd) Validate() []error {
	errs := notNegative(map[string]time.Duration{"after": c.After, "unhealthy": c.Unhealthy, "fsync": c.Fsync, "commit": c.Commit})
	errs = append(errs, positive(map[string]time.Duration{"window": c.Window})...)
	errs = append(errs, noneBelowZero(map[string]int{"leaderChanges": c.LeaderChanges})...)
	if c.DBSize < 1 || c.DBSize > 100 {
		errs = append(errs, fmt.Errorf("dbSize: %d %% of the quota is no bound; give 1 to 100", c.DBSize))
	}
	return errs
}

const (
	// memberSlack is how late a change of a member's state may be seen: it is asked
	// once a second, and has 0.8 s to answer.
	memberSlack = 2 * time.Second
	// statsSilence is how long the metrics of a member that answers may be missing:
	// they are asked for every 5 s.
	statsSilence = 20 * time.Second
	// minFsyncs is the least number of values of which a p99 says something.
	minFsyncs = 100
)

// etcdView is what the checks of etcd have in common.
type etcdView struct {
	h       *history.History
	in      span
	why     string
	around  surroundings
	reasons window
	members []string
	known   bool
	// told says that the record has the terms and alarms of the members.
	told bool
}

// Check implements Checker.
func (c *Etcd) Check(h *history.History) []Result {
	v := etcdView{h: h, around: look(h)}
	v.in, v.why = measured(h)
	v.members, v.known = etcdMembers(h)
	v.reasons = v.around.reasons(v.members, c.After)
	v.told = slices.ContainsFunc(h.Etcd, func(e history.Timed[history.Etcd]) bool { return e.V.Term > 0 })
	return []Result{
		c.leaders(v), c.health(v), c.alarms(v), c.size(v),
		c.disk(v, "etcd.fsync", "fsync of the log", c.Fsync, func(s history.EtcdStats) *history.Histogram { return s.Fsync }),
		c.disk(v, "etcd.commit", "commit of the backend", c.Commit, func(s history.EtcdStats) *history.Histogram { return s.Commit }),
	}
}

// reasons are the times in which faults of the given nodes, or upgrades of
// control planes, act or have effects still.
func (s surroundings) reasons(nodes []string, after time.Duration) window {
	var w window
	for _, f := range s.faults {
		hit := len(f.Nodes) == 0 || slices.ContainsFunc(f.Nodes, func(n string) bool { return slices.Contains(nodes, n) })
		if hit && f.acting != (span{}) {
			w.add(f.acting, after)
		}
	}
	for _, p := range s.phases {
		if strings.HasPrefix(p.Place, "control-plane[") {
			for _, in := range p.spans {
				w.add(in, after)
			}
		}
	}
	return w
}

// grounds that everything needs.
func (v etcdView) begin() grounds {
	var g grounds
	if v.why != "" {
		g.doubt("%s", v.why)
	}
	if !v.known {
		g.doubt("the record does not say which etcd members there are")
	}
	return g
}

// leaders counts the terms that got a leader. Terms between two of them may have
// been elections without a winner, or leaders that nobody saw.
func (c *Etcd) leaders(v etcdView) Result {
	r := Result{Name: "etcd.leader-changes", Unit: "count", Budget: float64(c.LeaderChanges),
		Promise: fmt.Sprintf("<= %s without a fault or an upgrade of a control plane, until %s after it", count(c.LeaderChanges, "change of leader", "changes of leader"), length(c.After))}
	g := v.begin()
	if !v.told {
		g.doubt("the record does not have the terms of the members")
	}
	now := map[string]uint64{} // the term of each member that knows a leader
	var term uint64
	var held time.Duration // until when the term is known to have been the last one
	low, high, excused := 0, 0, 0
	for _, e := range v.h.Etcd {
		if e.At > v.in.to {
			break
		}
		if slices.Contains(slices.Collect(maps.Values(now)), term) {
			held = max(held, e.At-memberSlack)
		}
		delete(now, e.V.Node)
		if e.V.LeaderID == 0 || e.V.Err != "" && e.V.Term == 0 {
			continue
		}
		now[e.V.Node] = e.V.Term
		r.Samples++
		if e.V.Term <= term {
			continue
		}
		first := term == 0
		at, skipped := span{held, e.At}, e.V.Term-term-1
		term = e.V.Term
		if first || e.At < v.in.from {
			continue
		}
		text := fmt.Sprintf("member %s knows the leader of term %d", e.V.Node, term)
		if skipped > 0 {
			text += fmt.Sprintf(", %s after the last one that was seen", count(int(skipped)+1, "term", "terms"))
		}
		if slices.ContainsFunc(v.reasons.wide, at.touches) {
			excused++
			continue
		}
		low++
		high += 1 + int(skipped)
		v.around.evidence(&r, at, text)
	}
	if term == 0 && v.told {
		g.doubt("no member ever knew a leader")
	}
	r.Observed, r.ErrorBar = float64(low+high)/2, float64(high-low)/2
	say := count(low, "change of leader", "changes of leader") + " without a reason"
	if high > low {
		say = fmt.Sprintf("%d to %d changes of leader without a reason", low, high)
	}
	g.limit(float64(low), float64(high), float64(c.LeaderChanges), say)
	if excused > 0 {
		g.note("%d while a fault or an upgrade acted, or shortly after", excused)
	}
	g.decide(&r)
	return r
}

// illness is a time in which a member was not well, with its error bars.
type illness struct {
	lastGood, firstBad, lastBad, firstGood time.Duration
	open                                   bool
	why                                    string
}

// illnesses are the times in which a member's state met a condition.
func (v etcdView) illnesses(node string, ill func(history.Etcd) bool) (out []illness, seen bool) {
	var now *illness
	for _, e := range v.h.Etcd {
		if e.V.Node != node || e.At > v.in.to {
			continue
		}
		seen = true
		switch {
		case ill(e.V) && now == nil:
			now = &illness{lastGood: e.At - memberSlack, firstBad: e.At, why: said(cmp.Or(e.V.Alarms, e.V.Err, learns(e.V)))}
		case !ill(e.V) && now != nil:
			now.firstGood, now.lastBad = e.At, max(now.firstBad, e.At-memberSlack)
			out = append(out, *now)
			now = nil
		}
	}
	if now != nil {
		now.firstGood, now.lastBad, now.open = v.in.to, max(now.firstBad, v.in.to-memberSlack), true
		out = append(out, *now)
	}
	out = slices.DeleteFunc(out, func(i illness) bool { return i.firstGood < v.in.from })
	for i := range out {
		out[i].lastGood, out[i].firstBad = max(out[i].lastGood, v.in.from), max(out[i].firstBad, v.in.from)
		out[i].lastBad = max(out[i].lastBad, out[i].firstBad)
	}
	return out, seen
}

func learns(e history.Etcd) string {
	if e.Learner {
		return "it is a learner"
	}
	return ""
}

func (c *Etcd) health(v etcdView) Result {
	r := Result{Name: "etcd.members", Unit: "s", Budget: seconds(c.Unhealthy),
		Promise: fmt.Sprintf("no member that is no healthy voter for longer than %s without a fault or an upgrade of a control plane, until %s after it; all are healthy in the end", length(c.Unhealthy), length(c.After))}
	g := v.begin()
	var least, most time.Duration
	for _, m := range v.members {
		list, seen := v.illnesses(m, func(e history.Etcd) bool { return !e.Healthy })
		if !seen {
			g.doubt("nobody asked member %s", m)
			continue
		}
		r.Samples++
		for _, i := range list {
			lo, hi := outside(span{i.firstBad, i.lastBad}, v.reasons.wide), outside(span{i.lastGood, i.firstGood}, v.reasons.narrow)
			say := fmt.Sprintf("member %s not healthy for %s at %s", m, length(i.firstGood-i.firstBad), clock(i.firstBad))
			excused := slices.ContainsFunc(v.reasons.wide, (span{i.firstGood, i.firstGood}).touches)
			switch {
			case i.open && !excused:
				g.fail("member %s was not healthy in the end: %s", m, i.why)
			case i.open:
				g.doubt("member %s was not healthy in the end, while a fault or an upgrade acted: %s", m, i.why)
			case lo == 0 && excused: // it began and ended with its reason
				r.Excluded++
				continue
			default:
				g.limit(seconds(lo), seconds(hi), seconds(c.Unhealthy), say)
			}
			least, most = max(least, lo), max(most, hi)
			v.around.evidence(&r, span{i.firstBad, i.firstGood}, say+": "+i.why)
		}
	}
	r.Observed, r.ErrorBar = seconds((least+most)/2), seconds((most-least)/2)
	g.note("%s asked, %s with a reason", count(r.Samples, "member", "members"), count(r.Excluded, "time not healthy", "times not healthy"))
	g.decide(&r)
	return r
}

func (c *Etcd) alarms(v etcdView) Result {
	r := Result{Name: "etcd.alarms", Unit: "count", Promise: fmt.Sprintf("0 alarms: no CORRUPT ever, no NOSPACE but during a fault and until %s after it", length(c.After))}
	g := v.begin()
	if !v.told {
		g.doubt("the record does not have the alarms of the members")
	}
	alarms := map[string]int{}
	for _, m := range v.members {
		for _, name := range []string{"CORRUPT", "NOSPACE"} {
			list, seen := v.illnesses(m, func(e history.Etcd) bool { return slices.Contains(strings.Split(e.Alarms, ","), name) })
			if !seen {
				g.doubt("nobody asked member %s", m)
				break
			}
			for _, i := range list {
				in := span{i.firstBad, i.firstGood}
				if name == "NOSPACE" && !i.open && outside(in, v.reasons.wide) == 0 {
					r.Excluded++
					continue
				}
				alarms[name]++
				v.around.evidence(&r, in, fmt.Sprintf("member %s tells of the alarm %s", m, name))
			}
		}
		r.Samples++
	}
	for _, name := range slices.Sorted(maps.Keys(alarms)) {
		g.fail("the alarm %s, told by %s", name, count(alarms[name], "member", "members"))
		r.Observed++ // all members tell of the same one
	}
	if r.Observed == 0 {
		g.note("no alarm told by %s", count(r.Samples, "member", "members"))
	}
	if r.Excluded > 0 {
		g.note("%s with a reason", count(r.Excluded, "time NOSPACE", "times NOSPACE"))
	}
	g.decide(&r)
	return r
}

// metrics are what a member's metrics said while it was measured. gap is the
// longest time without any while the member answered otherwise.
func (v etcdView) metrics(node string) (list []history.Timed[history.EtcdStats], gap span) {
	silent, _ := v.illnesses(node, func(e history.Etcd) bool { return !e.Healthy })
	last := v.in.from
	look := func(at time.Duration) {
		quiet := span{last, at}
		var ill []span
		for _, i := range silent {
			ill = append(ill, span{i.lastGood, i.firstGood})
		}
		if d := outside(quiet, ill); d > statsSilence && d > gap.to-gap.from {
			gap = quiet
		}
		last = at
	}
	for _, s := range v.h.EtcdStats {
		if s.V.Node == node && s.V.Err == "" && s.At >= v.in.from && s.At <= v.in.to {
			look(s.At)
			list = append(list, s)
		}
	}
	look(v.in.to)
	return list, gap
}

// measure gives the metrics of a member, or says why they do not do.
func (v etcdView) measure(g *grounds, node string) []history.Timed[history.EtcdStats] {
	list, gap := v.metrics(node)
	switch {
	case len(list) == 0:
		g.doubt("member %s gave no metrics", node)
	case gap != span{}:
		g.doubt("member %s gave no metrics from %s to %s", node, clock(gap.from), clock(gap.to))
	}
	return list
}

func (c *Etcd) size(v etcdView) Result {
	r := Result{Name: "etcd.db-size", Unit: "%", Budget: float64(c.DBSize), Promise: fmt.Sprintf("no database above %d %% of its quota", c.DBSize)}
	g := v.begin()
	var worst history.Timed[history.EtcdStats]
	for _, m := range v.members {
		blind := false
		for _, s := range v.measure(&g, m) {
			if s.V.Quota <= 0 || s.V.DBSize <= 0 {
				blind = true
				continue
			}
			r.Samples++
			if p := 100 * float64(s.V.DBSize) / float64(s.V.Quota); p > r.Observed {
				r.Observed, worst = p, s
			}
		}
		if blind {
			g.doubt("member %s did not tell its size and its quota", m)
		}
	}
	if r.Samples > 0 {
		say := fmt.Sprintf("%.1f of %.0f MiB on member %s at %s", float64(worst.V.DBSize)/(1<<20), float64(worst.V.Quota)/(1<<20), worst.V.Node, clock(worst.At))
		g.limit(r.Observed, r.Observed, r.Budget, say)
		if r.Observed > r.Budget {
			v.around.evidence(&r, span{worst.At, worst.At}, say)
		}
	}
	g.decide(&r)
	return r
}

// latency is a p99 of a member over a window: above low, and at most high.
type latency struct {
	node      string
	in        span
	n         uint64
	low, high float64 // seconds; high is infinite above the last edge
}

func (l latency) String() string {
	if math.IsInf(l.high, 1) {
		return fmt.Sprintf("above %s on member %s at %s", length(toDuration(l.low)), l.node, clock(l.in.from))
	}
	return fmt.Sprintf("%s to %s on member %s at %s", length(toDuration(l.low)), length(toDuration(l.high)), l.node, clock(l.in.from))
}

func toDuration(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// disk judges what took place between two looks at a histogram: the bucket that
// holds the p99 says between which edges it lies.
func (c *Etcd) disk(v etcdView, name, what string, budget time.Duration, of func(history.EtcdStats) *history.Histogram) Result {
	r := Result{Name: name, Unit: "ms", Budget: millis(budget), Promise: fmt.Sprintf("p99 of the %s told, and not judged", what)}
	if budget > 0 {
		r.Promise = fmt.Sprintf("p99 of the %s <= %s in each %s without a fault or an upgrade of a control plane, until %s after it", what, length(budget), length(c.Window), length(c.After))
	}
	g := v.begin()
	var free, all []latency
	few := 0
	for _, m := range v.members {
		windows, thin := c.latencies(m, v.measure(&g, m), of)
		few += thin
		if len(windows) == 0 {
			g.doubt("no %s of at least %d values on member %s", length(c.Window), minFsyncs, m)
		}
		for _, l := range windows {
			r.Samples += int(l.n)
			all = append(all, l)
			if outside(l.in, v.reasons.wide) == l.in.to-l.in.from {
				free = append(free, l)
			} else {
				r.Excluded += int(l.n)
			}
		}
	}
	slowest := func(list []latency) latency {
		return slices.MaxFunc(list, func(a, b latency) int { return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(a.high, b.high)) })
	}
	if len(free) > 0 {
		worst := slowest(free)
		r.Observed, r.ErrorBar = middle(worst)
		if budget > 0 {
			g.limit(worst.low, worst.high, budget.Seconds(), "p99 "+worst.String())
		} else {
			g.note("p99 at worst %s", worst)
		}
		for _, l := range free {
			if budget > 0 && l.low > budget.Seconds() {
				v.around.evidence(&r, l.in, "p99 "+l.String())
			}
		}
	} else if budget > 0 && len(all) > 0 {
		g.doubt("no window without a fault or an upgrade")
	}
	if len(all) > len(free) {
		g.note("with a fault or an upgrade %s", slowest(all))
	}
	if few > 0 {
		g.note("%s with fewer than %d values left out", count(few, "window", "windows"), minFsyncs)
	}
	g.decide(&r)
	return r
}

// middle of the bucket and its half, in ms; of what is above the last edge, that.
func middle(l latency) (value, bar float64) {
	if math.IsInf(l.high, 1) {
		return 1e3 * l.low, 0
	}
	return 1e3 * (l.low + l.high) / 2, 1e3 * (l.high - l.low) / 2
}

// latencies are the p99 of each window of a member, and how many windows had too
// few values. A member that was started anew began to count anew.
func (c *Etcd) latencies(node string, list []history.Timed[history.EtcdStats], of func(history.EtcdStats) *history.Histogram) (out []latency, few int) {
	var sum []uint64
	var edges []float64
	var in span
	flush := func() {
		if sum == nil {
			return
		}
		if l, ok := p99(edges, sum); ok {
			l.node, l.in = node, in
			out = append(out, l)
		} else {
			few++
		}
		sum = nil
	}
	for i := 1; i < len(list); i++ {
		a, b := of(list[i-1].V), of(list[i].V)
		if a == nil || b == nil || list[i-1].V.Started != list[i].V.Started || !slices.Equal(a.Edges, b.Edges) || len(a.Counts) != len(b.Counts) || len(b.Counts) != len(b.Edges)+1 {
			flush()
			continue
		}
		if sum == nil {
			sum, edges, in = make([]uint64, len(b.Counts)), b.Edges, span{list[i-1].At, list[i].At}
		}
		for k := range sum {
			sum[k] += b.Counts[k] - min(a.Counts[k], b.Counts[k])
		}
		if in.to = list[i].At; in.to-in.from >= c.Window {
			flush()
		}
	}
	flush()
	return out, few
}

// p99 is between which edges the 99th percentile lies; ok is false of too few
// values.
func p99(edges []float64, counts []uint64) (l latency, ok bool) {
	for _, n := range counts {
		l.n += n
	}
	if l.n < minFsyncs {
		return l, false
	}
	rank := l.n - l.n/100
	below := make([]uint64, len(counts))
	for i, n := range counts {
		below[i] = n
		if i > 0 {
			below[i] += below[i-1]
		}
	}
	at := sort.Search(len(below), func(i int) bool { return below[i] >= rank })
	l.high = math.Inf(1)
	if at < len(edges) {
		l.high = edges[at]
	}
	if at > 0 {
		l.low = edges[at-1]
	}
	return l, true
}
