package upgrade

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/semver"

	"gameday/clusters"
)

func (p Place) String() string { return fmt.Sprintf("%s[%d]", p.Role, p.Index) }

// Places are the positions of nodes.
func Places(nodes []clusters.Node) []Place {
	out := make([]Place, len(nodes))
	for i, n := range nodes {
		out[i] = Place{Role: n.Role(), Index: n.Index()}
	}
	return out
}

// Check lists, as one joined error, what is wrong with the options for a
// cluster of these places. It needs no cluster.
func Check(places []Place, o Options) error {
	var errs []error
	if !semver.IsValid(o.To) || strings.Count(o.To, ".") < 2 {
		errs = append(errs, fmt.Errorf("upgrade to %q: a version is of the form v1.X.Y", o.To))
	}
	known := map[string]clusters.Role{}
	var names []string
	for _, p := range places {
		if p.Role != clusters.LoadBalancer {
			known[p.String()] = p.Role
			names = append(names, p.String())
		}
	}
	seen := map[string]bool{}
	for _, n := range o.Nodes {
		switch {
		case known[n] == "":
			errs = append(errs, fmt.Errorf("upgrade of %s: the cluster has no such node (it has %s)", n, strings.Join(names, ", ")))
		case seen[n]:
			errs = append(errs, fmt.Errorf("upgrade of %s: it is listed twice", n))
		}
		seen[n] = true
	}
	switch o.Drain {
	case "", DrainNone, DrainWorkers, DrainAll:
	default:
		errs = append(errs, fmt.Errorf("drain %q: one of %s, %s, %s", o.Drain, DrainNone, DrainWorkers, DrainAll))
	}
	if o.DrainTimeout < 0 {
		errs = append(errs, fmt.Errorf("drain timeout %s: it must not be negative", o.DrainTimeout))
	}
	return errors.Join(errs...)
}

// ordered are the places to upgrade, in order. Unknown names are left out: they
// are Check's to report.
func ordered(places []Place, o Options) []Place {
	if len(o.Nodes) == 0 {
		var out []Place
		for _, role := range []clusters.Role{clusters.ControlPlane, clusters.Worker} {
			for _, p := range places {
				if p.Role == role {
					out = append(out, p)
				}
			}
		}
		return out
	}
	var out []Place
	for _, name := range o.Nodes {
		for _, p := range places {
			if p.String() == name && p.Role != clusters.LoadBalancer {
				out = append(out, p)
			}
		}
	}
	return out
}

// checkOrder refuses an order that the version skew policy forbids
// (https://kubernetes.io/releases/version-skew-policy/): a kubelet must not be
// newer than an API server, so every control plane comes before the first
// worker. versions are the kubelets' by place.
func checkOrder(places []Place, steps []Step, versions map[string]string, to string) error {
	var errs []error
	for name, from := range versions {
		switch {
		case semver.Compare(from, to) > 0 && from != to:
			errs = append(errs, fmt.Errorf("%s runs %s, newer than the target %s: kubeadm in place does not go back", name, from, to))
		case !withinOneMinor(from, to):
			errs = append(errs, fmt.Errorf("%s runs %s: kubeadm upgrades one minor version at a time, not to %s", name, from, to))
		}
	}
	done := map[string]bool{}
	for _, s := range steps {
		if !isControlPlane(s.Place) {
			for _, p := range places {
				if p.Role == clusters.ControlPlane && !done[p.String()] && versions[p.String()] != to {
					errs = append(errs, fmt.Errorf("%s comes before %s: a kubelet must not be newer than an API server, so upgrade all control planes first", s.Place, p))
				}
			}
		}
		done[s.Place] = true
	}
	return errors.Join(errs...)
}

func withinOneMinor(from, to string) bool {
	var fMajor, fMinor, tMajor, tMinor int
	if _, err := fmt.Sscanf(semver.MajorMinor(from), "v%d.%d", &fMajor, &fMinor); err != nil {
		return false
	}
	if _, err := fmt.Sscanf(semver.MajorMinor(to), "v%d.%d", &tMajor, &tMinor); err != nil {
		return false
	}
	return fMajor == tMajor && tMinor-fMinor <= 1
}

func isControlPlane(place string) bool {
	return strings.HasPrefix(place, string(clusters.ControlPlane)+"[")
}
