package docker

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"testing"
)

func TestAbsent(t *testing.T) {
	for _, c := range []struct {
		name, host string
		err        error
		want       bool
	}{
		{"no error", "", nil, false},
		{"not installed", "", fmt.Errorf("the docker command is not on PATH: %w", exec.ErrNotFound), true},
		{"not started", "", errors.New("docker info: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"), true},
		{"not started, newer client", "", errors.New("docker info: failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct and if the daemon is running: dial unix /var/run/docker.sock: connect: no such file or directory"), true},
		{"no permission", "", errors.New("docker info: permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get ...: dial unix /var/run/docker.sock: connect: permission denied"), false},
		{"no permission, newer client", "", errors.New("failed to connect to the docker API at unix:///var/run/docker.sock: connect: permission denied"), false},
		{"elsewhere", "tcp://192.0.2.1:2375", errors.New("Cannot connect to the Docker daemon at tcp://192.0.2.1:2375. Is the docker daemon running?"), false},
		{"no answer", "", fmt.Errorf("docker info: %w", context.DeadlineExceeded), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("DOCKER_HOST", c.host)
			if got := Absent(c.err); got != c.want {
				t.Errorf("%v: %v", c.err, got)
			}
		})
	}
}
