package sample

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"gameday/clusters"
	"gameday/harness/history"
)

const (
	// keptFor bounds each question to a member in the final check.
	keptFor = 15 * time.Second
	// keptPage is how many keys are read at once.
	keptPage = 20_000
	// maxMissing is how many missing keys are named, for each member.
	maxMissing = 100
	// hashTries is how often the members are asked for their hashes at one
	// revision: a compaction in between makes them incomparable.
	hashTries = 5
)

// FinalCheck looks whether every acknowledged write is on every etcd member, by
// a linearizable read of that member, and compares the members' hashes at one
// revision. It comes after Stop and after the heal. What went wrong is in the
// record, as the member's Kept.Err.
func (s *Samplers) FinalCheck(ctx context.Context) error {
	acked := s.ledger.all()
	var found []*kept
	for _, m := range s.members.all {
		cli, err := clusters.EtcdClient(ctx, s.cfg.Cluster, node(s.cfg.Cluster, m.node))
		k := &kept{Kept: history.Kept{Member: m.node}, cli: cli}
		if err != nil {
			k.Err = explain(err)
		} else {
			k.look(ctx, s.ledger.prefix(), acked)
			defer cli.Close()
		}
		found = append(found, k)
	}
	hashes(ctx, found)
	for _, k := range found {
		s.cfg.Record.Add(history.Event{Kept: &k.Kept})
	}
	return s.cfg.Record.Err()
}

func node(c clusters.Cluster, name string) clusters.Node {
	for _, n := range c.Nodes() {
		if n.Name() == name {
			return n
		}
	}
	return nil
}

// kept is the final check of one member.
type kept struct {
	history.Kept
	cli *clientv3.Client
	// at is the revision of the member's answer.
	at      int64
	hashErr error
}

// look reads all canaries from the member. The read is linearizable: the member
// first asks the quorum how far the log is and applies it.
func (k *kept) look(ctx context.Context, prefix string, acked map[string]ack) {
	created := make(map[string]int64, len(acked))
	for from, more := prefix, true; more; {
		resp, err := k.page(ctx, from, prefix)
		if err != nil {
			k.Err = rpcError(err)
			return
		}
		if k.at == 0 {
			k.at = resp.Header.Revision
			k.Revision = k.at // until it is hashed at another
		}
		for _, kv := range resp.Kvs {
			created[string(kv.Key)] = kv.CreateRevision
			from = string(kv.Key) + "\x00"
		}
		more = resp.More && len(resp.Kvs) > 0
	}
	k.Read, k.Missing = compare(acked, created)
}

// page reads keys below a prefix from one on, all pages as of the revision of the
// first: a run of hours makes more than one answer should hold.
func (k *kept) page(ctx context.Context, from, prefix string) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, keptFor)
	defer cancel()
	return k.cli.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithKeysOnly(),
		clientv3.WithLimit(keptPage), clientv3.WithRev(k.at))
}

// compare counts the acknowledged keys that are there as they were acknowledged,
// and names at most maxMissing of the others, in order.
func compare(acked map[string]ack, created map[string]int64) (read int, missing []string) {
	for key, a := range acked {
		switch rev, ok := created[key]; {
		case !ok:
			missing = append(missing, key)
		case rev != a.revision:
			missing = append(missing, fmt.Sprintf("%s (created at revision %d, acknowledged at %d)", key, rev, a.revision))
		default:
			read++
		}
	}
	slices.Sort(missing)
	return read, missing[:min(len(missing), maxMissing)]
}

// errMoved: the members did not hold the same compaction at the time.
var errMoved = errors.New("compacted while the hashes were read")

// hashes asks every member that could be read for its hash at one revision.
func hashes(ctx context.Context, all []*kept) {
	var asked []*kept
	for _, k := range all {
		if k.Err == "" {
			asked = append(asked, k)
		}
	}
	if len(asked) == 0 {
		return
	}
	for range hashTries {
		err := hashesOnce(ctx, asked)
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	for _, k := range asked {
		if k.hashErr != nil {
			k.Hash, k.Revision = 0, k.at
			k.Err = short("hash of the key space: " + k.hashErr.Error())
		}
	}
}

// hashesOnce uses the lowest revision that all members have. Each member has its
// own hashErr: what the others answered can be compared all the same.
func hashesOnce(ctx context.Context, asked []*kept) error {
	ctx, cancel := context.WithTimeout(ctx, keptFor)
	defer cancel()
	revision := asked[0].at
	for _, k := range asked {
		revision = min(revision, k.at)
	}
	compacted := map[int64]int{} // how many members have compacted up to there
	var errs []error
	for _, k := range asked {
		// clientv3's own HashKV makes a connection for each call.
		resp, err := etcdserverpb.NewMaintenanceClient(k.cli.ActiveConnection()).HashKV(ctx, &etcdserverpb.HashKVRequest{Revision: revision})
		if k.hashErr = err; err != nil {
			k.hashErr = fmt.Errorf("%s at revision %d: %w", k.Member, revision, err)
			errs = append(errs, k.hashErr)
			continue
		}
		compacted[resp.CompactRevision]++
		k.Revision, k.Hash = revision, resp.Hash
	}
	if len(compacted) > 1 {
		for _, k := range asked {
			if k.hashErr == nil {
				k.hashErr = fmt.Errorf("%s at revision %d: %w", k.Member, revision, errMoved)
				errs = append(errs, k.hashErr)
			}
		}
	}
	return errors.Join(errs...)
}
