package sample

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/harness/history"
)

const (
	// watchRetry is the pause before a watch that ended is opened again.
	watchRetry = 100 * time.Millisecond
	// watchOpen bounds the opening of a watch: the answer's header. An API
	// server whose cache is not filled yet holds it back.
	watchOpen = 5 * time.Second
)

// watcher holds a watch on the canaries at one endpoint and records what it
// goes through. Writes come all the time, so that it always has something to
// see while the API is well.
type watcher struct {
	endpoint string
	rt       http.RoundTripper
	base     string
	agent    []string
	ledger   *ledger
	record   *history.Recorder
	// all records every event, of whatever object, and the bookmarks, too; else
	// only those of the canaries' creation.
	all bool

	mu    sync.Mutex
	open  bool
	seen  int64     // the highest revision that this watch is known to be past
	event time.Time // when it last saw anything
	err   string    // why it is not open
}

func newWatcher(e clusters.Endpoint, run string, l *ledger) (*watcher, error) {
	rt, err := transport(e.Config, connReused)
	if err != nil {
		return nil, err
	}
	base, err := collection(e.Config, l.namespace)
	if err != nil {
		return nil, err
	}
	return &watcher{
		endpoint: e.Name, rt: rt, base: base, ledger: l, record: l.record,
		agent: []string{fmt.Sprintf("gameday-sampler/%s (watch, %s)", run, e.Name)},
	}, nil
}

// gone says that the API server does not know the history since the revision
// asked for (410). It is lawful, but what the watch would have seen is lost.
func gone(err error) bool {
	var s *statusError
	return errors.As(err, &s) && s.code == http.StatusGone
}

// run watches until ctx ends. Only changes are recorded: of the attempts to
// open a watch that fail one after the other, the first.
func (w *watcher) run(ctx context.Context) {
	var from int64 // 0: list first
	lost := w.record.Now()
	failing := false
	for ctx.Err() == nil {
		var err error
		if from == 0 {
			from, err = w.list(ctx)
			if err == nil && w.past() > 0 {
				w.record.Add(history.Event{Gap: &history.Gap{
					Source: "watch/canary/" + w.endpoint, From: lost, To: w.record.Now(),
					Reason: "the API server no longer had the history to go on from (410)",
				}})
			}
		}
		opened := false
		if err == nil {
			err = w.watch(ctx, from, func() { opened, failing = true, false })
			if p := w.past(); p > from {
				from = p
			}
		}
		if ctx.Err() != nil {
			return
		}
		text := explain(err)
		w.mu.Lock()
		if w.open {
			lost = w.record.Since(w.event)
		}
		w.open, w.err = false, text
		w.mu.Unlock()
		switch {
		case opened:
			w.record.Add(history.Event{Watch: &history.Watch{Endpoint: w.endpoint, State: "closed", Revision: from, Err: text}})
		case !failing:
			failing = true
			w.record.Add(history.Event{Watch: &history.Watch{Endpoint: w.endpoint, State: "failed", Revision: from, Err: text}})
		}
		if gone(err) {
			from = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchRetry):
		}
	}
}

func (w *watcher) past() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// list asks for the revision to begin from.
func (w *watcher) list(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, watchOpen)
	defer cancel()
	resp, err := w.get(ctx, w.base+"?limit=1")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return 0, err
	}
	return revisionOf(body)
}

// get makes a request whose answer is 200, or returns an error.
func (w *watcher) get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header["Accept"] = jsonType
	req.Header["User-Agent"] = w.agent
	resp, err := w.rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("%d: %w", resp.StatusCode, err)
	}
	return nil, &statusError{resp.StatusCode, refusal(resp.StatusCode, body)}
}

// watch opens a watch after the revision and reads it to its end, which is
// always an error.
func (w *watcher) watch(ctx context.Context, from int64, opened func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slow := time.AfterFunc(watchOpen, cancel)
	resp, err := w.get(ctx, w.base+"?watch=true&allowWatchBookmarks=true&resourceVersion="+strconv.FormatInt(from, 10))
	if !slow.Stop() {
		if err == nil {
			resp.Body.Close()
		}
		return fmt.Errorf("no answer in %s: %w", watchOpen, context.DeadlineExceeded)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	opened()
	w.mu.Lock()
	w.open, w.err, w.event = true, "", time.Now()
	w.seen = max(w.seen, from)
	w.mu.Unlock()
	w.record.Add(history.Event{Watch: &history.Watch{Endpoint: w.endpoint, State: "opened", Revision: from}})
	for in := json.NewDecoder(resp.Body); ; {
		var e watchEvent
		if err := in.Decode(&e); err != nil {
			return err
		}
		if err := w.take(e); err != nil {
			return err
		}
	}
}

// watchEvent is as much as is needed of metav1.WatchEvent and its object.
type watchEvent struct {
	Type   string
	Object struct {
		Metadata struct{ Name, ResourceVersion string }
		// Of a Status, when Type is ERROR.
		Code    int
		Message string
	}
}

func (w *watcher) take(e watchEvent) error {
	now := time.Now()
	if e.Type == "ERROR" {
		return &statusError{e.Object.Code, short(fmt.Sprintf("%d: %s", e.Object.Code, e.Object.Message))}
	}
	rev, err := strconv.ParseInt(e.Object.Metadata.ResourceVersion, 10, 64)
	if err != nil {
		return fmt.Errorf("watch event without a revision: %w", err)
	}
	w.mu.Lock()
	w.seen, w.event = max(w.seen, rev), now
	w.mu.Unlock()
	if e.Type == "BOOKMARK" {
		if w.all {
			w.record.AddAt(now, history.Event{Watch: &history.Watch{Endpoint: w.endpoint, State: "bookmark", Revision: rev}})
		}
		return nil
	}
	if !w.all && (e.Type != "ADDED" || !strings.HasPrefix(e.Object.Metadata.Name, canaryPrefix)) {
		return nil // what others keep in the namespace
	}
	key := w.ledger.key(e.Object.Metadata.Name)
	seen := history.Watch{Endpoint: w.endpoint, State: "event", Revision: rev, Key: key}
	if e.Type != "ADDED" {
		seen.Type = e.Type
	}
	// An event often comes before the writer has its answer: no delay then.
	if a, ok := w.ledger.of(key); ok && e.Type == "ADDED" {
		seen.Delay = now.Sub(a.at)
	}
	w.record.AddAt(now, history.Event{Watch: &seen})
	return nil
}

// trouble says why the watch is not well, or "". It must be open and have seen
// something a short while ago: writes come at least once a second.
func (w *watcher) trouble() string {
	const quiet = 5 * time.Second
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.open:
		return fmt.Sprintf("watch at %s is not open: %s", w.endpoint, w.err)
	case time.Since(w.event) > quiet:
		return fmt.Sprintf("watch at %s is open and saw nothing for %s", w.endpoint, time.Since(w.event).Round(time.Second))
	}
	return ""
}
