package mechanism

import (
	"context"
	"encoding/json"
	"time"

	"gameday/faults/mechanism/cgroup"
	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/cut"
	"gameday/faults/mechanism/late"
	"gameday/faults/mechanism/loopdisk"
	"gameday/faults/mechanism/slowfsync"
)

// entries are the processes that specs start, to kill them.
var entries = map[string]child.Func{
	"cutter":            cutter,
	"echoer":            echoer,
	"burner":            burner,
	"syncer":            syncer,
	"stubborn":          stubborn,
	"slower":            slower,
	"timekeeper":        timekeeper,
	cgroup.Child:        cgroup.Run,
	cgroup.HoardChild:   cgroup.RunHoard,
	"frozen-disk":       frozenDisk,
	loopdisk.Child:      loopdisk.Run,
	late.Child:          late.Run,
	slowfsync.FailChild: slowfsync.RunFailing,
	slowfsync.Child:     slowfsync.Run,
}

type cutterArgs struct {
	Tag, NetNS string
	Pairs      []cut.Pair
	TTL        time.Duration
}

// cutter cuts and keeps the cut. A call refreshes it.
func cutter(ctx context.Context, c *child.Conn) error {
	var args cutterArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	x, err := cut.Open(args.Tag, args.NetNS)
	if err != nil {
		return err
	}
	if err := x.Set(args.Pairs, args.TTL); err != nil {
		return err
	}
	if err := c.Ready(nil); err != nil {
		return err
	}
	if err := c.Serve(ctx, func(json.RawMessage) (any, error) { return nil, x.Refresh(args.TTL) }); err != nil {
		return err
	}
	return x.Close()
}
