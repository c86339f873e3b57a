package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"gameday/clusters"
)

const (
	// standing is etcd's static pod where kubeadm puts it and the kubelet looks for
	// it: k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/constants/constants.go.
	standing = "/etc/kubernetes/manifests/etcd.yaml"
	// parking is our folder on a node, with one folder for each injection. It is
	// near the manifests, hence on the same file system.
	parking = "/etc/kubernetes/gameday"
)

func parked(tag string) string { return path.Join(parking, tag, path.Base(standing)) }

func files(n clusters.Node) (clusters.Files, error) {
	f, ok := n.(clusters.Files)
	if !ok {
		return nil, fmt.Errorf("%s does not give access to its files (capability %s)", n.Name(), clusters.CapFiles)
	}
	return f, nil
}

func exists(ctx context.Context, f clusters.Files, name string) (bool, error) {
	_, err := f.ReadFile(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// park takes etcd's manifest away, so that the kubelet stops the pod. One that was put there while another is parked (an upgrade does so) takes
// that one's place: the newest counts.
func park(ctx context.Context, n clusters.Node, tag string) error {
	f, err := files(n)
	if err != nil {
		return err
	}
	err = f.Rename(ctx, standing, parked(tag))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ok, perr := exists(ctx, f, parked(tag))
	if perr == nil && !ok {
		return fmt.Errorf("%s: no etcd stands there that could be stopped: %w", n.Name(), err)
	}
	return perr
}

// unpark puts the manifest back. If one stands there, somebody made it after ours
// was taken away: that one stays.
func unpark(ctx context.Context, n clusters.Node, tag string) error {
	f, err := files(n)
	if err != nil {
		return err
	}
	newer, err := exists(ctx, f, standing)
	if err != nil {
		return err
	}
	if !newer {
		err = f.Rename(ctx, parked(tag), standing)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return removeParking(ctx, f, tag)
}

func removeParking(ctx context.Context, f clusters.Files, tag string) error {
	if err := f.RemoveAll(ctx, path.Join(parking, tag)); err != nil {
		return err
	}
	left, err := f.ReadDir(ctx, parking)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(left) == 0 {
		err = f.RemoveAll(ctx, parking)
	}
	return err
}

// isParked says whether the manifest is parked for the tag.
func isParked(ctx context.Context, n clusters.Node, tag string) (bool, error) {
	f, err := files(n)
	if err != nil {
		return false, err
	}
	return exists(ctx, f, parked(tag))
}

// Parked lists the tags of injections that left files on a node.
func Parked(ctx context.Context, n clusters.Node) ([]string, error) {
	f, err := files(n)
	if err != nil {
		return nil, err
	}
	tags, err := f.ReadDir(ctx, parking)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return tags, err
}

// Unpark puts back what an injection with this tag parked on a node, for when its
// journal is lost. It refuses where more is to be done than that: a member whose
// data was set aside by etcd.replace.
func Unpark(ctx context.Context, n clusters.Node, tag string) error {
	f, err := files(n)
	if err != nil {
		return err
	}
	if _, err := f.ReadDir(ctx, aside(tag)); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s: etcd.replace (%s) was interrupted there and its journal is lost: see whether the member is in the list, then put %s back as member, or add it anew", n.Name(), tag, aside(tag)), err)
	}
	_, err = f.ReadDir(ctx, parkedServing(tag, ""))
	switch {
	case err == nil:
		if err := restoreServing(ctx, n, tag); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return unpark(ctx, n, tag)
}
