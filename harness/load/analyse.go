package load

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/harness/slo"
)

// DocumentKind is the kind of load.json.
const DocumentKind = "Load"

// Document is what a load found, an interface for other programs: fields are added
// within an apiVersion, never renamed or removed. It is drawn from the record alone.
type Document struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Run        string `json:"run"`
	Version    string `json:"version"`
	// Verdict is pass if the question is answered: the knee was found, or every rate
	// was held. It is inconclusive if it is not; a rate that broke is no failure here.
	Verdict slo.Verdict `json:"verdict"`
	Reason  string      `json:"reason"`
	// Budget of the 99th percentile of the start latency, in seconds.
	Budget float64 `json:"budget"`
	// Nodes are those that pods can run on; Cores those of the machine, which all
	// nodes share (0: not known).
	Nodes int    `json:"nodes"`
	Cores int    `json:"cores"`
	Steps []Step `json:"steps"`
	// Held is the highest rate that kept the budget, 0 if none; Broke the first that
	// did not, null if none. The knee is between them.
	Held  int  `json:"held"`
	Broke *int `json:"broke"`
	// Saturated is what was, at the first rate that broke, or "not known", or
	// "nothing: every rate was held"; Why are the grounds.
	Saturated string   `json:"saturated"`
	Why       []string `json:"why"`
}

// Step is one rate.
type Step struct {
	// Rate is CronJobs a minute.
	Rate int `json:"rate"`
	// Slots that were promised, and how many of them started a container in time to
	// be seen.
	Slots   int `json:"slots"`
	Started int `json:"started"`
	// P50, P99 and Max of the latency in seconds, up to a second more; a slot that
	// never started counts as so long as was waited for it. Null without slots.
	P50 *float64 `json:"p50"`
	P99 *float64 `json:"p99"`
	Max *float64 `json:"max"`
	// Verdict: pass if it kept the budget, fail if it did not.
	Verdict slo.Verdict `json:"verdict"`
	Reason  string      `json:"reason"`
	// PerSecond is how many pods started a second while there was something to
	// start, PerNode of each node: of the last minute of the step. Null if none did.
	PerSecond *float64 `json:"perSecond"`
	PerNode   *float64 `json:"perNode"`
	// Hops are where the time went, on average.
	Hops []Hop `json:"hops"`
	// Unschedulable is what the scheduler said of pods that it found no place for.
	Unschedulable string `json:"unschedulable,omitempty"`
	// Busy is what machine and components used; null if it is not in the record.
	Busy *history.Busy `json:"busy"`
}

// Hop is a part of the way from the slot to the container.
type Hop struct {
	Name string `json:"name"`
	// Mean in seconds, cut to the second at both ends; a slot that did not get
	// further has waited here until the end of its step.
	Mean float64 `json:"mean"`
	// Share of the whole.
	Share float64 `json:"share"`
}

// The hops, and who is to do each.
var hopNames = []string{
	"CronJob controller: slot to Job",
	"Job controller: Job to pod",
	"scheduler: pod to node",
	"kubelet and container runtime: node to container",
}

// Thresholds of what is said of a saturation.
const (
	// dominant is the share of the latency from which on one hop is said to be it:
	// more than all others together.
	dominant = 0.5
	// fullCPU is the share of the machine's cores from which on it counts as
	// saturated: with less than a tenth left, work waits for a core.
	fullCPU = 0.9
)

// Analyse says what a load found. It is pure: any record can be looked at again.
func Analyse(h *history.History, budget time.Duration) Document {
	d := Document{
		APIVersion: history.APIVersion, Kind: DocumentKind, Run: h.Run.ID, Version: h.Run.From, Budget: budget.Seconds(),
		Nodes: nodes(h), Cores: h.Run.Cores, Steps: []Step{}, Why: []string{},
	}
	slots, _, err := slo.Slots(h, slo.Stopped(h))
	var doubts []string
	if err != nil {
		doubts = append(doubts, err.Error())
	}
	if h.End == nil {
		doubts = append(doubts, "the record has no end")
	} else if h.End.V.Interrupted || h.End.V.Reason != "" {
		doubts = append(doubts, "the run ended early: "+h.End.V.Reason)
	}
	began := map[string]time.Duration{}
	for _, p := range h.Phases {
		rate, ok := rateOf(p.V.Path)
		switch {
		case !ok:
		case p.V.State == "began":
			began[p.V.Path] = p.At
		default:
			d.Steps = append(d.Steps, step(h, rate, began[p.V.Path], p.At, slots, budget, d.Nodes))
			delete(began, p.V.Path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(began)) {
		doubts = append(doubts, path+" did not end")
	}
	var broke *Step
	for i := range d.Steps {
		s := &d.Steps[i]
		switch {
		case s.Verdict == slo.Inconclusive:
			doubts = append(doubts, fmt.Sprintf("%d a minute: %s", s.Rate, s.Reason))
		case s.Verdict == slo.Pass && broke == nil:
			d.Held = s.Rate
		case s.Verdict == slo.Fail && broke == nil:
			broke, d.Broke = s, &s.Rate
		}
	}
	switch {
	case broke != nil:
		d.Saturated, d.Why = saturated(*broke)
	case len(d.Steps) > 0 && len(doubts) == 0:
		d.Saturated = "nothing: every rate was held"
	default:
		d.Saturated = "not known"
	}
	if len(d.Steps) == 0 {
		doubts = append(doubts, "no step is in the record")
	}
	d.Verdict = slo.Pass
	switch {
	case len(doubts) > 0:
		d.Verdict, d.Reason = slo.Inconclusive, strings.Join(doubts, "; ")
	case broke == nil:
		d.Reason = fmt.Sprintf("the knee is above %d CronJobs a minute: every rate was held", d.Held)
	case d.Held == 0:
		d.Reason = fmt.Sprintf("the knee is below %d CronJobs a minute, the first rate that was asked for", broke.Rate)
	default:
		d.Reason = fmt.Sprintf("the knee is between %d and %d CronJobs a minute", d.Held, broke.Rate)
	}
	return d
}

// nodes counts those that pods can run on: the workers, or without any all.
func nodes(h *history.History) int {
	workers, all := map[string]bool{}, map[string]bool{}
	for _, n := range h.Nodes {
		all[n.V.Name] = true
		if strings.HasPrefix(n.V.Place, "worker[") {
			workers[n.V.Name] = true
		}
	}
	if len(workers) > 0 {
		return len(workers)
	}
	return len(all)
}

func step(h *history.History, rate int, from, to time.Duration, all []slo.Slot, budget time.Duration, nodes int) Step {
	end := h.Run.Began.Add(to)
	slots := judged(within(all, h.Run.Began.Add(from), end), rate, end, budget)
	s := Step{Rate: rate, Slots: len(slots), Hops: []Hop{}}
	for _, b := range h.Busy {
		if b.V.From >= from && b.V.To <= to {
			busy := b.V
			s.Busy = &busy
		}
	}
	if len(slots) == 0 {
		s.Verdict, s.Reason = slo.Inconclusive, "no slot of it is in the record"
		return s
	}
	late := make([]time.Duration, 0, len(slots))
	for _, slot := range slots {
		l := end.Sub(slot.At)
		if !slot.Started.IsZero() && !slot.Started.After(end) {
			l = slot.Started.Sub(slot.At)
			s.Started++
		}
		late = append(late, max(0, l))
	}
	seconds := func(p float64) *float64 {
		v := math.Round(percentile(late, p).Seconds()*10) / 10
		return &v
	}
	s.P50, s.P99, s.Max = seconds(0.5), seconds(0.99), seconds(1)
	s.PerSecond = perSecond(slots, end)
	if s.PerSecond != nil && nodes > 0 {
		n := *s.PerSecond / float64(nodes)
		s.PerNode = &n
	}
	s.Hops = hops(slots, end)
	s.Unschedulable = unschedulable(h, slots, from, to)
	p := percentile(late, 0.99)
	switch {
	case gapIn(h, from, to) != "":
		s.Verdict, s.Reason = slo.Inconclusive, gapIn(h, from, to)
	case p > budget:
		s.Verdict, s.Reason = slo.Fail, fmt.Sprintf("p99 is %.0f s, more than %.0f s; %d of %d started", p.Seconds(), budget.Seconds(), s.Started, s.Slots)
	case p+time.Second > budget: // a time of the API is cut to the second
		s.Verdict, s.Reason = slo.Inconclusive, fmt.Sprintf("p99 is %.0f s: too close to the budget for its error bar", p.Seconds())
	default:
		s.Verdict, s.Reason = slo.Pass, fmt.Sprintf("p99 is %.0f s", p.Seconds())
	}
	return s
}

// judged are the slots of the minutes in which every CronJob had one, and of which
// all has started, or had the time to break the budget: a minute that goes by while
// CronJobs are made, or begins while the last starts are waited for, says nothing.
func judged(slots []slo.Slot, rate int, end time.Time, budget time.Duration) []slo.Slot {
	count, open := map[int64]int{}, map[int64]bool{}
	for _, s := range slots {
		at := s.At.Unix()
		count[at]++
		if s.Started.IsZero() || s.Started.After(end) {
			open[at] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(slots), func(s slo.Slot) bool {
		at := s.At.Unix()
		return count[at] < rate || open[at] && end.Sub(s.At) <= budget
	})
}

// latencies of slots; one that did not start is longer than any budget.
func latencies(slots []slo.Slot) []time.Duration {
	out := make([]time.Duration, 0, len(slots))
	for _, s := range slots {
		late := time.Duration(math.MaxInt64)
		if !s.Started.IsZero() {
			late = s.Started.Sub(s.At)
		}
		out = append(out, late)
	}
	return out
}

// percentile by nearest rank; of nothing it is longer than any budget.
func percentile(list []time.Duration, p float64) time.Duration {
	if len(list) == 0 {
		return math.MaxInt64
	}
	s := slices.Sorted(slices.Values(list))
	return s[max(0, min(len(s)-1, int(math.Ceil(p*float64(len(s))))-1))]
}

// perSecond is how many pods of the last minute started a second, from the slot to
// the last start.
func perSecond(slots []slo.Slot, end time.Time) *float64 {
	last, latest, n := slots[len(slots)-1].At, time.Time{}, 0
	for _, s := range slots {
		if s.At.Equal(last) && !s.Started.IsZero() && !s.Started.After(end) {
			n++
			if s.Started.After(latest) {
				latest = s.Started
			}
		}
	}
	if n == 0 {
		return nil
	}
	v := float64(n) / (latest.Sub(last).Seconds() + 1) // up to the end of that second
	return &v
}

// hops are where the time of the slots went, on average.
func hops(slots []slo.Slot, end time.Time) []Hop {
	sum := make([]time.Duration, len(hopNames))
	for _, s := range slots {
		at := s.At
		for i, next := range []time.Time{s.Created, s.PodCreated, s.Scheduled, s.Started} {
			if next.IsZero() || next.After(end) {
				sum[i] += max(0, end.Sub(at)) // it waits here
				break
			}
			sum[i] += max(0, next.Sub(at))
			at = next
		}
	}
	var all time.Duration
	for _, d := range sum {
		all += d
	}
	out := []Hop{}
	for i, name := range hopNames {
		hop := Hop{Name: name, Mean: math.Round(sum[i].Seconds()/float64(len(slots))*100) / 100}
		if all > 0 {
			hop.Share = math.Round(float64(sum[i])/float64(all)*1000) / 1000
		}
		out = append(out, hop)
	}
	return out
}

// unschedulable is what the scheduler said of the pods of these slots.
func unschedulable(h *history.History, slots []slo.Slot, from, to time.Duration) string {
	of := map[string]bool{}
	for _, s := range slots {
		for _, uid := range s.Jobs {
			of[uid] = true
		}
	}
	said, n := "", map[string]bool{}
	for _, p := range h.Pods {
		if of[p.V.OwnerUID] && p.V.Unschedulable != "" && p.At >= from && p.At <= to {
			said, n[p.V.UID] = p.V.Unschedulable, true
		}
	}
	if said == "" {
		return ""
	}
	return fmt.Sprintf("%d pods, such as: %s", len(n), said)
}

// gapIn names a hole in the record in which starts may have gone unseen.
func gapIn(h *history.History, from, to time.Duration) string {
	for _, g := range h.Gaps {
		if g.V.From < to && g.V.To > from && slices.Contains([]string{"watch/pods", "watch/jobs", "watch/cronjobs"}, g.V.Source) {
			return fmt.Sprintf("the record has a gap: %s: %s", g.V.Source, g.V.Reason)
		}
	}
	return ""
}

// saturated says what was at its limit in a step that broke its budget. Where the
// time was spent is from the pods' own conditions; that the machine had no CPU left
// is a cause that all components share, so it comes first.
func saturated(s Step) (string, []string) {
	why := []string{}
	where := ""
	for _, hop := range s.Hops {
		why = append(why, fmt.Sprintf("%s: %.1f s on average (%.0f %%)", hop.Name, hop.Mean, 100*hop.Share))
		if hop.Share > dominant {
			where, _, _ = strings.Cut(hop.Name, ":")
		}
	}
	full, others := false, ""
	if b := s.Busy; b == nil || b.Cores == 0 || b.Used == 0 {
		why = append(why, "CPU of the machine: not known")
	} else {
		full = b.Used >= fullCPU*float64(b.Cores)
		switch {
		case b.Nodes == nil:
			others = " (how much of it was the cluster's is not known)"
		case *b.Nodes < b.Used/2:
			others = " (most of it used by others than the cluster: measure on a machine of its own)"
		}
		why = append(why, fmt.Sprintf("CPU of the machine: %.2f of %d cores (%s)", b.Used, b.Cores, users(*b)))
	}
	refused := false
	if s.Busy == nil || s.Busy.Rejected == nil {
		why = append(why, "requests that the API servers refused: not known")
	} else {
		refused = *s.Busy.Rejected > 0
		why = append(why, fmt.Sprintf("requests that the API servers refused (429): %.0f", *s.Busy.Rejected))
	}
	if s.Busy != nil && s.Busy.Err != "" {
		why = append(why, "not everything could be read: "+s.Busy.Err)
	}
	if s.Unschedulable != "" {
		why = append(why, "the scheduler found no place for "+s.Unschedulable)
	}
	switch {
	case s.Unschedulable != "" && where == "scheduler":
		return "room on the nodes", why
	case full && where != "":
		return "CPU of the machine" + others + "; pods waited longest for " + where, why
	case full:
		return "CPU of the machine" + others, why
	case refused:
		return "API server", why
	case where != "":
		return where, why
	}
	return "not known", why
}

// users are the components by what they used, most first.
func users(b history.Busy) string {
	if len(b.By) == 0 {
		return "by which component is not known"
	}
	const starters = "starters of containers and all else"
	names := slices.SortedFunc(maps.Keys(b.By), func(x, y string) int {
		switch {
		case b.By[x] > b.By[y]:
			return -1
		case b.By[x] < b.By[y]:
			return 1
		}
		return strings.Compare(x, y)
	})
	var parts []string
	rest, what := b.Used, starters+", the rest of the machine too,"
	if b.Nodes != nil {
		rest, what = *b.Nodes, starters
	}
	for _, n := range names {
		parts = append(parts, fmt.Sprintf("%s %.2f", n, b.By[n]))
		rest -= b.By[n]
	}
	text := strings.Join(append(parts, fmt.Sprintf("%s %.2f", what, max(0, rest))), ", ")
	if b.Nodes == nil {
		return text
	}
	return fmt.Sprintf("the cluster's nodes %.2f: %s", *b.Nodes, text)
}
