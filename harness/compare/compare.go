// Package compare puts runs side by side: what each promise cost, how long each
// phase took, how quickly each fault came and went, and how far apart the runs are.
//
// It refuses what is not comparable, with the reason, and says of every difference
// whether it is more than the error bars. One run on each side shows a difference,
// not that it is more than chance: that takes several, see Paired.
package compare

import (
	"math"
	"slices"
	"time"

	"gameday/harness/history"
	"gameday/harness/slo"
)

// DocumentKind is the kind of compare.json.
const DocumentKind = "Comparison"

// Document is a comparison, an interface for other programs: fields are added
// within an apiVersion, never renamed or removed. The first run is the one that
// the others are measured against.
type Document struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Runs       []Run  `json:"runs"`
	// Settings are what was set otherwise, on purpose: versions, faults.
	Settings []Setting `json:"settings"`
	// Notes are what a reader must know before believing it.
	Notes  []string `json:"notes"`
	SLOs   []Row    `json:"slos"`
	Phases []Row    `json:"phases"`
	Faults []Row    `json:"faults"`
}

// Run that is compared.
type Run struct {
	// Label is A, B, C: short enough for the head of a column.
	Label    string `json:"label"`
	Dir      string `json:"dir"`
	ID       string `json:"run"`
	Scenario string `json:"scenario"`
	// From and To are the versions of Kubernetes; To is empty without an upgrade.
	From     string    `json:"from"`
	To       string    `json:"to,omitempty"`
	Gameday  string    `json:"gameday"`
	Provider string    `json:"provider"`
	Seed     uint64    `json:"seed"`
	Began    time.Time `json:"began"`
	// Cores of the machine; 0 if the record does not say.
	Cores   int         `json:"cores"`
	Faults  int         `json:"faults"`
	Verdict slo.Verdict `json:"verdict"`
	Reason  string      `json:"reason"`
}

// Setting is a field of the scenario that is not the same in all runs.
type Setting struct {
	Field string `json:"field"`
	// Values by run; empty where it is not set.
	Values []string `json:"values"`
}

// Row is one measure of all runs.
type Row struct {
	Name string `json:"name"`
	// Part is set if the row is only a part of the promise: the phases in which
	// another budget holds, or "elsewhere".
	Part string `json:"part,omitempty"`
	Unit string `json:"unit"`
	// Budget of a promise, in Unit; null for what has none.
	Budget *float64 `json:"budget"`
	Values []Value  `json:"values"`

	promise bool // is one, and no part of one
	parts   bool // has rows of its parts
}

// Value is what one run says of a row.
type Value struct {
	// Observed is null if it was not measured, or did not happen: Why says which.
	Observed *float64 `json:"observed"`
	ErrorBar float64  `json:"errorBar"`
	// Verdict of the promise, or of the step; empty for what is not judged.
	Verdict slo.Verdict `json:"verdict,omitempty"`
	Why     string      `json:"why,omitempty"`
	// Difference from the first run; null if either was not measured, or if both
	// are not about the same (the part that came nearest to its budget).
	Difference *float64 `json:"difference"`
	// Clear says that the difference is more than both error bars together. A
	// clear difference of two runs may still be chance.
	Clear bool `json:"clear"`
}

// Runs compares the records; the first is what the others are measured against.
// What cannot be compared is a *Refusal.
func Runs(list []*Record) (Document, error) {
	if err := fit(list); err != nil {
		return Document{}, err
	}
	return measure(list)
}

// measure is Runs of what is known to fit.
func measure(list []*Record) (Document, error) {
	settings, err := settings(list)
	if err != nil {
		return Document{}, err
	}
	d := Document{
		APIVersion: history.APIVersion, Kind: DocumentKind, Settings: settings, Notes: notes(list),
		SLOs: promises(list), Phases: phases(list), Faults: faults(list),
	}
	for i, r := range list {
		h := r.History.Run
		d.Runs = append(d.Runs, Run{
			Label: label(i), Dir: r.Dir, ID: h.ID, Scenario: h.Scenario, From: h.From, To: h.To, Gameday: h.Gameday,
			Provider: h.Provider, Seed: h.Seed, Began: h.Began.Round(0), Cores: h.Cores,
			Faults: len(r.Scenario.Faults), Verdict: r.Verdict.Verdict, Reason: r.Verdict.Reason,
		})
	}
	for _, rows := range [][]Row{d.SLOs, d.Phases, d.Faults} {
		for i := range rows {
			rows[i].differ()
		}
	}
	return d, nil
}

// label is A, B, ..., Z, A1, ...: what a run is called in the tables.
func label(i int) string {
	out := string(rune('A' + i%26))
	if n := i / 26; n > 0 {
		out += string(rune('0' + n%10))
	}
	return out
}

// notes are what makes a comparison less than it looks.
func notes(list []*Record) []string {
	out := []string{}
	for i, r := range list {
		if r.History.Run.Cores == 0 {
			out = append(out, label(i)+" does not say how many cores its machine had: that the machines are alike is not known")
		}
	}
	if len(list) == 2 {
		out = append(out, "one run each: a difference may be chance; `gameday run --paired --repeat 4` tells more")
	}
	return out
}

// row finds the row of a name and a part, or makes it below the others of that
// name, with an empty value for each run.
func row(rows *[]Row, runs int, name, part, unit string) *Row {
	i := slices.IndexFunc(*rows, func(r Row) bool { return r.Name == name && r.Part == part })
	if i < 0 {
		i = len(*rows)
		for j, r := range *rows {
			if r.Name == name {
				i = j + 1
			}
		}
		values := make([]Value, runs)
		for v := range values {
			values[v].Why = "not in this run"
		}
		*rows = slices.Insert(*rows, i, Row{Name: name, Part: part, Unit: unit, Values: values})
	}
	return &(*rows)[i]
}

// promises are the rows of the SLOs. A promise with parts has a row for each: the
// number of the promise is that of the part nearest to its budget, which need not
// be the same in two runs.
func promises(list []*Record) []Row {
	rows := []Row{}
	for i, rec := range list {
		for _, s := range rec.Verdict.SLOs {
			r := row(&rows, len(list), s.Name, "", s.Unit)
			r.Budget, r.promise = &s.Budget, true
			if len(s.Parts) > 0 {
				r.Budget, r.parts = nil, true
			}
			r.Values[i] = valueOf(s, s.Observed, s.ErrorBar)
			for _, p := range s.Parts {
				r := row(&rows, len(list), s.Name, p.Name, s.Unit)
				r.Budget = &p.Budget
				r.Values[i] = valueOf(s, p.Observed, p.ErrorBar)
				r.Values[i].Verdict = ""
			}
		}
	}
	return rows
}

// valueOf is a number of a promise; one that is inconclusive was not measured well
// enough to be set against another.
func valueOf(s slo.Result, observed, bar float64) Value {
	if s.Verdict == slo.Inconclusive {
		return Value{Verdict: s.Verdict, Why: s.Reason}
	}
	return Value{Verdict: s.Verdict, Observed: &observed, ErrorBar: bar}
}

// phases are how long each phase took, from its first beginning to its last end.
func phases(list []*Record) []Row {
	rows := []Row{}
	for i, rec := range list {
		for _, p := range rec.Verdict.Phases {
			took := (p.Ended - p.Began) / 1000
			v := Value{Observed: &took}
			if p.Expected != "" {
				v.Verdict = p.Verdict
			}
			row(&rows, len(list), p.Name, "", "s").Values[i] = v
		}
	}
	return rows
}

// faults are how quickly each fault was there, and gone. Both are upper bounds.
func faults(list []*Record) []Row {
	rows := []Row{}
	for i, rec := range list {
		for _, f := range rec.Verdict.Faults {
			effect, heal := f.EffectMs/1000, f.HealMs/1000
			e := Value{Verdict: f.Verdict, Why: "not proven"}
			if f.ProvenAt != nil {
				e = Value{Verdict: f.Verdict, Observed: &effect}
			}
			row(&rows, len(list), f.Name, "effect", "s").Values[i] = e
			g := Value{Why: "not seen to be gone"}
			if f.GoneAt != nil {
				g = Value{Observed: &heal}
			}
			row(&rows, len(list), f.Name, "gone", "s").Values[i] = g
		}
	}
	return rows
}

// differ sets what each run is away from the first.
func (r *Row) differ() {
	if r.parts {
		return
	}
	first := r.Values[0]
	for i := range r.Values[1:] {
		v := &r.Values[i+1]
		if first.Observed == nil || v.Observed == nil {
			continue
		}
		d := *v.Observed - *first.Observed
		v.Difference, v.Clear = &d, math.Abs(d) > first.ErrorBar+v.ErrorBar
	}
}
