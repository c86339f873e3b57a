package sample

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"gameday/harness/history"
)

const (
	// changesEvery is how often the changes seen are put into the record, and
	// changesAtOnce how many are not kept back any longer.
	changesEvery  = 5 * time.Second
	changesAtOnce = 256
	// changesSource as in history.Gap.
	changesSource = "watch/changes"
)

// changes records what etcd itself tells of the canaries' namespace: each key and
// revision, which is what the watches through the API servers must tell, too.
type changes struct {
	cli    *clientv3.Client
	record *history.Recorder
	prefix string

	mu   sync.Mutex
	from int64 // the revision after which list begins
	to   int64 // up to which all is known
	list []history.Change
}

func (c *changes) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { c.flushes(ctx) })
	next := int64(0) // the revision to go on from; 0: from etcd's present
	lost := c.record.Now()
	for ctx.Err() == nil {
		var err error
		if next == 0 {
			next, err = c.begin(ctx, lost)
		}
		if err == nil {
			next, err = c.watch(ctx, next)
		}
		if errors.Is(err, rpctypes.ErrCompacted) {
			next, lost = 0, c.record.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchRetry):
		}
	}
}

// begin asks for the revision to go on from. What there was since the one that was
// known is lost.
func (c *changes) begin(ctx context.Context, lost time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, listFor)
	defer cancel()
	resp, err := c.cli.Get(ctx, c.prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	c.flush()
	c.mu.Lock()
	again := c.to > 0
	c.from, c.to = resp.Header.Revision, resp.Header.Revision
	c.mu.Unlock()
	if again {
		c.record.Add(history.Event{Gap: &history.Gap{
			Source: changesSource, From: lost, To: c.record.Now(), Reason: "etcd's history since then was compacted before it was read",
		}})
	}
	return resp.Header.Revision + 1, nil
}

func (c *changes) watch(ctx context.Context, next int64) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A member without a leader ends the watch, so that it goes on at another.
	for resp := range c.cli.Watch(clientv3.WithRequireLeader(ctx), c.prefix, clientv3.WithPrefix(), clientv3.WithRev(next)) {
		if err := resp.Err(); err != nil {
			return next, err
		}
		c.take(resp.Events)
		if n := len(resp.Events); n > 0 {
			next = resp.Events[n-1].Kv.ModRevision + 1
		}
	}
	return next, ctx.Err()
}

// take keeps the events of an answer, which holds all of its revisions whole.
func (c *changes) take(events []*clientv3.Event) {
	c.mu.Lock()
	for _, e := range events {
		one := history.Change{Revision: e.Kv.ModRevision, Key: strings.TrimPrefix(string(e.Kv.Key), c.prefix)}
		switch {
		case e.Type == clientv3.EventTypeDelete:
			one.Type = "DELETED"
		case !e.IsCreate():
			one.Type = "MODIFIED"
		}
		c.list = append(c.list, one)
		c.to = e.Kv.ModRevision
	}
	full := len(c.list) >= changesAtOnce
	c.mu.Unlock()
	if full {
		c.flush()
	}
}

func (c *changes) flushes(ctx context.Context) {
	tick := time.NewTicker(changesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.flush()
			return
		case <-tick.C:
			c.flush()
		}
	}
}

// flush puts what is known into the record.
func (c *changes) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.to == c.from {
		return
	}
	c.record.Add(history.Event{Changes: &history.Changes{From: c.from, To: c.to, List: c.list}})
	c.from, c.list = c.to, nil
}

// verify waits until the last change of any object that is there is known.
func (c *changes) verify(ctx context.Context) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	began, why := c.record.Now(), ""
	for {
		resp, err := c.cli.Get(ctx, c.prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(1),
			clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend))
		if err == nil {
			c.mu.Lock()
			to := c.to
			c.mu.Unlock()
			if len(resp.Kvs) == 0 || to >= resp.Kvs[0].ModRevision {
				return
			}
			why = fmt.Sprintf("known up to revision %d of %d", to, resp.Kvs[0].ModRevision)
		} else if ctx.Err() == nil || why == "" {
			why = rpcError(err)
		}
		select {
		case <-ctx.Done():
			c.record.Add(history.Event{Gap: &history.Gap{
				Source: changesSource, From: began, To: c.record.Now(), Reason: "the record could not be shown to reach etcd's present: " + why,
			}})
			return
		case <-tick.C:
		}
	}
}
