package nodeimage

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/modfile"
)

var update = flag.Bool("update", false, "write the golden files")

func TestRewriteGoMod(t *testing.T) {
	for _, tc := range []struct {
		name, upstream, path, version string
		replace                       map[string]string
	}{
		{"kubernetes.stock", "kubernetes.go.mod", "k8s.io/kubernetes", "v1.36.1", nil},
		{"kubernetes.prerelease", "kubernetes.go.mod", "k8s.io/kubernetes", "v1.37.0-rc.1", nil},
		{"kubernetes.replaced", "kubernetes.go.mod", "k8s.io/kubernetes", "v1.36.1", map[string]string{
			"k8s.io/kubernetes": "/src/kubernetes", "k8s.io/api": "/src/kubernetes/staging/src/k8s.io/api",
			"github.com/spf13/cobra": "/src/cobra"}},
		{"etcd.stock", "etcd.go.mod", "go.etcd.io/etcd/server/v3", "v3.6.8", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			upstream, err := os.ReadFile(filepath.Join("testdata", tc.upstream))
			if err != nil {
				t.Fatal(err)
			}
			got, err := rewriteGoMod(upstream, tc.path, tc.version, tc.replace)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := modfile.Parse("go.mod", got, nil); err != nil {
				t.Errorf("not a go.mod: %v", err)
			}
			golden := filepath.Join("testdata", tc.name+".golden")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestRewriteGoModRefusesAnotherModule(t *testing.T) {
	if _, err := rewriteGoMod([]byte("module k8s.io/api\n"), "k8s.io/kubernetes", "v1.36.1", nil); err == nil {
		t.Error("the go.mod of another module was taken")
	}
	if _, err := rewriteGoMod([]byte("modul x"), "k8s.io/kubernetes", "v1.36.1", nil); err == nil {
		t.Error("a broken go.mod was taken")
	}
}

func TestRelevantReplacementsAreThoseOfTheBuild(t *testing.T) {
	upstream, err := os.ReadFile("testdata/kubernetes.go.mod")
	if err != nil {
		t.Fatal(err)
	}
	got, err := relevant(upstream, "k8s.io/kubernetes", map[string]string{
		"k8s.io/kubernetes":         "/k",
		"golang.org/x/sys":          "/sys",
		"go.etcd.io/etcd/server/v3": "/etcd",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"k8s.io/kubernetes": "/k", "golang.org/x/sys": "/sys"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// client-go is in CoreDNS too, in another release.
	got, err = relevant([]byte("module github.com/coredns/coredns\nrequire k8s.io/client-go v0.35.0\n"), "github.com/coredns/coredns",
		map[string]string{"k8s.io/client-go": "/k"})
	if err != nil || len(got) != 0 {
		t.Errorf("CoreDNS is built with %v (%v)", got, err)
	}
}
