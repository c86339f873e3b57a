package eviction

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gameday/scenarios"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

// TestExplain compares with golden files; look at them, then
// `go test ./harness/eviction -run Explain -update`.
func TestExplain(t *testing.T) {
	for _, tc := range []struct {
		name, file, cut string
		length          time.Duration
	}{
		{"few", "defaults.yaml", "3/10", 6 * time.Minute},
		{"brake", "defaults.yaml", "6/10", 10 * time.Minute},
		{"all", "defaults.yaml", "10/10", 0},
		{"short", "defaults.yaml", "3/10", 2 * time.Minute},
		{"zones", "zones.yaml", "a:all,b:1", 10 * time.Minute},
		{"large", "defaults.yaml", "60/100", time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := Explain(load(t, tc.file), tc.cut, tc.length)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tc.name+".golden", []byte(e.String()))
			if tc.name == "few" {
				data, err := e.JSON()
				if err != nil {
					t.Fatal(err)
				}
				golden(t, tc.name+".json.golden", data)
			}
		})
	}
}

func load(t *testing.T, name string) File {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	f, err := LoadFile(data, name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date; it would be:\n%s", path, got)
	}
}

// TestBadFiles: every problem at once, with its line.
func TestBadFiles(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "f.yaml: the file is empty; start with: version: v1.36.4"},
		{"word", "version: v1.36.4\ncontrollerManager:\n  nodeEvictionRat: 1\n", `f.yaml:3:3: controllerManager: unknown field "nodeEvictionRat"; did you mean "nodeEvictionRate"?`},
		{"unit", "version: v1.36.4\ncontrollerManager:\n  nodeMonitorPeriod: 5\n", "f.yaml:3:22: controllerManager.nodeMonitorPeriod: 5 has no unit"},
		{"version", "version: v1.31.0\n", "f.yaml:1:10: version: v1.31.0 is not among the versions that the rules were read in, v1.32 to v1.37"},
		{"range", "version: v1.36.4\ncontrollerManager: {unhealthyZoneThreshold: 55}\n", "f.yaml:2:45: controllerManager.unhealthyZoneThreshold: 55 is not between 0 and 1"},
		{"zone", "version: v1.36.4\nzones:\n- {name: a, nodes: 2, excluded: 3}\n", "f.yaml:3:33: zones[0].excluded: 3 of 2 nodes"},
		{"owner", "version: v1.36.4\npods:\n- {owner: Deploymnt, perNode: 3}\n", `f.yaml:3:11: pods[0].owner: unknown owner "Deploymnt"; did you mean "Deployment"?`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := LoadFile([]byte(tc.text), "f.yaml")
			var invalid *scenarios.Invalid
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v\nwant %s", err, tc.want)
			}
		})
	}
}

// TestBadCuts: cuts that are not of the cluster.
func TestBadCuts(t *testing.T) {
	zones := load(t, "zones.yaml")
	for _, tc := range []struct {
		f    File
		cut  string
		want string
	}{
		{load(t, "defaults.yaml"), "3", "say 3/10"},
		{load(t, "defaults.yaml"), "4/3", "say 3/10"},
		{load(t, "defaults.yaml"), "0/3", "say 3/10"},
		{zones, "3/10", "is not a zone"},
		{zones, "a:9", "not a number from 1 to 4"},
		{zones, "a:1,a:1", "comes twice"},
		{zones, "c:1", "is not a zone"},
	} {
		if _, err := Explain(tc.f, tc.cut, time.Minute); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.cut, err, tc.want)
		}
	}
}
