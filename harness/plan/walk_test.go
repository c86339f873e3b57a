package plan

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"gameday/scenarios"
)

// TestNoTimingBreaksTheBudget plays accepted plans with random lengths of
// phases, holds and heals, by the rules that harness/run follows (Waits, Gone,
// MaxHold), and looks whether more is ever away than the budget allows. The
// planner knows no lengths, so none may break what it accepted.
func TestNoTimingBreaksTheBudget(t *testing.T) {
	const plans, timings = 2000, 10
	seed := uint64(20250701)
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	f := fakeFacts()
	accepted, refused, met := 0, 0, 0
	for range plans {
		text := randomScenario(rng)
		s, err := scenarios.Load([]byte(text), "s.yaml", f.Known)
		if err != nil {
			continue // an end before its beginning
		}
		p, err := Make(s, 1, f)
		if err != nil {
			refused++
			continue
		}
		accepted++
		for range timings {
			over, together := play(t, s, p, f, rng, len(s.Faults))
			if over != "" {
				t.Fatalf("%s\n%s\n%s", over, text, p)
			}
			met += together
		}
	}
	// Without these the test would prove nothing.
	if accepted < 200 || refused < 200 || met < 1000 {
		t.Errorf("%d plans accepted, %d refused; %d times two faults were there at once", accepted, refused, met)
	}
}

// randomScenario has up to four faults with random windows.
func randomScenario(rng *rand.Rand) string {
	var phases []string
	for _, role := range []string{"control-plane[0]", "control-plane[1]", "control-plane[2]", "worker[0]"} {
		parts := []string{"", "/preflight", "/etcd", "/kube-apiserver", "/kube-scheduler"}
		if role == "worker[0]" {
			parts = []string{"", "/drain", "/kubeadm"}
		}
		for _, part := range parts {
			phases = append(phases, "upgrade/"+role+part)
		}
	}
	phases = append(phases, "upgrade", "upgrade/prepare")
	var b strings.Builder
	for i := range 1 + rng.IntN(4) {
		name := []string{"etcd.stop", "node.cut", "api.kill"}[rng.IntN(3)]
		target := fmt.Sprintf(`nodes: ["control-plane[%d]"]`, rng.IntN(3))
		begin := fmt.Sprintf("phase: %q", phases[rng.IntN(len(phases))])
		if rng.IntN(2) == 0 {
			begin += fmt.Sprintf(", after: %ds", 1+rng.IntN(120))
		}
		end := fmt.Sprintf("for: %ds", 1+rng.IntN(60))
		switch {
		case name == "api.kill":
			end = ""
		case rng.IntN(2) == 0:
			end = fmt.Sprintf("phase: %q", phases[rng.IntN(len(phases))])
		}
		b.WriteString(fault(fmt.Sprintf("f%d", i), name, target, begin, end))
	}
	return head(3, 1, true, "faults:\n") + b.String()
}

// life is when a fault was there.
type life struct{ open, gone time.Duration }

// play runs the plan against a clock. It returns what was over budget, or that more
// than most faults were there, and how many opened while another was there.
func play(t *testing.T, s *scenarios.Scenario, p *Plan, f Facts, rng *rand.Rand, most int) (string, int) {
	t.Helper()
	steps, err := s.Steps(f.Known)
	if err != nil {
		t.Fatal(err)
	}
	a := newAxis(s, steps)
	began, ended := make([]time.Duration, len(a.slots)), make([]time.Duration, len(a.slots))
	lives := map[string]life{}
	some := func(most time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(most))) }
	var now time.Duration
	for i := 0; i < len(a.slots); {
		// One step: the lengths of its phases, then the faults that open in it.
		last := a.groupEnd(i)
		for j := i; j <= last; j++ {
			began[j] = now
			now += some(time.Minute)
			ended[j] = now
		}
		settle(s, p, a, last, began, ended, lives, some)
		for _, id := range p.Gone(stepOf(a, i)) {
			if l, ok := lives[id]; ok {
				now = max(now, l.gone)
			}
		}
		i = last + 1
	}

	var moments []time.Duration
	met := 0
	for id, l := range lives {
		moments = append(moments, l.open)
		for other, o := range lives {
			if other != id && o.open <= l.open && l.open < o.gone {
				met++
			}
		}
	}
	moments = append(moments, began...)
	for _, at := range moments {
		etcd, api, nodes := map[string]bool{}, map[string]bool{}, map[string]bool{}
		var by []string
		for i := range s.Faults {
			f := &s.Faults[i]
			l, ok := lives[f.ID]
			if !ok || at < l.open || at >= l.gone {
				continue
			}
			by = append(by, f.ID)
			for _, place := range f.Target.Nodes {
				etcd[place] = etcd[place] || f.Fault != "api.kill"
				api[place] = true
				nodes[place] = nodes[place] || f.Fault == "node.cut"
			}
		}
		if len(by) == 0 {
			continue
		}
		if len(by) > most {
			return fmt.Sprintf("at %s %d faults are there: %v", at, len(by), by), met
		}
		for i, sl := range a.slots {
			part, place := path.Base(sl.phase), path.Base(path.Dir(sl.phase))
			if began[i] <= at && at < ended[i] && (part == "etcd" || part == "kube-apiserver") {
				etcd[place] = etcd[place] || part == "etcd"
				api[place] = true
				by = append(by, sl.phase)
			}
		}
		if n := count(etcd); n > (s.Cluster.ControlPlanes-1)/2 {
			return fmt.Sprintf("at %s %d etcd members are away: %v", at, n, by), met
		}
		if n := count(api); n > s.Cluster.ControlPlanes-1 {
			return fmt.Sprintf("at %s %d API servers are away: %v", at, n, by), met
		}
		if n := count(nodes); n > 1 {
			return fmt.Sprintf("at %s %d nodes are away: %v", at, n, by), met
		}
	}
	return "", met
}

// settle finds when the faults came and went whose windows are decided by now.
func settle(s *scenarios.Scenario, p *Plan, a *axis, last int, began, ended []time.Duration, lives map[string]life, some func(time.Duration) time.Duration) {
	for progress := true; progress; {
		progress = false
		for i := range s.Faults {
			f := &s.Faults[i]
			at := a.at[f.Begin.Phase]
			if _, done := lives[f.ID]; done || at[0] > last {
				continue
			}
			l := life{open: began[at[0]] + f.Begin.After}
			if !slices.ContainsFunc(p.Waits(f.ID), func(id string) bool {
				o, ok := lives[id]
				l.open = max(l.open, o.gone)
				return !ok
			}) {
				closes := l.open + f.MaxHold
				switch {
				case f.End.Phase != "":
					end := a.at[f.End.Phase][1]
					if end > last {
						continue // decided in a later step
					}
					closes = min(closes, max(l.open, ended[end]))
				case f.End.For > 0:
					closes = min(closes, l.open+f.End.For+some(5*time.Second))
				}
				l.gone = closes + some(time.Minute)
				lives[f.ID] = l
				progress = true
			}
		}
	}
}

// stepOf is the phase of the step that a slot belongs to.
func stepOf(a *axis, i int) string {
	for i > 0 && a.slots[i-1].group == a.slots[i].group {
		i--
	}
	return a.slots[i].phase
}

func count(m map[string]bool) int {
	n := 0
	for _, v := range m {
		if v {
			n++
		}
	}
	return n
}
