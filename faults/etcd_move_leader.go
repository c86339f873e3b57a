package faults

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"gameday/clusters"
)

var etcdMoveLeader = Kind{
	Name: "etcd.move-leader",
	Doc:  "Moves the leadership of etcd to the targets, one after the other, again and again; with one target to it and away from it.",
	Rehearses: "Frequent leader changes, as of an overloaded or badly connected cluster: each stops writes for a moment, and many of them " +
		"are a warning of their own (leader_changes_seen_total in https://etcd.io/docs/v3.6/metrics/#server).",
	Mechanism:   "the maintenance call MoveLeader to the member that leads, each `every`",
	Undo:        "nothing is left: the calls come from gameday itself and end with it",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapFiles}, // for the client certificate
	Cost:        Cost{EtcdMembers: 1},                     // no leader for as long as an election takes
	ProveWithin: 60 * time.Second,
	GoneWithin:  60 * time.Second,
	Trials:      []Trial{{Name: "etcd-move-leader", Target: Target{Pick: PickOne}, With: "{every: 1s}"}},
	New:         func() Fault { return &EtcdMoveLeader{Every: 2 * time.Second} },
}

// EtcdMoveLeader is the fault etcd.move-leader.
type EtcdMoveLeader struct {
	// Every is the time from move to move.
	Every time.Duration `yaml:"every" json:"every"`

	moving repeater
}

// Validate implements Validator.
func (f *EtcdMoveLeader) Validate() []error {
	if f.Every < 500*time.Millisecond || f.Every > 10*time.Second {
		return []error{fmt.Errorf("every: %s is not between 500ms and 10s", f.Every)}
	}
	return nil
}

// Describe implements Describer.
func (f *EtcdMoveLeader) Describe(targets []string) []string {
	return append(each(targets, "%s: each "+f.Every.String()+": etcdctl move-leader ID OF THE NEXT (through the leader)"),
		"next is one of "+strings.Join(targets, ", ")+", or another member when it is the only one")
}

// Inject begins to move. A second one goes on as it is.
func (f *EtcdMoveLeader) Inject(ctx context.Context, env Env) error {
	if len(clusters.ByRole(env.Cluster.Nodes(), clusters.ControlPlane)) < 2 {
		return errors.New("the only etcd member has nobody to give the leadership to")
	}
	next := 0
	f.moving.start(ctx, env.MaxHold, f.Every, func(ctx context.Context) {
		if err := f.move(ctx, env, &next); err != nil && ctx.Err() == nil {
			env.Log("etcd.move-leader: %v", err)
		}
	})
	return nil
}

// move gives the leadership to the next one that does not have it.
func (f *EtcdMoveLeader) move(ctx context.Context, env Env, next *int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*askTime)
	defer cancel()
	leader, ids, err := whoLeads(ctx, env.Cluster)
	if err != nil {
		return err
	}
	ring := env.Targets
	if len(ring) == 1 {
		ring = append(ring[:1:1], others(env)...)
		// To it, and then to whoever answers.
		if leader.Name() != ring[0].Name() {
			*next = 0
		}
	}
	for range ring {
		n := ring[*next%len(ring)]
		*next++
		id, ok := ids[n.Name()]
		if n.Name() == leader.Name() || !ok {
			continue
		}
		cli, err := clusters.EtcdClient(ctx, env.Cluster, leader)
		if err != nil {
			return err
		}
		defer cli.Close()
		if _, err := cli.MoveLeader(ctx, id); err != nil {
			return fmt.Errorf("move the leadership from %s to %s: %w", leader.Name(), n.Name(), err)
		}
		return nil
	}
	return fmt.Errorf("nobody answers to whom %s could give the leadership", leader.Name())
}

// whoLeads asks all members, all at the same time, and says who leads and the ids of
// those that answered.
func whoLeads(ctx context.Context, c clusters.Cluster) (leader clusters.Node, ids map[string]uint64, err error) {
	type answer struct {
		n   clusters.Node
		s   *clientv3.StatusResponse
		err error
	}
	nodes := clusters.ByRole(c.Nodes(), clusters.ControlPlane)
	answers := make(chan answer, len(nodes))
	for _, n := range nodes {
		go func() {
			s, err := memberStatus(ctx, c, n)
			answers <- answer{n, s, err}
		}()
	}
	ids = map[string]uint64{}
	var errs []error
	for range nodes {
		a := <-answers
		if a.err != nil {
			errs = append(errs, a.err)
			continue
		}
		ids[a.n.Name()] = a.s.Header.MemberId
		if a.s.Leader == a.s.Header.MemberId {
			leader = a.n
		}
	}
	if leader == nil {
		return nil, nil, fmt.Errorf("no etcd member says that it leads: %w", errors.Join(errs...))
	}
	return leader, ids, nil
}

// Heal stops moving. Where the leadership is then does not matter.
func (f *EtcdMoveLeader) Heal(ctx context.Context, _ Env) error { return f.moving.stop(ctx) }

// Prove watches the term and the leader that the members see.
func (f *EtcdMoveLeader) Prove(ctx context.Context, env Env) (Effect, error) {
	witness := append(others(env), env.Targets...)
	var w *clientv3.Client
	var n clusters.Node
	var errs []error
	for _, n = range witness { // one that answers
		if _, err := memberStatus(ctx, env.Cluster, n); err != nil {
			errs = append(errs, err)
			continue
		}
		var err error
		if w, err = clusters.EtcdClient(ctx, env.Cluster, n); err != nil {
			return Effect{}, err
		}
		break
	}
	if w == nil {
		return Effect{}, fmt.Errorf("no etcd member answers: %w", errors.Join(errs...))
	}
	defer w.Close()
	terms, err := watchTerms(ctx, w, n, f.Every)
	if err != nil {
		return Effect{}, err
	}
	e := Effect{At: time.Now(), Evidence: fmt.Sprintf("%s sees %s", clusters.Place(n), terms)}
	switch {
	case terms.changes >= termChanges:
		e.Active = true
		e.Asked, e.Measured, e.Unit = float64(f.Every.Milliseconds()), float64(terms.interval().Microseconds())/1000, "ms"
		if e.Control, err = well(ctx, env); err != nil {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but the others do not work: %v", err)
		}
	case terms.changes == 0:
		for _, n := range env.Targets {
			if err := serves(ctx, env, n); err != nil {
				e.Evidence += "; " + err.Error()
				return e, nil
			}
		}
		e.Gone = true
	}
	return e, nil
}

const (
	// termLook is how often a member is asked for its term, termChanges how many
	// changes are the fault and not an election of the cluster's own.
	termLook    = 20 * time.Millisecond
	termChanges = 3
)

// terms is what a member saw.
type terms struct {
	from, to    uint64
	leaders     map[uint64]bool
	changes     int // of the leader, each in a new term
	first, last time.Time
	watched     time.Duration
}

func (t terms) interval() time.Duration {
	if t.changes < 2 {
		return 0
	}
	return t.last.Sub(t.first) / time.Duration(t.changes-1)
}

func (t terms) String() string {
	if t.changes == 0 {
		return fmt.Sprintf("the same leader for %s, term %d", t.watched.Round(100*time.Millisecond), t.to)
	}
	return fmt.Sprintf("%d changes of the leader in %s, of %d members, terms %d to %d", t.changes, t.watched.Round(100*time.Millisecond), len(t.leaders), t.from, t.to)
}

// watchTerms watches until there were enough changes, or for as long as they should
// have taken.
func watchTerms(ctx context.Context, cli *clientv3.Client, n clusters.Node, every time.Duration) (terms, error) {
	began := time.Now()
	t := terms{leaders: map[uint64]bool{}}
	tick := time.NewTicker(termLook)
	defer tick.Stop()
	var last uint64
	for {
		once, cancel := context.WithTimeout(ctx, 2*askTime)
		s, err := cli.Status(once, clusters.EtcdURL(n))
		cancel()
		if err != nil {
			return t, fmt.Errorf("%s: status of its etcd member: %w", n.Name(), err)
		}
		now := time.Now()
		t.watched = now.Sub(began)
		if t.from == 0 {
			t.from, t.to = s.RaftTerm, s.RaftTerm
		}
		if s.Leader != 0 { // zero is in the middle of an election
			if last != 0 && s.Leader != last && s.RaftTerm > t.to {
				t.changes++
				t.last = now
				if t.first.IsZero() {
					t.first = now
				}
			}
			t.to, last, t.leaders[s.Leader] = s.RaftTerm, s.Leader, true
		}
		if t.changes >= termChanges || t.watched > (termChanges+1)*every {
			return t, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return t, context.Cause(ctx)
		}
	}
}
