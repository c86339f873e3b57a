package sample

import (
	"maps"
	"sync"
	"time"

	"gameday/harness/history"
)

// ledger holds the writes that were acknowledged: what must be on every etcd
// member in the end.
type ledger struct {
	record    *history.Recorder
	namespace string

	mu     sync.Mutex
	acked  map[string]ack // by registry path
	newest int64          // the highest revision acknowledged
}

type ack struct {
	revision int64
	at       time.Time
}

func newLedger(record *history.Recorder, namespace string) *ledger {
	return &ledger{record: record, namespace: namespace, acked: map[string]ack{}}
}

// prefix of the canaries in etcd.
func (l *ledger) prefix() string { return configMaps(l.namespace) }

// configMaps is where those of a namespace are in etcd: kube-apiserver's default
// --etcd-prefix and the path of core/v1 ConfigMaps below it.
func configMaps(namespace string) string { return "/registry/configmaps/" + namespace + "/" }

// key is the registry path of a canary.
func (l *ledger) key(name string) string { return l.prefix() + name }

// add records a write that began at start.
func (l *ledger) add(start time.Time, w history.Write) {
	if w.Outcome == writeOK {
		l.mu.Lock()
		l.acked[w.Key] = ack{w.Revision, time.Now()}
		l.newest = max(l.newest, w.Revision)
		l.mu.Unlock()
	}
	l.record.AddAt(start, history.Event{Write: &w})
}

// of is the acknowledgement of a key, if there was one yet.
func (l *ledger) of(key string) (ack, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.acked[key]
	return a, ok
}

// last is the highest revision that was acknowledged.
func (l *ledger) last() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}

// all is a copy of the acknowledged keys and their revisions.
func (l *ledger) all() map[string]ack {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.acked)
}
