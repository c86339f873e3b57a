package sample

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"gameday/harness/history"
)

// stored is an object as kube-apiserver writes it into etcd.
func stored(tb testing.TB, apiVersion, kind string, o interface{ Marshal() ([]byte, error) }) []byte {
	tb.Helper()
	raw, err := o.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}, Raw: raw}
	body, err := u.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return append([]byte("k8s\x00"), body...)
}

func at(sec int) metav1.Time {
	return metav1.NewTime(time.Date(2026, 1, 2, 3, 4, sec, 0, time.UTC))
}

func owner(kind, name string) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{Kind: kind, Name: name, UID: types.UID(name + "-uid"), Controller: &yes}}
}

func TestDecodePod(t *testing.T) {
	grace, deleting := int64(30), at(50)
	meta := func(kind, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "ns", Name: name + "-x", UID: "u", CreationTimestamp: at(1), OwnerReferences: owner(kind, name)}
	}
	terminated := func(code int32, from, to metav1.Time) *corev1.ContainerStateTerminated {
		return &corev1.ContainerStateTerminated{ExitCode: code, StartedAt: from, FinishedAt: to}
	}
	tests := []struct {
		name string
		pod  corev1.Pod
		want history.Pod
	}{
		{"pending, no room", corev1.Pod{ObjectMeta: meta("ReplicaSet", "web-00-abc"), Status: corev1.PodStatus{
			Phase:      corev1.PodPending,
			Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/5 nodes"}},
		}}, history.Pod{
			Owner: "ReplicaSet/web-00-abc", OwnerUID: "web-00-abc-uid", Name: "web-00-abc-x", Phase: "Pending",
			Created: at(1).Time, Unschedulable: "Unschedulable: 0/5 nodes",
		}},
		{"running, restarted once", corev1.Pod{ObjectMeta: meta("StatefulSet", "store-00"), Spec: corev1.PodSpec{NodeName: "w1"}, Status: corev1.PodStatus{
			Phase: corev1.PodRunning,
			Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: at(2)},
				{Type: corev1.PodReady, Status: corev1.ConditionTrue},
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, Reason: "DeletionByTaintManager"},
			},
			ContainerStatuses: []corev1.ContainerStatus{{
				ContainerID: "containerd://b", RestartCount: 1,
				State:                corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(20)}},
				LastTerminationState: corev1.ContainerState{Terminated: terminated(137, at(3), at(19))},
			}},
		}}, history.Pod{
			Owner: "StatefulSet/store-00", OwnerUID: "store-00-uid", Name: "store-00-x", Node: "w1", Phase: "Running", Ready: true,
			Created: at(1).Time, Scheduled: at(2).Time, Started: at(3).Time, Containers: []string{"containerd://b"}, Restarts: 1,
		}},
		{"being evicted", corev1.Pod{ObjectMeta: func() metav1.ObjectMeta {
			m := meta("ReplicaSet", "web-01-abc")
			m.DeletionTimestamp, m.DeletionGracePeriodSeconds = &deleting, &grace
			return m
		}(), Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI"}},
		}}, history.Pod{
			Owner: "ReplicaSet/web-01-abc", OwnerUID: "web-01-abc-uid", Name: "web-01-abc-x", Phase: "Running",
			Created: at(1).Time, Deleting: at(50).Time, Grace: 30, Disruption: "EvictionByEvictionAPI",
		}},
		{"evicted by the kubelet, kept by a finalizer", corev1.Pod{ObjectMeta: func() metav1.ObjectMeta {
			m := meta("Job", "long-00-3")
			m.Finalizers = []string{batchv1.JobTrackingFinalizer}
			return m
		}(), Status: corev1.PodStatus{
			Phase: corev1.PodFailed, Reason: "Evicted",
			Conditions: []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "TerminationByKubelet"}},
		}}, history.Pod{
			Owner: "Job/long-00-3", OwnerUID: "long-00-3-uid", Name: "long-00-3-x", Phase: "Failed", Created: at(1).Time,
			Disruption: "TerminationByKubelet", Reason: "Evicted", Finalizers: []string{"batch.kubernetes.io/job-tracking"},
		}},
		{"waiting for more than its making", corev1.Pod{ObjectMeta: meta("Job", "long-00-4"), Status: corev1.PodStatus{
			Phase: corev1.PodPending,
			ContainerStatuses: []corev1.ContainerStatus{
				{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}},
				{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}},
			},
		}}, history.Pod{Owner: "Job/long-00-4", OwnerUID: "long-00-4-uid", Name: "long-00-4-x", Phase: "Pending", Created: at(1).Time, Waiting: "ImagePullBackOff"}},
		{"failed job pod of two containers", corev1.Pod{ObjectMeta: meta("Job", "long-00-1"), Status: corev1.PodStatus{
			Phase: corev1.PodFailed,
			ContainerStatuses: []corev1.ContainerStatus{
				{State: corev1.ContainerState{Terminated: terminated(0, at(6), at(9))}},
				{State: corev1.ContainerState{Terminated: terminated(3, at(5), at(12))}},
			},
		}}, history.Pod{
			Owner: "Job/long-00-1", OwnerUID: "long-00-1-uid", Name: "long-00-1-x", Phase: "Failed",
			Created: at(1).Time, Started: at(5).Time, Finished: at(12).Time, ExitCode: 3,
		}},
		{"one container of two ended", corev1.Pod{ObjectMeta: meta("Job", "long-00-2"), Status: corev1.PodStatus{
			Phase: corev1.PodRunning,
			ContainerStatuses: []corev1.ContainerStatus{
				{State: corev1.ContainerState{Terminated: terminated(0, at(6), at(9))}},
				{ContainerID: "c2", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(7)}}},
			},
		}}, history.Pod{
			Owner: "Job/long-00-2", OwnerUID: "long-00-2-uid", Name: "long-00-2-x", Phase: "Running",
			Created: at(1).Time, Started: at(6).Time, Containers: []string{"c2"},
		}},
	}
	for _, tt := range tests {
		tt.want.Namespace, tt.want.UID = "ns", "u"
		got, err := decodePod(stored(t, "v1", "Pod", &tt.pod))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

func TestDecodeJob(t *testing.T) {
	done, started := at(40), at(2)
	job := batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "cron-00-29", UID: "j", CreationTimestamp: at(1), OwnerReferences: owner("CronJob", "cron-00"),
			Annotations: map[string]string{batchv1.CronJobScheduledTimestampAnnotation: "2026-01-02T04:04:00+01:00"},
		},
		Status: batchv1.JobStatus{StartTime: &started, CompletionTime: &done, Succeeded: 1, Conditions: []batchv1.JobCondition{
			{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue},
			{Type: batchv1.JobComplete, Status: corev1.ConditionTrue},
		}},
	}
	want := history.Job{
		Namespace: "ns", Name: "cron-00-29", UID: "j", CronJob: "cron-00", CronJobUID: "cron-00-uid", Slot: at(0).Time,
		Created: at(1).Time, Started: at(2).Time, Finished: at(40).Time, Succeeded: 1, Condition: "Complete",
	}
	got, err := decodeJob(stored(t, "batch/v1", "Job", &job))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("complete (-want +got):\n%s", d)
	}

	job.Status = batchv1.JobStatus{Failed: 4, Conditions: []batchv1.JobCondition{
		{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, LastTransitionTime: at(30)},
	}}
	job.OwnerReferences, job.Annotations = nil, nil // as kubectl create job makes it
	got, err = decodeJob(stored(t, "batch/v1", "Job", &job))
	if err != nil {
		t.Fatal(err)
	}
	want = history.Job{
		Namespace: "ns", Name: "cron-00-29", UID: "j", Created: at(1).Time,
		Finished: at(30).Time, Failed: 4, Condition: "Failed",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("failed (-want +got):\n%s", d)
	}

	job.Annotations = map[string]string{batchv1.CronJobScheduledTimestampAnnotation: "noon"}
	if _, err := decodeJob(stored(t, "batch/v1", "Job", &job)); err == nil {
		t.Error("a slot that cannot be read was taken for none")
	}
}

func TestDecodeCronJobAndNode(t *testing.T) {
	zone, suspend, deadline := "Etc/UTC", true, int64(20)
	cj, err := decodeCronJob(stored(t, "batch/v1", "CronJob", &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cron-00", UID: "c", CreationTimestamp: at(1)},
		Spec: batchv1.CronJobSpec{
			Schedule: "* * * * *", TimeZone: &zone, Suspend: &suspend, StartingDeadlineSeconds: &deadline, ConcurrencyPolicy: batchv1.ForbidConcurrent,
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(history.CronJob{
		Namespace: "ns", Name: "cron-00", UID: "c", Schedule: "* * * * *", TimeZone: zone, Policy: "Forbid",
		Deadline: 20, Suspended: true, Created: at(1).Time,
	}, cj); d != "" {
		t.Errorf("cronjob (-want +got):\n%s", d)
	}

	n, err := decodeNode(stored(t, "v1", "Node", &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "w1", Labels: map[string]string{
			corev1.LabelTopologyRegion: "r", corev1.LabelTopologyZone: "a", corev1.LabelFailureDomainBetaZone: "b", labelExcluded: "",
		}},
		Spec: corev1.NodeSpec{Unschedulable: true, Taints: []corev1.Taint{{Key: "node.kubernetes.io/unreachable", Effect: corev1.TaintEffectNoExecute}}},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse}, {Type: corev1.NodeReady, Status: corev1.ConditionUnknown}},
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.36.1"},
		},
	}), func(name string) string { return map[string]string{"w1": "worker[0]"}[name] })
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(history.Node{
		Name: "w1", Place: "worker[0]", Ready: "Unknown", Unschedulable: true, Version: "v1.36.1",
		Taints: []string{"node.kubernetes.io/unreachable:NoExecute"}, Zone: "r/b", Excluded: true,
	}, n); d != "" {
		t.Errorf("node (-want +got):\n%s", d)
	}
}

func TestDecodeTolerations(t *testing.T) {
	ten := int64(10)
	p, err := decodePod(stored(t, "v1", "Pod", &corev1.Pod{Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{
		{Key: "a", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: "b", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &ten},
		{Key: "c", Value: "v"},
	}}}))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]history.Toleration{{Key: "b", Operator: "Exists", Effect: "NoExecute", Seconds: &ten}, {Key: "c", Value: "v"}}, p.Tolerations); d != "" {
		t.Errorf("tolerations (-want +got):\n%s", d)
	}
}

func TestDecodeRefuses(t *testing.T) {
	if _, err := decodePod([]byte(`{"kind":"Pod"}`)); !errors.Is(err, errNotProtobuf) {
		t.Errorf("JSON: %v", err)
	}
	if _, err := decodePod(stored(t, "v1", "Node", &corev1.Node{})); err == nil {
		t.Error("a node was taken for a pod")
	}
	whole := stored(t, "v1", "Pod", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a-long-enough-name"}})
	if _, err := decodePod(whole[:len(whole)-5]); err == nil {
		t.Error("a torn object was taken")
	}
}
