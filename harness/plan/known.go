package plan

import (
	"gameday/clusters/upgrade"
	"gameday/faults"
	"gameday/harness/slo"
	"gameday/scenarios"
)

// Known are the catalogues of this program.
func Known() scenarios.Known {
	k := scenarios.Known{Faults: faults.Catalogue(), Strategies: upgrade.Catalogue()}
	for _, s := range slo.Catalogue() {
		k.SLOs = append(k.SLOs, scenarios.SLOKind{Name: s.Name, Doc: s.Doc, New: func() any { return s.New() }})
	}
	return k
}
