package run

import (
	"maps"

	"gameday/faults"
	"gameday/faults/mechanism/child"
	"gameday/harness/inject"
)

// Children are the entry points of the processes that a run starts of itself.
// main, and TestMain of a suite that runs scenarios, give them to child.Main
// first thing.
func Children() map[string]child.Func {
	all := faults.Children()
	maps.Copy(all, map[string]child.Func{inject.GuardEntry: inject.Guarding(OpenCluster)})
	return all
}
