package sample

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gameday/clusters"
	"gameday/harness/history"
)

func newRecord(t *testing.T) (*history.Recorder, func() *history.History) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "history.jsonl")
	r, err := history.Create(path, history.Run{ID: "r1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, func() *history.History {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		h, err := history.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
}

// TestWatcher plays an API server that ends a watch, forgets the history, and
// then goes on.
func TestWatcher(t *testing.T) {
	g := newTarget(t)
	event := func(kind, name string, rev int) string {
		return fmt.Sprintf(`{"type":%q,"object":{"metadata":{"name":%q,"resourceVersion":"%d"}}}`+"\n", kind, name, rev)
	}
	var mu sync.Mutex
	var asked []string
	play := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Query().Get("watch")+" "+r.URL.Query().Get("resourceVersion"))
		n := len(asked)
		mu.Unlock()
		if r.URL.Query().Get("watch") == "" {
			fmt.Fprintf(w, `{"metadata":{"resourceVersion":"%d"}}`, map[int]int{1: 10, 5: 40}[n])
			return
		}
		switch n {
		case 2:
			fmt.Fprint(w, event("ADDED", "c4-1", 11), event("ADDED", "kube-root-ca.crt", 12), event("DELETED", "c4-0", 13), event("BOOKMARK", "", 15))
		case 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 4:
			fmt.Fprint(w, `{"type":"ERROR","object":{"kind":"Status","metadata":{},"message":"too old resource version: 15 (39)","reason":"Expired","code":410}}`+"\n")
		default:
			fmt.Fprint(w, event("ADDED", "c4-2", 41))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
	h := http.HandlerFunc(play)
	g.handler.Store(&h)
	record, load := newRecord(t)
	l := newLedger(record, "ns")
	l.add(time.Now(), history.Write{Key: l.key("c4-1"), Outcome: writeOK, Revision: 11})
	w, err := newWatcher(clusters.Endpoint{Name: "cp0", Config: g.config()}, "r1", l)
	if err != nil {
		t.Fatal(err)
	}
	if w.trouble() == "" {
		t.Error("a watch that was never opened is well")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); w.run(ctx) }()
	for w.past() < 41 && ctx.Err() == nil {
		pause(5 * time.Millisecond)
	}
	if why := w.trouble(); why != "" {
		t.Errorf("an open watch that just saw something: %s", why)
	}
	cancel()
	<-done
	if d := cmp.Diff([]string{" ", "true 10", "true 15", "true 15", " ", "true 40"}, asked); d != "" {
		t.Errorf("asked (-want +got):\n%s", d)
	}
	hist := load()
	want := []history.Watch{
		{Endpoint: "cp0", State: "opened", Revision: 10},
		{Endpoint: "cp0", State: "event", Revision: 11, Key: "/registry/configmaps/ns/c4-1"},
		{Endpoint: "cp0", State: "closed", Revision: 15, Err: "closed: EOF"},
		{Endpoint: "cp0", State: "failed", Revision: 15, Err: "503"},
		{Endpoint: "cp0", State: "opened", Revision: 15},
		{Endpoint: "cp0", State: "closed", Revision: 15, Err: "410: too old resource version: 15 (39)"},
		{Endpoint: "cp0", State: "opened", Revision: 40},
		{Endpoint: "cp0", State: "event", Revision: 41, Key: "/registry/configmaps/ns/c4-2"},
	}
	var got []history.Watch
	for _, w := range hist.Watches {
		got = append(got, w.V)
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(history.Watch{}, "Delay")); d != "" {
		t.Errorf("recorded (-want +got):\n%s", d)
	}
	if hist.Watches[1].V.Delay <= 0 || hist.Watches[7].V.Delay != 0 {
		t.Errorf("delays: %+v", hist.Watches)
	}
	if len(hist.Gaps) != 1 || hist.Gaps[0].V.Source != "watch/canary/cp0" {
		t.Errorf("gaps: %+v", hist.Gaps)
	}
}

// What a watch that records everything makes of each event.
func TestWatcherRecordsAll(t *testing.T) {
	record, load := newRecord(t)
	w := &watcher{endpoint: "cp0", record: record, ledger: newLedger(record, "ns"), all: true}
	for i, e := range []struct{ kind, name string }{{"ADDED", "shared-0-1"}, {"MODIFIED", "shared-0-1"}, {"BOOKMARK", ""}, {"DELETED", "c4-0"}} {
		var one watchEvent
		one.Type, one.Object.Metadata.Name, one.Object.Metadata.ResourceVersion = e.kind, e.name, fmt.Sprint(11+i)
		if err := w.take(one); err != nil {
			t.Fatal(err)
		}
	}
	var got []history.Watch
	for _, w := range load().Watches {
		got = append(got, w.V)
	}
	if d := cmp.Diff([]history.Watch{
		{Endpoint: "cp0", State: "event", Revision: 11, Key: "/registry/configmaps/ns/shared-0-1"},
		{Endpoint: "cp0", State: "event", Type: "MODIFIED", Revision: 12, Key: "/registry/configmaps/ns/shared-0-1"},
		{Endpoint: "cp0", State: "bookmark", Revision: 13},
		{Endpoint: "cp0", State: "event", Type: "DELETED", Revision: 14, Key: "/registry/configmaps/ns/c4-0"},
	}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestWriteSeries takes one write through each kind of answer.
func TestWriteSeries(t *testing.T) {
	g := newTarget(t)
	record, load := newRecord(t)
	s, err := newSeries(4, kind{verb: verbWrite, conn: connReused}, pace{}, clusters.Endpoint{Name: "lb", Config: g.config()}, "r1", newLedger(record, "ns"))
	if err != nil {
		t.Fatal(err)
	}
	var seen []*http.Request
	answerWith := func(code int, body string) {
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, r)
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		})
		g.handler.Store(&h)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	step := func(want string) {
		t.Helper()
		if a := s.once(ctx); (a.Err == "") != (want == writeOK) || a.AuditID == "" {
			t.Errorf("%s: answer %+v", want, a)
		}
	}
	answerWith(201, `{"metadata":{"name":"c4-1","resourceVersion":"17"}}`)
	step(writeOK)
	answerWith(201, `{}`)
	step("no revision")
	answerWith(403, `{"reason":"Forbidden","message":"no"}`)
	step(writeFail)
	answerWith(500, `{"message":"etcdserver: request timed out"}`)
	step(writeUnknown)
	g.raw.Close()
	g.killConns()
	step("gone")
	h := load()
	var got []string
	for _, w := range h.Writes {
		got = append(got, fmt.Sprintf("%s %s %d %s", w.V.Key, w.V.Outcome, w.V.Revision, w.V.Err))
	}
	// The last one met a reset connection or none at all: it may be either.
	if len(got) != 5 || h.Writes[4].V.Outcome == writeOK {
		t.Fatalf("writes: %q", got)
	}
	if d := cmp.Diff([]string{
		"/registry/configmaps/ns/c4-1 ok 17 ",
		`/registry/configmaps/ns/c4-2 unknown 0 other: the answer to a write has no revision: strconv.ParseInt: parsing "": invalid syntax`,
		"/registry/configmaps/ns/c4-3 fail 0 403 Forbidden: no",
		"/registry/configmaps/ns/c4-4 unknown 0 500: etcdserver: request timed out",
	}, got[:4]); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := len(s.ledger.all()); n != 1 || s.ledger.last() != 17 {
		t.Errorf("%d acknowledged, last %d", n, s.ledger.last())
	}
	r := seen[0]
	if r.Method != http.MethodPost || r.URL.Path != "/api/v1/namespaces/ns/configmaps" || r.Header.Get("Audit-ID") != "gameday-r1-4-1" || r.UserAgent() == "" {
		t.Errorf("request %s %s %v", r.Method, r.URL, r.Header)
	}
	if r.ProtoMajor != 2 {
		t.Errorf("a reused connection speaks %s", r.Proto)
	}
}
