package sample

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"gameday/harness/history"
)

func TestChanges(t *testing.T) {
	record, load := newRecord(t)
	c := &changes{record: record, prefix: configMaps("ns"), from: 10, to: 10}
	event := func(kind mvccpb.Event_EventType, name string, created, modified int64) *clientv3.Event {
		return &clientv3.Event{Type: kind, Kv: &mvccpb.KeyValue{Key: []byte(configMaps("ns") + name), CreateRevision: created, ModRevision: modified}}
	}
	c.flush() // nothing yet
	c.take([]*clientv3.Event{event(clientv3.EventTypePut, "a", 12, 12), event(clientv3.EventTypePut, "a", 12, 13)})
	c.flush()
	c.flush()
	c.take([]*clientv3.Event{event(clientv3.EventTypeDelete, "a", 0, 20)})
	c.take(nil)
	c.flush()
	for rev := int64(30); rev < 30+changesAtOnce; rev++ { // too many to wait with
		c.take([]*clientv3.Event{event(clientv3.EventTypePut, "b", 30, rev)})
	}
	h := load()
	if len(h.Changes) != 3 {
		t.Fatalf("%+v", h.Changes)
	}
	if d := cmp.Diff([]history.Changes{
		{From: 10, To: 13, List: []history.Change{{Revision: 12, Key: "a"}, {Revision: 13, Key: "a", Type: "MODIFIED"}}},
		{From: 13, To: 20, List: []history.Change{{Revision: 20, Key: "a", Type: "DELETED"}}},
	}, []history.Changes{h.Changes[0].V, h.Changes[1].V}); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if last := h.Changes[2].V; last.From != 20 || last.To != 29+changesAtOnce || len(last.List) != changesAtOnce {
		t.Errorf("from %d to %d: %d", last.From, last.To, len(last.List))
	}
}
