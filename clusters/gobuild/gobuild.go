// Package gobuild turns Go source that is embedded in gameday into static
// Linux binaries at run time: programs that must run somewhere else than in
// this process (inside a pod, inside a node, as an OCI runtime).
//
// Go is a prerequisite of gameday anyway, so that shipping source is smaller
// and more honest than shipping binaries, and the result always fits the
// machine's own toolchain.
package gobuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"gameday/clusters/cache"
)

// goDirective is the language version of generated go.mod files: the one in
// gameday's own go.mod, so that embedded source compiles as it does here.
const goDirective = "1.26.0"

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// Binary builds the main package in the top folder of src into a static Linux
// binary for this machine's architecture and returns its path,
// <cache>/bin/<name>-<key>. The key is made of the source, the toolchain's
// version and the target platform: same inputs, same path, no build.
//
// The package may import the standard library only, sub-folders of src
// included: modules are not downloaded. Test files are left out; a go.mod is
// generated, with name as the module's path. Concurrent calls, also from
// several processes, are safe: each builds aside and renames into place.
func Binary(ctx context.Context, name string, src fs.FS) (string, error) {
	if !validName.MatchString(name) {
		return "", fmt.Errorf("building a Go binary: name %q is not of the form %s", name, validName)
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		return "", fmt.Errorf("building %s needs the go command on PATH: %w", name, err)
	}
	bin, err := cache.Dir("bin")
	if err != nil {
		return "", err
	}
	version, err := exec.CommandContext(ctx, goTool, "env", "GOVERSION").Output()
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", goTool, err)
	}
	key, err := Key(src, strings.TrimSpace(string(version)), "linux/"+runtime.GOARCH)
	if err != nil {
		return "", fmt.Errorf("reading the source of %s: %w", name, err)
	}
	out := filepath.Join(bin, name+"-"+key)
	if fi, err := os.Stat(out); err == nil && fi.Mode().IsRegular() {
		return out, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("looking for the cached %s: %w", name, err)
	}
	return out, build(ctx, goTool, name, src, bin, out)
}

// build compiles src in a temporary folder inside dir (so that the rename
// stays on one file system) and moves the result to out.
func build(ctx context.Context, goTool, name string, src fs.FS, dir, out string) (err error) {
	tmp, err := os.MkdirTemp(dir, ".build-")
	if err != nil {
		return fmt.Errorf("building %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()

	if err := copySource(src, tmp); err != nil {
		return fmt.Errorf("writing the source of %s: %w", name, err)
	}
	mod := "module gameday.local/" + name + "\n\ngo " + goDirective + "\n"
	if err := os.WriteFile(filepath.Join(tmp, "go.mod"), []byte(mod), 0o644); err != nil {
		return fmt.Errorf("writing the go.mod of %s: %w", name, err)
	}
	const result = ".result"
	cmd := exec.CommandContext(ctx, goTool, "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w", "-o", result, ".")
	cmd.Dir = tmp
	// The caller's workspace and flags must not reach this build, and the
	// network must not be needed: an import outside the standard library is an
	// error here rather than a download.
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+runtime.GOARCH, "CGO_ENABLED=0",
		"GOFLAGS=", "GOWORK=off", "GOPROXY=off", "GO111MODULE=on")
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("building %s: %w", name, ctx.Err())
		}
		return fmt.Errorf("building %s with %s: %w\n%s", name, goTool, err, strings.TrimSpace(text.String()))
	}
	if err := os.Rename(filepath.Join(tmp, result), out); err != nil {
		return fmt.Errorf("installing %s: %w", name, err)
	}
	return nil
}

// Key is the content key of a build: 16 hex digits over every source file's
// path and bytes, and over inputs (toolchain, platform).
func Key(src fs.FS, inputs ...string) (string, error) {
	h := sha256.New()
	for _, in := range inputs {
		fmt.Fprintf(h, "input %q\n", in)
	}
	n := 0
	err := walkSource(src, func(name string, f fs.File) error {
		n++
		body := sha256.New()
		if _, err := io.Copy(body, f); err != nil {
			return err
		}
		fmt.Fprintf(h, "file %q %x\n", name, body.Sum(nil))
		return nil
	})
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", errors.New("there is no file in it")
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// walkSource calls do for each file that takes part in a build, in path order.
func walkSource(src fs.FS, do func(name string, f fs.File) error) error {
	return fs.WalkDir(src, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if base := path.Base(name); strings.HasSuffix(base, "_test.go") || base == "go.mod" || base == "go.sum" {
			return nil
		}
		f, err := src.Open(name)
		if err != nil {
			return err
		}
		return errors.Join(do(name, f), f.Close())
	})
}

func copySource(src fs.FS, dir string) error {
	return walkSource(src, func(name string, f fs.File) error {
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		w, err := os.Create(to)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, f)
		return errors.Join(err, w.Close())
	})
}
