package kind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters/cache"
	"gameday/clusters/docker"
)

// deleteBound is for removing all containers of a cluster with their volumes,
// which takes about 10 s for five nodes.
const deleteBound = 3 * time.Minute

// Delete implements clusters.Provider. The Docker network "kind" stays: kind
// shares it between all clusters, also those of others.
func (*Provider) Delete(ctx context.Context, name string) (err error) {
	unlock, err := lock(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return remove(ctx, name)
}

// remove is Delete with the name locked.
func remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, deleteBound)
	defer cancel()
	there, err := find(ctx, name)
	if err != nil {
		return err
	}
	if there.empty() {
		// Docker may have lost its containers, and the disks be left.
		return removeDisks(ctx, diskRoot, name)
	}
	if !there.ours() {
		return fmt.Errorf("cluster %s was not made by gameday, which leaves it alone: `kind delete cluster --name %s` removes it", name, name)
	}
	mine := there.mine()
	if err := thawDisks(diskRoot, name); err != nil {
		return err
	}
	if err := removeContainers(ctx, mine); err != nil {
		// Somebody else may have removed one meanwhile; what counts is what is left.
		left, findErr := find(ctx, name)
		if findErr != nil || len(left.mine()) > 0 {
			return fmt.Errorf("removing the %d containers of cluster %s: %w", len(mine), name, errors.Join(err, findErr))
		}
	}
	if err := removeDisks(ctx, diskRoot, name); err != nil {
		return err
	}
	kubeconfig, err := kubeconfigDir(name)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(kubeconfig); err != nil {
		return fmt.Errorf("removing the kubeconfig of cluster %s: %w", name, err)
	}
	// The mark goes last: as long as anything is there, it says whose it is.
	for _, m := range there.marks {
		ref := m.tag
		if ref == "" {
			ref = m.image
		}
		if _, err := docker.Run(ctx, "rmi", "--force", ref); err != nil {
			return fmt.Errorf("removing the image of cluster %s: %w", name, err)
		}
	}
	return nil
}

// removeContainers removes containers and the volumes made for them.
func removeContainers(ctx context.Context, containers []container) error {
	if len(containers) == 0 {
		return nil
	}
	args := []string{"rm", "--force", "--volumes"}
	for _, c := range containers {
		args = append(args, c.ID)
	}
	_, err := docker.Run(ctx, args...)
	return err
}

// lock keeps two processes from making or deleting clusters of the same name at
// the same time: kind, when it finds a name taken half way, would remove the
// other's nodes.
func lock(name string) (unlock func() error, err error) {
	if !nameForm.MatchString(name) {
		return nil, fmt.Errorf("%q is not the name of a cluster", name)
	}
	dir, err := cache.Dir("kind", "locks")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name+".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the name %s: %w", name, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = errors.Join(err, f.Close())
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another gameday is making or deleting a cluster of the name %s just now (it holds %s): wait for it, or give another name", name, path)
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f.Close, nil // which unlocks
}
