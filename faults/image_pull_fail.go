package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

var imagePullFail = Kind{
	Name: "image.pull-fail",
	Doc:  "Takes the images of pods away from the targets, so that new pods with them cannot start there; those that run go on.",
	Rehearses: "An image that the kubelet's garbage collection has removed, or a fresh node, while the registry is away or its name " +
		"was deleted: ErrImageNeverPull, ErrImagePull, ImagePullBackOff (https://kubernetes.io/docs/concepts/containers/images/). " +
		"On kind images are loaded and not pulled, so that a registry that is away would be noticed by nobody; the missing image is.",
	Mechanism:   "the images' names in the node's containerd are replaced by names of ours (ctr images tag, rm); nothing is deleted",
	Undo:        "the guard, or gameday heal, gives the images their names back",
	Roles:       []clusters.Role{clusters.ControlPlane, clusters.Worker},
	Needs:       []clusters.Capability{clusters.CapExec, clusters.CapKubelet},
	ProveWithin: time.Minute,
	GoneWithin:  2 * time.Minute,
	Trials:      []Trial{{Name: "image-pull-fail", Target: Target{Pick: PickOne, Role: "worker"}, With: "{namespace: kube-system, selector: k8s-app=kube-proxy}"}},
	New:         func() Fault { return &ImagePullFail{Selector: clusters.LabelRun} },
}

const (
	// labelCanary is on the pods that show whether an image is found; they are made
	// in the namespace default, where nobody counts them.
	labelCanary = "gameday.canary"
	// neverStarts is what a canary would run. No image has it, so that a canary
	// whose image is found ends with another error, and runs nothing.
	neverStarts = "/gameday-canary-never-starts"
)

// ImagePullFail is the fault image.pull-fail.
type ImagePullFail struct {
	// Namespace of the pods whose images are taken away; empty means any.
	Namespace string `yaml:"namespace" json:"namespace"`
	// Selector of labels; default: those of the pods that the run made.
	Selector string `yaml:"selector" json:"selector"`
}

// takenImages are the names that were taken from a node, in order.
type takenImages map[string][]string

// Validate implements Validator.
func (f *ImagePullFail) Validate() []error { return checkSelector(f.Selector) }

// Describe implements Describer.
func (f *ImagePullFail) Describe(targets []string) []string {
	return each(targets, "%s: ctr -n k8s.io images tag IMAGE "+parkedImage("TAG", 0)+"; ctr -n k8s.io images rm IMAGE, of its pods with "+f.Selector+inNamespace(f.Namespace))
}

// parkedImage is the i-th image's name meanwhile.
func parkedImage(tag string, i int) string {
	return "gameday.invalid/" + tag + "/" + strconv.Itoa(i) + ":parked"
}

// fullName is an image's name as containerd has it.
func fullName(image string) (string, error) {
	ref, err := name.ParseReference(image)
	if err != nil {
		return "", fmt.Errorf("name of an image: %w", err)
	}
	return strings.Replace(ref.Name(), "index.docker.io/", "docker.io/", 1), nil
}

const (
	// takeImage gives image $1 the name $2. A name that came back since (somebody
	// pulled or loaded it) goes again.
	takeImage = `set -e; has() { ctr -n k8s.io images ls -q | grep -qxF "$1"; }
if ! has "$2"; then ctr -n k8s.io images tag "$1" "$2" >/dev/null; fi
if has "$1"; then ctr -n k8s.io images rm "$1" >/dev/null; fi`
	// giveImage takes that back. A newer image with the name stays.
	giveImage = `set -e; has() { ctr -n k8s.io images ls -q | grep -qxF "$1"; }
if has "$2"; then has "$1" || ctr -n k8s.io images tag "$2" "$1" >/dev/null; ctr -n k8s.io images rm "$2" >/dev/null; fi`
)

// Inject notes the names before it takes them, and makes the canaries.
func (f *ImagePullFail) Inject(ctx context.Context, env Env) error {
	taken := takenImages{}
	if _, err := env.Notes.Load(&taken); err != nil {
		return err
	}
	for _, n := range env.Targets {
		if len(taken[n.Name()]) > 0 {
			continue
		}
		pods, err := podsOf(ctx, env.Cluster, f.Namespace, f.Selector, n.Name())
		if err != nil {
			return err
		}
		for _, p := range pods {
			for _, c := range p.Spec.Containers {
				image, err := fullName(c.Image)
				if err != nil {
					return fmt.Errorf("%s: %w", podName(&p), err)
				}
				if !slices.Contains(taken[n.Name()], image) {
					taken[n.Name()] = append(taken[n.Name()], image)
				}
			}
		}
		if len(taken[n.Name()]) == 0 {
			return fmt.Errorf("%s: no pod with %s%s runs there whose image could be taken away", n.Name(), f.Selector, inNamespace(f.Namespace))
		}
		slices.Sort(taken[n.Name()])
	}
	if err := env.Notes.Save(taken); err != nil {
		return err
	}
	for _, n := range env.Targets {
		for i, image := range taken[n.Name()] {
			if _, err := clusters.Output(ctx, n, "sh", "-c", takeImage, "sh", image, parkedImage(env.Tag, i)); err != nil {
				return fmt.Errorf("take the image %s away: %w", image, err)
			}
		}
		if err := makeCanary(ctx, env, n, taken[n.Name()][0]); err != nil {
			return err
		}
	}
	if rest := f.others(env); len(rest) > 0 {
		return makeCanary(ctx, env, rest[0], taken[env.Targets[0].Name()][0])
	}
	return nil
}

// others are the nodes of the role of the first target, which run the same pods,
// but for the targets.
func (*ImagePullFail) others(env Env) []clusters.Node {
	return slices.DeleteFunc(restNodes(env), func(n clusters.Node) bool { return n.Role() != env.Targets[0].Role() })
}

func canaryName(env Env, n clusters.Node) string {
	return fmt.Sprintf("gameday-%s-%s-%d", env.Tag, n.Role(), n.Index())
}

// makeCanary makes a pod that shows what the kubelet does for want of an image.
func makeCanary(ctx context.Context, env Env, n clusters.Node, image string) error {
	no, now := false, int64(0)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: canaryName(env, n), Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{clusters.LabelRun: labelValue(env.Cluster.Run()), labelCanary: labelValue(env.Tag)},
		},
		Spec: corev1.PodSpec{
			NodeName:                      n.Name(),
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			AutomountServiceAccountToken:  &no,
			EnableServiceLinks:            &no,
			TerminationGracePeriodSeconds: &now,
			RestartPolicy:                 corev1.RestartPolicyNever,
			Containers:                    []corev1.Container{{Name: "canary", Image: image, ImagePullPolicy: corev1.PullNever, Command: []string{neverStarts}}},
		},
	}
	err := throughAPI(ctx, env.Cluster, func(ctx context.Context, cli kubernetes.Interface) error {
		_, err := cli.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
		return err
	})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make the canary on %s: %w", n.Name(), err)
	}
	return nil
}

// Heal gives the names back and removes the canaries.
func (f *ImagePullFail) Heal(ctx context.Context, env Env) error {
	taken := takenImages{}
	if _, err := env.Notes.Load(&taken); err != nil {
		return err
	}
	var errs []error
	for _, n := range env.Targets {
		for i, image := range taken[n.Name()] {
			if _, err := clusters.Output(ctx, n, "sh", "-c", giveImage, "sh", image, parkedImage(env.Tag, i)); err != nil {
				errs = append(errs, fmt.Errorf("give the image %s back: %w", image, err))
			}
		}
	}
	if len(taken) == 0 {
		return nil
	}
	var now int64
	errs = append(errs, throughAPI(ctx, env.Cluster, func(ctx context.Context, cli kubernetes.Interface) error {
		return cli.CoreV1().Pods(metav1.NamespaceDefault).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now},
			metav1.ListOptions{LabelSelector: labelCanary + "=" + labelValue(env.Tag)})
	}))
	return errors.Join(errs...)
}

// Prove reads in the API what the kubelets say of the canaries.
func (f *ImagePullFail) Prove(ctx context.Context, env Env) (Effect, error) {
	taken := takenImages{}
	if _, err := env.Notes.Load(&taken); err != nil {
		return Effect{}, err
	}
	var canaries *corev1.PodList
	err := throughAPI(ctx, env.Cluster, func(ctx context.Context, cli kubernetes.Interface) (err error) {
		canaries, err = cli.CoreV1().Pods(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: labelCanary + "=" + labelValue(env.Tag)})
		return err
	})
	if err != nil {
		return Effect{}, fmt.Errorf("list the canaries: %w", err)
	}
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		says := fate(canaries.Items, n.Name())
		if says != "" {
			return seen{broken: says == "ErrImageNeverPull", evidence: "a new pod there: " + says}, nil
		}
		for i, image := range taken[n.Name()] {
			out, err := clusters.Output(ctx, n, "crictl", "images", "--output", "json")
			if err != nil {
				return seen{}, err
			}
			if !strings.Contains(string(out), strconv.Quote(image)) || strings.Contains(string(out), strconv.Quote(parkedImage(env.Tag, i))) {
				return seen{evidence: "the container runtime does not find " + image}, nil
			}
		}
		return seen{whole: len(canaries.Items) == 0, evidence: fmt.Sprintf("no canary there, %d images found", len(taken[n.Name()]))}, nil
	})
	if err != nil {
		return e, err
	}
	if rest := f.others(env); e.Active && len(rest) > 0 {
		switch says := fate(canaries.Items, rest[0].Name()); says {
		case "", "ErrImageNeverPull", "ContainerCreating":
			e.Active = false
			e.Evidence += fmt.Sprintf("; but on %s a new pod says %q", clusters.Place(rest[0]), says)
		default:
			e.Control = fmt.Sprintf("%s finds the image for the same pod (%s)", clusters.Place(rest[0]), says)
		}
	}
	e.At = time.Now()
	return e, nil
}

// fate is the reason that the kubelet gives for a canary's state; empty if there
// is no canary.
func fate(canaries []corev1.Pod, node string) string {
	for _, p := range canaries {
		if p.Spec.NodeName != node {
			continue
		}
		for _, s := range p.Status.ContainerStatuses {
			switch {
			case s.State.Waiting != nil:
				return s.State.Waiting.Reason
			case s.State.Terminated != nil:
				return s.State.Terminated.Reason
			case s.State.Running != nil:
				return "Running"
			}
		}
		return "ContainerCreating"
	}
	return ""
}
