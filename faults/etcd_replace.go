package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"gameday/clusters"
)

var etcdReplace = Kind{
	Name: "etcd.replace",
	Doc:  "Removes the etcd member of the target from the cluster and wipes it; healing adds it anew as a learner and promotes it.",
	Rehearses: "A control plane whose disk is lost: its member is removed, and a new one joins and must catch up " +
		"(https://etcd.io/docs/v3.6/op-guide/runtime-configuration/#replace-a-failed-machine). Until then one more " +
		"failure takes the quorum.",
	Mechanism: "manifest moved away and process killed, MemberRemove, data set aside; MemberAddAsLearner, start, MemberPromote",
	Undo:      "the guard, or gameday heal, finds out from the member list and the node's files how far it came, and completes it",
	Roles:     []clusters.Role{clusters.ControlPlane},
	Needs:     []clusters.Capability{clusters.CapFiles, clusters.CapProcesses, clusters.CapKubelet},
	Cost:      Cost{EtcdMembers: 1, APIServers: 1},
	// etcd refuses to remove or add a member until its peers were connected for
	// 5 s: go.etcd.io/etcd/server/v3@v3.6.8 etcdserver/server.go HealthInterval.
	ProveWithin: time.Minute,
	GoneWithin:  7 * time.Minute, // as for etcd.stop
	Trials:      []Trial{{Name: "etcd-replace", Target: Target{Pick: PickOne}}},
	New:         func() Fault { return &EtcdReplace{} },
}

const (
	// etcdData is kubeadm's data folder of etcd, member the folder that etcd makes
	// in it: k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/apis/kubeadm/v1beta4/defaults.go.
	etcdData   = "/var/lib/etcd"
	etcdMember = etcdData + "/member"
)

// aside is where the data of the old member waits. It is inside etcd's folder
// because that may be a mount of its own, which a rename cannot leave.
func aside(tag string) string { return path.Join(etcdData, "gameday-"+tag) }

// EtcdReplace is the fault etcd.replace. It has no parameters.
type EtcdReplace struct {
	// kill is killEtcd, but in a test without processes.
	kill func(context.Context, clusters.Node) error
}

// oldMember is noted before it is removed.
type oldMember struct {
	ID   uint64   `json:"id"`
	Peer []string `json:"peer"`
}

// Describe implements Describer.
func (*EtcdReplace) Describe(targets []string) []string {
	var out []string
	for _, f := range []string{
		"%s: check that the others are a quorum without it",
		"%s: mv " + standing + " " + parked("TAG"),
		"%s: pidfd_send_signal(etcd, SIGKILL)",
		"%s: etcdctl member remove ID (through another member)",
		"%s: mv " + etcdMember + " " + aside("TAG"),
		"%s: at the heal: etcdctl member add NAME --learner --peer-urls=PEER; start; etcdctl member promote ID",
	} {
		out = append(out, each(targets, f)...)
	}
	return out
}

func (*EtcdReplace) target(env Env) (clusters.Node, error) {
	if len(env.Targets) != 1 {
		return nil, fmt.Errorf("etcd.replace replaces one member at a time, not %d: give it one target", len(env.Targets))
	}
	return env.Targets[0], nil
}

// Inject stops the member before it removes it, and removes it before it touches
// its data: at no time does a member of the cluster miss data that it had
// acknowledged.
func (f *EtcdReplace) Inject(ctx context.Context, env Env) error {
	n, err := f.target(env)
	if err != nil {
		return err
	}
	members, cli, err := membersBy(ctx, env)
	if err != nil {
		return err
	}
	defer cli.Close()
	if m := memberOn(members, n); m != nil {
		if err := f.maySpare(ctx, env, members, m); err != nil {
			return err
		}
		if err := env.Notes.Save(oldMember{ID: m.ID, Peer: m.PeerURLs}); err != nil {
			return err
		}
		if err := f.takeDown(ctx, env, n); err != nil {
			return err
		}
		if err := insist(ctx, func(ctx context.Context) error {
			_, err := cli.MemberRemove(ctx, m.ID)
			if errors.Is(err, rpctypes.ErrMemberNotFound) {
				return nil
			}
			return err
		}); err != nil {
			return fmt.Errorf("remove member %x of %s: %w", m.ID, n.Name(), err)
		}
	} else if err := f.takeDown(ctx, env, n); err != nil {
		return err
	}
	return wipe(ctx, n, env.Tag)
}

// takeDown keeps the member on a node from running.
func (f *EtcdReplace) takeDown(ctx context.Context, env Env, n clusters.Node) error {
	if err := park(ctx, n, env.Tag); err != nil {
		return err
	}
	end := f.kill
	if end == nil {
		end = killEtcd
	}
	return end(ctx, n)
}

// maySpare says whether the cluster works without the member.
func (*EtcdReplace) maySpare(ctx context.Context, env Env, members []*etcdserverpb.Member, m *etcdserverpb.Member) error {
	if m.IsLearner {
		return fmt.Errorf("%s is a learner: it is being replaced already", m.Name)
	}
	healthy, voters := 0, 0
	var errs []error
	for _, o := range members {
		if o.ID == m.ID {
			continue
		}
		if o.IsLearner {
			return fmt.Errorf("%s is a learner: etcd allows one at a time", o.Name)
		}
		voters++
		i := slices.IndexFunc(env.Cluster.Nodes(), func(n clusters.Node) bool {
			return memberOn([]*etcdserverpb.Member{o}, n) != nil
		})
		if i < 0 {
			errs = append(errs, fmt.Errorf("member %s is on no node of the cluster", o.Name))
			continue
		}
		if err := readThrough(ctx, env.Cluster, env.Cluster.Nodes()[i]); err != nil {
			errs = append(errs, err)
			continue
		}
		healthy++
	}
	if healthy < voters/2+1 {
		return fmt.Errorf("without %s %d of %d members would be healthy, which is no quorum: %w", m.Name, healthy, voters, errors.Join(errs...))
	}
	return nil
}

// wipe sets the data of a removed member aside. A file takes the folder's place,
// so that etcd cannot start: should an upgrade put a manifest back now, an empty
// first member would found a cluster of its own.
func wipe(ctx context.Context, n clusters.Node, tag string) error {
	f, err := files(n)
	if err != nil {
		return err
	}
	blocked, err := isBlocked(ctx, f)
	if err != nil || blocked {
		return err
	}
	old := path.Join(aside(tag), "member")
	if err := f.RemoveAll(ctx, old); err != nil {
		return err
	}
	if err := f.Rename(ctx, etcdMember, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.WriteFile(ctx, etcdMember, []byte("gameday "+tag+": this member was removed; gameday heal adds it anew\n"), 0o600)
}

// isBlocked says whether the file of wipe is there.
func isBlocked(ctx context.Context, f clusters.Files) (bool, error) {
	_, err := f.ReadDir(ctx, etcdMember)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	b, rerr := f.ReadFile(ctx, etcdMember)
	if rerr != nil {
		return false, errors.Join(err, rerr)
	}
	if !strings.HasPrefix(string(b), "gameday ") {
		return false, fmt.Errorf("%s is a file, which neither etcd nor gameday made", etcdMember)
	}
	return true, nil
}

// Heal derives what is to be done from the member list and the files, so that it
// can go on after any half Inject or half Heal, in any process.
func (f *EtcdReplace) Heal(ctx context.Context, env Env) error {
	n, err := f.target(env)
	if err != nil {
		return err
	}
	node, err := files(n)
	if err != nil {
		return err
	}
	members, cli, err := membersBy(ctx, env)
	if err != nil {
		return err
	}
	defer cli.Close()
	m := memberOn(members, n)
	if m != nil && !m.IsLearner {
		return f.keep(ctx, env, n, node, m)
	}
	if m == nil {
		// Nothing of the old member may run or be found by the new one.
		if err := f.takeDown(ctx, env, n); err != nil {
			return err
		}
		if err := wipe(ctx, n, env.Tag); err != nil {
			return err
		}
		peer := []string{"https://" + n.IP().String() + ":" + clusters.EtcdPeerPort}
		var old oldMember
		if ok, err := env.Notes.Load(&old); err != nil {
			return err
		} else if ok {
			peer = old.Peer
		}
		if err := insist(ctx, func(ctx context.Context) error {
			r, err := cli.MemberAddAsLearner(ctx, peer)
			if errors.Is(err, rpctypes.ErrPeerURLExist) { // the answer to an earlier try was lost
				list, lerr := cli.MemberList(ctx)
				if lerr != nil {
					return lerr
				}
				members, m = list.Members, memberOn(list.Members, n)
				return nil
			}
			if err == nil {
				members, m = r.Members, r.Member
			}
			return err
		}); err != nil {
			return fmt.Errorf("add %s as a learner: %w", n.Name(), err)
		}
		env.Log("%s: added as learner %x", n.Name(), m.ID)
	}
	if err := f.start(ctx, env.Tag, n, node, members); err != nil {
		return fmt.Errorf("%s: start the new member: %w", n.Name(), err)
	}
	if err := insist(ctx, func(ctx context.Context) error {
		_, err := cli.MemberPromote(ctx, m.ID)
		if errors.Is(err, rpctypes.ErrMemberNotLearner) {
			return nil
		}
		return err // not in sync yet, most likely
	}); err != nil {
		return fmt.Errorf("promote learner %x of %s: %w", m.ID, n.Name(), err)
	}
	env.Log("%s: promoted %x", n.Name(), m.ID)
	return tidy(ctx, node, env.Tag)
}

// keep is Heal for a member that is a voter: it was never removed, or it was
// promoted already.
func (f *EtcdReplace) keep(ctx context.Context, env Env, n clusters.Node, node clusters.Files, m *etcdserverpb.Member) error {
	blocked, err := isBlocked(ctx, node)
	if err != nil {
		return err
	}
	if blocked {
		// wipe comes after the removal, so this is not of our making. Its own data
		// is the only thing that it may start with.
		var old oldMember
		if ok, err := env.Notes.Load(&old); err != nil || !ok || old.ID != m.ID {
			return errors.Join(fmt.Errorf("%s: member %x is a voter, but its data is not there: remove it from the list by hand", n.Name(), m.ID), err)
		}
		if err := node.RemoveAll(ctx, etcdMember); err != nil {
			return err
		}
		if err := node.Rename(ctx, path.Join(aside(env.Tag), "member"), etcdMember); err != nil {
			return err
		}
	}
	if err := unpark(ctx, n, env.Tag); err != nil {
		return err
	}
	return tidy(ctx, node, env.Tag)
}

// start puts the manifest back, changed so that an empty member joins.
func (*EtcdReplace) start(ctx context.Context, tag string, n clusters.Node, node clusters.Files, members []*etcdserverpb.Member) error {
	manifest, err := node.ReadFile(ctx, parked(tag))
	if errors.Is(err, fs.ErrNotExist) { // an earlier Heal came as far as this
		manifest, err = node.ReadFile(ctx, standing)
	}
	if err != nil {
		return err
	}
	joining, err := join(string(manifest), initialCluster(members, n))
	if err != nil {
		return err
	}
	blocked, err := isBlocked(ctx, node)
	if err != nil {
		return err
	}
	if blocked {
		if err := node.RemoveAll(ctx, etcdMember); err != nil {
			return err
		}
	}
	now, err := node.ReadFile(ctx, standing)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if string(now) != joining {
		if err := node.WriteFile(ctx, standing, []byte(joining), 0o600); err != nil {
			return err
		}
	}
	return removeParking(ctx, node, tag)
}

// tidy removes the old member's data.
func tidy(ctx context.Context, node clusters.Files, tag string) error {
	if err := node.RemoveAll(ctx, aside(tag)); err != nil {
		return err
	}
	return removeParking(ctx, node, tag)
}

// initialCluster is the flag's value for a member that joins: all members, the
// new one (which has no name yet) under its node's name.
func initialCluster(members []*etcdserverpb.Member, n clusters.Node) string {
	var out []string
	for _, m := range members {
		name := m.Name
		if memberOn([]*etcdserverpb.Member{m}, n) != nil {
			name = n.Name()
		}
		for _, u := range m.PeerURLs {
			out = append(out, name+"="+u)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

var (
	flagCluster = regexp.MustCompile(`(?m)^(\s*- )(['"]?)--initial-cluster=[^'"\n]*(['"]?)$`)
	flagState   = regexp.MustCompile(`(?m)^\s*- ['"]?--initial-cluster-state=[^\n]*\n`)
)

// join changes the two flags of a manifest of kubeadm's that say how a member
// without data begins. One that has data does not look at them.
func join(manifest, cluster string) (string, error) {
	manifest = flagState.ReplaceAllString(manifest, "")
	if len(flagCluster.FindAllString(manifest, -1)) != 1 {
		return "", errors.New("the manifest does not have the flag --initial-cluster exactly once")
	}
	return flagCluster.ReplaceAllString(manifest, "${1}${2}--initial-cluster="+cluster+"${3}\n${1}--initial-cluster-state=existing"), nil
}

// insist tries a change of the member list until etcd agrees, or ctx ends.
func insist(ctx context.Context, change func(context.Context) error) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := change(once)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// Prove asks the others for the member list, and the member itself.
func (f *EtcdReplace) Prove(ctx context.Context, env Env) (Effect, error) {
	if _, err := f.target(env); err != nil {
		return Effect{}, err
	}
	var old oldMember
	noted, err := env.Notes.Load(&old)
	if err != nil {
		return Effect{}, err
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
		case m == nil && down != nil:
			return seen{broken: true, evidence: fmt.Sprintf("not among the %d members, %v", len(members), down)}, nil
		case m == nil:
			return seen{evidence: "not a member, but something answers there"}, nil
		case m.IsLearner:
			return seen{evidence: fmt.Sprintf("learner %x", m.ID)}, nil
		}
		clean, err := f.clean(ctx, n, env.Tag)
		if err != nil {
			return seen{}, err
		}
		if !clean {
			return seen{evidence: "voter, but files of the fault are on the node"}, nil
		}
		if err := serves(ctx, env, n); err != nil {
			return seen{evidence: err.Error()}, nil
		}
		text, err := f.sameData(ctx, env, n)
		if err != nil {
			return seen{evidence: err.Error()}, nil
		}
		if noted && old.ID != m.ID {
			text = fmt.Sprintf("new voter %x instead of %x, %s", m.ID, old.ID, text)
		} else {
			text = fmt.Sprintf("voter %x, %s", m.ID, text)
		}
		return seen{whole: true, evidence: text}, nil
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

// clean says whether nothing of the fault is on the node.
func (*EtcdReplace) clean(ctx context.Context, n clusters.Node, tag string) (bool, error) {
	f, err := files(n)
	if err != nil {
		return false, err
	}
	for _, dir := range []string{aside(tag), path.Join(parking, tag)} {
		if _, err := f.ReadDir(ctx, dir); err == nil {
			return false, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}

// sameData compares the hash of all that the member holds, at one revision, with
// that of another one.
func (*EtcdReplace) sameData(ctx context.Context, env Env, n clusters.Node) (string, error) {
	var errs []error
	for _, o := range others(env) {
		text, err := sameHash(ctx, env.Cluster, n, o)
		if err == nil {
			return text, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

func sameHash(ctx context.Context, c clusters.Cluster, a, b clusters.Node) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*askTime)
	defer cancel()
	cli, err := clusters.EtcdClient(ctx, c, a, b)
	if err != nil {
		return "", err
	}
	defer cli.Close()
	sa, err := cli.Status(ctx, clusters.EtcdURL(a))
	if err != nil {
		return "", err
	}
	sb, err := cli.Status(ctx, clusters.EtcdURL(b))
	if err != nil {
		return "", err
	}
	rev := min(sa.Header.Revision, sb.Header.Revision)
	var h [2]*clientv3.HashKVResponse
	for i, n := range []clusters.Node{a, b} {
		if h[i], err = cli.HashKV(ctx, clusters.EtcdURL(n), rev); err != nil {
			return "", fmt.Errorf("%s: hash at revision %d: %w", n.Name(), rev, err)
		}
	}
	// The hash is of what was kept since the last compaction: two members that are
	// compacted at different revisions cannot be compared at this moment.
	if h[0].CompactRevision != h[1].CompactRevision {
		return "", fmt.Errorf("%s is compacted to %d, %s to %d", a.Name(), h[0].CompactRevision, b.Name(), h[1].CompactRevision)
	}
	if h[0].Hash != h[1].Hash {
		return "", fmt.Errorf("at revision %d %s has hash %08x, %s has %08x: their data differ", rev, a.Name(), h[0].Hash, b.Name(), h[1].Hash)
	}
	return fmt.Sprintf("hash %08x at revision %d as %s", h[0].Hash, rev, b.Name()), nil
}
