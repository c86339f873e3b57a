package docker

import (
	"archive/tar"
	"bytes"
	"io"
)

// tarFile is an archive of one executable file at the root.
func tarFile(name string, body []byte) (io.Reader, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	return &buf, w.Close()
}
