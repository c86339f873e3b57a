package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/clusters"
)

// fakeDocker puts a docker command on PATH whose exec runs the command on this
// machine, in a session of its own: as with the real one, killing the docker
// command leaves it running.
const fakeDocker = `#!/bin/sh
[ "$1" = exec ] || exit 99
shift
while :; do
  case "$1" in
  --privileged|-i) shift;;
  -e) export "$2"; shift 2;;
  *) break;;
  esac
done
id=$1; shift
case $id in
gone) echo "Error response from daemon: Container gone is not running" >&2; exit 1;;
esac
if [ "$1" = sh ] && [ "$2" = -c ] && [ "$3" = detached ]; then
  setsid sh -c 'echo up; sleep 100 & sleep 100; wait' &
  sleep 100
fi
exec "$@"
`

func fakeNode(t *testing.T) *node {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(fakeDocker), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return &node{name: "n", id: "id", kill: killLocal}
}

func TestExec(t *testing.T) {
	n := fakeNode(t)
	var out, errs bytes.Buffer
	err := n.Exec(t.Context(), clusters.Command{
		Argv: []string{"sh", "-c", `cat; echo "$GREETING" >&2`}, Env: []string{"GREETING=hello you"},
		Stdin: strings.NewReader("in"), Stdout: &out, Stderr: &errs,
	})
	if err != nil || out.String() != "in" || errs.String() != "hello you\n" {
		t.Errorf("out %q, err %q, %v", out.String(), errs.String(), err)
	}

	err = n.Exec(t.Context(), clusters.Command{Argv: []string{"sh", "-c", "echo no >&2; exit 7"}})
	var exit *clusters.ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || exit.Output != "no\n" || exit.Node != "n" {
		t.Errorf("got %#v", err)
	}
	err = n.Exec(t.Context(), clusters.Command{Argv: []string{"sh", "-c", "echo only out; exit 1"}})
	if !errors.As(err, &exit) || exit.Output != "only out\n" {
		t.Errorf("got %#v", err)
	}

	gone := *n
	gone.id = "gone"
	if err := gone.Exec(t.Context(), clusters.Command{Argv: []string{"true"}}); err == nil || errors.As(err, new(*clusters.ExitError)) {
		t.Errorf("a container that does not run: %v", err)
	}
	if err := n.Exec(t.Context(), clusters.Command{}); err == nil {
		t.Error("no command passed")
	}
}

func TestExecCancelledKillsOnTheNode(t *testing.T) {
	n := fakeNode(t)
	var token string
	n.kill = func(ctx context.Context, tok string) error { token = tok; return killLocal(ctx, tok) }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := time.Now()
	err := n.Exec(ctx, clusters.Command{Argv: []string{"sh", "-c", "detached"}, Stdout: writerFunc(func(b []byte) { cancel() })})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
	if found, err := killOnce([]byte(tokenEnv + "=" + token)); err != nil || found {
		t.Errorf("something was left on the node: %v, %v", found, err)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

func TestFilesByCommands(t *testing.T) {
	n := fakeNode(t)
	ctx, dir := t.Context(), t.TempDir()
	file := filepath.Join(dir, "sub dir", "f'1")
	if err := n.WriteFile(ctx, file, []byte("a\x00b"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := n.WriteFile(ctx, filepath.Join(dir, "empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := n.ReadFile(ctx, file)
	if err != nil || string(got) != "a\x00b" {
		t.Errorf("read %q, %v", got, err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if err := n.Rename(ctx, file, filepath.Join(dir, "new", "g")); err != nil {
		t.Fatal(err)
	}
	names, err := n.ReadDir(ctx, dir)
	if diff := cmp.Diff([]string{"empty", "new", "sub dir"}, names); diff != "" || err != nil {
		t.Errorf("%v -want +got:\n%s", err, diff)
	}
	if names, err := n.ReadDir(ctx, filepath.Dir(file)); err != nil || len(names) != 0 {
		t.Errorf("left: %q, %v", names, err)
	}
	for range 2 {
		if err := n.RemoveAll(ctx, filepath.Join(dir, "new")); err != nil {
			t.Error(err)
		}
	}
	gone := filepath.Join(dir, "gone")
	for what, err := range map[string]error{
		"read": second(n.ReadFile(ctx, gone)), "readdir": second(n.ReadDir(ctx, gone)), "rename": n.Rename(ctx, gone, gone+"2"),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of nothing: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"remove of all": n.RemoveAll(ctx, "/x/.."), "relative": n.RemoveAll(ctx, "x"), "relative target": n.Rename(ctx, dir, "x"),
	} {
		if err == nil {
			t.Errorf("%s was allowed", what)
		}
	}
}

func TestEndKeepsTheEnd(t *testing.T) {
	var e end
	for i := range 100_000 {
		fmt.Fprintf(&e, "%d\n", i)
	}
	if got := e.String(); len(got) != outputKept || !strings.HasSuffix(got, "\n99999\n") {
		t.Errorf("%d bytes, ending in %q", len(got), got[len(got)-20:])
	}
	if e.buf.Len() > 4*outputKept {
		t.Errorf("%d bytes are held", e.buf.Len())
	}
}

func TestHasVariable(t *testing.T) {
	env := []byte("PATH=/bin\x00GAMEDAY_EXEC=abc\x00")
	if !hasVariable(env, []byte("GAMEDAY_EXEC=abc")) || hasVariable(env, []byte("GAMEDAY_EXEC=ab")) {
		t.Error("a token must be matched whole")
	}
}
