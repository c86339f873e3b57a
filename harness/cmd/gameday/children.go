package main

import (
	"gameday/faults/mechanism/child"
	"gameday/harness/run"
)

// children are the entry points of the processes that gameday starts of itself.
func children() map[string]child.Func { return run.Children() }
