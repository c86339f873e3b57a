package kind

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gameday/clusters"
)

// The kernel counts inotify instances and watches by user, and the root users of
// all nodes are one. Without room systemd and kubelet fail with "too many open
// files", late and unclearly: https://kind.sigs.k8s.io/docs/user/known-issues.
const (
	inotifyDir = "/proc/sys/fs/inotify"
	// A fresh node was seen to use 12 instances and 180 watches. Twice that for the
	// first (five nodes then fit into the kernel's default of 128), and room for
	// pods, which are watched and may watch files themselves, for the second.
	instancesPerNode = 24
	watchesPerNode   = 4096
)

// limit is one of the kernel's limits that is too low.
type limit struct {
	path      string
	is, needs int
}

// lowLimits are the inotify limits below what so many nodes need.
func lowLimits(dir string, nodes int) ([]limit, error) {
	var low []limit
	for name, perNode := range map[string]int{"max_user_instances": instancesPerNode, "max_user_watches": watchesPerNode} {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // not Linux
		}
		if err != nil {
			return nil, fmt.Errorf("limit of inotify: %w", err)
		}
		is, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return nil, fmt.Errorf("limit of inotify: %s: %w", path, err)
		}
		if needs := perNode * nodes; is < needs {
			low = append(low, limit{path, is, needs})
		}
	}
	return low, nil
}

// checkInotify says, as obstacles, which limits are too low and cannot be raised.
func checkInotify(spec clusters.Spec) error {
	low, err := lowLimits(inotifyDir, spec.ControlPlanes+spec.Workers)
	if err != nil || os.Geteuid() == 0 {
		return err // root raises them
	}
	var errs []error
	for _, l := range low {
		errs = append(errs, fmt.Errorf("%s is %d and %d nodes need %d: `sudo sysctl -w fs.inotify.%s=%d`, or run as root",
			l.path, l.is, spec.ControlPlanes+spec.Workers, l.needs, filepath.Base(l.path), l.needs))
	}
	return errors.Join(errs...)
}

// raiseInotify raises the limits that are too low. They stay raised: they cost
// nothing, and a cluster may outlive us.
func raiseInotify(dir string, nodes int, say clusters.Say) error {
	low, err := lowLimits(dir, nodes)
	if err != nil {
		return err
	}
	for _, l := range low {
		if err := os.WriteFile(l.path, []byte(strconv.Itoa(l.needs)), 0o644); err != nil {
			return fmt.Errorf("raising %s from %d to %d, which so many nodes need (run as root, or on the host of this container): %w", l.path, l.is, l.needs, err)
		}
		say("kind: raised %s from %d to %d", l.path, l.is, l.needs)
	}
	return nil
}
