package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// debianSuite is the Debian release of the node. Its systemd (252) runs on
// cgroup v1 and v2; from 256 on systemd refuses v1.
const debianSuite = "bookworm"

// debianPackages are those of kind's images/base/Dockerfile, less what only
// network storage and rootless nodes need (nfs-common, open-iscsi,
// fuse-overlayfs), plus runc and haproxy, which cannot be had from the Go module
// proxy. haproxy is carved out for the load balancer and then removed.
var debianPackages = []string{
	"systemd", "conntrack", "iptables", "nftables", "iproute2", "ethtool", "util-linux", "mount", "kmod",
	"libseccomp2", "pigz", "e2fsprogs", "bash", "ca-certificates", "curl", "jq", "procps", "runc", "haproxy",
}

// debootstrapBound covers 150 packages over a slow line.
const debootstrapBound = 20 * time.Minute

// hostTools are the programs of this machine that a build needs, and the Debian
// packages that bring them.
var hostTools = map[string][]string{
	"debootstrap": {"debootstrap", "debian-archive-keyring"},
	"gcc":         {"gcc", "libc6-dev"},
}

// requireHost checks that this machine can build a root file system, and
// installs what is missing where that can be done.
func requireHost(ctx context.Context, log Log) error {
	if os.Geteuid() != 0 {
		return errors.New("building a node image takes root (debootstrap makes a Debian root file system): run it with sudo, or where kindest/node can be pulled")
	}
	var missing, packages []string
	for _, tool := range sortedKeys(hostTools) {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
			packages = append(packages, hostTools[tool]...)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("building a node image needs %s: install %s", strings.Join(missing, " and "), strings.Join(packages, " "))
	}
	log("installing %s (needed to build a node image)", strings.Join(packages, " "))
	for _, args := range [][]string{{"update"}, append([]string{"install", "--yes", "--no-install-recommends"}, packages...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("installing %s with apt-get: %w: %s", strings.Join(packages, " "), err, lastLines(string(out), 5))
		}
	}
	return nil
}

// debootstrap makes a Debian root with debianPackages in dir.
func debootstrap(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, debootstrapBound,
		fmt.Errorf("debootstrap took longer than %s", debootstrapBound))
	defer cancel()
	args := []string{"--variant=minbase", "--arch=" + runtime.GOARCH, "--force-check-gpg",
		"--include=" + strings.Join(debianPackages, ","), debianSuite, dir}
	if mirror := aptMirror(ctx); mirror != "" {
		args = append(args, mirror)
	}
	cmd := exec.CommandContext(ctx, "debootstrap", args...)
	// Its own mount namespace: whatever debootstrap mounts in the new root is
	// gone when it ends, however it ends, before anyone deletes that root.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Unshareflags: syscall.CLONE_NEWNS}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("making a Debian %s root file system with debootstrap: %w: %s", debianSuite, err, lastLines(string(out), 5))
	}
	return nil
}

// aptMirror is the address from which this machine's own apt takes Debian
// packages of the suite; empty (debootstrap's default) where apt does not.
func aptMirror(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)",
		"Created-By: Packages", "Codename: "+debianSuite, "Component: main").Output()
	if err != nil {
		return "" // no apt here: the default mirror serves as well
	}
	mirror, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return mirror
}

// prune removes what a node never reads: package lists, documentation, logs.
func prune(root string) error {
	for _, pattern := range []string{
		"var/cache/apt/*", "var/cache/debconf/*", "var/lib/apt/lists/*", "var/log/*", "tmp/*", "var/tmp/*",
		"usr/share/doc/*", "usr/share/doc-base/*", "usr/share/man/*", "usr/share/info/*", "usr/share/locale/*",
		"usr/share/lintian/*", "usr/share/bash-completion/*", "etc/machine-id", "debootstrap",
	} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, f := range found {
			if err := os.RemoveAll(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// purge removes a package from a root.
func purge(ctx context.Context, root, pkg string) error {
	cmd := exec.CommandContext(ctx, "chroot", root, "dpkg", "--purge", pkg)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("removing %s from the node's root: %w: %s", pkg, err, lastLines(string(out), 5))
	}
	return nil
}
