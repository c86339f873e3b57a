package selfcheck

import (
	"fmt"
	"strings"
	"time"

	"gameday/harness/history"
	"gameday/harness/slo"
)

// made is an outage as it was made, on the record's clock: it began in the course
// of breaking and ended in the course of mending. Of kind none it is the time in
// which nothing was made.
type made struct{ breaking, broken, mending, mended time.Duration }

// length is the middle of what it can have lasted.
func (m made) length() time.Duration { return (m.mending - m.broken + m.mended - m.breaking) / 2 }

// judge holds what the outage finder sees in a series against what was made. late
// is the worst that this process was late with anything else than the samples.
func judge(h *history.History, id int, t Trial, m made, late time.Duration) history.SelfTrial {
	r := history.SelfTrial{
		Kind: t.Kind, Verb: t.Way.Verb, Conn: t.Way.Conn, Where: t.Way.Where, Period: t.Way.Period, Fast: t.Way.Fast,
		Asked: t.Length, Made: m.length(), Bound: t.bound(), Late: max(late, lateness(h, id, m)),
	}
	found := slo.Outages(h, id)
	if len(found) > 0 {
		o := found[0]
		r.Seen, r.ErrorBar, r.Cause = o.Length(), o.ErrorBar(), o.Cause
	}
	var wrong string
	if t.Kind == kindNone {
		r.Bound = 0
		wrong = control0(h, id, t, found)
	} else {
		wrong = against(t, m, found, r.Bound, min(r.Late, starvedAt))
	}
	switch {
	case wrong == "":
		r.Verdict = string(slo.Pass)
	case r.Late > starvedAt:
		r.Verdict = string(slo.Inconclusive)
		r.Reason = fmt.Sprintf("%s, but gameday was starved: something was %s late", wrong, ms(r.Late))
	default:
		r.Verdict, r.Reason = string(slo.Fail), wrong
	}
	return r
}

// against says what is wrong with what was seen of an outage that was made. Each
// edge must lie where it was made, give or take slack: a request that was under way
// when the outage began was sent before it.
func against(t Trial, m made, found []slo.Outage, bound, slack time.Duration) string {
	switch len(found) {
	case 0:
		return "it was not seen"
	case 1:
	default:
		return fmt.Sprintf("it was seen as %d outages", len(found))
	}
	o := found[0]
	switch {
	case o.Open:
		return "its end was not seen"
	case o.LastGood > m.broken+slack:
		return fmt.Sprintf("a sample %s after its beginning counts as good", ms(o.LastGood-m.broken))
	case o.FirstBad < m.breaking-slack:
		return fmt.Sprintf("it was seen %s before it began", ms(m.breaking-o.FirstBad))
	case o.LastBad > m.mended+slack:
		return fmt.Sprintf("a sample %s after its end counts as bad", ms(o.LastBad-m.mended))
	case o.FirstGood < m.mending-slack:
		return fmt.Sprintf("it was seen to end %s before it did", ms(m.mending-o.FirstGood))
	case o.ErrorBar() > bound:
		return fmt.Sprintf("its error bar of %s is larger than the %s that the paces of the series explain", ms(o.ErrorBar()), ms(bound))
	case !strings.HasPrefix(o.Cause, causes[t.Kind]):
		return fmt.Sprintf("it was taken for another: %q does not begin with %q", o.Cause, causes[t.Kind])
	}
	return ""
}

// causes are how the first bad sample of a kind is told. On a connection that is
// reset a request may be caught at any point.
var causes = map[string]string{kindRefused: "", kindReset: "", kindBlackHoled: "timeout: ", kindSlow: "answered after "}

// control0 says what is wrong with a series before which nothing was broken.
func control0(h *history.History, id int, t Trial, found []slo.Outage) string {
	if len(found) > 0 {
		return fmt.Sprintf("an outage of %s was seen where none was made: %s", ms(found[0].Length()), found[0].Cause)
	}
	if n, want := len(h.Samples[id]), int(t.Length/t.Way.Period)-2; n < want {
		return fmt.Sprintf("%d samples in %s, at least %d were due", n, ms(t.Length), want)
	}
	return ""
}

// lateness is the worst that samples started late, or that one took while nothing
// was broken: a request that is under way for so long is sent well before it
// arrives.
func lateness(h *history.History, id int, m made) time.Duration {
	var worst time.Duration
	for _, s := range h.Samples[id] {
		worst = max(worst, s.V.Late)
		if s.V.OK && s.At+s.V.Took < m.breaking && s.At > h.Samples[id][0].At { // the first one connects
			worst = max(worst, s.V.Took)
		}
	}
	return max(worst, m.broken-m.breaking, m.mended-m.mending)
}

// ms is a time as the table says it.
func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1e3) }
