package run

import (
	"context"
	"time"

	"gameday/harness/gate"
	"gameday/harness/history"
)

// wait looks until ready says "" (else why not), within the bound. It says once
// what it waits for, and for how long at most.
func (r *runner) wait(ctx context.Context, what string, bound time.Duration, ready func(context.Context) string) error {
	r.say("waiting <= %s for %s", bound, what)
	return gate.Wait(ctx, what, bound, ready)
}

// looking is a gate's look that records its first answer and the first that all
// is well, or is not any more. One that its ctx ended saw nothing.
func (r *runner) looking(name string, back time.Duration, look func(context.Context) string) func(context.Context) string {
	first, well := true, false
	return func(ctx context.Context) string {
		start := time.Now()
		why := look(ctx)
		if ctx.Err() == nil && (first || well != (why == "")) {
			l := history.Look{Gate: name, Took: time.Since(start), Why: why}
			if why == "" {
				l.Back = back
			}
			r.rec.AddAt(start, history.Event{Look: &l})
			first, well = false, why == ""
		}
		return why
	}
}

// steady shows that all is well: every sampler good for the window, every node
// Ready and schedulable at the version, every etcd member a healthy voter,
// every promised pod ready.
func (r *runner) steady(ctx context.Context, window time.Duration, version string) string {
	if ok, why := r.samplers.Steady(window); !ok {
		return why
	}
	if why := gate.Nodes(ctx, r.client, r.cluster.Nodes(), version); why != "" {
		return why
	}
	if why := gate.Etcd(ctx, r.cluster); why != "" {
		return why
	}
	return r.workload.Unready(ctx)
}
