package workload

import (
	"archive/tar"
	"bytes"
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sync/errgroup"

	"gameday/clusters"
	"gameday/clusters/gobuild"
)

//go:embed agent/*.go
var agentSource embed.FS

// repository of the image. The domain does not exist: the image is only ever
// imported.
const repository = "gameday.local/workload"

// nobody is the user that the agent runs as.
const nobody = "65532:65532"

// image is the archive of the workload's image, as docker save writes it, and
// its name. The tag is made of the content: equal content, equal name.
func image(ctx context.Context) (ref string, archive []byte, err error) {
	src, err := fs.Sub(agentSource, "agent")
	if err != nil {
		return "", nil, fmt.Errorf("the agent's source: %w", err)
	}
	path, err := gobuild.Binary(ctx, "agent", src)
	if err != nil {
		return "", nil, err
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return "", nil, fmt.Errorf("read the agent: %w", err)
	}
	return pack(binary)
}

// pack puts a static binary into an image of nothing else.
func pack(binary []byte) (ref string, archive []byte, err error) {
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	err = w.WriteHeader(&tar.Header{Name: "agent", Mode: 0o755, Size: int64(len(binary)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write(binary)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return "", nil, fmt.Errorf("pack the agent: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(files.Bytes())), nil
	})
	if err != nil {
		return "", nil, fmt.Errorf("pack the agent: %w", err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return "", nil, fmt.Errorf("the workload's image: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return "", nil, fmt.Errorf("the workload's image: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{Entrypoint: []string{"/agent"}, User: nobody}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return "", nil, fmt.Errorf("the workload's image: %w", err)
	}
	id, err := img.ConfigName()
	if err != nil {
		return "", nil, fmt.Errorf("the workload's image: %w", err)
	}
	tag, err := name.NewTag(repository + ":" + id.Hex[:16])
	if err != nil {
		return "", nil, fmt.Errorf("the workload's image: %w", err)
	}
	var out bytes.Buffer
	if err := tarball.Write(tag, img, &out); err != nil {
		return "", nil, fmt.Errorf("write the workload's image: %w", err)
	}
	return tag.String(), out.Bytes(), nil
}

// load imports the image on some nodes, all at once.
func load(ctx context.Context, c clusters.Cluster, on []clusters.Node, archive []byte) error {
	together, ctx := errgroup.WithContext(ctx)
	for _, n := range on {
		together.Go(func() error {
			if err := c.LoadImages(ctx, n, bytes.NewReader(archive)); err != nil {
				return fmt.Errorf("load the workload's image on %s: %w", n.Name(), err)
			}
			return nil
		})
	}
	return together.Wait()
}

// Prepare brings the workload's image onto a machine that is about to join: there is
// no registry to pull it from.
func (s *Set) Prepare(ctx context.Context, n clusters.Node) error {
	_, archive, err := image(ctx)
	if err != nil {
		return err
	}
	return load(ctx, s.cluster, []clusters.Node{n}, archive)
}

// hosts are the nodes that the workload runs on: the workers, or, in a cluster
// without, every control plane.
func hosts(c clusters.Cluster) []clusters.Node {
	if w := clusters.ByRole(c.Nodes(), clusters.Worker); len(w) > 0 {
		return w
	}
	return clusters.ByRole(c.Nodes(), clusters.ControlPlane)
}
