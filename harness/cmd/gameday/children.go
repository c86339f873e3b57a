package main

import "gameday/faults/mechanism/child"

// children are the entry points of the processes that gameday starts of itself.
func children() map[string]child.Func {
	return map[string]child.Func{}
}
