package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
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

// A file of many batches is read in order, a line longer than any buffer too, and
// the first damage is what is told.
func TestManyLines(t *testing.T) {
	var file bytes.Buffer
	enc := json.NewEncoder(&file)
	const n = 20_000
	for i := int64(1); i <= n; i++ {
		e := Event{Seq: i, At: time.Duration(i), Sample: &Sample{Series: 1, OK: true}}
		switch i {
		case 1:
			e.Sample, e.Run = nil, &Run{APIVersion: APIVersion}
		case n / 2:
			e.Sample, e.Finding = nil, &Finding{What: strings.Repeat("x", 3<<20)}
		}
		if err := enc.Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	whole := file.Bytes()
	h, err := Read(bytes.NewReader(whole))
	if err != nil || len(h.Samples[1]) != n-2 || h.Torn || h.Last != n || len(h.Findings) != 1 || h.Findings[0].Seq != n/2 {
		t.Fatalf("%d samples, %d findings, %v", len(h.Samples[1]), len(h.Findings), err)
	}
	for i, s := range h.Samples[1][1:] {
		if s.Seq <= h.Samples[1][i].Seq {
			t.Fatalf("line %d comes after line %d", s.Seq, h.Samples[1][i].Seq)
		}
	}
	if h, err = Read(bytes.NewReader(whole[:len(whole)-1])); err != nil || !h.Torn || len(h.Samples[1]) != n-3 {
		t.Errorf("torn: %v, %v", h.Torn, err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines[15_000], lines[18_000] = []byte("{\n"), []byte("[\n")
	if _, err = Read(bytes.NewReader(bytes.Join(lines, nil))); !errors.Is(err, ErrHole) || !strings.Contains(err.Error(), "line 15001:") {
		t.Errorf("damage gave %v", err)
	}
	lines = slices.Delete(lines, 100, 101)
	if _, err = Read(bytes.NewReader(bytes.Join(lines, nil))); !errors.Is(err, ErrHole) || !strings.Contains(err.Error(), "line 101 has sequence number 102") {
		t.Errorf("a hole before that gave %v", err)
	}
	failing := errors.New("no disk")
	if _, err = Read(io.MultiReader(bytes.NewReader(whole), iotest.ErrReader(failing))); !errors.Is(err, failing) {
		t.Errorf("a reader that fails gave %v", err)
	}
}
