package sample

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"gameday/clusters"
	"gameday/harness/history"
)

// Way is a kind of series as it is sampled somewhere: what it asks for, on which
// connections, and how often.
type Way struct {
	Verb, Conn string
	// Where the series is sampled so: lb or direct.
	Where string
	// Period between samples while all is well, Fast while it is not; Suspect is
	// how long an answer may be missing until that counts as not well, 0: until
	// the Deadline.
	Period, Fast, Suspect, Deadline time.Duration

	kind kind
	pace pace
}

// Ways are all that a run samples, the densest first.
func Ways() []Way {
	var out []Way
	for _, k := range kinds {
		for _, at := range []struct {
			where string
			pace  pace
		}{{"lb", k.lb}, {"direct", k.direct}} {
			if p := at.pace; p.Period > 0 {
				out = append(out, Way{k.verb, k.conn, at.where, p.Period, p.Fast, p.Suspect, p.Deadline, k, p})
			}
		}
	}
	return out
}

// Rehearsal samples endpoints that are no cluster's as a run samples a cluster's:
// with the same client, schedule, classification of answers and record. It is how
// the samplers are tried on outages that are known.
type Rehearsal struct {
	record  *history.Recorder
	ledger  *ledger
	restore func() error
}

// Rehearse begins a rehearsal, at the priority that the samplers have in a run if
// this process may have it. Close ends it.
func Rehearse(record *history.Recorder) *Rehearsal {
	r := &Rehearsal{record: record, ledger: newLedger(record, canaries("rehearsal"))}
	if restore, err := prioritise(samplerNice); err == nil {
		r.restore = restore
	} // what a lower priority costs is in the lateness of the samples
	return r
}

// Close gives the process its old priority back.
func (r *Rehearsal) Close() error {
	if r.restore == nil {
		return nil
	}
	return r.restore()
}

// Sample samples an endpoint as series id until schedule ends and the samples in
// flight have come to their ends.
func (r *Rehearsal) Sample(schedule context.Context, id int, w Way, e clusters.Endpoint) error {
	one, err := newSeries(id, w.kind, w.pace, e, "rehearsal", r.ledger)
	if err != nil {
		return fmt.Errorf("series of a rehearsal: %w", err)
	}
	r.record.Add(history.Event{Series: &one.decl})
	p := newProber(id, one.pace, one.once, func(start time.Time, s history.Sample) {
		r.record.AddAt(start, history.Event{Sample: &s})
	})
	p.run(schedule, context.WithoutCancel(schedule), 0)
	(&http.Client{Transport: one.rt}).CloseIdleConnections()
	return nil
}
