package matrix

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"gameday/harness/slo"
)

// ChangeKind is why a cell is not as it was in the baseline.
type ChangeKind string

// The kinds. A cell that is as it was has none.
const (
	// SettingsChanged: the model says something else of it because settings differ,
	// and the controller does that.
	SettingsChanged ChangeKind = "settings changed"
	// KubernetesChanged: the same settings do something else in another version,
	// as the model says or against it.
	KubernetesChanged ChangeKind = "Kubernetes changed"
	// Broken: rules are broken that were not in the same version; what the settings
	// are does not matter, because the model knows them.
	Broken ChangeKind = "broken"
	// Mended: it was broken, and is not any more.
	Mended ChangeKind = "mended"
	// ModelChanged: gameday itself says something else of the same.
	ModelChanged ChangeKind = "model changed"
	// Unmeasured: it was judged, and is inconclusive now.
	Unmeasured ChangeKind = "unmeasured"
	// Measured: it was not judged, or inconclusive, and is now.
	Measured ChangeKind = "measured"
	// New: the baseline has no such cell.
	New ChangeKind = "new"
)

// Change is what differs between a cell and that of the baseline.
type Change struct {
	Kind ChangeKind `json:"kind"`
	Text string     `json:"text"`
}

// Compare notes in each cell what changed since the baseline, and tells which cells
// of the baseline were not tried again. A cell is held against that of the same
// version; if there is none, against the newest older one, else the oldest.
func (d *Document) Compare(base Document) (missing []string) {
	used := map[int]bool{}
	for i := range d.Cells {
		e := &d.Cells[i]
		j := base.like(*e)
		if j < 0 {
			e.Change = &Change{New, "not in the baseline"}
			continue
		}
		used[j] = true
		e.Change = change(base.Cells[j], *e, differing(base.Settings[e.Settings], d.Settings[e.Settings]))
	}
	for j, e := range base.Cells {
		if !used[j] {
			missing = append(missing, fmt.Sprintf("%s %s %s %s", e.Settings, e.Version, e.Cut, e.Length))
		}
	}
	return missing
}

// like finds the cell that another is held against; -1 if there is none.
func (d Document) like(e Entry) int {
	best := -1
	for j, o := range d.Cells {
		if o.Settings != e.Settings || o.Cut != e.Cut || o.Length != e.Length {
			continue
		}
		if o.Version == e.Version {
			return j
		}
		older := semver.Compare(o.Version, e.Version) < 0
		switch {
		case best < 0:
			best = j
		case older == (semver.Compare(d.Cells[best].Version, e.Version) < 0):
			if newer := semver.Compare(o.Version, d.Cells[best].Version) > 0; newer == older {
				best = j
			}
		case older:
			best = j
		}
	}
	return best
}

// differing are the settings that two files do not share.
func differing(was, is map[string]string) []string {
	names := map[string]bool{}
	for _, m := range []map[string]string{was, is} {
		for k := range m {
			names[k] = true
		}
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(names)) {
		a, had := was[k]
		b, has := is[k]
		if a == b && had == has {
			continue
		}
		if !had {
			a = "(none)"
		}
		if !has {
			b = "(none)"
		}
		out = append(out, fmt.Sprintf("%s: %s -> %s", k, a, b))
	}
	return out
}

// change of a cell; nil if there is none.
func change(was, is Entry, settings []string) *Change {
	version := ""
	if was.Version != is.Version {
		version = fmt.Sprintf("%s -> %s", was.Version, is.Version)
	}
	of := func(k ChangeKind, format string, args ...any) *Change {
		return &Change{k, fmt.Sprintf(format, args...)}
	}
	judged := func(e Entry) bool { return e.Verdict == slo.Pass || e.Verdict == slo.Fail }
	switch {
	case is.Verdict == slo.Fail && was.Verdict == slo.Pass && version != "":
		return of(KubernetesChanged, "%s: it no longer does what %s did: %s", version, was.Version, is.Why)
	case is.Verdict == slo.Fail && was.Verdict != slo.Fail:
		return of(Broken, "it was %s in %s: %s", word(was), was.Version, is.Why)
	case was.Verdict == slo.Fail && is.Verdict == slo.Pass:
		return of(Mended, "it failed: %s", was.Why)
	case judged(was) && !judged(is):
		return of(Unmeasured, "it was %s; now %s", was.Verdict, is.Why)
	case !judged(was) && judged(is):
		return of(Measured, "it was %s: %s", word(was), was.Why)
	case reflect.DeepEqual(was.Predicted, is.Predicted):
		return nil
	}
	said := fmt.Sprintf("predicted %s, before %s", told(is.Predicted), told(was.Predicted))
	switch {
	case len(settings) > 0 && version != "":
		return of(SettingsChanged, "%s; and Kubernetes %s: which of them does it only the same settings tell; %s", strings.Join(settings, ", "), version, said)
	case len(settings) > 0:
		return of(SettingsChanged, "%s; %s", strings.Join(settings, ", "), said)
	case version != "":
		return of(KubernetesChanged, "%s, as its source says; %s", version, said)
	}
	return of(ModelChanged, "neither the settings nor the version differ; %s", said)
}

func word(e Entry) string {
	if e.Verdict == "" {
		return "not there"
	}
	return string(e.Verdict)
}

// told is an answer with its times, in which alone two may differ.
func told(a *Answer) string {
	if a == nil {
		return "nothing"
	}
	s := fmt.Sprintf("%s within %gs", a, a.Seconds)
	if t := a.Taint; t != nil {
		s += fmt.Sprintf(", first taint from %gs on", t.Earliest)
	}
	return s
}
