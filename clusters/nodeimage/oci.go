package nodeimage

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// layerFile is a compressed layer on disk.
type layerFile struct {
	file           string
	size           int64
	digest, diffID v1.Hash
}

// newLayer compresses what write puts into a tar into a file in the folder
// work. zstd, because every node unpacks every image that it runs: it is several
// times faster to unpack than gzip, and containerd reads both.
func newLayer(work string, write func(tw *tar.Writer) error) (l layerFile, err error) {
	f, err := os.CreateTemp(work, "layer-")
	if err != nil {
		return layerFile{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	packed, plain := sha256.New(), sha256.New()
	z, err := zstd.NewWriter(io.MultiWriter(f, packed))
	if err != nil {
		return layerFile{}, err
	}
	tw := tar.NewWriter(io.MultiWriter(z, plain))
	if err := errors.Join(write(tw), tw.Close(), z.Close()); err != nil {
		return layerFile{}, fmt.Errorf("writing an image layer: %w", err)
	}
	fi, err := f.Stat()
	if err != nil {
		return layerFile{}, err
	}
	return layerFile{file: f.Name(), size: fi.Size(), digest: sum(packed), diffID: sum(plain)}, nil
}

func sum(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// writeImage writes an OCI image archive that `ctr images import` stores under
// the name ref.
func writeImage(out io.Writer, ref string, cfg v1.Config, layers ...layerFile) error {
	config := v1.ConfigFile{Architecture: runtime.GOARCH, OS: "linux", Config: cfg, RootFS: v1.RootFS{Type: "layers"}}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
		manifest.Layers = append(manifest.Layers, v1.Descriptor{MediaType: types.OCILayerZStd, Size: l.size, Digest: l.digest})
	}
	configJSON, configDesc, err := describe(config, types.OCIConfigJSON)
	if err != nil {
		return err
	}
	manifest.Config = configDesc
	manifestJSON, manifestDesc, err := describe(manifest, types.OCIManifestSchema1)
	if err != nil {
		return err
	}
	manifestDesc.Platform = &v1.Platform{Architecture: runtime.GOARCH, OS: "linux"}
	manifestDesc.Annotations = map[string]string{
		// containerd's own annotation for the full name, and OCI's for the tag:
		// containerd/v2@v2.3.4 core/images/annotations.go.
		"io.containerd.image.name":          ref,
		"org.opencontainers.image.ref.name": tagOf(ref),
	}
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{manifestDesc}})
	if err != nil {
		return err
	}

	tw := tar.NewWriter(out)
	blob := func(h v1.Hash) string { return "blobs/sha256/" + h.Hex }
	err = errors.Join(
		tarData(tw, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644),
		tarData(tw, "index.json", index, 0o644),
		tarData(tw, blob(manifestDesc.Digest), manifestJSON, 0o644),
		tarData(tw, blob(configDesc.Digest), configJSON, 0o644))
	for _, l := range layers {
		err = errors.Join(err, tarFile(tw, l.file, blob(l.digest), 0o644))
	}
	return errors.Join(err, tw.Close())
}

func describe(v any, mediaType types.MediaType) ([]byte, v1.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, v1.Descriptor{}, err
	}
	h := sha256.Sum256(data)
	return data, v1.Descriptor{MediaType: mediaType, Size: int64(len(data)),
		Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h[:])}}, nil
}
