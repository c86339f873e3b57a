package nodeimage

import (
	"archive/tar"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// epoch is the time of every file in an image: two builds of the same content
// give the same bytes.
var epoch = time.Unix(0, 0)

// carver collects, from a root file system, some programs and all they need to
// run: the shared libraries they are linked with, the loader, and every symbolic
// link on the way. kube-proxy's image is made so; on the full Debian root it
// would be a third of the whole node image.
type carver struct {
	root    string
	entries map[string]bool // paths in root, without a leading slash
}

// add adds a file, or a folder with all that is in it, by its path in the root.
func (c *carver) add(p string) error {
	real, err := c.resolve(p)
	if err != nil {
		return err
	}
	fi, err := os.Lstat(filepath.Join(c.root, real))
	if err != nil {
		return err
	}
	if fi.IsDir() {
		list, err := os.ReadDir(filepath.Join(c.root, real))
		if err != nil {
			return err
		}
		for _, e := range list {
			if err := c.add(path.Join(real, e.Name())); err != nil {
				return err
			}
		}
		return nil
	}
	return c.libraries(real)
}

// resolve follows p inside the root, notes everything it passes, and returns
// the path of what is at its end.
func (c *carver) resolve(p string) (string, error) {
	rest := strings.Split(strings.Trim(p, "/"), "/")
	at, links := "", 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if at = path.Dir(at); at == "." {
				at = ""
			}
			continue
		}
		next := path.Join(at, name)
		fi, err := os.Lstat(filepath.Join(c.root, next))
		if err != nil {
			return "", fmt.Errorf("%s is not in the root file system: %w", p, err)
		}
		c.entries[next] = true
		if fi.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > 40 {
			return "", fmt.Errorf("%s: too many symbolic links", p)
		}
		target, err := os.Readlink(filepath.Join(c.root, next))
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			at = ""
		}
		rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest...)
	}
	return at, nil
}

// libraries adds what an ELF file is linked with; other files need nothing.
func (c *carver) libraries(real string) error {
	f, err := elf.Open(filepath.Join(c.root, real))
	var format *elf.FormatError
	if errors.As(err, &format) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	if err != nil {
		return err
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return errors.Join(fmt.Errorf("reading what %s is linked with: %w", real, err), f.Close())
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			loader, err := io.ReadAll(p.Open())
			if err != nil {
				return errors.Join(err, f.Close())
			}
			needed = append(needed, strings.TrimRight(string(loader), "\x00"))
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, lib := range needed {
		at, err := c.library(lib)
		if err != nil {
			return fmt.Errorf("%s: %w", real, err)
		}
		if c.entries[at] {
			continue
		}
		if err := c.add(at); err != nil {
			return err
		}
	}
	return nil
}

// library is the path of a shared library. Debian keeps them in
// /usr/lib/<architecture>.
func (c *carver) library(name string) (string, error) {
	if path.IsAbs(name) {
		return strings.TrimPrefix(name, "/"), nil
	}
	for _, pattern := range []string{"usr/lib/*-linux-gnu/", "usr/lib/"} {
		found, err := filepath.Glob(filepath.Join(c.root, pattern, name))
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return filepath.Rel(c.root, found[0])
		}
	}
	return "", fmt.Errorf("the shared library %s is not in the root file system", name)
}

// write writes what was collected.
func (c *carver) write(tw *tar.Writer) error {
	for _, p := range sortedKeys(c.entries) {
		if err := tarPath(tw, filepath.Join(c.root, p), p); err != nil {
			return err
		}
	}
	return nil
}

// tarTree writes a whole root file system, without the folders that are mounted
// over in a container.
func tarTree(tw *tar.Writer, root string) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil || rel == "." {
			return err
		}
		switch top, _, below := strings.Cut(rel, "/"); {
		case below && (top == "dev" || top == "proc" || top == "sys" || top == "run"):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.Type()&fs.ModeSocket != 0:
			return nil
		}
		return tarPath(tw, p, rel)
	})
}

// tarPath writes one file, folder, link or device under a name.
func tarPath(tw *tar.Writer, file, name string) error {
	fi, err := os.Lstat(file)
	if err != nil {
		return err
	}
	var target string
	if fi.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(file); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(fi, target)
	if err != nil {
		return err
	}
	h.Name = name
	if fi.IsDir() {
		h.Name += "/"
	}
	h.Uname, h.Gname = "", ""
	h.ModTime, h.AccessTime, h.ChangeTime = epoch, time.Time{}, time.Time{}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		h.Uid, h.Gid = int(st.Uid), int(st.Gid)
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return errors.Join(err, f.Close())
}

// tarFile writes a file of this machine as root's, under a name and mode.
func tarFile(tw *tar.Writer, file, name string, mode int64) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: fi.Size(), ModTime: epoch}); err != nil {
		return errors.Join(err, f.Close())
	}
	_, err = io.Copy(tw, f)
	return errors.Join(err, f.Close())
}

// tarData writes bytes as a file of root's.
func tarData(tw *tar.Writer, name string, data []byte, mode int64) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data)), ModTime: epoch}); err != nil {
		return err
	}
	_, err := tw.Write(data)
	return err
}

// tarDir writes a folder of root's.
func tarDir(tw *tar.Writer, name string, mode int64) error {
	return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: epoch})
}
