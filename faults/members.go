package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"gameday/clusters"
)

// readThrough makes a linearizable read through the member on a node: the member
// answers only when it has applied all that the cluster had committed when it was
// asked, so that the answer shows it in sync, and the quorum at work.
func readThrough(ctx context.Context, c clusters.Cluster, n clusters.Node) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if err := refuses(ctx, n); err != nil {
		return err
	}
	cli, err := clusters.EtcdClient(ctx, c, n)
	if err != nil {
		return err
	}
	defer cli.Close()
	if _, err := cli.Get(ctx, "gameday/no-such-key", clientv3.WithCountOnly()); err != nil {
		return fmt.Errorf("%s: linearizable read: %w", n.Name(), err)
	}
	return nil
}

// refuses opens and closes a connection to the member on a node; the error says that
// its port refuses or does not answer.
func refuses(ctx context.Context, n clusters.Node) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(n.IP().String(), clusters.EtcdClientPort))
	if err != nil {
		return err
	}
	return conn.Close()
}

// memberStatus asks the member on a node for its own view. It needs no quorum.
func memberStatus(ctx context.Context, c clusters.Cluster, n clusters.Node) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	cli, err := clusters.EtcdClient(ctx, c, n)
	if err != nil {
		return nil, err
	}
	defer cli.Close()
	s, err := cli.Status(ctx, clusters.EtcdURL(n))
	if err != nil {
		return nil, fmt.Errorf("%s: status of its etcd member: %w", n.Name(), err)
	}
	if len(s.Errors) > 0 {
		return s, fmt.Errorf("%s: its etcd member says: %v", n.Name(), s.Errors)
	}
	return s, nil
}

// memberOn finds the member of a node: by its peer address, since one that was
// added and never started has no name.
func memberOn(members []*etcdserverpb.Member, n clusters.Node) *etcdserverpb.Member {
	i := slices.IndexFunc(members, func(m *etcdserverpb.Member) bool {
		return slices.ContainsFunc(m.PeerURLs, func(s string) bool {
			u, err := url.Parse(s)
			return err == nil && u.Hostname() == n.IP().String()
		})
	})
	if i < 0 {
		return nil
	}
	return members[i]
}

// membersBy asks for the member list through other members than the targets'.
func membersBy(ctx context.Context, env Env) ([]*etcdserverpb.Member, *clientv3.Client, error) {
	rest := others(env)
	if len(rest) == 0 {
		return nil, nil, errors.New("no other etcd member is left to ask")
	}
	cli, err := clusters.EtcdClient(ctx, env.Cluster, rest...)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*askTime)
	defer cancel()
	resp, err := cli.MemberList(ctx)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("list the etcd members: %w", err), cli.Close())
	}
	return resp.Members, cli, nil
}

// well is the negative control of the etcd faults: another member works, and the
// quorum with it. When the quorum is lost (by these targets, or together with
// another fault), a member that still answers for itself stands for the rest.
func well(ctx context.Context, env Env) (string, error) {
	rest := others(env)
	text, err := control(ctx, rest, "answers a linearizable read",
		func(ctx context.Context, n clusters.Node) error { return readThrough(ctx, env.Cluster, n) })
	if err == nil || len(rest) == 0 {
		return text, nil
	}
	text, serr := control(ctx, rest, "answers for itself, but has no quorum",
		func(ctx context.Context, n clusters.Node) error {
			_, err := memberStatus(ctx, env.Cluster, n)
			return err
		})
	if serr != nil {
		return "", err
	}
	return text, nil
}

// serves says that the member on a node is a voter in sync, and that the API
// server beside it, whose only etcd it is, is ready too.
func serves(ctx context.Context, env Env, n clusters.Node) error {
	s, err := memberStatus(ctx, env.Cluster, n)
	if err != nil {
		return err
	}
	if s.IsLearner {
		return fmt.Errorf("%s: its etcd member is a learner", n.Name())
	}
	if err := readThrough(ctx, env.Cluster, n); err != nil {
		return err
	}
	if err := readyz(ctx, env.Cluster, n); err != nil {
		return fmt.Errorf("%s: API server: %w", n.Name(), err)
	}
	return nil
}
