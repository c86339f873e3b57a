package kind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	kindcluster "sigs.k8s.io/kind/pkg/cluster"
	kindexec "sigs.k8s.io/kind/pkg/exec"
	kindlog "sigs.k8s.io/kind/pkg/log"

	"gameday/clusters"
	"gameday/clusters/cache"
	"gameday/clusters/docker"
	"gameday/clusters/nodeimage"
)

const (
	// createBound is for kind: 70 s for 3 + 2 nodes on two cores, several times
	// that on a loaded machine. (kubeadm itself gives up after four minutes.)
	createBound = 15 * time.Minute
	// settleBound is how long kind may go on after its nodes were removed under
	// its hands: each of its steps then fails at once.
	settleBound = 60 * time.Second
)

// Create implements clusters.Provider.
func (p *Provider) Create(ctx context.Context, spec clusters.Spec, say clusters.Say) (_ clusters.Cluster, err error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	unlock, err := lock(spec.Name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	if _, err := docker.Ensure(ctx, say); err != nil {
		return nil, err
	}
	if err := checkFree(ctx, spec.Name); err != nil {
		return nil, err
	}
	facts, err := docker.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	if facts.Local {
		if err := raiseInotify(inotifyDir, spec.ControlPlanes+spec.Workers, say); err != nil {
			return nil, err
		}
	}
	image, err := nodeimage.Ensure(ctx, nodeimage.Spec{Version: spec.Version, Replace: spec.Replace}, nodeimage.Log(say))
	if err != nil {
		return nil, err
	}
	if spec.ControlPlanes > 1 {
		if _, err := nodeimage.EnsureLoadBalancer(ctx, nodeimage.Log(say)); err != nil {
			return nil, err
		}
	}

	// From here on there is something to undo.
	c, err := p.create(ctx, spec, image, facts, say)
	if err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteBound)
		defer cancel()
		if rmErr := remove(cleanup, spec.Name); rmErr != nil {
			err = fmt.Errorf("%w; and undoing it failed, run `gameday clusters delete %s`: %w", err, spec.Name, rmErr)
		}
		return nil, err
	}
	return c, nil
}

func (p *Provider) create(ctx context.Context, spec clusters.Spec, image nodeimage.Image, facts docker.Facts, say clusters.Say) (*cluster, error) {
	marked, err := markImage(ctx, spec, image.Ref)
	if err != nil {
		return nil, err
	}
	disks, err := makeDisks(ctx, spec, facts, say)
	if err != nil {
		return nil, err
	}
	raw, err := config(spec, shape{
		image: marked, kindnetd: image.Kindnetd, cgroupV2: facts.CgroupV2, sysResource: facts.SysResource, disks: disks,
	})
	if err != nil {
		return nil, fmt.Errorf("configuration of cluster %s: %w", spec.Name, err)
	}
	began := time.Now()
	say("kind: creating %s, %d control planes and %d workers of %s (up to %s)", spec.Name, spec.ControlPlanes, spec.Workers, image.Ref, createBound)
	early, stopEarly := context.WithCancel(ctx)
	var beside sync.WaitGroup
	if !image.Kindnetd {
		beside.Go(func() { beginPodNetwork(early, spec.Name) })
	}
	err = runKind(ctx, spec.Name, raw, say)
	stopEarly()
	beside.Wait()
	if err != nil {
		return nil, err
	}
	there, err := find(ctx, spec.Name)
	if err != nil {
		return nil, err
	}
	c, err := open(ctx, there)
	if err != nil {
		return nil, err
	}
	if !image.Kindnetd {
		if err := setUpPodNetwork(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := c.waitReady(ctx, say); err != nil {
		return nil, err
	}
	say("kind: %s is ready after %s", spec.Name, time.Since(began).Round(100*time.Millisecond))
	return c, nil
}

// runKind runs kind's creation, which takes no ctx. When ctx ends its nodes are
// taken away, so that it fails, and then whatever it made since.
func runKind(ctx context.Context, name string, raw []byte, say clusters.Say) (err error) {
	dir, err := kubeconfigDir(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	ctx, cancel := context.WithTimeoutCause(ctx, createBound, fmt.Errorf("kind did not create %s within %s", name, createBound))
	defer cancel()
	var kindErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		provider := kindcluster.NewProvider(kindcluster.ProviderWithDocker(), kindcluster.ProviderWithLogger(logger{say}))
		kindErr = provider.Create(name,
			kindcluster.CreateWithRawConfig(raw),
			kindcluster.CreateWithKubeconfigPath(filepath.Join(dir, "config")),
			kindcluster.CreateWithRetain(true), // removing is for the caller, who knows what is ours
		)
	}()
	select {
	case <-done:
		if kindErr != nil {
			return fmt.Errorf("kind: %w%s", kindErr, commandOutput(kindErr))
		}
		return nil
	case <-ctx.Done():
	}
	say("kind: undoing the creation of %s (up to %s)", name, settleBound)
	return errors.Join(fmt.Errorf("creating %s: %w", name, context.Cause(ctx)), settle(context.WithoutCancel(ctx), name, done))
}

// kubeconfigDir is where kind writes its kubeconfig, which nobody needs; it goes
// with the creation, or with the cluster if the creation was killed.
func kubeconfigDir(name string) (string, error) { return cache.Dir("kind", "kubeconfig", name) }

// settle takes the nodes away until kind has given up.
func settle(ctx context.Context, name string, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, settleBound)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		there, err := find(ctx, name)
		if err == nil {
			// A container that is just being made cannot be removed: tried again.
			err = removeContainers(ctx, there.mine())
		}
		select {
		case <-done: // its error is the consequence of what we did
			return nil
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("kind goes on creating %s although its nodes were removed: run `gameday clusters delete %s`", name, name), err)
		case <-tick.C:
		}
	}
}

// commandOutput is the end of what the command said that made kind fail.
func commandOutput(err error) string {
	run := kindexec.RunErrorForError(err)
	if run == nil || len(run.Output) == 0 {
		return ""
	}
	const kept = 2 << 10
	out := strings.TrimSpace(string(run.Output))
	if len(out) > kept {
		out = "... " + out[len(out)-kept:]
	}
	return ", the end of its output:\n" + out
}

// logger passes kind's messages for users on as progress.
type logger struct{ say clusters.Say }

func (l logger) line(s string) {
	// kind draws each step twice, when it begins and when it ends.
	s = strings.TrimSpace(s)
	if s != "" && !strings.HasPrefix(s, "✓") {
		l.say("kind: %s", strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(s, "• "), "...")))
	}
}

func (l logger) Warn(message string) { l.line("warning: " + message) }
func (l logger) Warnf(format string, args ...interface{}) {
	l.line("warning: " + fmt.Sprintf(format, args...))
}
func (l logger) Error(message string) { l.line("error: " + message) }
func (l logger) Errorf(format string, args ...interface{}) {
	l.line("error: " + fmt.Sprintf(format, args...))
}
func (l logger) V(level kindlog.Level) kindlog.InfoLogger { return infoLogger{l, level == 0} }

type infoLogger struct {
	logger
	on bool
}

func (i infoLogger) Enabled() bool { return i.on }
func (i infoLogger) Info(message string) {
	if i.on {
		i.line(message)
	}
}
func (i infoLogger) Infof(format string, args ...interface{}) {
	if i.on {
		i.line(fmt.Sprintf(format, args...))
	}
}
