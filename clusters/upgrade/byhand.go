package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

// binaries upgrades as a person does who has no kubeadm: component after component, on
// one node after the other, the program is put in place, the old process ended and the
// new one started. It is for nodes whose components are plain programs
// (clusters.Components), not for those with static pods.
type binaries struct {
	// Replaced in tests; nil means the real ones.
	openAPI func(clusters.Cluster) (*api, error)
	probes  func(clusters.Cluster, clusters.Node, *api) (prober, error)
	says    func(ctx context.Context, program string) (string, error)
}

// usualOrder is that of the version skew policy, with etcd first as kubeadm has it:
// https://kubernetes.io/releases/version-skew-policy/#supported-component-upgrade-order
func usualOrder() []string { return []string{etcd, apiServer, controllerManager, scheduler, kubelet} }

// stopping begins the name of a step that stops a component long before its turn.
const stopping = "stop-"

const (
	// stopBound is for a component to end: 30 s after SIGTERM, as a static pod has
	// them, and as many after SIGKILL.
	stopBound = 90 * time.Second
	// installBound is for 150 MB to be copied, where they cannot be linked.
	installBound = time.Minute
)

// handStep is a step with what it is about.
type handStep struct {
	Step
	role      clusters.Role
	component string
	stop      bool // only stop it
}

// Steps implements Strategy.
func (b *binaries) Steps(places []Place, o Options) []Step {
	var out []Step
	for _, s := range b.steps(places, o) {
		out = append(out, s.Step)
	}
	return out
}

func (*binaries) steps(places []Place, o Options) []handStep {
	var out []handStep
	nodes := ordered(places, o)
	each := func(component string, do func(s *handStep, say func(format string, args ...any))) {
		for _, p := range nodes {
			if p.Role != clusters.ControlPlane && component != kubelet {
				continue
			}
			s := handStep{role: p.Role, component: component}
			s.Place, s.Phase = p.String(), PhaseWhole+"/"+p.String()+"/"+component
			do(&s, func(format string, args ...any) { s.Commands = append(s.Commands, fmt.Sprintf(format, args...)) })
			out = append(out, s)
		}
	}
	for _, c := range o.StopFirst {
		each(c, func(s *handStep, say func(string, ...any)) {
			s.stop, s.Phase, s.Bound = true, PhaseWhole+"/"+s.Place+"/"+stopping+c, stopBound
			say("stop %s  # until its turn", c)
		})
	}
	order := o.Order
	if len(order) == 0 {
		order = usualOrder()
	}
	for _, c := range order {
		each(c, func(s *handStep, say func(string, ...any)) {
			drain := c == kubelet && drains(o, s.role)
			s.Bound = installBound + stopBound + settleBound
			if drain {
				s.Parts = []string{s.Phase + "/" + partDrain, s.Phase + "/" + partUncordon}
				say("kubectl drain %s --ignore-daemonsets --delete-emptydir-data --timeout=%s  # by the API", s.Place, drainBound(o))
				s.Bound += drainBound(o) + 2*apiBound
			}
			if c == etcd {
				say("until every other member is healthy, <= %s", etcdCall)
				s.Bound += etcdCall
			}
			say("install %s of %s  # the old one goes on running", c, o.To)
			say("stop %s", c)
			if c == controllerManager || c == scheduler {
				say("start %s  # until it serves and somebody leads, <= %s", c, 2*settleBound)
				s.Bound += settleBound
			} else {
				say("start %s  # until it serves, <= %s", c, settleBound)
			}
			if drain {
				say("kubectl uncordon %s  # by the API", s.Place)
			}
		})
	}
	return out
}

// Check implements Checker.
func (*binaries) Check(places []Place, o Options) []error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(o.Order) > 0 {
		for _, c := range usualOrder() {
			if n := count(o.Order, c); n != 1 {
				wrong("%s: %s is named %d times, not once", OptionOrder, c, n)
			}
		}
		first := slices.Index(o.Order, apiServer)
		for i, c := range o.Order {
			switch {
			case !slices.Contains(usualOrder(), c):
				wrong("%s: %q is no component; there are %s", OptionOrder, c, strings.Join(usualOrder(), ", "))
			case c != etcd && i < first:
				wrong("%s: %s comes before %s, than which it must not be newer (https://kubernetes.io/releases/version-skew-policy/)", OptionOrder, c, apiServer)
			}
		}
	}
	for _, c := range o.StopFirst {
		if c != controllerManager && c != scheduler {
			wrong("%s: %q: only %s and %s can be done without meanwhile", OptionStopFirst, c, controllerManager, scheduler)
		}
		if count(o.StopFirst, c) > 1 {
			wrong("%s: %s is named twice", OptionStopFirst, c)
		}
	}
	chosen := ordered(places, o)
	for _, p := range places {
		if p.Role == clusters.ControlPlane && !slices.Contains(chosen, p) {
			wrong("nodes: %s is not among them: a component is upgraded on all control planes before the next one is", p)
		}
	}
	return errs
}

func count(list []string, s string) int {
	n := 0
	for _, v := range list {
		if v == s {
			n++
		}
	}
	return n
}

// programs are Targets that have what this strategy needs.
type programs interface {
	Program(component string) (string, error)
}

// handRun is one call of Run.
type handRun struct {
	*binaries
	env      Env
	api      *api
	programs map[string]string // by component; of the kubelet none
	nodes    map[string]clusters.Node
	probers  map[string]prober
	out      io.Writer // of the step under way
	drain    *drainer
}

// Run implements Strategy.
func (b *binaries) Run(ctx context.Context, env Env) (err error) {
	all := env.Cluster.Nodes()
	places := Places(all)
	if err := errors.Join(append(b.Check(places, env.Options), Check(places, env.Options))...); err != nil {
		return err
	}
	steps := b.steps(places, env.Options)
	r := &handRun{binaries: b, env: env, nodes: map[string]clusters.Node{}, probers: map[string]prober{}, programs: map[string]string{}, out: io.Discard}
	for _, n := range all {
		r.nodes[clusters.Place(n)] = n
	}
	if err := r.able(steps); err != nil {
		return err
	}
	open := openAPI
	if b.openAPI != nil {
		open = b.openAPI
	}
	if r.api, err = open(env.Cluster); err != nil {
		return err
	}
	r.drain = &drainer{api: r.api, run: env.Cluster.Run(), out: io.Discard}
	probes := newProcesses
	if b.probes != nil {
		probes = b.probes
	}
	for _, s := range steps {
		if r.probers[s.Place] != nil {
			continue
		}
		p, err := probes(env.Cluster, r.nodes[s.Place], r.api)
		if err != nil {
			return err
		}
		defer p.close()
		r.probers[s.Place] = p
	}
	versions, err := kubeletVersions(ctx, r.api, r.nodes)
	if err != nil {
		return err
	}
	if err := r.skew(ctx, versions); err != nil {
		return fmt.Errorf("upgrade to %s: %w", env.Options.To, err)
	}
	outcome := Failed
	r.env.publish(Phase{Path: PhaseWhole, State: Began, Seen: "kubelets at " + spread(versions)})
	defer func() {
		seen := "every component seen at " + env.Options.To
		if err != nil {
			seen = oneLine(err)
		}
		r.env.publish(Phase{Path: PhaseWhole, State: Ended, Outcome: outcome, Seen: seen})
	}()
	if err := r.prepared(ctx, steps); err != nil {
		return err
	}
	outcome = Skipped
	for _, s := range steps {
		o, err := r.toEnd(ctx, s)
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

// able refuses nodes that this is not for.
func (r *handRun) able(steps []handStep) error {
	var errs []error
	for _, s := range steps {
		n := r.nodes[s.Place]
		switch {
		case clusters.Has(n, clusters.CapKubelet):
			errs = append(errs, fmt.Errorf("%s runs its control plane as static pods (capability %s): this strategy is for components that are plain programs", n.Name(), clusters.CapKubelet))
		case !clusters.Has(n, clusters.CapComponents):
			errs = append(errs, fmt.Errorf("the components of %s cannot be replaced one by one (capability %s)", n.Name(), clusters.CapComponents))
		}
	}
	return errors.Join(errs...)
}

// skew refuses what the version skew policy forbids: an API server more than a minor
// version older than the target, or anything that is newer.
func (r *handRun) skew(ctx context.Context, kubelets map[string]string) error {
	to := r.env.Options.To
	var errs []error
	for place, v := range kubelets {
		if semver.Compare(v, to) > 0 {
			errs = append(errs, fmt.Errorf("the kubelet of %s is %s already, newer than the target", place, v))
		}
	}
	for place, p := range r.probers {
		if !isControlPlane(place) {
			continue
		}
		s, err := p.probe(ctx, apiServer)
		switch {
		case err != nil || s.version == "": // its turn will come
		case semver.Compare(s.version, to) > 0:
			errs = append(errs, fmt.Errorf("the API server of %s is %s already, newer than the target", place, s.version))
		case !withinOneMinor(s.version, to):
			errs = append(errs, fmt.Errorf("the API server of %s is %s: it is upgraded one minor version at a time", place, s.version))
		}
	}
	return errors.Join(errs...)
}

// prepared is the phase before the first step: the programs say that they are what is
// to be installed.
func (r *handRun) prepared(ctx context.Context, steps []handStep) error {
	r.env.publish(Phase{Path: PhasePrepare, State: Began, Seen: "looking at the programs to install"})
	err := func() error {
		from, ok := r.env.Targets.(programs)
		if !ok {
			return errors.New("the targets hold no programs of a control plane")
		}
		ask := says
		if r.says != nil {
			ask = r.says
		}
		for _, s := range steps {
			c := s.component
			if _, known := r.programs[c]; known || c == kubelet {
				continue
			}
			program, err := from.Program(c)
			if err != nil {
				return err
			}
			version, err := ask(ctx, program)
			if err != nil {
				return err
			}
			if version != r.want(c) {
				return fmt.Errorf("%s says %s, not %s", program, version, r.want(c))
			}
			r.programs[c] = program
		}
		return nil
	}()
	if err != nil {
		err = fmt.Errorf("prepare the programs of %s: %w", r.env.Options.To, err)
		r.env.publish(Phase{Path: PhasePrepare, State: Ended, Outcome: Failed, Seen: oneLine(err)})
		return err
	}
	r.env.publish(Phase{Path: PhasePrepare, State: Ended, Outcome: Proceeded, Seen: fmt.Sprintf("%d programs say that they are of %s, etcd of %s", len(r.programs), r.env.Options.To, r.want(etcd))})
	return nil
}

// want is the version that a component shall reach.
func (r *handRun) want(component string) string {
	if component == etcd {
		return r.env.Targets.Etcd()
	}
	return r.env.Options.To
}

// toEnd runs a step until it proceeded, or until nobody wants it to be tried again.
func (r *handRun) toEnd(ctx context.Context, s handStep) (Outcome, error) {
	n := r.nodes[s.Place]
	now, err := r.look(ctx, s)
	if done := r.done(s, now); err == nil && done {
		if s.component == kubelet { // an earlier run may have been cut off before it
			ours, err := r.drain.uncordon(ctx, n.Name())
			if err != nil {
				return Failed, err
			}
			if ours {
				now.seen += "; uncordoned now, an earlier run had left it cordoned"
			}
		}
		r.env.publish(Phase{Path: s.Phase, Node: n.Name(), State: Began, Seen: now.seen})
		r.env.publish(Phase{Path: s.Phase, Node: n.Name(), State: Ended, Outcome: Skipped, Seen: now.seen})
		return Skipped, nil
	}
	if r.env.Output != nil {
		r.out = r.env.Output(s.Phase)
		r.drain.out = r.out
	}
	for try := 1; ; try++ {
		began := time.Now()
		r.env.publish(Phase{Path: s.Phase, Node: n.Name(), State: Began, At: began, Seen: fmt.Sprintf("attempt %d; %s", try, seenOr(now, err))})
		r.env.say("%s: attempt %d (<= %s)", s.Phase, try, s.Bound)
		o, seen, cause := r.attempt(ctx, s)
		took := time.Since(began).Round(time.Millisecond)
		if cause != nil {
			seen = oneLine(cause)
		}
		r.env.publish(Phase{Path: s.Phase, Node: n.Name(), State: Ended, Outcome: o, Seen: fmt.Sprintf("%s, after %s", seen, took)})
		switch {
		case cause == nil:
			r.env.say("%s: done in %s", s.Phase, took)
			return o, nil
		case ctx.Err() != nil:
			return o, fmt.Errorf("%s: %w", s.Phase, because(ctx, cause))
		case r.env.Blocked == nil:
			return o, fmt.Errorf("%s: %s: %w", s.Phase, o, cause)
		}
		if err := r.env.Blocked(ctx, s.Step, o, cause); err != nil {
			return o, fmt.Errorf("%s: %s: %w", s.Phase, o, err)
		}
		now, err = r.look(ctx, s)
	}
}

func seenOr(s sighting, err error) string {
	if err != nil {
		return oneLine(err)
	}
	return s.seen
}

func (r *handRun) look(ctx context.Context, s handStep) (sighting, error) {
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	return r.probers[s.Place].probe(ctx, s.component)
}

// done says whether a step has nothing to do.
func (r *handRun) done(s handStep, now sighting) bool {
	if s.stop { // the new one is not stopped any more
		return now.version == "" || now.version == r.want(s.component)
	}
	return now.well && now.version == r.want(s.component)
}

// attempt does the step once.
func (r *handRun) attempt(ctx context.Context, s handStep) (Outcome, string, error) {
	n := r.nodes[s.Place]
	hands := n.(clusters.Components) // able has looked
	if s.stop {
		if err := r.do(ctx, n, "stop "+s.component, stopBound, func(ctx context.Context) error { return hands.StopComponent(ctx, s.component) }); err != nil {
			return Failed, "", err
		}
		seen, err := r.until(ctx, s, stopBound, func(now sighting) bool { return now.version == "" && !now.well })
		if err != nil {
			return Failed, "", fmt.Errorf("%s was stopped, but %w", s.component, err)
		}
		return Proceeded, seen, nil
	}
	var gone []corev1.Pod
	if s.component == kubelet && drains(r.env.Options, s.role) {
		var err error
		if gone, err = r.emptied(ctx, s); err != nil {
			return Blocked, "", errors.Join(err, r.uncordon(ctx, n))
		}
	}
	o, seen, err := r.replace(ctx, s, hands)
	if s.component != kubelet || !drains(r.env.Options, s.role) {
		return o, seen, err
	}
	if err != nil {
		return o, "", errors.Join(err, r.uncordon(ctx, n))
	}
	if err := r.filled(ctx, s, gone); err != nil {
		return Failed, "", err
	}
	return o, seen, nil
}

// replace puts the new program in the place of the old one.
func (r *handRun) replace(ctx context.Context, s handStep, hands clusters.Components) (Outcome, string, error) {
	n, c, want := r.nodes[s.Place], s.component, r.want(s.component)
	if c == etcd {
		if err := r.othersWell(ctx, s.Place); err != nil {
			return Blocked, "", err
		}
	}
	if err := r.do(ctx, n, "install "+c+" "+want, installBound, func(ctx context.Context) error {
		return hands.InstallComponent(ctx, c, want, r.programs[c])
	}); err != nil {
		return Blocked, "", err
	}
	// What runs the target already (an attempt before came as far) is left running.
	if now, _ := r.look(ctx, s); now.version != want {
		if err := r.do(ctx, n, "stop "+c, stopBound, func(ctx context.Context) error { return hands.StopComponent(ctx, c) }); err != nil {
			return Failed, "", err
		}
	}
	started := time.Now()
	if err := r.do(ctx, n, "start "+c, stopBound, func(ctx context.Context) error { return hands.StartComponent(ctx, c) }); err != nil {
		return Failed, "", err
	}
	seen, err := r.until(ctx, s, settleBound, func(now sighting) bool { return now.well && now.version == want })
	if err != nil {
		return Failed, "", fmt.Errorf("%s of %s was started, but %w", c, want, err)
	}
	if c == controllerManager || c == scheduler {
		holder, err := r.led(ctx, c, started)
		if err != nil {
			return Failed, "", fmt.Errorf("%s of %s was started, but %w", c, want, err)
		}
		seen += "; " + holder + " leads"
	}
	return Proceeded, seen, nil
}

// led waits until somebody leads a component of which one does the work: the lease was
// renewed since a moment. Whoever finds a lease waits for its 15 s, however old it is
// (k8s.io/client-go@v0.37.0 tools/leaderelection/leaderelection.go, observedTime), so
// that a component that is healthy may do nothing yet.
func (r *handRun) led(ctx context.Context, component string, since time.Time) (holder string, err error) {
	last := errors.New("its lease was not looked at")
	err = poll(ctx, settleBound, callEvery, func(ctx context.Context) bool {
		last = r.api.once(ctx, func(ctx context.Context, c kubernetes.Interface) error {
			l, err := c.CoordinationV1().Leases(metav1.NamespaceSystem).Get(ctx, component, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if l.Spec.RenewTime == nil || l.Spec.HolderIdentity == nil || l.Spec.RenewTime.Before(&metav1.MicroTime{Time: since}) {
				return errors.New("its lease was not renewed since")
			}
			holder, _, _ = strings.Cut(*l.Spec.HolderIdentity, "_")
			return nil
		})
		return last == nil
	})
	if err != nil {
		return "", fmt.Errorf("within %s nobody was seen to lead: %w: %w", settleBound, last, err)
	}
	return holder, nil
}

// othersWell waits until every other member of etcd is healthy: to take one away while
// another one is may cost the majority.
func (r *handRun) othersWell(ctx context.Context, place string) error {
	why := ""
	err := poll(ctx, etcdCall, callEvery, func(ctx context.Context) bool {
		why = ""
		for other, p := range r.probers {
			if other == place || !isControlPlane(other) {
				continue
			}
			pctx, cancel := context.WithTimeout(ctx, probeBound)
			s, err := p.probe(pctx, etcd)
			cancel()
			if err != nil || !s.well {
				why = other + ": " + seenOr(s, err)
			}
		}
		return why == ""
	})
	if err != nil {
		return fmt.Errorf("another member of etcd is not healthy, so that this one is not taken away (%s): %w", why, err)
	}
	return nil
}

// until looks again and again until it is so. It gives what was seen then.
func (r *handRun) until(ctx context.Context, s handStep, bound time.Duration, so func(sighting) bool) (string, error) {
	last := "nothing was seen of it"
	err := poll(ctx, bound, probeEvery, func(ctx context.Context) bool {
		now, err := r.look(ctx, s)
		if ctx.Err() == nil {
			last = seenOr(now, err)
		}
		return err == nil && so(now)
	})
	if err != nil {
		return "", fmt.Errorf("within %s it was not seen so, last: %s: %w", bound, last, err)
	}
	return last, nil
}

// do is one thing done to a node, told in the step's file.
func (r *handRun) do(ctx context.Context, n clusters.Node, what string, bound time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("%s on %s did not end within %s", what, n.Name(), bound))
	defer cancel()
	began := time.Now()
	err := do(ctx)
	if err != nil && ctx.Err() != nil {
		err = because(ctx, err)
	}
	fmt.Fprintf(r.out, "%s %s# %s: %v after %s\n", began.UTC().Format(time.RFC3339Nano), n.Name(), what, errOr(err, errDone), time.Since(began).Round(time.Millisecond))
	return err
}

var errDone = errors.New("done")

// emptied is the part drain. It gives the pods that are gone.
func (r *handRun) emptied(ctx context.Context, s handStep) ([]corev1.Pod, error) {
	n, bound := r.nodes[s.Place], drainBound(r.env.Options)
	part := Phase{Path: s.Phase + "/" + partDrain, Node: n.Name()}
	if err := r.drain.cordon(ctx, n.Name()); err != nil {
		return nil, err
	}
	pods, bare, err := r.drain.pods(ctx, n.Name())
	if err != nil {
		return nil, err
	}
	part.State, part.Seen = Began, fmt.Sprintf("node is cordoned, %d pods to evict", len(pods))
	r.env.publish(part)
	if len(bare) > 0 {
		err = fmt.Errorf("drain of %s: %s would be lost, no controller brings them back; delete them, or give them one", n.Name(), strings.Join(bare, ", "))
	} else {
		err = r.drain.evict(ctx, n.Name(), pods, bound)
	}
	part.State, part.Outcome, part.Seen = Ended, Proceeded, fmt.Sprintf("%d pods are gone", len(pods))
	if err != nil {
		part.Outcome, part.Seen = Blocked, oneLine(err)
	}
	r.env.publish(part)
	return pods, err
}

// filled is the part uncordon. It also looks whether the pods that were evicted have
// left the Services: that is the controller manager's work.
func (r *handRun) filled(ctx context.Context, s handStep, evicted []corev1.Pod) error {
	n := r.nodes[s.Place]
	part := Phase{Path: s.Phase + "/" + partUncordon, Node: n.Name(), State: Began, Seen: "node is at the target and Ready"}
	r.env.publish(part)
	part.State, part.Outcome, part.Seen = Ended, Proceeded, "node takes pods again"
	ours, err := r.drain.uncordon(ctx, n.Name())
	switch {
	case err != nil:
		part.Outcome, part.Seen = Failed, oneLine(err)
	case !ours:
		part.Outcome, part.Seen = Skipped, "node was cordoned by somebody else before: left so"
	}
	if named, lerr := r.stillNamed(ctx, evicted); lerr != nil {
		part.Seen += "; EndpointSlices could not be read: " + oneLine(lerr)
	} else {
		part.Seen += fmt.Sprintf("; EndpointSlices name %d of the %d pods that are gone", named, len(evicted))
	}
	r.env.publish(part)
	return err
}

// stillNamed counts the pods that any EndpointSlice names.
func (r *handRun) stillNamed(ctx context.Context, pods []corev1.Pod) (int, error) {
	var list *discoveryv1.EndpointSliceList
	err := r.api.until(ctx, "list the EndpointSlices", func(ctx context.Context, c kubernetes.Interface) (err error) {
		list, err = c.DiscoveryV1().EndpointSlices(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
		return err
	})
	if err != nil {
		return 0, err
	}
	n := 0
	for _, p := range pods {
		if slices.ContainsFunc(list.Items, func(s discoveryv1.EndpointSlice) bool {
			return slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.TargetRef != nil && e.TargetRef.UID == p.UID })
		}) {
			n++
		}
	}
	return n, nil
}

// uncordon takes back our cordon after an attempt that did not get to its end.
func (r *handRun) uncordon(ctx context.Context, n clusters.Node) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiBound)
	defer cancel()
	if _, err := r.drain.uncordon(ctx, n.Name()); err != nil {
		return fmt.Errorf("%w (run: kubectl uncordon %s)", err, n.Name())
	}
	return nil
}
