package slo

import (
	"fmt"
	"strings"
	"time"

	"gameday/harness/history"
)

// renewal is a write of a lease, with when it was committed, as far as is known.
type renewal struct {
	span
	holder  string
	seconds int32
}

// renewals are the writes of the leases, by component. What its holder's clock
// says, just before the write, narrows when it was committed unless it
// contradicts.
func renewals(h *history.History) map[string][]renewal {
	c := commitsOf(h)
	out := map[string][]renewal{}
	for _, l := range h.Leases {
		if l.V.Deleted {
			continue
		}
		r := renewal{c.of(l.V.Revision, l.At), l.V.Holder, l.V.Seconds}
		if at := l.V.Renewed.Sub(h.Run.Began); !l.V.Renewed.IsZero() && r.from <= at && at <= r.to {
			r.from = at
		}
		out[l.V.Name] = append(out[l.V.Name], r)
	}
	return out
}

// vacancy is a time in which nobody renewed a lease.
type vacancy struct {
	component string
	// last is the last renewal by the old holder, or its release; next the first by
	// the new one. Of one that did not end next is the end of the watches.
	last, next renewal
	old        string
	changed    bool
	open       bool
}

func (v vacancy) least() time.Duration { return max(0, v.next.from-v.last.to) }
func (v vacancy) most() time.Duration  { return max(0, v.next.to-v.last.from) }

// in is the time from the one renewal to the other.
func (v vacancy) in() span { return span{v.last.from, v.next.to} }

// nodeOf is the node of a holder, NODE_UUID (k8s.io/kubernetes@v1.37.0
// cmd/kube-controller-manager/app/controllermanager.go).
func nodeOf(holder string) string {
	node, _, _ := strings.Cut(holder, "_")
	return node
}

// vacancies are the changes of the holders of a lease, and the times in which
// the same did not renew it for longer than it lasts.
func vacancies(component string, list []renewal, stop time.Duration) []vacancy {
	var out []vacancy
	var last renewal
	held := "" // the last that was no release
	for i, r := range list {
		if r.to > stop {
			break
		}
		v := vacancy{component: component, last: last, next: r, old: held}
		switch {
		case i == 0:
		case r.holder == "" && last.holder == "":
			continue // released already
		case r.holder == "": // it led until then
		case r.holder != held && held != "":
			v.changed = true
			out = append(out, v)
		case last.holder == "" || v.least() > time.Duration(last.seconds)*time.Second:
			out = append(out, v)
		}
		last = r
		if r.holder != "" {
			held = r.holder
		}
	}
	if n := len(list); n > 0 {
		v := vacancy{component: component, last: last, next: renewal{span: span{stop, stop}}, old: held, open: true}
		if last.holder == "" || v.least() > time.Duration(last.seconds)*time.Second {
			out = append(out, v)
		}
	}
	return out
}

// everyVacancy is that of all components that elect a leader; it doubts those of
// which there is no lease.
func everyVacancy(h *history.History, g *grounds) (out []vacancy, renewed int) {
	all := renewals(h)
	for _, c := range electing {
		renewed += len(all[c])
		if len(all[c]) == 0 && len(h.Leases) > 0 {
			g.doubt("no lease of %s is in the record", c)
		}
		out = append(out, vacancies(c, all[c], Stopped(h))...)
	}
	return out, renewed
}

func (c *Components) leaderGap(h *history.History, b blame) Result {
	r, g := c.start(h, "leader-gap", "watch/leases")
	r.Unit = "s"
	l := limits{base: c.LeaderGap}
	r.Promise = "nobody leads for no longer than " + length(c.LeaderGap)
	for _, d := range c.During {
		l.in = append(l.in, limit{b.around.window(d.Phases, d.Faults, d.After), max(c.LeaderGap, d.LeaderGap)})
		if d.LeaderGap > 0 {
			r.Allowed = append(r.Allowed, allowedIn(d.Phases, d.Faults, d.After, length(d.LeaderGap)))
		}
	}
	worst := newParts(l)
	list, renewed := everyVacancy(h, g)
	r.Samples = renewed
	for _, v := range list {
		say := fmt.Sprintf("nobody led %s for %s (+-%s)", v.component, length((v.least()+v.most())/2), length((v.most()-v.least())/2))
		if v.changed {
			say += fmt.Sprintf(", from %s to %s", b.at(nodeOf(v.old)), b.at(nodeOf(v.next.holder)))
		}
		say += " at " + clock(v.last.from)
		l.within(g, worst, v.in(), v.least(), v.most(), v.open, say)
		b.around.evidence(&r, v.in(), say)
	}
	worst.take(&r)
	if len(list) == 0 && renewed > 0 {
		g.note("no gap in %d renewals", renewed)
	} else if renewed > 0 {
		g.note("%s in %d renewals", count(len(list), "gap", "gaps"), renewed)
	}
	g.decide(&r)
	return r
}

// within judges a length that is known to lie between least and most by the
// largest limit that it met; say tells it and when it was.
func (l limits) within(g *grounds, worst *parts, in span, least, most time.Duration, open bool, say string) {
	wide, part := l.of(in, false)
	narrow, _ := l.of(in, true)
	worst.add(part, (least+most)/2, (most-least)/2, wide)
	switch {
	case least > wide:
		g.fail("%s", say)
	case open:
		g.doubt("%s, which had not ended when the samplers stopped", say)
	case most > l.base && part >= 0 && l.in[part].open != "":
		g.doubt("%s, but the end of %s is not in the record", say, l.in[part].open)
	case most > narrow:
		g.doubt("%s: too close to the budget for its error bar", say)
	}
}

func (c *Components) leaderChanges(h *history.History, b blame) Result {
	r, g := c.start(h, "leader-changes", "watch/leases")
	list, renewed := everyVacancy(h, g)
	r.Samples = renewed
	causes := map[string]int{}
	n := 0
	for _, v := range list {
		if !v.changed {
			continue
		}
		say := fmt.Sprintf("%s: leadership went from %s to %s", v.component, b.at(nodeOf(v.old)), b.at(nodeOf(v.next.holder)))
		if why := b.why(v.component, nodeOf(v.old), v.in()); why != "" {
			causes[why]++
			beside(b.around, &r, v.in(), say+", explained by "+why)
			continue
		}
		n++
		b.around.evidence(&r, v.in(), say)
	}
	r.Observed, r.Budget = float64(n), float64(c.LeaderChanges)
	r.Promise = upTo(c.LeaderChanges, "change of leader that nothing explains", "changes of leader that nothing explains")
	if n > c.LeaderChanges {
		g.fail("%s that nothing explains", count(n, "change of leader", "changes of leader"))
	} else {
		g.note("%d in %d renewals", n, renewed)
	}
	explained(g, causes, "changes")
	g.decide(&r)
	return r
}
