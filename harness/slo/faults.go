package slo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gameday/harness/history"
)

// FaultFact is the life of one injection. Times are ms since the run began;
// null is what did not happen.
type FaultFact struct {
	// Name is the id in the scenario, Fault its name in the catalogue.
	Name  string `json:"name"`
	Fault string `json:"fault"`
	// Target are the places that were hit, Nodes their names in this run.
	Target string   `json:"target"`
	Nodes  []string `json:"nodes,omitempty"`
	// Phase that its window was bound to.
	Phase string `json:"phase"`

	RequestedAt float64 `json:"requestedAt"`
	// ProvenAt is when its effect was first seen on every target; HealedAt when
	// the undo returned (null for faults that the cluster mends by itself);
	// GoneAt when no target showed it any more.
	ProvenAt *float64 `json:"provenAt"`
	HealedAt *float64 `json:"healedAt"`
	GoneAt   *float64 `json:"goneAt"`

	// EffectMs is from the start of the injection to ProvenAt, HealMs from the
	// start of the undo (without one: from ProvenAt) to GoneAt: upper bounds,
	// they hold the time that acting and looking took.
	EffectMs float64 `json:"effectMs"`
	HealMs   float64 `json:"healMs"`
	// OverlapMs is how long the proven fault and its phase overlapped. Times in
	// which the effect was lost do not count; a loss is noticed within a second.
	OverlapMs float64 `json:"overlapMs"`

	// Measured against Asked, in Unit; Unit is empty if the fault has no measure.
	Measured float64 `json:"measured"`
	Asked    float64 `json:"asked,omitempty"`
	Unit     string  `json:"unit,omitempty"`
	// Proof is what was seen, Control what was seen of those who were not hit.
	Proof   string `json:"proof"`
	Control string `json:"control,omitempty"`
	// State is the last one; Error the last that was said.
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	// Lost counts how often the effect vanished while it should have been there.
	Lost int `json:"lost,omitempty"`
	// Verdict: inconclusive if it was not proven, did not overlap its phase, was
	// lost for good before its end or not seen to be gone; fail if it could not be undone. Reason says so.
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"`

	effect []span // in which it was proven
	acting span   // from the start of the injection to proven gone
	count  int    // of its parameters: how many on each target; 0: all
	ns     string // of its parameters: the namespace of its victims; empty: any
	of     string // of its parameters: the component that it is about, if it names one
}

// Faults tells the life of each injection, in the order of their requests.
func Faults(h *history.History) []FaultFact {
	phases := Phases(h)
	var order []string
	steps := map[string][]history.Timed[history.Injection]{}
	for _, i := range h.Injections {
		if _, ok := steps[i.V.ID]; !ok {
			order = append(order, i.V.ID)
		}
		steps[i.V.ID] = append(steps[i.V.ID], i)
	}
	out := make([]FaultFact, 0, len(order))
	for _, id := range order {
		out = append(out, life(h, steps[id], phases))
	}
	return out
}

func life(h *history.History, steps []history.Timed[history.Injection], phases []PhaseFact) FaultFact {
	f := FaultFact{Name: steps[0].V.ID, RequestedAt: millis(steps[0].At)}
	end := h.Last
	var acted, undoing, proven, gone *time.Duration
	var skipped, unproven bool
	var why string // of what is said in the verdict
	since := time.Duration(-1)
	missing := time.Duration(-1) // since when the effect is lost
	var away time.Duration       // how long it was when it should have ended
	ends := func(at time.Duration) {
		if missing >= 0 {
			away, missing = at-missing, -1
		}
	}
	stop := func(at time.Duration) {
		if since >= 0 {
			f.effect = append(f.effect, span{since, max(at, since)})
			since = -1
		}
	}
	for _, s := range steps {
		at, v := s.At, s.V
		f.State = v.State
		if v.Fault != "" {
			f.Fault = v.Fault
		}
		if len(v.Targets) > 0 {
			f.Target = strings.Join(v.Targets, ", ")
		}
		if len(v.Nodes) > 0 {
			f.Nodes = v.Nodes
		}
		if v.Phase != "" {
			f.Phase = v.Phase
		}
		if v.Error != "" {
			f.Error = v.Error
		}
		if n, ok := v.Params["count"].(float64); ok { // as JSON has it
			f.count = int(n)
		}
		if ns, ok := v.Params["namespace"].(string); ok {
			f.ns = ns
		}
		if c, ok := v.Params["component"].(string); ok {
			f.of = c
		}
		switch v.State {
		case "requested":
			f.RequestedAt = millis(at)
		case "armed":
			acted = &at
		case "injected":
			if acted == nil {
				acted = &at
			}
		case "proven", "reproven", "rearmed":
			if proven == nil {
				proven, f.Proof, f.Control = &at, v.Proof, v.Control
			}
			if v.Unit != "" {
				f.Asked, f.Measured, f.Unit = v.Asked, v.Measured, v.Unit
			}
			if since < 0 {
				since = at
			}
			missing = -1
		case "lost":
			f.Lost++
			stop(at)
			missing = at
		case "healing":
			ends(at)
			undoing = &at
		case "healed":
			stop(at)
			f.HealedAt = ms(at)
		case "gone":
			ends(at)
			stop(at)
			gone = &at
		case "unproven":
			unproven, why = true, v.Error
		case "skipped":
			skipped, why = true, v.Error
		case "stuck":
			why = v.Error
		}
	}
	ends(end)
	stop(end)
	if acted == nil {
		acted = proven
	}
	if proven != nil {
		f.ProvenAt = ms(*proven)
		f.EffectMs = millis(max(0, *proven-*acted))
	}
	if acted != nil {
		f.acting = span{*acted, end}
	}
	if gone != nil {
		f.GoneAt = ms(*gone)
		from := undoing
		if from == nil {
			from = proven
		}
		if from != nil {
			f.HealMs = millis(max(0, *gone-*from))
		}
		f.acting.to = *gone
	}
	during := boundTo(h, phases, f.Phase)
	var overlap time.Duration
	for _, e := range f.effect {
		for _, p := range during {
			overlap += e.common(p)
		}
	}
	f.OverlapMs = millis(overlap)

	f.Verdict = Inconclusive
	switch {
	case f.State == "stuck":
		f.Verdict, f.Reason = Fail, "it could not be undone: "+said(why)
	case skipped:
		f.Reason = "it was skipped: " + said(why)
	case proven == nil && unproven:
		f.Reason = "it was not proven: " + said(why)
	case proven == nil:
		f.Reason = "it was not proven: the record ends in state " + f.State
	case f.Phase != "" && len(during) == 0:
		f.Reason = fmt.Sprintf("its phase %s is not in the record", f.Phase)
	case f.Phase != "" && overlap <= 0:
		f.Reason = fmt.Sprintf("it was proven at %s, at no moment of %s", clock(*proven), f.Phase)
	case away > lossSlack:
		f.Reason = fmt.Sprintf("its effect was lost and did not come back: for the last %s nothing was broken", length(away))
	case gone == nil:
		f.Reason = "it was not seen to be gone"
	default:
		f.Verdict = Pass
	}
	return f
}

// lossSlack is how long before its end a fault's effect may be lost: what is
// noticed within a second and could not be made again.
const lossSlack = 2 * time.Second

// said is a reason that may be missing.
func said(text string) string {
	if text == "" {
		return "the record does not say why"
	}
	return text
}

func ms(d time.Duration) *float64 {
	v := millis(d)
	return &v
}

// hits says whether a fault acted on a node at some moment of a span.
func (f FaultFact) hits(node string, in span) bool {
	return f.acting != (span{}) && slices.Contains(f.Nodes, node) && f.acting.touches(in)
}
