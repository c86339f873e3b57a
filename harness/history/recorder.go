package history

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// Recorder appends events to the file of a run. Each event is one write, so a
// crash keeps every whole line. It is safe for concurrent use.
type Recorder struct {
	began time.Time // with its monotonic reading
	mu    sync.Mutex
	file  *os.File
	seq   int64
	err   error
	hook  func(Event)
}

// Create starts a history at path, which must not exist. hook, if not nil, sees
// every event after it is written, in order, and must be quick.
func Create(path string, run Run, hook func(Event)) (*Recorder, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create the history: %w", err)
	}
	r := &Recorder{began: time.Now(), file: f, hook: hook}
	run.APIVersion, run.Began = APIVersion, r.began
	r.Add(Event{Run: &run})
	return r, r.Err()
}

// Began is the zero of the run's clock.
func (r *Recorder) Began() time.Time { return r.began }

// Now is the time since the run began.
func (r *Recorder) Now() time.Duration { return time.Since(r.began) }

// Since is t on the run's clock; t should carry a monotonic reading.
func (r *Recorder) Since(t time.Time) time.Duration { return t.Sub(r.began) }

// Add writes an event, stamped now.
func (r *Recorder) Add(e Event) { r.AddAt(time.Now(), e) }

// AddAt writes an event that happened at t. A write that fails is kept in Err;
// from then on nothing is written, so that the file never has a hole.
func (r *Recorder) AddAt(t time.Time, e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	r.seq++
	e.Seq, e.At = r.seq, t.Sub(r.began)
	line, err := json.Marshal(e)
	if err == nil {
		_, err = r.file.Write(append(line, '\n'))
	}
	if err != nil {
		r.err = fmt.Errorf("write the history: %w", err)
		return
	}
	if r.hook != nil {
		r.hook(e)
	}
}

// Err is the first error of a write: the record is incomplete from there on.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Close syncs and closes the file.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return r.err
	}
	if err := r.file.Sync(); err != nil && r.err == nil {
		r.err = fmt.Errorf("sync the history: %w", err)
	}
	if err := r.file.Close(); err != nil && r.err == nil {
		r.err = fmt.Errorf("close the history: %w", err)
	}
	r.file = nil
	return r.err
}
