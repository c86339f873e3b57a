package sample

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"gameday/harness/history"
)

// protobufPrefix begins a built-in object in etcd: k8s.io/apimachinery@v0.37.0
// pkg/runtime/serializer/protobuf/protobuf.go. kube-apiserver stores them so
// unless it is told otherwise (--storage-media-type).
var protobufPrefix = []byte("k8s\x00")

var errNotProtobuf = errors.New("not stored as Kubernetes protobuf (encryption at rest or another --storage-media-type?)")

// unwrap takes a stored object out of its envelope and checks its kind.
func unwrap(raw []byte, apiVersion, kind string, into interface{ Unmarshal([]byte) error }) error {
	body, ok := bytes.CutPrefix(raw, protobufPrefix)
	if !ok {
		return errNotProtobuf
	}
	var u runtime.Unknown
	if err := u.Unmarshal(body); err != nil {
		return fmt.Errorf("envelope: %w", err)
	}
	if u.APIVersion != apiVersion || u.Kind != kind {
		return fmt.Errorf("stored as %s %s, not as %s %s", u.APIVersion, u.Kind, apiVersion, kind)
	}
	if err := into.Unmarshal(u.Raw); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}

func decodePod(raw []byte) (history.Pod, error) {
	var p corev1.Pod
	if err := unwrap(raw, "v1", "Pod", &p); err != nil {
		return history.Pod{}, err
	}
	return podState(&p), nil
}

// podState is what the record holds of a pod. Revision and Deleted are the
// caller's.
func podState(p *corev1.Pod) history.Pod {
	out := history.Pod{
		Namespace: p.Namespace, Name: p.Name, UID: string(p.UID),
		Node: p.Spec.NodeName, Phase: string(p.Status.Phase), Created: utc(p.CreationTimestamp),
		Reason: p.Status.Reason, Finalizers: p.Finalizers,
	}
	for _, t := range p.Spec.Tolerations {
		if t.Effect == "" || t.Effect == corev1.TaintEffectNoExecute {
			out.Tolerations = append(out.Tolerations, history.Toleration{
				Key: t.Key, Operator: string(t.Operator), Value: t.Value, Effect: string(t.Effect), Seconds: t.TolerationSeconds,
			})
		}
	}
	if o := metav1.GetControllerOf(p); o != nil {
		out.Owner, out.OwnerUID = o.Kind+"/"+o.Name, string(o.UID)
	}
	if p.DeletionTimestamp != nil {
		out.Deleting = utc(*p.DeletionTimestamp)
	}
	if p.DeletionGracePeriodSeconds != nil {
		out.Grace = *p.DeletionGracePeriodSeconds
	}
	for _, c := range p.Status.Conditions {
		yes := c.Status == corev1.ConditionTrue
		switch c.Type {
		case corev1.PodReady:
			out.Ready = yes
		case corev1.PodScheduled:
			if yes {
				out.Scheduled = utc(c.LastTransitionTime)
			} else if out.Phase == string(corev1.PodPending) {
				out.Unschedulable = c.Reason + ": " + c.Message
			}
		case corev1.DisruptionTarget:
			if yes {
				out.Disruption = c.Reason
			}
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		out.Restarts += c.RestartCount
		if w := c.State.Waiting; w != nil && out.Waiting == "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
			out.Waiting = w.Reason
		}
		if c.State.Running != nil {
			out.Containers = append(out.Containers, c.ContainerID)
			out.Started = earliest(out.Started, c.State.Running.StartedAt)
		}
		for _, t := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
			if t != nil {
				out.Started = earliest(out.Started, t.StartedAt)
			}
		}
		if t := c.State.Terminated; t != nil {
			if out.ExitCode == 0 {
				out.ExitCode = t.ExitCode
			}
			if end := utc(t.FinishedAt); end.After(out.Finished) {
				out.Finished = end
			}
		}
	}
	if len(out.Containers) > 0 {
		out.Finished = time.Time{} // of the last container
	}
	return out
}

func decodeJob(raw []byte) (history.Job, error) {
	var j batchv1.Job
	if err := unwrap(raw, "batch/v1", "Job", &j); err != nil {
		return history.Job{}, err
	}
	return jobState(&j)
}

func jobState(j *batchv1.Job) (history.Job, error) {
	out := history.Job{
		Namespace: j.Namespace, Name: j.Name, UID: string(j.UID), Created: utc(j.CreationTimestamp),
		Succeeded: j.Status.Succeeded, Failed: j.Status.Failed,
	}
	if o := metav1.GetControllerOf(j); o != nil && o.Kind == "CronJob" {
		out.CronJob, out.CronJobUID = o.Name, string(o.UID)
	}
	if slot := j.Annotations[batchv1.CronJobScheduledTimestampAnnotation]; slot != "" {
		at, err := time.Parse(time.RFC3339, slot)
		if err != nil {
			return out, fmt.Errorf("annotation %s: %w", batchv1.CronJobScheduledTimestampAnnotation, err)
		}
		out.Slot = at.UTC()
	}
	if j.Status.StartTime != nil {
		out.Started = utc(*j.Status.StartTime)
	}
	if j.Status.CompletionTime != nil {
		out.Finished = utc(*j.Status.CompletionTime)
	}
	for _, c := range j.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete, batchv1.JobFailed, batchv1.JobSuspended:
			out.Condition = string(c.Type)
			if c.Type == batchv1.JobFailed {
				out.Finished = utc(c.LastTransitionTime) // it has no completionTime
			}
		}
	}
	return out, nil
}

func decodeCronJob(raw []byte) (history.CronJob, error) {
	var c batchv1.CronJob
	if err := unwrap(raw, "batch/v1", "CronJob", &c); err != nil {
		return history.CronJob{}, err
	}
	out := history.CronJob{
		Namespace: c.Namespace, Name: c.Name, UID: string(c.UID), Schedule: c.Spec.Schedule,
		Policy: string(c.Spec.ConcurrencyPolicy), Created: utc(c.CreationTimestamp),
	}
	if c.Spec.TimeZone != nil {
		out.TimeZone = *c.Spec.TimeZone
	}
	if c.Spec.StartingDeadlineSeconds != nil {
		out.Deadline = *c.Spec.StartingDeadlineSeconds
	}
	if c.Spec.Suspend != nil {
		out.Suspended = *c.Spec.Suspend
	}
	return out, nil
}

func decodeEndpoints(raw []byte) (history.Endpoints, error) {
	var s discoveryv1.EndpointSlice
	if err := unwrap(raw, "discovery.k8s.io/v1", "EndpointSlice", &s); err != nil {
		return history.Endpoints{}, err
	}
	out := history.Endpoints{Namespace: s.Namespace, Slice: s.Name, Service: s.Labels[discoveryv1.LabelServiceName]}
	for _, e := range s.Endpoints {
		if e.NodeName == nil {
			continue
		}
		if r := e.Conditions.Ready; r == nil || *r { // nil means ready
			out.Ready = append(out.Ready, *e.NodeName)
		} else {
			out.Other = append(out.Other, *e.NodeName)
		}
	}
	slices.Sort(out.Ready)
	slices.Sort(out.Other)
	return out, nil
}

func decodeNode(raw []byte, place func(name string) string) (history.Node, error) {
	var n corev1.Node
	if err := unwrap(raw, "v1", "Node", &n); err != nil {
		return history.Node{}, err
	}
	out := history.Node{
		Name: n.Name, Place: place(n.Name), Ready: string(corev1.ConditionUnknown),
		Unschedulable: n.Spec.Unschedulable, Version: n.Status.NodeInfo.KubeletVersion,
		Zone: zoneOf(n.Labels),
	}
	_, out.Excluded = n.Labels[labelExcluded]
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Ready = string(c.Status)
		}
	}
	for _, t := range n.Spec.Taints {
		out.Taints = append(out.Taints, strings.TrimSuffix(t.ToString(), ":"))
	}
	return out, nil
}

// labelExcluded keeps a node out of the node controller's statistics
// (k8s.io/kubernetes@v1.37.0 pkg/controller/nodelifecycle/node_lifecycle_controller.go).
const labelExcluded = "node.kubernetes.io/exclude-disruption"

// zoneOf is the zone by a node's labels, the old ones first, as the node
// controller takes it (k8s.io/component-helpers@v0.37.0 node/topology/helpers.go).
func zoneOf(labels map[string]string) string {
	zone := cmp.Or(labels[corev1.LabelFailureDomainBetaZone], labels[corev1.LabelTopologyZone])
	if region := cmp.Or(labels[corev1.LabelFailureDomainBetaRegion], labels[corev1.LabelTopologyRegion]); region != "" {
		return region + "/" + zone
	}
	return zone
}

// utc is a time of the API, in one zone so that equal times are equal values.
func utc(t metav1.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// earliest of two times; the zero time is none.
func earliest(a time.Time, b metav1.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b.Time) {
		return a
	}
	return b.UTC()
}
