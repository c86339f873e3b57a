package sample

import (
	clientv3 "go.etcd.io/etcd/client/v3"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gameday/harness/history"
)

// manifestHash is the annotation of a mirror pod with the hash of the manifest
// that the kubelet runs (k8s.io/kubernetes@v1.37.0 pkg/kubelet/types/pod_update.go,
// ConfigHashAnnotationKey); the kubelet takes it for the pod's UID.
const manifestHash = "kubernetes.io/config.hash"

// electing is how the leases of the components that elect a leader begin:
// kube-controller-manager, kube-scheduler. Those of the API servers, which share
// their namespace, do not.
const electing = "kube-"

// componentTracks follow the pods of kube-system and the leases of those that
// elect a leader. Their logs are held if there is a keeper.
func componentTracks(cli *clientv3.Client, record *history.Recorder, logs *logKeeper) []tracker {
	return []tracker{
		&track[history.Component]{
			cli: cli, record: record, source: "watch/components", prefix: "/registry/pods/" + metav1.NamespaceSystem + "/",
			decode: decodeComponent,
			event: func(c history.Component, rev int64, deleted bool) history.Event {
				c.Revision, c.Deleted = rev, deleted
				if logs != nil {
					logs.see(c)
				}
				return history.Event{Component: &c}
			},
		},
		&track[history.Lease]{
			cli: cli, record: record, source: "watch/leases", prefix: "/registry/leases/" + metav1.NamespaceSystem + "/" + electing,
			decode: decodeLease,
			event: func(l history.Lease, rev int64, deleted bool) history.Event {
				l.Revision, l.Deleted = rev, deleted
				return history.Event{Lease: &l}
			},
		},
	}
}

func decodeComponent(raw []byte) (history.Component, error) {
	var p corev1.Pod
	if err := unwrap(raw, "v1", "Pod", &p); err != nil {
		return history.Component{}, err
	}
	out := history.Component{
		Pod: p.Name, UID: string(p.UID), Node: p.Spec.NodeName, Manifest: p.Annotations[manifestHash],
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			out.Ready = c.Status == corev1.ConditionTrue
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		one := history.Container{Name: c.Name, Restarts: c.RestartCount}
		if r := c.State.Running; r != nil {
			one.ID, one.Started = c.ContainerID, utc(r.StartedAt)
		}
		if w := c.State.Waiting; w != nil {
			one.Waiting = w.Reason
		}
		ended := c.State.Terminated
		if ended == nil {
			ended = c.LastTerminationState.Terminated
		}
		if ended != nil {
			one.Ended = &history.Termination{
				ID: ended.ContainerID, Started: utc(ended.StartedAt), Finished: utc(ended.FinishedAt),
				ExitCode: ended.ExitCode, Reason: ended.Reason,
			}
		}
		out.Containers = append(out.Containers, one)
	}
	return out, nil
}

func decodeLease(raw []byte) (history.Lease, error) {
	var l coordinationv1.Lease
	if err := unwrap(raw, "coordination.k8s.io/v1", "Lease", &l); err != nil {
		return history.Lease{}, err
	}
	out := history.Lease{Name: l.Name}
	if s := l.Spec.HolderIdentity; s != nil {
		out.Holder = *s
	}
	if t := l.Spec.RenewTime; t != nil {
		out.Renewed = t.UTC()
	}
	if n := l.Spec.LeaseDurationSeconds; n != nil {
		out.Seconds = *n
	}
	if n := l.Spec.LeaseTransitions; n != nil {
		out.Transitions = *n
	}
	return out, nil
}
