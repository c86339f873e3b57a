package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gameday/clusters"
)

// kubeletName is the one component that every node has. It is hollow: a version that
// is said, without a program.
const kubeletName = "kubelet"

var (
	_ clusters.Components = (*machine)(nil)
	_ clusters.Components = (*worker)(nil)
)

// StopComponent implements clusters.Components.
func (m *machine) StopComponent(ctx context.Context, name string) error {
	return told(ctx, m.cluster, "StopComponent", ComponentOrder{Node: m.name, Component: name})
}

// StartComponent implements clusters.Components.
func (m *machine) StartComponent(ctx context.Context, name string) error {
	return told(ctx, m.cluster, "StartComponent", ComponentOrder{Node: m.name, Component: name})
}

// InstallComponent implements clusters.Components. The program stands in the machine's
// own folder from then on.
func (m *machine) InstallComponent(ctx context.Context, name, version, program string) error {
	o := ComponentOrder{Node: m.name, Component: name, Version: version}
	if name != kubeletName {
		o.Version, o.Program = "v"+strings.TrimPrefix(version, "v"), filepath.Join(replaced, name)
		if err := put(program, filepath.Join(rootOf(m.cluster, m.name), o.Program)); err != nil {
			return fmt.Errorf("%s: put %s in its place: %w", m.name, name, err)
		}
	}
	return told(ctx, m.cluster, "InstallComponent", o)
}

// StopComponent implements clusters.Components.
func (w *worker) StopComponent(ctx context.Context, name string) error {
	return w.told(ctx, "StopComponent", ComponentOrder{Node: w.name, Component: name})
}

// StartComponent implements clusters.Components.
func (w *worker) StartComponent(ctx context.Context, name string) error {
	return w.told(ctx, "StartComponent", ComponentOrder{Node: w.name, Component: name})
}

// InstallComponent implements clusters.Components.
func (w *worker) InstallComponent(ctx context.Context, name, version, _ string) error {
	return w.told(ctx, "InstallComponent", ComponentOrder{Node: w.name, Component: name, Version: version})
}

func (w *worker) told(ctx context.Context, order string, o ComponentOrder) error {
	if o.Component != kubeletName {
		return fmt.Errorf("%s has no %s", w.name, o.Component)
	}
	return told(ctx, w.cluster, order, o)
}

func told(ctx context.Context, cluster, order string, o ComponentOrder) error {
	if err := tell(ctx, dirOf(cluster), order, o); err != nil {
		return fmt.Errorf("%s: %s of %s: %w", o.Node, order, o.Component, err)
	}
	return nil
}

// put makes a program be found at a path, in one move: who runs what was there before
// goes on running that. It is not copied if both are on one file system.
func put(program, at string) error {
	tmp := at + ".new"
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), absent(tmp)); err != nil {
		return err
	}
	if os.Link(program, tmp) != nil {
		if err := copyProgram(program, tmp); err != nil {
			return errors.Join(err, absent(tmp))
		}
	}
	// Of two names of one file rename(2) takes none away.
	return errors.Join(os.Rename(tmp, at), absent(tmp))
}

func absent(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
