package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/semver"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

const (
	// LabelPool is the label of the Node objects of workers that an upgrade added
	// beside those that the cluster was made with; its value says what for. It is how
	// a run finds what one before it has left.
	LabelPool = "gameday.pool"
	poolSurge = "surge"
	poolGreen = "green-" // and the version
)

// How long we wait for machines.
const (
	// machineBound is for a new worker to be Ready: 10 to 15 s on two idle cores.
	machineBound = 5 * time.Minute
	// removalBound is for one to be gone.
	removalBound = 3 * time.Minute
)

// poolRun is one call of Run of a strategy that replaces workers.
type poolRun struct {
	*run
	pool clusters.Pool

	asking sync.Mutex // Env.Blocked is asked one thing at a time

	mu  sync.Mutex
	did bool // something, in any step
}

// openPool begins a run on a cluster whose workers can be replaced.
func openPool(k *kubeadm, env Env) (*poolRun, error) {
	pool, ok := env.Cluster.(clusters.Pool)
	if !ok {
		return nil, fmt.Errorf("workers of cluster %s cannot be added and removed (provider %s)", env.Cluster.Name(), env.Cluster.Provider())
	}
	open := openAPI
	if k.openAPI != nil {
		open = k.openAPI
	}
	a, err := open(env.Cluster)
	if err != nil {
		return nil, err
	}
	return &poolRun{run: &run{kubeadm: k, env: env, api: a, pub: newPublisher(env.Publish)}, pool: pool}, nil
}

// member is a worker's place, with what is there.
type member struct {
	place Place
	// machine is nil if there is none; node is nil if it has not joined.
	machine clusters.Node
	node    *corev1.Node
}

// at says whether it is there, at a version and Ready.
func (m member) at(version string) bool {
	return m.machine != nil && m.node != nil && m.node.Status.NodeInfo.KubeletVersion == version && ready(m.node) == string(corev1.ConditionTrue)
}

// members are the workers as they are now: those that the cluster was made with, and
// those that an upgrade added for a purpose. What a run left of a machine that never
// joined is removed. Places of the former may be empty, if a run ended between the
// removal of one and the coming of the next; it takes another one after it, own or
// added, to be missed.
func (r *poolRun) members(ctx context.Context, purpose string) (own, added []member, err error) {
	var list *corev1.NodeList
	if err := r.api.until(ctx, "list the nodes", func(ctx context.Context, c kubernetes.Interface) (err error) {
		list, err = c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err
	}); err != nil {
		return nil, nil, err
	}
	joined := map[int]member{}
	var half []clusters.Node
	first := -1 // index of those that were added
	base := -1  // and of the pool that is there, if it came in the place of another
	for _, n := range clusters.ByRole(r.env.Cluster.Nodes(), clusters.Worker) {
		i := slices.IndexFunc(list.Items, func(k corev1.Node) bool { return k.Name == n.Name() })
		if i < 0 {
			half = append(half, n)
			continue
		}
		m := member{place: Place{clusters.Worker, n.Index()}, machine: n, node: &list.Items[i]}
		if is := m.node.Labels[LabelPool]; is != purpose {
			joined[n.Index()] = m
			if base < 0 && strings.HasPrefix(is, poolGreen) {
				base = n.Index()
			}
			continue
		}
		added = append(added, m)
		if first < 0 {
			first = n.Index()
		}
	}
	last := first - 1
	for i := range joined {
		last = max(last, i)
	}
	for _, n := range half {
		r.env.say("upgrade: removing %s, which an earlier run made and which never joined", n.Name())
		if err := r.pool.RemoveWorker(ctx, n); err != nil {
			return nil, nil, err
		}
		// One that was to be added comes before any of the others goes.
		if first < 0 && r.env.Options.MaxSurge == 0 {
			last = max(last, n.Index())
		}
	}
	for i := max(base, 0); i <= last; i++ {
		m, ok := joined[i]
		if !ok {
			m = member{place: Place{clusters.Worker, i}}
		}
		own = append(own, m)
	}
	return own, added, nil
}

// member is what is in a place now.
func (r *poolRun) member(ctx context.Context, p Place) (member, error) {
	m := member{place: p}
	for _, n := range r.env.Cluster.Nodes() {
		if n.Role() == p.Role && n.Index() == p.Index {
			m.machine = n
		}
	}
	if m.machine == nil {
		return m, nil
	}
	err := r.api.until(ctx, "look at "+m.machine.Name(), func(ctx context.Context, c kubernetes.Interface) error {
		list, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		m.node = nil
		if i := slices.IndexFunc(list.Items, func(k corev1.Node) bool { return k.Name == m.machine.Name() }); i >= 0 {
			m.node = &list.Items[i]
		}
		return nil
	})
	return m, err
}

// controlPlanes upgrades them in place by the strategy kubeadm, whose phases are
// published as they are, but for the whole, which is ours.
func (r *poolRun) controlPlanes(ctx context.Context, places []string) (Outcome, error) {
	r.pub.flush()
	if len(places) == 0 {
		r.publish(Phase{Path: PhasePrepare, State: Began, Seen: "no control plane is to be upgraded"})
		r.publish(Phase{Path: PhasePrepare, State: Ended, Outcome: Skipped, Seen: "workers bring what they need"})
		return Skipped, nil
	}
	outcome := Failed
	inner := r.env
	inner.Options.Nodes = places
	inner.Publish = func(p Phase) {
		if p.Path != PhaseWhole {
			r.env.Publish(p)
		} else if p.State == Ended {
			outcome = p.Outcome
		}
	}
	err := r.kubeadm.Run(ctx, inner)
	r.acted(outcome)
	return outcome, err
}

// acted remembers that something was done.
func (r *poolRun) acted(o Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.did = r.did || o == Proceeded
}

// refuse looks whether the version skew policy allows the upgrade.
func (r *poolRun) refuse(ctx context.Context, places []Place, own []member, steps []Step) error {
	versions := map[string]string{}
	r.nodes = map[string]clusters.Node{}
	for _, n := range clusters.ByRole(r.env.Cluster.Nodes(), clusters.ControlPlane) {
		r.nodes[clusters.Place(n)] = n
	}
	planes, err := r.versions(ctx)
	if err != nil {
		return err
	}
	for place, v := range planes {
		versions[place] = v
	}
	for _, m := range own {
		if m.node != nil && semver.IsValid(m.node.Status.NodeInfo.KubeletVersion) {
			versions[m.place.String()] = m.node.Status.NodeInfo.KubeletVersion
		}
	}
	var placed []Step
	for _, s := range steps {
		if s.Place != "" {
			placed = append(placed, s)
		}
	}
	if err := checkOrder(places, placed, versions, r.env.Options.To); err != nil {
		return fmt.Errorf("upgrade to %s: %w", r.env.Options.To, err)
	}
	return nil
}

// attempts runs a step until it proceeded, or until nobody wants it to be tried again.
// try returns what it saw.
func (r *poolRun) attempts(ctx context.Context, s Step, node string, try func(ctx context.Context, out io.Writer) (Outcome, string, error)) (Outcome, error) {
	out := io.Discard
	if r.env.Output != nil {
		out = &lockedWriter{w: r.env.Output(s.Phase)}
	}
	for n := 1; ; n++ {
		began := time.Now()
		r.publish(Phase{Path: s.Phase, Node: node, State: Began, At: began, Seen: fmt.Sprintf("attempt %d", n)})
		r.env.say("%s: attempt %d (<= %s)", s.Phase, n, s.Bound)
		o, seen, err := try(ctx, out)
		if err != nil {
			seen = oneLine(err)
			fmt.Fprintf(out, "%s gameday: %v\n", time.Now().UTC().Format(time.RFC3339Nano), err)
		}
		r.publish(Phase{Path: s.Phase, Node: node, State: Ended, Outcome: o, Seen: seen})
		r.pub.flush()
		switch {
		case err == nil:
			r.acted(o)
			r.env.say("%s: %s in %s", s.Phase, o, time.Since(began).Round(100*time.Millisecond))
			return o, nil
		case ctx.Err() != nil:
			return o, fmt.Errorf("%s: %w", s.Phase, because(ctx, err))
		case r.env.Blocked == nil:
			return o, fmt.Errorf("%s: %s: %w", s.Phase, o, err)
		}
		r.asking.Lock()
		err = r.env.Blocked(ctx, s, o, err)
		r.asking.Unlock()
		if err != nil {
			return o, fmt.Errorf("%s: %s: %w", s.Phase, o, err)
		}
	}
}

// part is a phase inside of a step: it ends as do says.
func (r *poolRun) part(path, node, begins string, do func() (Outcome, string, error)) error {
	r.publish(Phase{Path: path, Node: node, State: Began, Seen: begins})
	o, seen, err := do()
	if err != nil {
		seen = oneLine(err)
	}
	r.publish(Phase{Path: path, Node: node, State: Ended, Outcome: o, Seen: seen})
	r.pub.flush() // faults that are bound to it are there before the next begins
	return err
}

// drain empties a worker. What it cordons stays so until undrained.
func (r *poolRun) drain(ctx context.Context, m member, out io.Writer) (Outcome, string, error) {
	name, bound := m.machine.Name(), drainBound(r.env.Options)
	d := &drainer{api: r.api, run: r.env.Cluster.Run(), out: out}
	r.env.say("draining %s (<= %s)", m.place, bound)
	if err := d.cordon(ctx, name); err != nil {
		return Blocked, "", err
	}
	pods, bare, err := d.pods(ctx, name)
	if err != nil {
		return Blocked, "", err
	}
	if len(bare) > 0 {
		return Blocked, "", fmt.Errorf("drain of %s: %s would be lost, no controller brings them back; delete them, or give them one", name, strings.Join(bare, ", "))
	}
	err = d.evict(ctx, name, pods, bound)
	if err != nil && ctx.Err() == nil && r.env.Options.DrainExceeded == ExceededRemove {
		return Blocked, oneLine(err) + "; it is removed with them", nil
	}
	if err != nil {
		return Blocked, "", err
	}
	return Proceeded, fmt.Sprintf("%d pods are gone; what is left are pods of DaemonSets", len(pods)), nil
}

// undrained takes our cordon back from a worker that is there still, whatever ended.
func (r *poolRun) undrained(ctx context.Context, p Place, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiBound)
	defer cancel()
	m, err := r.member(ctx, p)
	if err != nil || m.node == nil {
		return errors.Join(cause, err)
	}
	d := &drainer{api: r.api, run: r.env.Cluster.Run(), out: io.Discard}
	if _, err := d.uncordon(ctx, m.machine.Name()); err != nil {
		return errors.Join(cause, fmt.Errorf("%w (run: kubectl uncordon %s)", err, m.machine.Name()))
	}
	return cause
}

func drainBound(o Options) time.Duration {
	if o.DrainTimeout > 0 {
		return o.DrainTimeout
	}
	return defaultDrain
}

// soak does nothing for a while.
func soak(ctx context.Context, d time.Duration) (Outcome, string, error) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return Proceeded, "it is over", nil
	case <-ctx.Done():
		return Failed, "", context.Cause(ctx)
	}
}

// remove takes a worker's machine and Node object away.
func (r *poolRun) remove(ctx context.Context, m member) (Outcome, string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, removalBound, fmt.Errorf("it was not removed within %s", removalBound))
	defer cancel()
	began := time.Now()
	if err := r.pool.RemoveWorker(ctx, m.machine); err != nil {
		return Failed, "", err
	}
	return Proceeded, fmt.Sprintf("machine and Node are gone after %s", time.Since(began).Round(100*time.Millisecond)), nil
}

// joined is the part in which a new worker comes into a place.
func (r *poolRun) joined(ctx context.Context, path string, w clusters.NewWorker) error {
	to := r.env.Options.To
	w.Image, w.Prepare = r.env.Targets.NodeImage(), r.env.Prepare
	return r.part(path, "", "making a machine of "+to, func() (Outcome, string, error) {
		r.env.say("%s: a machine of %s joins (<= %s)", path, to, machineBound)
		ctx, cancel := context.WithTimeoutCause(ctx, machineBound, fmt.Errorf("it did not join within %s", machineBound))
		defer cancel()
		began := time.Now()
		n, err := r.pool.AddWorker(ctx, w)
		if err != nil {
			return Failed, "", err
		}
		took := time.Since(began).Round(100 * time.Millisecond)
		m, err := r.member(ctx, Place{clusters.Worker, w.Index})
		if err != nil {
			return Failed, "", err
		}
		if !m.at(to) {
			return Failed, "", fmt.Errorf("%s joined, but it is not Ready at %s: the target's node image is of another version", n.Name(), to)
		}
		return Proceeded, fmt.Sprintf("%s is Ready at %s after %s", n.Name(), to, took), nil
	})
}

// fill brings a worker of the target into a place. One that is there is kept; what is
// left of one that never joined goes first.
func (r *poolRun) fill(ctx context.Context, path string, p Place, w clusters.NewWorker) error {
	m, err := r.member(ctx, p)
	if err != nil || m.at(r.env.Options.To) {
		return err
	}
	if m.machine != nil {
		if err := r.pool.RemoveWorker(ctx, m.machine); err != nil {
			return err
		}
	}
	return r.joined(ctx, path, w)
}

// kept are the labels of a worker that its successor gets: all but those that the
// kubelet sets itself, or may not set
// (k8s.io/kubernetes@v1.37.0 pkg/kubelet/apis/well_known_labels.go).
func kept(n *corev1.Node, run string) map[string]string {
	out := map[string]string{clusters.LabelRun: run}
	if n == nil {
		return out // nothing is known of it any more
	}
	maps.Copy(out, n.Labels)
	maps.DeleteFunc(out, func(key, _ string) bool {
		domain, _, ok := strings.Cut(key, "/")
		own := ok && (domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") || domain == "k8s.io" || strings.HasSuffix(domain, ".k8s.io"))
		return own && key != corev1.LabelTopologyZone && key != corev1.LabelTopologyRegion
	})
	return out
}

// splitPlaces are the places to upgrade: control planes, which are upgraded in place,
// and workers, which are replaced.
func splitPlaces(places []Place, o Options) (planes []string, workers []Place) {
	for _, p := range ordered(places, o) {
		if p.Role == clusters.ControlPlane {
			planes = append(planes, p.String())
		} else {
			workers = append(workers, p)
		}
	}
	return planes, workers
}

// planeSteps are the steps of the control planes.
func planeSteps(k *kubeadm, places []Place, o Options) []Step {
	planes, _ := splitPlaces(places, o)
	if len(planes) == 0 {
		return nil
	}
	o.Nodes = planes
	return k.Steps(places, o)
}

// firstFree is the first index after those of all workers.
func firstFree(places []Place) int {
	free := 0
	for _, p := range places {
		if p.Role == clusters.Worker {
			free = max(free, p.Index+1)
		}
	}
	return free
}

// preloadPlanes brings onto the control planes what they need. New workers are made of
// an image that holds it.
func preloadPlanes(ctx context.Context, k *kubeadm, env Env) (string, error) {
	planes, _ := splitPlaces(Places(env.Cluster.Nodes()), env.Options)
	if len(planes) == 0 {
		return "new workers bring what they need", nil
	}
	env.Options.Nodes = planes
	return k.Preload(ctx, env)
}
