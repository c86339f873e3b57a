package sample

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"gameday/clusters"
	"gameday/harness/history"
)

const (
	// memberEvery is how often each etcd member is asked for its state, and
	// memberFor how long it may take to answer.
	memberEvery = time.Second
	memberFor   = 800 * time.Millisecond
)

// members records the state of each etcd member, by a connection to it alone.
type members struct {
	record *history.Recorder
	all    []*member
}

type member struct {
	node string
	cli  *clientv3.Client

	mu    sync.Mutex
	state history.Etcd
}

func newMembers(ctx context.Context, cfg Config) (*members, error) {
	m := &members{record: cfg.Record}
	for _, n := range clusters.ByRole(cfg.Cluster.Nodes(), clusters.ControlPlane) {
		cli, err := clusters.EtcdClient(ctx, cfg.Cluster, n)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("record the state of etcd on %s: %w", n.Name(), err), m.close())
		}
		m.all = append(m.all, &member{node: n.Name(), cli: cli, state: history.Etcd{Node: n.Name(), Err: "not asked yet"}})
	}
	return m, nil
}

func (m *members) close() error {
	var errs []error
	for _, one := range m.all {
		errs = append(errs, one.cli.Close())
	}
	return errors.Join(errs...)
}

func (m *members) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, one := range m.all {
		all.Go(func() { one.run(ctx, m.record) })
	}
	all.Wait()
}

func (m *member) run(ctx context.Context, record *history.Recorder) {
	tick := time.NewTicker(memberEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		now := m.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		m.mu.Lock()
		// The text of an error differs from time to time: it is no change.
		before, after := m.state, now
		before.Err, after.Err = "", ""
		m.state = now
		m.mu.Unlock()
		if first || before != after {
			record.Add(history.Event{Etcd: &now})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask is the state of the member now. Healthy: it answers, is a voter, knows a
// leader and raises no alarm.
func (m *member) ask(ctx context.Context) history.Etcd {
	ctx, cancel := context.WithTimeout(ctx, memberFor)
	defer cancel()
	conn := m.cli.ActiveConnection()
	conn.ResetConnectBackoff()
	// clientv3's own Status makes a connection for each call.
	s, err := etcdserverpb.NewMaintenanceClient(conn).Status(ctx, &etcdserverpb.StatusRequest{})
	if err != nil {
		return history.Etcd{Node: m.node, Err: rpcError(err)}
	}
	out := history.Etcd{
		Node: m.node, Version: s.Version, Learner: s.IsLearner,
		Leader: s.Leader != 0 && s.Leader == s.Header.GetMemberId(),
		Term:   s.RaftTerm, LeaderID: s.Leader, Alarms: alarms(s.Errors),
		Err: strings.Join(s.Errors, "; "),
	}
	out.Healthy = s.Leader != 0 && !s.IsLearner && len(s.Errors) == 0
	return out
}

// alarms are those that are among the errors of a member's status, which has
// them as text: go.etcd.io/etcd/server/v3@v3.6.8 etcdserver/api/v3rpc/maintenance.go,
// Status.
func alarms(errs []string) string {
	var out []string
	for _, a := range []etcdserverpb.AlarmType{etcdserverpb.AlarmType_NOSPACE, etcdserverpb.AlarmType_CORRUPT} {
		if slices.ContainsFunc(errs, func(e string) bool { return strings.Contains(e, a.String()) }) {
			out = append(out, a.String())
		}
	}
	return strings.Join(out, ",")
}

// trouble names the members that are not healthy voters, or is "".
func (m *members) trouble() string {
	var bad []string
	for _, one := range m.all {
		one.mu.Lock()
		s := one.state
		one.mu.Unlock()
		if !s.Healthy {
			bad = append(bad, fmt.Sprintf("etcd on %s is not a healthy voter (learner: %v) %s", s.Node, s.Learner, s.Err))
		}
	}
	return strings.Join(bad, "; ")
}
