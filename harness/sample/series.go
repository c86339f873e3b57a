package sample

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"gameday/clusters"
	"gameday/harness/history"
)

// The verbs of a series.
const (
	// verbRead is a GET with resourceVersion=0: the API server answers from its
	// watch cache and asks nobody.
	verbRead = "read"
	// verbQuorum is a GET without: etcd must have a quorum.
	verbQuorum = "quorum-read"
	// verbWrite is the create of a uniquely named object.
	verbWrite = "write"
)

// kind is a kind of series, made once for each endpoint.
type kind struct {
	verb, conn string
	// lb is the pace through the load balancer, direct at each API server; a
	// zero pace makes no series there.
	lb, direct pace
}

// kinds are all series. The densest one is to see any gap of 50 ms, and both its
// edges within 50 ms. All together they make 77 requests a second on three
// control planes, which, with watches and all, took 5 to 7 % of a busy CPU.
//
// A deadline is well above what is called good (1 s for a request of a single
// object: Kubernetes' API latency SLO), so that a checker can draw its own line
// by what a sample took. Writes stay slow even after a bad one: the samplers must
// not be what keeps a weak etcd down.
var kinds = []kind{
	{verbRead, connReused,
		pace{Period: 40 * time.Millisecond, Fast: 25 * time.Millisecond, Suspect: 100 * time.Millisecond, Deadline: 2 * time.Second},
		pace{Period: 100 * time.Millisecond, Fast: 50 * time.Millisecond, Suspect: 100 * time.Millisecond, Deadline: 2 * time.Second}},
	{verbRead, connNew,
		pace{Period: 250 * time.Millisecond, Fast: 100 * time.Millisecond, Suspect: 250 * time.Millisecond, Deadline: 2 * time.Second},
		pace{Period: time.Second, Fast: 250 * time.Millisecond, Suspect: 250 * time.Millisecond, Deadline: 2 * time.Second}},
	{verbQuorum, connReused,
		pace{Period: 250 * time.Millisecond, Fast: 100 * time.Millisecond, Suspect: 250 * time.Millisecond, Deadline: 3 * time.Second},
		pace{Period: time.Second, Fast: 250 * time.Millisecond, Suspect: 250 * time.Millisecond, Deadline: 3 * time.Second}},
	{verbWrite, connReused,
		pace{Period: 250 * time.Millisecond, Fast: 100 * time.Millisecond, Deadline: 4 * time.Second},
		pace{Period: time.Second, Fast: 250 * time.Millisecond, Deadline: 4 * time.Second}},
	// A pooled connection through the load balancer stays with one API server,
	// also with one whose etcd is gone; a new one has the choice.
	{verbQuorum, connNew,
		pace{Period: time.Second, Fast: 250 * time.Millisecond, Suspect: 250 * time.Millisecond, Deadline: 3 * time.Second}, pace{}},
	{verbWrite, connNew,
		pace{Period: time.Second, Fast: 250 * time.Millisecond, Deadline: 4 * time.Second}, pace{}},
}

// on is the pace of the kind on an endpoint; ok is false if it has no series
// there.
func (k kind) on(e clusters.Endpoint) (p pace, ok bool) {
	p = k.direct
	if e.Node == nil {
		p = k.lb
	}
	return p, p.Period > 0
}

// series is one kind on one endpoint.
type series struct {
	decl history.Series
	pace pace
	kind kind
	rt   http.RoundTripper
	// base is the URL of the canaries' collection.
	base string
	// name of the object that reads ask for; prefix of those that writes make.
	name    string
	run     string
	agent   []string
	ledger  *ledger
	counter atomic.Int64
}

func newSeries(id int, k kind, p pace, e clusters.Endpoint, run string, l *ledger) (*series, error) {
	rt, err := transport(e.Config, k.conn)
	if err != nil {
		return nil, err
	}
	base, err := collection(e.Config, l.namespace)
	if err != nil {
		return nil, err
	}
	s := &series{
		decl: history.Series{ID: id, Verb: k.verb, Conn: k.conn, Endpoint: e.Name, Period: p.Period, Deadline: p.Deadline},
		pace: p, kind: k, rt: rt, base: base, name: canaryName, run: run, ledger: l,
		agent: []string{fmt.Sprintf("gameday-sampler/%s (%s, %s, %s)", run, k.verb, k.conn, e.Name)},
	}
	if k.verb == verbWrite {
		s.name = "c" + strconv.Itoa(id) + "-"
	}
	return s, nil
}

// collection is the URL of the ConfigMaps in a namespace.
func collection(cfg *rest.Config, namespace string) (string, error) {
	u, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return "", fmt.Errorf("address %q: %w", cfg.Host, err)
	}
	return strings.TrimSuffix(u.String(), "/") + "/api/v1/namespaces/" + namespace + "/configmaps", nil
}

// once makes one request of the series.
func (s *series) once(ctx context.Context) answer {
	n := strconv.FormatInt(s.counter.Add(1), 10)
	id := "gameday-" + s.run + "-" + strconv.Itoa(s.decl.ID) + "-" + n
	var r reply
	switch s.kind.verb {
	case verbRead:
		r = s.send(ctx, http.MethodGet, s.base+"/"+s.name+"?resourceVersion=0", id, "")
	case verbQuorum:
		r = s.send(ctx, http.MethodGet, s.base+"/"+s.name, id, "")
	case verbWrite:
		r = s.write(ctx, id, s.name+n)
	}
	return answer{Code: r.Code, Err: r.Err, AuditID: id}
}

func (s *series) send(ctx context.Context, method, url, id, body string) reply {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return reply{Err: explain(err)}
	}
	if body == "" {
		req.Body, req.GetBody, req.ContentLength = nil, nil, 0
	} else {
		req.Header["Content-Type"] = jsonType
	}
	req.Header["Accept"] = jsonType
	req.Header["User-Agent"] = s.agent
	req.Header["Audit-Id"] = []string{id}
	return exchange(s.rt, req)
}

var jsonType = []string{"application/json"}

// write creates a canary and records what became of it.
func (s *series) write(ctx context.Context, id, name string) reply {
	var sent atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
	})
	start := time.Now()
	r := s.send(traced, http.MethodPost, s.base, id,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"`+name+`","labels":{"`+clusters.LabelRun+`":"`+s.run+`"}}}`)
	w := history.Write{
		Key: s.ledger.key(name), Endpoint: s.decl.Endpoint, Outcome: outcome(r.Code, sent.Load()),
		Took: time.Since(start), Err: r.Err,
	}
	if w.Outcome == writeOK {
		rev, err := revisionOf(r.Body)
		if err != nil {
			// Acknowledged, but by whom? It counts as a bad sample and as a
			// write of which nothing is promised.
			w.Outcome, w.Err, r.Err = writeUnknown, explain(err), explain(err)
		}
		w.Revision = rev
	}
	s.ledger.add(start, w)
	return r
}

// revisionOf is the resourceVersion of an object: the revision of etcd that
// wrote it.
func revisionOf(object []byte) (int64, error) {
	var o struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := json.Unmarshal(object, &o); err != nil {
		return 0, fmt.Errorf("the answer to a write is no object: %w", err)
	}
	rev, err := strconv.ParseInt(o.Metadata.ResourceVersion, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the answer to a write has no revision: %w", err)
	}
	return rev, nil
}
