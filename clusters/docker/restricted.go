package docker

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters"
	"gameday/clusters/gobuild"
)

// The programs that are built at run time.
//
//go:embed runcwrapper/main.go probe/main.go
var programs embed.FS

const (
	// runtimeName is our OCI runtime in daemon.json.
	runtimeName = "gameday-runc"
	// runtimePath is where it is installed. Not in the cache: the cache may be
	// deleted at any time, and a Docker whose default runtime is gone can start
	// nothing.
	runtimePath = "/usr/local/libexec/gameday/runc"
	// daemonJSON is dockerd's default configuration file.
	daemonJSON = "/etc/docker/daemon.json"
	// probeImage is a throw-away image that holds one program.
	probeImage = "gameday-probe:privileged"
	// probeBound is ample for starting one container that does nothing (0.5 s).
	probeBound = 60 * time.Second
)

// serveRestricted makes a Docker on a machine without CAP_SYS_RESOURCE able to
// start privileged containers. What Docker can do is tried, not guessed: a
// runtime that somebody else has set up, and that works, is left alone.
func serveRestricted(ctx context.Context, f Facts, say clusters.Say) error {
	err := probePrivileged(ctx)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	if obstacle := checkRestricted(f); obstacle != nil {
		return fmt.Errorf("%w (tried: %w)", obstacle, err)
	}
	if err := installRuntime(ctx); err != nil {
		return err
	}
	changed, err := registerRuntime(daemonJSON)
	if err != nil {
		return err
	}
	if changed {
		say("docker: this machine lacks CAP_SYS_RESOURCE: %s now names the OCI runtime %s (%s), which asks for no more than there is (a file that was there is kept as %s.before-gameday)",
			daemonJSON, runtimeName, runtimePath, daemonJSON)
	}
	if err := reload(ctx); err != nil {
		return err
	}
	if err := probePrivileged(ctx); err != nil {
		return fmt.Errorf("docker cannot start privileged containers, with the runtime %s neither: %w", runtimeName, err)
	}
	return nil
}

// checkRestricted is the obstacle that serveRestricted would meet, if any.
func checkRestricted(f Facts) error {
	switch {
	case os.Geteuid() != 0:
		return errors.New("this machine lacks CAP_SYS_RESOURCE and Docker must be given another OCI runtime for privileged containers: run as root")
	case f.DefaultRuntime != "" && f.DefaultRuntime != "runc" && f.DefaultRuntime != runtimeName:
		return fmt.Errorf("this machine lacks CAP_SYS_RESOURCE and Docker's default runtime is %q, which was not set by gameday and cannot start privileged containers here: remove default-runtime from %s", f.DefaultRuntime, daemonJSON)
	}
	return nil
}

// probePrivileged runs a privileged container that does nothing.
func probePrivileged(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, probeBound)
	defer cancel()
	program, err := build(ctx, "probe")
	if err != nil {
		return err
	}
	body, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("reading the probe: %w", err)
	}
	archive, err := tarFile("probe", body)
	if err != nil {
		return fmt.Errorf("packing the probe: %w", err)
	}
	if _, err := RunInput(ctx, archive, "import", "--change", "LABEL "+clusters.LabelProvider+"=docker", "-", probeImage); err != nil {
		return err
	}
	defer func() {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerBound)
		defer cancel()
		_, rmErr := Run(cleanup, "rmi", "--force", probeImage)
		err = errors.Join(err, rmErr)
	}()
	_, err = Run(ctx, "run", "--rm", "--privileged", "--network=none", "--label", clusters.LabelProvider+"=docker", probeImage, "/probe")
	return err
}

// build builds one of the embedded programs.
func build(ctx context.Context, name string) (string, error) {
	src, err := fs.Sub(programs, name)
	if err != nil {
		return "", fmt.Errorf("source of %s: %w", name, err)
	}
	return gobuild.Binary(ctx, name, src)
}

// installRuntime puts the wrapper in its place, atomically, if it is not there.
func installRuntime(ctx context.Context) error {
	built, err := build(ctx, "runcwrapper")
	if err != nil {
		return err
	}
	body, err := os.ReadFile(built)
	if err != nil {
		return fmt.Errorf("reading the OCI runtime wrapper: %w", err)
	}
	there, err := os.ReadFile(runtimePath)
	if err == nil && bytes.Equal(there, body) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the installed OCI runtime wrapper: %w", err)
	}
	if err := writeFile(runtimePath, body, 0o755); err != nil {
		return fmt.Errorf("installing the OCI runtime wrapper: %w", err)
	}
	return nil
}

// registerRuntime makes our wrapper the default runtime in a daemon.json, and
// keeps everything else that is in it. The old file stays beside it as
// daemon.json.before-gameday; the first one, if there are several.
func registerRuntime(path string) (changed bool, err error) {
	old, err := os.ReadFile(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return false, fmt.Errorf("reading %s: %w", path, err)
	}
	merged, err := mergeRuntime(old)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	if merged == nil {
		return false, nil
	}
	if !missing {
		backup := path + ".before-gameday"
		if _, err := os.Stat(backup); errors.Is(err, fs.ErrNotExist) {
			if err := writeFile(backup, old, 0o644); err != nil {
				return false, fmt.Errorf("keeping %s: %w", path, err)
			}
		} else if err != nil {
			return false, fmt.Errorf("looking for %s: %w", backup, err)
		}
	}
	if err := writeFile(path, merged, 0o644); err != nil {
		return false, fmt.Errorf("writing %s: %w", path, err)
	}
	return true, nil
}

// mergeRuntime adds our runtime to a daemon.json. It returns nil when it is
// there already, and an error where it would have to overwrite what somebody
// else has set.
func mergeRuntime(old []byte) ([]byte, error) {
	doc := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(old)) > 0 {
		if err := json.Unmarshal(old, &doc); err != nil {
			return nil, fmt.Errorf("it is not valid JSON, mend it first: %w", err)
		}
	}
	runtimes := map[string]json.RawMessage{}
	if raw, ok := doc["runtimes"]; ok {
		if err := json.Unmarshal(raw, &runtimes); err != nil {
			return nil, fmt.Errorf("runtimes is not an object, mend it first: %w", err)
		}
	}
	var def string
	if raw, ok := doc["default-runtime"]; ok {
		if err := json.Unmarshal(raw, &def); err != nil {
			return nil, fmt.Errorf("default-runtime is not a string, mend it first: %w", err)
		}
	}
	if def != "" && def != "runc" && def != runtimeName {
		return nil, fmt.Errorf("default-runtime is %q, which gameday did not set: remove it", def)
	}
	ours, err := json.Marshal(map[string]string{"path": runtimePath})
	if err != nil {
		return nil, err
	}
	if def == runtimeName && sameJSON(runtimes[runtimeName], ours) {
		return nil, nil
	}
	runtimes[runtimeName] = ours
	if doc["runtimes"], err = json.Marshal(runtimes); err != nil {
		return nil, err
	}
	if doc["default-runtime"], err = json.Marshal(runtimeName); err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(out, '\n'), nil
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return len(a) > 0 && json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// reload makes the running daemon read daemon.json again, which disturbs no
// container, and waits until it names our runtime as its default.
func reload(ctx context.Context) error {
	p, err := findDaemon()
	if err != nil {
		return err
	}
	if err := p.signal(unix.SIGHUP); err != nil {
		return fmt.Errorf("asking dockerd (pid %d) to read %s again: %w", p.pid, daemonJSON, err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerBound)
	defer cancel()
	return poll(ctx, func() error {
		f, err := Inspect(ctx)
		if err != nil {
			return err
		}
		if f.DefaultRuntime != runtimeName {
			return fmt.Errorf("dockerd was asked to read %s again and its default runtime is still %q: restart Docker", daemonJSON, f.DefaultRuntime)
		}
		return nil
	})
}

// writeFile replaces a file atomically and makes missing folders.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".gameday-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// poll asks every 200 ms until there is no error. When ctx ends it returns the
// last error.
func poll(ctx context.Context, ask func() error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
