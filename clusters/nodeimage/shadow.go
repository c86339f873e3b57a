package nodeimage

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
)

// Shadowed are the names of images that nodes with the older artifacts have
// already, but with other content: an upgrade goes by names, so that those nodes
// would go on with the older ones.
func (a Artifacts) Shadowed(older Artifacts) ([]string, error) {
	have := map[string]string{}
	for _, i := range older.Images {
		have[i.Ref] = i.Path
	}
	var out []string
	for _, i := range a.Images {
		other, ok := have[i.Ref]
		if !ok {
			continue
		}
		was, err := digest(other)
		if err != nil {
			return nil, err
		}
		is, err := digest(i.Path)
		if err != nil {
			return nil, err
		}
		if was != is {
			out = append(out, i.Ref)
		}
	}
	return out, nil
}

// digest is that of the manifest of the one image in an OCI archive.
func digest(archive string) (_ string, err error) {
	f, err := os.Open(archive)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return "", fmt.Errorf("%s is no OCI archive: it has no index.json", archive)
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", archive, err)
		}
		if path.Clean(h.Name) != "index.json" {
			continue
		}
		var index struct{ Manifests []struct{ Digest string } }
		if err := json.NewDecoder(r).Decode(&index); err != nil {
			return "", fmt.Errorf("index.json of %s: %w", archive, err)
		}
		if len(index.Manifests) != 1 {
			return "", fmt.Errorf("%s holds %d images, not one", archive, len(index.Manifests))
		}
		return index.Manifests[0].Digest, nil
	}
}
