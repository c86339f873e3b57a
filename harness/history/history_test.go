package history

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRoundTripAndDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	var seen int
	r, err := Create(path, Run{ID: "r1", Seed: 7}, func(Event) { seen++ })
	if err != nil {
		t.Fatal(err)
	}
	at := r.Began()
	r.AddAt(at.Add(2*time.Second), Event{Series: &Series{ID: 1, Verb: "read"}})
	r.AddAt(at.Add(5*time.Second), Event{Sample: &Sample{Series: 1, OK: true}})
	r.AddAt(at.Add(4*time.Second), Event{Sample: &Sample{Series: 1}})
	r.Add(Event{End: &End{Reason: "done"}})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if seen != 5 {
		t.Errorf("the hook saw %d of 5 events", seen)
	}
	h, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if h.Run.ID != "r1" || h.Run.Seed != 7 || h.End == nil || h.Torn || h.Last != 5*time.Second {
		t.Errorf("read back %+v", h)
	}
	if s := h.Samples[1]; len(s) != 2 || s[0].At != 4*time.Second || s[1].V.OK != true {
		t.Errorf("samples are not in order of their start: %+v", s)
	}

	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// SIGKILL in the middle of a write: everything before is readable.
	h, err = Read(bytes.NewReader(whole[:len(whole)-3]))
	if err != nil || !h.Torn || h.End != nil || len(h.Samples[1]) != 2 {
		t.Errorf("torn history: %+v, %v", h, err)
	}
	// A missing line in the middle is damage, not a shorter run.
	lines := bytes.SplitAfter(whole, []byte("\n"))
	hole := bytes.Join(append(lines[:2:2], lines[3:]...), nil)
	if _, err := Read(bytes.NewReader(hole)); !errors.Is(err, ErrHole) {
		t.Errorf("hole gave %v", err)
	}
	if _, err := Read(bytes.NewReader(nil)); !errors.Is(err, ErrHole) {
		t.Errorf("empty gave %v", err)
	}
	if _, err := Create(path, Run{}, nil); err == nil {
		t.Error("an existing history was overwritten")
	}
}
