package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gameday/clusters/upgrade"
	"gameday/faults"
	"gameday/scenarios"
)

// Make plans a run. It touches nothing. A plan that must not be carried out is
// refused with a *scenarios.Invalid that names every reason. Random faults are
// those that Draw draws: who is to run the plan draws them first.
func Make(s *scenarios.Scenario, seed uint64, facts Facts) (*Plan, error) {
	s, err := Draw(s, seed, facts)
	if err != nil {
		return nil, err
	}
	m := &maker{s: s, seed: seed, facts: facts, kinds: map[string]faults.Kind{}}
	steps, err := s.Steps(facts.Known)
	if err != nil {
		return nil, &scenarios.Invalid{Problems: []scenarios.Problem{{File: s.File, Field: "upgrade.strategy", Text: err.Error()}}}
	}
	m.able(steps)
	m.axis = newAxis(s, steps)
	m.windows()
	m.linger(steps)
	if s.Upgrade != nil {
		for _, e := range s.Upgrade.Expect {
			if _, ok := m.axis.at[e.Phase]; !ok {
				m.problem(e.Line, "upgrade.expect", "", "there is no phase %q%s", e.Phase, scenarios.Suggest(e.Phase, m.axis.phases()))
			}
		}
	}
	b, over := budget(s, m.axis, m.open, m.kinds)
	for _, o := range over {
		m.problem(o.last.Line, "faults."+o.last.ID, o.mend, "%s", o.text)
	}
	if len(m.problems) > 0 {
		slices.SortStableFunc(m.problems, func(a, b scenarios.Problem) int { return a.Line - b.Line })
		return nil, &scenarios.Invalid{Problems: m.problems}
	}
	p := &Plan{
		APIVersion: APIVersion, Scenario: s.Name, Description: s.Description, Seed: seed, Provider: facts.Provider,
		From: s.Cluster.Version, ControlPlanes: s.Cluster.ControlPlanes, Workers: s.Cluster.Workers, Budget: b,
	}
	if s.Upgrade != nil {
		p.To, p.Strategy = s.Upgrade.To, s.Upgrade.Strategy
	}
	if p.Steps, err = m.stages(steps); err != nil {
		return nil, err
	}
	p.number()
	for _, st := range p.Steps {
		p.Bound += st.Bound
	}
	switch {
	case p.Count > maxSteps:
		m.problem(0, "", "make it smaller", "the plan has %d steps; at most %d are run", p.Count, maxSteps)
	case time.Duration(p.Bound) > maxBound:
		m.problem(0, "", "lower run, upgrade.timeout, steady or converge", "the run may take %s; at most %s is run", p.Bound, short(maxBound))
	}
	if len(m.problems) > 0 {
		return nil, &scenarios.Invalid{Problems: m.problems}
	}
	return p, nil
}

type maker struct {
	s        *scenarios.Scenario
	seed     uint64
	facts    Facts
	axis     *axis
	kinds    map[string]faults.Kind
	open     []window
	problems []scenarios.Problem
}

func (m *maker) problem(line int, field, mend, format string, args ...any) {
	m.problems = append(m.problems, scenarios.Problem{
		File: m.s.File, Line: line, Field: field, Mend: mend, Text: fmt.Sprintf(format, args...),
	})
}

// able refuses a strategy that the provider's nodes cannot be upgraded by.
func (m *maker) able(steps []upgrade.Step) {
	if m.s.Upgrade == nil || m.facts.Capabilities == nil {
		return
	}
	kind, err := m.facts.Known.StrategyKind(m.s.Upgrade.Strategy)
	if err != nil {
		return // its steps are known, so that it is
	}
	var lack []string
	for _, st := range steps {
		role := roleOf(st.Place)
		for _, c := range kind.Needs {
			text := fmt.Sprintf("%s on a %s", c, role)
			if st.Place != "" && !slices.Contains(m.facts.Capabilities[role], c) && !slices.Contains(lack, text) {
				lack = append(lack, text)
			}
		}
	}
	if len(lack) > 0 {
		m.problem(0, "upgrade.strategy", "take another provider, or another strategy",
			"strategy %s needs %s, which the provider %s does not have", kind.Name, strings.Join(lack, ", "), m.facts.Provider)
	}
}

// windows puts every fault on the axis.
func (m *maker) windows() {
	for i := range m.s.Faults {
		f := &m.s.Faults[i]
		field := "faults." + f.ID
		kind, err := m.facts.Known.Fault(f.Fault)
		if err != nil {
			m.problem(f.Line, field, "", "%v", err)
			continue
		}
		m.kinds[f.Fault] = kind
		w, err := resolve(m.s, f, kind, m.seed)
		if err != nil {
			mend := ""
			if errors.Is(err, faults.ErrNoTarget) {
				mend = fmt.Sprintf("the cluster has %d control planes and %d workers", m.s.Cluster.ControlPlanes, m.s.Cluster.Workers)
			}
			m.problem(f.Line, field, mend, "%v", err)
			continue
		}
		if lack := lacking(w, kind, m.facts); len(lack) > 0 {
			m.problem(f.Line, field, "take another provider", "%s", needs(f, lack, m.facts.Provider))
		}
		win, err := newWindow(m.axis, f, w)
		if err != nil {
			m.problem(f.Line, field, "", "%v", err)
			continue
		}
		m.open = append(m.open, win)
	}
}

// linger lets faults reach into the steps of workers, each as far as the budget
// bears it together with all others, and never so that more are there at once than
// the scenario brings together anyway.
func (m *maker) linger(steps []upgrade.Step) {
	if _, over := budget(m.s, m.axis, m.open, m.kinds); len(over) > 0 {
		return // refused as it is
	}
	most := crowd(m.axis, m.open)
	for i, w := range m.open {
		if endsWithUpgrade(w.fault) {
			continue
		}
		m.open[i] = w.linger(m.axis, steps)
		if _, over := budget(m.s, m.axis, m.open, m.kinds); len(over) > 0 || crowd(m.axis, m.open) > most {
			m.open[i] = w
		}
	}
}

// endsWithUpgrade says whether a fault lasts until the end of the whole upgrade, or
// may begin at any time of it: no step can wait for its end.
func endsWithUpgrade(f *scenarios.Fault) bool {
	return f.End.Phase == scenarios.PhaseUpgrade || f.Begin.Phase == scenarios.PhaseUpgrade && f.Begin.After > 0
}

// stages are the steps of the run, in the order of harness/run.
func (m *maker) stages(steps []upgrade.Step) ([]Step, error) {
	s := m.s
	stage := func(id string, bound time.Duration, text string, args ...any) Step {
		return Step{Kind: KindStage, ID: id, Bound: Duration(bound), Text: fmt.Sprintf(text, args...)}
	}
	images := "the node image of " + s.Cluster.Version
	if s.Upgrade != nil {
		images += ", binaries and images of " + s.Upgrade.To
	}
	out := []Step{
		stage("prepare", BoundPrepare, "the machine: Docker"),
		stage("images", BoundImages, "%s", images),
		stage("create", BoundCreate, "%d control planes + %d workers, every node Ready", s.Cluster.ControlPlanes, s.Cluster.Workers),
	}
	if s.Upgrade != nil {
		out = append(out, stage("preload", BoundPreload, "images and binaries of %s onto the nodes", s.Upgrade.To))
	}
	out = append(out,
		stage("workload", BoundWorkload, "%s", workload(s.Workload)),
		stage("steady", s.Steady+BoundSteady, "all well for %s before anything is broken", short(s.Steady)))
	body, err := m.body(steps)
	if err != nil {
		return nil, err
	}
	return append(out, body,
		stage("heal", BoundHeal, "every fault taken back and proven gone"),
		stage("converge", s.Converge, "all as well as before"),
		stage("final", BoundFinal, "samplers stop; the last checks of what was written"),
		stage("collect", BoundCollect, "logs of nodes and components"),
		stage("delete", BoundDelete, "the cluster and all that was made with it"),
	), nil
}

// body is the stage that the faults belong to.
func (m *maker) body(steps []upgrade.Step) (Step, error) {
	s := m.s
	if s.Upgrade == nil {
		bound := s.Run
		for _, w := range m.open { // the run waits for the windows that are open
			bound = max(bound, w.fault.Begin.After+w.fault.MaxHold+m.kinds[w.fault.Fault].GoneWithin)
		}
		out := Step{Kind: KindStage, ID: scenarios.PhaseRun, Bound: Duration(bound), Text: fmt.Sprintf("%s under load", short(s.Run))}
		return out, m.inject(&out)
	}
	out := Step{Kind: KindStage, ID: scenarios.PhaseUpgrade, Bound: Duration(s.Upgrade.Timeout),
		Text: fmt.Sprintf("%s -> %s by %s, %s", s.Cluster.Version, s.Upgrade.To, s.Upgrade.Strategy, drain(s.Upgrade))}
	if err := m.inject(&out); err != nil {
		return out, err
	}
	prepare := Step{Kind: KindPhase, ID: upgrade.PhasePrepare, Text: "what the nodes need is there", Gone: m.gone(upgrade.PhasePrepare)}
	if err := m.inject(&prepare); err != nil {
		return out, err
	}
	out.Steps = append(out.Steps, prepare)
	for _, st := range steps {
		e := s.Expected(st.Phase)
		node := Step{Kind: KindNode, ID: st.Phase, Bound: Duration(st.Bound), Commands: st.Commands,
			Expect: e.Outcome, Because: e.Because, Gone: m.gone(st.Phase)}
		if e.Outcome != scenarios.ExpectProceed {
			node.Text = "run again after the heal"
		}
		if err := m.inject(&node); err != nil {
			return out, err
		}
		for _, part := range st.Parts {
			phase := Step{Kind: KindPhase, ID: part}
			if err := m.inject(&phase); err != nil {
				return out, err
			}
			node.Steps = append(node.Steps, phase)
		}
		out.Steps = append(out.Steps, node)
	}
	return out, nil
}

func drain(u *scenarios.Upgrade) string {
	if len(u.Command) > 0 {
		return "which drains as it does"
	}
	return "drain " + u.Drain
}

// gone are the faults that may be there in the phase's step and not in the next.
func (m *maker) gone(phase string) []string {
	var out []string
	for _, w := range m.open {
		if endsWithUpgrade(w.fault) {
			continue
		}
		if last := m.axis.at[phase][1]; last == w.last {
			out = append(out, w.fault.ID)
		}
	}
	return out
}

// inject adds the faults that the phase opens.
func (m *maker) inject(to *Step) error {
	for _, w := range m.open {
		f := w.fault
		if f.Begin.Phase != to.ID {
			continue
		}
		k := m.kinds[f.Fault]
		params, err := scenarios.Params(f.With)
		if err != nil {
			return fmt.Errorf("parameters of %s: %w", f.ID, err)
		}
		in := &Injection{
			ID: f.ID, Fault: f.Fault, Target: strings.Join(w.who.words(k, f.Target), ", "), Places: w.who.places,
			Begin: begin(f), End: end(f, k), MaxHold: Duration(f.MaxHold),
			ProveWithin: Duration(k.ProveWithin), GoneWithin: Duration(k.GoneWithin), Undo: k.Undo,
		}
		if len(params) > 0 {
			in.Params = params
		}
		for _, o := range m.open {
			if o.fault != f && o.closedBefore(w) && o.last >= w.begin {
				in.Waits = append(in.Waits, o.fault.ID)
			}
		}
		if d, ok := f.With.(faults.Describer); ok {
			in.Calls = d.Describe(w.who.words(k, f.Target))
		}
		to.Steps = append(to.Steps, Step{Kind: KindFault, ID: faultID(f.ID), Fault: in,
			Text: fmt.Sprintf("%s: %s on %s", f.ID, f.Fault, in.Target)})
	}
	return nil
}

func begin(f *scenarios.Fault) string {
	if f.Begin.After > 0 {
		return fmt.Sprintf("%s after %s began", short(f.Begin.After), f.Begin.Phase)
	}
	return f.Begin.Phase + " began"
}

func end(f *scenarios.Fault, k faults.Kind) string {
	switch {
	case k.Instant:
		return "over at once; the cluster repairs it"
	case f.End.Phase != "":
		return f.End.Phase + " ended"
	}
	return short(f.End.For) + " after it was proven"
}

func workload(w scenarios.Workload) string {
	var out []string
	if j := w.CronJobs; j != nil {
		out = append(out, fmt.Sprintf("%d CronJobs at %q", j.Count, j.Schedule))
	}
	if j := w.Deployments; j != nil {
		out = append(out, fmt.Sprintf("%d Deployments x %d, %d available", j.Count, j.Replicas, j.MinAvailable))
	}
	if j := w.StatefulSets; j != nil {
		out = append(out, fmt.Sprintf("%d StatefulSets x %d, %d available", j.Count, j.Replicas, j.MinAvailable))
	}
	if j := w.Jobs; j != nil {
		out = append(out, fmt.Sprintf("%d Jobs of %s at any time", j.Parallel, short(j.Duration)))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, "; ")
}
