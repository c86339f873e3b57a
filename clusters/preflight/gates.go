package preflight

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// gateList is what became of feature gates, in lines "MINOR gone NAME" and "MINOR
// locked VALUE NAME".
//
//go:embed gates.txt
var gateList string

// gateFate is the minor version in which a gate is known no more, and from which it
// can only be set to one value; 0: not yet.
type gateFate struct {
	gone, locked int
	to           string
}

var gateFates = sync.OnceValues(func() (map[string]gateFate, error) {
	out := map[string]gateFate{}
	for line := range strings.Lines(gateList) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		var x int
		if _, err := fmt.Sscan(words[0], &x); err != nil {
			return nil, fmt.Errorf("gates.txt: %q: %w", line, err)
		}
		name := words[len(words)-1]
		f := out[name]
		switch {
		case len(words) == 3 && words[1] == "gone":
			f.gone = x
		case len(words) == 4 && words[1] == "locked":
			f.locked, f.to = x, words[2]
		default:
			return nil, fmt.Errorf("gates.txt: %q is neither of both", line)
		}
		out[name] = f
	}
	return out, nil
})

// gates looks for feature gates that the target does not know, or no more takes the
// value of: a component with one does not start.
func gates(f *Facts) []Finding {
	const source = "k8s.io/component-base@v0.37.0 featuregate/feature_gate.go, and versioned_feature_list.yaml of k8s.io/kubernetes"
	target, _ := minor(f.To)
	fates, err := gateFates()
	if err != nil {
		return []Finding{{Severity: Unknown, What: err.Error()}}
	}
	set := f.gatesSet()
	var out []Finding
	var unlisted []string
	for _, gate := range slices.Sorted(maps.Keys(set)) {
		for _, value := range slices.Sorted(maps.Keys(set[gate])) {
			where := set[gate][value]
			fate := fates[gate]
			switch {
			case fate.gone != 0 && fate.gone <= target:
				out = append(out, Finding{
					Severity: Blocks, What: fmt.Sprintf("feature gate %s is not known to %s, and what sets it does not start", gate, release(target)),
					Where: where, Removed: release(fate.gone), Mend: "take it out", Source: source,
				})
			case fate.locked != 0 && fate.locked <= target && fate.to != value:
				out = append(out, Finding{
					Severity: Blocks, What: fmt.Sprintf("feature gate %s can only be %s in %s, and what sets it to %s does not start", gate, fate.to, release(target), value),
					Where: where, Removed: release(fate.locked), Mend: "take it out", Source: source,
				})
			case target > heldMinor:
				unlisted = append(unlisted, gate)
			}
		}
	}
	if len(unlisted) > 0 {
		out = append(out, Finding{
			Severity: Unknown, What: fmt.Sprintf("whether %s knows these feature gates is not known", release(target)), Where: slices.Compact(unlisted),
			Mend: "look them up", Source: "https://kubernetes.io/docs/reference/command-line-tools-reference/feature-gates-removed/",
		})
	}
	return out
}

// gatesSet is where each gate is set, by gate and value.
func (f *Facts) gatesSet() map[string]map[string][]string {
	out := map[string]map[string][]string{}
	add := func(gate, value, where string) {
		if out[gate] == nil {
			out[gate] = map[string][]string{}
		}
		if !slices.Contains(out[gate][value], where) {
			out[gate][value] = append(out[gate][value], where)
		}
	}
	for _, s := range f.Settings {
		all, _ := s.Values["featureGates"].(map[string]any)
		for gate, value := range all {
			add(gate, fmt.Sprint(value), s.Where)
		}
	}
	args := func(args []string, where string) {
		list, _ := flagOf(args, "feature-gates")
		for pair := range strings.SplitSeq(list, ",") {
			if gate, value, ok := strings.Cut(pair, "="); ok {
				add(gate, value, where)
			}
		}
	}
	for _, c := range f.Components {
		args(c.Args, "Pod kube-system/"+c.Pod)
	}
	for _, fl := range f.Flags {
		args(fl.Args, fl.Node+":"+fl.File)
	}
	return out
}
