package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/process"
)

// service is something that runs on a node: what faults that kill, pause and
// crash-loop it must know of it.
type service struct {
	// name of it, for texts.
	name string
	// programs it consists of; alternatives are programs of which any will do.
	programs     []string
	alternatives bool
	// meet is how it meets its clients.
	meet func(ctx context.Context, env Env, n clusters.Node) (met, string, error)
	// serves says why the target does not serve as before, though its clients are
	// answered; nil if that is all there is to it.
	serves func(ctx context.Context, env Env, n clusters.Node) error
	// control finds somebody else who is well: a line about him, or why there is none.
	// Empty without an error: nobody is left out.
	control func(ctx context.Context, env Env) (string, error)
	// lease is the component whose leader election it takes part in; empty if none.
	lease string
}

// running finds its processes on a node.
func (s service) running(ctx context.Context, n clusters.Node) ([]process.Ref, error) {
	var all []process.Ref
	for _, program := range s.programs {
		refs, err := find(ctx, n, program)
		if err != nil {
			return nil, err
		}
		if len(refs) == 0 && !s.alternatives {
			return nil, fmt.Errorf("%s: no %s runs there", n.Name(), program)
		}
		all = append(all, refs...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no %s runs there", n.Name(), strings.Join(s.programs, " and no "))
	}
	return all, nil
}

// struck is what the notes say.
type struck struct {
	// Processes that were hit, by node.
	Processes map[string][]process.Ref `json:"processes"`
	// Lease is that of the leader, when it was hit.
	Lease *leaseSeen `json:"lease,omitempty"`
}

func notesOf(env Env) (struck, error) {
	s := struck{}
	_, err := env.Notes.Load(&s)
	if s.Processes == nil {
		s.Processes = map[string][]process.Ref{}
	}
	return s, err
}

// add notes processes of a node that are to be hit; it says whether any is new.
func (s *struck) add(n clusters.Node, refs []process.Ref) bool {
	had := len(s.Processes[n.Name()])
	for _, r := range refs {
		if !slices.Contains(s.Processes[n.Name()], r) {
			s.Processes[n.Name()] = append(s.Processes[n.Name()], r)
		}
	}
	return len(s.Processes[n.Name()]) > had
}

// noteLeader notes the lease if one of the targets holds it. It is read after the
// leader was hit, which can renew it no more, so that the last renewal is known.
func (s service) noteLeader(ctx context.Context, env Env, notes *struck) error {
	if s.lease == "" || notes.Lease != nil {
		return nil
	}
	l, err := leadership(ctx, env.Cluster, s.lease)
	if err != nil {
		// The fault is not about the lease: the figure is missing, that is all.
		env.Log("how long nobody leads will not be known: %v", err)
		return nil
	}
	if !slices.ContainsFunc(env.Targets, func(n clusters.Node) bool { return n.Name() == l.Node }) {
		return nil
	}
	notes.Lease = &l
	return env.Notes.Save(*notes)
}

// led says whether the component has a leader that works, and how long it had none.
func (s service) led(ctx context.Context, env Env, notes struck) (text string, err error) {
	if s.lease == "" {
		return "", nil
	}
	now, err := leadership(ctx, env.Cluster, s.lease)
	if err != nil {
		return "", err
	}
	if age := time.Since(now.Renewed); age > leaderFresh {
		return "", fmt.Errorf("nobody leads: the lease was renewed last %s ago", age.Round(time.Second))
	}
	if notes.Lease == nil {
		return "led by " + now.Node, nil
	}
	ended, err := gone(notes.Processes[notes.Lease.Node])
	if err != nil {
		return "", err
	}
	d, moved := notes.Lease.gap(now)
	switch {
	case !moved && ended:
		return "", errors.New("nobody leads: the lease is still that of the one who was killed")
	case !moved:
		return "the leader kept its lease", nil
	case !ended:
		// One that was paused, and whose lease another one took, ends itself when it
		// notices: k8s.io/kubernetes@v1.37.0 cmd/kube-controller-manager/app/controllermanager.go
		// OnStoppedLeading, cmd/kube-scheduler/app/server.go.
		return "", errors.New("the old leader has not noticed yet that another one leads")
	}
	return fmt.Sprintf("nobody led for %.1f s, now %s does", d.Seconds(), now.Node), nil
}

// look looks at one target. broken says of what is seen, with the processes that were
// hit, whether it is this fault.
func (s service) look(ctx context.Context, env Env, n clusters.Node, notes struck, broken func(met, []process.Ref) (bool, error), left func([]process.Ref) (string, error)) (seen, error) {
	m, text, err := s.meet(ctx, env, n)
	if err != nil {
		return seen{}, err
	}
	refs := notes.Processes[n.Name()]
	out := seen{evidence: fmt.Sprintf("%s (process %s) %s: %s", s.name, pids(refs), m, text)}
	if m != speaks {
		out.broken, err = broken(m, refs)
		return out, err
	}
	of, err := left(refs)
	if err != nil {
		return seen{}, err
	}
	if of != "" {
		out.evidence += "; but " + of
		return out, nil
	}
	if s.serves != nil {
		if err := s.serves(ctx, env, n); err != nil {
			out.evidence += "; but " + err.Error()
			return out, ctx.Err()
		}
	}
	led, err := s.led(ctx, env, notes)
	if err != nil {
		out.evidence += "; but " + err.Error()
		return out, ctx.Err()
	}
	if led != "" {
		out.evidence += "; " + led
	}
	out.whole = true
	return out, nil
}

// prove looks at all targets, and at somebody else if they are broken.
func (s service) prove(ctx context.Context, env Env, broken func(met, []process.Ref) (bool, error), left func([]process.Ref) (string, error)) (Effect, error) {
	notes, err := notesOf(env)
	if err != nil {
		return Effect{}, err
	}
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		return s.look(ctx, env, n, notes, broken, left)
	})
	if err != nil {
		return e, err
	}
	e.At = time.Now()
	if e.Gone && notes.Lease != nil {
		now, err := leadership(ctx, env.Cluster, s.lease)
		if err != nil {
			return Effect{}, err
		}
		if d, moved := notes.Lease.gap(now); moved {
			e.Measured, e.Unit = d.Seconds(), "s without a leader"
		}
	}
	return s.withControl(ctx, env, e), nil
}

// withControl adds the negative control to what is broken.
func (s service) withControl(ctx context.Context, env Env, e Effect) Effect {
	if !e.Active {
		return e
	}
	var err error
	if e.Control, err = s.control(ctx, env); err != nil {
		e.Active = false
		e.Evidence += fmt.Sprintf("; but nobody else is well either: %v", err)
	}
	return e
}

// elsewhere is the control of a service that runs on other nodes of these roles too.
func elsewhere(roles []clusters.Role, what string, meet func(context.Context, Env, clusters.Node) (met, string, error)) func(context.Context, Env) (string, error) {
	return func(ctx context.Context, env Env) (string, error) {
		var rest []clusters.Node
		for _, n := range env.Cluster.Nodes() {
			if slices.Contains(roles, n.Role()) && !isTarget(env, n) {
				rest = append(rest, n)
			}
		}
		return control(ctx, rest, what, func(ctx context.Context, n clusters.Node) error {
			m, text, err := meet(ctx, env, n)
			if err == nil && m != speaks {
				err = fmt.Errorf("%s %s: %s", n.Name(), m, text)
			}
			return err
		})
	}
}

// killing is a service that is killed once, and that something on the node starts
// again.
type killing struct{ of service }

// Describe implements Describer.
func (f *killing) Describe(targets []string) []string {
	return each(targets, "%s: pidfd_send_signal("+strings.Join(f.of.programs, ", ")+", SIGKILL)")
}

// Inject notes the processes before it kills them. A second one kills nobody else.
func (f *killing) Inject(ctx context.Context, env Env) error {
	notes, err := notesOf(env)
	if err != nil {
		return err
	}
	var all []process.Ref
	for _, n := range env.Targets {
		if len(notes.Processes[n.Name()]) == 0 {
			refs, err := f.of.running(ctx, n)
			if err != nil {
				return err
			}
			notes.add(n, refs)
		}
		all = append(all, notes.Processes[n.Name()]...)
	}
	if err := env.Notes.Save(notes); err != nil {
		return err
	}
	if err := kill(ctx, all); err != nil {
		return err
	}
	return f.of.noteLeader(ctx, env, &notes)
}

// Heal has nothing to take back.
func (*killing) Heal(context.Context, Env) error { return nil }

// Prove asks the service, and looks for the process.
func (f *killing) Prove(ctx context.Context, env Env) (Effect, error) {
	return f.of.prove(ctx, env, endedAndDown, stillThere)
}

// endedAndDown: what was killed has ended, and nobody has taken its place.
func endedAndDown(m met, refs []process.Ref) (bool, error) {
	ended, err := gone(refs)
	return err == nil && ended && len(refs) > 0 && m != mute, err
}

func stillThere(refs []process.Ref) (string, error) {
	ended, err := gone(refs)
	if err == nil && !ended {
		return "process " + pids(refs) + " has not ended", nil
	}
	return "", err
}

// pausing is a service that is paused for a time: it takes connections, since that is
// the kernel's doing, and answers nothing.
type pausing struct{ of service }

// Describe implements Describer.
func (f *pausing) Describe(targets []string) []string {
	return each(targets, "%s: pidfd_send_signal("+strings.Join(f.of.programs, ", ")+", SIGSTOP)")
}

// Inject pauses what runs now; what took its place since it was paused, too.
func (f *pausing) Inject(ctx context.Context, env Env) error {
	notes, err := notesOf(env)
	if err != nil {
		return err
	}
	var all []process.Ref
	fresh := false
	for _, n := range env.Targets {
		refs, err := f.of.running(ctx, n)
		if err != nil {
			return err
		}
		if notes.add(n, refs) {
			fresh = true
			// Paused before it listens it would refuse connections, which is another
			// fault than this one. One that is mute is paused by somebody else too.
			m, text, err := f.of.meet(ctx, env, n)
			if err != nil {
				return err
			}
			if m != speaks && m != mute {
				return fmt.Errorf("%s: there is nothing to pause yet: %s %s: %s", n.Name(), f.of.name, m, text)
			}
		}
		all = append(all, refs...)
	}
	if fresh {
		if err := env.Notes.Save(notes); err != nil {
			return err
		}
	}
	if err := stop(all); err != nil {
		return err
	}
	return f.of.noteLeader(ctx, env, &notes)
}

// stop pauses processes. One that has ended meanwhile is no error: who took its place
// is seen by the proof.
func stop(refs []process.Ref) error {
	return signal(refs, (*process.Process).Stop)
}

// resume lets processes go on, those that are still there.
func resume(refs []process.Ref) error {
	return signal(refs, (*process.Process).Cont)
}

func signal(refs []process.Ref, send func(*process.Process) error) error {
	var errs []error
	for _, ref := range refs {
		p, err := process.Open(ref)
		if err == nil {
			err = errors.Join(send(p), p.Close())
		}
		if err != nil && !errors.Is(err, process.ErrGone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Heal lets all that was ever paused go on.
func (*pausing) Heal(_ context.Context, env Env) error {
	notes, err := notesOf(env)
	if err != nil {
		return err
	}
	var errs []error
	for _, refs := range notes.Processes {
		errs = append(errs, resume(refs))
	}
	return errors.Join(errs...)
}

// Prove asks the service.
func (f *pausing) Prove(ctx context.Context, env Env) (Effect, error) {
	return f.of.prove(ctx, env, hitAndMute, stillPaused)
}

// hitAndMute: connections are taken, and nobody answers.
func hitAndMute(m met, refs []process.Ref) (bool, error) {
	return m == mute && len(refs) > 0, nil
}

func stillPaused(refs []process.Ref) (string, error) {
	for _, ref := range refs {
		p, err := process.Open(ref)
		if errors.Is(err, process.ErrGone) {
			continue
		}
		if err != nil {
			return "", err
		}
		stopped, err := p.Stopped()
		err = errors.Join(err, p.Close())
		switch {
		case errors.Is(err, process.ErrGone):
		case err != nil:
			return "", err
		case stopped:
			return fmt.Sprintf("%s is paused", ref), nil
		}
	}
	return "", nil
}

// crashEvery is between two looks for a process that came back. None of the components
// serves within that time of its start.
const crashEvery = 250 * time.Millisecond

// crashing is a service that is killed again each time it is back.
type crashing struct {
	of service

	mu    sync.Mutex
	stop  context.CancelFunc
	done  chan struct{}
	kills int
}

// Describe implements Describer.
func (f *crashing) Describe(targets []string) []string {
	return each(targets, "%s: pidfd_send_signal("+strings.Join(f.of.programs, ", ")+", SIGKILL), again within "+crashEvery.String()+" of each restart")
}

// Inject kills what runs now, and goes on with it until Heal, or maxHold.
func (f *crashing) Inject(ctx context.Context, env Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	notes, err := notesOf(env)
	if err != nil {
		return err
	}
	first := f.stop == nil
	for _, n := range env.Targets {
		refs, err := f.of.running(ctx, n)
		if err != nil && first {
			return err
		}
		notes.add(n, refs)
	}
	if err := env.Notes.Save(notes); err != nil {
		return err
	}
	if _, err := f.round(ctx, env); err != nil {
		return err
	}
	if first {
		again, stop := context.WithTimeout(context.WithoutCancel(ctx), env.MaxHold)
		f.stop, f.done = stop, make(chan struct{})
		go f.loop(again, env)
	}
	return f.of.noteLeader(ctx, env, &notes)
}

// round kills what runs, and says how many it were.
func (f *crashing) round(ctx context.Context, env Env) (int, error) {
	var all []process.Ref
	for _, n := range env.Targets {
		for _, program := range f.of.programs {
			refs, err := find(ctx, n, program)
			if err != nil {
				return 0, err
			}
			all = append(all, refs...)
		}
	}
	return len(all), kill(ctx, all)
}

func (f *crashing) loop(ctx context.Context, env Env) {
	defer close(f.done)
	tick := time.NewTicker(crashEvery)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n, err := f.round(ctx, env)
		f.mu.Lock()
		f.kills += n
		f.mu.Unlock()
		if err != nil && ctx.Err() == nil && err.Error() != said { // not four times a second
			said = err.Error()
			env.Log("kill %s again: %v", f.of.name, err)
		}
	}
}

// Heal ends the killing. It ends with the process that does it, so that in another
// one there is nothing to do.
func (f *crashing) Heal(context.Context, Env) error {
	f.mu.Lock()
	stop, done := f.stop, f.done
	f.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
	return nil
}

// Prove asks the service.
func (f *crashing) Prove(ctx context.Context, env Env) (Effect, error) {
	over := f.over()
	e, err := f.of.prove(ctx, env, endedAndDown, stillThere)
	e.Gone = e.Gone && over // what serves now may be killed in a moment
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kills > 0 {
		e.Evidence += fmt.Sprintf("; killed %d times more since", f.kills)
	}
	return e, err
}

// over says that nobody kills any more, as far as this process knows.
func (f *crashing) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil {
		return true
	}
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}
