package nodeimage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// recipe is how the binaries of one module are compiled.
type recipe struct {
	// Module and Version, as the Go module proxy serves them.
	Module, Version string
	// Packages is the name of each binary and the package it is made of.
	Packages map[string]string
	Tags     []string
	// Stamps are variables set at link time (-X).
	Stamps []string
	// Replace is the part of Spec.Replace that takes part in this build.
	Replace map[string]string
	// Bound is how long it may take, from an empty cache on a slow machine.
	Bound time.Duration
}

// compileFlags go into every compile and into its cache key.
var compileFlags = []string{"-trimpath", "-buildvcs=false"}

func kubernetesRecipe(version string) recipe {
	pkgs := map[string]string{}
	for _, c := range []string{compAPIServer, compController, compScheduler, compProxy, "kubelet", "kubeadm", "kubectl"} {
		pkgs[c] = "k8s.io/kubernetes/cmd/" + c
	}
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	var stamps []string
	// The two packages that hack/lib/version.sh of Kubernetes stamps.
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		stamps = append(stamps, pkg+".gitVersion="+version, pkg+".gitMajor="+parts[0], pkg+".gitMinor="+parts[1])
	}
	return recipe{
		Module: "k8s.io/kubernetes", Version: version, Packages: pkgs, Stamps: stamps,
		// As KUBE_... in hack/lib/golang.sh: selinux and notest are upstream's
		// own; grpcnotrace lets the linker drop unreachable methods.
		Tags:  []string{"selinux", "notest", "grpcnotrace"},
		Bound: 40 * time.Minute,
	}
}

// etcdRecipes are the server and, after it, the tools beside it in the image,
// which Kubernetes itself does not use.
func etcdRecipes(version string) []recipe {
	var out []recipe
	// In a fixed order: it is part of a cache key.
	for _, m := range []struct{ binary, module string }{
		{"etcd", "go.etcd.io/etcd/server/v3"},
		{"etcdctl", "go.etcd.io/etcd/etcdctl/v3"},
		{"etcdutl", "go.etcd.io/etcd/etcdutl/v3"},
	} {
		out = append(out, recipe{Module: m.module, Version: version,
			Packages: map[string]string{m.binary: m.module}, Bound: 10 * time.Minute})
	}
	return out
}

func coreDNSRecipe(version string) recipe {
	return recipe{Module: "github.com/coredns/coredns", Version: version,
		Packages: map[string]string{"coredns": "github.com/coredns/coredns"}, Bound: 20 * time.Minute}
}

// runtimeRecipes are what the node itself runs beneath Kubernetes, at the
// versions that kind pins.
func runtimeRecipes(k kindPins) []recipe {
	const cd, cni, cri = "github.com/containerd/containerd/v2", "github.com/containernetworking/plugins", "sigs.k8s.io/cri-tools"
	return []recipe{
		{Module: cd, Version: k.Containerd, Tags: []string{"no_aufs", "no_btrfs", "no_devmapper", "no_zfs"},
			Stamps: []string{cd + "/version.Version=" + k.Containerd},
			Packages: map[string]string{"containerd": cd + "/cmd/containerd", "ctr": cd + "/cmd/ctr",
				"containerd-shim-runc-v2": cd + "/cmd/containerd-shim-runc-v2"}, Bound: 20 * time.Minute},
		{Module: cni, Version: k.CNI, Stamps: []string{cni + "/pkg/utils/buildversion.BuildVersion=" + k.CNI},
			Packages: map[string]string{"ptp": cni + "/plugins/main/ptp", "loopback": cni + "/plugins/main/loopback",
				"host-local": cni + "/plugins/ipam/host-local", "portmap": cni + "/plugins/meta/portmap"}, Bound: 10 * time.Minute},
		{Module: cri, Version: k.Crictl, Stamps: []string{cri + "/pkg/version.Version=" + k.Crictl},
			Packages: map[string]string{"crictl": cri + "/cmd/crictl"}, Bound: 10 * time.Minute},
	}
}

// toolchain is the Go command of this machine.
type toolchain struct {
	path, version string
	// work is a folder for temporary files, outside of any module.
	work string
}

func findToolchain(ctx context.Context, work string) (toolchain, error) {
	p, err := exec.LookPath("go")
	if err != nil {
		return toolchain{}, fmt.Errorf("building a node image needs the go command on PATH: %w", err)
	}
	t := toolchain{path: p, work: work}
	out, err := t.run(ctx, work, nil, "env", "GOVERSION")
	if err != nil {
		return toolchain{}, err
	}
	t.version = strings.TrimSpace(string(out))
	return t, nil
}

// env keeps the caller's settings out of the build: a workspace or a flag of
// theirs would change what is built.
func (t toolchain) env() []string {
	return append(os.Environ(), "GOWORK=off", "GO111MODULE=on", "CGO_ENABLED=0",
		"GOFLAGS=-mod=mod", "GOOS=linux", "GOARCH="+runtime.GOARCH)
}

// run runs the go command in dir and returns its standard output.
func (t toolchain) run(ctx context.Context, dir string, progress io.Writer, args ...string) ([]byte, error) {
	var out, errText bytes.Buffer
	cmd := exec.CommandContext(ctx, t.path, args...)
	cmd.Dir, cmd.Env = dir, t.env()
	cmd.Stdout, cmd.Stderr = &out, &errText
	if progress != nil {
		cmd.Stderr = io.MultiWriter(&errText, progress)
	}
	// Its own process group, so that the compilers end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return out.Bytes(), context.Cause(ctx)
		}
		return out.Bytes(), fmt.Errorf("go %s: %w: %s", args[0], err, lastLines(errText.String(), 20))
	}
	return out.Bytes(), nil
}

// goModule is a module in the module cache.
type goModule struct {
	Path, Version, Dir string
	Error              string
}

// download brings a module into the module cache.
func (t toolchain) download(ctx context.Context, path, version string) (goModule, error) {
	// Outside of any module, so that nobody's go.mod is consulted or changed.
	out, runErr := t.run(ctx, t.work, nil, "mod", "download", "-json", path+"@"+version)
	if ctx.Err() != nil {
		return goModule{}, fmt.Errorf("downloading %s@%s: %w", path, version, context.Cause(ctx))
	}
	var m goModule
	if err := json.Unmarshal(out, &m); err != nil {
		return goModule{}, fmt.Errorf("downloading %s@%s: %w", path, version, errors.Join(runErr, err))
	}
	if m.Error != "" {
		if notServed(m.Error) {
			return goModule{}, fmt.Errorf("%s %s %w (%s); ask for a released version: `go list -m -versions %s` names most, `go list -m %s@vX.Y.Z` tells for any one",
				path, version, errNotServed, strings.TrimSpace(lastLines(m.Error, 1)), path, path)
		}
		return goModule{}, fmt.Errorf("downloading %s@%s: %s", path, version, m.Error)
	}
	if runErr != nil {
		return goModule{}, fmt.Errorf("downloading %s@%s: %w", path, version, runErr)
	}
	return m, nil
}

// errNotServed is wrapped by the error about a module version that does not
// exist, or that the proxy does not give out.
var errNotServed = errors.New("is not served by the Go module proxy")

// notServed tells "there is no such version" from "the proxy did not answer".
func notServed(text string) bool {
	for _, s := range []string{"unknown revision", "404 Not Found", "410 Gone", "403 Forbidden", "not found: ", "invalid version"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// compile builds the binaries of a recipe into dir and verifies each.
func (t toolchain) compile(ctx context.Context, r recipe, dir string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Bound,
		fmt.Errorf("compiling %s %s took longer than %s", r.Module, r.Version, r.Bound))
	defer cancel()
	src, err := t.source(ctx, r)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(t.work, "compile-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()

	upstream, err := os.ReadFile(filepath.Join(src, "go.mod"))
	if err != nil {
		return fmt.Errorf("reading the go.mod of %s: %w", r.Module, err)
	}
	mod, err := rewriteGoMod(upstream, r.Module, r.Version, r.Replace)
	if err != nil {
		return fmt.Errorf("writing a go.mod that builds %s %s: %w", r.Module, r.Version, err)
	}
	sum, err := os.ReadFile(filepath.Join(src, "go.sum"))
	if err != nil {
		return fmt.Errorf("reading the go.sum of %s: %w", r.Module, err)
	}
	for name, data := range map[string][]byte{"go.mod": mod, "go.sum": sum} {
		if err := os.WriteFile(filepath.Join(tmp, name), data, 0o644); err != nil {
			return err
		}
	}
	args := append([]string{"build"}, compileFlags...)
	if len(r.Tags) > 0 {
		args = append(args, "-tags="+strings.Join(r.Tags, ","))
	}
	ld := []string{"-s", "-w"}
	for _, s := range r.Stamps {
		ld = append(ld, "-X", s)
	}
	args = append(args, "-ldflags="+strings.Join(ld, " "), "-o", tmp+"/out/")
	for _, name := range sortedKeys(r.Packages) {
		args = append(args, r.Packages[name])
	}
	if err := os.Mkdir(filepath.Join(tmp, "out"), 0o755); err != nil {
		return err
	}
	if _, err := t.run(ctx, tmp, nil, args...); err != nil {
		return fmt.Errorf("compiling %s %s: %w", r.Module, r.Version, err)
	}
	var built []string
	for _, pkg := range r.Packages {
		path := filepath.Join(tmp, "out", execName(pkg))
		if err := Verify(path, r.Module, r.Version, r.Replace); err != nil {
			return err
		}
		built = append(built, path)
	}
	if err := verifyReplaced(built, r.Replace); err != nil {
		return err
	}
	for name, pkg := range r.Packages {
		if err := move(filepath.Join(tmp, "out", execName(pkg)), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("installing %s: %w", name, err)
		}
	}
	return nil
}

// source is the directory with the recipe's go.mod: the replaced tree, or the
// module in the module cache.
func (t toolchain) source(ctx context.Context, r recipe) (string, error) {
	if dir, ok := r.Replace[r.Module]; ok {
		return dir, nil
	}
	m, err := t.download(ctx, r.Module, r.Version)
	return m.Dir, err
}

// execName is the file name that `go build -o DIR/` gives to a main package:
// the last element of its path that is no major version.
func execName(pkg string) string {
	base := path.Base(pkg)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(pkg))
	}
	return base
}

// move renames, or copies where the two are on different file systems.
func move(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// compilePause builds pause, the process that holds a pod's namespaces, from
// the C source in the Kubernetes tree, as build/pause/Makefile there does.
func compilePause(ctx context.Context, kubernetes, tag, out string) error {
	cmd := exec.CommandContext(ctx, "gcc", "-Os", "-Wall", "-static", "-s", "-DVERSION=v"+tag,
		"-o", out, filepath.Join(kubernetes, "build", "pause", "linux", "pause.c"))
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compiling pause: %w: %s", err, lastLines(string(text), 10))
	}
	return nil
}
