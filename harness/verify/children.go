package verify

import (
	"gameday/faults"
	"gameday/faults/mechanism/child"
	"gameday/harness/inject"
)

// Children are the entry points of the processes that a verification starts of
// itself beside those of a run, for child.Main.
func Children(open inject.Open) map[string]child.Func {
	return map[string]child.Func{VictimEntry: Victim(faults.Catalogue(), open)}
}
