package run

import (
	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/slowfsync"
	"gameday/harness/inject"
)

// Children are the entry points of the processes that a run starts of itself.
// main, and TestMain of a suite that runs scenarios, give them to child.Main
// first thing.
func Children() map[string]child.Func {
	return map[string]child.Func{
		inject.GuardEntry: inject.Guarding(OpenCluster),
		slowfsync.Child:   slowfsync.Run,
	}
}
