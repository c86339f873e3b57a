package faults

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

func TestOverloadParameters(t *testing.T) {
	for _, tc := range []struct {
		rate, concurrency int
		resource          string
		bad               int
	}{
		{100, 20, "pods", 0}, {20, 20, "events", 0}, {10, 20, "pods", 1}, {100, 3, "pods", 1}, {5000, 20, "pods", 1}, {100, 20, "secrets", 1},
	} {
		if errs := (&Overload{Rate: tc.rate, Concurrency: tc.concurrency, Resource: tc.resource}).Validate(); len(errs) != tc.bad {
			t.Errorf("%+v: %v", tc, errs)
		}
	}
}

func TestParseLevel(t *testing.T) {
	const dump = "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, DispatchedRequests, RejectedRequests, TimedoutRequests, CancelledRequests\n" +
		"exempt,            0,            false,  false,       0,               1,                 3140,  0,                0,                0\n" +
		"gameday-x,         1,            false,  false,       4,               3,                 17,    230,              0,                0\n"
	l, ok, err := parseLevel(dump, "gameday-x")
	if err != nil || !ok || l != (level{waiting: 4, executing: 3, dispatched: 17, rejected: 230}) {
		t.Errorf("got %+v, %v, %v", l, ok, err)
	}
	if _, ok, err := parseLevel(dump, "gameday-y"); ok || err != nil {
		t.Errorf("an unknown one: got %v, %v", ok, err)
	}
	for _, bad := range []string{"", "a, b\nx, 1, 2\n", "PriorityLevelName, Else\ngameday-x, 1\n"} {
		if _, _, err := parseLevel(bad, "gameday-x"); err == nil {
			t.Errorf("%q was understood", bad)
		}
	}
}

// A storm keeps to its rate, to its concurrency though nobody answers, and to its time.
func TestStormIsBounded(t *testing.T) {
	var got, now, most atomic.Int64
	hang := make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got.Add(1)
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		if r.Header.Get("Impersonate-User") != "gameday:x" {
			t.Errorf("as %q", r.Header.Get("Impersonate-User"))
		}
		if r.URL.Path == "/hang" {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	defer close(hang)
	cfg := &rest.Config{Host: s.URL, TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
	}}
	for path, want := range map[string][2]int64{"/quick": {30, 70}, "/hang": {10, 20}} {
		got.Store(0)
		most.Store(0)
		storm, err := newStorm(t.Context(), cfg, "gameday:x", 500*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		storm.blow(path, 100, 10)
		if n := got.Load(); n < want[0] || n > want[1] {
			t.Errorf("%s: %d requests in 0.5 s at 100 a second", path, n)
		}
		if n := most.Load(); n > 20 { // what was given up may be counted a moment longer
			t.Errorf("%s: %d at once", path, n)
		}
		select {
		case <-storm.done:
		default:
			t.Error("it does not say that it has ended")
		}
	}
}
