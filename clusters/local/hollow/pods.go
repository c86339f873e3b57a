package hollow

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"gameday/clusters"
)

// runsFor is how long a container runs that ends by itself, if its pod does not say.
const runsFor = time.Second

// look queues a pod of one of our nodes.
func (k *Kubelets) look(p *corev1.Pod) {
	if k.nodes[p.Spec.NodeName] == nil {
		return
	}
	k.queue.Add(cache.MetaObjectToName(p).String())
}

// work takes pods from the queue.
func (k *Kubelets) work(ctx context.Context) {
	for {
		key, over := k.queue.Get()
		if over {
			return
		}
		again, err := k.pod(key)
		switch {
		case err != nil && ctx.Err() == nil:
			k.cfg.Log.Printf("pod %s: %v", key, err)
			k.queue.AddRateLimited(key)
		case again > 0:
			k.queue.Forget(key)
			k.queue.AddAfter(key, again)
		default:
			k.queue.Forget(key)
		}
		k.queue.Done(key)
	}
}

// pod brings one pod on by a step, and says when to look at it again.
func (k *Kubelets) pod(key string) (again time.Duration, err error) {
	o, ok, err := k.pods.GetStore().GetByKey(key)
	if err != nil || !ok {
		return 0, err
	}
	p := o.(*corev1.Pod)
	n := k.nodes[p.Spec.NodeName]
	next, after := step(p, time.Now())
	if next == nothing {
		return after, nil
	}
	return 0, n.doing(func(ctx context.Context) error {
		var err error
		switch next {
		case run:
			err = n.patch(ctx, p, running(p, k.address(p), n.node.IP))
		case succeed:
			err = n.patch(ctx, p, ended(p, corev1.PodSucceeded, 0))
		case end:
			if !terminal(p) {
				err = n.patch(ctx, p, ended(p, corev1.PodFailed, 128+15)) // SIGTERM
			}
			if err == nil {
				err = n.remove(ctx, p)
			}
		}
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // somebody removed it; what took its place is another pod
		}
		return err
	})
}

// doing is what a kubelet does next with a pod.
type doing int

const (
	nothing doing = iota
	run
	succeed
	end
)

// step is what is to be done with a pod as it is, or when to look at it again.
func step(p *corev1.Pod, now time.Time) (doing, time.Duration) {
	switch {
	case p.DeletionTimestamp != nil:
		// With no grace left it was removed here, or by force; what holds it are
		// finalizers.
		if g := p.DeletionGracePeriodSeconds; g != nil && *g == 0 {
			return nothing, 0
		}
		return end, 0
	case terminal(p):
		return nothing, 0
	case p.Status.Phase != corev1.PodRunning, !ready(p):
		return run, 0
	case p.Spec.RestartPolicy == corev1.RestartPolicyAlways:
		return nothing, 0
	}
	long := runsFor
	if d, err := time.ParseDuration(p.Annotations[clusters.AnnotationRunFor]); err == nil {
		long = d
	}
	if left := p.Status.StartTime.Add(long).Sub(now); left > 0 {
		return nothing, left
	}
	return succeed, 0
}

func terminal(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// address is the one that a pod has, or gets.
func (k *Kubelets) address(p *corev1.Pod) string {
	if p.Status.PodIP != "" {
		return p.Status.PodIP
	}
	first, n := k.cfg.PodNet, k.given.Add(1)
	return netip.AddrFrom4([4]byte{first[0], first[1] + byte(n>>16), first[2] + byte(n>>8), first[3] + byte(n)}).String()
}

// patch writes a status.
func (n *kubelet) patch(ctx context.Context, p *corev1.Pod, s corev1.PodStatus) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID}, "status": s})
	if err != nil {
		return err
	}
	_, err = n.client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	return err
}

// remove takes the object away, as the kubelet does when the containers have ended.
func (n *kubelet) remove(ctx context.Context, p *corev1.Pod) error {
	now := int64(0)
	return n.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &p.UID},
	})
}

// conditions are those that a kubelet keeps, all with one status.
func conditions(status corev1.ConditionStatus, reason string) []corev1.PodCondition {
	now := metav1.Now()
	out := []corev1.PodCondition{
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: now},
		{Type: corev1.ContainersReady, Status: status, Reason: reason, LastTransitionTime: now},
		{Type: corev1.PodReady, Status: status, Reason: reason, LastTransitionTime: now},
	}
	return out
}

// running is the status of a pod whose containers run.
func running(p *corev1.Pod, ip, host string) corev1.PodStatus {
	since := metav1.Now()
	if p.Status.StartTime != nil {
		since = *p.Status.StartTime
	}
	if p.Spec.HostNetwork {
		ip = host
	}
	s := corev1.PodStatus{
		Phase: corev1.PodRunning, Conditions: conditions(corev1.ConditionTrue, ""), StartTime: &since,
		HostIP: host, HostIPs: []corev1.HostIP{{IP: host}}, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
	}
	started := true
	for _, c := range p.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: c.Image, ContainerID: clusters.HollowContainer + string(p.UID) + "/" + c.Name, Ready: true, Started: &started,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: since}},
		})
	}
	return s
}

// ended is the status of a pod whose containers have ended with a code.
func ended(p *corev1.Pod, phase corev1.PodPhase, code int32) corev1.PodStatus {
	s := corev1.PodStatus{Phase: phase, Conditions: conditions(corev1.ConditionFalse, "PodCompleted")}
	reason := "Completed"
	if code != 0 {
		reason = "Error"
		s.Conditions = conditions(corev1.ConditionFalse, "PodFailed")
	}
	since, now, started := metav1.Now(), metav1.Now(), false
	if p.Status.StartTime != nil {
		since = *p.Status.StartTime
	}
	for _, c := range p.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: c.Image, ContainerID: clusters.HollowContainer + string(p.UID) + "/" + c.Name, Started: &started,
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: code, Reason: reason, StartedAt: since, FinishedAt: now, ContainerID: clusters.HollowContainer + string(p.UID) + "/" + c.Name,
			}},
		})
	}
	return s
}
