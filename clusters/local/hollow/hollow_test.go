package hollow

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gameday/clusters"
)

func TestStep(t *testing.T) {
	now := time.Now()
	pod := func(change ...func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}, Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{Name: "c"}},
		}}
		for _, c := range change {
			c(p)
		}
		return p
	}
	since := func(d time.Duration) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status = running(p, "10.128.0.1", "10.0.0.2")
			p.Status.StartTime = &metav1.Time{Time: now.Add(-d)}
		}
	}
	once := func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }
	long := func(p *corev1.Pod) { p.Annotations[clusters.AnnotationRunFor] = "20s" }
	deleting := func(grace int64) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: now}, &grace
		}
	}
	marked := func(p *corev1.Pod) { p.Status.Conditions = conditions(corev1.ConditionFalse, "NodeNotReady") }
	for _, c := range []struct {
		name string
		pod  *corev1.Pod
		want doing
		in   time.Duration
	}{
		{"new", pod(), run, 0},
		{"runs for ever", pod(since(time.Hour)), nothing, 0},
		{"marked not ready by the node controller", pod(since(time.Hour), marked), run, 0},
		{"a Job's, just begun", pod(once, since(200*time.Millisecond)), nothing, 800 * time.Millisecond},
		{"a Job's, over", pod(once, since(2*time.Second)), succeed, 0},
		{"a Job's that says how long", pod(once, long, since(5*time.Second)), nothing, 15 * time.Second},
		{"a Job's that said how long", pod(once, long, since(20*time.Second)), succeed, 0},
		{"ended", pod(once, func(p *corev1.Pod) { p.Status = ended(p, corev1.PodSucceeded, 0) }), nothing, 0},
		{"deleted", pod(since(time.Hour), deleting(30)), end, 0},
		{"deleted before it ran", pod(deleting(30)), end, 0},
		{"held by a finalizer only", pod(since(time.Hour), deleting(0)), nothing, 0},
	} {
		if got, in := step(c.pod, now); got != c.want || in != c.in {
			t.Errorf("%s: got %v in %v, want %v in %v", c.name, got, in, c.want, c.in)
		}
	}
}
