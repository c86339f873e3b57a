package kind

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters"
	"gameday/clusters/docker"
)

const (
	// dockerBound is how long Docker may take for a question or a small change.
	// A second is usual; a loaded machine takes ten times that.
	dockerBound = 60 * time.Second
	// killBound is for ending what a cancelled command left on a node.
	killBound = 10 * time.Second
	// outputKept is how much of what a command says goes into an error.
	outputKept = 4 << 10
)

// tokenEnv is a variable in the environment of each command on a node. A process
// hands it down to its children, and so all of them can be found again: killing
// the docker command line alone leaves the command running on the node.
const tokenEnv = "GAMEDAY_EXEC"

// Exec implements clusters.Execer, with `docker exec`.
//
// Docker closes a command's output two seconds after its end, read or not
// (github.com/moby/moby daemon/monitor.go), so that on a starved machine the end
// of long output can be missing while the exit code is 0. Whoever needs more than
// a few lines for certain lets the command write a file and reads that.
func (n *node) Exec(ctx context.Context, c clusters.Command) error {
	if len(c.Argv) == 0 {
		return fmt.Errorf("%s: a command without words", n.name)
	}
	token := rand.Text()
	args := []string{"exec", "--privileged", "-e", tokenEnv + "=" + token}
	if c.Stdin != nil {
		args = append(args, "-i")
	}
	for _, e := range c.Env {
		args = append(args, "-e", e)
	}
	args = append(append(args, n.id), c.Argv...)

	cmd := exec.CommandContext(ctx, "docker", args...)
	var stdout, stderr end
	cmd.Stdin = c.Stdin
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if c.Stdout != nil {
		cmd.Stdout = io.MultiWriter(c.Stdout, &stdout)
	}
	if c.Stderr != nil {
		cmd.Stderr = io.MultiWriter(c.Stderr, &stderr)
	}
	// A stdin that never ends, or a child that keeps a pipe open, must not hold us.
	cmd.WaitDelay = 5 * time.Second
	var killErr error
	cmd.Cancel = func() error {
		// First no new process, then the ones that are there.
		err := cmd.Process.Kill()
		kctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killBound)
		defer cancel()
		killErr = n.kill(kctx, token)
		return err
	}
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err := fmt.Errorf("%s: %q: %w", n.name, strings.Join(c.Argv, " "), context.Cause(ctx))
		if killErr != nil {
			err = fmt.Errorf("%w (and what it left on the node may still run: %w)", err, killErr)
		}
		return err
	}
	said := stderr.String()
	var exit *exec.ExitError
	// Docker's own failures come with exit codes that a command may have too.
	if !errors.As(err, &exit) || exit.ExitCode() == 125 || strings.HasPrefix(said, "Error response from daemon:") ||
		strings.HasPrefix(said, "Error: No such container:") || strings.HasPrefix(said, "Cannot connect to the Docker daemon") {
		return fmt.Errorf("%s: %q could not be run: %w: %s", n.name, strings.Join(c.Argv, " "), err, strings.TrimSpace(said))
	}
	if said == "" {
		said = stdout.String()
	}
	return &clusters.ExitError{Node: n.name, Argv: c.Argv, Code: exit.ExitCode(), Output: said}
}

// end keeps the end of what is written.
type end struct{ buf bytes.Buffer }

func (e *end) Write(b []byte) (int, error) {
	e.buf.Write(b)
	if over := e.buf.Len() - outputKept; over > 2*outputKept { // not at each write
		e.buf.Next(over)
	}
	return len(b), nil
}

func (e *end) String() string {
	b := e.buf.Bytes()
	return string(b[max(0, len(b)-outputKept):])
}

// killScript ends every process whose environment holds the token $1, but not
// the shell that looks (it was started without it).
const killScript = `for p in /proc/[0-9]*; do if grep -qsa "$1" "$p/environ"; then kill -9 "${p#/proc/}"; fi; done; true`

// killInside ends the processes with a token by a command on the node.
func (n *node) killInside(ctx context.Context, token string) error {
	_, err := docker.Run(ctx, "exec", "--privileged", n.id, "sh", "-c", killScript, "sh", tokenEnv+"="+token)
	return err
}

// killLocal ends the processes with a token on this machine, the nodes' ones
// among them. It needs nothing of the node. It is done when it found none twice:
// the daemon may have been about to start the command.
func killLocal(ctx context.Context, token string) error {
	want := []byte(tokenEnv + "=" + token)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for none := 0; none < 2; {
		found, err := killOnce(want)
		if err != nil {
			return err
		}
		if found {
			none = 0
		} else {
			none++
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

func killOnce(want []byte) (found bool, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		// Read after the pidfd was opened, so that both are of one process.
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err == nil && hasVariable(env, want) {
			found = true
			if sigErr := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); sigErr != nil && !errors.Is(sigErr, unix.ESRCH) {
				err = errors.Join(fmt.Errorf("killing process %d: %w", pid, sigErr), unix.Close(fd))
				return found, err
			}
		}
		if err := unix.Close(fd); err != nil {
			return found, err
		}
	}
	return found, nil
}

// hasVariable says whether a process's environment, as the kernel shows it,
// holds exactly this NAME=VALUE.
func hasVariable(environ, want []byte) bool {
	for v := range bytes.SplitSeq(environ, []byte{0}) {
		if bytes.Equal(v, want) {
			return true
		}
	}
	return false
}
