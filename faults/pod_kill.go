package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
	"gameday/faults/mechanism/process"
)

var podKill = Kind{
	Name: "pod.kill",
	Doc:  "Kills the processes of pods on the targets, as a crash or the kernel does when memory runs out; the kubelet starts their containers again.",
	Rehearses: "A program that crashes: no SIGTERM, no time to say goodbye, no Eviction API that could refuse. The pod stays, " +
		"its containers are started anew with a back-off, and a Job's pod with restartPolicy Never has failed " +
		"(https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-restarts).",
	Mechanism:   "SIGKILL by pidfd to every process in the containers' cgroups",
	Undo:        "none needed: the kubelet restarts the containers, or the pod's controller replaces the pod",
	Roles:       []clusters.Role{clusters.ControlPlane, clusters.Worker},
	Needs:       []clusters.Capability{clusters.CapProcesses, clusters.CapKubelet},
	ProveWithin: 30 * time.Second,
	// The back-off of a container that crashed before is at most 5 min:
	// k8s.io/kubernetes@v1.37.0 pkg/kubelet/kubelet.go MaxCrashLoopBackOff.
	GoneWithin: 7 * time.Minute,
	Instant:    true,
	// Every node has one pod of kube-proxy, and it does no harm to kill it.
	Trials: []Trial{{Name: "pod-kill", Target: Target{Pick: PickOne, Role: "worker"}, With: "{namespace: kube-system, selector: k8s-app=kube-proxy}"}},
	New:    func() Fault { return &PodKill{Selector: clusters.LabelRun, Count: 1} },
}

// PodKill is the fault pod.kill.
type PodKill struct {
	// Namespace of the pods; empty means any.
	Namespace string `yaml:"namespace" json:"namespace"`
	// Selector of labels; default: those of the pods that the run made.
	Selector string `yaml:"selector" json:"selector"`
	// Count is how many pods of each target; 0 means all that are selected.
	Count int `yaml:"count" json:"count"`
}

// killedPods is what the notes say: when, and which pods of which node. After Heal
// that is history: a container may be running again before anybody looks, so that
// its end is the effect, and that stands in the pod's status for good.
type killedPods struct {
	At   time.Time              `json:"at"`
	Over bool                   `json:"over,omitempty"`
	Pods map[string][]killedPod `json:"pods"`
}

type killedPod struct {
	Namespace, Name, UID string
	Containers           []string
	Processes            []process.Ref
}

// Validate implements Validator.
func (f *PodKill) Validate() []error {
	errs := checkSelector(f.Selector)
	if f.Count < 0 {
		errs = append(errs, fmt.Errorf("count: %d is negative; 0 means all", f.Count))
	}
	return errs
}

// Describe implements Describer.
func (f *PodKill) Describe(targets []string) []string {
	return each(targets, "%s: pidfd_send_signal("+howMany(f.Count, "each process")+" with "+f.Selector+inNamespace(f.Namespace)+", SIGKILL)")
}

func howMany(count int, what string) string {
	if count == 0 {
		return what + " of all pods"
	}
	return fmt.Sprintf("%s of %d pod(s)", what, count)
}

func inNamespace(ns string) string {
	if ns == "" {
		return ""
	}
	return " in " + ns
}

// Inject notes the processes before it kills them. A second Inject kills nobody
// else.
func (f *PodKill) Inject(ctx context.Context, env Env) error {
	var notes killedPods
	if _, err := env.Notes.Load(&notes); err != nil {
		return err
	}
	if notes.Pods == nil || notes.Over {
		notes = killedPods{Pods: map[string][]killedPod{}}
	}
	for _, n := range env.Targets {
		if len(notes.Pods[n.Name()]) > 0 {
			continue
		}
		victims, err := f.choose(ctx, env, n)
		if err != nil {
			return err
		}
		notes.Pods[n.Name()] = victims
	}
	notes.At = time.Now()
	if err := env.Notes.Save(notes); err != nil {
		return err
	}
	var all []process.Ref
	for _, n := range env.Targets {
		for _, p := range notes.Pods[n.Name()] {
			all = append(all, p.Processes...)
		}
	}
	return kill(ctx, all)
}

// choose picks pods of a node whose containers run.
func (f *PodKill) choose(ctx context.Context, env Env, n clusters.Node) ([]killedPod, error) {
	pods, err := podsOf(ctx, env.Cluster, f.Namespace, f.Selector, n.Name())
	if err != nil {
		return nil, err
	}
	var out []killedPod
	for _, p := range pods {
		if f.Count > 0 && len(out) == f.Count {
			break
		}
		ids := containerIDs(&p)
		if len(ids) == 0 {
			continue
		}
		refs, err := processesOf(ctx, n, ids)
		if err != nil {
			return nil, err
		}
		if len(refs) > 0 {
			out = append(out, killedPod{p.Namespace, p.Name, string(p.UID), ids, refs})
		}
	}
	if len(out) == 0 || len(out) < f.Count {
		return nil, fmt.Errorf("%s: %d pods with %s%s run there, and %s wanted", n.Name(), len(out), f.Selector, inNamespace(f.Namespace), map[bool]string{true: "at least one is", false: fmt.Sprintf("%d are", f.Count)}[f.Count == 0])
	}
	return out, nil
}

// Heal has nothing to take back, and says that it is over.
func (*PodKill) Heal(_ context.Context, env Env) error {
	var notes killedPods
	if found, err := env.Notes.Load(&notes); err != nil || !found || notes.Over {
		return err
	}
	notes.Over = true
	return env.Notes.Save(notes)
}

// Prove asks the API what the kubelet says of the containers that were killed.
func (f *PodKill) Prove(ctx context.Context, env Env) (Effect, error) {
	var notes killedPods
	if _, err := env.Notes.Load(&notes); err != nil {
		return Effect{}, err
	}
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		killed := notes.Pods[n.Name()]
		if len(killed) == 0 {
			return seen{whole: true, evidence: "no pod was killed"}, nil
		}
		s := seen{broken: true, whole: true}
		var lines []string
		for _, k := range killed {
			one, err := k.look(ctx, env.Cluster)
			if err != nil {
				return seen{}, err
			}
			s.broken, s.whole = s.broken && one.broken && !notes.Over, s.whole && one.whole
			lines = append(lines, k.Namespace+"/"+k.Name+" "+one.evidence)
		}
		s.evidence = strings.Join(lines, ", ")
		return s, nil
	})
	if err != nil {
		return e, err
	}
	if e.Active {
		rest, err := podsOf(ctx, env.Cluster, f.Namespace, f.Selector, "")
		if err != nil {
			return Effect{}, err
		}
		e.Control = untouched(env, rest, notes)
		if e.Control == "" && len(rest) > countPods(notes) {
			e.Active = false
			e.Evidence += "; but no other pod was left alone either"
		}
	}
	e.At = time.Now()
	return e, nil
}

func countPods(notes killedPods) (n int) {
	for _, p := range notes.Pods {
		n += len(p)
	}
	return n
}

// untouched finds a pod that was no victim, and has run since before.
func untouched(env Env, pods []corev1.Pod, notes killedPods) string {
	victim := map[string]bool{}
	for _, list := range notes.Pods {
		for _, k := range list {
			victim[k.UID] = true
		}
	}
	for _, p := range pods {
		if victim[string(p.UID)] || !isReady(&p) {
			continue
		}
		old := true
		for _, s := range p.Status.ContainerStatuses {
			// The kubelet's times have whole seconds.
			old = old && s.State.Running != nil && s.State.Running.StartedAt.Time.Before(notes.At.Add(-time.Second))
		}
		if old {
			where := p.Spec.NodeName
			for _, n := range env.Cluster.Nodes() {
				if n.Name() == where {
					where = clusters.Place(n)
				}
			}
			return fmt.Sprintf("%s on %s has run all the time", podName(&p), where)
		}
	}
	return ""
}

// look says what has become of a pod: broken when the kubelet has seen its
// containers end, whole when it is ready again or somebody else took its place.
func (k killedPod) look(ctx context.Context, c clusters.Cluster) (seen, error) {
	var p *corev1.Pod
	err := throughAPI(ctx, c, func(ctx context.Context, cli kubernetes.Interface) (err error) {
		p, err = cli.CoreV1().Pods(k.Namespace).Get(ctx, k.Name, metav1.GetOptions{})
		return err
	})
	if apierrors.IsNotFound(err) || err == nil && string(p.UID) != k.UID {
		return seen{broken: true, whole: true, evidence: "is gone"}, nil
	}
	if err != nil {
		return seen{}, fmt.Errorf("look at pod %s/%s: %w", k.Namespace, k.Name, err)
	}
	return k.judge(p)
}

func (k killedPod) judge(p *corev1.Pod) (seen, error) {
	ended, err := gone(k.Processes)
	if err != nil {
		return seen{}, err
	}
	s := seen{broken: ended, whole: ended}
	var lines []string
	for _, id := range k.Containers {
		c, ok := endedContainer(p, id)
		if !ok {
			return seen{evidence: fmt.Sprintf("runs, as far as the kubelet has seen (%d processes ended: %v)", len(k.Processes), ended)}, nil
		}
		lines = append(lines, c)
	}
	s.whole = s.whole && (isReady(p) || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded)
	s.evidence = strings.Join(lines, ", ")
	if isReady(p) {
		s.evidence += ", ready again"
	}
	return s, nil
}

// endedContainer finds the end of a container in what the kubelet says of a pod.
// One that it does not know any more was followed by others.
func endedContainer(p *corev1.Pod, id string) (string, bool) {
	for _, s := range p.Status.ContainerStatuses {
		for _, t := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
			if t != nil && strings.HasSuffix(t.ContainerID, "://"+id) {
				return fmt.Sprintf("%s exited %d, restarts %d", s.Name, t.ExitCode, s.RestartCount), true
			}
		}
		if strings.HasSuffix(s.ContainerID, "://"+id) && s.State.Running != nil {
			return "", false
		}
	}
	return "replaced more than once", true
}

// processesOf are the processes in the containers with these ids, as processes of
// this machine: the id is part of the name of their cgroup, whoever made it.
func processesOf(ctx context.Context, n clusters.Node, ids []string) ([]process.Ref, error) {
	p, ok := n.(clusters.Processes)
	if !ok {
		return nil, fmt.Errorf("%s does not show its processes (capability %s)", n.Name(), clusters.CapProcesses)
	}
	init, err := p.InitPID(ctx)
	if err != nil {
		return nil, err
	}
	refs, err := process.Find(init, func([]string) bool { return true })
	if err != nil {
		return nil, fmt.Errorf("%s: find the processes of its pods: %w", n.Name(), err)
	}
	var out []process.Ref
	for _, ref := range refs {
		in, err := process.InCgroup(ref, ids)
		if errors.Is(err, process.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if in {
			out = append(out, ref)
		}
	}
	return out, nil
}
