package slo

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gameday/harness/eviction"
	"gameday/harness/history"
)

// Evictions promises that the node controller evicts what its rules say and
// nothing else, judged from what was seen of nodes, taints and leaders: every
// pod that it deleted had used its toleration up (evictions.window), every pod
// whose toleration was used up is gone (evictions.missed), and taints were put
// on no faster than the rates allow, not under a brake, and where they were due
// (evictions.rate). The rules are those of package eviction.
type Evictions struct {
	// The flags of kube-controller-manager.
	NodeMonitorPeriod         time.Duration `yaml:"nodeMonitorPeriod"`
	NodeEvictionRate          float64       `yaml:"nodeEvictionRate"`
	SecondaryNodeEvictionRate float64       `yaml:"secondaryNodeEvictionRate"`
	UnhealthyZoneThreshold    float64       `yaml:"unhealthyZoneThreshold"`
	LargeClusterSizeThreshold int32         `yaml:"largeClusterSizeThreshold"`
	// Slack is how late a step of the controllers, or word of it, may be.
	Slack time.Duration `yaml:"slack"`
}

func newEvictions() Checker {
	return &Evictions{ // the defaults of v1.32 to v1.37, as eviction.Defaults has them
		NodeMonitorPeriod: 5 * time.Second, NodeEvictionRate: 0.1, SecondaryNodeEvictionRate: 0.01,
		UnhealthyZoneThreshold: 0.55, LargeClusterSizeThreshold: 50, Slack: 3 * time.Second,
	}
}

// Validate implements Validator.
func (c *Evictions) Validate() []error {
	errs := positive(map[string]time.Duration{"nodeMonitorPeriod": c.NodeMonitorPeriod, "slack": c.Slack})
	for _, f := range []struct {
		name string
		v    float64
	}{{"nodeEvictionRate", c.NodeEvictionRate}, {"secondaryNodeEvictionRate", c.SecondaryNodeEvictionRate}, {"unhealthyZoneThreshold", c.UnhealthyZoneThreshold}} {
		if f.v < 0 {
			errs = append(errs, fmt.Errorf("%s: %v is below 0", f.name, f.v))
		}
	}
	return append(errs, noneBelowZero(map[string]int{"largeClusterSizeThreshold": int(c.LargeClusterSizeThreshold)})...)
}

// settings of the run as package eviction has them.
func (c *Evictions) settings() eviction.Settings {
	s := eviction.Defaults("")
	m := &s.ControllerManager
	m.NodeMonitorPeriod, m.NodeEvictionRate, m.SecondaryNodeEvictionRate = c.NodeMonitorPeriod, float32(c.NodeEvictionRate), float32(c.SecondaryNodeEvictionRate)
	m.UnhealthyZoneThreshold, m.LargeClusterSizeThreshold = float32(c.UnhealthyZoneThreshold), c.LargeClusterSizeThreshold
	return s
}

const (
	// leaderReady is how long after it acquired its lease a leader may take until
	// its caches are there and its controllers act.
	leaderReady = 10 * time.Second
	// leaderGone is how long after its last renewal a leader may go on at most:
	// its renew deadline (k8s.io/component-base@v0.37.0 config/v1alpha1/defaults.go),
	// and what a request may take.
	leaderGone = 15 * time.Second
)

// reign is the time in which one process led the controller manager.
type reign struct {
	// from is when it began, ready when it surely acted.
	from, ready time.Duration
	// alive is until when it surely acted, to until when it may have.
	alive, to time.Duration
}

// reigns of the record, in order.
func reigns(h *history.History) []reign {
	var out []reign
	last := history.Lease{}
	for _, l := range h.Leases {
		if l.V.Name != compManager {
			continue
		}
		n := len(out) - 1
		switch {
		case l.V.Deleted || l.V.Holder == "":
			if n >= 0 {
				out[n].to = min(out[n].to, l.At)
			}
		case n >= 0 && l.V.Holder == last.Holder && l.V.Transitions == last.Transitions:
			out[n].alive, out[n].to = l.At, l.At+leaderGone
		default:
			if n >= 0 {
				out[n].to = min(out[n].to, l.At)
			}
			r := reign{from: l.At, ready: l.At + leaderReady, alive: l.At, to: l.At + leaderGone}
			if n < 0 { // it led before the record began
				r.from, r.ready = min(0, l.At), l.At
			}
			out = append(out, r)
		}
		last = l.V
	}
	return out
}

// marks are the NoExecute taints of a node, and when it had just them.
type marks struct {
	span
	taints []corev1.Taint
}

// marksOf are the times in which a node had NoExecute taints.
func marksOf(states []history.Timed[history.Node], end time.Duration) []marks {
	var out []marks
	for i, s := range states {
		m := marks{span{s.At, end}, noExecuteTaints(s.V.Taints)}
		if i+1 < len(states) {
			m.to = states[i+1].At
		}
		switch n := len(out) - 1; {
		case len(m.taints) == 0 || s.V.Deleted:
		case n >= 0 && out[n].to == m.from && slices.Equal(out[n].taints, m.taints):
			out[n].to = m.to
		default:
			out = append(out, m)
		}
	}
	return out
}

func noExecuteTaints(taints []string) []corev1.Taint {
	var out []corev1.Taint
	for _, t := range taints {
		if key, ok := strings.CutSuffix(t, ":"+string(corev1.TaintEffectNoExecute)); ok {
			key, value, _ := strings.Cut(key, "=")
			out = append(out, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffectNoExecute})
		}
	}
	return out
}

// due is when a pod's toleration is used up.
type due struct {
	span
	// surely says that it must be deleted then, if it may be.
	surely bool
	// tolerated is for how long, since from when.
	tolerated, since time.Duration
}

// dues of a pod: for each reign and each time that its node was tainted, when
// the timer that ran then is over (eviction.RuleToleration, RuleEpoch).
func (x *evictionFacts) dues(p *pod) []due {
	var tolerations []corev1.Toleration
	for _, t := range p.Tolerations {
		tolerations = append(tolerations, corev1.Toleration{
			Key: t.Key, Operator: corev1.TolerationOperator(t.Operator), Value: t.Value, Effect: corev1.TaintEffect(t.Effect), TolerationSeconds: t.Seconds,
		})
	}
	bound := p.first
	if !p.Scheduled.IsZero() {
		bound = p.Scheduled.Sub(x.h.Run.Began)
	}
	var out []due
	for _, r := range x.reigns {
		var timer *due
		until := time.Duration(0) // the end of the taints that the timer runs for
		end := func() {
			// The pod may only be deleted if the timer ran to its end, and surely is
			// if taint and leader outlive that by what may be late.
			if timer != nil && timer.from-x.slack <= min(until, r.to) {
				timer.surely = timer.to+x.late < min(until, r.alive)
				out = append(out, *timer)
			}
			timer = nil
		}
		for _, m := range x.marks[p.Node] {
			from := max(m.from, r.from, bound)
			if m.to < max(r.from, bound) || m.from > r.to {
				continue
			}
			if timer != nil && m.from > until {
				end()
			}
			first, by := from, from+x.slack
			if from == r.from { // it was on when the leader came
				by = r.ready
			}
			switch tolerated := eviction.Tolerates(tolerations, m.taints...); {
			case tolerated == eviction.Forever:
				timer = nil
			case timer == nil || tolerated == 0:
				timer = &due{span: span{first + tolerated, by + tolerated}, tolerated: tolerated, since: first}
			}
			until = m.to
		}
		end()
	}
	return out
}

// evictionFacts are what the promises about evictions are judged from.
type evictionFacts struct {
	*books
	c      *Evictions
	reigns []reign
	marks  map[string][]marks
	slack  time.Duration
	// late is how late a deletion may come.
	late time.Duration
}

// Requests a second of the taint eviction controller's client, and at once; and
// how many a deletion takes (eviction.RuleClient).
const (
	clientQPS, clientBurst = 20, 30
	perEviction            = 4
)

// Check implements Checker.
func (c *Evictions) Check(h *history.History) []Result {
	b := newBooks(h, defaultToleration)
	x := &evictionFacts{books: b, c: c, reigns: reigns(h), marks: map[string][]marks{}, slack: c.Slack + b.stall}
	away := false
	for name, states := range b.nodes {
		if x.marks[name] = marksOf(states, h.Last); len(x.marks[name]) > 0 {
			away = true
		}
		for _, s := range states {
			away = away || s.V.Ready != "True"
		}
	}
	onTainted := 0
	for _, p := range b.pods {
		if len(x.marks[p.Node]) > 0 {
			onTainted++
		}
	}
	x.late = x.slack + max(0, time.Duration(onTainted*perEviction-clientBurst)*time.Second/clientQPS)
	var out []Result
	for _, promise := range []struct {
		name, text string
		judge      func(*Result, *grounds) int
	}{
		{"evictions.window", "no pod deleted by the node controller before or after its toleration was used up", x.window},
		{"evictions.missed", "no pod left whose toleration was used up", x.missed},
		{"evictions.rate", "no taint too fast, under a brake or left out", x.rate},
	} {
		r := Result{Name: promise.name, Unit: "count", Promise: promise.text}
		var g grounds
		switch {
		case len(b.pods) == 0:
			g.doubt("no pod of the workload is in the record")
		case len(b.nodes) == 0:
			g.doubt("the state of the nodes is not in the record")
		case away && len(x.reigns) == 0:
			g.doubt("nodes were away, but the lease of the controller manager is not in the record")
		}
		sources := []string{"watch/pods", "watch/nodes"}
		if away {
			sources = append(sources, "watch/leases")
		}
		if list := gaps(h, span{0, b.stop}, sources...); len(list) > 0 {
			g.doubt("%s", gapText(list))
		}
		if len(g.doubts) == 0 {
			n := promise.judge(&r, &g)
			r.Observed = float64(n)
			if n > 0 {
				g.fail("%s", count(n, "departure from the rules", "departures from the rules"))
			} else {
				g.note("%d judged, none departs from the rules", r.Samples)
			}
			if r.Excluded > 0 {
				g.note("%d left out: the API or the leader was away, or the record ends, when it was due", r.Excluded)
			}
		}
		g.decide(&r)
		out = append(out, r)
	}
	return out
}

// told adds a departure with its rule.
func (x *evictionFacts) told(r *Result, rule eviction.Rule, in span, format string, args ...any) {
	x.around.evidence(r, in, fmt.Sprintf("%s: %s", rule, fmt.Sprintf(format, args...)))
}

// evictedAt is when the node controller asked for a pod's end, if it did.
func (x *evictionFacts) evictedAt(p *pod) (span, bool) {
	if p.deleting == 0 && p.gone == 0 {
		return span{}, false
	}
	line, found := x.who(p)
	ours := found && strings.TrimPrefix(line.V.User, serviceAccount) == "node-controller"
	if p.Disruption != "DeletionByTaintManager" && !ours {
		return span{}, false
	}
	at := x.askedAt(p)
	return span{at - apiSecond, at + apiSecond}, true
}

// known says whether the record has the pod's tolerations: the API server gives
// every pod two.
func (x *evictionFacts) known(p *pod, g *grounds) bool {
	if len(p.Tolerations) > 0 {
		return true
	}
	g.doubt("the tolerations of %s are not in the record", p)
	return false
}

func (x *evictionFacts) window(r *Result, g *grounds) int {
	n := 0
	for _, p := range x.pods {
		at, evicted := x.evictedAt(p)
		if !evicted && p.ended() > 0 && p.ended() < x.stop && p.Disruption == "" {
			if _, found := x.who(p); !found && (len(x.h.Audits) == 0 || len(gaps(x.h, span{x.askedAt(p) - auditSlack, p.ended() + auditWait}, "audit/")) > 0) {
				g.doubt("no audit line says who deleted %s", p)
			}
		}
		if !evicted || at.from >= x.stop {
			continue
		}
		if !x.known(p, g) {
			continue
		}
		dues := x.dues(p)
		if slices.ContainsFunc(dues, func(d due) bool { return at.touches(span{d.from - x.slack, d.to + x.late}) }) {
			continue
		}
		n++
		rule, why := eviction.RuleReachable, "no NoExecute taint was on its node"
		if i := slices.IndexFunc(x.marks[p.Node], func(m marks) bool { return m.touches(span{at.from - x.slack, at.to + x.slack}) }); i >= 0 {
			rule, why = eviction.RuleToleration, fmt.Sprintf("its node had the taint from %s, which it tolerates longer or for ever", clock(x.marks[p.Node][i].from))
		}
		for _, d := range dues {
			rule, why = eviction.RuleToleration, fmt.Sprintf("tainted from %s, it tolerates that for %s: due from %s to %s", clock(d.since), length(d.tolerated), clock(d.from), clock(d.to+x.late))
			if d.from > at.to {
				break
			}
		}
		x.told(r, rule, at, "%s on %s deleted at %s: %s", p, p.Node, clock(x.askedAt(p)), why)
	}
	r.Samples = len(x.pods) // those that were left alone count too
	return n
}

func (x *evictionFacts) missed(r *Result, g *grounds) int {
	n := 0
	for _, p := range x.pods {
		if len(x.marks[p.Node]) == 0 {
			r.Samples++
			continue
		}
		if !x.known(p, g) {
			continue
		}
		r.Samples++
		for _, d := range x.dues(p) {
			by := d.to + x.late
			if p.ended() > 0 && x.askedAt(p) <= by+apiSecond {
				break
			}
			if _, evicted := x.evictedAt(p); evicted { // too late, which evictions.window tells
				break
			}
			in := span{d.from - x.slack, by}
			if !d.surely || by >= x.stop || x.serverAway(in) != "" {
				r.Excluded++
				continue
			}
			n++
			x.told(r, eviction.RuleToleration, in, "%s on %s was due by %s (tainted from %s, tolerated for %s) and is still there", p, p.Node, clock(by), clock(d.since), length(d.tolerated))
			break
		}
	}
	return n
}

// nodeNow is a node while the record is gone through.
type nodeNow struct {
	zone                             string
	excluded, ready, tainted, listed bool
	// waiting is since when it is owed a taint; -1 if it is not.
	waiting time.Duration
}

// zoneNow is a zone while the record is gone through.
type zoneNow struct {
	size, bad int
	// braked is since when no taint may be put on; -1 if one may.
	braked time.Duration
	rule   eviction.Rule
	// taints counts those of the present reign, since bounds when the next may be.
	taints int
	since  time.Duration
	most   int // that waited at once
}

// rate goes through the states of all nodes in their order and holds each taint
// against the state of its zone (eviction.RuleRate, RulePartial, RuleAll).
func (x *evictionFacts) rate(r *Result, _ *grounds) int {
	s, n := x.c.settings(), 0
	nodes, zones := map[string]*nodeNow{}, map[string]*zoneNow{}
	current := -1
	settle := x.c.NodeMonitorPeriod + x.slack
	reignAt := func(at time.Duration) int {
		i := -1
		for j, e := range x.reigns {
			if e.from <= at {
				i = j
			}
		}
		return i
	}
	// owed ends a node's wait for its taint.
	owed := func(name string, now *nodeNow, at time.Duration) {
		since := now.waiting
		now.waiting = -1
		if since < 0 || x.c.NodeEvictionRate <= 0 {
			return
		}
		z := zones[now.zone]
		rate := cmp.Or(eviction.ZoneRate(s, eviction.ZoneState(s, z.size, z.bad), z.size), s.ControllerManager.NodeEvictionRate)
		bound := 2*settle + time.Duration(float64(z.most+2)/float64(rate)*float64(time.Second))
		for _, e := range x.reigns {
			from, to := max(since, e.ready), min(at, e.alive, x.stop)
			if to-from > bound && x.serverAway(span{from, to}) == "" {
				n++
				x.told(r, eviction.RuleRate, span{from, to}, "%s was not ready and without a taint from %s to %s, %s longer than its zone's rate allows", name, clock(from), clock(to), length(to-from-bound))
				return
			}
		}
	}
	states := slices.Clone(x.h.Nodes)
	slices.SortStableFunc(states, func(a, b history.Timed[history.Node]) int { return cmp.Compare(a.At, b.At) })
	for _, e := range states {
		if i := reignAt(e.At); i != current {
			current = i
			for _, z := range zones {
				z.taints = 0
			}
		}
		now := nodes[e.V.Name]
		if now == nil {
			now = &nodeNow{waiting: -1, zone: e.V.Zone, ready: e.V.Ready == "True"}
			now.tainted, _ = noExecute(e.V.Taints)
			nodes[e.V.Name] = now
		}
		z := zones[e.V.Zone]
		if z == nil {
			z = &zoneNow{braked: -1}
			zones[e.V.Zone] = z
		}
		if tainted, _ := noExecute(e.V.Taints); tainted != now.tainted {
			if now.tainted = tainted; tainted && e.At < x.stop {
				r.Samples++
				n += x.taint(r, s, e, z, current)
			}
		}
		now.ready = e.V.Ready == "True"
		now.zone, now.excluded, now.listed = e.V.Zone, e.V.Excluded, !e.V.Deleted
		x.restate(s, nodes, zones, e.At)
		for name, w := range nodes {
			waits := w.listed && !w.ready && !w.tainted && zones[w.zone].braked < 0
			switch {
			case waits && w.waiting < 0:
				w.waiting = e.At
			case !waits && w.waiting >= 0:
				owed(name, w, e.At)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		owed(name, nodes[name], x.stop)
	}
	r.Samples += len(nodes)
	return n
}

// taint judges one that was put on in a zone, whose state is that before.
func (x *evictionFacts) taint(r *Result, s eviction.Settings, e history.Timed[history.Node], z *zoneNow, current int) int {
	n := 0
	settle := x.c.NodeMonitorPeriod + x.slack
	fresh := current >= 0 && e.At < x.reigns[current].ready+settle // a new leader leaks anew
	if z.braked >= 0 && e.At > z.braked+settle && !fresh {
		n++
		x.told(r, z.rule, span{z.braked, e.At}, "%s was tainted at %s, though its zone had %d of %d nodes away from %s on", e.V.Name, clock(e.At), z.bad, z.size, clock(z.braked))
	}
	fastest := max(eviction.ZoneRate(s, eviction.Normal, z.size), eviction.ZoneRate(s, eviction.Partial, z.size))
	if z.size == 0 || fastest <= 0 { // RuleExcluded; a rate of 0 leaks one
		return n
	}
	z.taints++
	at := e.At - time.Duration(float64(z.taints)/float64(fastest)*float64(time.Second))
	if z.taints > 1 && at < z.since-x.slack {
		n++
		x.told(r, eviction.RuleRate, span{e.At, e.At}, "%s was tainted at %s, the %d. of its zone, %s sooner than %v a second allow", e.V.Name, clock(e.At), z.taints, length(z.since-at), fastest)
	}
	if z.taints == 1 || at > z.since {
		z.since = at
	}
	return n
}

// restate works the states of all zones out anew.
func (x *evictionFacts) restate(s eviction.Settings, nodes map[string]*nodeNow, zones map[string]*zoneNow, at time.Duration) {
	waiting := map[string]int{}
	for _, z := range zones {
		z.size, z.bad = 0, 0
	}
	for _, w := range nodes {
		if !w.listed {
			continue
		}
		if !w.ready && !w.tainted {
			waiting[w.zone]++
		}
		if w.excluded {
			continue
		}
		zones[w.zone].size++
		if !w.ready {
			zones[w.zone].bad++
		}
	}
	all, counted := true, 0
	for _, z := range zones {
		counted += z.size
		all = all && z.bad == z.size
	}
	for name, z := range zones {
		z.most = max(z.most, waiting[name])
		state := eviction.ZoneState(s, z.size, z.bad)
		rule := eviction.Rule("")
		switch {
		case all && counted > 0:
			rule = eviction.RuleAll
		case eviction.ZoneRate(s, state, z.size) == 0 && state == eviction.Partial:
			rule = eviction.RulePartial
		}
		switch {
		case rule == "":
			z.braked = -1
		case z.braked < 0:
			z.braked = at
		}
		z.rule = rule
	}
}
