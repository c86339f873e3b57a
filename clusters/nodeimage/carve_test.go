package nodeimage

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
)

// A program is reached as in Debian: /sbin is a link to usr/sbin, the program a
// link through /etc/alternatives.
func TestCarveTakesEveryLinkOnTheWay(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "usr/sbin/xtables-nft-multi"), "#!/bin/sh\n")
	write(t, filepath.Join(root, "usr/sbin/unused"), "")
	write(t, filepath.Join(root, "usr/lib/x86_64-linux-gnu/xtables/libxt_tcp.so"), "")
	for at, target := range map[string]string{
		"sbin":                      "usr/sbin",
		"usr/sbin/iptables":         "/etc/alternatives/iptables",
		"etc/alternatives/iptables": "../../usr/sbin/iptables-nft",
		"usr/sbin/iptables-nft":     "xtables-nft-multi",
	} {
		at = filepath.Join(root, at)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.Symlink(target, at)); err != nil {
			t.Fatal(err)
		}
	}
	c := carver{root: root, entries: map[string]bool{}}
	for _, f := range []string{"/sbin/iptables", "usr/lib/x86_64-linux-gnu/xtables"} {
		if err := c.add(f); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"etc", "etc/alternatives", "etc/alternatives/iptables", "sbin", "usr", "usr/lib", "usr/lib/x86_64-linux-gnu",
		"usr/lib/x86_64-linux-gnu/xtables", "usr/lib/x86_64-linux-gnu/xtables/libxt_tcp.so",
		"usr/sbin", "usr/sbin/iptables", "usr/sbin/iptables-nft", "usr/sbin/xtables-nft-multi",
	}
	if diff := cmp.Diff(want, sortedKeys(c.entries)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := c.add("usr/sbin/missing"); err == nil {
		t.Error("a missing program was carved")
	}
}

func TestCarveRefusesALoopOfLinks(t *testing.T) {
	root := t.TempDir()
	if err := errors.Join(os.Symlink("b", filepath.Join(root, "a")), os.Symlink("a", filepath.Join(root, "b"))); err != nil {
		t.Fatal(err)
	}
	c := carver{root: root, entries: map[string]bool{}}
	if err := c.add("a"); err == nil {
		t.Error("a loop has an end")
	}
}

// The archive is read back as a registry client would: index, manifest,
// configuration, layer, each by its digest.
func TestWriteImage(t *testing.T) {
	l, err := newLayer(t.TempDir(), func(tw *tar.Writer) error { return tarData(tw, "pause", []byte("binary"), 0o755) })
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeImage(&out, "registry.k8s.io/pause:3.10", v1.Config{Entrypoint: []string{"/pause"}}, l); err != nil {
		t.Fatal(err)
	}
	files := readTar(t, &out)
	var index v1.IndexManifest
	decode(t, files["index.json"], &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("%d manifests", len(index.Manifests))
	}
	m := index.Manifests[0]
	if m.Annotations["io.containerd.image.name"] != "registry.k8s.io/pause:3.10" || m.Annotations["org.opencontainers.image.ref.name"] != "3.10" {
		t.Errorf("names %v", m.Annotations)
	}
	blob := func(d v1.Descriptor) []byte {
		t.Helper()
		data, ok := files["blobs/sha256/"+d.Digest.Hex]
		if !ok || int64(len(data)) != d.Size {
			t.Fatalf("blob %s: there %t, %d bytes, want %d", d.Digest, ok, len(data), d.Size)
		}
		h, _, err := v1.SHA256(bytes.NewReader(data))
		if err != nil || h != d.Digest {
			t.Fatalf("blob %s has the digest %s (%v)", d.Digest, h, err)
		}
		return data
	}
	var manifest v1.Manifest
	decode(t, blob(m), &manifest)
	var config v1.ConfigFile
	decode(t, blob(manifest.Config), &config)
	if diff := cmp.Diff([]string{"/pause"}, config.Config.Entrypoint); diff != "" {
		t.Error(diff)
	}
	z, err := zstd.NewReader(bytes.NewReader(blob(manifest.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if h, _, err := v1.SHA256(bytes.NewReader(plain)); err != nil || h != config.RootFS.DiffIDs[0] {
		t.Errorf("diff id %s, want %s (%v)", config.RootFS.DiffIDs[0], h, err)
	}
	if got := string(readTar(t, bytes.NewReader(plain))["pause"]); got != "binary" {
		t.Errorf("the layer holds %q", got)
	}
}

func TestKindFiles(t *testing.T) {
	got, err := parseKindPins([]byte("ARG TARGETARCH GO_VERSION\nARG CONTAINERD_VERSION=\"v2.3.4\"\nARG CRICTL_VERSION=\"v1.36.0\"\nARG CNI_PLUGINS_VERSION=\"v1.9.1\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kindPins{Containerd: "v2.3.4", CNI: "v1.9.1", Crictl: "v1.36.0"}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := parseKindPins([]byte("FROM scratch")); err == nil {
		t.Error("a Dockerfile without versions was accepted")
	}
	base, err := criBase([]byte(`{"ociVersion":"1.2.1","process":{"cwd":"/","rlimits":[{"type":"RLIMIT_NOFILE"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	var spec map[string]any
	decode(t, base, &spec)
	want := map[string]any{"ociVersion": "1.2.1", "process": map[string]any{"cwd": "/"},
		"hooks": map[string]any{"createContainer": []any{map[string]any{"path": "/kind/bin/mount-product-files.sh"}}}}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Error(diff)
	}
}

func TestStoreKeepsWholeResultsOnly(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	quiet := func(string, ...any) {}
	s, unlock, err := openStore(t.Context(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.get("thing", "1", func(dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), errors.New("no space left"))
	}); err == nil {
		t.Fatal("a failed build was stored")
	}
	builds := 0
	for range 2 {
		dir, err := s.get("thing", "1", func(dir string) error {
			builds++
			return os.WriteFile(filepath.Join(dir, "whole"), nil, 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
		list, err := os.ReadDir(dir)
		if err != nil || len(list) != 1 || list[0].Name() != "whole" {
			t.Errorf("the result holds %v (%v)", list, err)
		}
	}
	if builds != 1 {
		t.Errorf("built %d times", builds)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.work); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("temporary files were left: %v", err)
	}
}

func TestTidy(t *testing.T) {
	dir := t.TempDir()
	s := store{dir: dir, work: filepath.Join(dir, "tmp")}
	for _, d := range []string{"tmp", "root-1", "kubernetes-v1.36.1-2", "artifacts-abc", "artifacts-def"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "lock"), "")
	old := time.Now().Add(-2 * unusedFor)
	for _, d := range []string{"tmp", "root-1", "lock"} {
		if err := os.Chtimes(filepath.Join(dir, d), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.tidy(time.Now(), []string{"sha256:abcdef"}); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range list {
		left = append(left, e.Name())
	}
	if diff := cmp.Diff([]string{"artifacts-abc", "kubernetes-v1.36.1-2", "lock", "tmp"}, left); diff != "" {
		t.Errorf("(-want +left)\n%s", diff)
	}
}

func readTar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func decode(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
}
