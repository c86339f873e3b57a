// Package nodeimage finds or makes the images that a kind cluster is made of:
// the node image (kindest/node) of one Kubernetes version, with or without
// patched modules, and the image of kind's load balancer.
//
// An image that is in Docker already is used as it is; else a registry is
// asked, with bounds on how long it may keep us waiting; else the image is
// built from the Go module proxy and Debian packages alone:
//
//   - the root file system is Debian with kind's own files in it, which are read
//     from the module sigs.k8s.io/kind at build time;
//   - every Kubernetes binary is compiled from the module k8s.io/kubernetes at
//     exactly the version that was asked for, and checked to be that (Verify);
//   - etcd, CoreDNS and pause are the versions that kubeadm of that Kubernetes
//     version pins; containerd, crictl and the CNI plugins those that kind pins.
//
// Everything on the way is cached by the content that went into it, in Docker
// (label LabelCache) and below the cache directory. A built image has another
// name than a published one, and one with replaced modules another again: none
// can be taken for the other.
//
// Extract takes the artifacts of an upgrade (binaries, control-plane images)
// out of a node image, published or built.
package nodeimage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"
)

// Labels on every image that this package makes.
const (
	// LabelCache is "true" on all images that are cache: they can be deleted and
	// will be made again. Docker gives the labels of an image to every container
	// of it, the nodes of a cluster too: never select containers by it.
	LabelCache = "gameday.cache"
	// LabelKey is the content key of what went into the image.
	LabelKey = "gameday.key"
	// LabelKubernetes is the Kubernetes version of a built node image.
	LabelKubernetes = "gameday.kubernetes"
	// LabelReplaced lists the replaced modules of a built node image as
	// module=sha256:<hash of its directory>, comma-separated. Stock images have
	// no such label.
	LabelReplaced = "gameday.replaced"
)

// kindVersion is the release of sigs.k8s.io/kind whose files make up a built
// node and whose load balancer image is served: the one in go.mod (a test
// compares them).
const kindVersion = "v0.33.0"

// minMinor is the oldest Kubernetes minor that is built here. Older ones need
// other CNI and cgroup settings, and other Go toolchains.
const minMinor = 32

// Spec names a node image.
type Spec struct {
	// Version is the Kubernetes version, v1.X.Y.
	Version string
	// Replace puts patched module trees under test: module path to the
	// directory with its go.mod, as Go's own replace directive. A change below
	// staging/src of a Kubernetes checkout needs its own entry, for example
	// k8s.io/client-go=DIR/staging/src/k8s.io/client-go. Modules k8s.io/... are
	// replaced in Kubernetes only, others wherever they are used in the image.
	Replace map[string]string
}

// Image is a node image that is in Docker now.
type Image struct {
	// Ref is the Docker reference to give to kind.
	Ref string
	// Version is the Kubernetes version, v1.X.Y.
	Version string
	// Source says how this call came by the image: "cached" (it was in Docker
	// already), "registry" or "built".
	Source string
	// Replaced is true for an image with patched modules in it.
	Replaced bool
	// Etcd, CoreDNS and Pause are the image tags that the kubeadm in this image
	// asks for, such as 3.6.8-0, v1.14.2 and 3.10.2.
	Etcd, CoreDNS, Pause string
	// Kindnetd is true for published images, which carry kind's pod network.
	// With a built one disableDefaultCNI is needed, and another pod network:
	// the CNI plugins ptp, host-local, portmap and loopback are in /opt/cni/bin.
	Kindnetd bool
}

// Log gets one line of progress; no newline at its end.
type Log func(format string, args ...any)

var versionForm = regexp.MustCompile(`^v1\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$`)

// checkVersion returns the minor of a Kubernetes version.
func checkVersion(version string) (minor int, err error) {
	m := versionForm.FindStringSubmatch(version)
	if m == nil {
		return 0, fmt.Errorf("kubernetes version %q is not of the form v1.X.Y", version)
	}
	minor, err = strconv.Atoi(m[1])
	if err != nil {
		return 0, fmt.Errorf("kubernetes version %q: %w", version, err)
	}
	if minor < minMinor {
		return 0, fmt.Errorf("kubernetes version %s is older than v1.%d.0, the oldest that is supported", version, minMinor)
	}
	return minor, nil
}

// checkReplace returns replace with absolute directories, or every obstacle:
// a directory that is not there, or that holds another module.
func checkReplace(replace map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(replace))
	var errs []error
	for _, module := range sortedKeys(replace) {
		dir, err := filepath.Abs(replace[module])
		if err != nil {
			errs = append(errs, fmt.Errorf("replacing %s: %w", module, err))
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil {
			errs = append(errs, fmt.Errorf("replacing %s: %s is not the root of a Go module: %w", module, dir, err))
			continue
		}
		if got := modfile.ModulePath(data); got != module {
			errs = append(errs, fmt.Errorf("replacing %s: %s holds the module %s", module, dir, got))
			continue
		}
		out[module] = dir
	}
	return out, errors.Join(errs...)
}

// builtTag is the name of a built node image. Stock and replaced images differ
// in it even for the same key.
func builtTag(version, key string, replaced bool) string {
	if replaced {
		return "gameday.local/node:" + version + "-replaced-" + key
	}
	return "gameday.local/node:" + version + "-" + key
}

// publishedTag is kind's own node image of a version.
func publishedTag(version string) string { return "kindest/node:" + version }

// replacedLabel is the value of LabelReplaced; hashes maps module to hash.
func replacedLabel(hashes map[string]string) string {
	var parts []string
	for _, module := range sortedKeys(hashes) {
		parts = append(parts, module+"=sha256:"+hashes[module])
	}
	return strings.Join(parts, ",")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
