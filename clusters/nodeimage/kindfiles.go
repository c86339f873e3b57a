package nodeimage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// kindPins are the versions that a kind release builds into its base image.
type kindPins struct{ Containerd, CNI, Crictl string }

var dockerfileArg = regexp.MustCompile(`(?m)^ARG ([A-Z_]+)="?(v[0-9][0-9A-Za-z.+-]*)"?\s*$`)

// parseKindPins reads them from images/base/Dockerfile of kind.
func parseKindPins(dockerfile []byte) (kindPins, error) {
	args := map[string]string{}
	for _, m := range dockerfileArg.FindAllSubmatch(dockerfile, -1) {
		args[string(m[1])] = string(m[2])
	}
	k := kindPins{Containerd: args["CONTAINERD_VERSION"], CNI: args["CNI_PLUGINS_VERSION"], Crictl: args["CRICTL_VERSION"]}
	if k.Containerd == "" || k.CNI == "" || k.Crictl == "" {
		return kindPins{}, fmt.Errorf("kind's images/base/Dockerfile names no CONTAINERD_VERSION, CNI_PLUGINS_VERSION or CRICTL_VERSION (%+v)", k)
	}
	return k, nil
}

// readKindPins is parseKindPins for a kind source tree.
func readKindPins(kindDir string) (kindPins, error) {
	data, err := os.ReadFile(filepath.Join(kindDir, "images", "base", "Dockerfile"))
	if err != nil {
		return kindPins{}, fmt.Errorf("reading what kind %s pins: %w", kindVersion, err)
	}
	return parseKindPins(data)
}

// installKindFiles copies kind's node files (entrypoint, systemd units,
// containerd's configuration) into a Debian root and does what
// images/base/Dockerfile does to it besides.
func installKindFiles(kindDir, root string) error {
	from := filepath.Join(kindDir, "images", "base", "files")
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		// Scripts 0755, all else 0644, as the Dockerfile's COPY --chmod.
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(rel, "usr/local/bin/") || strings.HasPrefix(rel, "kind/bin/") {
			mode = 0o755
		}
		return writeFile(filepath.Join(root, rel), data, mode)
	})
	if err != nil {
		return fmt.Errorf("copying kind's node files: %w", err)
	}

	// Nothing of Debian's own starts: a node runs containerd and kubelet.
	for _, pattern := range []string{
		"lib/systemd/system/multi-user.target.wants/*", "etc/systemd/system/*.wants/*",
		"lib/systemd/system/local-fs.target.wants/*", "lib/systemd/system/sockets.target.wants/*udev*",
		"lib/systemd/system/sockets.target.wants/*initctl*", "lib/systemd/system/basic.target.wants/*",
		"lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
	} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, f := range found {
			if err := os.Remove(f); err != nil {
				return err
			}
		}
	}
	links := map[string]string{
		"sbin/init": "/usr/lib/systemd/systemd",
		// systemd-binfmt would register things in the host's kernel.
		"etc/systemd/system/systemd-binfmt.service": "/dev/null",
	}
	for _, unit := range []string{"kubelet", "containerd", "undo-mount-hacks"} {
		links["etc/systemd/system/multi-user.target.wants/"+unit+".service"] = "/etc/systemd/system/" + unit + ".service"
	}
	for at, target := range links {
		at = filepath.Join(root, at)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), removeIfThere(at), os.Symlink(target, at)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "etc/kubernetes/manifests"), 0o755); err != nil {
		return err
	}
	// The host's kernel messages in every node's journal would confuse.
	journald := filepath.Join(root, "etc/systemd/journald.conf")
	data, err := os.ReadFile(journald)
	if err != nil {
		return err
	}
	return writeFile(journald, append(data, "\nReadKMsg=no\n"...), 0o644)
}

// criBase turns the output of `ctr oci spec` into the base specification of
// every container on a node, as images/base/Dockerfile does with jq: kind's hook
// added, resource limits inherited rather than set.
func criBase(spec []byte) ([]byte, error) {
	var s map[string]any
	if err := json.Unmarshal(spec, &s); err != nil {
		return nil, fmt.Errorf("reading the output of ctr oci spec: %w", err)
	}
	process, ok := s["process"].(map[string]any)
	if !ok {
		return nil, errors.New("the output of ctr oci spec describes no process")
	}
	delete(process, "rlimits")
	hooks, ok := s["hooks"].(map[string]any)
	if !ok {
		hooks = map[string]any{}
		s["hooks"] = hooks
	}
	list, ok := hooks["createContainer"].([]any)
	if !ok {
		list = nil
	}
	hooks["createContainer"] = append(list, map[string]any{"path": "/kind/bin/mount-product-files.sh"})
	return json.MarshalIndent(s, "", "  ")
}

// writeFile replaces a file and makes missing folders.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), removeIfThere(path)); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		return err
	}
	// Whatever the umask is.
	return os.Chmod(path, mode)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
