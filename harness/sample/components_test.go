package sample

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gameday/harness/history"
)

func TestDecodeComponent(t *testing.T) {
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ContainerID: "containerd://a", StartedAt: at(1), FinishedAt: at(9), ExitCode: 137, Reason: "Error",
	}}
	told := &history.Termination{ID: "containerd://a", Started: at(1).Time, Finished: at(9).Time, ExitCode: 137, Reason: "Error"}
	meta := metav1.ObjectMeta{Name: "etcd-n", UID: "u", Annotations: map[string]string{"kubernetes.io/config.hash": "h"}}
	for _, c := range []struct {
		name   string
		status corev1.ContainerStatus
		ready  corev1.ConditionStatus
		want   history.Component
	}{
		{
			"runs again",
			corev1.ContainerStatus{Name: "etcd", ContainerID: "containerd://b", RestartCount: 1, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(10)}}, LastTerminationState: ended},
			corev1.ConditionTrue,
			history.Component{Ready: true, Containers: []history.Container{{Name: "etcd", ID: "containerd://b", Started: at(10).Time, Restarts: 1, Ended: told}}},
		},
		{
			"has ended",
			corev1.ContainerStatus{Name: "etcd", ContainerID: "containerd://a", State: ended},
			corev1.ConditionFalse,
			history.Component{Containers: []history.Container{{Name: "etcd", Ended: told}}},
		},
		{
			"held back",
			corev1.ContainerStatus{Name: "etcd", RestartCount: 2, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}, LastTerminationState: ended},
			corev1.ConditionFalse,
			history.Component{Containers: []history.Container{{Name: "etcd", Restarts: 2, Waiting: "CrashLoopBackOff", Ended: told}}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{NodeName: "n"}, Status: corev1.PodStatus{
				Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: c.ready}},
				ContainerStatuses: []corev1.ContainerStatus{c.status},
			}}
			c.want.Pod, c.want.UID, c.want.Node, c.want.Manifest = "etcd-n", "u", "n", "h"
			got, err := decodeComponent(stored(t, "v1", "Pod", &p))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDecodeLease(t *testing.T) {
	holder, seconds, n := "cp0_1234", int32(15), int32(3)
	renewed := metav1.NewMicroTime(time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC))
	l := coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "kube-scheduler"}, Spec: coordinationv1.LeaseSpec{
		HolderIdentity: &holder, LeaseDurationSeconds: &seconds, LeaseTransitions: &n, RenewTime: &renewed,
	}}
	got, err := decodeLease(stored(t, "coordination.k8s.io/v1", "Lease", &l))
	if err != nil {
		t.Fatal(err)
	}
	want := history.Lease{Name: "kube-scheduler", Holder: holder, Seconds: 15, Transitions: 3, Renewed: renewed.Time}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := decodeLease(stored(t, "v1", "Pod", &corev1.Pod{})); err == nil {
		t.Error("a pod was taken for a lease")
	}
}
