package workload

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestPack(t *testing.T) {
	ref, archive, err := pack([]byte("binary"))
	if err != nil {
		t.Fatal(err)
	}
	again, same, err := pack([]byte("binary"))
	if err != nil || again != ref || !bytes.Equal(same, archive) {
		t.Errorf("the same binary gave %s and %s, %v", ref, again, err)
	}
	if other, _, err := pack([]byte("another")); err != nil || other == ref {
		t.Errorf("another binary gave %s, %v", other, err)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }, &tag)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil || cfg.OS != "linux" || cfg.Config.User != nobody || strings.Join(cfg.Config.Entrypoint, " ") != "/agent" {
		t.Errorf("config %+v, %v", cfg, err)
	}
}

// agent starts the agent and returns what it prints, line by line.
func agent(t *testing.T, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	bin := t.TempDir() + "/agent"
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./agent")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), "POD_UID=u1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

func next(t *testing.T, in *bufio.Scanner, want string) {
	t.Helper()
	var l struct {
		At    int64
		UID   string
		Event string
	}
	if !in.Scan() {
		t.Fatalf("no line, want %s", want)
	}
	if err := json.Unmarshal(in.Bytes(), &l); err != nil {
		t.Fatal(err)
	}
	if l.Event != want || l.UID != "u1" || time.Since(time.Unix(0, l.At)).Abs() > time.Minute {
		t.Errorf("%s, want %s", in.Bytes(), want)
	}
}

// TestAgentJob: a job runs to its end, whatever signal comes.
func TestAgentJob(t *testing.T) {
	began := time.Now()
	cmd, out := agent(t, "job", "--for", "500ms")
	next(t, out, "start")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	next(t, out, "signal")
	next(t, out, "end")
	if err := cmd.Wait(); err != nil || time.Since(began) < 500*time.Millisecond {
		t.Errorf("ended after %s: %v", time.Since(began), err)
	}
}

// TestAgentServe: a server is ready, then says that it goes, serves on, and ends
// well within its grace period.
func TestAgentServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cmd, out := agent(t, "serve", "--listen", addr, "--linger", "300ms")
	next(t, out, "start")
	get := func(path string) int {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for deadline := time.Now().Add(5 * time.Second); get("/readyz") != 200; {
		if time.Now().After(deadline) {
			t.Fatal("never ready")
		}
	}
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	next(t, out, "signal")
	if ready, served := get("/readyz"), get("/"); ready != 503 || served != 200 {
		t.Errorf("while it ends: readyz %d, / %d", ready, served)
	}
	next(t, out, "end")
	if err := cmd.Wait(); err != nil || time.Since(began) > (serveGrace/2)*time.Second {
		t.Errorf("ended after %s: %v", time.Since(began), err)
	}
}
