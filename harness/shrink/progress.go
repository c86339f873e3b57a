package shrink

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Candidate is what was tried, and how often it failed.
type Candidate struct {
	// Name is the faults that were left, with the windows that were shortened.
	Name   string `json:"name"`
	Faults int    `json:"faults"`
	// Failed counts the tries that broke what the run broke that is shrunk;
	// Otherwise those that broke something else alone, as happens when a step that
	// was to be blocked by a fault is not. It shows nothing, nor does Inconclusive.
	Failed       int `json:"failed"`
	Passed       int `json:"passed"`
	Otherwise    int `json:"otherwise,omitempty"`
	Inconclusive int `json:"inconclusive,omitempty"`
	// Verdicts of the tries, in order.
	Verdicts []Verdict `json:"verdicts"`
}

// Tries is how often it was tried.
func (c *Candidate) Tries() int { return c.Failed + c.Passed + c.Otherwise + c.Inconclusive }

// String is its count: "failed 2 of 3 tries (1 inconclusive)".
func (c *Candidate) String() string {
	out := fmt.Sprintf("failed %d of %d tries", c.Failed, c.Tries())
	var more []string
	if c.Inconclusive > 0 {
		more = append(more, fmt.Sprintf("%d inconclusive", c.Inconclusive))
	}
	if c.Otherwise > 0 {
		more = append(more, fmt.Sprintf("%d failed otherwise", c.Otherwise))
	}
	if len(more) > 0 {
		out += " (" + strings.Join(more, ", ") + ")"
	}
	return out
}

// count adds a try.
func (c *Candidate) count(v Verdict, broken []string) {
	c.Verdicts = append(c.Verdicts, v)
	same := len(broken) == 0 || slices.ContainsFunc(v.Broken, func(b string) bool { return slices.Contains(broken, b) })
	switch {
	case v.Outcome == Fail && same:
		c.Failed++
	case v.Outcome == Fail:
		c.Otherwise++
	case v.Outcome == Pass:
		c.Passed++
	default:
		c.Inconclusive++
	}
}

// progress is what was tried, kept in a file after each try.
type progress struct {
	file string
	// Key is of what was tried: the tries of another scenario, or by another
	// measure of failure, say nothing.
	Key        string       `json:"key"`
	Candidates []*Candidate `json:"candidates"`
}

// open reads the progress, or begins it.
func open(cfg Config) (*progress, error) {
	text, err := cfg.Scenario.Marshal()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(fmt.Appendf(text, "\n%q\n%q", cfg.Key, cfg.Broken))
	key := hex.EncodeToString(sum[:])
	p := &progress{file: cfg.File, Key: key}
	data, err := os.ReadFile(cfg.File)
	if errors.Is(err, fs.ErrNotExist) {
		return p, p.save()
	}
	if err != nil {
		return nil, fmt.Errorf("progress of the search: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("progress of the search, %s: %w", cfg.File, err)
	}
	if p.Key != key {
		return nil, fmt.Errorf("%s is the progress of another search: give another folder, or remove it", cfg.File)
	}
	return p, nil
}

// save replaces the file, whole or not at all.
func (p *progress) save() error {
	out, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("progress of the search: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(p.file), ".progress-*")
	if err != nil {
		return fmt.Errorf("progress of the search: %w", err)
	}
	_, werr := f.Write(append(out, '\n'))
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("progress of the search: %w", errors.Join(err, os.Remove(f.Name())))
	}
	if err := os.Rename(f.Name(), p.file); err != nil {
		return fmt.Errorf("progress of the search: %w", err)
	}
	return nil
}

func (p *progress) find(name string) *Candidate {
	for _, c := range p.Candidates {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// candidate finds a candidate, or adds it.
func (p *progress) candidate(name string, n int) *Candidate {
	if c := p.find(name); c != nil {
		return c
	}
	c := &Candidate{Name: name, Faults: n}
	p.Candidates = append(p.Candidates, c)
	return c
}
