package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
)

// LabelCanary is the label and the key of the taint of a canary: only pods that
// tolerate it land there, and those that select it nowhere else.
const LabelCanary = "gameday.canary"

const (
	phaseCanary  = PhaseWhole + "/canary"
	partRollBack = "roll-back"
	// wellBound is how long a cluster that something was just done to may take to be
	// well; wellEvery how often it is looked at meanwhile.
	wellBound = time.Minute
	wellEvery = 2 * time.Second
)

// blueGreen upgrades control planes in place and makes a new pool of workers beside
// the old one, as GKE does
// (https://cloud.google.com/kubernetes-engine/docs/concepts/node-pool-upgrade-strategies#blue-green-upgrade-strategy):
//
//  1. one worker of the new version, the canary, labelled and tainted, is watched for
//     the time of the soak;
//  2. the others of the new pool are added, and the canary takes all pods;
//  3. the old pool is cordoned, and drained Batch workers at a time, with a soak after
//     each;
//  4. after PoolSoak the old pool is removed.
//
// If anything is not well before the removal all is rolled back: the old pool takes
// pods again, and the new one is drained and removed. Control planes stay new.
//
// The new pool is in places after those of the old one, which are empty in the end.
type blueGreen struct {
	inPlace kubeadm
}

// greenOf is the value of LabelPool of the new pool: another upgrade has another.
func greenOf(o Options) string { return poolGreen + o.To }

func batches(workers []Place, o Options) [][]Place {
	size := max(1, o.Batch)
	var out [][]Place
	for len(workers) > 0 {
		n := min(size, len(workers))
		out, workers = append(out, workers[:n]), workers[n:]
	}
	return out
}

// Steps implements Strategy.
func (b *blueGreen) Steps(places []Place, o Options) []Step {
	_, old := splitPlaces(places, o)
	steps := planeSteps(&b.inPlace, places, o)
	if len(old) == 0 {
		return steps
	}
	green := greenPlaces(places, old)
	bound := drainBound(o)
	// What any of them may take to be undone.
	undo := time.Duration(len(old)) * (bound + 2*apiBound + removalBound)
	add := func(p Place) string { return fmt.Sprintf("add %s: a machine of %s, kubeadm join", p, o.To) }
	drain := func(p Place) string {
		return fmt.Sprintf("kubectl drain %s --ignore-daemonsets --delete-emptydir-data --timeout=%s  # by the API", p, bound)
	}
	canary := Step{
		Phase: phaseCanary, Place: green[0].String(), Bound: machineBound + o.Soak + wellBound + undo,
		Parts:    []string{phaseCanary + "/" + partJoin, phaseCanary + "/" + partSoak},
		Commands: []string{add(green[0]) + fmt.Sprintf(", with label and taint %s", LabelCanary), fmt.Sprintf("wait %s  # Ready, its pods Ready, all well", o.Soak)},
	}
	if o.CanaryLog != "" {
		canary.Commands = append(canary.Commands, fmt.Sprintf("journalctl -u kubelet -u containerd  # nothing matches %q", o.CanaryLog))
	}
	out := Step{Phase: phaseScaleOut, Bound: machineBound + undo}
	for _, p := range green[1:] {
		out.Parts = append(out.Parts, out.Phase+"/"+p.String())
		out.Commands = append(out.Commands, add(p))
	}
	out.Commands = append(out.Commands, fmt.Sprintf("kubectl taint node %s %s-  # by the API", green[0], LabelCanary))
	steps = append(steps, canary, out)
	for i, batch := range batches(old, o) {
		s := Step{Phase: fmt.Sprintf("%s/drain-%d", PhaseWhole, i+1), Bound: o.Soak + wellBound + undo}
		if i == 0 {
			s.Commands = append(s.Commands, "kubectl cordon  # the whole old pool, by the API")
		}
		for _, p := range batch {
			s.Parts = append(s.Parts, s.Phase+"/"+p.String())
			s.Commands = append(s.Commands, drain(p))
		}
		s.Bound += bound + 2*apiBound
		s.Parts = append(s.Parts, s.Phase+"/"+partSoak)
		s.Commands = append(s.Commands, fmt.Sprintf("wait %s  # all well", o.Soak))
		steps = append(steps, s)
	}
	in := Step{Phase: phaseScaleIn, Bound: o.PoolSoak + wellBound + undo}
	in.Parts = append(in.Parts, in.Phase+"/"+partSoak)
	in.Commands = append(in.Commands, fmt.Sprintf("wait %s  # all well; until here all can be rolled back", o.PoolSoak))
	for _, p := range old {
		in.Parts = append(in.Parts, in.Phase+"/"+p.String())
		in.Commands = append(in.Commands, fmt.Sprintf("remove %s: its machine, kubectl delete node", p))
	}
	return append(steps, in)
}

// greenPlaces are those of the new pool: as many as of the old one, after the last.
func greenPlaces(places, old []Place) []Place {
	var out []Place
	for i := range old {
		out = append(out, Place{clusters.Worker, firstFree(places) + i})
	}
	return out
}

// Preload implements Preloader.
func (b *blueGreen) Preload(ctx context.Context, env Env) (string, error) {
	return preloadPlanes(ctx, &b.inPlace, env)
}

// greenRun is one call of Run.
type greenRun struct {
	*poolRun
	byPhase map[string]Step
	old     []Place
	green   []Place
	log     *regexp.Regexp // of Options.CanaryLog
}

// rolledBack is a step that ended so.
type rolledBack struct {
	step  Step
	cause error
}

func (e *rolledBack) Error() string {
	return fmt.Sprintf("%s: %s: %v", e.step.Phase, RolledBack, e.cause)
}
func (e *rolledBack) Unwrap() error { return e.cause }

// Run implements Strategy.
func (b *blueGreen) Run(ctx context.Context, env Env) (err error) {
	o := env.Options
	if o.Batch < 0 || o.Soak < 0 || o.PoolSoak < 0 {
		return fmt.Errorf("batch %d, soak %s, pool soak %s: none must be negative", o.Batch, o.Soak, o.PoolSoak)
	}
	p, err := openPool(&b.inPlace, env)
	if err != nil {
		return err
	}
	r := &greenRun{poolRun: p, byPhase: map[string]Step{}}
	if o.CanaryLog != "" {
		if r.log, err = regexp.Compile(o.CanaryLog); err != nil {
			return fmt.Errorf("what the log of the canary must not hold: %w", err)
		}
	}
	own, green, err := r.members(ctx, greenOf(o))
	if err != nil {
		return err
	}
	places := Places(clusters.ByRole(env.Cluster.Nodes(), clusters.ControlPlane))
	for _, m := range own {
		if m.machine != nil || len(green) > 0 {
			places = append(places, m.place)
		}
	}
	if err := Check(places, o); err != nil {
		return err
	}
	steps := b.Steps(places, o)
	for _, s := range steps {
		r.byPhase[s.Phase] = s
	}
	if err := r.refuse(ctx, places, own, steps); err != nil {
		return err
	}
	var planes []string
	planes, r.old = splitPlaces(places, o)
	r.green = greenPlaces(places, r.old)

	r.publish(Phase{Path: PhaseWhole, State: Began, Seen: fmt.Sprintf("%d control planes to %s, %d workers by a new pool", len(planes), o.To, len(r.old))})
	outcome := Failed
	defer func() {
		seen := "every node at " + o.To
		if err != nil {
			seen = oneLine(err)
		}
		r.publish(Phase{Path: PhaseWhole, State: Ended, Outcome: outcome, Seen: seen})
		r.pub.flush()
	}()
	if outcome, err = r.controlPlanes(ctx, planes); err != nil {
		return err
	}
	for len(r.old) > 0 {
		outcome, err = r.roll(ctx)
		var back *rolledBack
		if !errors.As(err, &back) {
			break
		}
		if env.Blocked == nil {
			return err
		}
		if no := env.Blocked(ctx, back.step, RolledBack, back.cause); no != nil {
			return fmt.Errorf("%s: %s: %w", back.step.Phase, RolledBack, no)
		}
	}
	if err != nil {
		return err
	}
	outcome = Skipped
	if r.did {
		outcome = Proceeded
	}
	return nil
}

// roll does all that concerns workers, once.
func (r *greenRun) roll(ctx context.Context) (Outcome, error) {
	if o, err := r.reversible(ctx, r.byPhase[phaseCanary], r.canary); err != nil {
		return o, err
	}
	if o, err := r.reversible(ctx, r.byPhase[phaseScaleOut], r.scaleOut); err != nil {
		return o, err
	}
	for i, batch := range batches(r.old, r.env.Options) {
		s := r.byPhase[fmt.Sprintf("%s/drain-%d", PhaseWhole, i+1)]
		if o, err := r.reversible(ctx, s, func(ctx context.Context, s Step, out io.Writer) (Outcome, string, error) {
			return r.empty(ctx, s, batch, out)
		}); err != nil {
			return o, err
		}
	}
	s := r.byPhase[phaseScaleIn]
	gone := false // the first of the old pool: there is no way back
	return r.attempts(ctx, s, "", func(ctx context.Context, out io.Writer) (Outcome, string, error) {
		o, seen, err := r.scaleIn(ctx, s, &gone)
		if err == nil || gone || ctx.Err() != nil {
			return o, seen, err
		}
		return r.rollBack(ctx, s, err, out)
	})
}

// reversible runs a step once. If it does not go through, all that was done to workers
// is rolled back, unless nobody is there any more who could wait for it.
func (r *greenRun) reversible(ctx context.Context, s Step, do func(context.Context, Step, io.Writer) (Outcome, string, error)) (Outcome, error) {
	out := io.Discard
	if r.env.Output != nil {
		out = &lockedWriter{w: r.env.Output(s.Phase)}
	}
	r.publish(Phase{Path: s.Phase, State: Began, Seen: "everything so far can be rolled back"})
	r.env.say("%s (<= %s)", s.Phase, s.Bound)
	o, seen, err := do(ctx, s, out)
	if err != nil && ctx.Err() == nil {
		o, seen, err = r.rollBack(ctx, s, err, out)
	}
	if err != nil {
		seen = oneLine(err)
	}
	r.publish(Phase{Path: s.Phase, State: Ended, Outcome: o, Seen: seen})
	r.pub.flush()
	r.acted(o)
	if err != nil && o == RolledBack {
		return o, &rolledBack{s, err}
	}
	if err != nil {
		return o, fmt.Errorf("%s: %w", s.Phase, because(ctx, err))
	}
	return o, nil
}

// rollBack lets the old pool take pods again, and takes the new one away. Its error is
// the cause, or that it failed itself.
func (r *greenRun) rollBack(ctx context.Context, s Step, cause error, out io.Writer) (Outcome, string, error) {
	r.env.say("%s: rolling back: %s", s.Phase, oneLine(cause))
	err := r.part(s.Phase+"/"+partRollBack, "", oneLine(cause), func() (Outcome, string, error) {
		for _, p := range r.old {
			if err := r.undrained(ctx, p, nil); err != nil {
				return Failed, "", err
			}
		}
		for _, p := range r.green {
			m, err := r.member(ctx, p)
			if err != nil {
				return Failed, "", err
			}
			if m.machine == nil {
				continue
			}
			if m.node != nil {
				if _, _, err := r.drain(ctx, m, out); err != nil {
					return Failed, "", err
				}
			}
			if _, _, err := r.remove(ctx, m); err != nil {
				return Failed, "", err
			}
		}
		return Proceeded, "the old pool takes pods, the new one is gone", nil
	})
	if err != nil {
		return Failed, "", errors.Join(cause, fmt.Errorf("and rolling it back: %w", err))
	}
	return RolledBack, "", cause
}

// canary is the first worker of the new pool, and its watch.
func (r *greenRun) canary(ctx context.Context, s Step, _ io.Writer) (Outcome, string, error) {
	done, err := r.done(ctx)
	if err != nil || done {
		return Skipped, "the old pool is gone", err
	}
	p := r.green[0]
	labels, err := r.labels(ctx, r.old[0])
	if err != nil {
		return Blocked, "", err
	}
	labels[LabelCanary] = "true"
	if err := r.fill(ctx, s.Phase+"/"+partJoin, p, clusters.NewWorker{
		Index: p.Index, Labels: labels,
		Taints: []corev1.Taint{{Key: LabelCanary, Value: "true", Effect: corev1.TaintEffectNoSchedule}},
	}); err != nil {
		return Failed, "", err
	}
	m, err := r.member(ctx, p)
	if err != nil {
		return Failed, "", err
	}
	began := time.Now()
	return r.watched(ctx, s.Phase+"/"+partSoak, m.machine.Name(), r.env.Options.Soak, func(ctx context.Context) error {
		return r.canaryWell(ctx, p, began)
	})
}

// labels are those of a worker, for one that is to take over from it.
func (r *greenRun) labels(ctx context.Context, like Place) (map[string]string, error) {
	m, err := r.member(ctx, like)
	if err != nil {
		return nil, err
	}
	labels := kept(m.node, r.env.Cluster.Run())
	labels[LabelPool] = greenOf(r.env.Options)
	return labels, nil
}

// canaryWell says what is wrong with the canary: it, or a pod on it, is not Ready, or
// its log holds what it must not.
func (r *greenRun) canaryWell(ctx context.Context, p Place, since time.Time) error {
	m, err := r.member(ctx, p)
	if err != nil {
		return err
	}
	if !m.at(r.env.Options.To) {
		return fmt.Errorf("the canary %s is not Ready at %s", p, r.env.Options.To)
	}
	var pods *corev1.PodList
	if err := r.api.until(ctx, "list the pods of the canary", func(ctx context.Context, c kubernetes.Interface) (err error) {
		pods, err = c.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
			FieldSelector: fields.OneTermEqualSelector("spec.nodeName", m.machine.Name()).String(),
		})
		return err
	}); err != nil {
		return err
	}
	for _, pod := range pods.Items {
		if pod.Spec.NodeName == m.machine.Name() && pod.Status.Phase != corev1.PodSucceeded && !podReady(&pod) {
			return fmt.Errorf("pod %s/%s on the canary is not Ready", pod.Namespace, pod.Name)
		}
	}
	if r.log == nil {
		return nil
	}
	files, ok := m.machine.(clusters.Files)
	if !ok {
		return fmt.Errorf("%s cannot read files (capability %s)", m.machine.Name(), clusters.CapFiles)
	}
	// By a file: the end of long output can be lost on its way through the engine.
	const script = `mkdir -p "$(dirname "$0")" && journalctl --no-pager --output=cat --unit=kubelet --unit=containerd --since="@$1" >"$0"`
	file := path.Join(stage, "canary.log")
	if _, err := clusters.Output(ctx, m.machine, "sh", "-c", script, file, strconv.FormatInt(since.Unix(), 10)); err != nil {
		return fmt.Errorf("the log of the canary: %w", err)
	}
	said, err := files.ReadFile(ctx, file)
	if err != nil {
		return fmt.Errorf("the log of the canary: %w", err)
	}
	if line := r.log.Find(said); line != nil {
		return &lasting{fmt.Errorf("the log of the canary holds %q, which matches %q", line, r.log)}
	}
	return nil
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// lasting is trouble that no waiting mends.
type lasting struct{ error }

// watched is a soak that is over when all is well, and was never for long otherwise.
func (r *greenRun) watched(ctx context.Context, path, node string, d time.Duration, more func(context.Context) error) (Outcome, string, error) {
	err := r.part(path, node, "for "+d.String(), func() (Outcome, string, error) {
		end := time.Now().Add(d)
		bad := time.Time{} // since when it is not well
		tick := time.NewTicker(wellEvery)
		defer tick.Stop()
		for {
			why := more(ctx)
			if why == nil && r.env.Well != nil {
				why = r.env.Well(ctx)
			}
			switch now := time.Now(); {
			case ctx.Err() != nil:
				return Failed, "", context.Cause(ctx)
			case why == nil && !now.Before(end):
				return Proceeded, "all is well", nil
			case why == nil:
				bad = time.Time{}
			case errors.As(why, new(*lasting)):
				return Failed, "", why
			case bad.IsZero():
				bad = now
			case now.Sub(bad) >= wellBound:
				return Failed, "", fmt.Errorf("not well for %s: %w", wellBound, why)
			}
			select {
			case <-ctx.Done():
				return Failed, "", context.Cause(ctx)
			case <-tick.C:
			}
		}
	})
	if err != nil {
		return Failed, "", err
	}
	return Proceeded, "all is well", nil
}

// done says whether nothing of the old pool is there any more.
func (r *greenRun) done(ctx context.Context) (bool, error) {
	for _, p := range r.old {
		if m, err := r.member(ctx, p); err != nil || m.machine != nil {
			return false, err
		}
	}
	return true, nil
}

// scaleOut makes the new pool whole, and lets pods onto the canary.
func (r *greenRun) scaleOut(ctx context.Context, s Step, _ io.Writer) (Outcome, string, error) {
	if done, err := r.done(ctx); err != nil || done {
		return Skipped, "the old pool is gone", err
	}
	errs := make([]error, len(r.green))
	var all sync.WaitGroup
	for i, p := range r.green[1:] {
		all.Go(func() {
			labels, err := r.labels(ctx, r.old[i+1])
			if err == nil {
				err = r.fill(ctx, s.Phase+"/"+p.String(), p, clusters.NewWorker{Index: p.Index, Labels: labels})
			}
			errs[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return Failed, "", err
	}
	if err := r.admit(ctx, r.green[0]); err != nil {
		return Failed, "", err
	}
	return Proceeded, fmt.Sprintf("the new pool has %d workers, all take pods", len(r.green)), nil
}

// admit takes the taint and the label of a canary away.
func (r *greenRun) admit(ctx context.Context, p Place) error {
	m, err := r.member(ctx, p)
	if err != nil {
		return err
	}
	if m.node == nil {
		return fmt.Errorf("the canary %s is not there", p)
	}
	return r.api.until(ctx, "take the taint from "+m.machine.Name(), func(ctx context.Context, c kubernetes.Interface) error {
		n, err := c.CoreV1().Nodes().Get(ctx, m.machine.Name(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		taints := []corev1.Taint{}
		for _, t := range n.Spec.Taints {
			if t.Key != LabelCanary {
				taints = append(taints, t)
			}
		}
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"resourceVersion": n.ResourceVersion, "labels": map[string]*string{LabelCanary: nil}},
			"spec":     map[string]any{"taints": taints},
		})
		if err != nil {
			return err
		}
		_, err = c.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
}

// empty drains a batch of the old pool, all of which is cordoned.
func (r *greenRun) empty(ctx context.Context, s Step, batch []Place, out io.Writer) (Outcome, string, error) {
	if done, err := r.done(ctx); err != nil || done {
		return Skipped, "the old pool is gone", err
	}
	d := &drainer{api: r.api, run: r.env.Cluster.Run(), out: out}
	for _, p := range r.old {
		m, err := r.member(ctx, p)
		if err != nil {
			return Blocked, "", err
		}
		if m.node == nil {
			continue
		}
		if err := d.cordon(ctx, m.machine.Name()); err != nil {
			return Blocked, "", err
		}
	}
	errs := make([]error, len(batch))
	var all sync.WaitGroup
	for i, p := range batch {
		all.Go(func() {
			m, err := r.member(ctx, p)
			if err == nil && m.node != nil {
				err = r.part(s.Phase+"/"+p.String(), m.machine.Name(), "draining it", func() (Outcome, string, error) { return r.drain(ctx, m, out) })
			}
			errs[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return Blocked, "", err
	}
	if o, seen, err := r.watched(ctx, s.Phase+"/"+partSoak, "", r.env.Options.Soak, nothingMore); err != nil {
		return o, seen, err
	}
	return Proceeded, fmt.Sprintf("%d of the old pool are empty, all is well", len(batch)), nil
}

func nothingMore(context.Context) error { return nil }

// scaleIn removes the old pool; gone is set before the first of it goes.
func (r *greenRun) scaleIn(ctx context.Context, s Step, gone *bool) (Outcome, string, error) {
	if done, err := r.done(ctx); err != nil || done {
		return Skipped, "the old pool is gone", err
	}
	if !*gone {
		if o, seen, err := r.watched(ctx, s.Phase+"/"+partSoak, "", r.env.Options.PoolSoak, nothingMore); err != nil {
			return o, seen, err
		}
	}
	*gone = true
	for _, p := range r.old {
		m, err := r.member(ctx, p)
		if err != nil {
			return Failed, "", err
		}
		if m.machine == nil {
			continue
		}
		if err := r.part(s.Phase+"/"+p.String(), m.machine.Name(), "removing its machine", func() (Outcome, string, error) { return r.remove(ctx, m) }); err != nil {
			return Failed, "", err
		}
	}
	return Proceeded, "the old pool is gone: " + strings.Join(names(r.old), ", "), nil
}

func names(places []Place) []string {
	var out []string
	for _, p := range places {
		out = append(out, p.String())
	}
	return out
}
