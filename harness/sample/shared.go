package sample

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gameday/clusters"
	"gameday/harness/history"
)

const (
	// sharedEvery is how often the clients act, all at the same moment and on the
	// same object, so that they meet.
	sharedEvery = time.Second
	// sharedFor is how long an operation may take: as a write.
	sharedFor = 4 * time.Second
	// sharedKeys is how many objects take turns, and sharedRounds how often each
	// of them has its turn before it is left for a new one: the search for an order
	// of all operations on an object grows faster than their number.
	sharedKeys   = 4
	sharedRounds = 100
	// sharedClients is the least number of clients, where there are fewer
	// endpoints.
	sharedClients = 3
)

// shared has clients, at least one at each endpoint, read, create, update and
// delete the same few objects at the same moments, and records each operation
// with what it saw. Updates and deletes demand a resourceVersion, so that of
// those that demand the same at most one may succeed.
type shared struct {
	record  *history.Recorder
	every   time.Duration
	clients []*sharedClient
	began   time.Time

	mu    sync.Mutex
	known map[string]sight // by key
}

// sight is what the clients know of an object. It is a hint for what to do next.
type sight struct {
	is       int // one of the three below
	revision int64
}

const (
	unseen = iota // read it first
	absent
	present
)

type sharedClient struct {
	id       int
	endpoint string
	rt       http.RoundTripper
	base     string
	agent    []string
	draw     *rand.Rand
	count    int
}

func newShared(cfg Config, namespace string) (*shared, error) {
	s := &shared{record: cfg.Record, every: sharedEvery, known: map[string]sight{}}
	endpoints := cfg.Cluster.Endpoints()
	for i := range max(len(endpoints), sharedClients) {
		c, err := newSharedClient(i, endpoints[i%len(endpoints)], cfg.Run, namespace)
		if err != nil {
			return nil, err
		}
		s.clients = append(s.clients, c)
	}
	return s, nil
}

func newSharedClient(id int, e clusters.Endpoint, run, namespace string) (*sharedClient, error) {
	rt, err := transport(e.Config, connReused)
	if err != nil {
		return nil, err
	}
	base, err := collection(e.Config, namespace)
	if err != nil {
		return nil, err
	}
	hash := fnv.New64a()
	hash.Write([]byte(run))
	return &sharedClient{
		id: id, endpoint: e.Name, rt: rt, base: base,
		agent: []string{fmt.Sprintf("gameday-sampler/%s (shared, %s)", run, e.Name)},
		draw:  rand.New(rand.NewPCG(hash.Sum64(), uint64(id))),
	}, nil
}

// run acts until schedule ends; operations in flight end at their deadlines, or
// when requests ends.
func (s *shared) run(schedule, requests context.Context) {
	s.began = time.Now()
	var all sync.WaitGroup
	for _, c := range s.clients {
		all.Go(func() { s.act(schedule, requests, c) })
	}
	all.Wait()
}

func (s *shared) act(schedule, requests context.Context, c *sharedClient) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		// What was missed while an operation took long is not made up for.
		round := int(time.Since(s.began)/s.every) + 1
		timer.Reset(time.Until(s.began.Add(time.Duration(round) * s.every)))
		select {
		case <-schedule.Done():
			return
		case <-timer.C:
		}
		key := sharedKey(round)
		op := c.choose(key, s.sight(key))
		start := time.Now()
		c.do(requests, &op)
		op.Took = time.Since(start)
		s.learn(op)
		s.record.AddAt(start, history.Event{Operation: &op})
	}
}

// sharedKey is the object whose turn it is. Its name does not begin as a canary's.
func sharedKey(round int) string {
	return fmt.Sprintf("shared-%d-%d", round/(sharedKeys*sharedRounds), round%sharedKeys)
}

func (s *shared) sight(key string) sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[key]
}

// learn keeps what an operation saw, if it is not older than what is known.
func (s *shared) learn(op history.Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.known[op.Key]
	switch {
	case op.Outcome == writeOK && op.Verb == opDelete, op.Outcome == opAbsent:
		k.is = absent
	case op.Outcome == writeOK && op.Revision >= k.revision:
		k = sight{present, op.Revision}
	case op.Outcome == opExists, op.Outcome == opConflict, op.Outcome == writeUnknown:
		k.is = unseen
	}
	s.known[op.Key] = k
}

// The verbs of an operation, and the outcomes that a write of a canary has not.
const (
	opRead   = "read"
	opCreate = "create"
	opUpdate = "update"
	opDelete = "delete"

	opAbsent   = "absent"
	opExists   = "exists"
	opConflict = "conflict"
)

// choose draws the next operation: half of them read, and of the others most
// update.
func (c *sharedClient) choose(key string, k sight) history.Operation {
	op := history.Operation{Client: c.id, Key: key, Endpoint: c.endpoint, Verb: opRead}
	p := c.draw.Float64()
	switch {
	case k.is == absent && p < .7:
		op.Verb = opCreate
	case k.is == present && p < .4:
		op.Verb, op.Expected = opUpdate, k.revision
	case k.is == present && p < .5:
		op.Verb, op.Expected = opDelete, k.revision
	}
	if op.Verb == opCreate || op.Verb == opUpdate {
		c.count++
		op.Value = strconv.Itoa(c.id) + "-" + strconv.Itoa(c.count)
	}
	return op
}

// do makes the operation and writes into it what came of it.
func (c *sharedClient) do(ctx context.Context, op *history.Operation) {
	ctx, cancel := context.WithTimeout(ctx, sharedFor)
	defer cancel()
	var sent atomic.Bool
	req, err := c.request(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
	}), *op)
	if err != nil {
		op.Outcome, op.Err = writeFail, explain(err)
		return
	}
	r := answered(c.rt, req, true)
	op.Outcome, op.Err = became(op.Verb, r, sent.Load()), r.Err
	if op.Outcome != writeOK || op.Verb == opDelete {
		return
	}
	var o struct {
		Metadata struct{ ResourceVersion string }
		Data     map[string]string
	}
	err = json.Unmarshal(r.Body, &o)
	if err == nil {
		op.Revision, err = strconv.ParseInt(o.Metadata.ResourceVersion, 10, 64)
	}
	if err != nil { // answered, but nobody can say by what
		op.Outcome, op.Err = writeUnknown, short("the answer has no object: "+err.Error())
		if op.Verb == opRead {
			op.Outcome = writeFail
		}
		return
	}
	if op.Verb == opRead {
		op.Value = o.Data[sharedField]
	}
}

// sharedField of the object's data holds the value.
const sharedField = "value"

func (c *sharedClient) request(ctx context.Context, op history.Operation) (*http.Request, error) {
	method, url, body := http.MethodGet, c.base+"/"+op.Key, ""
	expected := strconv.FormatInt(op.Expected, 10)
	object := func(meta string) string {
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + op.Key + `"` + meta + `},"data":{"` + sharedField + `":"` + op.Value + `"}}`
	}
	switch op.Verb {
	case opCreate:
		method, url, body = http.MethodPost, c.base, object("")
	case opUpdate:
		method, body = http.MethodPut, object(`,"resourceVersion":"`+expected+`"`)
	case opDelete:
		method, body = http.MethodDelete, `{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"resourceVersion":"`+expected+`"}}`
	}
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	if body != "" {
		// No GetBody: the transport must not send a write a second time.
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		req.Header["Content-Type"] = jsonType
	}
	req.Header["Accept"] = jsonType
	req.Header["User-Agent"] = c.agent
	return req, nil
}

// became is the outcome of an operation by its answer. Only a Status that says so
// tells that an object is not there, is there or is another: a 404 without one
// comes from a server that does not know the path yet.
func became(verb string, r reply, sent bool) string {
	switch {
	case r.Code >= 200 && r.Code < 300:
		return writeOK
	case strings.HasPrefix(r.Err, "404 NotFound") && verb != opCreate:
		return opAbsent
	case strings.HasPrefix(r.Err, "409 AlreadyExists") && verb == opCreate:
		return opExists
	case strings.HasPrefix(r.Err, "409 Conflict") && (verb == opUpdate || verb == opDelete):
		return opConflict
	case verb == opRead:
		return writeFail
	}
	return outcome(r.Code, sent)
}
