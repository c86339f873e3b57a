package sample

import (
	"fmt"
	goruntime "runtime"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gameday/harness/history"
)

// BenchmarkFollow follows 10,000 pods that stay while 1,000 CronJobs start a Job
// each minute: go test -run xxx -bench Follow -benchtime 10x ./harness/sample. One
// round is one minute of that; heap-MB is what is held after all of them,
// cpu-ms/minute what a minute of it costs.
func BenchmarkFollow(b *testing.B) {
	record, err := history.Create(b.TempDir()+"/history.jsonl", history.Run{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer record.Close()
	pods := &track[history.Pod]{record: record, source: "watch/pods", decode: decodePod, have: map[string]entry[history.Pod]{},
		event: func(p history.Pod, rev int64, deleted bool) history.Event {
			p.Revision, p.Deleted = rev, deleted
			return history.Event{Pod: &p}
		}}
	jobs := &track[history.Job]{record: record, source: "watch/jobs", decode: decodeJob, have: map[string]entry[history.Job]{},
		event: func(j history.Job, rev int64, deleted bool) history.Event {
			j.Revision, j.Deleted = rev, deleted
			return history.Event{Job: &j}
		}}
	revision := int64(0)
	kv := func(key, apiVersion, kind string, o interface{ Marshal() ([]byte, error) }) *mvccpb.KeyValue {
		revision++
		return &mvccpb.KeyValue{Key: []byte(key), Value: stored(b, apiVersion, kind, o), ModRevision: revision}
	}
	life := func(name, of string, states ...corev1.PodPhase) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), CreationTimestamp: at(1), OwnerReferences: owner("ReplicaSet", of)}}
		for _, s := range states {
			p.Status.Phase = s
			if s == corev1.PodRunning {
				p.Spec.NodeName = "n3"
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "agent", ContainerID: "containerd://" + name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(2)}}}}
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: at(1)}, {Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			}
			pods.put(kv("/registry/pods/ns/"+name, "v1", "Pod", p))
		}
	}
	for i := range 10_000 {
		life(fmt.Sprintf("web-%02d-5b5b5b-%d", i/1000, i), "web", corev1.PodPending, corev1.PodRunning)
	}
	minute := 0
	before := SelfUsage()
	b.ResetTimer()
	for b.Loop() {
		minute++
		for i := range 1000 {
			name := fmt.Sprintf("cron-%03d-%d", i, minute)
			j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), CreationTimestamp: at(1), OwnerReferences: owner("CronJob", "cron"),
				Annotations: map[string]string{batchv1.CronJobScheduledTimestampAnnotation: time.Unix(int64(minute)*60, 0).UTC().Format(time.RFC3339)}}}
			jobs.put(kv("/registry/jobs/ns/"+name, "batch/v1", "Job", j))
			life(name+"-x", name, corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded)
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
			jobs.put(kv("/registry/jobs/ns/"+name, "batch/v1", "Job", j))
			if minute > 3 { // the CronJob keeps three of them
				old := fmt.Sprintf("cron-%03d-%d", i, minute-3)
				jobs.remove("/registry/jobs/ns/"+old, revision)
				pods.remove("/registry/pods/ns/"+old+"-x", revision)
			}
		}
	}
	b.StopTimer()
	used := SelfUsage().CPU - before.CPU
	goruntime.GC()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	goruntime.KeepAlive(pods)
	goruntime.KeepAlive(jobs)
	b.ReportMetric(float64(m.HeapAlloc)/1e6, "heap-MB")
	b.ReportMetric(float64(m.Sys)/1e6, "sys-MB")
	b.ReportMetric(float64(used.Milliseconds())/float64(minute), "cpu-ms/minute")
	if err := record.Err(); err != nil {
		b.Fatal(err)
	}
}
