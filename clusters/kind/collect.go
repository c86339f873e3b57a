package kind

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"gameday/clusters"
)

const (
	// nodesAtOnce is how many nodes are collected from at the same time.
	nodesAtOnce = 4
	// collectBound is for one piece: a node that is frozen or cut off must not
	// keep the others' logs from being collected.
	collectBound = 90 * time.Second
)

// Collect implements clusters.Cluster. Below dir:
//
//	NODE/inspect.json      what Docker knows of the container
//	NODE/docker.log        what it printed
//	NODE/journal.log       its journal, whole
//	NODE/kubelet.log       the kubelet's part
//	NODE/containerd.log    containerd's part
//	NODE/crictl-ps.txt     its containers, ended ones too
//	NODE/pods/             the logs of its pods
//	NODE/kubernetes/       the audit log (control planes)
//	NODE/manifests/        the static pods (control planes)
//	objects.yaml           the objects of the cluster
//
// Files are copied by Docker, without the node's help. What a command tells is
// written to a file on the node first: Docker may lose the end of long output
// (see Exec).
func (c *cluster) Collect(ctx context.Context, dir string) error {
	var g errgroup.Group // errors are joined, not raced
	g.SetLimit(nodesAtOnce)
	nodes := c.Nodes()
	errs := make([]error, len(nodes)+1)
	for i, n := range nodes {
		g.Go(func() error { errs[i] = collectNode(ctx, kindNode(n), filepath.Join(dir, n.Name())); return nil })
	}
	g.Go(func() error {
		errs[len(nodes)] = c.collectObjects(ctx, dir)
		return nil
	})
	if err := errors.Join(g.Wait(), errors.Join(errs...)); err != nil {
		return fmt.Errorf("collecting the logs of %s: %w", c.name, err)
	}
	return nil
}

func collectNode(ctx context.Context, n *node, dir string) error {
	errs := []error{
		save(ctx, filepath.Join(dir, "inspect.json"), "docker", "inspect", n.id),
		save(ctx, filepath.Join(dir, "docker.log"), "docker", "logs", n.id),
	}
	if n.role == clusters.LoadBalancer {
		return errors.Join(errs...)
	}
	errs = append(errs, tell(ctx, n, dir, map[string]string{
		"journal.log":    "journalctl --no-pager --output=short-iso-precise",
		"kubelet.log":    "journalctl --no-pager --output=short-iso-precise --unit=kubelet",
		"containerd.log": "journalctl --no-pager --output=short-iso-precise --unit=containerd",
		"crictl-ps.txt":  "crictl ps --all",
	}))
	copies := []string{"/var/log/pods"}
	if n.role == clusters.ControlPlane {
		copies = append(copies, AuditDir, "/etc/kubernetes/manifests")
	}
	for _, from := range copies {
		errs = append(errs, copyOut(ctx, n, from, dir))
	}
	return errors.Join(errs...)
}

// objectKinds are the objects worth having in a report, for `kubectl get`.
const objectKinds = "nodes,pods,deployments,replicasets,daemonsets,statefulsets,jobs,cronjobs,services,endpointslices,poddisruptionbudgets,leases,events"

// collectObjects takes the objects from the first API server that gives them,
// each asked on its own node.
func (c *cluster) collectObjects(ctx context.Context, dir string) error {
	var errs []error
	for _, n := range clusters.ByRole(c.Nodes(), clusters.ControlPlane) {
		err := tell(ctx, kindNode(n), dir, map[string]string{"objects.yaml": fmt.Sprintf(
			"kubectl --kubeconfig=%s --server=https://127.0.0.1:%d get %s --all-namespaces --output=yaml",
			adminConf, apiServerPort, objectKinds)})
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// tell runs commands on the node, each of which prints what goes into its file,
// and copies the files into dir. A command that fails keeps no other from
// running, and leaves no file: half a log would pass for a whole one.
func tell(ctx context.Context, n *node, dir string, commands map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, collectBound)
	defer cancel()
	folder := "/var/lib/gameday/collect-" + rand.Text() // on the volume: Docker copies nothing out of a tmpfs
	script := "bad=0; mkdir -p \"$1\" || exit\n"
	for _, file := range slices.Sorted(maps.Keys(commands)) {
		script += fmt.Sprintf("%s >\"$1/%s\" || { bad=1; rm -f \"$1/%s\"; }\n", commands[file], file, file)
	}
	script += "exit $bad"
	runErr := n.Exec(ctx, clusters.Command{Argv: []string{"sh", "-c", script, "sh", folder}})
	copyErr := copyOut(ctx, n, folder+"/.", dir)
	cleanup, stop := context.WithTimeout(context.WithoutCancel(ctx), killBound)
	defer stop()
	return errors.Join(runErr, copyErr, n.RemoveAll(cleanup, folder))
}

// create makes a file and its folder.
func create(name string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	return os.Create(name)
}

// save writes what a command on this machine prints, both streams.
func save(ctx context.Context, to string, argv ...string) error {
	ctx, cancel := context.WithTimeout(ctx, collectBound)
	defer cancel()
	f, err := create(to)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.WaitDelay = 5 * time.Second
	if err := errors.Join(cmd.Run(), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return nil
}

// copyOut copies a folder of the node below dir, under its last name; what is in
// it alone when that is a dot.
func copyOut(ctx context.Context, n *node, from, dir string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, collectBound)
	defer cancel()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	cmd := exec.CommandContext(ctx, "docker", "cp", n.id+":"+from, "-")
	cmd.WaitDelay = 5 * time.Second
	var said end
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	untarErr := untar(root, out)
	if untarErr != nil {
		cancel() // nobody reads any more
	}
	if err := errors.Join(untarErr, cmd.Wait()); err != nil {
		return fmt.Errorf("copying %s of %s: %w: %s", from, n.name, err, strings.TrimSpace(said.String()))
	}
	return nil
}

// untar writes the folders and regular files of an archive. Links are left out:
// what they lead to is not here. os.Root refuses every path that leads out.
func untar(root *os.Root, r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			if err := root.MkdirAll(name, 0o755); err != nil {
				return err
			}
		case tar.TypeReg:
			if err := untarFile(root, name, t); err != nil {
				return err
			}
		}
	}
}

func untarFile(root *os.Root, name string, r io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, root.Remove(name)) // half a log would pass for a whole one
	}
	return nil
}
