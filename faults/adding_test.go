package faults

import (
	"encoding/json"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAddingCompiles adds the fault of ADDING.md, as that page says, to a copy of
// this package that the compiler sees in place of it, and runs its test and that of
// the catalogue.
func TestAddingCompiles(t *testing.T) {
	page, err := os.ReadFile("ADDING.md")
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)```go\n// faults/([a-z_]+\\.go)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		name, code := m[1], m[2]
		if old, err := os.ReadFile(name); err == nil {
			// A file that is there gets the line, at the end of its list.
			all := strings.Replace(string(old), "\n\t}\n}\n", "\n"+code+"\t}\n}\n", 1)
			if all == string(old) {
				t.Fatalf("%s has no list that ends as expected", name)
			}
			code = all
		}
		if formatted, err := format.Source([]byte(code)); err != nil || string(formatted) != code {
			t.Errorf("%s is not formatted (%v)", name, err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(here, name)] = file
	}
	if len(replace) != 3 {
		t.Fatalf("the page promises three files and shows %d", len(replace))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"vet", "-overlay", file, "."},
		{"test", "-overlay", file, "-count=1", "-v", "-run", "^(TestProxySeen|TestCatalogueIsComplete)$", "."},
	} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Env = append(os.Environ(), "GOPROXY=off") // nothing is fetched
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", args[0], err, out)
		}
		if args[0] == "test" && (!strings.Contains(string(out), "--- PASS: TestProxySeen") || !strings.Contains(string(out), "--- PASS: TestCatalogueIsComplete/proxy.pause")) {
			t.Errorf("not run:\n%s", out)
		}
	}
}
