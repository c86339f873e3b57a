package eviction

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// zoneOf makes the nodes of a zone; the first ones are cut, the last excluded.
func zoneOf(c *Case, name string, nodes, cut, excluded int) {
	for i := range nodes {
		n := Node{Name: fmt.Sprintf("%s%d", name, i), Zone: name, Excluded: i >= nodes-excluded}
		c.Nodes = append(c.Nodes, n)
		if i < cut {
			c.Cut.Nodes = append(c.Cut.Nodes, n.Name)
		}
		c.Pods = append(c.Pods, Pod{Namespace: "ns", Name: n.Name, Node: n.Name, Owner: "ReplicaSet/web"})
	}
}

// TestZones is the table of what cuts of clusters with the default settings lead
// to.
func TestZones(t *testing.T) {
	type z struct{ nodes, cut, excluded int }
	for _, tc := range []struct {
		name    string
		version string
		zones   []z
		change  func(*Settings)
		state   State // of the first zone
		rule    Rule
		tainted string
		pods    Fate // of the first node
		first   string
	}{
		{"one of four", "v1.36.4", []z{{4, 1, 0}}, nil, Normal, RuleRate, "1", Must, "0:39.6 to 1:06.1"},
		{"one of four, a period later", "v1.33.13", []z{{4, 1, 0}}, nil, Normal, RuleRate, "1", Must, "0:44.6 to 1:11.1"},
		{"two of three are too few for the brake", "v1.36.4", []z{{3, 2, 0}}, nil, Normal, RuleRate, "2", Must, "0:39.6 to 1:06.1"},
		{"three of four", "v1.36.4", []z{{4, 3, 0}}, nil, Partial, RulePartial, "0 to 3", May, ""},
		{"three of four, a period later", "v1.33.13", []z{{4, 3, 0}}, nil, Partial, RulePartial, "0 to 2", May, ""},
		{"half", "v1.36.4", []z{{10, 5, 0}}, nil, Normal, RuleRate, "5", Must, ""},
		{"55% in float32", "v1.36.4", []z{{20, 11, 0}}, nil, Partial, RulePartial, "0 to 3", May, ""},
		{"one less than 55%", "v1.36.4", []z{{20, 10, 0}}, nil, Normal, RuleRate, "10", Must, ""},
		{"all", "v1.36.4", []z{{4, 4, 0}}, nil, Full, RuleAll, "0 to 3", Never, ""},
		{"all of two zones", "v1.36.4", []z{{4, 4, 0}, {1, 1, 0}}, nil, Full, RuleAll, "0 to 3", Never, ""},
		{"a zone of three", "v1.36.4", []z{{3, 3, 0}, {3, 0, 0}}, nil, Full, RuleFull, "3", Must, "0:39.6 to 1:06.7"},
		{"a zone of four, that was partial on the way", "v1.36.4", []z{{4, 4, 0}, {3, 0, 0}}, nil, Full, RuleFull, "4", Must, "0:39.6 to 1:19.7"},
		{"a large zone", "v1.36.4", []z{{100, 60, 0}}, nil, Partial, RuleLarge, "60", Must, ""},
		{"fifty is small", "v1.36.4", []z{{50, 30, 0}}, nil, Partial, RulePartial, "0 to 5", May, ""},
		{"workers, control planes counted", "v1.36.4", []z{{5, 2, 0}}, nil, Normal, RuleRate, "2", Must, ""},
		{"workers, control planes excluded", "v1.36.4", []z{{5, 2, 3}}, nil, Full, RuleAll, "0 to 2", Never, ""},
		{"a zone that does not count", "v1.36.4", []z{{2, 1, 2}, {3, 0, 0}}, nil, Normal, RuleExcluded, "1", Must, ""},
		{"without a rate one is tainted", "v1.36.4", []z{{4, 2, 0}}, func(s *Settings) { s.ControllerManager.NodeEvictionRate = 0 }, Normal, RuleRate, "1", May, ""},
		{"a lower threshold", "v1.36.4", []z{{10, 5, 0}}, func(s *Settings) { s.ControllerManager.UnhealthyZoneThreshold = 0.5 }, Partial, RulePartial, "0 to 3", May, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Case{Settings: Defaults(tc.version)}
			if tc.change != nil {
				tc.change(&c.Settings)
			}
			for i, z := range tc.zones {
				zoneOf(&c, string(rune('a'+i)), z.nodes, z.cut, z.excluded)
			}
			if errs := c.Problems(); len(errs) > 0 {
				t.Fatal(errs)
			}
			p := Predict(c)
			f := p.Zones[0]
			if f.State != tc.state || f.Rule != tc.rule || f.Tainted.String() != tc.tainted || p.Pods[0].Fate != tc.pods {
				t.Errorf("%s, %s, %s tainted, pod %s; want %s, %s, %s, %s", f.State, f.Rule, f.Tainted, p.Pods[0].Fate, tc.state, tc.rule, tc.tainted, tc.pods)
			}
			if tc.first != "" && f.Ranks[0].Taint.String() != tc.first {
				t.Errorf("first taint %s, want %s", f.Ranks[0].Taint, tc.first)
			}
			if last := p.Pods[len(p.Pods)-1]; !slices.Contains(c.Cut.Nodes, last.Node) && (last.Fate != Never || last.Rule != RuleReachable) {
				t.Errorf("a pod of a node that was not cut: %s, %s", last.Fate, last.Rule)
			}
		})
	}
}

// TestLengths: how long one node may be away.
func TestLengths(t *testing.T) {
	for _, tc := range []struct {
		version     string
		safe, surel time.Duration
	}{{"v1.33.13", 326 * time.Second, 373 * time.Second}, {"v1.34.9", 321 * time.Second, 368 * time.Second}} {
		c := Case{Settings: Defaults(tc.version)}
		zoneOf(&c, "a", 4, 1, 0)
		if b := c.Bounds(); time.Duration(b.SafeBelow) != tc.safe || time.Duration(b.SurelyAbove) != tc.surel {
			t.Errorf("%s: safe up to %s, surely lost from %s; want %s, %s", tc.version, time.Duration(b.SafeBelow), time.Duration(b.SurelyAbove), tc.safe, tc.surel)
		}
	}
}

// TestEpochs: leaders that come and go.
func TestEpochs(t *testing.T) {
	at := func(s float64) Window { return Window{sec(s), sec(s)} }
	for _, tc := range []struct {
		name    string
		epochs  []Epoch
		outages []Span
		fate    Fate
		rule    Rule
		from    time.Duration
		until   time.Duration
	}{
		{"one", nil, nil, Must, RuleRate, sec(339.6), sec(369)},
		{"a new one before the node is Unknown", []Epoch{{at(-900), at(10)}, {at(30), Window{Forever, Forever}}}, nil, Must, RuleRate, sec(380), sec(400)},
		{"a new one after the taint", []Epoch{{at(-900), at(200)}, {at(220), Window{Forever, Forever}}}, nil, Must, RuleRate, sec(520), sec(530)},
		{"one in every 200 s", []Epoch{{at(-900), at(200)}, {at(200), at(400)}, {at(400), at(600)}, {at(600), at(800)}}, nil, Never, RuleEpoch, 0, 0},
		{"nobody leads", []Epoch{{at(-900), at(10)}}, nil, Never, RuleReturn, 0, 0},
		{"the API is away for 30 s", nil, []Span{{sec(100), sec(130)}}, Must, RuleRate, sec(430), sec(460)},
		{"for 12 s, which a leader may survive", nil, []Span{{sec(100), sec(112)}}, Must, RuleRate, sec(339.6), sec(445)},
		{"for 5 s, when the pod is due", nil, []Span{{sec(350), sec(355)}}, May, RuleLost, sec(339.6), sec(390)},
		{"for 5 s, long before", nil, []Span{{sec(100), sec(105)}}, Must, RuleRate, sec(339.6), sec(390)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Case{Settings: Defaults("v1.36.4"), Epochs: tc.epochs, Outages: tc.outages}
			zoneOf(&c, "a", 4, 1, 0)
			if errs := c.Problems(); len(errs) > 0 {
				t.Fatal(errs)
			}
			f := Predict(c).Pods[0]
			if f.Fate != tc.fate || f.Rule != tc.rule {
				t.Errorf("%s, %s (%s); want %s, %s", f.Fate, f.Rule, f.Why, tc.fate, tc.rule)
			}
			if tc.fate != Never && (f.Delete.Earliest != tc.from || f.Delete.Latest > tc.until) {
				t.Errorf("deleted %s, want %s to at most %s", f.Delete, Clock(tc.from), Clock(tc.until))
			}
		})
	}
}

// TestDoubts: when healthy nodes may be taken for dead.
func TestDoubts(t *testing.T) {
	c := Case{Settings: fast("v1.36.4")}
	zoneOf(&c, "a", 4, 1, 0)
	if d := Predict(c).Doubts; len(d) > 0 {
		t.Errorf("%v", d)
	}
	late := c
	late.Outages = []Span{{sec(20), sec(29)}}
	if p := Predict(late); len(p.Doubts) != 1 || p.Doubts[0].Rule != RuleOutage || p.Pods[3].Fate != May {
		t.Errorf("%+v", p.Doubts)
	}
	c.Settings.ControllerManager.NodeMonitorGracePeriod = 3 * time.Second
	if p := Predict(c); len(p.Doubts) != 1 || p.Doubts[0].Rule != RuleHeartbeat || p.Pods[3].Fate != May {
		t.Errorf("%+v", p.Doubts)
	}
}

// TestActs: what people add, and what becomes of objects and identities.
func TestActs(t *testing.T) {
	window := func(w *Window) string {
		if w == nil {
			return "none"
		}
		return w.String()
	}
	for _, tc := range []struct {
		name, owner    string
		heal           float64
		act            *Act
		fate           Fate
		rule           Rule
		gone, replaced string
	}{
		{"Terminating for good", "ReplicaSet/web", 0, nil, Must, RuleRate, "never to never", "5:39.6 to 6:08.1"},
		{"an identity waits", "StatefulSet/db", 0, nil, Must, RuleRate, "never to never", "never to never"},
		{"an identity until the heal", "StatefulSet/db", 600, nil, Must, RuleRate, "10:00.0 to 10:44.0", "10:00.0 to 10:44.0"},
		{"out of service", "StatefulSet/db", 0, &Act{At: sec(400), Kind: ActOutOfService, Node: "a0"}, Must, RuleRate, "6:40.0 to 7:02.0", "6:40.0 to 7:02.0"},
		{"out of service early", "StatefulSet/db", 0, &Act{At: sec(100), Kind: ActOutOfService, Node: "a0"}, Must, RuleService, "1:40.0 to 2:04.0", "1:40.0 to 2:04.0"},
		{"out of service takes DaemonSets too", "DaemonSet/log", 0, &Act{At: sec(100), Kind: ActOutOfService, Node: "a0"}, Must, RuleService, "1:40.0 to 2:04.0", "none"},
		{"out of service leaves static pods", "Node/a0", 0, &Act{At: sec(100), Kind: ActOutOfService, Node: "a0"}, Never, RuleStatic, "none", "none"},
		{"the node is deleted", "StatefulSet/db", 0, &Act{At: sec(100), Kind: ActDeleteNode, Node: "a0"}, May, RuleOrphan, "2:20.0 to 3:02.0", "2:20.0 to 3:02.0"},
		{"by force", "StatefulSet/db", 0, &Act{At: sec(100), Kind: ActForceDelete, Pod: "ns/a0"}, Never, RuleForce, "1:40.0 to 1:41.0", "1:40.0 to 1:41.0"},
		{"a DaemonSet's", "DaemonSet/log", 0, nil, Never, RuleDaemonSet, "none", "none"},
		{"a static one", "Node/a0", 0, nil, Never, RuleStatic, "none", "none"},
		{"a bare one", "", 0, nil, Must, RuleRate, "never to never", "none"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Case{Settings: Defaults("v1.36.4"), Cut: Cut{Heal: sec(tc.heal)}}
			zoneOf(&c, "a", 4, 1, 0)
			c.Pods[0].Owner = tc.owner
			if tc.act != nil {
				c.Acts = []Act{*tc.act}
			}
			if errs := c.Problems(); len(errs) > 0 {
				t.Fatal(errs)
			}
			f := Predict(c).Pods[0]
			if f.Fate != tc.fate || f.Rule != tc.rule || window(f.Gone) != tc.gone || window(f.Replaced) != tc.replaced {
				t.Errorf("%s, %s, gone %s, replaced %s; want %s, %s, %s, %s", f.Fate, f.Rule, window(f.Gone), window(f.Replaced), tc.fate, tc.rule, tc.gone, tc.replaced)
			}
		})
	}
}

// TestTolerates: of several tolerations the first that matches counts.
func TestTolerates(t *testing.T) {
	ten, none := int64(10), int64(0)
	mine := func(key string, seconds *int64) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, TolerationSeconds: seconds}
	}
	for _, tc := range []struct {
		name  string
		pod   Pod
		taint corev1.Taint
		want  time.Duration
	}{
		{"the default", Pod{}, unreachable, 300 * time.Second},
		{"its own", Pod{Tolerations: []corev1.Toleration{mine(unreachable.Key, &ten)}}, unreachable, 10 * time.Second},
		{"none at all", Pod{Tolerations: []corev1.Toleration{mine(unreachable.Key, &none)}}, unreachable, 0},
		{"everything, before", Pod{Tolerations: []corev1.Toleration{mine("", nil), mine(unreachable.Key, &ten)}}, unreachable, Forever},
		{"everything, after", Pod{Tolerations: []corev1.Toleration{mine(unreachable.Key, &ten), mine("", nil)}}, unreachable, 10 * time.Second},
		{"another value", Pod{Tolerations: []corev1.Toleration{{Key: unreachable.Key, Value: "x", TolerationSeconds: &ten}}}, unreachable, 0},
		{"another effect keeps the default", Pod{Tolerations: []corev1.Toleration{{Key: unreachable.Key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}}, unreachable, 300 * time.Second},
		{"out of service", Pod{}, outOfService, 0},
		{"a DaemonSet's", Pod{Owner: "DaemonSet/x"}, unreachable, Forever},
		{"a DaemonSet's own", Pod{Owner: "DaemonSet/x", Tolerations: []corev1.Toleration{{Key: unreachable.Key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &ten}}}, unreachable, Forever},
		{"a DaemonSet's, out of service", Pod{Owner: "DaemonSet/x"}, outOfService, 0},
		{"a static one's, out of service", Pod{Owner: "Node/x"}, outOfService, Forever},
	} {
		if got := Tolerates(tc.pod.admitted(Defaults("v1.36.4")), tc.taint); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// rankOf orders fates.
var rankOf = map[Fate]int{Never: 0, May: 1, Must: 2}

// TestProperties of drawn cases.
func TestProperties(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		c := drawCase(rng)
		if errs := c.Problems(); len(errs) > 0 {
			t.Fatal(errs)
		}
		p := Predict(c)
		// A heal lets the brakes go, so that with them an earlier one may cost more.
		braked := slices.ContainsFunc(p.Zones, func(z ZoneFate) bool {
			return z.Cut > 0 && z.Rule != RuleRate && z.Rule != RuleFull
		})
		if c.Cut.Heal > time.Second && !braked && len(c.Outages) == 0 {
			sooner := c
			sooner.Cut.Heal = time.Duration(rng.Int64N(int64(c.Cut.Heal-time.Second))) + 1
			for i, f := range Predict(sooner).Pods {
				if rankOf[f.Fate] > rankOf[p.Pods[i].Fate] {
					t.Errorf("seed %d: healed at %s %s is %s, healed at %s it is %s", seed, sooner.Cut.Heal, f.Pod, f.Fate, c.Cut.Heal, p.Pods[i].Fate)
				}
			}
		}
		longer := c
		longer.Settings.APIServer.DefaultUnreachableTolerationSeconds += 1 + rng.Int64N(100)
		for i, f := range Predict(longer).Pods {
			was := p.Pods[i]
			if rankOf[f.Fate] > rankOf[was.Fate] || f.Fate != Never && was.Fate != Never && f.Delete.Earliest < was.Delete.Earliest {
				t.Errorf("seed %d: a longer toleration makes %s %s at %s, before %s at %s", seed, f.Pod, f.Fate, f.Delete, was.Fate, was.Delete)
			}
		}
		patient := c
		patient.Settings.ControllerManager.NodeMonitorGracePeriod += time.Duration(rng.Int64N(int64(time.Minute)))
		for i, n := range Predict(patient).Nodes {
			was := p.Nodes[i]
			if rankOf[n.Becomes] > rankOf[was.Becomes] || n.Becomes != Never && n.Unknown.Earliest < was.Unknown.Earliest {
				t.Errorf("seed %d: a longer grace period makes %s %s Unknown at %s, before %s at %s", seed, n.Name, n.Becomes, n.Unknown, was.Becomes, was.Unknown)
			}
		}
		for _, f := range p.Pods {
			if f.Fate != Never && f.Delete.Earliest > f.Delete.Latest {
				t.Errorf("seed %d: %s: the window %s is empty", seed, f.Pod, f.Delete)
			}
			if f.Rule.Doc().Says == "" || f.Why == "" {
				t.Errorf("seed %d: %s: no rule or reason: %+v", seed, f.Pod, f)
			}
		}
	}
}

// TestCompare: what departs from a prediction is told with its rule.
func TestCompare(t *testing.T) {
	c := Case{Settings: fast("v1.36.4")}
	c.Settings.Slack = 300 * time.Millisecond
	zoneOf(&c, "a", 10, 3, 0)
	good := func() Observation {
		return Observation{
			Unknown: map[string]time.Duration{"a0": sec(12.5), "a1": sec(12.5), "a2": sec(13.4)},
			Taints:  []Taint{{Node: "a1", On: sec(12.6)}, {Node: "a0", On: sec(13.2)}, {Node: "a2", On: sec(13.7)}},
			Deleted: map[string]time.Duration{"ns/a1": sec(17.7), "ns/a0": sec(18.3), "ns/a2": sec(18.8)},
			Until:   sec(120),
		}
	}
	for _, tc := range []struct {
		name  string
		spoil func(*Observation)
		want  string
	}{
		{"nothing", func(*Observation) {}, ""},
		{"a healthy node", func(o *Observation) { o.Unknown["a7"] = sec(15) }, "a7: reachable: Unknown at 0:15.0, which must never be"},
		{"too fast", func(o *Observation) { o.Taints[1].On, o.Taints[2].On = sec(12.6), sec(12.6) }, "zone a: rate: 3 taints"},
		{"never tainted", func(o *Observation) { o.Taints = o.Taints[:2]; delete(o.Deleted, "ns/a2") }, "a2: rate: not tainted until 2:00.0"},
		{"tolerations ignored", func(o *Observation) { o.Deleted["ns/a1"] = sec(12.7) }, "ns/a1: rate: deleted at 0:12.7, 3.26s too early"},
		{"never deleted", func(o *Observation) { delete(o.Deleted, "ns/a2") }, "ns/a2: rate: not deleted until 2:00.0"},
		{"deleted though it keeps in touch", func(o *Observation) { o.Deleted["ns/a5"] = sec(20) }, "ns/a5: reachable: deleted at 0:20.0, which must never be"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := good()
			tc.spoil(&o)
			var all []string
			for _, v := range Compare(Predict(c), o) {
				all = append(all, v.String())
			}
			if text := strings.Join(all, "\n"); tc.want == "" && text != "" || !strings.Contains(text, tc.want) {
				t.Errorf("%s\nwant %q", text, tc.want)
			}
		})
	}
}

// TestHindsight: deletions are held against the taints that were seen.
func TestHindsight(t *testing.T) {
	c := Case{Settings: fast("v1.36.4")} // tolerates 5 s, slack 1 s
	zoneOf(&c, "a", 4, 2, 0)
	c.Pods[1].Owner = "DaemonSet/log"
	for _, tc := range []struct {
		name    string
		taints  []Taint
		deleted map[string]time.Duration
		want    string
	}{
		{"in time", []Taint{{Node: "a0", On: sec(13)}}, map[string]time.Duration{"ns/a0": sec(18.2)}, ""},
		{"for long enough the second time", []Taint{{Node: "a0", On: sec(13), Off: sec(15)}, {Node: "a0", On: sec(20)}}, map[string]time.Duration{"ns/a0": sec(25.2)}, ""},
		{"not for long enough", []Taint{{Node: "a0", On: sec(13), Off: sec(15)}}, nil, ""},
		{"to the last moment", []Taint{{Node: "a0", On: sec(13), Off: sec(18)}}, nil, ""},
		{"the toleration ignored", []Taint{{Node: "a0", On: sec(13)}}, map[string]time.Duration{"ns/a0": sec(13.2)}, "ns/a0: toleration: deleted at 0:13.2, and it was due 0:17.0 to 0:19.0: tainted at 0:13.0"},
		{"forgotten", []Taint{{Node: "a0", On: sec(13)}}, nil, "ns/a0: toleration: not deleted until 1:00.0, though it was due 0:17.0 to 0:19.0"},
		{"the timer of a taint that is off", []Taint{{Node: "a0", On: sec(13), Off: sec(15)}}, map[string]time.Duration{"ns/a0": sec(18.2)}, "its node, a0, was not tainted for as long as the 5s"},
		{"without a taint", nil, map[string]time.Duration{"ns/a2": sec(18.2)}, "its node, a2, was not tainted"},
		{"a DaemonSet's", []Taint{{Node: "a1", On: sec(13)}}, map[string]time.Duration{"ns/a1": sec(18.2)}, "ns/a1: toleration: deleted at 0:18.2, and it tolerates the taint for ever"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var all []string
			for _, v := range Hindsight(c, Observation{Taints: tc.taints, Deleted: tc.deleted, Until: time.Minute}) {
				all = append(all, v.String())
			}
			if text := strings.Join(all, "\n"); tc.want == "" && text != "" || !strings.Contains(text, tc.want) {
				t.Errorf("%s\nwant %q", text, tc.want)
			}
		})
	}
}

// TestBrakeRemoved: a controller without its brake taints more than may leak.
func TestBrakeRemoved(t *testing.T) {
	c := Case{Settings: Defaults("v1.36.4")}
	zoneOf(&c, "a", 10, 6, 0)
	o := Observation{Unknown: map[string]time.Duration{}, Deleted: map[string]time.Duration{}, Until: 4 * time.Minute}
	for i, n := range c.Cut.Nodes {
		o.Unknown[n] = sec(50)
		o.Taints = append(o.Taints, Taint{Node: n, On: sec(50.1 + 10*float64(i))})
	}
	for _, v := range Compare(Predict(c), o) {
		if v.Rule == RulePartial {
			return
		}
	}
	t.Error("nobody saw it")
}

// TestProblems: cases that cannot be.
func TestProblems(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Case)
		want   string
	}{
		{"an unknown node", func(c *Case) { c.Cut.Nodes = []string{"x"} }, `node "x" of the cut`},
		{"a pod without a node", func(c *Case) { c.Pods[0].Node = "x" }, `on a node "x"`},
		{"epochs out of order", func(c *Case) { c.Epochs = []Epoch{{Window{5, 5}, Window{6, 6}}, {Window{1, 1}, Window{9, 9}}} }, "epoch 1"},
		{"an empty outage", func(c *Case) { c.Outages = []Span{{5, 5}} }, "outage 0"},
		{"an act on nothing", func(c *Case) { c.Acts = []Act{{Kind: ActForceDelete, Pod: "ns/x"}} }, "act"},
		{"a setting", func(c *Case) { c.Settings.ControllerManager.NodeMonitorPeriod = 0 }, "nodeMonitorPeriod"},
	} {
		c := Case{Settings: Defaults("v1.36.4")}
		zoneOf(&c, "a", 2, 1, 0)
		tc.change(&c)
		if got := fmt.Sprint(c.Problems()); !strings.Contains(got, tc.want) {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}
