package kind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"sort"

	"golang.org/x/mod/semver"

	"gameday/clusters"
	"gameday/clusters/docker"
)

// Provider makes clusters with kind. It holds no state: what there is, is found
// by label each time.
type Provider struct{}

// New is the kind provider.
func New() *Provider { return &Provider{} }

var _ clusters.Provider = (*Provider)(nil)

// Name implements clusters.Provider.
func (*Provider) Name() string { return providerName }

var (
	// nameForm is kind's rule for names; the length leaves room for
	// "-external-load-balancer" in a host name (64 characters on Linux).
	nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,38}[a-z0-9])?$`)
	// runForm is a value of a Kubernetes label.
	runForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
)

// checkSpec finds what cannot work with any machine.
func checkSpec(s clusters.Spec) error {
	var errs []error
	if !nameForm.MatchString(s.Name) {
		errs = append(errs, fmt.Errorf("cluster name %q: use at most 40 of a-z, 0-9, '.' and '-', beginning and ending with a letter or a digit", s.Name))
	}
	if !runForm.MatchString(s.Run) {
		errs = append(errs, fmt.Errorf("run id %q is not a value of a Kubernetes label (at most 63 letters, digits, '-', '_', '.')", s.Run))
	}
	if !semver.IsValid(s.Version) {
		errs = append(errs, fmt.Errorf("kubernetes version %q is not of the form v1.X.Y", s.Version))
	}
	if s.ControlPlanes < 1 {
		errs = append(errs, fmt.Errorf("%d control planes: at least one is needed", s.ControlPlanes))
	}
	if s.Workers < 0 {
		errs = append(errs, fmt.Errorf("%d workers", s.Workers))
	}
	return errors.Join(errs...)
}

// Check implements clusters.Provider.
func (p *Provider) Check(ctx context.Context, spec clusters.Spec) error {
	errs := []error{checkSpec(spec)}
	dockerErr := docker.Check(ctx)
	errs = append(errs, dockerErr, checkInotify(spec))
	if dockerErr == nil {
		errs = append(errs, checkFree(ctx, spec.Name))
	}
	return errors.Join(errs...)
}

// checkFree says, as an obstacle, that the name is taken. Where Docker does not
// answer (it may be started later) there is nothing that could have the name.
func checkFree(ctx context.Context, name string) error {
	if _, err := docker.Inspect(ctx); err != nil {
		return nil //nolint:nilerr // docker.Check has found that it can be started
	}
	there, err := find(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case there.empty():
		return nil
	case there.ours():
		return fmt.Errorf("a cluster of the name %s exists, made by run %s: `gameday clusters delete %s` removes it, or give another name", name, there.label(clusters.LabelRun), name)
	default:
		return fmt.Errorf("a kind cluster of the name %s exists, and gameday did not make it: give another name", name)
	}
}

// remains is all that there is of one cluster.
type remains struct {
	name       string
	containers []container
	marks      []mark
}

func find(ctx context.Context, name string) (remains, error) {
	r := remains{name: name}
	var err error
	if r.containers, err = containersOf(ctx, name); err != nil {
		return r, fmt.Errorf("looking for cluster %s: %w", name, err)
	}
	if r.marks, err = findMarks(ctx, name); err != nil {
		return r, fmt.Errorf("looking for cluster %s: %w", name, err)
	}
	return r, nil
}

func (r remains) empty() bool { return len(r.containers) == 0 && len(r.marks) == 0 }

// ours says whether gameday made it: a node carries our label, or our mark (made
// first and removed last) is there.
func (r remains) ours() bool { return r.label(clusters.LabelProvider) == providerName }

// mine are the containers that gameday made: those with our label, and the load
// balancer, which carries none, unless the cluster has nodes of somebody else.
func (r remains) mine() []container {
	var nodes, balancers []container
	foreign := false
	for _, c := range r.containers {
		switch {
		case c.Config.Labels[labelCluster] == r.name:
			nodes = append(nodes, c)
		case c.Config.Labels[kindRole] == "external-load-balancer":
			balancers = append(balancers, c)
		default:
			foreign = true
		}
	}
	if foreign || !r.ours() {
		return nodes
	}
	return append(nodes, balancers...)
}

// label is one of our labels, from a node or from the mark.
func (r remains) label(key string) string {
	for _, c := range r.containers {
		if c.Config.Labels[labelCluster] == r.name && c.Config.Labels[key] != "" {
			return c.Config.Labels[key]
		}
	}
	for _, m := range r.marks {
		if v := m.labels[key]; v != "" {
			return v
		}
	}
	return ""
}

// List implements clusters.Provider. What a killed creation left is listed too,
// with the nodes it has.
func (*Provider) List(ctx context.Context) ([]clusters.Found, error) {
	containers, err := findContainers(ctx, clusters.LabelProvider+"="+providerName)
	if err != nil {
		return nil, fmt.Errorf("listing clusters: %w", err)
	}
	marks, err := findMarks(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("listing clusters: %w", err)
	}
	return found(containers, marks), nil
}

// found groups containers and marks by cluster. Nodes do not count the load
// balancer, which is no node of Kubernetes.
func found(containers []container, marks []mark) []clusters.Found {
	byName := map[string]*clusters.Found{}
	entry := func(labels map[string]string) *clusters.Found {
		name := labels[labelCluster]
		f := byName[name]
		if f == nil {
			f = &clusters.Found{Name: name, Run: labels[clusters.LabelRun], Provider: providerName, Version: labels[labelKubernetes]}
			byName[name] = f
		}
		return f
	}
	for _, m := range marks {
		entry(m.labels).Created = m.created
	}
	for _, c := range containers {
		if c.Config.Labels[kindCluster] == "" {
			continue // the container that a mark is being made from
		}
		f := entry(c.Config.Labels)
		f.Nodes++
		if f.Created.IsZero() || c.Created.Before(f.Created) {
			f.Created = c.Created
		}
	}
	out := make([]clusters.Found, 0, len(byName))
	for _, f := range byName {
		out = append(out, *f)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// Open implements clusters.Provider.
func (*Provider) Open(ctx context.Context, name string) (clusters.Cluster, error) {
	there, err := find(ctx, name)
	if err != nil {
		return nil, err
	}
	switch {
	case there.empty():
		return nil, fmt.Errorf("cluster %s: %w: `gameday clusters list` shows those there are", name, clusters.ErrNotFound)
	case !there.ours():
		return nil, fmt.Errorf("cluster %s was not made by gameday, which leaves it alone", name)
	case len(there.containers) == 0:
		return nil, fmt.Errorf("cluster %s: %w: only the mark of an interrupted creation is left, `gameday clusters delete %s` removes it", name, clusters.ErrNotFound, name)
	}
	return open(ctx, there)
}

// local says whether processes and networks of containers can be reached from
// this process.
func local(f docker.Facts) bool {
	return runtime.GOOS == "linux" && f.Local && !f.Rootless && os.Geteuid() == 0
}
