package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// The scripts are tried against a systemd that is a folder: what is active is a file
// in it.
const folderSystemctl = `#!/bin/sh -e
cd "$STATE"
case "$1" in
is-active) test -e "$3" ;;
list-units) for f in $5; do if test -e "$f"; then echo "$f loaded active waiting"; fi; done ;;
start) : >"$2" ;;
stop) test -e "$2" || test "$2" = kubelet; rm -f "$2" ;;
esac
`

const folderSystemdRun = `#!/bin/sh -e
cd "$STATE"
for a; do case "$a" in --unit=*) unit="${a#--unit=}.timer" ;; --on-active=*) on="${a#--on-active=}" ;; esac; done
test ! -e "$unit"
test -e kubelet # it is armed before anything is stopped
echo "$on" >"$unit"
`

func TestKubeletScripts(t *testing.T) {
	bin, state := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"systemctl": folderSystemctl, "systemd-run": folderSystemdRun} {
		ok(t, os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700))
	}
	run := func(script, tag string, more ...string) {
		t.Helper()
		cmd := exec.Command("sh", append([]string{"-ec", script, "sh", kubeletTimer(tag)}, more...)...)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "STATE="+state)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	active := func(want ...string) {
		t.Helper()
		entries, err := os.ReadDir(state)
		ok(t, err)
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if !slices.Equal(got, want) {
			t.Errorf("active are %v, want %v", got, want)
		}
	}
	ok(t, os.WriteFile(filepath.Join(state, "kubelet"), nil, 0o600))
	run(kubeletUp, "a")
	active("kubelet")
	run(kubeletDown, "a", "60s")
	active("gameday-kubelet-a.timer")
	run(kubeletDown, "a", "90s") // again, which must not arm anew
	b, err := os.ReadFile(filepath.Join(state, "gameday-kubelet-a.timer"))
	if err != nil || string(b) != "60s\n" {
		t.Errorf("the timer is set to %q, %v", b, err)
	}
	ok(t, os.WriteFile(filepath.Join(state, "gameday-kubelet-b.timer"), nil, 0o600)) // another injection
	run(kubeletUp, "a")
	active("gameday-kubelet-b.timer")
	run(kubeletUp, "b")
	active("kubelet")
	run(kubeletUp, "b")
	active("kubelet")
}
