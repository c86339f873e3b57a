package inject

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"gameday/clusters"
	"gameday/faults"
	"gameday/harness/history"
)

// How often is looked. Polls begin short, because the times of effects are read
// off them, and grow, because a proof costs the machine something.
const (
	pollFirst = 2 * time.Millisecond
	pollLast  = 250 * time.Millisecond
	// watchEvery is between two looks at a fault that is active.
	watchEvery = time.Second
	// reproveEvery is between two records of looks that found nothing new.
	reproveEvery = 15 * time.Second
	// healAgain is after how long without success Heal is called once more: an
	// upgrade may have put back what Heal had taken away, or the other way round.
	healAgain = 15 * time.Second
	// unseenBound is how long an active fault may go unseen (its proof ends with
	// errors) before it counts as lost.
	unseenBound = 10 * time.Second
)

// Errors of Start and Watch.
var (
	// ErrState is wrapped when the injection is not in the state that the call
	// needs. The fault was not touched.
	ErrState = errors.New("not possible in this state")
	// ErrUnproven is wrapped when the fault was injected, but its effect was not
	// seen in time. It has been healed, and the run cannot be conclusive.
	ErrUnproven = errors.New("the effect was not proven")
	// ErrBefore is wrapped when the target showed the effect before the fault was
	// injected, so that nothing could be proven. The fault was not touched.
	ErrBefore = errors.New("the target shows the effect already")
	// ErrStuck is wrapped when the fault could not be shown to be gone.
	ErrStuck = errors.New("the fault could not be undone")
	// ErrNoGuard is wrapped when no guard watches over the run, or not any more.
	ErrNoGuard = errors.New("no guard watches over this run, so nothing would undo the fault if the run died")

	errStopping = errors.New("the window of the fault was closed")
	errMaxHold  = errors.New("the fault was held for its longest time (maxHold)")
)

// Config of an injection. All fields but Phase are required.
type Config struct {
	// ID is the name in the scenario, unique in the run.
	ID    string
	Kind  faults.Kind
	Fault faults.Fault
	// Env of the fault; its Notes are made by New.
	Env     faults.Env
	Journal *Journal
	// Record receives every step with the time at which it happened.
	Record func(i history.Injection, at time.Time)
	// Phase that the window of the fault is bound to.
	Phase string
}

// Injection is one fault, from its request to the proof that it is gone.
//
//	               intent on disk,      effect proven
//	               guard alive
//	ready ------------------> armed ------------------> active --+
//	  |  the target shows       |  Inject failed,         |  ^   | effect lost:
//	  |  it before; no guard    |  unproven, window       |  +---+ injected again
//	  |                         |  closed                 |
//	  |                         |                         |  window closed, maxHold,
//	  |                         |                         |  guard lost
//	  |                         +----> Heal <-------------+
//	  |                                 | |  ^
//	  |  nothing to undo   proven gone  | |  |  tried again by the next Stop
//	  +----------------> healed <-------+ +--+-> stuck
//
// Start and Watch end early when Stop is called; Stop always runs to its own
// end. All methods may be called from several goroutines; the fault itself is
// used by one at a time.
type Injection struct {
	cfg    Config
	params map[string]any
	places []string
	nodes  []string

	turn chan struct{} // holds one token: the right to use the fault
	stop chan struct{} // closed by the first Stop
	end  chan struct{} // closed when healed or stuck for the first time
	once struct{ stop, end sync.Once }

	mu    sync.Mutex
	state State
}

// New checks the configuration; it touches nothing.
func New(cfg Config) (*Injection, error) {
	switch {
	case cfg.ID == "" || cfg.Fault == nil || cfg.Env.Cluster == nil || cfg.Journal == nil || cfg.Record == nil:
		return nil, errors.New("an injection needs an id, a fault, a cluster, a journal and a record")
	case len(cfg.Env.Targets) == 0:
		return nil, fmt.Errorf("injection %s: %w", cfg.ID, faults.ErrNoTarget)
	case cfg.Env.MaxHold <= 0 || cfg.Kind.ProveWithin <= 0 || cfg.Kind.GoneWithin <= 0:
		return nil, fmt.Errorf("injection %s: the fault must be bounded (maxHold, and proveWithin and goneWithin of its kind)", cfg.ID)
	case cfg.Env.Tag == "" || cfg.Env.Tag != clean(cfg.Env.Tag):
		return nil, fmt.Errorf("injection %s: tag %q is not of [a-z0-9-]", cfg.ID, cfg.Env.Tag)
	}
	p, err := encode(cfg.Fault)
	if err != nil {
		return nil, fmt.Errorf("injection %s: %w", cfg.ID, err)
	}
	if cfg.Env.Log == nil {
		cfg.Env.Log = func(string, ...any) {}
	}
	cfg.Env.Notes = cfg.Journal.notesOf(cfg.ID)
	i := &Injection{
		cfg: cfg, params: p, state: Ready,
		turn: make(chan struct{}, 1), stop: make(chan struct{}), end: make(chan struct{}),
	}
	for _, n := range cfg.Env.Targets {
		i.places = append(i.places, clusters.Place(n))
		i.nodes = append(i.nodes, n.Name())
	}
	i.turn <- struct{}{}
	return i, nil
}

// Tag names everything that an injection makes: of the run and the injection,
// in [a-z0-9-].
func Tag(run, id string) string { return clean(run) + "-" + clean(id) }

func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, s)
}

// encode gives the parameters as they are written in a scenario.
func encode(f faults.Fault) (map[string]any, error) {
	b, err := yaml.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("parameters of the fault: %w", err)
	}
	var p map[string]any
	if err := yaml.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("parameters of the fault: %w", err)
	}
	return p, nil
}

func decode(p map[string]any, f faults.Fault) error {
	b, err := yaml.Marshal(p)
	if err != nil {
		return fmt.Errorf("parameters of the fault: %w", err)
	}
	if err := yaml.Unmarshal(b, f); err != nil {
		return fmt.Errorf("parameters of the fault: %w", err)
	}
	return nil
}

// State is the state now.
func (i *Injection) State() State {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.state
}

func (i *Injection) become(s State) {
	i.mu.Lock()
	i.state = s
	i.mu.Unlock()
	if s == Healed || s == Stuck {
		i.once.end.Do(func() { close(i.end) })
	}
}

// Start injects the fault and returns when its effect is proven. When it
// returns an error the fault has been healed again, or is stuck.
func (i *Injection) Start(ctx context.Context) error {
	if err := i.start(ctx); err != nil {
		return fmt.Errorf("%s (%s on %s): %w", i.cfg.ID, i.cfg.Kind.Name, strings.Join(i.places, ", "), err)
	}
	return nil
}

func (i *Injection) start(ctx context.Context) error {
	if s := i.State(); s != Ready {
		return fmt.Errorf("start: it is %s: %w", s, ErrState)
	}
	window, done := i.untilStop(ctx)
	defer done()
	if err := i.take(window); err != nil {
		i.record("unproven", time.Now(), nil, err)
		return err
	}
	defer i.give()
	if s := i.State(); s != Ready {
		return fmt.Errorf("start: it is %s: %w", s, ErrState)
	}
	i.record("requested", time.Now(), nil, nil)
	if err := i.before(window); err != nil {
		i.record("unproven", time.Now(), nil, err)
		i.become(Healed)
		return err
	}
	deadline := time.Now().Add(i.cfg.Env.MaxHold)
	err := i.inject(window, deadline)
	if err == nil {
		return nil
	}
	i.record("unproven", time.Now(), nil, err)
	if i.State() == Ready { // not even announced
		i.become(Healed)
		return err
	}
	return errors.Join(err, i.heal(ctx, err))
}

// before looks at the target while it is whole.
func (i *Injection) before(ctx context.Context) error {
	if err := i.cfg.Journal.guarded(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, i.cfg.Kind.ProveWithin)
	defer cancel()
	e, err := poll(ctx, func(ctx context.Context) (faults.Effect, bool, error) {
		e, err := i.cfg.Fault.Prove(ctx, i.cfg.Env)
		return e, err == nil, err
	})
	switch {
	case err != nil:
		return fmt.Errorf("look at the target before: %w", err)
	case e.Active:
		return fmt.Errorf("%w: %s", ErrBefore, e.Evidence)
	}
	return nil
}

// inject goes from ready through armed to active. On an error the state says how
// far it came.
func (i *Injection) inject(ctx context.Context, deadline time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, i.cfg.Kind.ProveWithin)
	defer cancel()
	var asked time.Time
	err := i.cfg.Journal.act(ctx, func() error {
		if err := i.cfg.Journal.arm(i.cfg.ID, Intent{
			Fault: i.cfg.Kind.Name, Params: i.params, Places: i.places, Nodes: i.nodes,
			Tag: i.cfg.Env.Tag, Phase: i.cfg.Phase, Deadline: deadline,
		}); err != nil {
			return err
		}
		i.become(Armed)
		i.record("armed", time.Now(), nil, nil)
		go i.keep(context.WithoutCancel(ctx), deadline)
		asked = time.Now()
		if err := i.cfg.Fault.Inject(ctx, i.cfg.Env); err != nil {
			return fmt.Errorf("inject: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	i.record("injected", time.Now(), nil, nil)
	e, err := poll(ctx, i.proof)
	if err != nil {
		return fmt.Errorf("%w within %s of its injection: %w", ErrUnproven, time.Since(asked).Round(time.Millisecond), err)
	}
	i.become(Active)
	i.record("proven", e.At, &e, nil)
	return i.cfg.Journal.mark(i.cfg.ID, Active, nil)
}

func (i *Injection) proof(ctx context.Context) (faults.Effect, bool, error) {
	e, err := i.cfg.Fault.Prove(ctx, i.cfg.Env)
	if err == nil && !e.Active {
		err = fmt.Errorf("seen instead: %s", e.Evidence)
	}
	return e, err == nil, err
}

// keep ends the fault by itself when nobody else does.
func (i *Injection) keep(ctx context.Context, deadline time.Time) {
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	cause := errMaxHold
	select {
	case <-i.end:
		return
	case <-t.C:
	case <-i.cfg.Journal.guardLost():
		cause = ErrNoGuard
	}
	if err := i.finish(ctx, cause); err != nil {
		i.cfg.Env.Log("%s: %v", i.cfg.ID, err)
	}
}

// Watch looks again and again whether the fault still bites, until ctx or the
// fault ends. A target that was re-created meanwhile gets it again. For a fault
// that is not active, or that has no length, it returns at once.
func (i *Injection) Watch(ctx context.Context) {
	if i.cfg.Kind.Instant || i.State() != Active {
		return
	}
	ctx, done := i.untilStop(ctx)
	defer done()
	w := watch{i: i, seen: time.Now(), recorded: time.Now()}
	for pause(ctx, watchEvery) == nil {
		if i.take(ctx) != nil {
			return
		}
		if i.State() != Active {
			i.give()
			return
		}
		w.look(ctx)
		i.give()
	}
}

// Again injects a fault that is active once more, as Watch does with a target that
// was re-created, and sees that it bites still. It is for those who want to know
// whether the fault bears it.
func (i *Injection) Again(ctx context.Context) error {
	ctx, done := i.untilStop(ctx)
	defer done()
	if err := i.take(ctx); err != nil {
		return err
	}
	defer i.give()
	if s := i.State(); s != Active {
		return fmt.Errorf("inject again: it is %s: %w", s, ErrState)
	}
	ctx, cancel := context.WithTimeout(ctx, i.cfg.Kind.ProveWithin)
	defer cancel()
	err := i.cfg.Journal.act(ctx, func() error { return i.cfg.Fault.Inject(ctx, i.cfg.Env) })
	if err != nil {
		return fmt.Errorf("inject again: %w", err)
	}
	if i.cfg.Kind.Instant {
		return nil
	}
	if _, err := poll(ctx, i.proof); err != nil {
		return fmt.Errorf("injected again, %w: %w", ErrUnproven, err)
	}
	return nil
}

// Env is where the fault acts, with the notes that it keeps in the journal.
func (i *Injection) Env() faults.Env { return i.cfg.Env }

// watch is what Watch remembers from look to look.
type watch struct {
	i *Injection
	// seen is when the fault was last seen to bite, recorded when that was last
	// told.
	seen, recorded time.Time
	// doubt is when it was first not seen any more; zero if it was.
	doubt time.Time
	lost  bool
}

func (w *watch) look(ctx context.Context) {
	i := w.i
	look, cancel := context.WithTimeout(ctx, i.cfg.Kind.ProveWithin)
	defer cancel()
	began := time.Now()
	e, err := i.cfg.Fault.Prove(look, i.cfg.Env)
	switch {
	case ctx.Err() != nil: // the window ends; what was seen says nothing
		return
	case err == nil && e.Active:
		w.bites(e)
		return
	case w.doubt.IsZero(): // once may be a disturbance of the look itself
		w.doubt = began
		return
	case err != nil && time.Since(w.seen) < unseenBound:
		return
	}
	if !w.lost {
		w.lost = true
		if err == nil {
			i.record("lost", w.doubt, &e, nil)
		} else {
			i.record("lost", w.doubt, nil, err)
		}
	}
	err = i.cfg.Journal.act(look, func() error { return i.cfg.Fault.Inject(look, i.cfg.Env) })
	if err == nil {
		if e, err = poll(look, i.proof); err == nil {
			w.bites(e)
			return
		}
	}
	if ctx.Err() == nil {
		i.cfg.Env.Log("%s: inject again: %v", i.cfg.ID, err)
	}
}

func (w *watch) bites(e faults.Effect) {
	state := "reproven"
	if w.lost {
		state = "rearmed"
	}
	if w.lost || time.Since(w.recorded) >= reproveEvery {
		w.i.record(state, e.At, &e, nil)
		w.recorded = time.Now()
	}
	w.seen, w.doubt, w.lost = time.Now(), time.Time{}, false
}

// Stop heals the fault and returns when it is proven gone, or stuck. It has its
// own bound, whatever becomes of ctx. Calling it again is no error; after stuck
// it tries once more.
func (i *Injection) Stop(ctx context.Context) error {
	if err := i.finish(context.WithoutCancel(ctx), nil); err != nil {
		return fmt.Errorf("%s (%s on %s): %w", i.cfg.ID, i.cfg.Kind.Name, strings.Join(i.places, ", "), err)
	}
	return nil
}

func (i *Injection) finish(ctx context.Context, cause error) error {
	i.once.stop.Do(func() { close(i.stop) })
	if err := i.take(ctx); err != nil {
		return err
	}
	defer i.give()
	switch i.State() {
	case Ready: // Start will refuse from now on
		i.become(Healed)
		return nil
	case Healed:
		return nil
	}
	return i.heal(ctx, cause)
}

// heal undoes the fault and proves that it is gone.
func (i *Injection) heal(ctx context.Context, cause error) error {
	ctx = context.WithoutCancel(ctx)
	u := undoing{
		kind: i.cfg.Kind, fault: i.cfg.Fault, env: i.cfg.Env,
		// Also when the journal was taken over: what this process holds itself
		// (a table, a child) only it can let go of.
		locked: i.cfg.Journal.locked,
		healed: func(at time.Time) { i.record("healed", at, nil, nil) },
	}
	if i.cfg.Kind.Instant { // the cluster heals it, not we
		u.healed = func(time.Time) {}
	} else {
		i.record("healing", time.Now(), nil, cause)
	}
	e, err := u.run(ctx)
	if err != nil {
		i.record("stuck", time.Now(), &e, err)
		err = errors.Join(fmt.Errorf("%w: %w", ErrStuck, err), i.mark(Stuck, err))
		i.become(Stuck)
		return err
	}
	i.record("gone", e.At, &e, nil)
	err = i.mark(Healed, nil)
	i.become(Healed)
	return err
}

// mark writes the end of the injection down, unless another process did.
func (i *Injection) mark(s State, cause error) error {
	if err := i.cfg.Journal.mark(i.cfg.ID, s, cause); err != nil && !errors.Is(err, ErrTakenOver) {
		return err
	}
	return nil
}

// undoing is the way from broken to proven whole. The run, the guard and
// `gameday heal` all go it.
type undoing struct {
	kind   faults.Kind
	fault  faults.Fault
	env    faults.Env
	locked func(ctx context.Context, fn func() error) error
	healed func(at time.Time)
}

func (u undoing) run(ctx context.Context) (faults.Effect, error) {
	ctx, cancel := context.WithTimeout(ctx, u.kind.GoneWithin)
	defer cancel()
	var told bool
	for {
		err := u.locked(ctx, func() error { return u.fault.Heal(ctx, u.env) })
		if err == nil && !told {
			told = true
			u.healed(time.Now())
		}
		if err != nil {
			u.env.Log("heal %s: %v", u.kind.Name, err)
		}
		round, cancel := context.WithTimeout(ctx, healAgain)
		e, perr := poll(round, func(ctx context.Context) (faults.Effect, bool, error) {
			e, perr := u.fault.Prove(ctx, u.env)
			if perr == nil && !e.Gone {
				perr = fmt.Errorf("seen instead: %s", e.Evidence)
			}
			// A Heal that failed is tried again soon, not when the round is over.
			return e, perr == nil || err != nil, perr
		})
		cancel()
		if err == nil && perr == nil {
			return e, nil
		}
		err = errors.Join(err, perr)
		if ctx.Err() != nil || pause(ctx, pollLast) != nil {
			return e, fmt.Errorf("not seen to be gone within %s: %w", u.kind.GoneWithin, err)
		}
	}
}

// poll looks until the look says that it is enough, or ctx ends; then the error
// of the last look counts.
func poll(ctx context.Context, look func(context.Context) (faults.Effect, bool, error)) (faults.Effect, error) {
	for d := pollFirst; ; d = min(d*3/2, pollLast) {
		e, enough, err := look(ctx)
		if e.At.IsZero() {
			e.At = time.Now()
		}
		if enough {
			return e, err
		}
		if perr := pause(ctx, d); perr != nil {
			return e, errors.Join(err, perr)
		}
	}
}

// untilStop is a context that also ends when Stop is called.
func (i *Injection) untilStop(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-i.stop:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

func (i *Injection) take(ctx context.Context) error {
	select {
	case <-i.turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (i *Injection) give() { i.turn <- struct{}{} }

func (i *Injection) record(state string, at time.Time, e *faults.Effect, cause error) {
	h := history.Injection{
		ID: i.cfg.ID, Fault: i.cfg.Kind.Name, Targets: slices.Clone(i.places), Nodes: slices.Clone(i.nodes),
		State: state, Phase: i.cfg.Phase,
	}
	if state == "requested" {
		h.Params = i.params
	}
	if e != nil {
		h.Proof, h.Control = e.Evidence, e.Control
		h.Asked, h.Measured, h.Unit = e.Asked, e.Measured, e.Unit
	}
	if cause != nil {
		h.Error = cause.Error()
	}
	i.cfg.Record(h, at)
}
