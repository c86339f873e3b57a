package faults

import (
	"gameday/faults/mechanism/cgroup"
	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/late"
	"gameday/faults/mechanism/loopdisk"
	"gameday/faults/mechanism/slowfsync"
)

// Children are the parts of faults that run as processes of their own, for
// child.Main: by name, one line each.
func Children() map[string]child.Func {
	return map[string]child.Func{
		cgroup.Child:        cgroup.Run,
		cgroup.HoardChild:   cgroup.RunHoard,
		loopdisk.Child:      loopdisk.Run,
		late.Child:          late.Run,
		slowfsync.FailChild: slowfsync.RunFailing,
		slowfsync.Child:     slowfsync.Run,
	}
}
