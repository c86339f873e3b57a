package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"gameday/clusters"
)

var etcdLoseData = Kind{
	Name: "etcd.lose-data",
	Doc:  "Takes the data of the target's etcd away: the member stays in the list, but cannot start any more; healing replaces it.",
	Rehearses: "A data folder that was deleted, or a disk that came back empty: the others wait for a member that has forgotten all it " +
		"had promised and must not come back under its old name (https://etcd.io/docs/v3.6/op-guide/runtime-configuration/#replace-a-failed-machine).",
	Mechanism:   "process killed, data set aside with a file in its place; at the heal MemberRemove, MemberAddAsLearner, start, MemberPromote",
	Undo:        "the guard, or gameday heal, finds out from the member list and the node's files how far it came, and completes it",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapFiles, clusters.CapProcesses, clusters.CapKubelet},
	Cost:        Cost{EtcdMembers: 1, APIServers: 1},
	ProveWithin: time.Minute,
	GoneWithin:  7 * time.Minute, // as for etcd.replace
	Trials:      []Trial{{Name: "etcd-lose-data", Target: Target{Pick: PickOne}}},
	New:         func() Fault { return &EtcdLoseData{} },
}

// EtcdLoseData is the fault etcd.lose-data: etcd.replace without the removal of the
// member from the list, which is only done when it heals. It has no parameters.
type EtcdLoseData struct{ replace EtcdReplace }

// Describe implements Describer.
func (*EtcdLoseData) Describe(targets []string) []string {
	var out []string
	for _, f := range []string{
		"%s: check that the others are a quorum without it",
		"%s: mv " + standing + " " + parked("TAG") + ", until the data is away",
		"%s: pidfd_send_signal(etcd, SIGKILL)",
		"%s: mv " + etcdMember + " " + aside("TAG"),
		"%s: at the heal: etcdctl member remove ID; member add NAME --learner --peer-urls=PEER; start; member promote ID",
	} {
		out = append(out, each(targets, f)...)
	}
	return out
}

// Inject lets the kubelet start the member again when its data is away, which fails.
func (f *EtcdLoseData) Inject(ctx context.Context, env Env) error {
	n, err := f.replace.target(env)
	if err != nil {
		return err
	}
	node, err := files(n)
	if err != nil {
		return err
	}
	if blocked, err := isBlocked(ctx, node); err != nil {
		return err
	} else if blocked { // another Inject came as far
		return unpark(ctx, n, env.Tag)
	}
	members, cli, err := membersBy(ctx, env)
	if err != nil {
		return err
	}
	defer cli.Close()
	m := memberOn(members, n)
	if m == nil {
		return fmt.Errorf("%s: no etcd member is there that could lose its data", n.Name())
	}
	if err := f.replace.maySpare(ctx, env, members, m); err != nil {
		return err
	}
	if err := env.Notes.Save(oldMember{ID: m.ID, Peer: m.PeerURLs}); err != nil {
		return err
	}
	if err := f.replace.takeDown(ctx, env, n); err != nil {
		return err
	}
	if err := wipe(ctx, n, env.Tag); err != nil {
		return err
	}
	return unpark(ctx, n, env.Tag)
}

// Heal removes the member whose data is away, and then does as etcd.replace. One that
// still has its data goes on with it.
func (f *EtcdLoseData) Heal(ctx context.Context, env Env) error {
	n, err := f.replace.target(env)
	if err != nil {
		return err
	}
	node, err := files(n)
	if err != nil {
		return err
	}
	var old oldMember
	noted, err := env.Notes.Load(&old)
	if err != nil {
		return err
	}
	blocked, err := isBlocked(ctx, node)
	if err != nil {
		return err
	}
	if noted {
		members, cli, err := membersBy(ctx, env)
		if err != nil {
			return err
		}
		defer cli.Close()
		m := memberOn(members, n)
		switch {
		case m == nil || m.ID != old.ID: // an earlier Heal came as far
		case blocked:
			if err := insist(ctx, func(ctx context.Context) error {
				_, err := cli.MemberRemove(ctx, m.ID)
				if errors.Is(err, rpctypes.ErrMemberNotFound) {
					return nil
				}
				return err
			}); err != nil {
				return fmt.Errorf("remove member %x of %s: %w", m.ID, n.Name(), err)
			}
			env.Log("%s: removed member %x, whose data is lost", n.Name(), m.ID)
		default:
			if err := giveBack(ctx, node, env.Tag); err != nil {
				return err
			}
		}
	}
	return f.replace.Heal(ctx, env)
}

// giveBack undoes a wipe that was interrupted between its two steps.
func giveBack(ctx context.Context, node clusters.Files, tag string) error {
	_, err := node.ReadDir(ctx, etcdMember)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = node.Rename(ctx, path.Join(aside(tag), "member"), etcdMember)
	if errors.Is(err, fs.ErrNotExist) { // nothing was set aside
		return nil
	}
	return err
}

// Prove asks the others for the member list, and the member itself, and looks for its
// data.
func (f *EtcdLoseData) Prove(ctx context.Context, env Env) (Effect, error) {
	n, err := f.replace.target(env)
	if err != nil {
		return Effect{}, err
	}
	node, err := files(n)
	if err != nil {
		return Effect{}, err
	}
	blocked, err := isBlocked(ctx, node)
	if err != nil {
		return Effect{}, err
	}
	if !blocked {
		e, err := f.replace.Prove(ctx, env)
		e.Active, e.Control = false, ""
		return e, err
	}
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		members, cli, err := membersBy(ctx, env)
		if err != nil {
			return seen{}, err
		}
		defer cli.Close()
		m := memberOn(members, n)
		down := refuses(ctx, n)
		switch {
		case down == nil:
			return seen{evidence: "its data is away, but something answers there"}, nil
		case ctx.Err() != nil:
			return seen{}, ctx.Err()
		case m == nil:
			return seen{evidence: "its data is away, and it is no member"}, nil
		}
		return seen{broken: true, evidence: fmt.Sprintf("member %x has no data, %v", m.ID, down)}, nil
	})
	if err != nil {
		return e, err
	}
	if e.Active {
		if e.Control, err = well(ctx, env); err != nil {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but the others do not work: %v", err)
		}
	}
	e.At = time.Now()
	return e, nil
}
