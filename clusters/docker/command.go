package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// Run runs the docker command line and returns its stdout. An error holds the
// command, to be pasted into a shell, and the end of what it said.
func Run(ctx context.Context, args ...string) (string, error) {
	return RunInput(ctx, nil, args...)
}

// RunInput is Run with something on stdin.
func RunInput(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	// A pipe that a child of docker keeps open must not hold us after a kill.
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdin = stdin
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if errors.Is(err, exec.ErrNotFound) {
			return "", fmt.Errorf("the docker command is not on PATH: %w", err)
		}
		return out.String(), fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, lastLines(text.String()))
	}
	return out.String(), nil
}

// lastLines is the end of a text, on one line: what tools say last is why they failed.
func lastLines(s string) string {
	const n = 5
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}
