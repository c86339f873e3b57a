package docker

import (
	"errors"
	"os"
	"os/exec"
	"strings"
)

// Absent says whether an error of Inspect or Run means that no engine runs on
// this machine, so that no cluster does either. Any other error (no permission,
// no answer, an engine elsewhere that cannot be reached) says nothing about
// clusters.
func Absent(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, exec.ErrNotFound) {
		return true
	}
	if os.Getenv("DOCKER_HOST") != "" {
		return false // it may run where we cannot see it
	}
	text := err.Error()
	// The words of Docker's client: client/errors.go of github.com/docker/docker
	// v28.2 and before, and of github.com/moby/moby/client since.
	for _, words := range []string{"Cannot connect to the Docker daemon at unix://", "failed to connect to the docker API at unix://"} {
		if strings.Contains(text, words) {
			return !strings.Contains(text, "permission denied")
		}
	}
	return false
}
