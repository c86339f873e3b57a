package sample

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gameday/clusters"
	"gameday/harness/history"
	"gameday/harness/slo"
)

// store serves ConfigMaps as an API server does. Every seventh request fails with
// a 500, before it has its effect or after.
type store struct {
	mu       sync.Mutex
	revision int64
	objects  map[string]*corev1.ConfigMap
	requests int
	// forget makes it break a promise: reads come from a copy that is never
	// brought up to date.
	forget bool
	copies map[string]*corev1.ConfigMap
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if s.requests%14 == 0 {
		refuse(w, http.StatusInternalServerError, "", "etcdserver: request timed out")
		return
	}
	code, object, reason := s.serve(r)
	switch {
	case s.requests%7 == 0:
		refuse(w, http.StatusInternalServerError, "", "etcdserver: request timed out, possibly due to previous leader failure")
	case reason != "":
		refuse(w, code, reason, "no")
	default:
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(object)
	}
}

func (s *store) serve(r *http.Request) (int, *corev1.ConfigMap, metav1.StatusReason) {
	var sent corev1.ConfigMap
	var options metav1.DeleteOptions
	switch r.Method {
	case http.MethodPost, http.MethodPut:
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			return http.StatusBadRequest, nil, metav1.StatusReasonBadRequest
		}
	case http.MethodDelete:
		if err := json.NewDecoder(r.Body).Decode(&options); err != nil || options.Preconditions == nil {
			return http.StatusBadRequest, nil, metav1.StatusReasonBadRequest
		}
		sent.ResourceVersion = *options.Preconditions.ResourceVersion
	}
	name := path.Base(r.URL.Path)
	if r.Method == http.MethodPost {
		name = sent.Name
	}
	have, there := s.objects[name]
	if r.Method == http.MethodGet && s.forget {
		if c := s.copies[name]; c != nil {
			return http.StatusOK, c, ""
		}
		s.copies[name] = have
	}
	switch {
	case r.Method == http.MethodPost && there:
		return http.StatusConflict, nil, metav1.StatusReasonAlreadyExists
	case r.Method != http.MethodPost && !there:
		return http.StatusNotFound, nil, metav1.StatusReasonNotFound
	case r.Method == http.MethodGet:
		return http.StatusOK, have, ""
	case r.Method != http.MethodPost && have.ResourceVersion != sent.ResourceVersion:
		return http.StatusConflict, nil, metav1.StatusReasonConflict
	}
	s.revision++
	if r.Method == http.MethodDelete {
		delete(s.objects, name)
		return http.StatusOK, have, ""
	}
	sent.ResourceVersion = strconv.FormatInt(s.revision, 10)
	s.objects[name] = &sent
	return http.StatusOK, &sent, ""
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(metav1.Status{Reason: reason, Message: message, Code: int32(code)})
}

// operate lets clients act on a store until there are enough operations, and
// judges the record.
func operate(t *testing.T, s *store) (slo.Result, *history.History) {
	t.Helper()
	g := newTarget(t)
	h := http.HandlerFunc(s.ServeHTTP)
	g.handler.Store(&h)
	record, load := newRecord(t)
	all := &shared{record: record, every: 5 * time.Millisecond, known: map[string]sight{}}
	for i := range 4 {
		c, err := newSharedClient(i, clusters.Endpoint{Name: "cp0", Config: g.config()}, "r1", "ns")
		if err != nil {
			t.Fatal(err)
		}
		all.clients = append(all.clients, c)
	}
	schedule, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	done := make(chan struct{})
	go func() { defer close(done); all.run(schedule, t.Context()) }()
	for schedule.Err() == nil {
		s.mu.Lock()
		enough := s.requests > 600
		s.mu.Unlock()
		if enough {
			stop()
		}
		pause(5 * time.Millisecond)
	}
	<-done
	hist := load()
	hist.Nodes = append(hist.Nodes, history.Timed[history.Node]{V: history.Node{Name: "cp0", Place: "control-plane[0]"}})
	hist.End = &history.Timed[history.End]{At: hist.Last}
	k, ok := slo.Lookup("linearizable")
	if !ok {
		t.Fatal("no such promise")
	}
	return slo.Judge(hist, []slo.Named{{Name: k.Name, Checker: k.New()}})[0], hist
}

func TestSharedObjects(t *testing.T) {
	r, h := operate(t, &store{objects: map[string]*corev1.ConfigMap{}})
	if r.Verdict != slo.Pass {
		t.Errorf("%s: %s", r.Verdict, r.Reason)
	}
	seen := map[string]int{}
	for _, o := range h.Operations {
		seen[o.V.Verb+" "+o.V.Outcome]++
		if (o.V.Outcome == writeUnknown || o.V.Outcome == writeFail) != (o.V.Err != "" && o.V.Err[:3] == "500") {
			t.Errorf("%+v", o.V)
		}
	}
	for _, want := range []string{"read ok", "read absent", "read fail", "create ok", "create exists", "update ok", "update conflict", "update unknown", "delete ok"} {
		if seen[want] == 0 {
			t.Errorf("no %s among %v", want, seen)
		}
	}
	if r, _ := operate(t, &store{objects: map[string]*corev1.ConfigMap{}, forget: true, copies: map[string]*corev1.ConfigMap{}}); r.Verdict != slo.Fail {
		t.Errorf("of a store that forgets: %s: %s", r.Verdict, r.Reason)
	}
}

func TestBecame(t *testing.T) {
	for _, c := range []struct {
		verb string
		r    reply
		sent bool
		want string
	}{
		{opRead, reply{Code: 200}, true, writeOK},
		{opRead, reply{Code: 404, Err: "404 NotFound: no"}, true, opAbsent},
		{opRead, reply{Code: 404, Err: "404: 404 page not found"}, true, writeFail},
		{opRead, reply{Code: 503, Err: "503"}, true, writeFail},
		{opCreate, reply{Code: 404, Err: "404 NotFound: namespaces \"x\" not found"}, true, writeFail},
		{opCreate, reply{Code: 409, Err: "409 AlreadyExists: no"}, true, opExists},
		{opCreate, reply{Code: 409, Err: "409 Conflict: no"}, true, writeUnknown},
		{opUpdate, reply{Code: 409, Err: "409 Conflict: no"}, true, opConflict},
		{opUpdate, reply{Code: 429, Err: "429 TooManyRequests"}, true, writeFail},
		{opDelete, reply{Code: 504, Err: "504 Timeout"}, true, writeUnknown},
		{opDelete, reply{Err: "refused: no"}, false, writeFail},
		{opDelete, reply{Err: "reset: no"}, true, writeUnknown},
	} {
		if got := became(c.verb, c.r, c.sent); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.verb, fmt.Sprint(c.r.Err), got, c.want)
		}
	}
}
