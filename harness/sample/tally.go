package sample

import (
	"fmt"
	"sync"
	"time"

	"gameday/harness/history"
)

// tallyFor is the longest window that a tally can answer for.
const tallyFor = 10 * time.Minute

// tally counts the samples of a series by the second in which they started.
type tally struct {
	decl history.Series

	mu      sync.Mutex
	seconds [tallyFor / time.Second]second
	good    int64 // since the beginning
	bad     int64
	lastErr string
}

type second struct {
	at        int64 // which second since the run began; 0: never used
	good, bad int32
}

// add counts a sample that started at, on the run's clock.
func (t *tally) add(at time.Duration, ok bool, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := int64(at / time.Second)
	s := &t.seconds[n%int64(len(t.seconds))]
	if s.at != n {
		*s = second{at: n}
	}
	if ok {
		s.good++
		t.good++
	} else {
		s.bad++
		t.bad++
		t.lastErr = text
	}
}

// trouble says why the series was not good in the window that ends now, or "".
// A series must have had at least half of the samples that its period promises.
func (t *tally) trouble(now, window time.Duration) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := fmt.Sprintf("%s on %s connections at %s", t.decl.Verb, t.decl.Conn, t.decl.Endpoint)
	if window > tallyFor-time.Second {
		return fmt.Sprintf("%s: asked for a window of %s, samples are counted for %s", name, window, tallyFor)
	}
	var good, bad int64
	for n := max(int64((now-window)/time.Second), 0); n <= int64(now/time.Second); n++ {
		if s := t.seconds[n%int64(len(t.seconds))]; s.at == n {
			good, bad = good+int64(s.good), bad+int64(s.bad)
		}
	}
	if bad > 0 {
		return fmt.Sprintf("%s: %d bad samples in the last %s, the latest: %s", name, bad, window, t.lastErr)
	}
	if want := max(int64(window/t.decl.Period)/2, 1); good < want {
		return fmt.Sprintf("%s: %d samples in the last %s, at least %d are needed", name, good, window, want)
	}
	return ""
}

// counts since the beginning.
func (t *tally) counts() (good, bad int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.good, t.bad
}
