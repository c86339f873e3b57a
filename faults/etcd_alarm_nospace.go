package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"gameday/clusters"
)

var etcdAlarmNospace = Kind{
	Name: "etcd.alarm-nospace",
	Doc:  "Raises the NOSPACE alarm of the targets' etcd members, upon which the whole etcd cluster refuses writes.",
	Rehearses: "A database that has reached its quota (2 GB by default), as by a flood of events or custom resources, without " +
		"compaction: everything can be read, nothing be written, until it is compacted, defragmented and the alarm disarmed " +
		"(https://etcd.io/docs/v3.6/op-guide/maintenance/#space-quota).",
	Mechanism:   "the maintenance call Alarm, ACTIVATE NOSPACE for the member, as the member itself makes it when its quota is reached",
	Undo:        "the guard, or gameday heal, disarms the alarms in the journal, and no other",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapFiles}, // for the client certificate
	Cost:        Cost{EtcdMembers: 2},                     // no write is accepted, as by two of three members that are away
	ProveWithin: 20 * time.Second,
	GoneWithin:  5 * time.Minute, // controllers that lost their leases meanwhile are restarted
	Trials:      []Trial{{Name: "etcd-alarm-nospace", Target: Target{Pick: PickOne}}},
	New:         func() Fault { return &EtcdAlarmNospace{} },
}

// EtcdAlarmNospace is the fault etcd.alarm-nospace. It has no parameters.
type EtcdAlarmNospace struct{}

// raised are the notes: the members whose alarm is ours, by node.
type raised map[string]uint64

// Describe implements Describer.
func (*EtcdAlarmNospace) Describe(targets []string) []string {
	return append(each(targets, "%s: Maintenance.Alarm(ACTIVATE, NOSPACE, ID of its member)"),
		each(targets, "%s: at the heal: etcdctl alarm disarm, for this member only")...)
}

// Inject raises what is not raised yet. An alarm that was there before is real, and
// no place for a game day.
func (*EtcdAlarmNospace) Inject(ctx context.Context, env Env) error {
	ours := raised{}
	if _, err := env.Notes.Load(&ours); err != nil {
		return err
	}
	cli, err := clusters.EtcdClient(ctx, env.Cluster)
	if err != nil {
		return err
	}
	defer cli.Close()
	list, err := cli.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("list the etcd members: %w", err)
	}
	alarms, err := cli.AlarmList(ctx)
	if err != nil {
		return fmt.Errorf("list the alarms: %w", err)
	}
	for _, n := range env.Targets {
		m := memberOn(list.Members, n)
		if m == nil {
			return fmt.Errorf("%s: no etcd member is there", n.Name())
		}
		if hasNospace(alarms, m.ID) && ours[n.Name()] != m.ID {
			return fmt.Errorf("%s: its etcd member has the alarm NOSPACE already, and not from this fault", n.Name())
		}
		ours[n.Name()] = m.ID
	}
	if err := env.Notes.Save(ours); err != nil {
		return err
	}
	for _, n := range env.Targets {
		if err := alarm(ctx, cli, etcdserverpb.AlarmRequest_ACTIVATE, ours[n.Name()]); err != nil {
			return fmt.Errorf("%s: raise the alarm: %w", n.Name(), err)
		}
	}
	return nil
}

// alarm changes the NOSPACE alarm of a member. The client can only disarm.
func alarm(ctx context.Context, cli *clientv3.Client, action etcdserverpb.AlarmRequest_AlarmAction, id uint64) error {
	_, err := etcdserverpb.NewMaintenanceClient(cli.ActiveConnection()).Alarm(ctx, &etcdserverpb.AlarmRequest{
		Action: action, MemberID: id, Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	return err
}

func hasNospace(r *clientv3.AlarmResponse, id uint64) bool {
	return slices.ContainsFunc(r.Alarms, func(a *etcdserverpb.AlarmMember) bool {
		return a.MemberID == id && a.Alarm == etcdserverpb.AlarmType_NOSPACE
	})
}

// Heal disarms what Inject noted.
func (*EtcdAlarmNospace) Heal(ctx context.Context, env Env) error {
	ours := raised{}
	if _, err := env.Notes.Load(&ours); err != nil || len(ours) == 0 {
		return err
	}
	cli, err := clusters.EtcdClient(ctx, env.Cluster)
	if err != nil {
		return err
	}
	defer cli.Close()
	var errs []error
	for name, id := range ours {
		// Disarming one that is not raised is no error.
		if err := insist(ctx, func(ctx context.Context) error {
			return alarm(ctx, cli, etcdserverpb.AlarmRequest_DEACTIVATE, id)
		}); err != nil {
			errs = append(errs, fmt.Errorf("%s: disarm the alarm: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Prove asks each target for a write, which is refused or would write nothing.
func (*EtcdAlarmNospace) Prove(ctx context.Context, env Env) (Effect, error) {
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		err := mayWrite(ctx, env.Cluster, n)
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return seen{broken: true, evidence: fmt.Sprintf("a write is refused: %v", err)}, nil
		}
		if err != nil {
			return seen{}, err
		}
		if err := serves(ctx, env, n); err != nil { // also while the member has an alarm
			return seen{evidence: err.Error()}, nil
		}
		return seen{whole: true, evidence: "accepts writes, no alarm"}, nil
	})
	if err != nil {
		return e, err
	}
	if e.Active {
		// The alarm of one stops the writes of all; what stays is that all can be read.
		if e.Control, err = well(ctx, env); err != nil {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but the others cannot be read either: %v", err)
		}
	}
	e.At = time.Now()
	return e, nil
}

// mayWrite sends a member a transaction that would write if a key had a version
// below zero, so that nothing is ever written. etcd refuses it for lack of space by
// what it might write: go.etcd.io/etcd/server/v3@v3.5.21
// etcdserver/apply.go applierV3Capped.
func mayWrite(ctx context.Context, c clusters.Cluster, n clusters.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 3*askTime)
	defer cancel()
	cli, err := clusters.EtcdClient(ctx, c, n)
	if err != nil {
		return err
	}
	defer cli.Close()
	const key = "gameday/no-such-key"
	r, err := cli.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), "<", 0)).Then(clientv3.OpPut(key, "x")).Commit()
	if err != nil {
		return fmt.Errorf("%s: write through its etcd member: %w", n.Name(), err)
	}
	if r.Succeeded {
		return fmt.Errorf("%s: its etcd member says that %s has a version below zero", n.Name(), key)
	}
	return nil
}
