package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
)

// kubeletConfig is the one file that kubeadm writes on a worker, and the last
// one on a control plane.
const kubeletConfig = "/var/lib/kubelet/config.yaml"

// stepRun is the upgrade of one node, over all attempts.
type stepRun struct {
	*run
	step   Step
	node   clusters.Node
	files  clusters.Files
	exec   clusters.Execer
	probes prober
	pods   []string // static pods; none on a worker
	want   map[string]string
	track  *tracker
	drain  *drainer
	out    io.Writer

	config   []byte // of the kubelet, as the attempt found it
	done     string // what showed that there is nothing to do, if there is not
	kubeadm  bool   // kubeadm ended well, in an attempt before
	drained  bool
	cordoned bool // by us, and not uncordoned yet
}

// atTarget says what shows that the node needs no upgrade; empty if it does.
func (s *stepRun) atTarget(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, callBound)
	defer cancel()
	var seen []string
	names := append([]string{kubelet}, s.pods...)
	have, err := look(ctx, s.files, s.pods)
	if err != nil {
		return ""
	}
	for _, c := range names {
		if v, isPod := have[c]; c != kubelet && (!isPod || v != s.want[c]) {
			return ""
		}
		got, err := s.probes.probe(ctx, c)
		if err != nil || !got.well || got.version != s.want[c] {
			return ""
		}
		if !strings.Contains(strings.Join(seen, "; "), got.seen) { // the kubelet's look covers some
			seen = append(seen, got.seen)
		}
	}
	return strings.Join(seen, "; ")
}

// toEnd runs the step until it proceeded, or until nobody wants it to be tried
// again.
func (s *stepRun) toEnd(ctx context.Context) (o Outcome, err error) {
	if s.done != "" {
		// A run that was cut off between kubelet and uncordon left a cordon.
		ours, err := s.drain.uncordon(ctx, s.node.Name())
		if err != nil {
			return Failed, err
		}
		if ours {
			s.done += "; uncordoned now, an earlier run had left it cordoned"
		}
		s.publish(Phase{Path: s.step.Phase, Node: s.node.Name(), State: Began, Seen: s.done})
		s.publish(Phase{Path: s.step.Phase, Node: s.node.Name(), State: Ended, Outcome: Skipped, Seen: s.done})
		return Skipped, nil
	}
	if s.env.Output != nil {
		s.out = &lockedWriter{w: s.env.Output(s.step.Phase)}
		s.drain.out = s.out
	}
	defer func() { err = s.uncordonedAfter(ctx, err) }()
	for try := 1; ; try++ {
		began := time.Now()
		s.publish(Phase{Path: s.step.Phase, Node: s.node.Name(), State: Began, At: began, Seen: fmt.Sprintf("attempt %d", try)})
		s.env.say("%s: attempt %d (<= %s)", s.step.Phase, try, s.step.Bound)
		o, cause := s.attempt(ctx)
		took := time.Since(began).Round(100 * time.Millisecond)
		seen := fmt.Sprintf("all of it seen at %s after %s", s.env.Options.To, took)
		if cause != nil {
			seen = oneLine(cause)
		}
		s.publish(Phase{Path: s.step.Phase, Node: s.node.Name(), State: Ended, Outcome: o, Seen: seen})
		s.pub.flush()
		if o == Proceeded {
			s.env.say("%s: done in %s", s.step.Phase, took)
			return o, nil
		}
		if ctx.Err() != nil {
			return o, fmt.Errorf("%s: %w", s.step.Phase, because(ctx, cause))
		}
		if s.env.Blocked == nil {
			return o, fmt.Errorf("%s: %s: %w", s.step.Phase, o, cause)
		}
		if err := s.env.Blocked(ctx, s.step, o, cause); err != nil {
			return o, fmt.Errorf("%s: %s: %w", s.step.Phase, o, err)
		}
	}
}

// attempt runs the step once, watching the node all the while. The outcome is
// judged by what happened to the node; the error says what the tools said.
func (s *stepRun) attempt(ctx context.Context) (Outcome, error) {
	s.track.attempt()
	var err error
	if s.config, err = s.state(ctx); err != nil {
		return Blocked, err // nothing was done
	}
	octx, stop := context.WithCancel(ctx)
	watcher := &observer{files: s.files, probes: s.probes, track: s.track, pods: s.pods, probed: sortedKeys(s.want)}
	wait := watcher.start(octx)
	err = s.parts(ctx)
	stop()
	wait()
	if err == nil {
		return Proceeded, nil
	}
	e, lerr := s.evidence(ctx)
	s.track.close(time.Now(), "the attempt ended: "+oneLine(err))
	switch {
	case lerr != nil:
		return Failed, errors.Join(err, fmt.Errorf("the node cannot be looked at: %w", lerr))
	case errors.As(err, new(*drainError)): // see Options.DrainTimeout
		return Blocked, err
	}
	return e.outcome(), fmt.Errorf("%w (%s)", err, e)
}

// evidence looks at the node as it is now, also when ctx has ended, and sums up
// what the attempt has done to it so far.
func (s *stepRun) evidence(ctx context.Context) (evidence, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callBound)
	defer cancel()
	config, err := s.state(ctx)
	if err != nil {
		return evidence{}, err
	}
	e := s.track.attempted()
	if !bytes.Equal(config, s.config) {
		e.touched, e.between = append(e.touched, kubeletConfig), append(e.between, kubeletConfig)
	}
	return e, nil
}

// state feeds the tracker with the manifests as they are, and returns the
// kubelet's configuration.
func (s *stepRun) state(ctx context.Context) ([]byte, error) {
	have, err := look(ctx, s.files, s.pods)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.node.Name(), err)
	}
	for _, c := range s.pods {
		if v, ok := have[c]; ok {
			s.track.manifest(c, v, time.Now())
		}
	}
	b, err := s.files.ReadFile(ctx, kubeletConfig)
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", s.node.Name(), kubeletConfig, err)
	}
	return b, nil
}

// parts does what is left of the step, in order.
func (s *stepRun) parts(ctx context.Context) error {
	if err := s.leftover(ctx); err != nil {
		return err
	}
	drain := drains(s.env.Options, s.node.Role())
	worker := len(s.pods) == 0
	if drain && worker {
		if err := s.emptied(ctx); err != nil {
			return err
		}
	}
	if !s.kubeadm {
		if err := s.runKubeadm(ctx, worker); err != nil {
			return err
		}
		s.kubeadm = true
	}
	if drain && !worker {
		if err := s.emptied(ctx); err != nil {
			return err
		}
	}
	if len(s.track.missing(kubelet)) > 0 { // an earlier attempt may have come further
		if err := s.runKubelet(ctx); err != nil {
			return err
		}
	}
	if drain {
		return s.filled(ctx)
	}
	return nil
}

// runKubeadm runs kubeadm and waits until all that it changed serves.
func (s *stepRun) runKubeadm(ctx context.Context, worker bool) error {
	to := s.env.Options.To
	if err := s.command(ctx, time.Minute, install(to, "kubeadm")); err != nil {
		return err
	}
	path, bound, apply := s.step.Phase+"/"+partKubeadm, workerBound, false
	if !worker {
		path, bound = s.step.Phase+"/"+partPreflight, controlPlaneBound
		var err error
		if apply, err = s.isFirst(ctx); err != nil {
			return err
		}
	}
	argv := kubeadmArgv(to, apply)
	s.env.say("%s: %s (<= %s)", s.step.Phase, strings.Join(argv[:3], " "), bound)
	s.track.toolBegan(path, !worker, time.Now(), "running "+strings.Join(argv, " "))
	var err error
	if worker {
		err = s.allowed(ctx)
	}
	if err == nil {
		err = s.command(ctx, bound, argv)
	}
	if err != nil {
		o := Failed
		e, lerr := s.evidence(ctx)
		if lerr == nil {
			o = e.outcome()
		}
		s.track.toolEnded(path, o, time.Now(), oneLine(err))
		return errors.Join(err, lerr)
	}
	s.track.toolEnded(path, Proceeded, time.Now(), "kubeadm ended well")
	if worker {
		return nil
	}
	if _, err := s.state(ctx); err != nil {
		return err
	}
	if perr := poll(ctx, settleBound, manifestEvery, func(context.Context) bool { return len(s.track.missing(s.pods...)) == 0 }); perr != nil {
		return fmt.Errorf("kubeadm ended well, but within %s not all was seen to serve at the target: %s: %w",
			settleBound, strings.Join(s.track.missing(s.pods...), "; "), perr)
	}
	return nil
}

// isFirst says whether no control plane is done yet: then this one is upgraded
// by `kubeadm upgrade apply`, which also raises the cluster's configuration.
func (s *stepRun) isFirst(ctx context.Context) (bool, error) {
	versions, err := s.versions(ctx)
	if err != nil {
		return false, err
	}
	for place, v := range versions {
		if isControlPlane(place) && place != s.step.Place && v == s.env.Options.To {
			return false, nil
		}
	}
	return true, nil
}

// allowed waits until the API lets the worker read kubeadm's ConfigMaps. If it
// does not within the bound, kubeadm is run all the same: its word counts.
func (s *stepRun) allowed(ctx context.Context) error {
	row := 0
	err := poll(ctx, allowedBound, probeEvery, func(ctx context.Context) bool {
		for _, name := range configMaps() {
			if err := s.exec.Exec(ctx, clusters.Command{Argv: allowedArgv(name)}); err != nil {
				row = 0
				// No answer is no refusal: kubeadm itself waits for the API.
				var refused *clusters.ExitError
				return errors.As(err, &refused) && !strings.Contains(refused.Output, "(Forbidden)")
			}
		}
		row++
		return row == allowedTimes
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		fmt.Fprintf(s.out, "gameday: within %s the API did not let this node read kubeadm's ConfigMaps %d times in a row; running kubeadm all the same\n", allowedBound, allowedTimes)
	}
	return nil
}

// runKubelet swaps kubelet and kubectl, restarts the kubelet and waits until
// the node reports the new version, is Ready, and runs what it ran before.
func (s *stepRun) runKubelet(ctx context.Context) error {
	to := s.env.Options.To
	for _, name := range []string{"kubelet", "kubectl"} {
		if err := s.command(ctx, time.Minute, install(to, name)); err != nil {
			return err
		}
	}
	out, err := clusters.Output(ctx, s.node, "/usr/bin/kubelet", "--version")
	if err != nil {
		return fmt.Errorf("the new kubelet on %s does not run: %w", s.node.Name(), err)
	}
	version := strings.TrimSpace(string(out))
	if version != "Kubernetes "+to {
		return fmt.Errorf("the kubelet binary on %s says %q, not %s: the target's artifacts are of another version", s.node.Name(), version, to)
	}
	s.track.begin(kubelet, time.Now(), "kubelet binary in place says "+version)
	if err := s.command(ctx, time.Minute, restartArgv()); err != nil {
		return err
	}
	if err := poll(ctx, kubeletBound, manifestEvery, func(context.Context) bool { return len(s.track.missing(kubelet)) == 0 }); err != nil {
		return fmt.Errorf("the kubelet was restarted, but within %s: %s: %w", kubeletBound, strings.Join(s.track.missing(kubelet), "; "), err)
	}
	return nil
}

// drainError is a drain that did not end.
type drainError struct{ error }

func (e *drainError) Unwrap() error { return e.error }

// emptied is the part drain.
func (s *stepRun) emptied(ctx context.Context) error {
	if s.drained {
		return nil
	}
	bound := s.env.Options.DrainTimeout
	if bound == 0 {
		bound = defaultDrain
	}
	name, path := s.node.Name(), s.step.Phase+"/"+partDrain
	s.env.say("%s: drain (<= %s)", s.step.Phase, bound)
	s.cordoned = true // from the first try on: a lost answer may have done it
	seen, err := func() (string, error) {
		if err := s.drain.cordon(ctx, name); err != nil {
			return "", err
		}
		pods, bare, err := s.drain.pods(ctx, name)
		if err != nil {
			return "", err
		}
		s.track.toolBegan(path, false, time.Now(), fmt.Sprintf("node is cordoned, %d pods to evict", len(pods)))
		if len(bare) > 0 {
			return "", fmt.Errorf("drain of %s: %s would be lost, no controller brings them back; delete them, or give them one", name, strings.Join(bare, ", "))
		}
		return fmt.Sprintf("%d pods are gone; what is left are pods of DaemonSets and static pods", len(pods)), s.drain.evict(ctx, name, pods, bound)
	}()
	if err != nil {
		s.track.toolEnded(path, Blocked, time.Now(), oneLine(err))
		return &drainError{err}
	}
	s.drained = true
	s.track.toolEnded(path, Proceeded, time.Now(), seen)
	return nil
}

// filled is the part uncordon.
func (s *stepRun) filled(ctx context.Context) error {
	path := s.step.Phase + "/" + partUncordon
	s.track.toolBegan(path, false, time.Now(), "node is at the target and Ready")
	ours, err := s.drain.uncordon(ctx, s.node.Name())
	if err != nil {
		s.track.toolEnded(path, Blocked, time.Now(), oneLine(err))
		return err
	}
	s.cordoned = false
	if !ours {
		s.track.toolEnded(path, Skipped, time.Now(), "node was cordoned by somebody else before: left so")
		return nil
	}
	s.track.toolEnded(path, Proceeded, time.Now(), "node takes pods again")
	return nil
}

// command runs a command on the node, its output into the step's file.
func (s *stepRun) command(ctx context.Context, bound time.Duration, argv []string) error {
	line := strings.Join(argv, " ")
	fmt.Fprintf(s.out, "%s %s# %s\n", time.Now().UTC().Format(time.RFC3339Nano), s.node.Name(), line)
	ctx, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("%q on %s did not end within %s and was killed", line, s.node.Name(), bound))
	defer cancel()
	err := s.exec.Exec(ctx, clusters.Command{Argv: argv, Stdout: s.out, Stderr: s.out})
	if err != nil && ctx.Err() != nil {
		err = because(ctx, err)
	}
	if err != nil {
		fmt.Fprintf(s.out, "%s gameday: %v\n", time.Now().UTC().Format(time.RFC3339Nano), err)
	}
	return err
}

// because puts the reason why ctx ended before an error, if it is not in it.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// lockedWriter lets stdout and stderr of a command go to one file.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
