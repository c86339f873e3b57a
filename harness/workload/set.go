package workload

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/clusters"
	"gameday/harness/history"
	"gameday/scenarios"
)

const (
	// readyFor bounds how long the workload may take to be ready, one request
	// of it requestFor.
	readyFor   = 3 * time.Minute
	requestFor = 10 * time.Second
	// readyPoll is how often it is looked at meanwhile, lanePoll how often the
	// long Jobs are: the pause between one and its successor.
	readyPoll = 500 * time.Millisecond
	lanePoll  = 2 * time.Second
)

// Set is a workload that runs.
type Set struct {
	// Namespace that everything is in.
	Namespace string

	cluster clusters.Cluster
	client  kubernetes.Interface
	build   builder
	spec    scenarios.Workload
	say     clusters.Say
	every   time.Duration // between two looks at the long Jobs
	// probing is nil without probing pods; nodes are those that must have one.
	probing *Probing
	nodes   []string

	stop  context.CancelFunc
	lanes sync.WaitGroup
}

// Namespace of a run's workload.
func namespace(run string) string { return "gameday-" + run }

// Deploy makes the workload of a run in the namespace gameday-<run> and returns
// when all of it is ready. From then on long Jobs follow one another until Stop,
// also when ctx ends. If it fails nothing is left. Without probing there are no
// probing pods.
func Deploy(ctx context.Context, cluster clusters.Cluster, run string, w scenarios.Workload, probing *Probing, say clusters.Say) (_ *Set, err error) {
	cfg := rest.CopyConfig(cluster.REST())
	cfg.QPS = -1 // no rate limit of client-go's own
	cfg.Timeout = requestFor
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", cluster.Name(), err)
	}
	ref, archive, err := image(ctx)
	if err != nil {
		return nil, err
	}
	on := hosts(cluster)
	if probing != nil {
		on = everyNode(cluster)
	}
	if err := load(ctx, cluster, on, archive); err != nil {
		return nil, err
	}
	lanes, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Set{
		Namespace: namespace(run), cluster: cluster, client: client, spec: w, say: say, every: lanePoll, stop: stop,
		build:   builder{run: run, namespace: namespace(run), image: ref},
		probing: probing, nodes: members(cluster),
	}
	defer func() {
		if err != nil {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestFor)
			defer cancel()
			s.Stop()
			err = errors.Join(err, s.Remove(clean))
		}
	}()
	ready, cancel := context.WithTimeoutCause(ctx, readyFor, fmt.Errorf("waited %s", readyFor))
	defer cancel()
	say("workload: waiting <= %s for %s", readyFor, s)
	if err := until(ready, "make the workload", s.create); err != nil {
		return nil, err
	}
	if j := w.Jobs; j != nil {
		for i := range j.Parallel {
			s.lanes.Go(func() { s.lane(lanes, i) })
		}
	}
	return s, until(ready, "the workload is not ready", func(ctx context.Context) error {
		if why := s.Unready(ctx); why != "" {
			return errors.New(why)
		}
		return nil
	})
}

// until polls until try succeeds or ctx ends. What the API refuses outright
// (the object is invalid, or not allowed) is not tried again.
func until(ctx context.Context, what string, try func(context.Context) error) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	var last error
	for {
		err := try(ctx)
		switch {
		case err == nil:
			return nil
		case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err):
			return fmt.Errorf("%s: %w", what, err)
		case ctx.Err() == nil || last == nil:
			last = err // what comes after the bound is about the bound
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// create makes all objects but the long Jobs, and may be called again: a busy
// cluster drops a request now and then.
func (s *Set) create(ctx context.Context) error {
	b, opts := s.build, metav1.CreateOptions{}
	var errs []error
	made := func(what string, err error) {
		if err != nil && !apierrors.IsAlreadyExists(err) {
			errs = append(errs, fmt.Errorf("make %s in %s: %w", what, s.Namespace, err))
		}
	}
	_, err := s.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: s.Namespace, Labels: b.labels()},
	}, opts)
	if made("the namespace", err); len(errs) > 0 {
		return errs[0]
	}
	if s.spec.CronJobs != nil || s.spec.Jobs != nil {
		_, err := s.client.PolicyV1().PodDisruptionBudgets(s.Namespace).Create(ctx, b.jobBudget(), opts)
		made("the budget of all job pods", err)
	}
	serve := func(app string, headless bool, minAvailable int) {
		_, err := s.client.CoreV1().Services(s.Namespace).Create(ctx, b.service(app, headless), opts)
		made("service "+app, err)
		_, err = s.client.PolicyV1().PodDisruptionBudgets(s.Namespace).Create(ctx, b.budget(app, minAvailable), opts)
		made("budget "+app, err)
	}
	if w := s.spec.Deployments; w != nil {
		for i := range w.Count {
			d := b.deployment(i, *w)
			serve(d.Name, false, w.MinAvailable)
			_, err := s.client.AppsV1().Deployments(s.Namespace).Create(ctx, d, opts)
			made("deployment "+d.Name, err)
		}
	}
	if w := s.spec.StatefulSets; w != nil {
		for i := range w.Count {
			d := b.statefulSet(i, *w)
			serve(d.Name, true, w.MinAvailable)
			_, err := s.client.AppsV1().StatefulSets(s.Namespace).Create(ctx, d, opts)
			made("statefulset "+d.Name, err)
		}
	}
	if w := s.spec.CronJobs; w != nil {
		for i := range w.Count {
			c := b.cronJob(i, *w)
			_, err := s.client.BatchV1().CronJobs(s.Namespace).Create(ctx, c, opts)
			made("cronjob "+c.Name, err)
		}
	}
	if s.probing != nil {
		s.createProbes(ctx, made)
	}
	return errors.Join(errs...)
}

// Unready says what is missing: objects that have vanished, replicas that are not
// ready, a budget that its controller has not seen, a lane without a running Job;
// "" if nothing is. What must be there is known from the spec, not from what is.
func (s *Set) Unready(ctx context.Context) string {
	var bad []string
	opts := metav1.ListOptions{}
	deployments, err := s.client.AppsV1().Deployments(s.Namespace).List(ctx, opts)
	if err != nil {
		return fmt.Sprintf("list deployments: %v", err)
	}
	there := map[string]bool{}
	for _, d := range deployments.Items {
		there["deployment "+d.Name] = true
		want := int32(0)
		if s.spec.Deployments != nil {
			want = int32(s.spec.Deployments.Replicas)
		}
		if st := d.Status; st.ObservedGeneration < d.Generation || st.ReadyReplicas < want || st.UpdatedReplicas < want {
			bad = append(bad, fmt.Sprintf("deployment %s has %d of %d ready", d.Name, st.ReadyReplicas, want))
		}
	}
	sets, err := s.client.AppsV1().StatefulSets(s.Namespace).List(ctx, opts)
	if err != nil {
		return fmt.Sprintf("list statefulsets: %v", err)
	}
	for _, d := range sets.Items {
		there["statefulset "+d.Name] = true
		want := int32(0)
		if s.spec.StatefulSets != nil {
			want = int32(s.spec.StatefulSets.Replicas)
		}
		if st := d.Status; st.ObservedGeneration < d.Generation || st.ReadyReplicas < want {
			bad = append(bad, fmt.Sprintf("statefulset %s has %d of %d ready", d.Name, st.ReadyReplicas, want))
		}
	}
	budgets, err := s.client.PolicyV1().PodDisruptionBudgets(s.Namespace).List(ctx, opts)
	if err != nil {
		return fmt.Sprintf("list budgets: %v", err)
	}
	for _, p := range budgets.Items {
		there["budget "+p.Name] = true
		if p.Status.ObservedGeneration < p.Generation {
			bad = append(bad, fmt.Sprintf("budget %s was not seen by its controller yet", p.Name))
		}
	}
	crons, err := s.client.BatchV1().CronJobs(s.Namespace).List(ctx, opts)
	if err != nil {
		return fmt.Sprintf("list cronjobs: %v", err)
	}
	for _, c := range crons.Items {
		there["cronjob "+c.Name] = true
	}
	for _, name := range s.made() {
		if !there[name] {
			bad = append(bad, name+" is not there")
		}
	}
	if w := s.spec.Jobs; w != nil {
		jobs, err := s.client.BatchV1().Jobs(s.Namespace).List(ctx, opts)
		if err != nil {
			return fmt.Sprintf("list jobs: %v", err)
		}
		running := runningLanes(jobs.Items)
		for i := range w.Parallel {
			if app := numbered("long", i); !running[app] {
				bad = append(bad, "no job of "+app+" runs")
			}
		}
	}
	if why := s.unreadyProbes(ctx); why != "" {
		bad = append(bad, why)
	}
	return strings.Join(bad, ", ")
}

// made are the objects that create makes and that must stay.
func (s *Set) made() []string {
	var out []string
	each := func(kind string, count int, what ...string) {
		for i := range count {
			for _, w := range what {
				out = append(out, w+" "+numbered(kind, i))
			}
		}
	}
	if w := s.spec.Deployments; w != nil {
		each("web", w.Count, "deployment", "budget")
	}
	if w := s.spec.StatefulSets; w != nil {
		each("store", w.Count, "statefulset", "budget")
	}
	if w := s.spec.CronJobs; w != nil {
		each("cron", w.Count, "cronjob")
	}
	if s.spec.CronJobs != nil || s.spec.Jobs != nil {
		out = append(out, "budget "+s.build.jobBudget().Name)
	}
	return out
}

// runningLanes are the lanes in which a Job's pod is ready. A lane whose Job has
// just ended, so that its successor is on its way, counts too.
func runningLanes(jobs []batchv1.Job) map[string]bool {
	const onItsWay = 4 * lanePoll
	out := map[string]bool{}
	for _, j := range jobs {
		switch {
		case j.Status.Ready != nil && *j.Status.Ready > 0,
			j.Status.CompletionTime != nil && time.Since(j.Status.CompletionTime.Time) < onItsWay:
			out[j.Labels[labelApp]] = true
		}
	}
	return out
}

// lane keeps one unfinished long Job: when it ends, the next is made. What the
// API refuses or does not answer is tried again at the next look.
func (s *Set) lane(ctx context.Context, i int) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	n, made, failing := 1, false, false
	for ctx.Err() == nil {
		job := s.build.longJob(i, n, *s.spec.Jobs)
		var err error
		if !made {
			_, err = s.client.BatchV1().Jobs(s.Namespace).Create(ctx, job, metav1.CreateOptions{})
			// An attempt that got no answer may have made it.
			made = err == nil || apierrors.IsAlreadyExists(err)
			if made {
				err = nil
			}
		} else {
			var now *batchv1.Job
			if now, err = s.client.BatchV1().Jobs(s.Namespace).Get(ctx, job.Name, metav1.GetOptions{}); err == nil && finished(now) {
				n, made = n+1, false
				continue
			}
		}
		if err != nil && !failing && ctx.Err() == nil {
			s.say("workload: %s waits: %v", job.Name, err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func finished(j *batchv1.Job) bool {
	for _, c := range j.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			return true
		}
	}
	return false
}

// Budgets are the promises of the workload: what its Deployments and
// StatefulSets keep ready. A Deployment's pods belong to a ReplicaSet whose name
// begins with the Deployment's.
func (s *Set) Budgets() []history.Budget {
	var out []history.Budget
	add := func(owner string, replicas, minAvailable int) {
		out = append(out, history.Budget{
			Namespace: s.Namespace, Owner: owner, Desired: int32(replicas), MinAvailable: int32(minAvailable),
		})
	}
	if w := s.spec.Deployments; w != nil {
		for i := range w.Count {
			add("ReplicaSet/"+numbered("web", i), w.Replicas, w.MinAvailable)
		}
	}
	if w := s.spec.StatefulSets; w != nil {
		for i := range w.Count {
			add("StatefulSet/"+numbered("store", i), w.Replicas, w.MinAvailable)
		}
	}
	return out
}

// String is the workload in a few words.
func (s *Set) String() string {
	var parts []string
	if w := s.spec.CronJobs; w != nil {
		parts = append(parts, fmt.Sprintf("%d cronjobs (%s)", w.Count, w.Schedule))
	}
	if w := s.spec.Deployments; w != nil {
		parts = append(parts, fmt.Sprintf("%d deployments of %d", w.Count, w.Replicas))
	}
	if w := s.spec.StatefulSets; w != nil {
		parts = append(parts, fmt.Sprintf("%d statefulsets of %d", w.Count, w.Replicas))
	}
	if w := s.spec.Jobs; w != nil {
		parts = append(parts, fmt.Sprintf("%d jobs of %s at a time", w.Parallel, w.Duration))
	}
	if s.probing != nil {
		parts = append(parts, fmt.Sprintf("a probing pod on each of %d nodes", len(s.nodes)))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// Stop makes no more long Jobs. What runs goes on.
func (s *Set) Stop() {
	s.stop()
	s.lanes.Wait()
}

// Remove deletes the namespaces with all that is in them. It does not wait until
// they are gone.
func (s *Set) Remove(ctx context.Context) error {
	var errs []error
	for _, ns := range []string{s.Namespace, ProbeNamespace(s.build.run)} {
		err := s.client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("delete the workload's namespace %s: %w", ns, err))
		}
	}
	return errors.Join(errs...)
}
