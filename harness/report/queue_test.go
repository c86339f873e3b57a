package report

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"gameday/harness/history"
)

// blocked is a terminal that takes nothing until it is released.
type blocked struct {
	release chan struct{}
	mu      sync.Mutex
	out     bytes.Buffer
}

func (b *blocked) Write(p []byte) (int, error) {
	<-b.release
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

// A terminal that takes nothing must not hold up the record, and with it
// sampling and healing.
func TestTerminalThatBlocks(t *testing.T) {
	b := &blocked{release: make(chan struct{})}
	term := NewTerminal(b, false)
	rec, err := history.Create(t.TempDir()+"/history.jsonl", history.Run{ID: "r"}, term.Event)
	if err != nil {
		t.Fatal(err)
	}
	const more = 100
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		for i := range 2*maxQueued + more {
			rec.Add(history.Event{Finding: &history.Finding{What: fmt.Sprintf("finding %d", i)}})
		}
		term.Say("said")
	}()
	select {
	case <-recorded:
	case <-time.After(time.Minute):
		t.Fatal("the record waits for the terminal")
	}
	began := time.Now()
	term.lines.flush(50 * time.Millisecond)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end of the run waited %s for a terminal that takes nothing", took)
	}
	close(b.release)
	term.Flush()
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	var dropped, shown, last int
	for l := range strings.Lines(b.out.String()) {
		var n int
		switch {
		case strings.Contains(l, " dropped "):
			if _, err := fmt.Sscanf(strings.Fields(l)[1], "%d", &n); err != nil {
				t.Errorf("%q: %v", l, err)
			}
			dropped += n
		case strings.Contains(l, "finding finding"), strings.Contains(l, " finding "):
			if _, err := fmt.Sscanf(l[strings.LastIndex(l, "finding"):], "finding %d:", &n); err != nil {
				t.Fatalf("%q: %v", l, err)
			}
			if n < last {
				t.Fatalf("finding %d after %d", n, last)
			}
			shown, last = shown+1, n
		}
	}
	// The one that said "said" may be among the dropped.
	if all := 2*maxQueued + more; dropped < more || shown+dropped < all || shown+dropped > all+1 {
		t.Errorf("%d lines shown and %d told to be dropped, of %d", shown, dropped, all)
	}
}

// A write to a pipe whose reader has ended fails; later lines are tried again.
func TestTerminalThatIsGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	term := NewTerminal(w, false)
	term.Say("nobody reads this")
	term.Flush()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
