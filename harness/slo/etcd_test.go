package slo

import (
	"fmt"
	"math"
	"testing"
	"time"

	"gameday/harness/history"
)

func (b *book) etcd(at float64, e history.Etcd) *book { return add(b, &b.h.Etcd, at, e) }

// voters are the three members, healthy, with a leader, from a moment on.
func (b *book) voters(at float64, term, leader uint64) *book {
	for i := range 3 {
		b.etcd(at, voter(i, term, leader))
	}
	return b
}

func voter(i int, term, leader uint64) history.Etcd {
	return history.Etcd{Node: fmt.Sprintf("cp%d", i), Healthy: true, Term: term, LeaderID: leader, Leader: leader == uint64(i+1)}
}

// stats of all members every 5 s, with 100 fsyncs and 50 commits in between.
func (b *book) stats(end float64, change func(at float64, s *history.EtcdStats)) *book {
	for i := range 3 {
		fsync, commit := make([]uint64, 4), make([]uint64, 4)
		for at := 0.; at <= end; at += 5 {
			fsync[0], fsync[1] = fsync[0]+90, fsync[1]+10
			commit[1] += 50
			s := history.EtcdStats{Node: fmt.Sprintf("cp%d", i), Started: 1, DBSize: 50 << 20, Quota: 2 << 30,
				Fsync:  &history.Histogram{Edges: []float64{.001, .008, 8}, Counts: append([]uint64(nil), fsync...)},
				Commit: &history.Histogram{Edges: []float64{.001, .016, 8}, Counts: append([]uint64(nil), commit...)},
			}
			if change != nil {
				change(at, &s)
				if s.Fsync != nil {
					copy(fsync, s.Fsync.Counts)
				}
			}
			if s.Node != "" {
				add(b, &b.h.EtcdStats, at, s)
			}
		}
	}
	return b
}

func TestEtcd(t *testing.T) {
	well := func(b *book) { b.voters(1, 2, 1).stats(200, nil) }
	for _, c := range []struct {
		name    string
		with    func(c *Etcd)
		make    func(b *book)
		result  string
		want    Verdict
		reason  string
		observe float64
	}{
		{name: "no change", make: well, result: "etcd.leader-changes", want: Pass, reason: "0 changes of leader without a reason"},
		{name: "well", make: well, result: "etcd.members", want: Pass, reason: "3 members asked, 0 times not healthy with a reason"},
		{name: "no alarm", make: well, result: "etcd.alarms", want: Pass, reason: "no alarm told by 3 members"},
		{name: "small", make: well, result: "etcd.db-size", want: Pass, reason: "50.0 of 2048 MiB on member cp0", observe: 100 * 50. / 2048},
		{name: "told", make: well, result: "etcd.fsync", want: Pass, reason: "p99 at worst 1 ms to 8 ms on member cp0", observe: 4.5},
		{name: "commits told", make: well, result: "etcd.commit", want: Pass, reason: "p99 at worst 1 ms to 16 ms", observe: 8.5},

		{name: "a change without a reason", make: func(b *book) { well(b); b.voters(50, 3, 2) }, result: "etcd.leader-changes", want: Fail, reason: "1 change of leader without a reason", observe: 1},
		{name: "allowed", with: func(c *Etcd) { c.LeaderChanges = 1 }, make: func(b *book) { well(b); b.voters(50, 3, 2) }, result: "etcd.leader-changes", want: Pass, reason: "1 change of leader", observe: 1},
		{name: "perhaps more than are allowed", with: func(c *Etcd) { c.LeaderChanges = 1 }, make: func(b *book) { well(b); b.voters(50, 4, 2) }, result: "etcd.leader-changes", want: Inconclusive, reason: "1 to 2 changes of leader without a reason: too close", observe: 1.5},
		{name: "a change during a fault", make: func(b *book) {
			well(b)
			b.fault("pause", "", "cp0", 40, 60).etcd(42, history.Etcd{Node: "cp0", Err: "timeout"}).voters(43, 3, 2)
		}, result: "etcd.leader-changes", want: Pass, reason: "0 changes of leader without a reason; 1 while a fault or an upgrade acted"},
		{name: "a change shortly after a fault", make: func(b *book) { well(b); b.fault("pause", "", "cp0", 40, 60).voters(85, 3, 2) }, result: "etcd.leader-changes", want: Pass},
		{name: "a change long after a fault", make: func(b *book) { well(b); b.fault("pause", "", "cp0", 40, 60).voters(99, 3, 2) }, result: "etcd.leader-changes", want: Fail, observe: 1},
		{name: "a change during a fault of a worker", make: func(b *book) { well(b); b.fault("cut", "", "w0", 40, 60).voters(50, 3, 2) }, result: "etcd.leader-changes", want: Fail, observe: 1},
		{name: "a change during an upgrade", make: func(b *book) {
			well(b)
			b.step(40, 90, "upgrade/control-plane[0]", "cp0", "proceeded", "").voters(50, 3, 2)
		}, result: "etcd.leader-changes", want: Pass},
		{name: "a change while a worker is upgraded", make: func(b *book) {
			well(b)
			b.step(40, 90, "upgrade/worker[0]", "w0", "proceeded", "").voters(50, 3, 2)
		}, result: "etcd.leader-changes", want: Fail, observe: 1},
		{name: "a change before the steady state", make: func(b *book) { well(b); b.voters(5, 3, 2) }, result: "etcd.leader-changes", want: Pass},
		{name: "one member is late to know", make: func(b *book) {
			well(b)
			b.fault("pause", "", "cp0", 40, 60).etcd(43, voter(1, 3, 2)).etcd(44, voter(2, 3, 2)).etcd(150, voter(0, 3, 2))
		}, result: "etcd.leader-changes", want: Pass},
		{name: "no terms", make: func(b *book) { b.voters(1, 0, 0) }, result: "etcd.leader-changes", want: Inconclusive, reason: "does not have the terms"},
		{name: "nobody asked", make: func(*book) {}, result: "etcd.leader-changes", want: Inconclusive, reason: "does not have the terms"},

		{name: "ill without a reason", make: func(b *book) {
			well(b)
			b.etcd(50, history.Etcd{Node: "cp1", Err: "timeout"}).etcd(70, voter(1, 2, 1))
		}, result: "etcd.members", want: Fail, reason: "member cp1 not healthy for 20.0 s at 0:50.00", observe: 20},
		{name: "ill for a moment", make: func(b *book) {
			well(b)
			b.etcd(50, history.Etcd{Node: "cp1", Err: "timeout"}).etcd(51, voter(1, 2, 1))
		}, result: "etcd.members", want: Pass, reason: "not healthy for 1.00 s", observe: 1.5},
		{name: "ill for about as long as may be", make: func(b *book) {
			well(b)
			b.etcd(50, history.Etcd{Node: "cp1", Err: "timeout"}).etcd(55, voter(1, 2, 1))
		}, result: "etcd.members", want: Inconclusive, reason: "too close to the budget", observe: 5},
		{name: "ill during a fault", make: func(b *book) {
			well(b)
			b.fault("stop", "", "cp1", 50, 80).etcd(50, history.Etcd{Node: "cp1", Err: "refused"}).etcd(85, voter(1, 2, 1))
		}, result: "etcd.members", want: Pass, reason: "1 time not healthy with a reason"},
		{name: "ill for much longer than the fault", make: func(b *book) {
			well(b)
			b.fault("stop", "", "cp1", 50, 80).etcd(50, history.Etcd{Node: "cp1", Err: "refused"}).etcd(150, voter(1, 2, 1))
		}, result: "etcd.members", want: Fail, reason: "not healthy for 100.0 s"},
		{name: "a learner in the end", make: func(b *book) {
			well(b)
			b.etcd(150, history.Etcd{Node: "cp1", Term: 2, LeaderID: 1, Learner: true})
		}, result: "etcd.members", want: Fail, reason: "member cp1 was not healthy in the end: it is a learner"},
		{name: "ill in the end, under a fault", make: func(b *book) {
			well(b)
			b.inject("stop", "", "cp1", "requested", 189, "armed", 189.5, "proven", 190).etcd(190, history.Etcd{Node: "cp1", Err: "refused"})
		}, result: "etcd.members", want: Inconclusive, reason: "not healthy in the end, while a fault or an upgrade acted: refused"},
		{name: "a member not asked", make: func(b *book) { b.etcd(1, voter(0, 2, 1)).etcd(1, voter(1, 2, 1)) }, result: "etcd.members", want: Inconclusive, reason: "nobody asked member cp2"},

		{name: "out of space", make: func(b *book) {
			well(b)
			for i := range 3 {
				e := voter(i, 2, 1)
				e.Healthy, e.Alarms = false, "NOSPACE"
				b.etcd(50, e).etcd(60, voter(i, 2, 1))
			}
		}, result: "etcd.alarms", want: Fail, reason: "the alarm NOSPACE, told by 3 members", observe: 1},
		{name: "out of space by a fault", make: func(b *book) {
			well(b)
			e := voter(0, 2, 1)
			e.Healthy, e.Alarms = false, "NOSPACE"
			b.fault("fill", "", "cp0", 50, 60).etcd(50, e).etcd(61, voter(0, 2, 1))
		}, result: "etcd.alarms", want: Pass, reason: "1 time NOSPACE with a reason"},
		{name: "out of space to the end", make: func(b *book) {
			well(b)
			e := voter(0, 2, 1)
			e.Healthy, e.Alarms = false, "NOSPACE"
			b.fault("fill", "", "cp0", 150, 190).etcd(150, e)
		}, result: "etcd.alarms", want: Fail, reason: "NOSPACE, told by 1 member", observe: 1},
		{name: "corrupt, whatever was done", make: func(b *book) {
			well(b)
			e := voter(0, 2, 1)
			e.Healthy, e.Alarms = false, "NOSPACE,CORRUPT"
			b.fault("fill", "", "cp0", 50, 60).etcd(50, e).etcd(61, voter(0, 2, 1))
		}, result: "etcd.alarms", want: Fail, reason: "the alarm CORRUPT, told by 1 member", observe: 1},
		{name: "alarms not told", make: func(b *book) { b.voters(1, 0, 0) }, result: "etcd.alarms", want: Inconclusive, reason: "does not have the alarms"},

		{name: "almost full", make: func(b *book) {
			b.voters(1, 2, 1).stats(200, func(at float64, s *history.EtcdStats) {
				if at == 100 && s.Node == "cp2" {
					s.DBSize = 2000 << 20
				}
			})
		}, result: "etcd.db-size", want: Fail, reason: "2000.0 of 2048 MiB on member cp2 at 1:40.00", observe: 97.65625},
		{name: "no quota", make: func(b *book) {
			b.voters(1, 2, 1).stats(200, func(_ float64, s *history.EtcdStats) { s.Quota = 0 })
		}, result: "etcd.db-size", want: Inconclusive, reason: "member cp0 did not tell its size and its quota"},
		{name: "no metrics", make: func(b *book) { b.voters(1, 2, 1) }, result: "etcd.db-size", want: Inconclusive, reason: "member cp0 gave no metrics"},
		{name: "metrics for a part", make: func(b *book) { b.voters(1, 2, 1).stats(100, nil) }, result: "etcd.db-size", want: Inconclusive, reason: "member cp0 gave no metrics from 1:40.00 to 3:20.00", observe: 100 * 50. / 2048},
		{name: "no metrics of a member that is away", make: func(b *book) {
			b.voters(1, 2, 1).stats(200, func(at float64, s *history.EtcdStats) {
				if at > 50 && at < 100 && s.Node == "cp1" {
					s.Err = "refused"
				}
			}).etcd(51, history.Etcd{Node: "cp1", Err: "refused"}).etcd(99, voter(1, 2, 1))
		}, result: "etcd.db-size", want: Pass, observe: 100 * 50. / 2048},

		{name: "slow", with: func(c *Etcd) { c.Fsync = 7 * time.Millisecond }, make: func(b *book) {
			b.voters(1, 2, 1).stats(200, slow(100, 160))
		}, result: "etcd.fsync", want: Fail, reason: "p99 8 ms to 8.00 s on member cp0", observe: 4004},
		{name: "slow, told", make: func(b *book) { b.voters(1, 2, 1).stats(200, slow(100, 160)) }, result: "etcd.fsync", want: Pass, reason: "p99 at worst 8 ms to 8.00 s", observe: 4004},
		{name: "slow under a fault", with: func(c *Etcd) { c.Fsync = 10 * time.Millisecond }, make: func(b *book) {
			b.voters(1, 2, 1).stats(200, slow(100, 125)).fault("slow", "", "cp0", 100, 125)
		}, result: "etcd.fsync", want: Pass, reason: "with a fault or an upgrade 8 ms to 8.00 s", observe: 4.5},
		{name: "the bucket is too wide to say", with: func(c *Etcd) { c.Fsync = 5 * time.Millisecond }, make: well, result: "etcd.fsync", want: Inconclusive, reason: "too close to the budget", observe: 4.5},
		{name: "above the last edge", with: func(c *Etcd) { c.Fsync = time.Second }, make: func(b *book) {
			b.voters(1, 2, 1).stats(200, func(at float64, s *history.EtcdStats) {
				if at >= 100 && at < 160 {
					s.Fsync.Counts[3] += 50
				}
			})
		}, result: "etcd.fsync", want: Fail, reason: "p99 above 8.00 s on member cp0", observe: 8000},
		{name: "started anew", make: func(b *book) {
			b.voters(1, 2, 1).stats(200, func(at float64, s *history.EtcdStats) {
				if at >= 100 {
					s.Started = 2
				}
				if at == 100 {
					clear(s.Fsync.Counts)
				}
			})
		}, result: "etcd.fsync", want: Pass, reason: "p99 at worst 1 ms to 8 ms", observe: 4.5},
		{name: "too few to say", make: func(b *book) {
			b.voters(1, 2, 1).stats(200, func(_ float64, s *history.EtcdStats) { clear(s.Fsync.Counts) })
		}, result: "etcd.fsync", want: Inconclusive, reason: "no 60.0 s of at least 100 values on member cp0"},
		{name: "no histogram", make: func(b *book) {
			b.voters(1, 2, 1).stats(200, func(_ float64, s *history.EtcdStats) { s.Fsync = nil })
		}, result: "etcd.fsync", want: Inconclusive, reason: "no 60.0 s of at least 100 values on member cp0"},
	} {
		t.Run(c.result+" "+c.name, func(t *testing.T) {
			b := newBook(200)
			c.make(b)
			k := newEtcd().(*Etcd)
			if c.with != nil {
				c.with(k)
			}
			r := named(t, k.Check(b.h), c.result)
			want(t, r, c.want, c.reason)
			if c.observe != 0 && math.Abs(r.Observed-c.observe) > 1e-9 || c.want == Fail && len(r.Evidence) == 0 {
				t.Errorf("observed %v, want %v: %+v", r.Observed, c.observe, r)
			}
		})
	}
	if errs := (&Etcd{LeaderChanges: -1, After: -1, DBSize: 101}).Validate(); len(errs) != 4 {
		t.Errorf("%v", errs)
	}
}

// slow makes 2 of 100 fsyncs take longer than 8 ms.
func slow(from, to float64) func(float64, *history.EtcdStats) {
	return func(at float64, s *history.EtcdStats) {
		if at >= from && at < to {
			s.Fsync.Counts[2] += 5
		}
	}
}
