package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"gameday/clusters"
)

const (
	// manifests is where kubeadm puts static pods and the kubelet looks for them:
	// k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/constants/constants.go.
	manifests = "/etc/kubernetes/manifests"
	// standing is etcd's.
	standing = manifests + "/etcd.yaml"
	// parking is our folder on a node, with one folder for each injection. It is
	// near the manifests, hence on the same file system.
	parking = "/etc/kubernetes/gameday"
)

// manifest is the name of a static pod's file.
type manifest string

const (
	etcdManifest      manifest = "etcd.yaml"
	apiserverManifest manifest = "kube-apiserver.yaml"
)

func (m manifest) standing() string         { return path.Join(manifests, string(m)) }
func (m manifest) parked(tag string) string { return path.Join(parking, tag, string(m)) }

func parked(tag string) string { return etcdManifest.parked(tag) }

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

// park takes the manifest away, so that the kubelet stops the pod. One that was put
// there while another is parked (an upgrade does so) takes that one's place: the
// newest counts.
func (m manifest) park(ctx context.Context, n clusters.Node, tag string) error {
	f, err := files(n)
	if err != nil {
		return err
	}
	err = f.Rename(ctx, m.standing(), m.parked(tag))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ok, perr := exists(ctx, f, m.parked(tag))
	if perr == nil && !ok {
		return fmt.Errorf("%s: no %s stands there that could be stopped: %w", n.Name(), strings.TrimSuffix(string(m), ".yaml"), err)
	}
	return perr
}

// unpark puts the manifest back. If one stands there, somebody made it after ours
// was taken away: that one stays.
func (m manifest) unpark(ctx context.Context, n clusters.Node, tag string) error {
	f, err := files(n)
	if err != nil {
		return err
	}
	if err := m.putBack(ctx, f, tag); err != nil {
		return err
	}
	return removeParking(ctx, f, tag)
}

func (m manifest) putBack(ctx context.Context, f clusters.Files, tag string) error {
	newer, err := exists(ctx, f, m.standing())
	if err != nil || newer {
		return err
	}
	err = f.Rename(ctx, m.parked(tag), m.standing())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// isParked says whether the manifest is parked for the tag.
func (m manifest) isParked(ctx context.Context, n clusters.Node, tag string) (bool, error) {
	f, err := files(n)
	if err != nil {
		return false, err
	}
	return exists(ctx, f, m.parked(tag))
}

func park(ctx context.Context, n clusters.Node, tag string) error {
	return etcdManifest.park(ctx, n, tag)
}

func unpark(ctx context.Context, n clusters.Node, tag string) error {
	return etcdManifest.unpark(ctx, n, tag)
}

func isParked(ctx context.Context, n clusters.Node, tag string) (bool, error) {
	return etcdManifest.isParked(ctx, n, tag)
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
	names, err := f.ReadDir(ctx, path.Join(parking, tag))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		if name == parkedPair { // of apiserver.bad-cert
			if err := restoreServing(ctx, n, tag); err != nil {
				return err
			}
			continue
		}
		m := manifest(name)
		if m != etcdManifest && m != apiserverManifest {
			return fmt.Errorf("%s: %s is no manifest, and its journal is lost: see what it is, and put it back by hand", n.Name(), m.parked(tag))
		}
		if err := m.putBack(ctx, f, tag); err != nil {
			return err
		}
	}
	return removeParking(ctx, f, tag)
}
