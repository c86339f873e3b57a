package eviction

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Fate is what must become of a node or pod.
type Fate string

// The fates.
const (
	Must  Fate = "must"
	May   Fate = "may"
	Never Fate = "never"
)

// Prediction is what the model says of a case.
type Prediction struct {
	Zones []ZoneFate `json:"zones"`
	// Nodes are those of the cut, Pods all of the case, in its order.
	Nodes []NodeFate `json:"nodes"`
	Pods  []PodFate  `json:"pods"`
	// Emptied is how many nodes lose their pods: which ones is the queue's
	// choice, so that a pod's own fate says less.
	Emptied []Emptied `json:"emptied"`
	// Epochs is how many leaders live after the cut.
	Epochs int `json:"epochs"`
	// Doubts are reasons why nothing can be said of nodes that were not cut:
	// they may be taken for dead too.
	Doubts []Doubt `json:"doubts,omitempty"`
}

// Doubt is a rule that leaves healthy nodes in doubt, and why.
type Doubt struct {
	Rule Rule   `json:"rule"`
	Why  string `json:"why"`
}

// ZoneFate is what becomes of a zone.
type ZoneFate struct {
	Zone string `json:"zone"`
	// Size counts the nodes that are not excluded, Hit those of them that are
	// cut, Cut all that are.
	Size int `json:"size"`
	Hit  int `json:"hit"`
	Cut  int `json:"cut"`
	// State that the cut leads to, and the Rate of taints then.
	State State   `json:"state"`
	Rate  float32 `json:"rate"`
	// Fastest is the rate that no leader exceeds, whatever the state, but for
	// what is as late as Slack; 0 if there is no such rate.
	Fastest float32       `json:"-"`
	Slack   time.Duration `json:"-"`
	// Rule that decides about the zone.
	Rule Rule `json:"rule"`
	// Tainted is how many nodes of the zone get the NoExecute taint at least
	// once; Ranks are the windows of the first, second, ... taint that one
	// leader puts on, merged over the leaders.
	Tainted Count  `json:"tainted"`
	Ranks   []Rank `json:"ranks"`
	// Quiet are times in which no taint may be put on.
	Quiet []Window `json:"quiet,omitempty"`
}

// Rank is the taint of the n-th node of a zone.
type Rank struct {
	Fate  Fate   `json:"fate"`
	Taint Window `json:"taint"`
}

// Emptied is how many nodes of a zone lose the pods of one toleration.
type Emptied struct {
	Zone      string        `json:"zone"`
	Tolerates time.Duration `json:"-"`
	Nodes     Count         `json:"nodes"`
}

// NodeFate is what becomes of a node of the cut.
type NodeFate struct {
	Name string `json:"name"`
	Zone string `json:"zone"`
	// Becomes and Unknown are about its Ready=Unknown.
	Becomes Fate   `json:"becomesUnknown"`
	Unknown Window `json:"unknown"`
	// Fate and Taint are about its first NoExecute taint.
	Fate  Fate   `json:"fate"`
	Taint Window `json:"taint"`
	Rule  Rule   `json:"rule"`
}

// PodFate is what becomes of a pod.
type PodFate struct {
	Pod   string `json:"pod"`
	Node  string `json:"node"`
	Owner string `json:"owner,omitempty"`
	// Tolerates is how long it stays on an unreachable node.
	Tolerates time.Duration `json:"-"`
	// Fate and Delete are about the node controller's deletion.
	Fate   Fate   `json:"fate"`
	Delete Window `json:"delete"`
	// Gone is when the object is away, Replaced when another may be made for it;
	// both only of a pod that is deleted, by whomever.
	Gone     *Window `json:"gone,omitempty"`
	Replaced *Window `json:"replaced,omitempty"`
	Rule     Rule    `json:"rule"`
	Why      string  `json:"why"`
}

// Predict says what the node controller must do. The case must have no Problems.
func Predict(c Case) Prediction {
	var out Prediction
	for i, epochs := range c.histories() {
		p := newModel(c, epochs).predict()
		if i == 0 {
			out = p
		} else {
			out.merge(p)
		}
	}
	return out
}

// merge takes in another that may be true as well.
func (p *Prediction) merge(o Prediction) {
	p.Epochs = max(p.Epochs, o.Epochs)
	for i := range p.Zones {
		z, oz := &p.Zones[i], o.Zones[i]
		z.Tainted = Count{min(z.Tainted.Min, oz.Tainted.Min), max(z.Tainted.Max, oz.Tainted.Max)}
		for j := range oz.Ranks {
			if j == len(z.Ranks) {
				z.Ranks = append(z.Ranks, Rank{Never, Window{}})
			}
			z.Ranks[j].Fate, z.Ranks[j].Taint = either(z.Ranks[j].Fate, oz.Ranks[j].Fate, z.Ranks[j].Taint, oz.Ranks[j].Taint)
		}
		for j := len(oz.Ranks); j < len(z.Ranks); j++ {
			z.Ranks[j].Fate = May
		}
		z.Quiet = nil // which of them are depends on which is true
	}
	for i := range p.Emptied {
		e, oe := &p.Emptied[i], o.Emptied[i]
		e.Nodes = Count{min(e.Nodes.Min, oe.Nodes.Min), max(e.Nodes.Max, oe.Nodes.Max)}
	}
	for i := range p.Nodes {
		n, on := &p.Nodes[i], o.Nodes[i]
		n.Becomes, n.Unknown = either(n.Becomes, on.Becomes, n.Unknown, on.Unknown)
		n.Fate, n.Taint = either(n.Fate, on.Fate, n.Taint, on.Taint)
	}
	for i := range p.Pods {
		a, b := &p.Pods[i], o.Pods[i]
		if a.Fate != b.Fate {
			a.Rule, a.Why = RuleOutage, "whether the leader survives the outage is not sure"
		}
		a.Fate, a.Delete = either(a.Fate, b.Fate, a.Delete, b.Delete)
		a.Gone, a.Replaced = eitherOf(a.Gone, b.Gone), eitherOf(a.Replaced, b.Replaced)
	}
}

func either(a, b Fate, wa, wb Window) (Fate, Window) {
	switch {
	case a == Never && b == Never:
		return Never, wa
	case a == Never:
		return May, wb
	case b == Never:
		return May, wa
	case a == Must && b == Must:
		return Must, wa.hull(wb)
	}
	return May, wa.hull(wb)
}

func eitherOf(a, b *Window) *Window {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	w := a.hull(*b)
	return &w
}

// stuckRate is the one that a brake never gives back: the limiter that stops all says
// of itself that its rate is 1, and one of the same rate does not take its place
// (RuleAll; k8s.io/client-go util/flowcontrol/throttle.go fakeNeverRateLimiter.QPS).
const stuckRate = 1

// tick is how often the taint queue is looked at (RuleRate).
const tick = 100 * time.Millisecond

// Requests that the controllers send, at most (RuleClient). A node that turns
// Unknown: its status, 2 events, NoSchedule and NoExecute taints (a GET and a
// PATCH each, twice if the opposite taint is there), from v1.37 its lease; each
// of its pods: its status and an event. A deletion: GET, PATCH, DELETE, event.
const (
	perNode    = 11
	perPod     = 2
	perDelete  = 4
	perBreaker = 1
)

// model is one case with one sequence of epochs.
type model struct {
	Case
	zs     []zone
	epochs []Epoch
	all    bool          // every zone loses all its nodes
	heal   time.Duration // Forever if never
	back   time.Duration // by when every node is heard again
	busy   time.Duration // how long the node controller's client may be held up
	delay  time.Duration // how long a deletion may be held up
	tau    map[string]time.Duration
}

func newModel(c Case, epochs []Epoch) *model {
	m := &model{Case: c, zs: c.zones(), epochs: epochs, heal: Forever, back: Forever, tau: map[string]time.Duration{}}
	if c.Cut.Heal > 0 {
		m.heal = c.Cut.Heal
		m.back = c.Settings.heard(m.heal)
		for _, o := range c.Outages { // nobody hears them while the API is away
			if o.From <= m.back && o.To >= m.heal {
				m.back = max(m.back, c.Settings.heard(o.To))
			}
		}
	}
	m.all = len(c.Cut.Nodes) > 0
	counted := 0
	for _, z := range m.zs {
		counted += z.size
		m.all = m.all && z.hit == z.size
	}
	m.all = m.all && counted > 0
	m.load()
	return m
}

// load works out how long the controllers' clients may be held up (RuleClient).
func (m *model) load() {
	cm := m.Settings.ControllerManager
	held := func(requests int) time.Duration {
		return tokens(float64(requests-int(cm.KubeAPIBurst)), cm.KubeAPIQPS)
	}
	on, byTau, perTau := map[string]int{}, map[time.Duration]map[string]int{}, 0
	total := 0
	for _, p := range m.Pods {
		t := Tolerates(p.admitted(m.Settings), unreachable)
		m.tau[p.Key()] = t
		if !slices.Contains(m.Cut.Nodes, p.Node) {
			continue
		}
		on[p.Node]++
		if t == Forever {
			continue
		}
		total++
		if byTau[t] == nil {
			byTau[t] = map[string]int{}
		}
		byTau[t][p.Node]++
	}
	pods := 0
	for _, n := range on {
		pods += n
	}
	m.busy = held(len(m.Cut.Nodes)*(perNode+perBreaker) + pods*perPod)
	// The pods of one toleration come node by node, at the rate of the taints;
	// while that is slower than the client only what comes at once waits.
	rate := float32(0)
	for _, nodes := range byTau {
		most := 0
		for _, n := range nodes {
			most = max(most, n)
		}
		perTau += most
	}
	zones := 0
	for _, z := range m.zs {
		if len(z.cut) > 0 {
			zones++
			rate += max(cm.NodeEvictionRate, cm.SecondaryNodeEvictionRate)
			if z.size == 0 {
				rate += float32(1 / cm.NodeMonitorPeriod.Seconds())
			}
		}
	}
	m.delay = held(perDelete * total)
	if rate*float32(perDelete*perTau) < cm.KubeAPIQPS {
		m.delay = min(m.delay, held(perDelete*perTau*zones))
	}
}

// life is what one epoch does.
type life struct {
	Epoch
	// unknown is when the cut nodes become Unknown in it, if they are not yet.
	unknown Window
	// queued is when they are queued.
	queued Window
	// spread is the longest time from the first that is queued to the end of the
	// pass that sees the last; braked when that is at the latest.
	spread, braked time.Duration
	// late is how late anything may be.
	late time.Duration
	// untainted is by when a node that is back has lost its taints.
	untainted time.Duration
	// stale says that taints of an epoch before may be there when it starts.
	stale bool
	plans []plan // of the zones
}

// plan is what an epoch does to a zone.
type plan struct {
	ranks []rank
	quiet []Window
}

// rank is the n-th taint of a zone in an epoch.
type rank struct {
	Window
	sure  bool
	until time.Duration // by when it is off again at the latest
	// most is how long it may be on, if that is less than from Earliest to until.
	most time.Duration
	rule Rule
}

// outlasts says whether it may be on for so long.
func (r rank) outlasts(d time.Duration) bool {
	return plus(r.Earliest, d) <= r.until && d <= r.most
}

// lives works through the epochs.
func (m *model) lives() []life {
	s, cm := m.Settings, m.Settings.ControllerManager
	var out []life
	sure, may, tainted := false, false, false // Unknown before this epoch
	for _, e := range m.epochs {
		if e.End.Latest <= 0 {
			continue
		}
		l := life{Epoch: e, late: s.Slack + m.busy, stale: tainted}
		early := time.Duration(0)
		for _, o := range m.Outages {
			if o.To > e.Start.Earliest && o.From < e.End.Latest && o.To > 0 {
				if ends, sureEnd := s.ends(o); !ends || !sureEnd {
					l.late = plus(l.late, o.To-o.From+tokens(1, max(cm.NodeEvictionRate, 0.01)))
				}
			}
			if o.From < 0 && o.To > -cm.NodeMonitorGracePeriod-s.Renewal() {
				early += o.To - o.From
			}
		}
		l.unknown.Earliest = max(-s.Renewal()-early, e.Start.Earliest) + cm.NodeMonitorGracePeriod
		fresh := e.Start.Earliest > 0
		if fresh {
			l.unknown.Latest = plus(e.Start.Latest, cm.NodeMonitorGracePeriod+cm.NodeMonitorPeriod+l.late)
			l.spread = cm.NodeMonitorPeriod + l.late
		} else {
			l.unknown.Latest = max(0, e.Start.Latest) + cm.NodeMonitorGracePeriod + 3*cm.NodeMonitorPeriod + l.late
			l.spread = s.Renewal() + early + 2*cm.NodeMonitorPeriod + l.late
		}
		l.queued = l.unknown.after(s.late())
		l.spread = max(0, l.spread-s.late())
		l.braked = plus(l.unknown.Latest, l.late)
		switch {
		case sure:
			l.queued = Window{e.Start.Earliest, plus(e.Start.Latest, l.late)}
			l.spread, l.braked = l.late, plus(e.Start.Latest, 2*l.late)
		case may:
			l.queued.Earliest = e.Start.Earliest
			l.spread = l.queued.Latest - l.queued.Earliest
		}
		l.untainted = Forever
		if m.back != Forever {
			l.untainted = plus(max(m.back, e.Start.Latest), cm.NodeMonitorPeriod+l.late)
		}
		all := m.all
		for _, z := range m.zs {
			l.plans = append(l.plans, m.plan(&l, z, all))
		}
		out = append(out, l)
		sure = sure || l.unknown.Latest <= min(e.End.Earliest, m.heal)
		may = may || l.unknown.Earliest <= min(e.End.Latest, m.back)
		tainted = tainted || l.queued.Earliest <= min(e.End.Latest, l.untainted)
	}
	return out
}

// plan says when the nodes of a zone are tainted in an epoch.
func (m *model) plan(l *life, z zone, all bool) plan {
	if len(z.cut) == 0 {
		return plan{}
	}
	s, q := m.Settings, m.Settings.ControllerManager.NodeEvictionRate
	state := ZoneState(s, z.size, z.hit)
	rate := ZoneRate(s, state, z.size)
	from, to := l.queued.Earliest, plus(l.queued.Latest, tick)
	var p plan
	add := func(r rank) {
		// The epoch ends, or the nodes are back, before it can be.
		if r.Earliest >= min(l.untainted, l.End.Latest) {
			return
		}
		r.sure = r.sure && r.Latest <= min(m.heal, l.End.Earliest)
		r.Latest = min(r.Latest, l.untainted, l.End.Latest)
		r.until = min(r.until, l.untainted, l.End.Latest)
		r.most = cmp.Or(r.most, Forever)
		p.ranks = append(p.ranks, r)
	}
	// wasted is the token that may be lost before the j-th taint (RuleRate).
	wasted := func(j int) float64 { return float64(min(1, j-1)) }
	stopped := all && z.size > 0 || state == Partial && rate == 0
	switch {
	case stopped:
		leak := min(len(z.cut), 1+int(float64(q)*l.spread.Seconds()))
		strays := 0
		if m.heal != Forever {
			strays = min(len(z.cut)-leak, int(float64(q)*(l.untainted-m.heal).Seconds()))
		}
		if q == stuckRate {
			strays = 0
		}
		until, last, most := Forever, l.braked, Forever
		switch {
		case q == 0: // a brake to 0 changes nothing: the bucket keeps its first token
			last = plus(last, s.ControllerManager.NodeMonitorPeriod+l.late)
		case all && m.interrupted(Window{from, l.braked}): // the taints cannot be taken off, and are not again
		case all:
			until, most = l.braked, l.braked-from
		}
		quiet := Window{last, min(m.heal, l.End.Earliest)}
		if m.heal != Forever {
			// A leak of few leaves a stray of few: any rank may come late.
			last = max(last, l.untainted)
			until = max(until, l.untainted)
			if most = max(most, l.untainted-m.heal); m.heal < l.braked {
				most = Forever
			}
		}
		for j := 1; j <= leak; j++ {
			add(rank{Window: Window{plus(from, tokens(float64(j-1), q)), last}, until: until, most: most, rule: RuleLeak})
		}
		for j := leak + 1; j <= leak+strays; j++ {
			add(rank{Window: Window{max(plus(m.heal, tokens(float64(j-leak), q)), from), last}, until: l.untainted, rule: RuleStraggler})
		}
		if quiet.Earliest < quiet.Latest {
			p.quiet = append(p.quiet, quiet)
		}
	case state == Partial:
		for j := range len(z.cut) {
			n := float64(j)
			w := Window{plus(from, tokens(n, max(q, rate))), plus(to, plus(l.late, tokens(n+1+wasted(j+1), rate)))}
			if burst := float64(q) * l.spread.Seconds(); rate < q && n > burst {
				w.Earliest = plus(from, plus(l.spread, tokens(n-burst, rate)))
			}
			if m.heal != Forever { // the zone is normal again before the last is back
				w.Earliest = min(w.Earliest, max(m.heal, from))
			}
			add(rank{Window: w, sure: true, until: Forever, rule: RuleLarge})
		}
	default:
		fastest, rule, sure := q, RuleRate, q > 0
		empty := 0.0 // tokens that the bucket lacks in the beginning
		if state == Full {
			rule = RuleFull
			for k := 3; k < z.size; k++ {
				if ZoneState(s, z.size, k) == Partial {
					empty = 1
				}
			}
			sure = sure && (empty == 0 || q != stuckRate)
		}
		if z.size == 0 {
			fastest += float32(1 / s.ControllerManager.NodeMonitorPeriod.Seconds())
			rule, sure = RuleExcluded, sure && !all
			if all { // its taint may be taken off with the others, and put on again
				to = plus(max(to, l.braked), s.ControllerManager.NodeMonitorPeriod+l.late)
				empty = 1
			}
		}
		for j := range len(z.cut) {
			n := float64(j)
			w := Window{plus(from, tokens(n, fastest)), plus(to, plus(time.Duration(empty)*l.late, tokens(n+empty+wasted(j+1), q)))}
			if q == 0 && state == Normal && z.size > 0 && j == 0 {
				sure = true // a bucket without a rate still has its first token
			} else if q == 0 {
				sure = false
			}
			if w.Earliest == Forever {
				break
			}
			add(rank{Window: w, sure: sure, until: Forever, rule: rule})
		}
	}
	return p
}

// predict puts together what the epochs do.
func (m *model) predict() Prediction {
	lives := m.lives()
	out := Prediction{Epochs: len(lives), Doubts: m.doubts()}
	for i, z := range m.zs {
		f := ZoneFate{Zone: z.name, Size: z.size, Hit: z.hit, Cut: len(z.cut), State: ZoneState(m.Settings, z.size, z.hit)}
		f.Rate = ZoneRate(m.Settings, f.State, z.size)
		f.Rule = m.zoneRule(f)
		if z.size > 0 { // else it may be given a full bucket again and again
			f.Fastest, f.Slack = max(ZoneRate(m.Settings, Normal, z.size), ZoneRate(m.Settings, Partial, z.size)), m.Settings.Slack
		}
		if f.Rule == RuleAll {
			f.Rate = 0
		}
		for _, l := range lives {
			p := l.plans[i]
			surely := 0
			for j, r := range p.ranks {
				if j == len(f.Ranks) {
					f.Ranks = append(f.Ranks, Rank{May, r.Window})
				}
				old := &f.Ranks[j]
				if old.Fate != Must {
					old.Taint = old.Taint.hull(r.Window)
				}
				if r.sure {
					old.Fate = Must
					surely++
				}
			}
			f.Tainted.Min = max(f.Tainted.Min, surely)
			f.Tainted.Max += len(p.ranks) // another leader may leak another node
			f.Quiet = append(f.Quiet, p.quiet...)
		}
		f.Tainted.Max = min(f.Tainted.Max, len(z.cut))
		out.Zones = append(out.Zones, f)
		for _, name := range z.cut {
			out.Nodes = append(out.Nodes, m.node(name, i, lives, f.Rule))
		}
	}
	out.Emptied = m.emptied(lives)
	for _, p := range m.Pods {
		out.Pods = append(out.Pods, m.pod(p, lives, out.Doubts))
	}
	return out
}

// emptied counts the nodes that lose their pods, by zone and toleration.
func (m *model) emptied(lives []life) []Emptied {
	out := []Emptied{}
	late := plus(m.delay, m.Settings.Slack)
	for i, z := range m.zs {
		taus := map[time.Duration]map[string]bool{} // the cut nodes that have such pods
		for _, p := range m.Pods {
			if t := m.tau[p.Key()]; t != Forever && slices.Contains(z.cut, p.Node) {
				if taus[t] == nil {
					taus[t] = map[string]bool{}
				}
				taus[t][p.Node] = true
			}
		}
		for _, tau := range slices.Sorted(maps.Keys(taus)) {
			e := Emptied{Zone: z.name, Tolerates: tau}
			for _, l := range lives {
				surely := 0
				for _, r := range l.plans[i].ranks {
					if r.outlasts(tau) {
						e.Nodes.Max++
					}
					due := Window{plus(r.Earliest, tau), plus(plus(r.Latest, tau), late)}
					if r.sure && due.Latest <= min(m.heal, l.End.Earliest) && !m.interrupted(due) {
						surely++
					}
				}
				if l.stale && tau <= l.late {
					e.Nodes.Max = len(z.cut)
				}
				e.Nodes.Min = max(e.Nodes.Min, surely)
			}
			// Some of the tainted nodes may have none of these pods.
			e.Nodes.Max = min(e.Nodes.Max, len(taus[tau]))
			e.Nodes.Min = max(0, e.Nodes.Min-(len(z.cut)-len(taus[tau])))
			out = append(out, e)
		}
	}
	return out
}

// interrupted says whether the API is away at some moment of a window.
func (m *model) interrupted(w Window) bool {
	return slices.ContainsFunc(m.Outages, func(o Span) bool { return w.touches(Window{o.From, o.To}) })
}

// zoneRule is the rule that decides about a zone.
func (m *model) zoneRule(f ZoneFate) Rule {
	switch {
	case f.Cut == 0:
		return RuleReachable
	case f.Size == 0:
		return RuleExcluded
	case m.all:
		return RuleAll
	case f.State == Full:
		return RuleFull
	case f.State == Partial && f.Rate > 0:
		return RuleLarge
	case f.State == Partial:
		return RulePartial
	}
	return RuleRate
}

// doubts about nodes that are not cut.
func (m *model) doubts() []Doubt {
	s, cm := m.Settings, m.Settings.ControllerManager
	var out []Doubt
	heard := s.Renewal() + 2*cm.NodeMonitorPeriod
	if heard+s.Slack >= cm.NodeMonitorGracePeriod {
		out = append(out, Doubt{RuleHeartbeat, fmt.Sprintf("a renewal may be seen only %s after the one before, and nodeMonitorGracePeriod is %s", heard, cm.NodeMonitorGracePeriod)})
	}
	for _, o := range m.Outages {
		length := o.To - o.From
		if length+heard+s.Slack >= cm.NodeMonitorGracePeriod {
			if _, sure := s.ends(o); sure && s.heard(length)-length+heard+s.Slack < cm.NodeMonitorGracePeriod {
				continue // no leader lives to see it, and the next begins anew
			}
			out = append(out, Doubt{RuleOutage, fmt.Sprintf("no lease is renewed for %s while the API is away, and nodeMonitorGracePeriod is %s", length, cm.NodeMonitorGracePeriod)})
		}
	}
	if m.busy > cm.NodeMonitorGracePeriod {
		out = append(out, Doubt{RuleClient, fmt.Sprintf("one pass over the nodes may take %s, longer than nodeMonitorGracePeriod", m.busy.Round(time.Second))})
	}
	return out
}

// node says what becomes of a node of a zone's cut.
func (m *model) node(name string, zone int, lives []life, rule Rule) NodeFate {
	n := NodeFate{Name: name, Zone: m.zs[zone].name, Becomes: Never, Fate: Never, Rule: rule}
	for _, l := range lives {
		if n.Becomes != Must && l.unknown.Earliest <= min(l.End.Latest, m.back) {
			w := Window{l.unknown.Earliest, min(l.unknown.Latest, l.End.Latest, m.back)}
			if n.Becomes == May {
				w = w.hull(n.Unknown)
			}
			n.Becomes, n.Unknown = May, w
			if l.unknown.Latest <= min(l.End.Earliest, m.heal) {
				n.Becomes = Must
			}
		}
		ranks := l.plans[zone].ranks
		if len(ranks) == 0 || n.Fate == Must {
			continue
		}
		w, sure := m.any(l, zone)
		if n.Fate == May {
			w = w.hull(n.Taint)
		}
		n.Fate, n.Taint = May, w
		if sure {
			n.Fate = Must
		}
	}
	if n.Fate == Never && m.back != Forever {
		n.Rule = RuleReturn
	}
	return n
}

// any is when one node of a zone, whichever it is, gets its taint, and whether
// it surely does.
func (m *model) any(l life, zone int) (w Window, sure bool) {
	ranks := l.plans[zone].ranks
	if len(ranks) == 0 {
		return Window{}, false
	}
	w, sure = ranks[0].Window, len(ranks) == len(m.zs[zone].cut)
	for _, r := range ranks {
		w, sure = w.hull(r.Window), sure && r.sure
	}
	return w, sure
}

// pod says what becomes of a pod.
func (m *model) pod(p Pod, lives []life, doubts []Doubt) PodFate {
	tau := m.tau[p.Key()]
	f := PodFate{Pod: p.Key(), Node: p.Node, Owner: p.Owner, Tolerates: tau, Fate: Never}
	zone := slices.IndexFunc(m.zs, func(z zone) bool { return slices.Contains(z.cut, p.Node) })
	switch {
	case tau == Forever && p.kind() == "DaemonSet":
		f.Rule, f.Why = RuleDaemonSet, "a DaemonSet's pod tolerates it for ever"
	case tau == Forever && p.kind() == Static:
		f.Rule, f.Why = RuleStatic, "a static pod tolerates it for ever"
	case tau == Forever:
		f.Rule, f.Why = RuleToleration, "it tolerates it for ever"
	case zone < 0 && len(doubts) > 0:
		f.Fate, f.Delete = May, Window{0, Forever}
		f.Rule, f.Why = doubts[0].Rule, doubts[0].Why
	case zone < 0:
		f.Rule, f.Why = RuleReachable, "its node keeps in touch"
	default:
		m.evict(&f, tau, zone, lives)
	}
	m.act(&f, p, lives)
	return f
}

// evict says when a pod on a cut node is deleted.
func (m *model) evict(f *PodFate, tau time.Duration, zone int, lives []life) {
	late := plus(m.delay, m.Settings.Slack)
	f.Rule, f.Why = RuleReturn, "its node is back, or its leader gone, before it could be deleted"
	switch {
	case m.heal != Forever:
	case m.all:
		f.Rule, f.Why = RuleAll, "no zone has a ready node: a taint is taken off again before it could be deleted"
	case len(lives) > 1:
		f.Rule, f.Why = RuleEpoch, "no leader lives as long as it tolerates the taint"
	}
	for _, l := range lives {
		if f.Fate == Must {
			return
		}
		ranks := l.plans[zone].ranks
		var w Window
		found := false
		rule := Rule("")
		for _, r := range ranks {
			if !r.outlasts(tau) {
				continue
			}
			last := plus(min(plus(r.Latest, tau), r.until), late)
			if one := (Window{plus(r.Earliest, tau), last}); found {
				w = w.hull(one)
			} else {
				w, found, rule = one, true, r.rule
			}
		}
		// The taint eviction controller may start before the node controller has
		// taken the taints of the epoch before off (RuleEpoch).
		if l.stale && tau <= l.late {
			one := Window{plus(l.Start.Earliest, tau), plus(plus(l.Start.Latest, 2*l.late), plus(tau, late))}
			if found {
				w = w.hull(one)
			} else {
				w, found, rule = one, true, RuleEpoch
			}
		}
		if !found {
			continue
		}
		if f.Fate == May {
			w = w.hull(f.Delete)
		} else {
			f.Rule = rule
		}
		f.Fate, f.Delete = May, w
		switch rule {
		case RuleLeak:
			f.Why = "its node may be one of the few that are tainted before the brake holds"
		case RuleStraggler:
			f.Why = "its node may be tainted when others are back before it"
		default:
			f.Why = "its toleration may or may not run out before its node is back or its leader gone"
		}
		taint, sure := m.any(l, zone)
		if !sure || plus(plus(taint.Latest, tau), late) > min(m.heal, l.End.Earliest) {
			continue
		}
		due := Window{plus(taint.Earliest, tau), plus(plus(taint.Latest, tau), late)}
		if m.interrupted(due) {
			f.Rule, f.Why = RuleLost, "its deletion may fall into an outage of the API and is then not tried again"
			continue
		}
		f.Fate, f.Why = Must, fmt.Sprintf("its node is tainted (%s) and it tolerates that for %s", rule, tau)
	}
}

// Loops of the pod garbage collector (RuleService, RuleOrphan).
const (
	gcEvery      = 20 * time.Second
	gcQuarantine = 40 * time.Second
	// defaultGrace is a pod's terminationGracePeriod if it gives none
	// (pkg/apis/core/v1/defaults.go).
	defaultGrace = 30 * time.Second
)

// act works out when the object goes, and what people add to it.
func (m *model) act(f *PodFate, p Pod, lives []life) {
	late := plus(m.delay, m.Settings.Slack)
	cut := slices.Contains(m.Cut.Nodes, p.Node)
	var gone *Window
	if f.Fate != Never && cut {
		w := Window{Forever, Forever} // it stays Terminating (RuleGone)
		if m.heal != Forever {
			w = Window{max(f.Delete.Earliest, m.heal), plus(max(f.Delete.Latest, m.back), cmp.Or(p.Grace, defaultGrace)+2*m.Settings.Slack)}
		}
		gone = &w
	}
	for _, a := range m.Acts {
		switch {
		case a.Kind == ActOutOfService && a.Node == p.Node:
			tau := Tolerates(p.admitted(m.Settings), outOfService)
			if tau == Forever {
				continue
			}
			due := Window{a.At, a.At + m.Settings.Slack}.after(tau)
			due.Latest = plus(due.Latest, late)
			alive := slices.ContainsFunc(lives, func(l life) bool { return l.Start.Latest <= due.Earliest && due.Latest <= l.End.Earliest })
			switch {
			case f.Fate != Must && alive && m.heal > due.Latest:
				f.Fate, f.Delete, f.Rule, f.Why = Must, either2(f, due), RuleService, "its node was declared out of service, which it does not tolerate"
			case f.Fate == Must && due.Earliest < f.Delete.Latest:
				f.Delete = Window{min(f.Delete.Earliest, due.Earliest), min(f.Delete.Latest, due.Latest)}
				f.Rule = RuleService
			case f.Fate != Must:
				f.Fate, f.Delete, f.Rule = May, either2(f, due), RuleService
			}
			if cut {
				// The collector removes what is Terminating while the node is Unknown.
				first := max(f.Delete.Earliest, a.At)
				last := plus(max(f.Delete.Latest, m.unknownBy(lives), a.At), gcEvery+late+m.Settings.Slack)
				gone = &Window{first, last}
			}
		case a.Kind == ActDeleteNode && a.Node == p.Node:
			gone = sooner(gone, Window{a.At + gcQuarantine, a.At + gcEvery + gcQuarantine + gcEvery + 2*m.Settings.Slack})
			if f.Fate == Must && f.Delete.Latest > gone.Earliest {
				f.Fate = May
			}
			f.Rule = RuleOrphan
		case a.Kind == ActForceDelete && a.Pod == f.Pod:
			gone = sooner(gone, Window{a.At, a.At + m.Settings.Slack})
			switch {
			case f.Fate == Never:
			case a.At < f.Delete.Earliest:
				f.Fate = Never
			case f.Fate == Must && a.At <= f.Delete.Latest:
				f.Fate = May
			}
			f.Rule, f.Why = RuleForce, "it is deleted by force"
		}
	}
	f.Gone = gone
	switch p.kind() {
	case "ReplicaSet", "Deployment", "Job":
		if f.Fate != Never {
			w := Window{f.Delete.Earliest, plus(f.Delete.Latest, m.Settings.Slack)}
			f.Replaced = &w
		} else {
			f.Replaced = gone
		}
	case "StatefulSet":
		f.Replaced = gone
	}
}

// either2 is a window that holds the deletion so far, if there may be one, and
// another.
func either2(f *PodFate, w Window) Window {
	if f.Fate == Never {
		return w
	}
	return Window{min(f.Delete.Earliest, w.Earliest), w.Latest}
}

// sooner is when the first of two things that end a pod has done so.
func sooner(old *Window, w Window) *Window {
	if old != nil {
		w = Window{min(old.Earliest, w.Earliest), min(old.Latest, w.Latest)}
	}
	return &w
}

// unknownBy is by when the cut nodes are Unknown; Forever if they may never be.
func (m *model) unknownBy(lives []life) time.Duration {
	for _, l := range lives {
		if l.unknown.Latest <= min(l.End.Earliest, m.heal) {
			return l.unknown.Latest
		}
	}
	return Forever
}
