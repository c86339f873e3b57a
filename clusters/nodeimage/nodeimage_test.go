package nodeimage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/modfile"
)

func TestCheckVersion(t *testing.T) {
	for _, good := range []string{"v1.32.0", "v1.37.0", "v1.40.12", "v1.37.0-rc.1"} {
		if _, err := checkVersion(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "1.36.1", "v1.36", "v2.0.0", "v1.31.9", "v1.36.01", "v1.36.1 ", "v1.36.1+x", "latest"} {
		if _, err := checkVersion(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestKindVersionIsTheOneInGoMod(t *testing.T) {
	data, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	f, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range f.Require {
		if r.Mod.Path == "sigs.k8s.io/kind" {
			if r.Mod.Version != kindVersion {
				t.Errorf("kindVersion is %s, go.mod has %s", kindVersion, r.Mod.Version)
			}
			return
		}
	}
	t.Error("go.mod does not require sigs.k8s.io/kind")
}

// Neither a built nor a replaced image may have a name under which a stock one
// is looked for.
func TestTagsTellImagesApart(t *testing.T) {
	published := publishedTag("v1.36.1")
	built := builtTag("v1.36.1", "abc", false)
	replaced := builtTag("v1.36.1", "abc", true)
	if published == built || built == replaced || published == replaced {
		t.Errorf("names clash: %s %s %s", published, built, replaced)
	}
	if want := "gameday.local/node:v1.36.1-abc"; built != want {
		t.Errorf("built = %s, want %s", built, want)
	}
	if want := "gameday.local/node:v1.36.1-replaced-abc"; replaced != want {
		t.Errorf("replaced = %s, want %s", replaced, want)
	}
	got := replacedLabel(map[string]string{"k8s.io/kubernetes": "2", "k8s.io/api": "1"})
	if want := "k8s.io/api=sha256:1,k8s.io/kubernetes=sha256:2"; got != want {
		t.Errorf("label = %s, want %s", got, want)
	}
}

func TestCheckReplaceNamesEveryObstacle(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "good", "go.mod"), "module k8s.io/kubernetes\n")
	write(t, filepath.Join(dir, "other", "go.mod"), "module example.com/other\n")
	got, err := checkReplace(map[string]string{"k8s.io/kubernetes": filepath.Join(dir, "good")})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"k8s.io/kubernetes": filepath.Join(dir, "good")}, got); diff != "" {
		t.Error(diff)
	}
	_, err = checkReplace(map[string]string{
		"k8s.io/api":       filepath.Join(dir, "other"),
		"k8s.io/client-go": filepath.Join(dir, "missing"),
	})
	if err == nil {
		t.Fatal("bad directories were accepted")
	}
	for _, want := range []string{"k8s.io/api", "example.com/other", "k8s.io/client-go", "missing"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestImageKeyDependsOnWhatGoesIn(t *testing.T) {
	base := builder{version: "v1.36.1", tc: toolchain{version: "go1.26.8"}}
	key := func(change func(b *builder)) string {
		t.Helper()
		b := base
		change(&b)
		k, err := b.imageKey()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	stock := key(func(*builder) {})
	if stock != key(func(*builder) {}) {
		t.Error("the key changes without a change")
	}
	for what, change := range map[string]func(b *builder){
		"version":   func(b *builder) { b.version = "v1.36.2" },
		"toolchain": func(b *builder) { b.tc.version = "go1.27.0" },
		"replaced":  func(b *builder) { b.hashes = map[string]string{"k8s.io/kubernetes": "1"} },
	} {
		if key(change) == stock {
			t.Errorf("another %s gives the same key", what)
		}
	}
	one := key(func(b *builder) { b.hashes = map[string]string{"k8s.io/kubernetes": "1"} })
	two := key(func(b *builder) { b.hashes = map[string]string{"k8s.io/kubernetes": "2"} })
	if one == two {
		t.Error("another content of a replaced module gives the same key")
	}
}

func TestRecipeKeyIgnoresWhereASourceTreeLies(t *testing.T) {
	r := kubernetesRecipe("v1.36.1")
	r.Replace = map[string]string{"k8s.io/kubernetes": "/one"}
	moved := r
	moved.Replace = map[string]string{"k8s.io/kubernetes": "/two"}
	hashes := map[string]string{"k8s.io/kubernetes": "1", "k8s.io/api": "unused"}
	a, err := recipeKey(r, "go1.26.8", hashes)
	if err != nil {
		t.Fatal(err)
	}
	b, err := recipeKey(moved, "go1.26.8", hashes)
	if err != nil {
		t.Fatal(err)
	}
	c, err := recipeKey(r, "go1.26.8", map[string]string{"k8s.io/kubernetes": "2"})
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Error("the same content in another folder has another key")
	}
	if a == c {
		t.Error("other content has the same key")
	}
}

func TestHashDir(t *testing.T) {
	make := func(files map[string]string) string {
		t.Helper()
		dir := t.TempDir()
		for name, body := range files {
			write(t, filepath.Join(dir, name), body)
		}
		h, err := hashDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	base := make(map[string]string{"a.go": "1", "sub/b.go": "2"})
	if base != make(map[string]string{"a.go": "1", "sub/b.go": "2", ".git/index": "x", "_output/bin": "y"}) {
		t.Error(".git or _output is part of the hash")
	}
	for what, files := range map[string]map[string]string{
		"content":  {"a.go": "1", "sub/b.go": "3"},
		"name":     {"a.go": "1", "sub/c.go": "2"},
		"new file": {"a.go": "1", "sub/b.go": "2", "c.go": ""},
	} {
		if make(files) == base {
			t.Errorf("another %s gives the same hash", what)
		}
	}
}

func write(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestKeysOfRecipesDoNotDependOnTheOrderOfMaps(t *testing.T) {
	keys := func() string {
		t.Helper()
		var all []string
		recipes := append(etcdRecipes("v3.6.8"), kubernetesRecipe("v1.36.1"), coreDNSRecipe("v1.14.2"))
		for _, r := range append(recipes, runtimeRecipes(kindPins{Containerd: "v2.3.4", CNI: "v1.9.1", Crictl: "v1.36.0"})...) {
			k, err := recipeKey(r, "go1.26.8", nil)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, k)
		}
		return strings.Join(all, " ")
	}
	first := keys()
	for range 50 {
		if again := keys(); again != first {
			t.Fatalf("keys %s, then %s", first, again)
		}
	}
}
