package run

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigureRefusesBadInput(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "s.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		name string
		job  Job
		want []string
	}{
		{"an unknown scenario", Job{Scenario: "upgrade-under-fir", Provider: "kind"}, []string{`"upgrade-under-fir"`, "upgrade-under-fire", "./"}},
		{"no scenario", Job{Provider: "kind"}, []string{`no scenario ""`}},
		{"a file that is not there", Job{Scenario: "./not-there.yaml", Provider: "kind"}, []string{"not-there.yaml", "no such file"}},
		{"an unknown provider", Job{Scenario: "upgrade-clean", Provider: "kint"}, []string{`unknown provider "kint"`, "kind"}},
		{"several problems at once", Job{Scenario: write(strings.Replace(scenarioText, "workers: 2}", "workers: 2, worker: 1}\nstedy: 1s", 1)), Provider: "kind"}, []string{"worker", "stedy", "steady", "s.yaml:"}},
		{"a plan over the budget", Job{Scenario: write(strings.Replace(scenarioText, "allow: [allAPIServersDown]", "", 1)), Provider: "kind"}, []string{"API servers", "allAPIServersDown"}},
		{"a patched tree that is none", Job{Scenario: "upgrade-clean", Provider: "kind", Replace: map[string]string{"k8s.io/kubernetes": t.TempDir()}}, []string{"--replace=k8s.io/kubernetes=", "go.mod"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.job.Runs = filepath.Join(t.TempDir(), "runs")
			_, err := Configure(t.Context(), tc.job)
			if !errors.Is(err, ErrInput) {
				t.Fatalf("not bad input: %v", err)
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v\ndoes not say %s", err, w)
				}
			}
			if _, err := os.Stat(tc.job.Runs); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something was made: %v", err)
			}
		})
	}
}

// The command must be one that a shell takes, and the same each time.
func TestRerun(t *testing.T) {
	j := Job{Scenario: "upgrade-clean", Provider: "kind", Seed: 7, Command: "gameday", Replace: map[string]string{"c": "/c", "a": "/a", "b": "/b"}}
	const want = "gameday run upgrade-clean --seed=7 --provider=kind --replace=a=/a --replace=b=/b --replace=c=/c"
	for range 20 {
		if got := rerun(j); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}
