package nodeimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestShadowed(t *testing.T) {
	const etcd, dns = "registry.k8s.io/etcd:3.6.8-0", "registry.k8s.io/coredns/coredns:v1.14.2"
	archive := func(name, file, content string) string {
		t.Helper()
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(at, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return at
	}
	index := func(digest string) string { return fmt.Sprintf(`{"manifests":[{"digest":%q}]}`, digest) }
	one := func(ref, digest string) ImageTar {
		return ImageTar{Ref: ref, Path: archive("image.tar", "index.json", index(digest))}
	}
	older := Artifacts{Images: []ImageTar{one(etcd, "sha256:1"), one(dns, "sha256:2")}}
	for _, c := range []struct {
		name  string
		newer []ImageTar
		want  []string
	}{
		{"another name", []ImageTar{one("registry.k8s.io/etcd:3.7.0-0", "sha256:3")}, nil},
		{"the same image", []ImageTar{one(etcd, "sha256:1"), one(dns, "sha256:2")}, nil},
		{"patched under the same name", []ImageTar{one(etcd, "sha256:4"), one(dns, "sha256:2")}, []string{etcd}},
	} {
		got, err := Artifacts{Images: c.newer}.Shadowed(older)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
	for _, bad := range []string{archive("a.tar", "other.json", "{}"), archive("b.tar", "index.json", `{"manifests":[]}`), archive("c.tar", "index.json", "{")} {
		if _, err := (Artifacts{Images: []ImageTar{{Ref: etcd, Path: bad}}}).Shadowed(older); err == nil || !strings.Contains(err.Error(), filepath.Base(bad)) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
