package eviction

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

// sim is the node controller, the taint eviction controller and the kubelets as
// a plain sequence of events: each step of the source, with its times drawn. It
// shares no formula with the model. What it leaves out is the limit of the
// clients' requests.
type sim struct {
	c   Case
	rng *rand.Rand
	now time.Duration
	q   events

	// The API.
	lease, status map[string]time.Duration // the last renewal, heartbeat
	unknown       map[string]bool
	tainted       map[string]bool
	deleted       map[string]bool

	// The leader's memory.
	leader  int // counts epochs; 0 nobody leads
	health  map[string]*simHealth
	buckets map[string]*simBucket
	states  map[string]State
	queued  map[string]bool          // UniqueQueue.set
	order   map[string]time.Duration // UniqueQueue.queue
	timers  map[string]int           // by pod: the timer that counts
	timerID int

	out Observation
}

type simHealth struct {
	probe, lease, status time.Duration
	hasLease             bool
}

type simBucket struct {
	rate   float64
	never  bool
	tokens float64
	last   time.Duration
}

func (b *simBucket) take(now time.Duration) bool {
	if b.never {
		return false
	}
	b.tokens = min(1, b.tokens+(now-b.last).Seconds()*b.rate)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}
type events struct {
	list []event
	seq  int
}

func (e events) Len() int { return len(e.list) }
func (e events) Less(i, j int) bool {
	return e.list[i].at < e.list[j].at || e.list[i].at == e.list[j].at && e.list[i].seq < e.list[j].seq
}
func (e events) Swap(i, j int) { e.list[i], e.list[j] = e.list[j], e.list[i] }
func (e *events) Push(x any)   { e.list = append(e.list, x.(event)) }
func (e *events) Pop() any {
	x := e.list[len(e.list)-1]
	e.list = e.list[:len(e.list)-1]
	return x
}

func (s *sim) at(t time.Duration, do func()) {
	s.q.seq++
	heap.Push(&s.q, event{t, s.q.seq, do})
}

// upTo draws a time.
func (s *sim) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(s.rng.Int64N(int64(d)))
}

func (s *sim) within(w Window) time.Duration {
	if w.Latest == Forever {
		return Forever
	}
	return w.Earliest + s.upTo(w.Latest-w.Earliest)
}

// step is how long a request may take.
const step = 20 * time.Millisecond

func (s *sim) away() bool {
	return slices.ContainsFunc(s.c.Outages, func(o Span) bool { return o.From <= s.now && s.now < o.To })
}

// simulate runs a case until a time. reports is how often kubelets post their
// status without need.
func simulate(c Case, rng *rand.Rand, until, reports time.Duration) Observation {
	s := &sim{
		c: c, rng: rng,
		lease: map[string]time.Duration{}, status: map[string]time.Duration{}, unknown: map[string]bool{}, tainted: map[string]bool{}, deleted: map[string]bool{},
		out: Observation{Unknown: map[string]time.Duration{}, Deleted: map[string]time.Duration{}, Until: until},
	}
	began := -3 * (c.Settings.Renewal() + c.Settings.ControllerManager.NodeMonitorPeriod + time.Second)
	s.now = began
	for _, n := range c.Nodes {
		s.kubelet(n.Name, began, reports)
	}
	epochs := c.Epochs
	if len(epochs) == 0 {
		epochs = []Epoch{{Window{longAgo, longAgo}, Window{Forever, Forever}}}
	}
	for i, e := range epochs {
		start, end := max(began, s.within(e.Start)), s.within(e.End)
		s.at(start, func() { s.lead(i + 1) })
		if end != Forever {
			s.at(end, func() {
				if s.leader == i+1 {
					s.leader = 0
				}
			})
		}
	}
	for len(s.q.list) > 0 {
		e := heap.Pop(&s.q).(event)
		if e.at > until {
			break
		}
		s.now = e.at
		e.do()
	}
	return s.out
}

// kubelet renews the lease and posts the status of a node.
func (s *sim) kubelet(name string, began, reports time.Duration) {
	cut := slices.Contains(s.c.Cut.Nodes, name)
	back := Forever
	if h := s.c.Cut.Heal; h > 0 {
		back = h + s.upTo(s.c.Settings.heard(h)-h)
	}
	silent := func() bool { return cut && s.now >= 0 && s.now < back || s.away() }
	every := s.c.Settings.Renewal() * 100 / 104
	var renew, post func()
	renew = func() {
		if !silent() {
			s.lease[name] = s.now
		}
		s.at(s.now+every+s.upTo(every/25), renew)
	}
	post = func() {
		if !silent() {
			s.status[name] = s.now
			s.unknown[name] = false
		}
		s.at(s.now+reports, post)
	}
	s.lease[name], s.status[name] = began, began
	s.at(began+s.upTo(every), renew)
	s.at(began+s.upTo(reports), post)
	if cut && back != Forever {
		var comeBack func()
		comeBack = func() {
			for _, o := range s.c.Outages {
				if o.From <= s.now && s.now < o.To {
					s.at(o.To+s.upTo(s.c.Settings.heard(o.To)-o.To), comeBack)
					return
				}
			}
			s.lease[name], s.status[name], s.unknown[name] = s.now, s.now, false
		}
		s.at(back, comeBack)
	}
}

// lead begins an epoch: everything is forgotten.
func (s *sim) lead(epoch int) {
	s.leader = epoch
	s.health, s.buckets, s.states = map[string]*simHealth{}, map[string]*simBucket{}, map[string]State{}
	s.queued, s.order, s.timers = map[string]bool{}, map[string]time.Duration{}, map[string]int{}
	me := func(do func()) func() {
		return func() {
			if s.leader == epoch {
				do()
			}
		}
	}
	// The taint eviction controller may be the first to be ready.
	s.at(s.now+s.upTo(200*time.Millisecond), me(func() {
		for _, n := range s.c.Nodes {
			if s.tainted[n.Name] {
				s.timersOf(n.Name, epoch)
			}
		}
	}))
	known := map[string]bool{}
	var pass func()
	pass = me(func() {
		at := s.now
		for _, n := range s.c.Nodes { // classifyNodes, addPodEvictorForNewZone, markNodeAsReachable
			if _, ok := s.states[n.Zone]; !ok {
				s.states[n.Zone] = "Initial"
				s.buckets[n.Zone] = &simBucket{rate: float64(s.c.Settings.ControllerManager.NodeEvictionRate), tokens: 1, last: s.now}
			}
			if !known[n.Name] {
				known[n.Name] = true
				s.untaint(n.Name)
			}
		}
		seen := map[string][]bool{} // ready or not, by zone, of those counted
		for _, i := range s.rng.Perm(len(s.c.Nodes)) {
			at += s.upTo(step / 4)
			s.at(at, me(func() { s.monitor(s.c.Nodes[i], seen) }))
		}
		s.at(at+time.Millisecond, me(func() {
			s.disruption(seen)
			s.at(s.now+s.c.Settings.ControllerManager.NodeMonitorPeriod, pass)
		}))
	})
	s.at(s.now+s.upTo(500*time.Millisecond), pass)
	var look func()
	look = me(func() {
		for zone := range s.buckets {
			s.try(zone)
		}
		s.at(s.now+100*time.Millisecond, look)
	})
	s.at(s.now+s.upTo(500*time.Millisecond), look)
}

// monitor is a node's turn in a pass.
func (s *sim) monitor(n Node, seen map[string][]bool) {
	h := s.health[n.Name]
	was := s.unknown[n.Name]
	if h == nil {
		h = &simHealth{probe: s.now, status: s.status[n.Name]}
		s.health[n.Name] = h
		h.lease, h.hasLease = s.lease[n.Name], true
	} else {
		hadLease, lease := h.hasLease, h.lease
		if h.status != s.status[n.Name] {
			*h = simHealth{probe: s.now, status: s.status[n.Name]}
		}
		if !hadLease || lease < s.lease[n.Name] {
			h.lease, h.hasLease, h.probe = s.lease[n.Name], true, s.now
		}
	}
	if s.now > h.probe+s.c.Settings.ControllerManager.NodeMonitorGracePeriod && !was {
		if s.away() {
			return // left out of this pass and its statistics
		}
		s.unknown[n.Name] = true
		if _, ok := s.out.Unknown[n.Name]; !ok {
			s.out.Unknown[n.Name] = s.now
		}
	}
	is := s.unknown[n.Name]
	if !n.Excluded {
		seen[n.Zone] = append(seen[n.Zone], !is)
	}
	decides := is
	if s.c.Settings.late() > 0 {
		decides = was
	}
	if !decides {
		if !is {
			s.untaint(n.Name)
		}
		return
	}
	if !s.tainted[n.Name] {
		delete(s.queued, n.Name)
		delete(s.order, n.Name)
	}
	if !s.queued[n.Name] {
		s.queued[n.Name], s.order[n.Name] = true, s.now
	}
}

// disruption is handleDisruption.
func (s *sim) disruption(seen map[string][]bool) {
	cm := s.c.Settings.ControllerManager
	next, allAre, allWas := map[string]State{}, true, true
	for zone, list := range seen {
		ready := 0
		for _, r := range list {
			if r {
				ready++
			}
		}
		bad := len(list) - ready
		switch {
		case ready == 0:
			next[zone] = Full
		case bad > 2 && float32(bad)/float32(len(list)) >= cm.UnhealthyZoneThreshold:
			next[zone] = Partial
		default:
			next[zone] = Normal
		}
		if next[zone] != Full {
			allAre = false
		}
	}
	for zone, st := range s.states {
		if _, ok := seen[zone]; !ok {
			delete(s.states, zone)
			continue
		}
		if st != Full {
			allWas = false
			break
		}
	}
	set := func(zone string) {
		rate := cm.NodeEvictionRate
		if next[zone] == Partial {
			rate = 0
			if len(seen[zone]) > int(cm.LargeClusterSizeThreshold) {
				rate = cm.SecondaryNodeEvictionRate
			}
		}
		s.swap(zone, rate)
	}
	switch {
	case allAre && allWas:
	case allAre:
		for _, n := range s.c.Nodes {
			s.untaint(n.Name)
		}
		for zone := range s.states {
			s.swap(zone, 0)
			s.states[zone] = Full
		}
	case allWas:
		for _, h := range s.health {
			h.probe = s.now
		}
		for zone := range s.states {
			set(zone)
			s.states[zone] = next[zone]
		}
	default:
		for zone, st := range s.states {
			if st != next[zone] {
				set(zone)
				s.states[zone] = next[zone]
			}
		}
	}
}

// swap is SwapLimiter.
func (s *sim) swap(zone string, rate float32) {
	old := s.buckets[zone]
	if old.rate == float64(rate) && !old.never || old.never && rate == 1 {
		return
	}
	b := &simBucket{rate: float64(rate), never: rate <= 0, tokens: 1, last: s.now}
	if rate > 0 && !old.take(s.now) {
		b.take(s.now)
	}
	s.buckets[zone] = b
}

// try is RateLimitedTimedQueue.Try.
func (s *sim) try(zone string) {
	for {
		head := ""
		for _, n := range s.c.Nodes {
			if at, ok := s.order[n.Name]; ok && n.Zone == zone && (head == "" || at < s.order[head]) {
				head = n.Name
			}
		}
		if head == "" || !s.buckets[zone].take(s.now) {
			return
		}
		switch {
		case !s.unknown[head]:
			delete(s.order, head)
		case s.away():
			s.order[head] = s.now + 1
			return
		default:
			delete(s.order, head)
			if !s.tainted[head] {
				s.tainted[head] = true
				s.out.Taints = append(s.out.Taints, Taint{Node: head, On: s.now})
				epoch := s.leader
				s.at(s.now+s.upTo(10*step), func() { s.timersOf(head, epoch) })
			}
		}
	}
}

// untaint is markNodeAsReachable.
func (s *sim) untaint(name string) {
	if s.away() {
		return
	}
	delete(s.queued, name)
	delete(s.order, name)
	if s.tainted[name] {
		s.tainted[name] = false
		for i := range s.out.Taints {
			if t := &s.out.Taints[i]; t.Node == name && t.Off == 0 {
				t.Off = s.now
			}
		}
		for _, p := range s.c.Pods {
			if p.Node == name {
				delete(s.timers, p.Key())
			}
		}
	}
}

// timersOf is handleNodeUpdate of a tainted node.
func (s *sim) timersOf(name string, epoch int) {
	if s.leader != epoch || !s.tainted[name] {
		return
	}
	for _, p := range s.c.Pods {
		if p.Node != name || s.deleted[p.Key()] || s.timers[p.Key()] != 0 {
			continue
		}
		tau := Tolerates(p.admitted(s.c.Settings), unreachable)
		if tau == Forever {
			continue
		}
		s.timerID++
		id := s.timerID
		s.timers[p.Key()] = id
		s.at(s.now+tau+s.upTo(step), func() {
			if s.leader != epoch || s.timers[p.Key()] != id || s.away() {
				return
			}
			s.deleted[p.Key()] = true
			s.out.Deleted[p.Key()] = s.now
		})
	}
}
