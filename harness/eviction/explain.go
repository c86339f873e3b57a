package eviction

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Explanation is a prediction in words, with what would prevent it.
type Explanation struct {
	Version string `json:"version"`
	// Cut says what is cut; For is how long, null if for good.
	Cut string  `json:"cut"`
	For seconds `json:"for"`
	// Says is the answer in one sentence.
	Says  string     `json:"says"`
	Zones []ZoneFate `json:"zones"`
	Nodes NodeTimes  `json:"nodes"`
	Pods  []PodGroup `json:"pods"`
	Safe  Bounds     `json:"bounds"`
	// Doubts are about nodes that are not cut.
	Doubts []Doubt `json:"doubts,omitempty"`
	// Advice are single settings that keep more pods alive, the best first.
	Advice []Advice `json:"advice"`
	// Rules are those that decided, with their sources.
	Rules []RuleDoc `json:"rules"`
}

// NodeTimes are the times of the cut nodes.
type NodeTimes struct {
	Unknown Window `json:"unknown"`
	// Becomes says whether they become Unknown.
	Becomes Fate `json:"becomesUnknown"`
}

// Bounds are the lengths of the cut around which the answer changes: a
// shorter one surely costs no pod, a longer one surely costs all that can be
// lost. Null is never.
type Bounds struct {
	SafeBelow   seconds `json:"safeBelow"`
	SurelyAbove seconds `json:"surelyAbove"`
}

// PodGroup are pods with the same fate.
type PodGroup struct {
	Zone      string  `json:"zone,omitempty"`
	Owner     string  `json:"owner"`
	Pods      int     `json:"pods"`
	Tolerates seconds `json:"tolerates"`
	Fate      Fate    `json:"fate"`
	// Delete is null if they are never deleted.
	Delete *Window `json:"delete"`
	// Nodes is how many of the zone's cut nodes lose such pods.
	Nodes Count  `json:"nodesEmptied"`
	Rule  Rule   `json:"rule"`
	Why   string `json:"why"`
}

// Advice is a setting to change.
type Advice struct {
	Setting string `json:"setting"`
	From    string `json:"from"`
	To      string `json:"to"`
	// Lost is how many pods may be lost then, of how many now.
	Lost int `json:"mayLose"`
	Now  int `json:"mayLoseNow"`
	// Price is what it costs.
	Price string `json:"price"`
}

// Explain says what a cut of a cluster leads to. The cut is as File.Case takes
// it; a length of 0 is for good.
func Explain(f File, cut string, length time.Duration) (Explanation, error) {
	c, err := f.Case(cut, length)
	if err != nil {
		return Explanation{}, err
	}
	p := Predict(c)
	e := Explanation{
		Version: f.Version, Cut: fmt.Sprintf("%d of %s", len(c.Cut.Nodes), count(len(c.Nodes), "node")), For: seconds(length),
		Zones: p.Zones, Pods: groups(c, p), Doubts: p.Doubts, Advice: []Advice{},
	}
	if length == 0 {
		e.For = seconds(Forever)
	}
	e.Nodes = NodeTimes{p.Nodes[0].Unknown, p.Nodes[0].Becomes}
	e.Safe = c.Bounds()
	e.Advice = append(e.Advice, advise(f, cut, length)...)
	e.Rules = used(p)
	e.Says = e.say()
	return e, nil
}

// groups puts the pods of the cut nodes together: those of one zone, owner,
// toleration and fate.
func groups(c Case, p Prediction) []PodGroup {
	zone := map[string]string{}
	for _, n := range p.Nodes {
		zone[n.Name] = n.Zone
	}
	out := []PodGroup{}
	for i, f := range p.Pods {
		z, cut := zone[f.Node]
		if !cut {
			continue
		}
		owner := cmp.Or(c.Pods[i].kind(), "none")
		switch owner {
		case "ReplicaSet":
			owner = "Deployment"
		case Static:
			owner = "static"
		}
		at := slices.IndexFunc(out, func(g PodGroup) bool {
			return g.Zone == z && g.Owner == owner && g.Tolerates == seconds(f.Tolerates) && g.Fate == f.Fate && g.Rule == f.Rule
		})
		if at < 0 {
			g := PodGroup{Zone: z, Owner: owner, Tolerates: seconds(f.Tolerates), Fate: f.Fate, Rule: f.Rule, Why: f.Why}
			for _, e := range p.Emptied {
				if e.Zone == z && e.Tolerates == f.Tolerates {
					g.Nodes = e.Nodes
				}
			}
			if f.Fate != Never {
				g.Delete = &f.Delete
			}
			out = append(out, g)
			at = len(out) - 1
		} else if f.Fate != Never {
			w := out[at].Delete.hull(f.Delete)
			out[at].Delete = &w
		}
		out[at].Pods++
	}
	return out
}

// Lost counts the pods that may be deleted: of each group as many as the nodes
// that are emptied hold.
func (c Case) Lost() Count {
	p := Predict(c)
	cut := map[string]int{}
	for _, n := range p.Nodes {
		cut[n.Zone]++
	}
	var out Count
	for _, g := range groups(c, p) {
		if g.Fate == Never {
			continue
		}
		out.Max += g.Pods * g.Nodes.Max / cut[g.Zone]
		out.Min += g.Pods * g.Nodes.Min / cut[g.Zone]
	}
	return out
}

// longest is the longest cut that is looked at for bounds, and the longest time
// that advice may ask for.
const longest = 24 * time.Hour

// Bounds finds the lengths of the cut around which the answer changes, to the
// second.
func (c Case) Bounds() Bounds {
	of := func(d time.Duration) Count { c := c; c.Cut.Heal = d; return c.Lost() }
	forGood := of(0)
	b := Bounds{seconds(Forever), seconds(Forever)}
	if forGood.Max > 0 {
		b.SafeBelow = seconds(first(func(d time.Duration) bool { return of(d).Max > 0 }) - time.Second)
	}
	if forGood.Min > 0 {
		b.SurelyAbove = seconds(first(func(d time.Duration) bool { return of(d).Min >= forGood.Min }))
	}
	return b
}

// first is the shortest time, in whole seconds, for which something holds that
// holds for every longer one; longest if there is none.
func first(holds func(time.Duration) bool) time.Duration {
	low, high := time.Duration(0), longest/time.Second
	for high-low > 1 {
		if mid := (low + high) / 2; holds(mid * time.Second) {
			high = mid
		} else {
			low = mid
		}
	}
	return high * time.Second
}

// advise tries single settings and keeps those that save pods.
func advise(f File, cut string, length time.Duration) []Advice {
	// A copy of the file that a setting can be changed in.
	try := func(change func(*File)) Count {
		g := f
		g.Pods = slices.Clone(f.Pods)
		change(&g)
		c, err := g.Case(cut, length)
		if err != nil || len(c.Problems()) > 0 {
			return Count{math.MaxInt, math.MaxInt}
		}
		return c.Lost()
	}
	now := try(func(*File) {})
	if now.Max == 0 {
		return nil
	}
	var out []Advice
	offer := func(setting, from, price string, to string, change func(*File)) {
		if then := try(change); then.Max < now.Max {
			out = append(out, Advice{setting, from, to, then.Max, now.Max, price})
		}
	}
	// atLeast finds the smallest number of seconds that saves as much as any does.
	atLeast := func(set func(*File, int64)) (int64, bool) {
		best := try(func(g *File) { set(g, int64(longest/time.Second)) })
		if best.Max >= now.Max {
			return 0, false
		}
		return int64(first(func(d time.Duration) bool {
			return try(func(g *File) { set(g, int64(d/time.Second)) }).Max <= best.Max
		}) / time.Second), true
	}
	cm := f.ControllerManager
	const price = "a workload without its own replacement waits as long when a node is really dead"
	if length > 0 {
		set := func(g *File, n int64) { g.APIServer.DefaultUnreachableTolerationSeconds = n }
		if n, ok := atLeast(set); ok {
			offer("apiServer.defaultUnreachableTolerationSeconds", fmt.Sprint(f.APIServer.DefaultUnreachableTolerationSeconds),
				price+"; holds for pods that are created after the change", fmt.Sprint(n), func(g *File) { set(g, n) })
		}
		for i, p := range f.Pods {
			if p.TolerationSeconds == nil {
				continue
			}
			set := func(g *File, n int64) { g.Pods[i].TolerationSeconds = &n }
			if n, ok := atLeast(set); ok {
				offer(fmt.Sprintf("pods[%d].tolerationSeconds", i), fmt.Sprint(*p.TolerationSeconds), price, fmt.Sprint(n), func(g *File) { set(g, n) })
			}
		}
		grace := func(g *File, n int64) { g.ControllerManager.NodeMonitorGracePeriod = time.Duration(n) * time.Second }
		if n, ok := atLeast(grace); ok {
			offer("controllerManager.nodeMonitorGracePeriod", cm.NodeMonitorGracePeriod.String(),
				"Services send to the pods of a dead node for as much longer", (time.Duration(n) * time.Second).String(), func(g *File) { grace(g, n) })
		}
	}
	c, err := f.Case(cut, length)
	if err != nil {
		return out
	}
	for _, z := range c.zones() {
		if len(z.cut) == 0 || z.hit == z.size {
			continue
		}
		state := ZoneState(f.Settings, z.size, z.hit)
		threshold := float32(math.Floor(100*float64(z.hit)/float64(z.size)) / 100)
		brake := func(g *File) {
			g.ControllerManager.UnhealthyZoneThreshold = min(cm.UnhealthyZoneThreshold, threshold)
		}
		if state == Normal && z.hit > 2 {
			offer("controllerManager.unhealthyZoneThreshold", fmt.Sprint(cm.UnhealthyZoneThreshold),
				"nothing is evicted either when so many nodes are really dead; a few nodes may be tainted before the brake holds", fmt.Sprint(threshold), brake)
		}
		if ZoneRate(f.Settings, Partial, z.size) > 0 && (state == Partial || z.hit > 2) {
			setting, from, to := "controllerManager.largeClusterSizeThreshold", fmt.Sprint(cm.LargeClusterSizeThreshold), fmt.Sprint(z.size)
			if state == Normal {
				setting += " and unhealthyZoneThreshold"
				from, to = fmt.Sprintf("%s, %v", from, cm.UnhealthyZoneThreshold), fmt.Sprintf("%s, %v", to, threshold)
			}
			offer(setting, from, "nothing is evicted either when so many nodes are really dead; a few nodes may be tainted before the brake holds", to,
				func(g *File) {
					brake(g)
					g.ControllerManager.LargeClusterSizeThreshold = int32(z.size)
				})
		}
	}
	slices.SortStableFunc(out, func(a, b Advice) int { return cmp.Compare(a.Lost, b.Lost) })
	return slices.CompactFunc(out, func(a, b Advice) bool { return a.Setting == b.Setting && a.To == b.To })
}

// used are the rules that decided, in the order of Rules.
func used(p Prediction) []RuleDoc {
	want := map[Rule]bool{}
	cut := map[string]bool{}
	for _, n := range p.Nodes {
		cut[n.Name] = true
		want[n.Rule], want[RuleGrace] = true, true
	}
	for _, z := range p.Zones {
		if z.Cut > 0 {
			want[z.Rule] = true
		}
	}
	for _, f := range p.Pods {
		if cut[f.Node] {
			want[f.Rule] = true
		}
	}
	for _, d := range p.Doubts {
		want[d.Rule] = true
	}
	out := []RuleDoc{}
	for _, d := range Rules() {
		if want[d.Rule] {
			out = append(out, d)
		}
	}
	return out
}

// say is the answer in one sentence.
func (e Explanation) say() string {
	total := 0
	var gone Count
	cut := map[string]int{}
	for _, z := range e.Zones {
		cut[z.Zone] = z.Cut
	}
	for _, g := range e.Pods {
		total += g.Pods
		if g.Fate != Never {
			gone.Max += g.Pods * g.Nodes.Max / cut[g.Zone]
			gone.Min += g.Pods * g.Nodes.Min / cut[g.Zone]
		}
	}
	text := fmt.Sprintf("%s of %d pods on the cut nodes deleted", gone, total)
	if gone.Max == 0 {
		text = fmt.Sprintf("no pod is deleted: all %d on the cut nodes stay", total)
	}
	if len(e.Doubts) > 0 {
		text += "; nodes that are not cut may be taken for dead too"
	}
	return text
}

// JSON is the explanation for programs.
func (e Explanation) JSON() ([]byte, error) {
	out, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the explanation: %w", err)
	}
	return append(out, '\n'), nil
}

// String is the explanation for people.
func (e Explanation) String() string {
	var b strings.Builder
	length := "for good"
	if time.Duration(e.For) != Forever {
		length = "for " + time.Duration(e.For).String()
	}
	fmt.Fprintf(&b, "%s, %s cut off %s: %s\n\n", e.Version, e.Cut, length, e.Says)
	for _, d := range e.Doubts {
		fmt.Fprintf(&b, "DOUBT    %s (%s)\n\n", d.Why, d.Rule)
	}
	fmt.Fprintf(&b, "nodes    times count from the cut, earliest to latest\n")
	switch e.Nodes.Becomes {
	case Never:
		b.WriteString("  none becomes Unknown: they are heard again in time\n")
	case May, Must:
		fmt.Fprintf(&b, "  %-20s %s become Unknown: their pods are not Ready, Services drop them\n", e.Nodes.Unknown, e.Nodes.Becomes)
	}
	for _, z := range e.Zones {
		if z.Cut == 0 {
			continue
		}
		name := "the zone"
		if z.Zone != "" {
			name = "zone " + z.Zone
		}
		rate := "no more taints"
		if z.Rate > 0 {
			rate = fmt.Sprintf("a taint every %s", tokens(1, z.Rate).Round(10*time.Millisecond))
		}
		fmt.Fprintf(&b, "  %s: %d of %d counted nodes away, %s, %s (%s); %s tainted\n", name, z.Hit, z.Size, z.State, rate, z.Rule, z.Tainted)
		for i, r := range z.Ranks {
			if i < 2 || i == len(z.Ranks)-1 {
				fmt.Fprintf(&b, "    %-20s %s be: taint %d\n", r.Taint, r.Fate, i+1)
			} else if i == 2 {
				b.WriteString("    ...\n")
			}
		}
		for _, q := range z.Quiet {
			fmt.Fprintf(&b, "    %-20s no taint: the brake holds\n", q)
		}
	}
	b.WriteString("\npods on the cut nodes\n")
	for _, g := range e.Pods {
		where := ""
		if g.Zone != "" {
			where = " in zone " + g.Zone
		}
		tolerates := "for ever"
		if time.Duration(g.Tolerates) != Forever {
			tolerates = time.Duration(g.Tolerates).String()
		}
		fmt.Fprintf(&b, "  %s of %s%s, tolerating it %s: ", count(g.Pods, "pod"), g.Owner, where, tolerates)
		if g.Delete == nil {
			fmt.Fprintf(&b, "never deleted (%s)\n", g.Rule)
		} else {
			fmt.Fprintf(&b, "%s be deleted %s, of %s (%s)\n", g.Fate, g.Delete, countOf(g.Nodes, "node"), g.Rule)
		}
		fmt.Fprintf(&b, "    %s\n", g.Why)
	}
	b.WriteString("\nlength of the cut\n")
	fmt.Fprintf(&b, "  no pod is deleted if it is at most %s\n", orNever(e.Safe.SafeBelow, "... however long it is"))
	fmt.Fprintf(&b, "  all that can be are deleted if it is at least %s\n", orNever(e.Safe.SurelyAbove, "(never surely)"))
	b.WriteString("\nto prevent it\n")
	switch {
	case len(e.Advice) == 0 && slices.ContainsFunc(e.Pods, func(g PodGroup) bool { return g.Fate != Never }):
		b.WriteString("  no single setting does; tolerations without an end would\n")
	case len(e.Advice) == 0:
		b.WriteString("  nothing has to be done\n")
	}
	for _, a := range e.Advice {
		fmt.Fprintf(&b, "  %s: %s -> %s\n    at most %d of %d pods are lost; %s\n", a.Setting, a.From, a.To, a.Lost, a.Now, a.Price)
	}
	b.WriteString("\nrules (k8s.io/kubernetes)\n")
	for _, r := range e.Rules {
		mark := ""
		if r.Inferred {
			mark = ", inferred"
		}
		fmt.Fprintf(&b, "  %s%s: %s\n    %s\n", r.Rule, mark, r.Says, r.Source)
		if r.Tried != "" {
			fmt.Fprintf(&b, "    tried: %s\n", r.Tried)
		}
	}
	return b.String()
}

func orNever(d seconds, never string) string {
	if time.Duration(d) == Forever {
		return never
	}
	return time.Duration(d).String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func countOf(c Count, what string) string {
	if c.Min == c.Max {
		return count(c.Min, what)
	}
	return c.String() + " " + what + "s"
}
