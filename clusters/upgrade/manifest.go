package upgrade

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// The components that kubeadm runs as static pods, in the order in which it
// upgrades them: k8s.io/kubernetes@v1.37.0
// cmd/kubeadm/app/phases/upgrade/staticpods.go StaticPodControlPlane.
const (
	etcd              = "etcd"
	apiServer         = "kube-apiserver"
	controllerManager = "kube-controller-manager"
	scheduler         = "kube-scheduler"
)

func staticPods() []string { return []string{etcd, apiServer, controllerManager, scheduler} }

// manifestPath is where the kubelet reads the static pod of a component.
func manifestPath(component string) string {
	return "/etc/kubernetes/manifests/" + component + ".yaml"
}

// manifestVersion is the version that the image of a static pod's first
// container names.
func manifestVersion(component string, manifest []byte) (string, error) {
	var pod struct {
		Spec struct {
			Containers []struct {
				Image string `json:"image"`
			} `json:"containers"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(manifest, &pod); err != nil {
		return "", fmt.Errorf("manifest of %s: %w", component, err)
	}
	if len(pod.Spec.Containers) == 0 {
		return "", fmt.Errorf("manifest of %s has no container", component)
	}
	return imageVersion(component, pod.Spec.Containers[0].Image)
}

// imageVersion is the version that a component's image name stands for:
// v1.37.0, or 3.7.0 for etcd, whose tags count rebuilds of the image after a
// dash (3.7.0-0).
func imageVersion(component, image string) (string, error) {
	name, _, _ := strings.Cut(image, "@")
	at := strings.LastIndexByte(name, ':')
	if at < 0 || strings.Contains(name[at:], "/") {
		return "", fmt.Errorf("image %q of %s has no tag", image, component)
	}
	tag := name[at+1:]
	if component == etcd {
		tag, _, _ = strings.Cut(tag, "-")
		return strings.TrimPrefix(tag, "v"), nil
	}
	// A + of a version is written _ in a tag:
	// cmd/kubeadm/app/util/version.go KubernetesVersionToImageTag.
	return strings.ReplaceAll(tag, "_", "+"), nil
}
