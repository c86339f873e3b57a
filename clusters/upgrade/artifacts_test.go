package upgrade

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gameday/clusters"
	"gameday/clusters/nodeimage"
)

func TestArtifacts(t *testing.T) {
	from := nodeimage.Artifacts{Kubeadm: "/d/kubeadm", Kubelet: "/d/kubelet", Kubectl: "/d/kubectl"}
	for _, i := range []struct{ component, ref string }{
		{"kube-apiserver", "r/kube-apiserver:v1.37.0"},
		{"kube-controller-manager", "r/kube-controller-manager:v1.37.0"},
		{"kube-scheduler", "r/kube-scheduler:v1.37.0"},
		{"kube-proxy", "r/kube-proxy:v1.37.0"},
		{"coredns", "r/coredns/coredns:v1.14.6"},
		{"pause", "r/pause:3.10.2"},
		{"etcd", "r/etcd:3.7.0-0"},
	} {
		if _, err := newArtifacts("img", from); err == nil || !strings.Contains(err.Error(), "node image img holds no image of") {
			t.Fatalf("with %d images: %v", len(from.Images), err)
		}
		from.Images = append(from.Images, nodeimage.ImageTar{Component: i.component, Ref: i.ref, Path: "/d/" + i.component})
	}
	a, err := newArtifacts("img", from)
	if err != nil {
		t.Fatal(err)
	}
	if a.Etcd() != "3.7.0" {
		t.Error(a.Etcd())
	}
	got, err := a.Images(t.Context(), clusters.Worker)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"r/kube-proxy:v1.37.0": "/d/kube-proxy", "r/coredns/coredns:v1.14.6": "/d/coredns", "r/pause:3.10.2": "/d/pause"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got, err = a.Images(t.Context(), clusters.ControlPlane); err != nil || len(got) != 7 {
		t.Error(got, err)
	}
	if adm, let, ctl, err := a.Binaries(t.Context()); adm != "/d/kubeadm" || let != "/d/kubelet" || ctl != "/d/kubectl" || err != nil {
		t.Error(adm, let, ctl, err)
	}
}
