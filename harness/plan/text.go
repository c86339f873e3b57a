package plan

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"gameday/clusters/upgrade"
	"time"
)

// width of a line's text, before its bound.
const width = 78

// String is the plan as a numbered tree.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, seed %d\n", p.Scenario, p.Seed)
	fmt.Fprintf(&b, "%s\n\n", p.Description)
	how := p.From
	if p.To != "" {
		how = fmt.Sprintf("%s -> %s by %s", p.From, p.To, p.Strategy)
	}
	fmt.Fprintf(&b, "cluster  %s: %d control planes + %d workers, %s\n", p.Provider, p.ControlPlanes, p.Workers, how)
	fmt.Fprintf(&b, "plan     %d steps, at most %s\n", p.Count, p.Bound)
	fmt.Fprintf(&b, "budget   %s; %s; %s\n\n",
		p.Budget.Etcd.text("etcd members"), p.Budget.APIServers.text("API servers"), p.Budget.Nodes.text("nodes"))
	for _, s := range p.Steps {
		s.write(&b, 0)
	}
	if len(p.Budget.Moments) > 0 {
		b.WriteString("\naway at once, at the worst of each phase (etcd members / API servers / nodes)\n")
	}
	for _, m := range p.Budget.Moments {
		by := strings.Join(m.Faults, ", ")
		if m.Upgrade != "" {
			by += " + the upgrade of " + m.Upgrade
		}
		fmt.Fprintf(&b, "  %d / %d / %d  %-50s %s\n", m.Etcd, m.APIServers, m.Nodes, m.Phase, by)
	}
	return b.String()
}

func (l Limit) text(what string) string {
	s := fmt.Sprintf("%d of %d %s away at most, %d may be", l.Most, l.Of, what, l.May)
	if l.Allowed {
		s += " (lifted)"
	}
	return s
}

// write prints the step and all below it.
func (s Step) write(b *strings.Builder, depth int) {
	indent := strings.Repeat("  ", depth)
	name := s.ID
	switch s.Kind {
	case KindFault:
		name = "! " + s.Text
	case KindPhase:
		name = path.Base(s.ID)
	case KindNode: // of some strategies one component of it
		name = strings.TrimPrefix(s.ID, upgrade.PhaseWhole+"/")
	}
	line := fmt.Sprintf("%s%-*s %s", indent, 4+2*depth, s.Number, name)
	if s.Kind != KindFault && s.Text != "" {
		line = fmt.Sprintf("%-24s %s", line, s.Text)
	}
	if s.Expect != "" {
		line += fmt.Sprintf("  expect: %s", s.Expect)
	}
	if s.Bound > 0 {
		line = fmt.Sprintf("%-*s <= %s", width, line, s.Bound)
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	under := indent + strings.Repeat(" ", 5+2*depth)
	say := func(format string, args ...any) { fmt.Fprintf(b, under+format+"\n", args...) }
	if s.Because != "" {
		say("because %s", s.Because)
	}
	for _, c := range s.Commands {
		say("$ %s", c)
	}
	if f := s.Fault; f != nil {
		say("from %s, to %s, held <= %s", f.Begin, f.End, f.MaxHold)
		if f.ProveWithin > 0 || f.GoneWithin > 0 {
			say("proven within %s, gone within %s", f.ProveWithin, f.GoneWithin)
		}
		if len(f.Params) > 0 {
			var with []string
			for _, k := range slices.Sorted(maps.Keys(f.Params)) {
				if v := f.Params[k]; v != "" {
					with = append(with, fmt.Sprintf("%s: %v", k, v))
				}
			}
			say("with %s", strings.Join(with, ", "))
		}
		if len(f.Waits) > 0 {
			say("waits until gone: %s", strings.Join(f.Waits, ", "))
		}
		for _, c := range f.Calls {
			say("> %s", c)
		}
		if f.Undo != "" {
			say("undone without gameday by: %s", f.Undo)
		}
	}
	for _, c := range s.Steps {
		c.write(b, depth+1)
	}
	if len(s.Gone) > 0 {
		say("gone before the next: %s", strings.Join(s.Gone, ", "))
	}
}

// short is a duration without zero parts: 5m, not 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
