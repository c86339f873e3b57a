package slo

import (
	"fmt"
	"testing"

	"gameday/harness/history"
)

func TestWritesKept(t *testing.T) {
	// 120 acknowledged writes with revisions up to 1120, then all members read.
	kept := func(b *book, change func(k *history.Kept)) {
		for i := range 3 {
			k := history.Kept{Member: fmt.Sprintf("cp%d", i), Read: 120, Revision: 1200, Hash: 77}
			if change != nil {
				change(&k)
			}
			if k.Member != "" {
				add(b, &b.h.Kept, 61, k)
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(k *history.Kept)
		more   func(b *book)
		min    int
		want   Verdict
		reason string
		lost   float64
	}{
		{name: "kept", want: Pass, reason: "all 120 acknowledged writes are on all 3 members"},
		{name: "unknown outcomes are no failures", more: func(b *book) {
			add(b, &b.h.Writes, 50, history.Write{Key: "u", Outcome: "unknown"})
			add(b, &b.h.Writes, 51, history.Write{Key: "f", Outcome: "fail"})
		}, want: Pass, reason: "1 write of unknown outcome; 1 refused"},
		{name: "lost on one member", change: func(k *history.Kept) {
			if k.Member == "cp1" {
				k.Read, k.Missing = 118, []string{"k1", "k7"}
			}
		}, want: Fail, reason: "2 acknowledged writes are not on member cp1: k1, k7", lost: 2},
		{name: "more lost than are named", change: func(k *history.Kept) { k.Read, k.Missing = 20, []string{"k1", "k2", "k3", "k4"} }, want: Fail, reason: "100 acknowledged writes are not on member cp0: k1, k2, k3, ...", lost: 100},
		{name: "not all looked for", change: func(k *history.Kept) { k.Read = 119 }, want: Inconclusive, reason: "only 119 of 120 acknowledged writes were looked for on member cp0"},
		{name: "a member not looked at", change: func(k *history.Kept) {
			if k.Member == "cp2" {
				k.Member = ""
			}
		}, want: Inconclusive, reason: "nobody looked for the writes on member cp2"},
		{name: "no member looked at", change: func(k *history.Kept) { k.Member = "" }, want: Inconclusive, reason: "nobody looked for the writes on member cp0; nobody looked"},
		{name: "a member that cannot be read", change: func(k *history.Kept) {
			if k.Member == "cp2" {
				*k = history.Kept{Member: "cp2", Err: "no route"}
			}
		}, want: Inconclusive, reason: "member cp2 could not be read: no route"},
		{name: "lost on a member whose hash failed", change: func(k *history.Kept) {
			if k.Member == "cp1" {
				k.Read, k.Missing, k.Hash, k.Err = 118, []string{"k1", "k7"}, 0, "hash of the key space: timeout"
			}
		}, want: Fail, reason: "2 acknowledged writes are not on member cp1: k1, k7; member cp1 could not be read: hash of the key space", lost: 2},
		{name: "behind, and the hash failed", change: func(k *history.Kept) { k.Revision, k.Hash, k.Err = 1100, 0, "hash: timeout" }, want: Fail, reason: "member cp0 is at revision 1100, behind 1120"},
		{name: "different data", change: func(k *history.Kept) {
			if k.Member == "cp2" {
				k.Hash = 78
			}
		}, want: Fail, reason: "members cp0 and cp2 hold different data at revision 1200: hash 0000004d, 0000004e"},
		{name: "different revisions", change: func(k *history.Kept) {
			if k.Member == "cp2" {
				k.Revision = 1201
			}
		}, want: Inconclusive, reason: "hashed at different revisions, 1200 and 1201"},
		{name: "no hash", change: func(k *history.Kept) { k.Hash = 0 }, want: Inconclusive, reason: "member cp0 gave no hash"},
		{name: "no revision", change: func(k *history.Kept) { k.Revision = 0 }, want: Inconclusive, reason: "the revision of member cp0 is not known"},
		{name: "behind", change: func(k *history.Kept) { k.Revision = 1100 }, want: Fail, reason: "member cp0 is at revision 1100, behind 1120"},
		{name: "too few", min: 500, want: Inconclusive, reason: "120 acknowledged writes, at least 500 are needed"},
		{name: "read again", more: func(b *book) {
			bad := b.h.Kept[0]
			bad.V.Err = "timeout"
			b.h.Kept = append([]history.Timed[history.Kept]{bad}, b.h.Kept...)
		}, want: Pass, reason: "on all 3 members"},
		{name: "acknowledged after the members were read", more: func(b *book) {
			add(b, &b.h.Writes, 62, history.Write{Key: "after", Outcome: "ok", Revision: 1300})
		}, want: Pass, reason: "1 acknowledged after"},
		{name: "members from their own states", more: func(b *book) {
			b.h.Nodes = nil
			for i := range 4 {
				add(b, &b.h.Etcd, 0, history.Etcd{Node: fmt.Sprintf("cp%d", i)})
			}
		}, want: Inconclusive, reason: "nobody looked for the writes on member cp3"},
		{name: "members not known", more: func(b *book) { b.h.Nodes = nil }, want: Inconclusive, reason: "does not say which etcd members"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(60)
			for i := range 120 {
				add(b, &b.h.Writes, float64(i)/4, history.Write{Key: fmt.Sprintf("k%d", i), Endpoint: "lb", Outcome: "ok", Revision: int64(1001 + i)})
			}
			kept(b, c.change)
			if c.more != nil {
				c.more(b)
			}
			k := newWritesKept().(*WritesKept)
			if c.min > 0 {
				k.Min = c.min
			}
			r := named(t, k.Check(b.h), "writes.kept")
			want(t, r, c.want, c.reason)
			if r.Observed != c.lost || r.Samples != 120 {
				t.Errorf("%+v", r)
			}
			if c.name == "lost on one member" && (len(r.Evidence) != 2 || r.Evidence[1].Text != "k7, acknowledged via lb at revision 1008, is lost") {
				t.Errorf("%+v", r.Evidence)
			}
		})
	}
	if errs := (&WritesKept{}).Validate(); len(errs) != 1 {
		t.Errorf("%v", errs)
	}
}
