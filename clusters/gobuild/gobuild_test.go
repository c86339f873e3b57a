package gobuild

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

func source(body string) fstest.MapFS {
	return fstest.MapFS{
		"main.go":      {Data: []byte("package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(" + body + ") }\n")},
		"main_test.go": {Data: []byte("package broken syntax")},
	}
}

func TestBinaryIsBuiltOnceAndRuns(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", base)
	t.Setenv("GOCACHE", goCache(t))

	src := source(`"hello"`)
	var wg sync.WaitGroup
	paths := make([]string, 3)
	errs := make([]error, 3)
	for i := range paths {
		wg.Add(1)
		go func() {
			defer wg.Done()
			paths[i], errs[i] = Binary(t.Context(), "hello", src)
		}()
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
		if paths[i] != paths[0] {
			t.Errorf("concurrent calls gave %s and %s", paths[0], paths[i])
		}
	}
	out, err := exec.Command(paths[0]).Output()
	if err != nil || string(out) != "hello\n" {
		t.Fatalf("running it: %q, %v", out, err)
	}
	before, err := os.Stat(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Binary(t.Context(), "hello", src); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("an unchanged source was built again")
	}
	other, err := Binary(t.Context(), "hello", source(`"changed"`))
	if err != nil {
		t.Fatal(err)
	}
	if other == paths[0] {
		t.Error("changed source has the same path")
	}
	left, err := os.ReadDir(filepath.Join(base, "gameday", "bin"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 2 {
		t.Errorf("want the two binaries and no leftovers, got %v", left)
	}
}

func TestBinaryReportsTheCompilersWords(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("GOCACHE", goCache(t))
	_, err := Binary(t.Context(), "bad", source(`undefinedName`))
	if err == nil || !strings.Contains(err.Error(), "undefinedName") {
		t.Errorf("err = %v, want the compiler's own message", err)
	}
	_, err = Binary(t.Context(), "thirdparty", fstest.MapFS{
		"main.go": {Data: []byte("package main\n\nimport _ \"golang.org/x/sys/unix\"\n\nfunc main() {}\n")}})
	if err == nil {
		t.Error("an import outside the standard library was accepted")
	}
}

func TestBinaryRefusesBadInput(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if _, err := Binary(t.Context(), "../x", source(`1`)); err == nil {
		t.Error("a name with a path in it was accepted")
	}
	if _, err := Binary(t.Context(), "empty", fstest.MapFS{}); err == nil {
		t.Error("an empty source was accepted")
	}
}

func TestKeyDependsOnEveryInput(t *testing.T) {
	keys := map[string]string{}
	add := func(what string, src fstest.MapFS, inputs ...string) {
		t.Helper()
		k, err := Key(src, inputs...)
		if err != nil {
			t.Fatal(err)
		}
		if was, ok := keys[k]; ok {
			t.Errorf("%s and %s share the key %s", was, what, k)
		}
		keys[k] = what
	}
	src := fstest.MapFS{"a.go": {Data: []byte("1")}, "b.go": {Data: []byte("2")}}
	add("base", src, "go1", "linux/amd64")
	add("other toolchain", src, "go2", "linux/amd64")
	add("other platform", src, "go1", "linux/arm64")
	add("other name", fstest.MapFS{"a.go": {Data: []byte("1")}, "c.go": {Data: []byte("2")}}, "go1", "linux/amd64")
	add("swapped", fstest.MapFS{"a.go": {Data: []byte("2")}, "b.go": {Data: []byte("1")}}, "go1", "linux/amd64")
}

// goCache is the developer's own build cache: XDG_CACHE_HOME is moved by the
// tests, and without this each of them would compile the standard library.
func goCache(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
