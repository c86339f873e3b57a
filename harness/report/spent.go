package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"gameday/harness/slo"
)

// share is what one fault or phase took of the budget of a promise.
type share struct {
	name    string
	times   int
	longest time.Duration
}

// spent says, for each promise, how much of its budget was spent during each
// fault and each phase: how often, and how long at most, since most budgets are
// for one interval. What happened around them is not theirs.
func spent(d slo.Document) map[string][]string {
	when := map[string][2]time.Duration{}
	for _, p := range d.Phases {
		when[p.Name] = [2]time.Duration{fromMs(p.Began), fromMs(p.Ended)}
	}
	for _, f := range d.Faults {
		if f.ProvenAt != nil {
			w := [2]time.Duration{fromMs(*f.ProvenAt), 1 << 62}
			if f.GoneAt != nil {
				w[1] = fromMs(*f.GoneAt)
			}
			when[f.Name] = w
		}
	}
	out := map[string][]string{}
	for _, s := range d.SLOs {
		out[s.Name] = spentOf(s, when)
	}
	return out
}

func spentOf(s slo.Result, when map[string][2]time.Duration) []string {
	shares := map[string]*share{}
	all := 0
	for _, e := range s.Evidence {
		if e.Beside {
			continue
		}
		all++
		during := e.During
		if len(during) == 0 {
			during = []string{"no fault, no phase"}
		}
		for _, name := range during {
			x := shares[name]
			if x == nil {
				x = &share{name: name}
				shares[name] = x
			}
			length := e.To - e.From
			if w, ok := when[name]; ok {
				length = max(0, min(e.To, w[1])-max(e.From, w[0]))
			}
			x.times++
			x.longest = max(x.longest, length)
		}
	}
	var list []*share
	for _, x := range shares {
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b *share) int {
		return cmp.Or(cmp.Compare(b.longest, a.longest), cmp.Compare(b.times, a.times), strings.Compare(a.name, b.name))
	})
	const most = 4
	var out []string
	for i, x := range list {
		if i == most {
			return append(out, fmt.Sprintf("and less during %d more", len(list)-most))
		}
		text := fmt.Sprintf("%s: %d of %d", strings.TrimPrefix(x.name, "upgrade/"), x.times, all)
		if s.Unit == "s" {
			text += ", longest " + short(x.longest)
			if s.Budget > 0 {
				text += fmt.Sprintf(" (%.0f %%)", 100*x.longest.Seconds()/s.Budget)
			}
		}
		out = append(out, text)
	}
	return out
}

// span is what a click on a promise shows: its worst evidence.
type span struct{ From, To float64 }

func spans(d slo.Document) map[string]*span {
	out := map[string]*span{}
	for _, s := range d.SLOs {
		for _, e := range s.Evidence {
			if p := out[s.Name]; p == nil || toMs(e.To)-toMs(e.From) > p.To-p.From {
				out[s.Name] = &span{toMs(e.From), toMs(e.To)}
			}
		}
	}
	return out
}
