package sample

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func TestCompareAcknowledged(t *testing.T) {
	acked := map[string]ack{"/a": {revision: 1}, "/b": {revision: 2}, "/c": {revision: 3}, "/d": {revision: 4}}
	read, missing := compare(acked, map[string]int64{"/a": 1, "/c": 9, "/d": 4, "/unknown-outcome": 5})
	if d := cmp.Diff([]string{"/b", "/c (created at revision 9, acknowledged at 3)"}, missing); read != 2 || d != "" {
		t.Errorf("read %d, (-want +got):\n%s", read, d)
	}
	many := map[string]ack{}
	for i := range 3 * maxMissing {
		many[strings.Repeat("x", i)] = ack{}
	}
	if read, missing := compare(many, nil); read != 0 || len(missing) != maxMissing {
		t.Errorf("read %d, %d missing", read, len(missing))
	}
}

func TestDiffer(t *testing.T) {
	there := []*mvccpb.KeyValue{{Key: []byte("/a"), ModRevision: 3}, {Key: []byte("/b"), ModRevision: 4}}
	tests := []struct {
		name  string
		known map[string]int64
		same  bool
	}{
		{"same", map[string]int64{"/a": 3, "/b": 4}, true},
		{"one is old", map[string]int64{"/a": 3, "/b": 2}, false},
		{"one is not known", map[string]int64{"/a": 3}, false},
		{"one is gone", map[string]int64{"/a": 3, "/b": 4, "/c": 1}, false},
	}
	for _, tt := range tests {
		if got := differ(tt.known, there); (got == "") != tt.same {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}
