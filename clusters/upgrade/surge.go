package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"gameday/clusters"
)

// The steps and parts that replace workers.
const (
	phaseScaleOut = PhaseWhole + "/scale-out"
	phaseScaleIn  = PhaseWhole + "/scale-in"
	partSoak      = "soak"
	partRemove    = "remove"
	partJoin      = "join"
)

// surge upgrades control planes in place and replaces workers, as the node pools of
// managed clusters do (AKS: https://learn.microsoft.com/azure/aks/upgrade-aks-node-pools-rolling;
// GKE: https://cloud.google.com/kubernetes-engine/docs/concepts/node-pool-upgrade-strategies):
//
//  1. MaxSurge workers of the new version are added, in places after the last;
//  2. MaxSurge + MaxUnavailable workers at a time are cordoned and drained, left for
//     the time of the soak, removed, and made anew in their places, at the new version
//     and empty: each is room for the next. Of N workers at least N - MaxUnavailable
//     can run pods at any time;
//  3. what was added is drained and removed.
//
// A worker that is made anew is another machine with the same name in the same place,
// as AKS re-images its machines.
type surge struct {
	inPlace kubeadm
}

// Steps implements Strategy.
func (s *surge) Steps(places []Place, o Options) []Step {
	_, workers := splitPlaces(places, o)
	steps := planeSteps(&s.inPlace, places, o)
	extra := extraPlaces(places, workers, o)
	bound := drainBound(o)
	if len(extra) > 0 {
		out := Step{Phase: phaseScaleOut, Bound: machineBound}
		for _, p := range extra {
			out.Parts = append(out.Parts, out.Phase+"/"+p.String())
			out.Commands = append(out.Commands, fmt.Sprintf("add %s: a machine of %s, kubeadm join", p, o.To))
		}
		steps = append(steps, out)
	}
	for _, p := range workers {
		w := Step{Phase: PhaseWhole + "/" + p.String(), Place: p.String(), Bound: bound + 2*apiBound + removalBound + machineBound}
		part := func(name, format string, args ...any) {
			w.Parts = append(w.Parts, w.Phase+"/"+name)
			w.Commands = append(w.Commands, fmt.Sprintf(format, args...))
		}
		after := "; one that does not end in time blocks the step"
		if o.DrainExceeded == ExceededRemove {
			after = "; what is left then is removed with it"
		}
		part(partDrain, "kubectl drain %s --ignore-daemonsets --delete-emptydir-data --timeout=%s  # by the API%s", p, bound, after)
		if o.Soak > 0 {
			part(partSoak, "wait %s", o.Soak)
			w.Bound += o.Soak
		}
		part(partRemove, "remove %s: its machine, kubectl delete node", p)
		part(partJoin, "add %s: a machine of %s, kubeadm join", p, o.To)
		w.Commands = append(w.Commands, fmt.Sprintf("# %d at a time", atOnce(o, len(workers))))
		steps = append(steps, w)
	}
	if len(extra) > 0 {
		in := Step{Phase: phaseScaleIn}
		for _, p := range extra {
			in.Parts = append(in.Parts, in.Phase+"/"+p.String())
			in.Commands = append(in.Commands,
				fmt.Sprintf("kubectl drain %s --ignore-daemonsets --delete-emptydir-data --timeout=%s  # by the API", p, bound),
				fmt.Sprintf("remove %s: its machine, kubectl delete node", p))
			in.Bound += bound + 2*apiBound + removalBound
		}
		steps = append(steps, in)
	}
	return steps
}

// extraPlaces are those of the workers that are added for the time of the upgrade: no
// more than there are to be replaced.
func extraPlaces(places, workers []Place, o Options) []Place {
	var out []Place
	for i := range min(o.MaxSurge, len(workers)) {
		out = append(out, Place{clusters.Worker, firstFree(places) + i})
	}
	return out
}

// atOnce is how many workers are replaced at a time.
func atOnce(o Options, workers int) int {
	return max(1, min(o.MaxSurge+o.MaxUnavailable, workers))
}

// checkSurge says what of the options cannot be meant.
func checkSurge(o Options) error {
	var errs []error
	if o.MaxSurge < 0 || o.MaxUnavailable < 0 || o.MaxSurge+o.MaxUnavailable < 1 {
		errs = append(errs, fmt.Errorf("max surge %d and max unavailable %d: together they are how many workers are replaced at a time, at least 1", o.MaxSurge, o.MaxUnavailable))
	}
	if o.Soak < 0 {
		errs = append(errs, fmt.Errorf("soak of %s: it must not be negative", o.Soak))
	}
	switch o.DrainExceeded {
	case "", ExceededBlock, ExceededRemove:
	default:
		errs = append(errs, fmt.Errorf("drain exceeded %q: one of %s, %s", o.DrainExceeded, ExceededBlock, ExceededRemove))
	}
	return errors.Join(errs...)
}

// Preload implements Preloader.
func (s *surge) Preload(ctx context.Context, env Env) (string, error) {
	return preloadPlanes(ctx, &s.inPlace, env)
}

// surgeRun is one call of Run.
type surgeRun struct {
	*poolRun
	byPhase map[string]Step
}

// Run implements Strategy.
func (s *surge) Run(ctx context.Context, env Env) (err error) {
	if err := checkSurge(env.Options); err != nil {
		return err
	}
	p, err := openPool(&s.inPlace, env)
	if err != nil {
		return err
	}
	r := &surgeRun{poolRun: p, byPhase: map[string]Step{}}
	own, extra, err := r.members(ctx, poolSurge)
	if err != nil {
		return err
	}
	places := Places(clusters.ByRole(env.Cluster.Nodes(), clusters.ControlPlane))
	for _, m := range own {
		places = append(places, m.place)
	}
	if err := Check(places, env.Options); err != nil {
		return err
	}
	steps := s.Steps(places, env.Options)
	for _, st := range steps {
		r.byPhase[st.Phase] = st
	}
	if err := r.refuse(ctx, places, own, steps); err != nil {
		return err
	}
	planes, workers := splitPlaces(places, env.Options)

	to := env.Options.To
	r.publish(Phase{Path: PhaseWhole, State: Began, Seen: fmt.Sprintf("%d control planes and %d workers to %s, %d workers at a time", len(planes), len(workers), to, atOnce(env.Options, len(workers)))})
	outcome := Failed
	defer func() {
		seen := "every node at " + to
		if err != nil {
			seen = oneLine(err)
		}
		r.publish(Phase{Path: PhaseWhole, State: Ended, Outcome: outcome, Seen: seen})
		r.pub.flush()
	}()
	if outcome, err = r.controlPlanes(ctx, planes); err != nil {
		return err
	}
	added := extraPlaces(places, workers, env.Options)
	if outcome, err = r.scaleOut(ctx, added, own, workers); err != nil {
		return err
	}
	if outcome, err = r.replaceAll(ctx, workers); err != nil {
		return err
	}
	// What an earlier run with another number has left goes, too.
	for _, m := range extra {
		if m.place.Index >= firstFree(places)+len(added) {
			added = append(added, m.place)
		}
	}
	if outcome, err = r.scaleIn(ctx, added); err != nil {
		return err
	}
	outcome = Skipped
	if r.did {
		outcome = Proceeded
	}
	return nil
}

// scaleOut adds the workers of the surge, all at once. If there is nothing to replace,
// none is needed.
func (r *surgeRun) scaleOut(ctx context.Context, extra []Place, own []member, workers []Place) (Outcome, error) {
	if len(extra) == 0 {
		return Skipped, nil
	}
	like := map[Place]member{}
	needed := false
	for _, m := range own {
		like[m.place] = m
	}
	for _, p := range workers {
		needed = needed || !like[p].at(r.env.Options.To)
	}
	s := r.byPhase[phaseScaleOut]
	return r.attempts(ctx, s, "", func(ctx context.Context, _ io.Writer) (Outcome, string, error) {
		if !needed {
			return Skipped, "every worker is at the target", nil
		}
		errs := make([]error, len(extra))
		var all sync.WaitGroup
		for i, p := range extra {
			all.Go(func() {
				path := s.Phase + "/" + p.String()
				labels := kept(like[workers[i]].node, r.env.Cluster.Run())
				labels[LabelPool] = poolSurge
				errs[i] = r.fill(ctx, path, p, clusters.NewWorker{Index: p.Index, Labels: labels})
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return Failed, "", err
		}
		return Proceeded, fmt.Sprintf("%d workers of %s are there in addition", len(extra), r.env.Options.To), nil
	})
}

// replaceAll replaces the workers, some at a time. When one cannot be, those that are
// under way come to their end, and no other begins.
func (r *surgeRun) replaceAll(ctx context.Context, workers []Place) (Outcome, error) {
	var g errgroup.Group
	g.SetLimit(atOnce(r.env.Options, len(workers)))
	var mu sync.Mutex
	outcome, failed := Proceeded, false
	for _, p := range workers {
		g.Go(func() error {
			mu.Lock()
			stop := failed
			mu.Unlock()
			if stop || ctx.Err() != nil {
				return context.Cause(ctx)
			}
			o, err := r.replace(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				outcome, failed = o, true
			}
			return err
		})
	}
	return outcome, g.Wait()
}

// replace is the step of one worker.
func (r *surgeRun) replace(ctx context.Context, p Place) (Outcome, error) {
	s := r.byPhase[PhaseWhole+"/"+p.String()]
	m, err := r.member(ctx, p)
	if err != nil {
		return Failed, err
	}
	name := ""
	if m.machine != nil {
		name = m.machine.Name()
	}
	labels := kept(m.node, r.env.Cluster.Run())
	o, err := r.attempts(ctx, s, name, func(ctx context.Context, out io.Writer) (Outcome, string, error) {
		return r.tryReplace(ctx, s, p, labels, out)
	})
	if err != nil {
		err = r.undrained(ctx, p, err)
	}
	return o, err
}

func (r *surgeRun) tryReplace(ctx context.Context, s Step, p Place, labels map[string]string, out io.Writer) (Outcome, string, error) {
	m, err := r.member(ctx, p)
	if err != nil {
		return Blocked, "", err
	}
	if m.at(r.env.Options.To) {
		return Skipped, "it is Ready at " + r.env.Options.To, nil
	}
	if m.node != nil && m.node.Status.NodeInfo.KubeletVersion != r.env.Options.To {
		if err := r.part(s.Phase+"/"+partDrain, m.machine.Name(), "cordoning it", func() (Outcome, string, error) { return r.drain(ctx, m, out) }); err != nil {
			return Blocked, "", err
		}
		if d := r.env.Options.Soak; d > 0 {
			if err := r.part(s.Phase+"/"+partSoak, m.machine.Name(), "for "+d.String(), func() (Outcome, string, error) { return soak(ctx, d) }); err != nil {
				return Blocked, "", err
			}
		}
	}
	if m.machine != nil {
		if err := r.part(s.Phase+"/"+partRemove, m.machine.Name(), "removing its machine", func() (Outcome, string, error) { return r.remove(ctx, m) }); err != nil {
			return Failed, "", err
		}
	}
	if err := r.joined(ctx, s.Phase+"/"+partJoin, clusters.NewWorker{Index: p.Index, Labels: labels}); err != nil {
		return Failed, "", err
	}
	return Proceeded, fmt.Sprintf("%s is a new machine, Ready at %s", p, r.env.Options.To), nil
}

// scaleIn removes the workers of the surge, one by one.
func (r *surgeRun) scaleIn(ctx context.Context, extra []Place) (Outcome, error) {
	if len(extra) == 0 {
		return Skipped, nil
	}
	s := r.byPhase[phaseScaleIn]
	o, err := r.attempts(ctx, s, "", func(ctx context.Context, out io.Writer) (Outcome, string, error) {
		gone := 0
		for _, p := range extra {
			m, err := r.member(ctx, p)
			if err != nil {
				return Blocked, "", err
			}
			if m.machine == nil {
				continue
			}
			if err := r.part(s.Phase+"/"+p.String(), m.machine.Name(), "draining it", func() (Outcome, string, error) {
				if o, _, err := r.drain(ctx, m, out); err != nil {
					return o, "", err
				}
				return r.remove(ctx, m)
			}); err != nil {
				return Blocked, "", err
			}
			gone++
		}
		if gone == 0 {
			return Skipped, "nothing was added", nil
		}
		return Proceeded, fmt.Sprintf("the %d workers that were added are gone", gone), nil
	})
	if err != nil {
		for _, p := range extra {
			err = r.undrained(ctx, p, err)
		}
	}
	return o, err
}
