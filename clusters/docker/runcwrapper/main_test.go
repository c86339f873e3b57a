package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFiles(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []file
	}{
		{[]string{"--root", "/r", "create", "--bundle", "/b", "--pid-file", "/p", "id"}, []file{{path: "/b/config.json"}}},
		{[]string{"run", "-b=/b", "id"}, []file{{path: "/b/config.json"}}},
		{[]string{"exec", "--process", "/tmp/p1", "--detach", "id"}, []file{{path: "/tmp/p1", isProcess: true}}},
		{[]string{"exec", "-p", "/tmp/p1", "id"}, []file{{path: "/tmp/p1", isProcess: true}}},
		{[]string{"state", "id"}, nil},
		{[]string{"create", "--bundle"}, nil},
	} {
		if diff := cmp.Diff(c.want, files(c.args), cmp.AllowUnexported(file{})); diff != "" {
			t.Errorf("files(%q) (-want +got):\n%s", c.args, diff)
		}
	}
}

func TestRestrict(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
		isProcess      bool
	}{
		{
			name: "bundle",
			in:   `{"ociVersion":"1.0","process":{"args":["a"],"oomScoreAdj":-999,"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"],"ambient":null}},"linux":{"big":18446744073709551615}}`,
			want: `{"ociVersion":"1.0","process":{"args":["a"],"oomScoreAdj":0,"capabilities":{"bounding":["CAP_CHOWN"],"ambient":null}},"linux":{"big":18446744073709551615}}`,
		},
		{
			name:      "process",
			in:        `{"capabilities":{"effective":["CAP_SYS_RESOURCE"]},"oomScoreAdj":5}`,
			want:      `{"capabilities":{"effective":[]},"oomScoreAdj":5}`,
			isProcess: true,
		},
		{name: "nothing to do", in: `{"process":{"capabilities":{"bounding":["CAP_CHOWN"]},"oomScoreAdj":0}}`},
		{name: "no process", in: `{"linux":{}}`},
	} {
		got, err := restrict([]byte(c.in), c.isProcess)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(decode(t, c.want), decode(t, string(got))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if _, err := restrict([]byte("no json"), false); err == nil {
		t.Error("a file that is no JSON passed")
	}
}

func TestRewriteKeepsMode(t *testing.T) {
	p := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(p, []byte(`{"process":{"oomScoreAdj":-1}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := rewrite(file{path: p}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, want 0600", info.Mode())
	}
}

func decode(t *testing.T, s string) any {
	t.Helper()
	if s == "" {
		return nil
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatal(err)
	}
	// Compared as text, because float64 would hide a lost digit.
	if l, ok := v["linux"].(map[string]any); ok && l["big"] != nil {
		var raw struct {
			Linux struct{ Big json.RawMessage }
		}
		if err := json.Unmarshal([]byte(s), &raw); err != nil {
			t.Fatal(err)
		}
		l["big"] = string(raw.Linux.Big)
	}
	return v
}
