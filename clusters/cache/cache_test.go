package cache

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDirIsMadeBeneathXDGCacheHome(t *testing.T) {
	base := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", base)
	got, err := Dir("bin", "x")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(base, "gameday", "bin", "x"); got != want {
		t.Errorf("Dir = %s, want %s", got, want)
	}
	if fi, err := os.Stat(got); err != nil || !fi.IsDir() {
		t.Errorf("Dir did not make %s: %v", got, err)
	}
}

func TestDirSaysWhatToMend(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", file)
	if _, err := Dir(); err == nil {
		t.Error("Dir beneath a plain file succeeded")
	}
}
