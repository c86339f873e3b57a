package kind

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"gameday/clusters"
)

// Files of a node on this machine are reached through /proc/PID/root of its
// first process, so that it works on a node that runs nothing more. os.Root keeps
// every path inside the node. A symbolic link with an absolute target is refused
// by it; kubeadm's and kubelet's own files have none.

// temporary is the start of the names of files that are being written. The
// kubelet passes over files with a dot in its manifest folder:
// k8s.io/kubernetes@v1.37.0 pkg/kubelet/config/file.go.
const temporary = ".gameday-"

// root opens the file system of the node.
func (n *localNode) root(ctx context.Context) (*os.Root, error) {
	s, err := n.current(ctx)
	if err != nil {
		return nil, err
	}
	r, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root", s.pid))
	if err != nil {
		return nil, fmt.Errorf("%s: its files: %w", n.name, err)
	}
	// Had the process ended before the folder was opened, it could be another's.
	if again, err := n.current(ctx); err != nil || again.pid != s.pid {
		return nil, errors.Join(fmt.Errorf("%s: its container was restarted just now", n.name), err, r.Close())
	}
	return r, nil
}

func (n *localNode) within(ctx context.Context, do func(*os.Root) error) error {
	r, err := n.root(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(do(r), r.Close()); err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	return nil
}

// ReadFile implements clusters.Files.
func (n *localNode) ReadFile(ctx context.Context, name string) (data []byte, err error) {
	err = n.within(ctx, func(r *os.Root) error { data, err = readFile(r, name); return err })
	return data, err
}

// Open implements clusters.Opener.
func (n *localNode) Open(ctx context.Context, name string) (f io.ReadCloser, err error) {
	err = n.within(ctx, func(r *os.Root) error {
		rel, err := relative(name)
		if err != nil {
			return err
		}
		f, err = r.Open(rel)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// WriteFile implements clusters.Files.
func (n *localNode) WriteFile(ctx context.Context, name string, data []byte, mode fs.FileMode) error {
	return n.within(ctx, func(r *os.Root) error { return writeFile(r, name, data, mode) })
}

// Rename implements clusters.Files.
func (n *localNode) Rename(ctx context.Context, from, to string) error {
	return n.within(ctx, func(r *os.Root) error { return rename(r, from, to) })
}

// RemoveAll implements clusters.Files.
func (n *localNode) RemoveAll(ctx context.Context, name string) error {
	return n.within(ctx, func(r *os.Root) error { return removeAll(r, name) })
}

// ReadDir implements clusters.Files.
func (n *localNode) ReadDir(ctx context.Context, name string) (names []string, err error) {
	err = n.within(ctx, func(r *os.Root) error { names, err = readDir(r, name); return err })
	return names, err
}

// relative is an absolute path of a node as a path inside its os.Root.
func relative(name string) (string, error) {
	if !path.IsAbs(name) {
		return "", fmt.Errorf("%q is not an absolute path", name)
	}
	if name = strings.TrimPrefix(path.Clean(name), "/"); name == "" {
		return ".", nil
	}
	return name, nil
}

func readFile(r *os.Root, name string) ([]byte, error) {
	rel, err := relative(name)
	if err != nil {
		return nil, err
	}
	return r.ReadFile(rel)
}

func writeFile(r *os.Root, name string, data []byte, mode fs.FileMode) error {
	rel, err := relative(name)
	if err != nil {
		return err
	}
	dir := path.Dir(rel)
	if err := r.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp := path.Join(dir, temporary+rand.Text())
	f, err := r.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()) // Chmod: the umask does not count
	if err == nil {
		err = r.Rename(tmp, rel)
	}
	if err != nil {
		return errors.Join(err, r.Remove(tmp))
	}
	return nil
}

func rename(r *os.Root, from, to string) error {
	relFrom, err := relative(from)
	if err != nil {
		return err
	}
	relTo, err := relative(to)
	if err != nil {
		return err
	}
	if err := r.MkdirAll(path.Dir(relTo), 0o755); err != nil {
		return err
	}
	return r.Rename(relFrom, relTo)
}

func removeAll(r *os.Root, name string) error {
	rel, err := relative(name)
	if err != nil {
		return err
	}
	if rel == "." {
		return errors.New("removing the whole node is refused")
	}
	return r.RemoveAll(rel)
}

func readDir(r *os.Root, name string) ([]string, error) {
	rel, err := relative(name)
	if err != nil {
		return nil, err
	}
	d, err := r.Open(rel)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

// Files of a node that is not on this machine, or not ours to reach into, go
// through commands on it. noEntry is the exit code by which they say that
// nothing is there.
const noEntry = 44

func (n *node) fileCommand(ctx context.Context, op, name string, stdin []byte, script string, args ...string) ([]byte, error) {
	if !path.IsAbs(name) {
		return nil, fmt.Errorf("%s: %q is not an absolute path", n.name, name)
	}
	var out bytes.Buffer
	c := clusters.Command{Argv: append([]string{"sh", "-ec", script, "sh", path.Clean(name)}, args...), Stdout: &out}
	if stdin != nil {
		c.Stdin = bytes.NewReader(stdin)
	}
	err := n.Exec(ctx, c)
	var exit *clusters.ExitError
	if errors.As(err, &exit) && exit.Code == noEntry {
		return nil, fmt.Errorf("%s: %w", n.name, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist})
	}
	return out.Bytes(), err
}

// ReadFile implements clusters.Files. The size comes first, because the end of
// the output can be missing (see Exec).
func (n *node) ReadFile(ctx context.Context, name string) ([]byte, error) {
	out, err := n.fileCommand(ctx, "read", name, nil, `[ -e "$1" ] || exit 44; stat -Lc %s "$1"; cat "$1"`)
	if err != nil {
		return nil, err
	}
	first, data, _ := bytes.Cut(out, []byte{'\n'})
	size, err := strconv.Atoi(string(first))
	if err != nil {
		return nil, fmt.Errorf("%s: reading %s: its size: %w", n.name, name, err)
	}
	if len(data) < size { // a file that grows, or one of /proc, has more
		return nil, fmt.Errorf("%s: reading %s: Docker lost the end, %d of %d bytes came: try again", n.name, name, len(data), size)
	}
	return data, nil
}

// WriteFile implements clusters.Files.
func (n *node) WriteFile(ctx context.Context, name string, data []byte, mode fs.FileMode) error {
	if data == nil {
		data = []byte{}
	}
	_, err := n.fileCommand(ctx, "write", name, data,
		`mkdir -p "$(dirname "$1")"; trap 'rm -f "$2"' EXIT; cat >"$2"; chmod "$3" "$2"; mv -T "$2" "$1"`,
		path.Join(path.Dir(path.Clean(name)), temporary+rand.Text()), fmt.Sprintf("%o", mode.Perm()))
	return err
}

// Rename implements clusters.Files.
func (n *node) Rename(ctx context.Context, from, to string) error {
	if !path.IsAbs(to) {
		return fmt.Errorf("%s: %q is not an absolute path", n.name, to)
	}
	_, err := n.fileCommand(ctx, "rename", from, nil,
		`[ -e "$1" ] || exit 44; mkdir -p "$(dirname "$2")"; mv -T "$1" "$2"`, path.Clean(to))
	return err
}

// RemoveAll implements clusters.Files.
func (n *node) RemoveAll(ctx context.Context, name string) error {
	if path.Clean(name) == "/" {
		return fmt.Errorf("%s: removing the whole node is refused", n.name)
	}
	_, err := n.fileCommand(ctx, "remove", name, nil, `rm -rf "$1"`)
	return err
}

// ReadDir implements clusters.Files.
func (n *node) ReadDir(ctx context.Context, name string) ([]string, error) {
	out, err := n.fileCommand(ctx, "readdir", name, nil, `[ -e "$1" ] || exit 44; [ -d "$1" ]; ls -A "$1"`)
	if err != nil {
		return nil, err
	}
	names := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(out) == 0 {
		names = nil
	}
	slices.Sort(names)
	return names, nil
}
