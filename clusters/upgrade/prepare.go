package upgrade

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"gameday/clusters"
)

// parallel is how many nodes are prepared at a time: importing an image keeps a
// core busy, and more imports than cores only take from the cluster.
const parallel = 4

// prepare brings images onto all nodes (the pods of the addons and of kubeadm's
// own check can land on any), and binaries and configuration onto those to be
// upgraded. What is there already stays.
func (r *run) prepare(ctx context.Context) (seen string, err error) {
	bins, err := r.binaries(ctx)
	if err != nil {
		return "", err
	}
	config, err := upgradeConfiguration(r.env.Options.To)
	if err != nil {
		return "", err
	}
	upgraded := map[string]bool{}
	for _, s := range r.steps {
		upgraded[s.Place] = true
	}
	var g errgroup.Group
	g.SetLimit(parallel)
	loaded := make([]int, len(r.env.Cluster.Nodes()))
	for i, n := range r.env.Cluster.Nodes() {
		if n.Role() == clusters.LoadBalancer {
			continue
		}
		g.Go(func() error {
			role := clusters.Worker
			if upgraded[clusters.Place(n)] {
				role = n.Role()
			}
			k, err := r.loadImages(ctx, n, role)
			loaded[i] = k
			if err != nil || !upgraded[clusters.Place(n)] {
				return err
			}
			return r.stageFiles(ctx, n, bins, config)
		})
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	sum := 0
	for _, k := range loaded {
		sum += k
	}
	return fmt.Sprintf("%d image archives loaded, %d nodes have kubeadm, kubelet and kubectl %s", sum, len(upgraded), r.env.Options.To), nil
}

// loadImages loads the archives of all images that the node lacks and checks
// that it has them then. It returns how many it loaded.
func (r *run) loadImages(ctx context.Context, n clusters.Node, role clusters.Role) (int, error) {
	want, err := r.env.Targets.Images(ctx, role)
	if err != nil {
		return 0, fmt.Errorf("images of %s for a %s: %w", r.env.Options.To, role, err)
	}
	lacking, err := lacks(ctx, n, want)
	if err != nil || len(lacking) == 0 {
		return 0, err
	}
	var archives []string
	for _, name := range lacking {
		if !slices.Contains(archives, want[name]) {
			archives = append(archives, want[name])
		}
	}
	for _, a := range archives {
		if err := r.loadArchive(ctx, n, a); err != nil {
			return 0, err
		}
	}
	if lacking, err = lacks(ctx, n, want); err != nil {
		return 0, err
	}
	if len(lacking) > 0 {
		return 0, fmt.Errorf("%s lacks %s after its archive was loaded: the archive holds another name", n.Name(), strings.Join(lacking, ", "))
	}
	return len(archives), nil
}

func (r *run) loadArchive(ctx context.Context, n clusters.Node, archive string) (err error) {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("image archive for %s: %w", n.Name(), err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := r.env.Cluster.LoadImages(ctx, n, f); err != nil {
		return fmt.Errorf("load %s into %s: %w", archive, n.Name(), err)
	}
	return nil
}

// lacks lists, sorted, the images that the node's container runtime has not.
func lacks(ctx context.Context, n clusters.Node, want map[string]string) ([]string, error) {
	// By a file: the end of long output can be lost on its way through the engine.
	files, ok := n.(clusters.Files)
	if !ok {
		return nil, fmt.Errorf("%s cannot read files (capability %s)", n.Name(), clusters.CapFiles)
	}
	listing := path.Join(stage, "images.json")
	if _, err := clusters.Output(ctx, n, "sh", "-c", `mkdir -p "$(dirname "$0")" && crictl images -o json >"$0"`, listing); err != nil {
		return nil, fmt.Errorf("images on %s: %w", n.Name(), err)
	}
	out, err := files.ReadFile(ctx, listing)
	if err != nil {
		return nil, fmt.Errorf("images on %s: %w", n.Name(), err)
	}
	var list struct {
		Images []struct {
			RepoTags []string `json:"repoTags"`
		} `json:"images"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("images on %s: crictl's answer: %w", n.Name(), err)
	}
	have := map[string]bool{}
	for _, i := range list.Images {
		for _, t := range i.RepoTags {
			have[t] = true
		}
	}
	var out2 []string
	for _, name := range sortedKeys(want) {
		if !have[name] {
			out2 = append(out2, name)
		}
	}
	return out2, nil
}

// binary is a program to install, with its SHA-256.
type binary struct{ name, path, sum string }

func (r *run) binaries(ctx context.Context) ([]binary, error) {
	adm, let, ctl, err := r.env.Targets.Binaries(ctx)
	if err != nil {
		return nil, fmt.Errorf("binaries of %s: %w", r.env.Options.To, err)
	}
	bins := []binary{{name: "kubeadm", path: adm}, {name: "kubelet", path: let}, {name: "kubectl", path: ctl}}
	for i, b := range bins {
		if bins[i].sum, err = fileSum(b.path); err != nil {
			return nil, fmt.Errorf("binaries of %s: %w", r.env.Options.To, err)
		}
	}
	return bins, nil
}

func fileSum(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}

// stageFiles brings the binaries and kubeadm's configuration into the stage
// folder of a node.
func (r *run) stageFiles(ctx context.Context, n clusters.Node, bins []binary, config []byte) error {
	files, ok := n.(clusters.Files)
	if !ok {
		return fmt.Errorf("%s cannot write files (capability %s)", n.Name(), clusters.CapFiles)
	}
	to := r.env.Options.To
	if err := files.WriteFile(ctx, configPath(to), config, 0o644); err != nil {
		return fmt.Errorf("%s: write %s: %w", n.Name(), configPath(to), err)
	}
	for _, b := range bins {
		dst := staged(to, b.name)
		if nodeSum(ctx, n, dst) == b.sum {
			continue
		}
		if err := send(ctx, n, b.path, dst); err != nil {
			return err
		}
		if got := nodeSum(ctx, n, dst); got != b.sum {
			return fmt.Errorf("%s: %s has SHA-256 %q after it was copied, not %s", n.Name(), dst, got, b.sum)
		}
	}
	return nil
}

// nodeSum is the SHA-256 of a file on the node; empty if it cannot be told.
func nodeSum(ctx context.Context, n clusters.Node, name string) string {
	out, err := clusters.Output(ctx, n, "sha256sum", name)
	if err != nil {
		return ""
	}
	sum, _, _ := strings.Cut(string(out), " ")
	return sum
}

// send streams a program onto the node (it is too big to hold in memory) and
// puts it in place in one move.
func send(ctx context.Context, n clusters.Node, from, to string) (err error) {
	x, ok := n.(clusters.Execer)
	if !ok {
		return fmt.Errorf("%s cannot run commands (capability %s)", n.Name(), clusters.CapExec)
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	const script = `cat >"$0.new" && chmod 0755 "$0.new" && mv -f "$0.new" "$0"`
	if err := x.Exec(ctx, clusters.Command{Argv: []string{"sh", "-c", script, to}, Stdin: f}); err != nil {
		return fmt.Errorf("copy %s to %s: %w", to, n.Name(), err)
	}
	return nil
}
