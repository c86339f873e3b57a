package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

// The parts of a step that are not components.
const (
	partPreflight = "preflight"
	partKubeadm   = "kubeadm"
	partDrain     = "drain"
	partUncordon  = "uncordon"
)

// kubeadm upgrades in place, one node after the other: `kubeadm upgrade apply`
// on the first control plane, `kubeadm upgrade node` on all others, then the
// kubelet, https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-upgrade/.
type kubeadm struct {
	// Replaced in tests; nil means the real ones.
	openAPI func(clusters.Cluster) (*api, error)
	probes  func(clusters.Cluster, clusters.Node, *api) (prober, error)
}

// Steps implements Strategy. On a cluster that an earlier run has upgraded in
// part, Run leaves out what is done.
func (*kubeadm) Steps(places []Place, o Options) []Step {
	drainBound := o.DrainTimeout
	if drainBound == 0 {
		drainBound = defaultDrain
	}
	var steps []Step
	first := true
	for _, p := range ordered(places, o) {
		s := Step{Phase: PhaseWhole + "/" + p.String(), Place: p.String()}
		part := func(name string) { s.Parts = append(s.Parts, s.Phase+"/"+name) }
		do := func(format string, args ...any) { s.Commands = append(s.Commands, fmt.Sprintf(format, args...)) }
		drain := drains(o, p.Role)
		drainCommand := func() {
			part(partDrain)
			do("kubectl drain %s --ignore-daemonsets --delete-emptydir-data --timeout=%s  # by the API", p, drainBound)
			s.Bound += drainBound + 2*apiBound
		}
		newKubeadm := func() { do("%s", strings.Join(install(o.To, "kubeadm"), " ")) }
		if p.Role == clusters.ControlPlane {
			part(partPreflight)
			for _, c := range staticPods() {
				part(c)
			}
			newKubeadm()
			do("%s", strings.Join(kubeadmArgv(o.To, first), " "))
			s.Bound += controlPlaneBound + settleBound
			first = false
			if drain {
				drainCommand()
			}
		} else {
			if drain {
				drainCommand()
			}
			part(partKubeadm)
			newKubeadm()
			for _, name := range configMaps() {
				do("%s  # until both answer %d times in a row, <= %s", strings.Join(allowedArgv(name), " "), allowedTimes, allowedBound)
			}
			do("%s", strings.Join(kubeadmArgv(o.To, false), " "))
			s.Bound += workerBound + allowedBound
		}
		part(kubelet)
		do("%s", strings.Join(install(o.To, "kubelet"), " "))
		do("%s", strings.Join(install(o.To, "kubectl"), " "))
		do("%s", strings.Join(restartArgv(), " "))
		s.Bound += kubeletBound
		if drain {
			part(partUncordon)
			do("kubectl uncordon %s  # by the API", p)
			s.Bound += apiBound
		}
		steps = append(steps, s)
	}
	return steps
}

func drains(o Options, r clusters.Role) bool {
	return o.Drain == DrainAll || o.Drain == DrainWorkers && r == clusters.Worker
}

// install puts a staged program in place. install(1) unlinks the old file
// first, so that one that is running goes on running.
func install(to, name string) []string {
	return []string{"install", "-m", "0755", staged(to, name), "/usr/bin/" + name}
}

func kubeadmArgv(to string, apply bool) []string {
	if apply {
		return []string{"kubeadm", "upgrade", "apply", to, "--yes", "--config", configPath(to)}
	}
	return []string{"kubeadm", "upgrade", "node", "--config", configPath(to)}
}

func restartArgv() []string { return []string{"systemctl", "restart", "kubelet"} }

// allowedTimes is how often in a row the API must let a worker read kubeadm's
// ConfigMaps. Right after the upgrade of a control plane its authorizer can
// refuse for a moment ("no relationship found between node and this object",
// https://github.com/kubernetes/kubernetes/issues/78907), and kubeadm reads one
// of them without trying again. kubeadm's own tests wait for five in a row:
// kubernetes/kubeadm kinder/pkg/cluster/manager/actions/kubeadm-upgrade.go.
const allowedTimes = 5

func allowedArgv(name string) []string {
	return []string{
		"kubectl", "--kubeconfig=/etc/kubernetes/kubelet.conf", "--request-timeout=2s",
		"get", "--raw=/api/v1/namespaces/kube-system/configmaps/" + name,
	}
}

// configMaps are those that kubeadm reads on a worker.
func configMaps() []string { return []string{"kubeadm-config", "kubelet-config"} }

// run is one call of Run.
type run struct {
	*kubeadm
	env   Env
	api   *api
	pub   *publisher
	steps []Step
	nodes map[string]clusters.Node // by place
}

// Run implements Strategy.
// Preload implements Preloader.
func (k *kubeadm) Preload(ctx context.Context, env Env) (string, error) {
	places := Places(env.Cluster.Nodes())
	if err := Check(places, env.Options); err != nil {
		return "", err
	}
	r := &run{kubeadm: k, env: env, steps: k.Steps(places, env.Options)}
	return r.prepare(ctx)
}

// Run implements Strategy.
func (k *kubeadm) Run(ctx context.Context, env Env) (err error) {
	r := &run{kubeadm: k, env: env, nodes: map[string]clusters.Node{}, pub: newPublisher(env.Publish)}
	places := Places(env.Cluster.Nodes())
	if err := Check(places, env.Options); err != nil {
		return err
	}
	for _, n := range env.Cluster.Nodes() {
		r.nodes[clusters.Place(n)] = n
	}
	r.steps = k.Steps(places, env.Options)
	open := openAPI
	if k.openAPI != nil {
		open = k.openAPI
	}
	if r.api, err = open(env.Cluster); err != nil {
		return err
	}
	to := env.Options.To
	versions, err := r.versions(ctx)
	if err != nil {
		return err
	}
	if err := checkOrder(places, r.steps, versions, to); err != nil {
		return fmt.Errorf("upgrade to %s: %w", to, err)
	}

	outcome := Failed
	r.publish(Phase{Path: PhaseWhole, State: Began, Seen: "kubelets at " + spread(versions)})
	defer func() {
		seen := "every node at " + to
		if err != nil {
			seen = oneLine(err)
		}
		r.publish(Phase{Path: PhaseWhole, State: Ended, Outcome: outcome, Seen: seen})
		r.pub.flush()
	}()

	runs := make([]*stepRun, len(r.steps))
	done := 0
	for i, s := range r.steps {
		if runs[i], err = r.newStep(s); err != nil {
			return err
		}
		defer runs[i].probes.close()
		if versions[s.Place] == to { // else it is not done, whatever else
			if runs[i].done = runs[i].atTarget(ctx); runs[i].done != "" {
				done++
			}
		}
	}
	if err := r.prepared(ctx, done == len(runs)); err != nil {
		return err
	}
	outcome = Skipped
	for _, s := range runs {
		o, err := s.toEnd(ctx)
		if err != nil {
			outcome = o
			return err
		}
		if o != Skipped {
			outcome = Proceeded
		}
	}
	return nil
}

// prepared is the phase before the first step.
func (r *run) prepared(ctx context.Context, nothing bool) error {
	r.publish(Phase{Path: PhasePrepare, State: Began, Seen: "looking at what the nodes have"})
	if nothing {
		r.publish(Phase{Path: PhasePrepare, State: Ended, Outcome: Skipped, Seen: "every node is at the target"})
		return nil
	}
	r.env.say("upgrade: bringing images and binaries of %s onto the nodes", r.env.Options.To)
	seen, err := r.prepare(ctx)
	if err != nil {
		err = fmt.Errorf("prepare the nodes for %s: %w", r.env.Options.To, err)
		r.publish(Phase{Path: PhasePrepare, State: Ended, Outcome: Failed, Seen: oneLine(err)})
		return err
	}
	r.publish(Phase{Path: PhasePrepare, State: Ended, Outcome: Proceeded, Seen: seen})
	return nil
}

func (r *run) publish(p Phase) {
	r.pub.add(p.stamped())
}

// versions are the kubelets' versions, by place.
func (r *run) versions(ctx context.Context) (map[string]string, error) {
	return kubeletVersions(ctx, r.api, r.nodes)
}

func kubeletVersions(ctx context.Context, a *api, nodes map[string]clusters.Node) (map[string]string, error) {
	var list *corev1.NodeList
	err := a.until(ctx, "list the nodes", func(ctx context.Context, c kubernetes.Interface) (err error) {
		list, err = c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	by := map[string]string{}
	for _, n := range list.Items {
		by[n.Name] = n.Status.NodeInfo.KubeletVersion
	}
	out := map[string]string{}
	for place, n := range nodes {
		if n.Role() == clusters.LoadBalancer {
			continue
		}
		v, ok := by[n.Name()]
		if !ok {
			return nil, fmt.Errorf("%s (%s) is not a node of the cluster's API: %w", n.Name(), place, clusters.ErrNotFound)
		}
		out[place] = v
	}
	return out, nil
}

func spread(versions map[string]string) string {
	count := map[string]int{}
	for _, v := range versions {
		count[v]++
	}
	var parts []string
	for _, v := range sortedKeys(count) {
		parts = append(parts, fmt.Sprintf("%s (%d)", v, count[v]))
	}
	return strings.Join(parts, ", ")
}

// oneLine makes a message fit for Phase.Seen.
func oneLine(err error) string {
	const most = 500
	s := strings.Join(strings.Fields(err.Error()), " ")
	if len(s) > most {
		s = "... " + s[len(s)-most:] // the end says what went wrong
	}
	return s
}

// newStep makes the run of one step; nothing is asked of the node yet.
func (r *run) newStep(s Step) (*stepRun, error) {
	n := r.nodes[s.Place]
	files, ok := n.(clusters.Files)
	if !ok {
		return nil, fmt.Errorf("%s cannot read files (capability %s)", n.Name(), clusters.CapFiles)
	}
	exec, ok := n.(clusters.Execer)
	if !ok {
		return nil, fmt.Errorf("%s cannot run commands (capability %s)", n.Name(), clusters.CapExec)
	}
	var p prober
	var err error
	if r.kubeadm.probes != nil {
		p, err = r.kubeadm.probes(r.env.Cluster, n, r.api)
	} else {
		p, err = newProbes(r.env.Cluster, n, r.api)
	}
	if err != nil {
		return nil, err
	}
	to := r.env.Options.To
	want := map[string]string{kubelet: to}
	var pods []string
	if n.Role() == clusters.ControlPlane {
		pods = staticPods()
		for _, c := range pods {
			want[c] = to
		}
		want[etcd] = r.env.Targets.Etcd()
	}
	return &stepRun{
		run: r, step: s, node: n, files: files, exec: exec, probes: p, pods: pods, out: io.Discard,
		track: newTracker(s, n.Name(), want, r.publish), want: want,
		drain: &drainer{api: r.api, run: r.env.Cluster.Run(), out: io.Discard},
	}, nil
}

// uncordonedAfter takes back our cordon when the step ends in whatever way.
func (s *stepRun) uncordonedAfter(ctx context.Context, err error) error {
	if !s.cordoned {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiBound)
	defer cancel()
	if _, uerr := s.drain.uncordon(ctx, s.node.Name()); uerr != nil {
		return errors.Join(err, fmt.Errorf("%w (run: kubectl uncordon %s)", uerr, s.node.Name()))
	}
	s.cordoned = false
	return err
}
