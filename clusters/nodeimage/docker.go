package nodeimage

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// docker runs the docker command and returns its standard output. The command
// line client is used because kind uses it: contexts, DOCKER_HOST and
// credentials then mean the same to both.
func docker(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	var out bytes.Buffer
	err := dockerTo(ctx, stdin, &out, args...)
	return out.Bytes(), err
}

// dockerTo is docker with its standard output written to out.
func dockerTo(ctx context.Context, stdin io.Reader, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var errText bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, out, &errText
	// The client may leave children that hold our pipes; do not wait for them.
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("docker %s: %w", args[0], context.Cause(ctx))
	}
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("the docker command is not on PATH; install Docker: %w", err)
	}
	return fmt.Errorf("docker %s: %w: %s", args[0], err, lastLines(errText.String(), 5))
}

// dockerImage is what Docker knows about a local image.
type dockerImage struct {
	ID     string `json:"Id"`
	Config struct {
		Labels map[string]string `json:"Labels"`
	} `json:"Config"`
}

// inspect returns the local image of that name; ok is false if there is none.
func inspect(ctx context.Context, ref string) (img dockerImage, ok bool, err error) {
	out, err := docker(ctx, nil, "image", "inspect", ref)
	if err != nil && strings.Contains(strings.ToLower(err.Error()), "no such image") {
		return dockerImage{}, false, nil
	}
	if err != nil {
		return dockerImage{}, false, fmt.Errorf("inspecting the image %s: %w", ref, err)
	}
	var list []dockerImage
	if err := json.Unmarshal(out, &list); err != nil || len(list) != 1 {
		return dockerImage{}, false, fmt.Errorf("inspecting the image %s: unexpected answer of %d images (%w)", ref, len(list), err)
	}
	return list[0], true, nil
}

// startContainer starts a container of an image that does nothing until it is
// removed. It has no network. remove must be called; it also works after ctx has
// ended.
func startContainer(ctx context.Context, ref string, options ...string) (id string, remove func() error, err error) {
	name := "gameday-image-" + strings.ToLower(rand.Text()[:10])
	remove = func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		_, err := docker(ctx, nil, "rm", "--force", "--volumes", name)
		if err != nil && !strings.Contains(strings.ToLower(err.Error()), "no such container") {
			return fmt.Errorf("removing the container %s (do it by hand: docker rm -fv %s): %w", name, name, err)
		}
		return nil
	}
	args := []string{"create", "--name=" + name, "--network=none", "--entrypoint=sleep", "--label=" + LabelCache + "=true",
		// containerd needs more system calls than Docker's profile allows; no
		// other privilege is needed to store images.
		"--security-opt=seccomp=unconfined"}
	args = append(args, options...)
	// Not cancelled with ctx: a request that is cut off may still be carried out,
	// after we looked for what to remove.
	cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if _, err := docker(cctx, nil, append(args, ref, "infinity")...); err != nil {
		return "", nil, errors.Join(fmt.Errorf("making a container of %s: %w", ref, err), remove())
	}
	if _, err := docker(ctx, nil, "start", name); err != nil {
		return "", nil, errors.Join(fmt.Errorf("starting a container of %s: %w", ref, err), remove())
	}
	return name, remove, nil
}

// containerdScript runs containerd in the container until its socket answers.
// The bound is in the loop: 100 tries, 0.2 s apart.
const containerdScript = `
containerd >/tmp/containerd.log 2>&1 &
for i in $(seq 100); do
  if [ -S /run/containerd/containerd.sock ] && ctr version >/dev/null 2>&1; then exit 0; fi
  sleep 0.2
done
tail -n 5 /tmp/containerd.log >&2
exit 1`

// startContainerd starts containerd in a container of a node image. It ends
// with the container.
func startContainerd(ctx context.Context, id string) error {
	if _, err := docker(ctx, nil, "exec", id, "bash", "-c", containerdScript); err != nil {
		return fmt.Errorf("containerd did not come up within 20 s in the container %s: %w", id, err)
	}
	return nil
}

// lastLines is the end of a command's output.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
