package slo

import (
	"fmt"
	"strings"
	"time"

	"gameday/harness/history"
)

// span is an interval on the run's clock.
type span struct{ from, to time.Duration }

// common is how long two spans overlap.
func (s span) common(o span) time.Duration {
	return max(0, min(s.to, o.to)-max(s.from, o.from))
}

// touches says whether two spans have a moment in common.
func (s span) touches(o span) bool { return s.from <= o.to && o.from <= s.to }

// stagesAfterStop are the stages that begin when samplers and watches end.
var stagesAfterStop = []string{"final", "collect", "audit", "delete"}

// Stopped is when samplers and watches of the run ended: what happened later
// was not measured.
func Stopped(h *history.History) time.Duration {
	end := h.Last
	if h.End != nil {
		end = h.End.At
	}
	for _, s := range h.Stages {
		for _, name := range stagesAfterStop {
			if s.V.Name == name && s.V.State == stateBegan {
				end = min(end, s.At)
			}
		}
	}
	return end
}

// measured is the part of the run in which promises about serving are judged:
// from the steady state, shown before anything was broken, to the end of the
// samplers. The second value says why there is none.
func measured(h *history.History) (span, string) {
	s := span{0, Stopped(h)}
	began := false
	for _, e := range h.Stages {
		if e.V.Name != "steady" {
			continue
		}
		if e.V.State == stateBegan {
			began = true
			continue
		}
		if e.V.Error != "" {
			return s, "the steady state was not reached: " + e.V.Error
		}
		s.from, began = e.At, false
	}
	if began {
		return s, "the steady state was never shown"
	}
	if s.to <= s.from {
		return s, "nothing was measured after the steady state"
	}
	return s, ""
}

// gaps are the gaps of the sources with one of the given names (a name that
// ends in / stands for all that begin with it), within a span.
func gaps(h *history.History, in span, sources ...string) []history.Gap {
	var out []history.Gap
	for _, g := range h.Gaps {
		if !in.touches(span{g.V.From, g.V.To}) {
			continue
		}
		for _, s := range sources {
			if g.V.Source == s || strings.HasSuffix(s, "/") && strings.HasPrefix(g.V.Source, s) {
				out = append(out, g.V)
				break
			}
		}
	}
	return out
}

// gapText says what is missing, in a few words.
func gapText(list []history.Gap) string {
	g := list[0]
	text := fmt.Sprintf("%s has no data from %s to %s (%s)", g.Source, clock(g.From), clock(g.To), g.Reason)
	if n := len(list) - 1; n > 0 {
		text += fmt.Sprintf(" and %d more gaps", n)
	}
	return text
}

// clock is a moment of the run as the report's axis says it.
func clock(d time.Duration) string {
	m := int(d.Minutes())
	return fmt.Sprintf("%d:%05.2f", m, (d - time.Duration(m)*time.Minute).Seconds())
}

// length is a duration as a person reads it.
func length(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + length(-d)
	case d == 0:
		return "0 s"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// seconds is a duration as a number for the verdict, to the millisecond.
func seconds(d time.Duration) float64 { return float64(d.Round(time.Millisecond).Milliseconds()) / 1e3 }

// millis is a duration as a number of ms, to the microsecond.
func millis(d time.Duration) float64 { return float64(d.Round(time.Microsecond).Microseconds()) / 1e3 }

// count says a number of things: "1 slot", "3 slots".
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
