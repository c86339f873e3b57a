package workload

import (
	"fmt"
	"math"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"gameday/clusters"
	"gameday/scenarios"
)

const (
	// labelApp tells the workloads apart; labelPart says what a pod is part of.
	labelApp  = "gameday.app"
	labelPart = "gameday.part"
	partServe = "serve"
	partJob   = "job"

	// port of the agent, servicePort of the Services before it, meshPort of the
	// agent's datagrams.
	port        = 8080
	servicePort = 80
	meshPort    = 8081
	// backoffLimit of every Job: so many pods may fail of themselves before the
	// Job does. Pods that are disrupted (evicted, preempted, tainted away) are
	// replaced and not counted (podFailurePolicy).
	backoffLimit = 3
	// keepJobs is how many finished Jobs a CronJob keeps: more than the slots
	// of any run, so that nothing but the run's own end deletes a Job.
	keepJobs = 500
	// serveGrace is above what the agent takes: 1 s of linger and 3 s for
	// requests in flight.
	serveGrace = 10
	// jobGrace covers what a Job has left to do once it is told to end.
	jobGrace = 30
)

// builder makes the objects of one run. Names are numbered with two digits, so
// that no name is the beginning of another.
type builder struct {
	run, namespace, image string
}

func (b builder) labels(more ...string) map[string]string {
	out := map[string]string{clusters.LabelRun: b.run}
	for i := 0; i+1 < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

func (b builder) meta(name string, more ...string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: b.namespace, Labels: b.labels(more...)}
}

func numbered(kind string, i int) string { return fmt.Sprintf("%s-%02d", kind, i) }

// container runs the agent, with what it prints of itself.
func (b builder) container(args ...string) corev1.Container {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	no := false
	return corev1.Container{
		Name: "agent", Image: b.image, ImagePullPolicy: corev1.PullNever, Args: args,
		Env: []corev1.EnvVar{
			field("POD_NAME", "metadata.name"), field("POD_UID", "metadata.uid"), field("NODE_NAME", "spec.nodeName"),
		},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("16Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: ptr(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
}

func ptr[T any](v T) *T { return &v }

// spread puts the pods with a label on as many nodes as there are, where that is
// possible.
func (b builder) spread(label, value string) []corev1.TopologySpreadConstraint {
	return []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
		LabelSelector: &metav1.LabelSelector{MatchLabels: b.labels(label, value)},
	}}
}

// server is the pod of a Deployment or StatefulSet.
func (b builder) server(app string) corev1.PodTemplateSpec {
	c := b.container("serve")
	c.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: port}}
	c.ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(port)}},
		PeriodSeconds: 2, TimeoutSeconds: 2,
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: b.labels(labelApp, app, labelPart, partServe)},
		Spec: corev1.PodSpec{
			Containers:                    []corev1.Container{c},
			AutomountServiceAccountToken:  ptr(false),
			EnableServiceLinks:            ptr(false),
			TerminationGracePeriodSeconds: ptr[int64](serveGrace),
			TopologySpreadConstraints:     b.spread(labelApp, app),
		},
	}
}

// jobSpec is a Job of one pod that runs so long. It has no TTL.
func (b builder) jobSpec(app string, long time.Duration) batchv1.JobSpec {
	return batchv1.JobSpec{
		BackoffLimit: ptr[int32](backoffLimit),
		PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
			Action: batchv1.PodFailurePolicyActionIgnore,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue},
			},
		}}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{
				Labels:      b.labels(labelApp, app, labelPart, partJob),
				Annotations: map[string]string{clusters.AnnotationRunFor: long.String()},
			},
			Spec: corev1.PodSpec{
				Containers:                    []corev1.Container{b.container("job", "--for", long.String())},
				RestartPolicy:                 corev1.RestartPolicyNever,
				AutomountServiceAccountToken:  ptr(false),
				EnableServiceLinks:            ptr(false),
				TerminationGracePeriodSeconds: ptr[int64](jobGrace),
				TopologySpreadConstraints:     b.spread(labelPart, partJob),
			},
		},
	}
}

func (b builder) cronJob(i int, w scenarios.CronJobs) *batchv1.CronJob {
	name := numbered("cron", i)
	var deadline *int64
	if w.StartingDeadline > 0 {
		deadline = ptr(int64(w.StartingDeadline / time.Second))
	}
	return &batchv1.CronJob{
		ObjectMeta: b.meta(name, labelApp, name),
		Spec: batchv1.CronJobSpec{
			Schedule: w.Schedule, TimeZone: ptr(w.TimeZone), StartingDeadlineSeconds: deadline, ConcurrencyPolicy: batchv1.ConcurrencyPolicy(w.Policy),
			SuccessfulJobsHistoryLimit: ptr[int32](keepJobs), FailedJobsHistoryLimit: ptr[int32](keepJobs),
			JobTemplate: batchv1.JobTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: b.labels(labelApp, name)},
				Spec:       b.jobSpec(name, w.Duration),
			},
		},
	}
}

// longJob is the n-th Job of a lane: each lane has one unfinished Job.
func (b builder) longJob(lane, n int, w scenarios.Jobs) *batchv1.Job {
	app := numbered("long", lane)
	return &batchv1.Job{
		ObjectMeta: b.meta(fmt.Sprintf("%s-%d", app, n), labelApp, app),
		Spec:       b.jobSpec(app, w.Duration),
	}
}

func (b builder) deployment(i int, w scenarios.Deployments) *appsv1.Deployment {
	name := numbered("web", i)
	return &appsv1.Deployment{
		ObjectMeta: b.meta(name, labelApp, name),
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr(int32(w.Replicas)),
			Selector: &metav1.LabelSelector{MatchLabels: b.labels(labelApp, name)},
			Template: b.server(name),
		},
	}
}

func (b builder) statefulSet(i int, w scenarios.Stateful) *appsv1.StatefulSet {
	name := numbered("store", i)
	return &appsv1.StatefulSet{
		ObjectMeta: b.meta(name, labelApp, name),
		Spec: appsv1.StatefulSetSpec{
			ServiceName: name, Replicas: ptr(int32(w.Replicas)),
			Selector: &metav1.LabelSelector{MatchLabels: b.labels(labelApp, name)},
			Template: b.server(name),
		},
	}
}

func (b builder) service(app string, headless bool) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: b.meta(app, labelApp, app),
		Spec: corev1.ServiceSpec{
			Selector: b.labels(labelApp, app),
			Ports:    []corev1.ServicePort{{Name: "http", Port: servicePort, TargetPort: intstr.FromString("http")}},
		},
	}
	if headless {
		s.Spec.ClusterIP = corev1.ClusterIPNone
	}
	return s
}

func (b builder) budget(app string, minAvailable int) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: b.meta(app, labelApp, app),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: ptr(intstr.FromInt32(int32(minAvailable))),
			Selector:     &metav1.LabelSelector{MatchLabels: b.labels(labelApp, app)},
		},
	}
}

// jobBudget allows no pod of a Job to be disrupted. maxUnavailable: 0 would say
// so, but it needs a controller with a scale, which a Job has not; a minimum that
// is never met works for any pods (k8s.io/kubernetes@v1.37.0
// pkg/controller/disruption/disruption.go, getExpectedPodCount). Pods that do
// not run yet, or no more, can be evicted all the same.
func (b builder) jobBudget() *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: b.meta("jobs"),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: ptr(intstr.FromInt32(math.MaxInt32)),
			Selector:     &metav1.LabelSelector{MatchLabels: b.labels(labelPart, partJob)},
		},
	}
}
