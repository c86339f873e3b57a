package nodeimage

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// builder builds one node image.
type builder struct {
	store
	log     Log
	tc      toolchain
	version string
	minor   int
	// replace is Spec.Replace with absolute directories, hashes the content
	// hashes of these.
	replace, hashes map[string]string
}

// imageKey is the key of the whole image. It is made without a download, so that
// an image that is there is found at once.
func (b builder) imageKey() (string, error) {
	r := kubernetesRecipe(b.version)
	return contentKey(imageFormat, rootFormat, binFormat, r.Module, r.Version, r.Packages, r.Tags, r.Stamps,
		compileFlags, b.hashes, b.tc.version, runtime.GOARCH, kindVersion, debianSuite, debianPackages)
}

// build makes the image and gives it the name ref.
func (b builder) build(ctx context.Context, ref, key string) error {
	if err := requireHost(ctx, b.log); err != nil {
		return err
	}
	kube := kubernetesRecipe(b.version)
	// The version is checked before anything that takes time begins.
	var err error
	if kube, err = b.prepare(ctx, kube); err != nil {
		return err
	}
	kubeDir, err := b.tc.source(ctx, kube)
	if err != nil {
		return err
	}
	constants, err := os.ReadFile(filepath.Join(kubeDir, constantsFile))
	if err != nil {
		return fmt.Errorf("reading what kubeadm %s pins: %w", b.version, err)
	}
	pin, err := parsePins(constants, b.minor)
	if err != nil {
		return fmt.Errorf("kubernetes %s: %w", b.version, err)
	}
	kind, err := b.tc.download(ctx, "sigs.k8s.io/kind", kindVersion)
	if err != nil {
		return err
	}
	sandbox, err := sandboxImage(kind.Dir)
	if err != nil {
		return err
	}

	if err := b.checkUsed(ctx, kind.Dir, kube, pin); err != nil {
		return err
	}

	var root, bin string
	var tars []ImageTar
	g, gctx := errgroup.WithContext(ctx)
	// The Debian root waits for the network, compiling for the processors.
	g.Go(func() error {
		var err error
		root, err = b.root(gctx, kind.Dir)
		return err
	})
	g.Go(func() error {
		var err error
		bin, tars, err = b.components(gctx, kube, kubeDir, pin, sandbox)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	proxy, err := b.proxyImage(filepath.Join(bin, compProxy), filepath.Join(root, proxyTar), imageRefs(b.version, pin)[compProxy])
	if err != nil {
		return err
	}
	tars = append(tars, proxy)
	return step(ctx, b.log, "putting "+ref+" together", 10*time.Minute, func(ctx context.Context) error {
		return b.assemble(ctx, root, bin, tars, ref, key)
	})
}

// checkUsed fails, before anything is compiled, if a replacement takes part in no
// build at all: a misspelt module would give a stock image that says otherwise.
func (b builder) checkUsed(ctx context.Context, kindDir string, kube recipe, pin pins) error {
	if len(b.replace) == 0 {
		return nil
	}
	pinned, err := readKindPins(kindDir)
	if err != nil {
		return err
	}
	etcds, err := b.servedEtcd(ctx, etcdModuleVersion(pin.Etcd))
	if err != nil {
		return err
	}
	recipes := append(runtimeRecipes(pinned), etcds...)
	recipes = append(recipes, coreDNSRecipe(pin.CoreDNS))
	used := map[string]bool{}
	for m := range kube.Replace {
		used[m] = true
	}
	for _, r := range recipes {
		r, err := b.prepare(ctx, r)
		if err != nil {
			return err
		}
		for m := range r.Replace {
			used[m] = true
		}
	}
	var errs []error
	for _, m := range sortedKeys(b.replace) {
		if !used[m] {
			errs = append(errs, fmt.Errorf("%s is to be replaced, and nothing in a node image of Kubernetes %s is built from it", m, b.version))
		}
	}
	return errors.Join(errs...)
}

// prepare finds out which replacements take part in a recipe.
func (b builder) prepare(ctx context.Context, r recipe) (recipe, error) {
	if len(b.replace) == 0 {
		return r, nil
	}
	dir := b.replace[r.Module]
	if dir == "" {
		m, err := b.tc.download(ctx, r.Module, r.Version)
		if err != nil {
			return r, err
		}
		dir = m.Dir
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return r, err
	}
	r.Replace, err = relevant(mod, r.Module, b.replace)
	return r, err
}

// binaries compiles a recipe, or finds it compiled.
func (b builder) binaries(ctx context.Context, r recipe, dir string) error {
	return step(ctx, b.log, "compiling "+r.Module+" "+r.Version, r.Bound, func(ctx context.Context) error {
		return b.tc.compile(ctx, r, dir)
	})
}

// kubernetes makes the images of the components that run on control planes alone,
// and the binaries that a node has outside of images (with kube-proxy's). It
// returns the folder of the latter.
func (b builder) kubernetes(ctx context.Context, kube recipe, pin pins) (bin string, tars []ImageTar, err error) {
	refs := imageRefs(b.version, pin)
	key, err := recipeKey(kube, b.tc.version, b.hashes)
	if err != nil {
		return "", nil, err
	}
	bin, err = b.get("kubernetes-"+b.version, key, func(dir string) error {
		if err := b.binaries(ctx, kube, dir); err != nil {
			return err
		}
		for _, c := range []string{compAPIServer, compController, compScheduler} {
			file := filepath.Join(dir, c)
			cfg := v1.Config{Env: imageEnv, Entrypoint: []string{"/usr/local/bin/" + c}}
			if err := b.binaryImage(filepath.Join(dir, c+".tar"), refs[c], cfg, map[string]string{"usr/local/bin/" + c: file}); err != nil {
				return err
			}
			if err := os.Remove(file); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", nil, err
	}
	for _, c := range []string{compAPIServer, compController, compScheduler} {
		tars = append(tars, ImageTar{Component: c, Ref: refs[c], Path: filepath.Join(bin, c+".tar")})
	}
	return bin, tars, nil
}

// etcd makes the image of etcd.
func (b builder) etcd(ctx context.Context, pin pins) (ImageTar, error) {
	etcds, err := b.servedEtcd(ctx, etcdModuleVersion(pin.Etcd))
	if err != nil {
		return ImageTar{}, err
	}
	return b.imageOf(ctx, compEtcd, imageRefs(b.version, pin)[compEtcd], v1.Config{Env: imageEnv}, "usr/local/bin/", etcds...)
}

// components makes the images of everything but kube-proxy, and the binaries
// that a node has outside of images (with kube-proxy's). It returns the folder
// of the latter.
func (b builder) components(ctx context.Context, kube recipe, kubeDir string, pin pins, sandbox string) (bin string, tars []ImageTar, err error) {
	refs := imageRefs(b.version, pin)
	if bin, tars, err = b.kubernetes(ctx, kube, pin); err != nil {
		return "", nil, err
	}
	etcd, err := b.etcd(ctx, pin)
	if err != nil {
		return "", nil, err
	}
	// The real image has its binary in the root folder and no capabilities to
	// bind port 53 but those that the pod is given: registry.k8s.io/coredns.
	dns, err := b.imageOf(ctx, compCoreDNS, refs[compCoreDNS], v1.Config{Env: imageEnv, Entrypoint: []string{"/coredns"}, WorkingDir: "/"}, "", coreDNSRecipe(pin.CoreDNS))
	if err != nil {
		return "", nil, err
	}
	tars = append(tars, etcd, dns)

	// kind's containerd starts pods with a pause image of its own choice; kubeadm
	// asks for another tag when it upgrades.
	for _, ref := range uniq(refs[compPause], sandbox) {
		p, err := b.pauseImage(ctx, kubeDir, ref)
		if err != nil {
			return "", nil, err
		}
		tars = append(tars, p)
	}
	return bin, tars, nil
}

// servedEtcd is etcdRecipes without the tools that the proxy does not have at
// this version: a node runs without etcdctl.
func (b builder) servedEtcd(ctx context.Context, version string) ([]recipe, error) {
	all := etcdRecipes(version)
	out := all[:1]
	for _, r := range all[1:] {
		_, err := b.tc.download(ctx, r.Module, r.Version)
		switch {
		case err == nil:
			out = append(out, r)
		case errors.Is(err, errNotServed):
			b.log("the etcd image will lack a tool: %s %s %v", r.Module, r.Version, errNotServed)
		default:
			return nil, err
		}
	}
	return out, nil
}

// imageEnv is what the published images have.
var imageEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

// imageOf compiles recipes into one image with the binaries in the folder at.
func (b builder) imageOf(ctx context.Context, c, ref string, cfg v1.Config, at string, recipes ...recipe) (ImageTar, error) {
	inputs := []any{ref, cfg, at}
	for i, r := range recipes {
		r, err := b.prepare(ctx, r)
		if err != nil {
			return ImageTar{}, err
		}
		recipes[i] = r
		key, err := recipeKey(r, b.tc.version, b.hashes)
		if err != nil {
			return ImageTar{}, err
		}
		inputs = append(inputs, key)
	}
	key, err := contentKey(inputs...)
	if err != nil {
		return ImageTar{}, err
	}
	dir, err := b.get(c+"-"+tagOf(ref), key, func(dir string) error {
		files := map[string]string{}
		for _, r := range recipes {
			if err := b.binaries(ctx, r, dir); err != nil {
				return err
			}
			for name := range r.Packages {
				files[at+name] = filepath.Join(dir, name)
			}
		}
		if err := b.binaryImage(filepath.Join(dir, c+".tar"), ref, cfg, files); err != nil {
			return err
		}
		return removeAll(files)
	})
	return ImageTar{Component: c, Ref: ref, Path: filepath.Join(dir, c+".tar")}, err
}

// pauseImage makes the pause image under a name.
func (b builder) pauseImage(ctx context.Context, kubeDir, ref string) (ImageTar, error) {
	src, err := os.ReadFile(filepath.Join(kubeDir, "build", "pause", "linux", "pause.c"))
	if err != nil {
		return ImageTar{}, fmt.Errorf("reading the source of pause: %w", err)
	}
	key, err := contentKey(binFormat, ref, string(src), runtime.GOARCH)
	if err != nil {
		return ImageTar{}, err
	}
	dir, err := b.get(compPause+"-"+tagOf(ref), key, func(dir string) error {
		file := filepath.Join(dir, "pause")
		if err := compilePause(ctx, kubeDir, tagOf(ref), file); err != nil {
			return err
		}
		// The user of the real image, build/pause/Dockerfile.
		cfg := v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"}
		if err := b.binaryImage(filepath.Join(dir, "pause.tar"), ref, cfg, map[string]string{"pause": file}); err != nil {
			return err
		}
		return os.Remove(file)
	})
	return ImageTar{Component: compPause, Ref: ref, Path: filepath.Join(dir, "pause.tar")}, err
}

// binaryImage writes the archive of an image that holds only static binaries:
// path in the image to file here.
func (b builder) binaryImage(out, ref string, cfg v1.Config, files map[string]string) error {
	l, err := newLayer(b.work, func(tw *tar.Writer) error {
		err := errors.Join(tarDir(tw, "etc", 0o755), tarDir(tw, "tmp", 0o1777),
			tarDir(tw, "usr", 0o755), tarDir(tw, "usr/local", 0o755), tarDir(tw, "usr/local/bin", 0o755),
			tarData(tw, "etc/passwd", []byte("root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"), 0o644))
		for _, name := range sortedKeys(files) {
			err = errors.Join(err, tarFile(tw, files[name], name, 0o755))
		}
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(writeImageFile(out, ref, cfg, l), os.Remove(l.file))
}

// proxyImage writes kube-proxy's image: the carved tools and the binary.
func (b builder) proxyImage(binary, base, ref string) (ImageTar, error) {
	tools, err := newLayer(b.work, func(tw *tar.Writer) error { return copyTar(tw, base) })
	if err != nil {
		return ImageTar{}, err
	}
	own, err := newLayer(b.work, func(tw *tar.Writer) error {
		return errors.Join(tarDir(tw, "usr/local", 0o755), tarDir(tw, "usr/local/bin", 0o755),
			tarFile(tw, binary, "usr/local/bin/"+compProxy, 0o755))
	})
	if err != nil {
		return ImageTar{}, err
	}
	out := filepath.Join(b.work, compProxy+".tar")
	cfg := v1.Config{Env: imageEnv, Entrypoint: []string{"/usr/local/bin/" + compProxy}}
	return ImageTar{Component: compProxy, Ref: ref, Path: out}, writeImageFile(out, ref, cfg, tools, own)
}

func writeImageFile(out, ref string, cfg v1.Config, layers ...layerFile) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := errors.Join(writeImage(f, ref, cfg, layers...), f.Close()); err != nil {
		return fmt.Errorf("writing the image %s: %w", ref, err)
	}
	return nil
}

// copyTar appends the entries of a tar file.
func copyTar(tw *tar.Writer, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return err
		}
	}
}

// What the root's folder in the store holds.
const (
	rootTar  = "root.tar.zst"
	proxyTar = "kube-proxy.tar"
	lbTar    = "load-balancer.tar"
)

// proxyFiles are the programs that kube-proxy runs, and what iptables loads.
var proxyFiles = []string{
	"usr/sbin/iptables", "usr/sbin/iptables-save", "usr/sbin/iptables-restore",
	"usr/sbin/ip6tables", "usr/sbin/ip6tables-save", "usr/sbin/ip6tables-restore",
	"usr/sbin/nft", "usr/sbin/conntrack", "etc/passwd", "etc/group",
}

// lbFiles are what the load balancer's container runs: haproxy, and the shell
// commands with which kind starts it and writes its configuration.
var lbFiles = []string{
	"usr/sbin/haproxy", "bin/bash", "bin/sh", "bin/mkdir", "bin/mv", "bin/chmod", "bin/cp", "bin/cat", "bin/sleep",
	"etc/passwd", "etc/group", "etc/nsswitch.conf",
}

// root makes the Debian root of a node with kind's files and the container
// runtime in it, and carves the other images' roots from it.
func (b builder) root(ctx context.Context, kindDir string) (string, error) {
	pinned, err := readKindPins(kindDir)
	if err != nil {
		return "", err
	}
	inputs := []any{rootFormat, debianSuite, debianPackages, proxyFiles, lbFiles, kindVersion, runtime.GOARCH}
	recipes := runtimeRecipes(pinned)
	for i, r := range recipes {
		if r, err = b.prepare(ctx, r); err != nil {
			return "", err
		}
		recipes[i] = r
		key, err := recipeKey(r, b.tc.version, b.hashes)
		if err != nil {
			return "", err
		}
		inputs = append(inputs, key)
	}
	key, err := contentKey(inputs...)
	if err != nil {
		return "", err
	}
	return b.get("root", key, func(dir string) error { return b.makeRoot(ctx, kindDir, recipes, dir) })
}

func (b builder) makeRoot(ctx context.Context, kindDir string, recipes []recipe, dir string) error {
	root, err := os.MkdirTemp(b.work, "debian-")
	if err != nil {
		return err
	}
	if err := os.Chmod(root, 0o755); err != nil {
		return err
	}
	err = step(ctx, b.log, "making a Debian "+debianSuite+" root file system", debootstrapBound, func(ctx context.Context) error {
		return debootstrap(ctx, root)
	})
	if err != nil {
		return err
	}
	if err := b.carve(root, filepath.Join(dir, lbTar), lbFiles); err != nil {
		return err
	}
	if err := purge(ctx, root, "haproxy"); err != nil {
		return err
	}
	proxy := proxyFiles
	plugins, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu/xtables"))
	if err != nil || len(plugins) != 1 {
		return fmt.Errorf("looking for the plugins of iptables: found %d folders (%w)", len(plugins), err)
	}
	proxy = append(append([]string{}, proxy...), strings.TrimPrefix(plugins[0], root))
	if err := b.carve(root, filepath.Join(dir, proxyTar), proxy); err != nil {
		return err
	}
	if err := errors.Join(installKindFiles(kindDir, root), prune(root)); err != nil {
		return err
	}
	bin, cni := filepath.Join(root, "usr/local/bin"), filepath.Join(root, "opt/cni/bin")
	if err := os.MkdirAll(cni, 0o755); err != nil {
		return err
	}
	for _, r := range recipes {
		to := bin
		if strings.HasSuffix(r.Module, "/plugins") {
			to = cni
		}
		if err := b.binaries(ctx, r, to); err != nil {
			return err
		}
	}
	spec, err := exec.CommandContext(ctx, filepath.Join(bin, "ctr"), "oci", "spec").Output()
	if err != nil {
		return fmt.Errorf("running ctr oci spec: %w", err)
	}
	base, err := criBase(spec)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(root, "etc/containerd/cri-base.json"), base, 0o644); err != nil {
		return err
	}
	if err := packRoot(root, filepath.Join(dir, rootTar)); err != nil {
		return err
	}
	return os.RemoveAll(root)
}

// carve writes the tar of some programs of a root.
func (b builder) carve(root, out string, files []string) error {
	c := carver{root: root, entries: map[string]bool{}}
	for _, f := range files {
		if err := c.add(f); err != nil {
			return fmt.Errorf("carving %s out of the root file system: %w", f, err)
		}
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(f)
	err = errors.Join(c.write(tw), tarDir(tw, "tmp", 0o1777), tarDir(tw, "run", 0o755), tw.Close(), f.Close())
	if err != nil {
		return fmt.Errorf("writing %s: %w", out, err)
	}
	return nil
}

func packRoot(root, out string) (err error) {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := zstd.NewWriter(f)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(z)
	if err := errors.Join(tarTree(tw, root), tw.Close(), z.Close()); err != nil {
		return fmt.Errorf("packing the node's root file system: %w", err)
	}
	return nil
}

// importRoot brings the root into Docker, where all node images share it.
func importRoot(ctx context.Context, file, ref, key string) error {
	if _, ok, err := inspect(ctx, ref); err != nil || ok {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return err
	}
	defer z.Close()
	_, err = docker(ctx, z, "import", "--change", "ENV container=docker",
		"--change", "LABEL "+LabelCache+"=true "+LabelKey+"="+key, "-", ref)
	return err
}

// storageManifest is kind's own fallback default storage class
// (sigs.k8s.io/kind@v0.33.0
// pkg/cluster/internal/create/actions/installstorage/storage.go): the local path
// provisioner of published images is not to be had without a registry. kind
// starts the controller manager with --enable-hostpath-provisioner.
const storageManifest = `# host-path based default storage class
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations:
    storageclass.kubernetes.io/is-default-class: "true"
provisioner: kubernetes.io/host-path
`

// assemble puts the node image together in a container of the root: binaries,
// version, manifest, and the images in containerd's store.
func (b builder) assemble(ctx context.Context, root, bin string, tars []ImageTar, ref, key string) (err error) {
	rootKey := strings.TrimPrefix(filepath.Base(root), "root-")
	rootRef := "gameday.local/root:" + rootKey
	if err := importRoot(ctx, filepath.Join(root, rootTar), rootRef, rootKey); err != nil {
		return fmt.Errorf("bringing the node's root into Docker: %w", err)
	}
	// systemd ends on SIGRTMIN+3 and not on SIGTERM; docker commit keeps it.
	id, remove, err := startContainer(ctx, rootRef, "--stop-signal=SIGRTMIN+3")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()

	if err := b.copyIn(ctx, id, bin); err != nil {
		return fmt.Errorf("copying the binaries into the node image: %w", err)
	}
	if err := startContainerd(ctx, id); err != nil {
		return err
	}
	for _, t := range tars {
		if err := importImage(ctx, id, t); err != nil {
			return err
		}
	}
	if err := b.checkImages(ctx, id); err != nil {
		return err
	}
	// Its database must be at rest, and nothing of this run in the image.
	// Nobody reaps it here, so that a zombie (state Z) counts as ended.
	const stop = `pkill -x containerd
		for i in $(seq 100); do pgrep --runstates D,R,S -x containerd >/dev/null || break; sleep 0.1; done
		if pgrep --runstates D,R,S -x containerd; then echo "it still runs after 10 s" >&2; exit 1; fi
		rm -rf /run/containerd /tmp/containerd.log`
	if _, err := docker(ctx, nil, "exec", id, "bash", "-c", stop); err != nil {
		return fmt.Errorf("stopping containerd in the image: %w", err)
	}
	labels := []string{LabelCache + "=true", LabelKey + "=" + key, LabelKubernetes + "=" + b.version}
	if len(b.hashes) > 0 {
		labels = append(labels, LabelReplaced+"="+replacedLabel(b.hashes))
	}
	_, err = docker(ctx, nil, "commit",
		"--change", `ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]`,
		"--change", "CMD []",
		"--change", "LABEL "+strings.Join(labels, " "), id, ref)
	if err != nil {
		return fmt.Errorf("committing the node image: %w", err)
	}
	return nil
}

// copyIn copies what a node has outside of images.
func (b builder) copyIn(ctx context.Context, id, bin string) error {
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		err := errors.Join(tarDir(tw, "kind/manifests", 0o755),
			tarData(tw, "kind/version", []byte(b.version), 0o644),
			tarData(tw, "kind/manifests/default-storage.yaml", []byte(storageManifest), 0o644))
		for _, name := range []string{"kubeadm", "kubelet", "kubectl"} {
			err = errors.Join(err, tarFile(tw, filepath.Join(bin, name), "usr/bin/"+name, 0o755))
		}
		w.CloseWithError(errors.Join(err, tw.Close()))
	}()
	_, err := docker(ctx, r, "cp", "-", id+":/")
	return errors.Join(err, r.Close())
}

// importImage puts an image into containerd's store in the container, as kind
// does it: not unpacked, which the node does when it uses it, and pinned against
// garbage collection.
func importImage(ctx context.Context, id string, t ImageTar) error {
	f, err := os.Open(t.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = docker(ctx, f, "exec", "--interactive", id, "ctr", "--namespace=k8s.io", "images", "import",
		"--label=io.cri-containerd.pinned=pinned", "--no-unpack", "-")
	if err != nil {
		return fmt.Errorf("importing %s: %w", t.Ref, err)
	}
	return nil
}

// checkImages asks the kubeadm that was just built what it wants, and containerd
// what it has.
func (b builder) checkImages(ctx context.Context, id string) error {
	want, err := docker(ctx, nil, "exec", id, "kubeadm", "config", "images", "list", "--kubernetes-version="+b.version)
	if err != nil {
		return err
	}
	have, err := docker(ctx, nil, "exec", id, "ctr", "--namespace=k8s.io", "images", "ls", "-q")
	if err != nil {
		return err
	}
	got := map[string]bool{}
	for _, ref := range strings.Fields(string(have)) {
		got[ref] = true
	}
	for _, ref := range strings.Fields(string(want)) {
		if !got[ref] {
			return fmt.Errorf("kubeadm %s asks for the image %s, which was not built", b.version, ref)
		}
	}
	return nil
}

var sandboxLine = regexp.MustCompile(`(?m)^\s*sandbox_image = "([^"]+)"`)

// sandboxImage is the pause image that kind's containerd uses.
func sandboxImage(kindDir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(kindDir, "images/base/files/etc/containerd/config.toml"))
	if err != nil {
		return "", err
	}
	m := sandboxLine.FindSubmatch(data)
	if m == nil {
		return "", errors.New("kind's containerd configuration names no sandbox_image")
	}
	return string(m[1]), nil
}

func uniq(list ...string) []string {
	var out []string
	seen := map[string]bool{}
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

func removeAll(files map[string]string) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, os.Remove(f))
	}
	return errors.Join(errs...)
}
