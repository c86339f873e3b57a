package nodeimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters/cache"
)

// Raise one of these when what is made from the same inputs changes: they are
// part of the keys.
const (
	rootFormat  = 1 // the Debian root and what is carved from it
	binFormat   = 1 // compiled binaries and their images
	imageFormat = 1 // how a node image is put together
	lbFormat    = 1 // the load balancer's image
)

// contentKey is the key of some inputs: 12 hex digits, enough to tell a
// machine's builds apart.
func contentKey(inputs ...any) (string, error) {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, in := range inputs {
		// Maps are encoded in the order of their keys.
		if err := enc.Encode(in); err != nil {
			return "", fmt.Errorf("making a cache key: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// recipeKey is the key of what a recipe compiles to. hashes are the content
// hashes of replaced modules.
func recipeKey(r recipe, goVersion string, hashes map[string]string) (string, error) {
	used := map[string]string{}
	for m := range r.Replace {
		used[m] = hashes[m]
	}
	return contentKey(binFormat, r.Module, r.Version, r.Packages, r.Tags, r.Stamps, used,
		goVersion, runtime.GOARCH, compileFlags)
}

// hashDir is the hash of a source tree: names, bytes, links and which files are
// executable; the folders .git and _output (Kubernetes' own build results) are
// left out.
func hashDir(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); p != dir && (n == ".git" || n == "_output") {
				return fs.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(h, "link %q %q\n", rel, target)
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		body := sha256.New()
		_, err = io.Copy(body, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		_, err = fmt.Fprintf(h, "file %q %t %x\n", rel, fi.Mode()&0o100 != 0, body.Sum(nil))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("reading the source tree %s: %w", dir, err)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// store is the part of gameday's cache directory that this package uses. Each
// result is a folder named by kind of thing and key; it is there as a whole or
// not at all.
type store struct{ dir, work string }

// openStore opens the cache and locks it: two builds at the same time would take
// twice as long each, and the second finds the first one's results. unlock must
// be called; the lock also ends with the process.
func openStore(ctx context.Context, log Log) (s store, unlock func() error, err error) {
	dir, err := cache.Dir("nodeimage")
	if err != nil {
		return store{}, nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return store{}, nil, fmt.Errorf("locking the node image cache: %w", err)
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; said = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return store{}, nil, errors.Join(fmt.Errorf("locking the node image cache: %w", err), f.Close())
		}
		if !said {
			log("waiting for another gameday that is making a node image")
		}
		select {
		case <-ctx.Done():
			return store{}, nil, errors.Join(fmt.Errorf("waiting for the node image cache: %w", context.Cause(ctx)), f.Close())
		case <-tick.C:
		}
	}
	s = store{dir: dir, work: filepath.Join(dir, "tmp")}
	// What a killed build left; nobody else is in here.
	if err := errors.Join(os.RemoveAll(s.work), os.MkdirAll(s.work, 0o755)); err != nil {
		return store{}, nil, errors.Join(fmt.Errorf("clearing the node image cache's temporary files: %w", err), f.Close())
	}
	return s, func() error { return errors.Join(os.RemoveAll(s.work), f.Close()) }, nil
}

// get returns the folder of a result, and makes it when it is not there.
func (s store) get(name, key string, build func(dir string) error) (string, error) {
	at := filepath.Join(s.dir, name+"-"+key)
	if _, err := os.Stat(at); err == nil {
		// Its time says when it was last used; see tidy.
		now := time.Now()
		return at, os.Chtimes(at, now, now)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	tmp, err := os.MkdirTemp(s.work, name+"-")
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.Chmod(tmp, 0o755), build(tmp)); err != nil {
		return "", errors.Join(err, os.RemoveAll(tmp))
	}
	if err := os.Rename(tmp, at); err != nil {
		return "", fmt.Errorf("storing %s in the cache: %w", name, err)
	}
	return at, nil
}

// unusedFor is how long a result stays in the cache after its last use.
const unusedFor = 14 * 24 * time.Hour

// tidy removes results that nobody used for long, and artifacts of images that
// are no longer in Docker. With two versions in use the cache is about 1.5 GB.
func (s store) tidy(now time.Time, imageIDs []string) error {
	list, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range list {
		fi, err := e.Info()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !e.IsDir() || e.Name() == filepath.Base(s.work) {
			continue
		}
		old := now.Sub(fi.ModTime()) > unusedFor
		if id, ok := strings.CutPrefix(e.Name(), artifactsPrefix); ok {
			old = !slices.ContainsFunc(imageIDs, func(have string) bool { return strings.HasPrefix(have, "sha256:"+id) })
		}
		if old {
			errs = append(errs, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// step runs one long piece of work and says so: at its start with its bound,
// every half minute, and at its end.
func step(ctx context.Context, log Log, what string, bound time.Duration, work func(ctx context.Context) error) error {
	log("%s (at most %s)", what, bound)
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("%s: it took longer than %s", what, bound))
	defer cancel()
	done := make(chan struct{})
	said := make(chan struct{})
	go func() {
		defer close(said)
		tick := time.NewTicker(30 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				log("%s: still at it after %s", what, time.Since(began).Round(time.Second))
			}
		}
	}()
	err := work(ctx)
	close(done)
	<-said
	if err == nil {
		log("%s: done in %s", what, time.Since(began).Round(time.Second/10))
	}
	return err
}
