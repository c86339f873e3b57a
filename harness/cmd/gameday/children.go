package main

import (
	"maps"

	"gameday/faults/mechanism/child"
	"gameday/harness/run"
	"gameday/harness/verify"
)

// children are the entry points of the processes that gameday starts of itself.
func children() map[string]child.Func {
	all := run.Children()
	maps.Copy(all, verify.Children(run.OpenCluster))
	return all
}
