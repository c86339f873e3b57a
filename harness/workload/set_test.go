package workload

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"

	"gameday/scenarios"
)

var spec = scenarios.Workload{
	CronJobs:     &scenarios.CronJobs{Count: 2, Schedule: "* * * * *", Duration: 2 * time.Second, Policy: "Forbid", TimeZone: "Europe/Berlin", StartingDeadline: 20 * time.Second},
	Deployments:  &scenarios.Deployments{Count: 11, Replicas: 3, MinAvailable: 2},
	StatefulSets: &scenarios.Stateful{Count: 1, Replicas: 2, MinAvailable: 1},
	Jobs:         &scenarios.Jobs{Parallel: 2, Duration: 3 * time.Minute},
}

func newSet(t *testing.T, w scenarios.Workload) (*Set, *fake.Clientset) {
	t.Helper()
	cli := fake.NewClientset()
	return &Set{
		Namespace: "gameday-r1", client: cli, spec: w, stop: func() {}, every: 20 * time.Millisecond,
		say:   func(string, ...any) {},
		build: builder{run: "r1", namespace: "gameday-r1", image: "gameday.local/workload:x"},
	}, cli
}

func TestCreate(t *testing.T) {
	s, cli := newSet(t, spec)
	dropped := false
	cli.PrependReactor("create", "statefulsets", func(kubetesting.Action) (bool, runtime.Object, error) {
		if dropped {
			return false, nil, nil
		}
		dropped = true
		return true, nil, errors.New("unexpected EOF")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := until(ctx, "make", s.create); err != nil {
		t.Fatal(err)
	}
	pods := map[string]corev1.PodTemplateSpec{}
	deployments, _ := cli.AppsV1().Deployments(s.Namespace).List(ctx, metav1.ListOptions{})
	for _, d := range deployments.Items {
		pods[d.Name] = d.Spec.Template
	}
	sets, _ := cli.AppsV1().StatefulSets(s.Namespace).List(ctx, metav1.ListOptions{})
	for _, d := range sets.Items {
		pods[d.Name] = d.Spec.Template
	}
	crons, _ := cli.BatchV1().CronJobs(s.Namespace).List(ctx, metav1.ListOptions{})
	for _, c := range crons.Items {
		pods[c.Name] = c.Spec.JobTemplate.Spec.Template
		if c.Spec.Schedule != "* * * * *" || *c.Spec.TimeZone != "Europe/Berlin" || *c.Spec.StartingDeadlineSeconds != 20 || c.Spec.ConcurrencyPolicy != batchv1.ForbidConcurrent {
			t.Errorf("cronjob %+v", c.Spec)
		}
		if j := c.Spec.JobTemplate.Spec; j.TTLSecondsAfterFinished != nil || *j.BackoffLimit != backoffLimit {
			t.Errorf("job of %s: %+v", c.Name, j)
		}
	}
	pods["long-00"] = s.build.longJob(0, 1, *spec.Jobs).Spec.Template
	if len(deployments.Items) != 11 || len(sets.Items) != 1 || len(crons.Items) != 2 {
		t.Fatalf("%d deployments, %d statefulsets, %d cronjobs", len(deployments.Items), len(sets.Items), len(crons.Items))
	}
	budgets, _ := cli.PolicyV1().PodDisruptionBudgets(s.Namespace).List(ctx, metav1.ListOptions{})
	if len(budgets.Items) != 13 {
		t.Errorf("%d budgets", len(budgets.Items))
	}
	for name, p := range pods {
		// Eviction answers 500 for a pod with two budgets.
		var covered []string
		for _, b := range budgets.Items {
			sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if err != nil {
				t.Fatal(err)
			}
			if sel.Matches(labels.Set(p.Labels)) {
				covered = append(covered, b.Name)
			}
		}
		want := name
		if strings.HasPrefix(name, "cron") || strings.HasPrefix(name, "long") {
			want = "jobs"
			if p.Spec.RestartPolicy != corev1.RestartPolicyNever {
				t.Errorf("%s restarts its containers", name)
			}
		}
		if len(covered) != 1 || covered[0] != want {
			t.Errorf("%s is covered by budgets %q", name, covered)
		}
		if len(p.Spec.Tolerations) > 0 || p.Labels["gameday.run"] != "r1" || p.Spec.Containers[0].ImagePullPolicy != corev1.PullNever {
			t.Errorf("%s: %+v", name, p)
		}
	}

	// A checker finds a budget's pods by the beginning of their owner's name.
	all := s.Budgets()
	if len(all) != 12 {
		t.Errorf("%d budgets promised", len(all))
	}
	for i, a := range all {
		for j, b := range all {
			if i != j && strings.HasPrefix(a.Owner, b.Owner) {
				t.Errorf("%s begins with %s", a.Owner, b.Owner)
			}
		}
	}
	if all[0].Owner != "ReplicaSet/web-00" || all[0].Desired != 3 || all[0].MinAvailable != 2 || all[11].Owner != "StatefulSet/store-00" {
		t.Errorf("budgets %+v", all)
	}
	if why := s.Unready(ctx); !strings.Contains(why, "deployment web-00 has 0 of 3 ready") || !strings.Contains(why, "no job of long-01 runs") {
		t.Errorf("unready: %s", why)
	}
}

// What has vanished is not ready.
func TestUnreadyTellsWhatHasVanished(t *testing.T) {
	s, cli := newSet(t, spec)
	ctx := t.Context()
	if why := s.Unready(ctx); strings.Count(why, " is not there") != len(s.made()) {
		t.Errorf("nothing was made: %s", why)
	}
	if err := s.create(ctx); err != nil {
		t.Fatal(err)
	}
	if why := s.Unready(ctx); strings.Contains(why, "is not there") {
		t.Errorf("all was made: %s", why)
	}
	gone := metav1.DeleteOptions{}
	for name, err := range map[string]error{
		"deployment web-10":    cli.AppsV1().Deployments(s.Namespace).Delete(ctx, "web-10", gone),
		"statefulset store-00": cli.AppsV1().StatefulSets(s.Namespace).Delete(ctx, "store-00", gone),
		"cronjob cron-01":      cli.BatchV1().CronJobs(s.Namespace).Delete(ctx, "cron-01", gone),
		"budget jobs":          cli.PolicyV1().PodDisruptionBudgets(s.Namespace).Delete(ctx, "jobs", gone),
		"budget store-00":      cli.PolicyV1().PodDisruptionBudgets(s.Namespace).Delete(ctx, "store-00", gone),
	} {
		if err != nil {
			t.Fatal(err)
		}
		if why := s.Unready(ctx); !strings.Contains(why, name+" is not there") {
			t.Errorf("%s has vanished: %s", name, why)
		}
	}
	// One that somebody scaled down promises less than the spec.
	d, err := cli.AppsV1().Deployments(s.Namespace).Get(ctx, "web-00", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	*d.Spec.Replicas = 0
	if _, err := cli.AppsV1().Deployments(s.Namespace).Update(ctx, d, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if why := s.Unready(ctx); !strings.Contains(why, "deployment web-00 has 0 of 3 ready") {
		t.Errorf("scaled down: %s", why)
	}
}

func TestUntilGivesUpAtOnceWhenRefused(t *testing.T) {
	tries := 0
	err := until(t.Context(), "make it", func(context.Context) error {
		tries++
		return fmt.Errorf("x: %w", apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "p", nil))
	})
	if tries != 1 || !apierrors.IsInvalid(err) {
		t.Errorf("%d tries, %v", tries, err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("waited 20ms"))
	defer cancel()
	err = until(ctx, "make it", func(context.Context) error { return errors.New("unexpected EOF") })
	if err == nil || !strings.Contains(err.Error(), "make it: waited 20ms: unexpected EOF") {
		t.Errorf("%v", err)
	}
}

// TestLane ends the lane's Job: the next is made, also when an attempt got no
// answer although it was carried out.
func TestLane(t *testing.T) {
	s, cli := newSet(t, spec)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	jobs := cli.BatchV1().Jobs(s.Namespace)
	finish := func(name string) {
		j, err := jobs.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
		if _, err := jobs.UpdateStatus(ctx, j, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
	}
	// The first two exist already and are finished: nothing is made twice.
	for n := 1; n <= 2; n++ {
		j := s.build.longJob(0, n, *spec.Jobs)
		if _, err := jobs.Create(ctx, j, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		finish(j.Name)
	}
	made := make(chan string, 10)
	cli.PrependReactor("create", "jobs", func(a kubetesting.Action) (bool, runtime.Object, error) {
		made <- a.(kubetesting.CreateAction).GetObject().(*batchv1.Job).Name
		return false, nil, nil
	})
	lane, stop := context.WithCancel(ctx)
	s.stop = stop
	s.lanes.Go(func() { s.lane(lane, 0) })
	for _, want := range []string{"long-00-1", "long-00-2", "long-00-3"} {
		select {
		case got := <-made:
			if got != want {
				t.Errorf("made %s, want %s", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("%s was not made", want)
		}
	}
	s.Stop()
	if len(made) != 0 {
		t.Errorf("%s was made while one runs", <-made)
	}
}

func TestRunningLanes(t *testing.T) {
	one, now, old := int32(1), metav1.Now(), metav1.NewTime(time.Now().Add(-time.Minute))
	job := func(app string, st batchv1.JobStatus) batchv1.Job {
		return batchv1.Job{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{labelApp: app}}, Status: st}
	}
	got := runningLanes([]batchv1.Job{
		job("ready", batchv1.JobStatus{Ready: &one}),
		job("pending", batchv1.JobStatus{Active: 1}),
		job("between", batchv1.JobStatus{CompletionTime: &now}),
		job("over", batchv1.JobStatus{CompletionTime: &old}),
	})
	if len(got) != 2 || !got["ready"] || !got["between"] {
		t.Errorf("%v", got)
	}
}

func TestRaiseAndRest(t *testing.T) {
	s, cli := newSet(t, scenarios.Workload{CronJobs: &scenarios.CronJobs{Count: 2, Schedule: "* * * * *", Duration: time.Second}})
	own := s.spec.CronJobs
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := until(ctx, "make", s.create); err != nil {
		t.Fatal(err)
	}
	dropped := false
	cli.PrependReactor("create", "cronjobs", func(kubetesting.Action) (bool, runtime.Object, error) {
		if dropped {
			return false, nil, nil
		}
		dropped = true
		return true, nil, errors.New("unexpected EOF")
	})
	for _, n := range []int{5, 3} { // it never takes any away
		if err := s.Raise(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Rest(ctx); err != nil {
		t.Fatal(err)
	}
	crons, _ := cli.BatchV1().CronJobs(s.Namespace).List(ctx, metav1.ListOptions{})
	if len(crons.Items) != 5 || s.CronJobs() != 5 || own.Count != 2 {
		t.Errorf("%d CronJobs, %d counted, %d in the scenario", len(crons.Items), s.CronJobs(), own.Count)
	}
	for _, c := range crons.Items {
		if c.Spec.Suspend == nil || !*c.Spec.Suspend {
			t.Errorf("%s goes on", c.Name)
		}
	}
	if why := s.Unready(ctx); why != "" {
		t.Error(why)
	}
	none, _ := newSet(t, scenarios.Workload{})
	if err := none.Raise(ctx, 1); err == nil {
		t.Error("CronJobs were made of nothing")
	}
}
