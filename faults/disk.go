package faults

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gameday/clusters"
)

// etcdDisk is the disk of the etcd on a node.
func etcdDisk(ctx context.Context, n clusters.Node) (clusters.Disk, error) {
	d, ok := n.(clusters.Disks)
	if !ok {
		return clusters.Disk{}, fmt.Errorf("%s: its etcd has no disk of its own (capability %s): %w", n.Name(), clusters.CapDisk, errors.ErrUnsupported)
	}
	return d.EtcdDisk(ctx)
}

// seenFrom is a path as the node sees it: what is mounted there in the node, not
// what we know to be mounted on this machine.
func seenFrom(ctx context.Context, n clusters.Node, path string) (string, error) {
	p, ok := n.(clusters.Processes)
	if !ok {
		return "", fmt.Errorf("%s does not show its processes (capability %s)", n.Name(), clusters.CapProcesses)
	}
	pid, err := p.InitPID(ctx)
	if err != nil {
		return "", err
	}
	return filepath.Join("/proc", fmt.Sprint(pid), "root", path), nil
}

// sameFileSystem says whether two paths lead to the same one.
func sameFileSystem(a, b string) (bool, error) {
	var sa, sb unix.Stat_t
	if err := errors.Join(unix.Stat(a, &sa), unix.Stat(b, &sb)); err != nil {
		return false, fmt.Errorf("file systems of %s and %s: %w", a, b, err)
	}
	return sa.Dev == sb.Dev, nil
}
