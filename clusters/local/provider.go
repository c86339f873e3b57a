package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"

	"golang.org/x/mod/semver"
	"golang.org/x/sys/unix"

	"gameday/clusters"
)

// Provider makes clusters of processes. It holds no state.
type Provider struct{}

// New is the local provider.
func New() *Provider { return &Provider{} }

var _ clusters.Provider = (*Provider)(nil)

// Name implements clusters.Provider.
func (*Provider) Name() string { return providerName }

// nameForm leaves room for "-external-load-balancer" in a host name.
var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// mostControlPlanes is the largest etcd that has its uses:
// https://etcd.io/docs/v3.6/faq/#what-is-maximum-cluster-size.
const mostControlPlanes = 7

// checkSpec finds what cannot work with any machine.
func checkSpec(s clusters.Spec) error {
	var errs []error
	if !nameForm.MatchString(s.Name) {
		errs = append(errs, fmt.Errorf("cluster name %q: use at most 40 of a-z, 0-9 and '-', beginning and ending with a letter or a digit", s.Name))
	}
	if !semver.IsValid(s.Version) {
		errs = append(errs, fmt.Errorf("kubernetes version %q is not of the form v1.X.Y", s.Version))
	}
	if s.ControlPlanes < 1 || s.ControlPlanes > mostControlPlanes {
		errs = append(errs, fmt.Errorf("%d control planes: from 1 to %d can be had", s.ControlPlanes, mostControlPlanes))
	}
	if s.Workers < 0 {
		errs = append(errs, fmt.Errorf("%d workers", s.Workers))
	}
	return errors.Join(errs...)
}

// checkMachine finds what this machine lacks.
func checkMachine() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the provider %s needs Linux", providerName)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("the provider %s needs root, for namespaces and control groups: run it with sudo", providerName)
	}
	var errs []error
	for program, of := range map[string]string{"nsenter": "util-linux", "go": "Go"} {
		if _, err := exec.LookPath(program); err != nil {
			errs = append(errs, fmt.Errorf("the command %s (%s) is needed: %w", program, of, err))
		}
	}
	return errors.Join(errs...)
}

// Check implements clusters.Provider.
func (*Provider) Check(_ context.Context, spec clusters.Spec) error {
	return errors.Join(checkSpec(spec), checkMachine(), checkFree(spec.Name))
}

func checkFree(name string) error {
	_, err := os.Stat(dirOf(name))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("a cluster of the name %s exists: `gameday clusters delete %s` removes it, or give another name", name, name)
}

// List implements clusters.Provider. What a killed creation left is listed too.
func (*Provider) List(context.Context) ([]clusters.Found, error) {
	all, err := names()
	if err != nil {
		return nil, fmt.Errorf("listing clusters: %w", err)
	}
	var out []clusters.Found
	for _, name := range all {
		l, err := readLabel(name)
		if err != nil {
			return nil, err
		}
		f := clusters.Found{Name: name, Run: l.Run, Provider: providerName, Version: l.Version, Created: l.Created, Nodes: l.ControlPlanes + l.Workers}
		if fi, err := os.Stat(dirOf(name)); err == nil && f.Created.IsZero() {
			f.Created = fi.ModTime()
		}
		out = append(out, f)
	}
	return out, nil
}

// Open implements clusters.Provider.
func (*Provider) Open(ctx context.Context, name string) (clusters.Cluster, error) {
	return Open(ctx, name)
}

// Open finds a running cluster of this provider by name.
func Open(ctx context.Context, name string) (*Cluster, error) {
	if !nameForm.MatchString(name) {
		return nil, fmt.Errorf("cluster %q: %w", name, clusters.ErrNotFound)
	}
	if err := checkFree(name); err == nil {
		return nil, fmt.Errorf("cluster %s: %w: `gameday clusters list` shows those there are", name, clusters.ErrNotFound)
	}
	l, err := readLabel(name)
	if err != nil {
		return nil, err
	}
	pid, _, err := processOf(name + "/" + keeperPart)
	if err != nil {
		return nil, err
	}
	if pid == 0 || l.ControlPlanes == 0 {
		return nil, fmt.Errorf("cluster %s: %w: only files of it are left, `gameday clusters delete %s` removes them", name, clusters.ErrNotFound, name)
	}
	return open(ctx, name, l)
}

// lock keeps two processes from making or deleting clusters at the same time in one
// respect: a name, or (empty) the choice of a network.
func lock(name string) (unlock func() error, err error) {
	dir := filepath.Join(filepath.Dir(topDir()), "local-locks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name+".lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	how := unix.LOCK_EX
	if name != "" {
		how |= unix.LOCK_NB
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("another gameday is making or deleting a cluster of the name %s just now (it holds %s): wait for it, or give another name", name, path)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil // which unlocks
}
