package slo

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Hop is one part of the way from a slot to the start of its container, over the
// slots whose way is known so far. Seconds; the API cuts its times to the second,
// so that each may be a second more or less.
type Hop struct {
	// Name: job (slot to Job), pod (to its pod), scheduled (to its node), started
	// (to its container).
	Name    string  `json:"name"`
	Samples int     `json:"samples"`
	P50     float64 `json:"p50"`
	P90     float64 `json:"p90"`
	P99     float64 `json:"p99"`
	Max     float64 `json:"max"`
}

// hopNames in the order of the way.
var hopNames = []string{"job", "pod", "scheduled", "started"}

// stops are the moments of the way, the slot first; zero from where it is not
// known.
func (s Slot) stops() []time.Time {
	return []time.Time{s.At, s.Created, s.PodCreated, s.Scheduled, s.Started}
}

// hops tells the way of one slot.
func (s Slot) hops() string {
	var parts []string
	list := s.stops()
	for i, name := range hopNames {
		if list[i].IsZero() || list[i+1].IsZero() {
			break
		}
		parts = append(parts, fmt.Sprintf("%s after %s", name, length(list[i+1].Sub(list[i]))))
	}
	return strings.Join(parts, ", ")
}

func hopsOf(slots []Slot) []Hop {
	took := make([][]time.Duration, len(hopNames))
	for _, s := range slots {
		list := s.stops()
		for i := range hopNames {
			if list[i].IsZero() || list[i+1].IsZero() {
				break
			}
			took[i] = append(took[i], list[i+1].Sub(list[i]))
		}
	}
	var out []Hop
	for i, name := range hopNames {
		if len(took[i]) == 0 {
			break
		}
		out = append(out, Hop{
			Name: name, Samples: len(took[i]), P50: seconds(percentile(took[i], .5)), P90: seconds(percentile(took[i], .9)),
			P99: seconds(percentile(took[i], .99)), Max: seconds(slices.Max(took[i])),
		})
	}
	return out
}

func hopsText(hops []Hop) string {
	var parts []string
	for _, h := range hops {
		parts = append(parts, fmt.Sprintf("%s %g/%g/%g s", h.Name, h.P50, h.P99, h.Max))
	}
	if parts == nil {
		return ""
	}
	return "by hop, p50/p99/max: " + strings.Join(parts, ", ")
}
