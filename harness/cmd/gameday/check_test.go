package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gameday/harness/history"
	"gameday/harness/run"
)

func TestCheckExitCodes(t *testing.T) {
	s, err := run.Load("upgrade-clean")
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		prepare func(dir string) error
		code    int
		says    string
	}{
		{"what is recorded says nothing", func(dir string) error {
			r, err := history.Create(filepath.Join(dir, "history.jsonl"), history.Run{ID: "r", Scenario: s.Name}, nil)
			if err != nil {
				return err
			}
			return r.Close()
		}, codeInconclusive, ""},
		{"no record", func(string) error { return nil }, codeInput, "read the history"},
		{"a damaged record", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "history.jsonl"), []byte("{}\n"), 0o644)
		}, codeInput, "the history has a hole"},
		{"the verdict cannot be written", func(dir string) error {
			r, err := history.Create(filepath.Join(dir, "history.jsonl"), history.Run{ID: "r", Scenario: s.Name}, nil)
			if err != nil {
				return err
			}
			if err := r.Close(); err != nil {
				return err
			}
			return os.Mkdir(filepath.Join(dir, "verdict.json"), 0o755)
		}, codeHarness, "write verdict.json"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "scenario.yaml"), text, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := tc.prepare(dir); err != nil {
				t.Fatal(err)
			}
			for _, command := range []string{"check", "report"} {
				var out bytes.Buffer
				root := newRoot()
				root.SetArgs([]string{command, dir})
				root.SetOut(&out)
				root.SetErr(&out)
				want := tc.code
				if command == "report" && want == codeInconclusive {
					want = codePass // it judges nothing
				}
				if got := report(&out, root.ExecuteContext(t.Context())); got != want || !strings.Contains(out.String(), tc.says) {
					t.Errorf("%s: code %d, want %d:\n%s", command, got, want, &out)
				}
			}
		})
	}
}
