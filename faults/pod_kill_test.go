package faults

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gameday/faults/mechanism/process"
)

func TestPodParameters(t *testing.T) {
	for _, tc := range []struct {
		f  Validator
		ok bool
	}{
		{&PodKill{Selector: "app=x", Count: 2}, true},
		{&PodKill{Selector: "gameday.run"}, true},
		{&PodKill{Selector: "", Count: 1}, false},
		{&PodKill{Selector: "a in (", Count: 1}, false},
		{&PodKill{Selector: "app=x", Count: -1}, false},
		{&PodEvict{Selector: "app=x", Count: -1}, false},
		{&PodEvict{Selector: "app=x"}, true},
		{&PDBBlock{Selector: " "}, false},
		{&PDBBlock{Selector: "app=x"}, true},
	} {
		if errs := tc.f.Validate(); (len(errs) == 0) != tc.ok {
			t.Errorf("%+v: %v", tc.f, errs)
		}
	}
}

// endedProcess names a process that has ended.
func endedProcess(t *testing.T) process.Ref {
	t.Helper()
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ref, err := process.Of(c.Process.Pid)
	if err := errors.Join(err, c.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
	return ref
}

func podWith(ready bool, phase corev1.PodPhase, s ...corev1.ContainerStatus) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u"}}
	p.Status.Phase, p.Status.ContainerStatuses = phase, s
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return p
}

func TestKilledPodIsJudged(t *testing.T) {
	running := func(id string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: "c", ContainerID: "containerd://" + id, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	}
	died := func(id string) *corev1.ContainerStateTerminated {
		return &corev1.ContainerStateTerminated{ContainerID: "containerd://" + id, ExitCode: 137}
	}
	waiting := corev1.ContainerStatus{Name: "c", ContainerID: "containerd://a", State: corev1.ContainerState{Terminated: died("a")}}
	again := running("b")
	again.LastTerminationState.Terminated, again.RestartCount = died("a"), 1
	dead := endedProcess(t)
	alive, err := process.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		ref           process.Ref
		p             *corev1.Pod
		broken, whole bool
	}{
		"not seen by the kubelet yet": {dead, podWith(true, corev1.PodRunning, running("a")), false, false},
		"it lives":                    {alive, podWith(true, corev1.PodRunning, running("a")), false, false},
		"dead":                        {dead, podWith(false, corev1.PodRunning, waiting), true, false},
		"started, not ready":          {dead, podWith(false, corev1.PodRunning, again), true, false},
		"ready again":                 {dead, podWith(true, corev1.PodRunning, again), true, true},
		"twice since":                 {dead, podWith(true, corev1.PodRunning, running("c")), true, true},
		"a Job's":                     {dead, podWith(false, corev1.PodFailed, waiting), true, true},
	} {
		k := killedPod{Namespace: "n", Name: "p", UID: "u", Containers: []string{"a"}, Processes: []process.Ref{tc.ref}}
		s, err := k.judge(tc.p)
		if err != nil || s.broken != tc.broken || s.whole != tc.whole {
			t.Errorf("%s: got %+v, %v", name, s, err)
		}
	}
}

func TestUntouchedPodIsOlderThanTheKill(t *testing.T) {
	at := time.Now()
	since := func(d time.Duration, uid types.UID) corev1.Pod {
		p := podWith(true, corev1.PodRunning, corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at.Add(d))}}})
		p.UID = uid
		return *p
	}
	env := Env{Cluster: (&world{t: t}).cluster()}
	notes := killedPods{At: at, Pods: map[string][]killedPod{"cp0": {{UID: "victim"}}}}
	for name, tc := range map[string]struct {
		p    corev1.Pod
		want bool
	}{
		"old": {since(-time.Minute, "x"), true}, "restarted too": {since(time.Second, "x"), false}, "victim": {since(-time.Minute, "victim"), false},
	} {
		if got := untouched(env, []corev1.Pod{tc.p}, notes); (got != "") != tc.want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestBudgetIsToldFromOverload(t *testing.T) {
	budget := apierrors.NewTooManyRequests("no", 10)
	budget.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause, Message: "needs 2"}}
	if why, refused := refusedByBudget(budget); !refused || why != "needs 2" {
		t.Errorf("got %q, %v", why, refused)
	}
	for _, err := range []error{nil, errors.New("x"), apierrors.NewTooManyRequests("overload", 1)} {
		if _, refused := refusedByBudget(err); refused {
			t.Errorf("%v counts as refused", err)
		}
	}
}

func TestReadyOfAController(t *testing.T) {
	yes := true
	of := func(owner types.UID, ready bool, phase corev1.PodPhase) corev1.Pod {
		p := podWith(ready, phase)
		p.OwnerReferences = []metav1.OwnerReference{{UID: owner, Controller: &yes}}
		return *p
	}
	leaving := of("o", true, corev1.PodRunning)
	leaving.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	pods := []corev1.Pod{of("o", true, corev1.PodRunning), of("o", false, corev1.PodPending), of("o", false, corev1.PodFailed), of("other", true, corev1.PodRunning), leaving, *podWith(true, corev1.PodRunning)}
	if ready, all := readyOf(pods, "o"); ready != 1 || all != 2 {
		t.Errorf("got %d of %d", ready, all)
	}
}
