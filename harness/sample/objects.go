package sample

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gameday/clusters"
	"gameday/harness/history"
)

const (
	// listFor bounds the reading of a page of a collection from etcd, listPage is
	// how many objects that holds: ten thousand pods at once would be some hundred MB.
	listFor  = 5 * time.Second
	listPage = 500
	// reconnect is how often a connection to etcd that waits out its back-off
	// is told to try again. gRPC's own waits grow to two minutes
	// (google.golang.org/grpc/backoff.DefaultConfig): a member that is back
	// would go unseen for as long.
	reconnect = time.Second
)

// componentPromises are the SLOs that need the states of kube-system.
var componentPromises = []string{"components", "logs", "convergence", "evictions"}

// logPromises are those that need their logs.
var logPromises = []string{"components", "logs"}

// objects records the states of pods, jobs, cronjobs and nodes, and if a promise
// needs them those of kube-system's pods and leases, and of endpoints.
//
// It reads them from etcd's own history instead of through an API server:
// etcd's watch can be resumed at any revision of the last five minutes
// (kube-apiserver's --etcd-compaction-interval), whatever happened to the API
// servers, while an API server that was restarted answers 410 to a watch that is
// older than its cache (k8s.io/apiserver@v0.37.0
// pkg/storage/cacher/watch_cache.go, getAllEventsSinceLocked), which an upgrade
// does to all of them.
type objects struct {
	cli    *clientv3.Client
	tracks []tracker
}

// tracker follows one collection.
type tracker interface {
	run(ctx context.Context)
	verify(ctx context.Context)
}

func newObjects(ctx context.Context, cfg Config, logs *logKeeper, b *beacons) (*objects, error) {
	cli, err := clusters.EtcdClient(ctx, cfg.Cluster)
	if err != nil {
		return nil, fmt.Errorf("record objects: %w", err)
	}
	// A node that an upgrade has removed was in the place that it is known by.
	places := map[string]string{}
	place := func(name string) string {
		if n := node(cfg.Cluster, name); n != nil {
			places[name] = clusters.Place(n)
		}
		return places[name]
	}
	ns := cfg.Namespace
	evictions := cfg.serves("evictions")
	o := &objects{cli: cli, tracks: []tracker{
		&track[history.Pod]{
			cli: cli, record: cfg.Record, source: "watch/pods", prefix: "/registry/pods/" + ns + "/",
			decode: func(raw []byte) (history.Pod, error) {
				p, err := decodePod(raw)
				if !evictions {
					p.Tolerations = nil
				}
				return p, err
			},
			event: func(p history.Pod, rev int64, deleted bool) history.Event {
				p.Revision, p.Deleted = rev, deleted
				if b != nil {
					b.seen(p)
				}
				return history.Event{Pod: &p}
			},
		},
		&track[history.Job]{
			cli: cli, record: cfg.Record, source: "watch/jobs", prefix: "/registry/jobs/" + ns + "/",
			decode: decodeJob,
			event: func(j history.Job, rev int64, deleted bool) history.Event {
				j.Revision, j.Deleted = rev, deleted
				return history.Event{Job: &j}
			},
		},
		&track[history.CronJob]{
			cli: cli, record: cfg.Record, source: "watch/cronjobs", prefix: "/registry/cronjobs/" + ns + "/",
			decode: decodeCronJob,
			event: func(c history.CronJob, _ int64, deleted bool) history.Event {
				c.Deleted = deleted
				return history.Event{CronJob: &c}
			},
		},
		&track[history.Node]{
			cli: cli, record: cfg.Record, source: "watch/nodes", prefix: "/registry/minions/",
			decode: func(raw []byte) (history.Node, error) { return decodeNode(raw, place) },
			event: func(n history.Node, rev int64, deleted bool) history.Event {
				n.Revision, n.Deleted = rev, deleted
				return history.Event{Node: &n}
			},
		},
	}}
	if cfg.serves(promiseWatches) {
		o.tracks = append(o.tracks, &changes{cli: cli, record: cfg.Record, prefix: configMaps(canaries(cfg.Run))})
	}
	if !cfg.serves(logPromises...) {
		logs = nil
	}
	if cfg.serves(componentPromises...) {
		o.tracks = append(o.tracks, componentTracks(cli, cfg.Record, logs)...)
	}
	if cfg.serves("service.availability") {
		// The workload's Services, and the cluster's DNS.
		for _, prefix := range []string{ns + "/", metav1.NamespaceSystem + "/kube-dns-"} {
			o.tracks = append(o.tracks, &track[history.Endpoints]{
				cli: cli, record: cfg.Record, source: "watch/endpoints", prefix: "/registry/endpointslices/" + prefix,
				decode: decodeEndpoints,
				event: func(e history.Endpoints, rev int64, deleted bool) history.Event {
					e.Revision, e.Deleted = rev, deleted
					return history.Event{Endpoints: &e}
				},
			})
		}
	}
	return o, nil
}

func (o *objects) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, t := range o.tracks {
		all.Go(func() { t.run(ctx) })
	}
	tick := time.NewTicker(reconnect)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			o.cli.ActiveConnection().ResetConnectBackoff()
		}
	}
	all.Wait()
}

// verify compares what was recorded with etcd's present. Where they do not meet
// before ctx ends it records a Gap.
func (o *objects) verify(ctx context.Context) {
	var all sync.WaitGroup
	for _, t := range o.tracks {
		all.Go(func() { t.verify(ctx) })
	}
	all.Wait()
}

func (o *objects) close() error { return o.cli.Close() }

// track follows the objects below one prefix and records each change of what T
// holds of them.
type track[T any] struct {
	cli    *clientv3.Client
	record *history.Recorder
	// source as in history.Gap.
	source, prefix string
	decode         func(raw []byte) (T, error)
	event          func(v T, revision int64, deleted bool) history.Event

	mu   sync.Mutex
	have map[string]entry[T] // by key
	all  bool                // the collection was read to its end
	last time.Duration       // when anything came from etcd the last time
}

type entry[T any] struct {
	revision int64
	value    T
}

func (t *track[T]) run(ctx context.Context) {
	next := int64(0) // the revision to go on from; 0: read the whole collection
	for ctx.Err() == nil {
		var err error
		if next == 0 {
			next, err = t.list(ctx)
		}
		if err == nil {
			next, err = t.watch(ctx, next)
		}
		if errors.Is(err, rpctypes.ErrCompacted) {
			next = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchRetry):
		}
	}
}

// list reads the whole collection and returns the revision to watch from. If it
// was known before, what happened in between is not: a Gap.
func (t *track[T]) list(ctx context.Context) (int64, error) {
	t.mu.Lock()
	again, since := t.all, t.last
	if t.have == nil {
		t.have = map[string]entry[T]{}
	}
	t.mu.Unlock()
	now := map[string]bool{}
	revision := int64(0) // of the first page: all are read as they were then
	for from, more := t.prefix, true; more; {
		resp, err := t.page(ctx, from, revision)
		if err != nil {
			return 0, err
		}
		if revision == 0 {
			revision = resp.Header.Revision
			if again {
				t.gap(since, "etcd's history since then was compacted before it was read")
			}
		}
		for _, kv := range resp.Kvs {
			now[string(kv.Key)] = true
			t.put(kv)
			from = string(kv.Key) + "\x00"
		}
		more = resp.More
	}
	for key := range t.revisions() {
		if !now[key] {
			t.remove(key, revision)
		}
	}
	t.mu.Lock()
	t.all = true
	t.mu.Unlock()
	t.seen()
	return revision + 1, nil
}

// page reads some of the collection, from a key on, as it was at a revision (0: as
// it is).
func (t *track[T]) page(ctx context.Context, from string, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, listFor)
	defer cancel()
	return t.cli.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(t.prefix)), clientv3.WithLimit(listPage), clientv3.WithRev(revision))
}

// watch follows the collection from a revision on and returns the one to go on
// from.
func (t *track[T]) watch(ctx context.Context, next int64) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A member without a leader ends the watch, so that it goes on at another.
	for resp := range t.cli.Watch(clientv3.WithRequireLeader(ctx), t.prefix, clientv3.WithPrefix(), clientv3.WithRev(next)) {
		if err := resp.Err(); err != nil {
			return next, err
		}
		for _, e := range resp.Events {
			if e.Type == clientv3.EventTypeDelete {
				t.remove(string(e.Kv.Key), e.Kv.ModRevision)
			} else {
				t.put(e.Kv)
			}
			next = e.Kv.ModRevision + 1
		}
		t.seen()
	}
	return next, ctx.Err()
}

func (t *track[T]) seen() {
	t.mu.Lock()
	t.last = t.record.Now()
	t.mu.Unlock()
}

func (t *track[T]) put(kv *mvccpb.KeyValue) {
	v, err := t.decode(kv.Value)
	t.mu.Lock()
	old, known := t.have[string(kv.Key)]
	if err != nil {
		v = old.value
	}
	t.have[string(kv.Key)] = entry[T]{kv.ModRevision, v}
	t.mu.Unlock()
	if err != nil {
		t.gap(t.record.Now(), fmt.Sprintf("%s at revision %d: %v", kv.Key, kv.ModRevision, err))
		return
	}
	if !known || !reflect.DeepEqual(old.value, v) {
		t.record.Add(t.event(v, kv.ModRevision, false))
	}
}

func (t *track[T]) remove(key string, revision int64) {
	t.mu.Lock()
	old, known := t.have[key]
	delete(t.have, key)
	t.mu.Unlock()
	if known {
		t.record.Add(t.event(old.value, revision, true))
	}
}

func (t *track[T]) gap(from time.Duration, reason string) {
	t.record.Add(history.Event{Gap: &history.Gap{Source: t.source, From: from, To: t.record.Now(), Reason: reason}})
}

// revisions of all objects that are known, by key.
func (t *track[T]) revisions() map[string]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]int64, len(t.have))
	for k, e := range t.have {
		out[k] = e.revision
	}
	return out
}

// verify polls until the objects known are exactly those that a linearizable
// read of etcd gives, revision by revision.
func (t *track[T]) verify(ctx context.Context) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	why := ""
	for {
		resp, err := t.cli.Get(ctx, t.prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err == nil {
			if why = differ(t.revisions(), resp.Kvs); why == "" {
				return
			}
		} else if ctx.Err() == nil || why == "" {
			why = rpcError(err)
		}
		select {
		case <-ctx.Done():
			t.mu.Lock()
			since := t.last
			t.mu.Unlock()
			t.gap(since, "the record could not be shown to reach etcd's present: "+why)
			return
		case <-tick.C:
		}
	}
}

// differ names the first difference between what is known and what is there.
func differ(known map[string]int64, there []*mvccpb.KeyValue) string {
	for _, kv := range there {
		switch rev, ok := known[string(kv.Key)]; {
		case !ok:
			return fmt.Sprintf("%s is not known", kv.Key)
		case rev != kv.ModRevision:
			return fmt.Sprintf("%s is known at revision %d, not %d", kv.Key, rev, kv.ModRevision)
		}
	}
	if len(known) != len(there) {
		return fmt.Sprintf("%d objects are known and %d are there", len(known), len(there))
	}
	return ""
}
