package kind

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func openRoot(t *testing.T) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, dir
}

func TestRootFiles(t *testing.T) {
	r, dir := openRoot(t)
	if err := writeFile(r, "/etc/a/b.yaml", []byte("one"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(r, "/etc/a/b.yaml", []byte("two"), 0o604); err != nil {
		t.Fatal(err)
	}
	got, err := readFile(r, "/etc/a/../a/b.yaml")
	if err != nil || string(got) != "two" {
		t.Errorf("read %q, %v", got, err)
	}
	info, err := os.Stat(filepath.Join(dir, "etc/a/b.yaml"))
	if err != nil || info.Mode().Perm() != 0o604 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := writeFile(r, "/top", []byte("x"), 0o600); err != nil {
		t.Errorf("in the top folder: %v", err)
	}
	if err := rename(r, "/etc/a/b.yaml", "/var/kept/b.yaml"); err != nil {
		t.Fatal(err)
	}
	names, err := readDir(r, "/etc/a")
	if err != nil || len(names) != 0 { // no temporary file either
		t.Errorf("left: %v, %v", names, err)
	}
	if err := writeFile(r, "/var/kept/a", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	names, err = readDir(r, "/var/kept")
	if diff := cmp.Diff([]string{"a", "b.yaml"}, names); diff != "" || err != nil {
		t.Errorf("%v -want +got:\n%s", err, diff)
	}
	for range 2 { // the second time nothing is there
		if err := removeAll(r, "/var/kept"); err != nil {
			t.Error(err)
		}
	}
	for what, err := range map[string]error{
		"read":    second(readFile(r, "/gone")),
		"readdir": second(readDir(r, "/gone")),
		"rename":  rename(r, "/gone", "/here"),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of nothing: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"remove of all":      removeAll(r, "/etc/.."),
		"relative":           writeFile(r, "etc/x", nil, 0o600),
		"relative rename":    rename(r, "/top", "x"),
		"relative read":      second(readFile(r, "top")),
		"relative directory": second(readDir(r, "etc")),
	} {
		if err == nil {
			t.Errorf("%s was allowed", what)
		}
	}
}

func TestRootFilesStayInside(t *testing.T) {
	r, dir := openRoot(t)
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if b, err := readFile(r, "/link"); err == nil {
		t.Errorf("read %q of this machine through a link of the node", b)
	}
	if err := writeFile(r, "/../../x", []byte("x"), 0o600); err != nil { // as on the node: /x
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err != nil {
		t.Error(err)
	}
}

func TestUntar(t *testing.T) {
	r, dir := openRoot(t)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Name: "pods/", Typeflag: tar.TypeDir, Mode: 0o700},
		{Name: "pods/a/0.log", Typeflag: tar.TypeReg, Size: 2, Mode: 0},
		{Name: "pods/l", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("hi")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := untar(r, &buf); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "pods/a/0.log")); err != nil || string(b) != "hi" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "pods/l")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link was written: %v", err)
	}

	// Half a file would pass for a whole one.
	var half bytes.Buffer
	w = tar.NewWriter(&half)
	if err := w.WriteHeader(&tar.Header{Name: "pods/half.log", Typeflag: tar.TypeReg, Size: 9}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("hi")); err != nil {
		t.Fatal(err)
	}
	if err := untar(r, &half); err == nil {
		t.Error("an archive that ends within a file was taken for whole")
	}
	if _, err := os.Lstat(filepath.Join(dir, "pods/half.log")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half a file was left: %v", err)
	}

	var evil bytes.Buffer
	w = tar.NewWriter(&evil)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "../out", Typeflag: tar.TypeReg}), w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := untar(r, &evil); err == nil {
		t.Error("an archive wrote outside its folder")
	}
}

func second[T any](_ T, err error) error { return err }
