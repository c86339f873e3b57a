package faults

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestImageNames(t *testing.T) {
	for image, want := range map[string]string{
		"registry.k8s.io/kube-proxy:v1.36.1": "registry.k8s.io/kube-proxy:v1.36.1",
		"busybox":                            "docker.io/library/busybox:latest",
		"kindest/kindnetd:v1":                "docker.io/kindest/kindnetd:v1",
		"localhost/agent:x":                  "localhost/agent:x",
	} {
		if got, err := fullName(image); err != nil || got != want {
			t.Errorf("%s: got %s, %v", image, got, err)
		}
	}
	if _, err := fullName("no image"); err == nil {
		t.Error("a name with a space was taken")
	}
}

func TestFateOfACanary(t *testing.T) {
	on := func(node string, s ...corev1.ContainerStatus) corev1.Pod {
		p := podWith(false, corev1.PodPending, s...)
		p.Spec.NodeName = node
		return *p
	}
	pods := []corev1.Pod{
		on("a", corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImageNeverPull"}}}),
		on("b", corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "StartError"}}}),
		on("c"),
	}
	for node, want := range map[string]string{"a": "ErrImageNeverPull", "b": "StartError", "c": "ContainerCreating", "d": ""} {
		if got := fate(pods, node); got != want {
			t.Errorf("%s: got %q, want %q", node, got, want)
		}
	}
}
