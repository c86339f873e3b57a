package upgrade

import (
	"context"
	"fmt"
	"slices"

	"gameday/clusters"
	"gameday/clusters/nodeimage"
)

// Artifacts are the Targets taken out of a node image of the target version.
type Artifacts struct {
	from nodeimage.Artifacts
	ref  string // of the node image
	etcd string
}

// FromNodeImage extracts the targets from a node image that is in Docker. What
// was extracted once is found in nodeimage's cache.
func FromNodeImage(ctx context.Context, ref string) (*Artifacts, error) {
	from, err := nodeimage.Extract(ctx, ref, nil)
	if err != nil {
		return nil, fmt.Errorf("targets of the upgrade: %w", err)
	}
	return newArtifacts(ref, from)
}

func newArtifacts(ref string, from nodeimage.Artifacts) (*Artifacts, error) {
	a := &Artifacts{from: from, ref: ref}
	have := map[string]bool{}
	for _, i := range from.Images {
		have[i.Component] = true
		if i.Component == etcd {
			v, err := imageVersion(etcd, i.Ref)
			if err != nil {
				return nil, fmt.Errorf("targets of the upgrade: %w", err)
			}
			a.etcd = v
		}
	}
	for _, c := range append(staticPods(), onEveryNode()...) {
		if !have[c] {
			return nil, fmt.Errorf("targets of the upgrade: node image %s holds no image of %s", ref, c)
		}
	}
	return a, nil
}

// onEveryNode are the images that any node may have to run: kube-proxy, CoreDNS
// (a Deployment), and the pause of the Job by which kubeadm checks that pods
// can run (k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/phases/upgrade/health.go).
func onEveryNode() []string { return []string{"kube-proxy", "coredns", "pause"} }

// Binaries implements Targets.
func (a *Artifacts) Binaries(context.Context) (kubeadm, kubelet, kubectl string, err error) {
	return a.from.Kubeadm, a.from.Kubelet, a.from.Kubectl, nil
}

// Images implements Targets.
func (a *Artifacts) Images(_ context.Context, role clusters.Role) (map[string]string, error) {
	out := map[string]string{}
	for _, i := range a.from.Images {
		if slices.Contains(onEveryNode(), i.Component) || role == clusters.ControlPlane && slices.Contains(staticPods(), i.Component) {
			out[i.Ref] = i.Path
		}
	}
	return out, nil
}

// Etcd implements Targets.
func (a *Artifacts) Etcd() string { return a.etcd }

// NodeImage implements Targets.
func (a *Artifacts) NodeImage() string { return a.ref }
