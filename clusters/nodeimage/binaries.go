package nodeimage

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// Binaries are the programs of a control plane, as files of this machine.
type Binaries struct {
	// Version of Kubernetes, v1.X.Y, and of the etcd that its kubeadm pins.
	Version, Etcd string
	// Dir holds them under their own names: kube-apiserver,
	// kube-controller-manager, kube-scheduler and etcd. It is part of the cache:
	// read, do not change.
	Dir string
	// Replaced is true if modules of them were replaced.
	Replaced bool
}

// controlPlane are the components whose programs EnsureBinaries gives.
var controlPlane = []string{compAPIServer, compController, compScheduler, compEtcd}

// EnsureBinaries makes sure that the programs of a control plane are there, the
// very ones that are in a built node image: taken from the cache, or compiled. It
// needs neither Docker nor Debian's packages.
func EnsureBinaries(ctx context.Context, spec Spec, log Log) (Binaries, error) {
	minor, err := checkVersion(spec.Version)
	if err != nil {
		return Binaries{}, err
	}
	replace, err := checkReplace(spec.Replace)
	if err != nil {
		return Binaries{}, err
	}
	s, unlock, err := openStore(ctx, log)
	if err != nil {
		return Binaries{}, err
	}
	b, err := s.ensureBinaries(ctx, spec.Version, minor, replace, log)
	if err := errors.Join(err, unlock()); err != nil {
		return Binaries{}, fmt.Errorf("the binaries of Kubernetes %s: %w", spec.Version, err)
	}
	return b, nil
}

// ensureBinaries is EnsureBinaries with the store locked.
func (s store) ensureBinaries(ctx context.Context, version string, minor int, replace map[string]string, log Log) (Binaries, error) {
	tc, err := findToolchain(ctx, s.work)
	if err != nil {
		return Binaries{}, err
	}
	b := builder{store: s, log: log, tc: tc, version: version, minor: minor, replace: replace, hashes: map[string]string{}}
	for module, dir := range replace {
		if b.hashes[module], err = hashDir(dir); err != nil {
			return Binaries{}, err
		}
	}
	kube, err := b.prepare(ctx, kubernetesRecipe(version))
	if err != nil {
		return Binaries{}, err
	}
	kubeDir, err := b.tc.source(ctx, kube)
	if err != nil {
		return Binaries{}, err
	}
	constants, err := os.ReadFile(filepath.Join(kubeDir, constantsFile))
	if err != nil {
		return Binaries{}, fmt.Errorf("reading what its kubeadm pins: %w", err)
	}
	pin, err := parsePins(constants, minor)
	if err != nil {
		return Binaries{}, err
	}
	if err := b.checkTaken(ctx, kube, pin); err != nil {
		return Binaries{}, err
	}
	_, images, err := b.kubernetes(ctx, kube, pin)
	if err != nil {
		return Binaries{}, err
	}
	etcd, err := b.etcd(ctx, pin)
	if err != nil {
		return Binaries{}, err
	}
	images = append(images, etcd)
	// Their folders are named by the content of what is in them.
	inputs := []any{controlPlane}
	for _, i := range images {
		inputs = append(inputs, filepath.Base(filepath.Dir(i.Path)))
	}
	key, err := contentKey(inputs...)
	if err != nil {
		return Binaries{}, err
	}
	dir, err := b.get("binaries-"+version, key, func(dir string) error {
		for _, i := range images {
			if err := takeProgram(i.Path, i.Component, filepath.Join(dir, i.Component)); err != nil {
				return err
			}
		}
		return nil
	})
	return Binaries{Version: version, Etcd: etcdModuleVersion(pin.Etcd), Dir: dir, Replaced: len(replace) > 0}, err
}

// checkTaken fails if a replacement takes part in none of the binaries: a misspelt
// module would give stock ones that are said to be others.
func (b builder) checkTaken(ctx context.Context, kube recipe, pin pins) error {
	etcds, err := b.servedEtcd(ctx, etcdModuleVersion(pin.Etcd))
	if err != nil {
		return err
	}
	etcd, err := b.prepare(ctx, etcds[0])
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range sortedKeys(b.replace) {
		_, inKube := kube.Replace[m]
		_, inEtcd := etcd.Replace[m]
		if !inKube && !inEtcd {
			errs = append(errs, fmt.Errorf("%s is to be replaced, and neither Kubernetes %s nor its etcd is built from it", m, b.version))
		}
	}
	return errors.Join(errs...)
}

// takeProgram copies one program out of the archive of an image that was made here.
func takeProgram(archive, name, to string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s holds no %s", archive, name)
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", archive, err)
		}
		blob := bufio.NewReader(r)
		if start, err := blob.Peek(len(zstdMagic)); err != nil || string(start) != zstdMagic {
			continue // not a layer: see writeImage
		}
		found, err := takeFromLayer(blob, name, to)
		if err != nil {
			return fmt.Errorf("reading %s: %w", archive, err)
		}
		if found {
			return nil
		}
	}
}

// zstdMagic begins what is compressed with zstd: RFC 8878, section 3.1.1.
const zstdMagic = "\x28\xb5\x2f\xfd"

func takeFromLayer(layer io.Reader, name, to string) (found bool, err error) {
	z, err := zstd.NewReader(layer)
	if err != nil {
		return false, err
	}
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if h.Typeflag != tar.TypeReg || path.Base(h.Name) != name {
			continue
		}
		f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
		if err != nil {
			return false, err
		}
		_, err = io.Copy(f, r)
		return true, errors.Join(err, f.Close())
	}
}
