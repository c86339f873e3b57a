package nodeimage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// ImageTar is the archive of one image.
type ImageTar struct {
	// Component is kube-apiserver, kube-controller-manager, kube-scheduler,
	// kube-proxy, coredns, etcd or pause.
	Component string
	// Ref is the name under which containerd stores it.
	Ref string
	// Path of the OCI archive, for `ctr --namespace=k8s.io images import -`.
	Path string
}

// Artifacts are what a node needs to become a node of another version.
type Artifacts struct {
	// Version of Kubernetes, v1.X.Y.
	Version string
	// Dir holds all files; it is part of the cache: read, do not change.
	Dir string
	// Kubeadm, Kubelet and Kubectl are paths of static binaries.
	Kubeadm, Kubelet, Kubectl string
	// Images in the order of allComponents, one archive each, so that a node is
	// given only what it runs.
	Images []ImageTar
}

// allComponents is the order of `kubeadm config images list`.
var allComponents = []string{compAPIServer, compController, compScheduler, compProxy, compCoreDNS, compPause, compEtcd}

// nodeBinaries are taken from /usr/bin of a node image.
var nodeBinaries = []string{"kubeadm", "kubelet", "kubectl"}

// artifactsPrefix and the start of an image's id name the folder of its
// artifacts.
const artifactsPrefix = "artifacts-"

// extractBound bounds one Extract: copying about 400 MB, twice.
const extractBound = 10 * time.Minute

// Extract takes the binaries and the archives of the wanted images (components
// or full names; nil means all that kubeadm of that version asks for) out of a
// node image that is in Docker, published or built. pause is among them under
// the tag that kubeadm asks for, which published images lack:
// https://github.com/kubernetes/kubeadm/issues/3282. What was extracted once is
// found in the cache, keyed by the image's id.
func Extract(ctx context.Context, ref string, want []string) (Artifacts, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, extractBound, fmt.Errorf("it took longer than %s", extractBound))
	defer cancel()
	img, ok, err := inspect(ctx, ref)
	if err != nil {
		return Artifacts{}, err
	}
	if !ok {
		return Artifacts{}, fmt.Errorf("the node image %s is not in Docker", ref)
	}
	s, unlock, err := openStore(ctx, func(string, ...any) {})
	if err != nil {
		return Artifacts{}, err
	}
	a, err := s.extract(ctx, img.ID, want)
	if err := errors.Join(err, unlock()); err != nil {
		return Artifacts{}, fmt.Errorf("extracting the artifacts of %s: %w", ref, err)
	}
	return a, nil
}

// imageFacts is facts.json in the folder of an image's artifacts.
type imageFacts struct {
	Version string            `json:"version"`
	Images  map[string]string `json:"images"` // component to name
}

func (s store) extract(ctx context.Context, id string, want []string) (Artifacts, error) {
	dir := filepath.Join(s.dir, artifactsPrefix+strings.TrimPrefix(id, "sha256:")[:12])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Artifacts{}, err
	}
	x := extraction{store: s, image: id, dir: dir}
	a, err := x.run(ctx, want)
	return a, errors.Join(err, x.close())
}

// extraction is one Extract at work. The container is started when it is first
// needed: not at all when everything is in the cache.
type extraction struct {
	store
	image, dir string
	id         string
	remove     func() error
	containerd bool
}

func (x *extraction) container(ctx context.Context) (string, error) {
	if x.id != "" {
		return x.id, nil
	}
	id, remove, err := startContainer(ctx, x.image)
	if err != nil {
		return "", err
	}
	x.id, x.remove = id, remove
	return id, nil
}

func (x *extraction) close() error {
	if x.remove == nil {
		return nil
	}
	return x.remove()
}

func (x *extraction) run(ctx context.Context, want []string) (Artifacts, error) {
	f, err := x.facts(ctx)
	if err != nil {
		return Artifacts{}, err
	}
	chosen, err := choose(f.Images, want)
	if err != nil {
		return Artifacts{}, err
	}
	a := Artifacts{Version: f.Version, Dir: x.dir, Kubeadm: filepath.Join(x.dir, "kubeadm"),
		Kubelet: filepath.Join(x.dir, "kubelet"), Kubectl: filepath.Join(x.dir, "kubectl")}
	for _, b := range nodeBinaries {
		err := x.file(b, func(tmp string) error {
			id, err := x.container(ctx)
			if err != nil {
				return err
			}
			_, err = docker(ctx, nil, "cp", id+":/usr/bin/"+b, tmp)
			return err
		})
		if err != nil {
			return Artifacts{}, fmt.Errorf("%s: %w", b, err)
		}
	}
	for _, c := range chosen {
		t := ImageTar{Component: c, Ref: f.Images[c], Path: filepath.Join(x.dir, c+".tar")}
		if err := x.file(c+".tar", func(tmp string) error { return x.export(ctx, t, tmp) }); err != nil {
			return Artifacts{}, fmt.Errorf("%s: %w", t.Ref, err)
		}
		a.Images = append(a.Images, t)
	}
	return a, nil
}

// choose turns what is wanted into components, in the order of allComponents.
func choose(images map[string]string, want []string) ([]string, error) {
	if want == nil {
		return allComponents, nil
	}
	var out []string
	for _, w := range want {
		c := component(w)
		if images[c] == "" || (w != c && w != images[c]) {
			return nil, fmt.Errorf("kubeadm of this image asks for no image %s; it asks for %v", w, images)
		}
	}
	for _, c := range allComponents {
		if slices.ContainsFunc(want, func(w string) bool { return component(w) == c }) {
			out = append(out, c)
		}
	}
	return out, nil
}

// file makes a file of the folder when it is not there yet.
func (x *extraction) file(name string, build func(tmp string) error) error {
	at := filepath.Join(x.dir, name)
	if _, err := os.Stat(at); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp := filepath.Join(x.work, name)
	if err := build(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, at)
}

func (x *extraction) facts(ctx context.Context) (imageFacts, error) {
	err := x.file("facts.json", func(tmp string) error {
		id, err := x.container(ctx)
		if err != nil {
			return err
		}
		version, err := docker(ctx, nil, "exec", id, "cat", "/kind/version")
		if err != nil {
			return err
		}
		f := imageFacts{Version: strings.TrimSpace(string(version))}
		if _, err := checkVersion(f.Version); err != nil {
			return err
		}
		list, err := docker(ctx, nil, "exec", id, "kubeadm", "config", "images", "list", "--kubernetes-version="+f.Version)
		if err != nil {
			return err
		}
		if f.Images, err = parseImageList(string(list)); err != nil {
			return err
		}
		data, err := json.Marshal(f)
		if err != nil {
			return err
		}
		return os.WriteFile(tmp, data, 0o644)
	})
	if err != nil {
		return imageFacts{}, err
	}
	data, err := os.ReadFile(filepath.Join(x.dir, "facts.json"))
	if err != nil {
		return imageFacts{}, err
	}
	var f imageFacts
	if err := json.Unmarshal(data, &f); err != nil {
		return imageFacts{}, fmt.Errorf("%s is damaged (delete that folder): %w", filepath.Join(x.dir, "facts.json"), err)
	}
	return f, nil
}

// export writes an image out of the container's containerd.
func (x *extraction) export(ctx context.Context, t ImageTar, out string) error {
	id, err := x.container(ctx)
	if err != nil {
		return err
	}
	if !x.containerd {
		if err := startContainerd(ctx, id); err != nil {
			return err
		}
		x.containerd = true
	}
	if t.Component == compPause {
		if err := tagPause(ctx, id, t.Ref); err != nil {
			return err
		}
	}
	// Through a file: the end of what an exec prints can be lost on a busy
	// machine, with exit code 0, because the daemon waits 2 s for the streams
	// (github.com/moby/moby daemon/monitor.go).
	in := "/gameday-" + t.Component + ".tar"
	if _, err := docker(ctx, nil, "exec", id, "ctr", "--namespace=k8s.io", "images", "export",
		"--platform=linux/"+runtime.GOARCH, in, t.Ref); err != nil {
		return err
	}
	if _, err := docker(ctx, nil, "cp", id+":"+in, out); err != nil {
		return err
	}
	_, err = docker(ctx, nil, "exec", id, "rm", in)
	return err
}

// tagPause gives kubeadm's name to the pause image that containerd uses, where
// the image lacks the former.
func tagPause(ctx context.Context, id, ref string) error {
	out, err := docker(ctx, nil, "exec", id, "ctr", "--namespace=k8s.io", "images", "ls", "-q")
	if err != nil {
		return err
	}
	other := ""
	for _, have := range strings.Fields(string(out)) {
		if have == ref {
			return nil
		}
		if component(have) == compPause && tagOf(have) != "" && !strings.Contains(have, "@") {
			other = have
		}
	}
	if other == "" {
		return errors.New("the node image holds no pause image at all")
	}
	_, err = docker(ctx, nil, "exec", id, "ctr", "--namespace=k8s.io", "images", "tag", other, ref)
	return err
}
