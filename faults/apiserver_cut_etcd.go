package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/intake"
)

var apiserverCutEtcd = Kind{
	Name: "apiserver.cut-etcd",
	Doc:  "Cuts the API server of the targets off from its own etcd, in silence: the member itself works, and so do the others.",
	Rehearses: "An API server that lives and cannot reach its store, as behind a wrong firewall rule: it goes on taking " +
		"connections, and says in /readyz that it cannot serve. Load balancers that look at the port only keep sending clients to it " +
		"(https://kubernetes.io/docs/reference/using-api/health-checks/). Held for longer than about a minute and a half its liveness " +
		"probe has it restarted, and it does not start until the fault ends.",
	Mechanism:   "nftables inet table in the node's namespace that drops TCP to and from port 2379 at the input of the loopback interface",
	Undo:        "the kernel: the table goes with the process that owns it, and its rules expire 10 s after their last refresh",
	Roles:       []clusters.Role{clusters.ControlPlane},
	Needs:       []clusters.Capability{clusters.CapNetwork, clusters.CapProcesses},
	Cost:        Cost{APIServers: 1},
	ProveWithin: 30 * time.Second,
	GoneWithin:  7 * time.Minute, // as for etcd.stop: it may be in back-off
	Trials:      []Trial{{Name: "apiserver-cut-etcd", Target: Target{Pick: PickOne}}},
	New:         func() Fault { return &APIServerCutEtcd{} },
}

const (
	// etcdCheck is longer than the API server waits for etcd when it is asked for /readyz:
	// k8s.io/apiserver@v0.37.0 pkg/storage/storagebackend/config.go DefaultReadinessTimeout, 2 s.
	etcdCheck = 6 * time.Second
	// loopbackTime is longer than it takes to connect over the loopback interface, a
	// fraction of a millisecond, on any machine that is not stuck.
	loopbackTime = 500 * time.Millisecond
)

// APIServerCutEtcd is the fault apiserver.cut-etcd. It has no parameters.
type APIServerCutEtcd struct{ rules intakes }

// Describe implements Describer.
func (*APIServerCutEtcd) Describe(targets []string) []string {
	return each(targets, "%s: nft add rule inet gameday-TAG input iifname lo tcp dport "+clusters.EtcdClientPort+
		" drop (and sport), for "+cutTTL.String()+", refreshed each "+cutRefresh.String())
}

// Inject cuts what runs now, and what is restarted in the same node.
func (f *APIServerCutEtcd) Inject(ctx context.Context, env Env) error {
	port, err := strconv.ParseUint(clusters.EtcdClientPort, 10, 16)
	if err != nil {
		return err
	}
	return f.rules.set(ctx, env, func(context.Context, clusters.Node) ([]intake.Rule, error) {
		return []intake.Rule{{Loopback: uint16(port), Lose: 1}}, nil
	})
}

// Heal removes the rules.
func (f *APIServerCutEtcd) Heal(ctx context.Context, env Env) error { return f.rules.heal(ctx, env) }

// Prove goes the API server's way to etcd, asks it for its health, and the member by
// another way for its own.
func (*APIServerCutEtcd) Prove(ctx context.Context, env Env) (Effect, error) {
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		open, text, err := loopbackOpen(ctx, n)
		if err != nil {
			return seen{}, err
		}
		if open {
			if err := serves(ctx, env, n); err != nil {
				return seen{evidence: "127.0.0.1:" + clusters.EtcdClientPort + " answers; but " + err.Error()}, ctx.Err()
			}
			return seen{whole: true, evidence: "127.0.0.1:" + clusters.EtcdClientPort + " answers, API server ready"}, nil
		}
		out := seen{evidence: text}
		if err := readThrough(ctx, env.Cluster, n); err != nil {
			out.evidence += "; but its etcd does not work either: " + err.Error()
			return out, ctx.Err()
		}
		out.evidence += "; its etcd answers a linearizable read from outside"
		answer := readyzWithin(ctx, env.Cluster, n, etcdCheck)
		switch {
		case answer == nil:
			out.evidence += "; but its API server says still that it is ready"
		case ctx.Err() != nil:
			return out, ctx.Err()
		default:
			// It says so, or has been restarted by then and cannot start.
			out.broken = strings.Contains(answer.Error(), "etcd") || errors.Is(answer, syscall.ECONNREFUSED)
			out.evidence += "; API server: " + answer.Error()
		}
		return out, nil
	})
	if err != nil {
		return e, err
	}
	rest := others(env)
	if e.Active && len(rest) > 0 {
		e.Control, err = control(ctx, rest, "answers /readyz", func(ctx context.Context, n clusters.Node) error {
			return readyz(ctx, env.Cluster, n)
		})
		if err != nil {
			e.Active = false
			e.Evidence += fmt.Sprintf("; but no other API server answers either: %v", err)
		}
	}
	e.At = time.Now()
	return e, nil
}

// loopbackOpen connects from inside the node as its API server does. Silence is what is
// looked for: a refusal means that no member runs.
func loopbackOpen(ctx context.Context, n clusters.Node) (open bool, text string, err error) {
	within, cancel := context.WithTimeout(ctx, loopbackTime)
	defer cancel()
	conn, err := fromInside(n)(within, "tcp", net.JoinHostPort("127.0.0.1", clusters.EtcdClientPort))
	var silent net.Error
	switch {
	case err == nil:
		return true, "", conn.Close()
	case ctx.Err() != nil:
		return false, "", context.Cause(ctx)
	case errors.As(err, &silent) && silent.Timeout():
		return false, "127.0.0.1:" + clusters.EtcdClientPort + " is silent", nil
	}
	return false, "", fmt.Errorf("%s: its etcd: %w", n.Name(), err)
}
