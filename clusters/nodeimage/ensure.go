package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Ensure makes sure that a node image is in Docker: one that is there already
// is used, else it is pulled, else it is built. An image with replaced modules
// is only ever built.
//
// It may take many minutes (compiling Kubernetes); log is told what is being
// done and how long it may take at most. Concurrent calls build once.
func Ensure(ctx context.Context, spec Spec, log Log) (Image, error) {
	minor, err := checkVersion(spec.Version)
	if err != nil {
		return Image{}, err
	}
	replace, err := checkReplace(spec.Replace)
	if err != nil {
		return Image{}, err
	}
	if _, err := docker(ctx, nil, "version", "--format", "{{.Server.Version}}"); err != nil {
		return Image{}, fmt.Errorf("asking the Docker engine (is dockerd running?): %w", err)
	}
	published := publishedTag(spec.Version)
	if len(replace) == 0 {
		img, ok, err := local(ctx, published, spec.Version, log)
		if err != nil || ok {
			return img, err
		}
	}
	store, unlock, err := openStore(ctx, log)
	if err != nil {
		return Image{}, err
	}
	img, err := ensure(ctx, store, spec.Version, minor, replace, log)
	return img, errors.Join(err, unlock())
}

// ensure is Ensure with the store locked.
func ensure(ctx context.Context, s store, version string, minor int, replace map[string]string, log Log) (Image, error) {
	tc, tcErr := findToolchain(ctx, s.work)
	b := builder{store: s, log: log, tc: tc, version: version, minor: minor, replace: replace, hashes: map[string]string{}}
	for module, dir := range replace {
		h, err := hashDir(dir)
		if err != nil {
			return Image{}, err
		}
		b.hashes[module] = h
	}
	key, err := b.imageKey()
	if err != nil {
		return Image{}, err
	}
	ref := builtTag(version, key, len(replace) > 0)
	if tcErr == nil {
		if img, ok, err := local(ctx, ref, version, log); err != nil || ok {
			return img, err
		}
	}
	if len(replace) == 0 {
		published := publishedTag(version)
		log("asking the registry for %s (at most %s to its first answer)", published, pullFirst)
		switch err := pull(ctx, published); {
		case err == nil:
			img, ok, err := local(ctx, published, version, log)
			if err != nil || ok {
				img.Source = "registry"
				return img, err
			}
		case errors.Is(err, errNotPulled):
			log("no image from a registry, building it: %v", err)
		default:
			return Image{}, err
		}
	}
	if tcErr != nil {
		return Image{}, tcErr
	}
	began := time.Now()
	if err := b.build(ctx, ref, key); err != nil {
		return Image{}, fmt.Errorf("building the node image of Kubernetes %s: %w", version, err)
	}
	img, ok, err := local(ctx, ref, version, log)
	if err != nil {
		return Image{}, err
	}
	if !ok {
		return Image{}, fmt.Errorf("the image %s was built and is not in Docker: was it deleted just now?", ref)
	}
	img.Source = "built"
	log("built %s in %s", ref, time.Since(began).Round(time.Second))
	ids, err := docker(ctx, nil, "image", "ls", "--all", "--quiet", "--no-trunc")
	if err == nil {
		err = s.tidy(time.Now(), strings.Fields(string(ids)))
	}
	if err != nil {
		log("the cache was not tidied: %v", err)
	}
	return img, nil
}

// local describes an image that is in Docker and can be used on this machine; ok
// is false if there is none.
func local(ctx context.Context, ref, version string, log Log) (img Image, ok bool, err error) {
	d, ok, err := inspect(ctx, ref)
	if err != nil || !ok {
		return Image{}, false, err
	}
	f, err := readFacts(ctx, ref, version)
	if err != nil {
		return Image{}, false, err
	}
	if f.version != version {
		return Image{}, false, fmt.Errorf("the image %s holds Kubernetes %s, not %s: delete it (docker rmi %s)", ref, f.version, version, ref)
	}
	// systemd 256 and later refuse to start on cgroup v1.
	if f.systemd >= 256 {
		v1, err := cgroupV1()
		if err != nil {
			return Image{}, false, err
		}
		if v1 {
			log("%s cannot run here: its systemd %d needs cgroup v2, and this machine has v1", ref, f.systemd)
			return Image{}, false, nil
		}
	}
	_, built := d.Config.Labels[LabelKubernetes]
	_, replaced := d.Config.Labels[LabelReplaced]
	return Image{
		Ref: ref, Version: version, Source: "cached", Replaced: replaced, Kindnetd: !built,
		Etcd: tagOf(f.images[compEtcd]), CoreDNS: tagOf(f.images[compCoreDNS]), Pause: tagOf(f.images[compPause]),
	}, true, nil
}

// facts are what a node image says about itself.
type facts struct {
	version string
	systemd int
	images  map[string]string // by component
}

// readFacts runs the image's own programs once.
func readFacts(ctx context.Context, ref, version string) (f facts, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("it took longer than a minute"))
	defer cancel()
	id, remove, err := startContainer(ctx, ref)
	if err != nil {
		return facts{}, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	out, err := docker(ctx, nil, "exec", id, "sh", "-c",
		"set -e; cat /kind/version; echo; systemctl --version | head -n 1; kubeadm config images list --kubernetes-version="+version)
	if err != nil {
		return facts{}, fmt.Errorf("asking the image %s what it holds: %w", ref, err)
	}
	if f, err = parseFacts(string(out)); err != nil {
		return facts{}, fmt.Errorf("asking the image %s what it holds: %w", ref, err)
	}
	return f, nil
}

func parseFacts(out string) (facts, error) {
	first, rest, _ := strings.Cut(strings.TrimSpace(out), "\n")
	second, list, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	words := strings.Fields(second)
	if len(words) < 2 || words[0] != "systemd" {
		return facts{}, fmt.Errorf("%q is not what systemctl --version prints", second)
	}
	n, err := strconv.Atoi(words[1])
	if err != nil {
		return facts{}, fmt.Errorf("%q is not what systemctl --version prints", second)
	}
	images, err := parseImageList(list)
	if err != nil {
		return facts{}, err
	}
	return facts{version: strings.TrimSpace(first), systemd: n, images: images}, nil
}

// cgroupV1 says whether this machine has the first version of control groups.
func cgroupV1() (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &st); err != nil {
		return false, fmt.Errorf("looking at /sys/fs/cgroup: %w", err)
	}
	return st.Type != unix.CGROUP2_SUPER_MAGIC, nil
}
