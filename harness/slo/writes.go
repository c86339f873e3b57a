package slo

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gameday/harness/history"
)

// Outcomes of a canary write in the record.
const (
	writeOK      = "ok"
	writeFail    = "fail"
	writeUnknown = "unknown"
)

// WritesKept promises that no acknowledged write is lost: at the end every one
// of them is on every etcd member, all members hold the same data, and none is
// behind what was acknowledged. Writes whose outcome nobody knows are counted
// apart and never held against the cluster.
type WritesKept struct {
	// Min is the least number of acknowledged writes.
	Min int `yaml:"min"`
}

func newWritesKept() Checker { return &WritesKept{Min: 100} }

// Validate implements Validator.
func (c *WritesKept) Validate() []error {
	if c.Min < 1 {
		return []error{fmt.Errorf("min: %d acknowledged writes prove nothing; give at least 1", c.Min)}
	}
	return nil
}

// Check implements Checker.
func (c *WritesKept) Check(h *history.History) []Result {
	r := Result{Name: "writes.kept", Unit: "count", Promise: "0 acknowledged writes lost, on every etcd member"}
	var g grounds
	last := map[string]history.Timed[history.Kept]{} // by member
	for _, k := range h.Kept {
		last[k.V.Member] = k
	}
	before := int64(0) // what was recorded later was not looked for
	for _, k := range last {
		if before == 0 || k.Seq < before {
			before = k.Seq
		}
	}
	var acked, unknown, refused, after int
	var newest int64
	for _, w := range h.Writes {
		switch {
		case w.V.Outcome == writeOK && len(last) > 0 && w.Seq > before:
			after++
		case w.V.Outcome == writeOK:
			acked++
			newest = max(newest, w.V.Revision)
		case w.V.Outcome == writeUnknown:
			unknown++
		case w.V.Outcome == writeFail:
			refused++
		}
	}
	r.Samples, r.Excluded = acked, unknown+refused+after

	members, known := etcdMembers(h)
	if !known {
		g.doubt("the record does not say which etcd members there are")
	}
	for _, m := range members {
		if _, ok := last[m]; !ok {
			g.doubt("nobody looked for the writes on member %s", m)
		}
	}
	lost := map[string]bool{}
	most := 0
	var hashes []history.Timed[history.Kept]
	for _, m := range slices.Sorted(maps.Keys(last)) {
		k := last[m].V
		if len(k.Missing) > 0 { // whatever went wrong afterwards
			g.fail("%s not on member %s: %s", count(max(len(k.Missing), acked-k.Read), "acknowledged write is", "acknowledged writes are"), m, some(k.Missing))
			most = max(most, acked-k.Read)
			for _, key := range k.Missing {
				lost[key] = true
			}
		}
		if k.Err != "" {
			g.doubt("member %s could not be read: %s", m, k.Err)
			if k.Revision > 0 && k.Revision < newest {
				g.fail("member %s is at revision %d, behind %d, which was acknowledged", m, k.Revision, newest)
			}
			continue
		}
		if len(k.Missing) == 0 && k.Read < acked {
			g.doubt("only %d of %d acknowledged writes were looked for on member %s", k.Read, acked, m)
		}
		switch {
		case k.Revision == 0:
			g.doubt("the revision of member %s is not known", m)
		case k.Revision < newest:
			g.fail("member %s is at revision %d, behind %d, which was acknowledged", m, k.Revision, newest)
		}
		if k.Hash == 0 {
			g.doubt("member %s gave no hash of its data", m)
		} else {
			hashes = append(hashes, last[m])
		}
	}
	for i := 1; i < len(hashes); i++ {
		a, b := hashes[0].V, hashes[i].V
		switch {
		case a.Revision != b.Revision:
			g.doubt("members %s and %s were hashed at different revisions, %d and %d", a.Member, b.Member, a.Revision, b.Revision)
		case a.Hash != b.Hash:
			g.fail("members %s and %s hold different data at revision %d: hash %08x, %08x", a.Member, b.Member, a.Revision, a.Hash, b.Hash)
		}
	}
	if acked < c.Min {
		g.doubt("%s, at least %d are needed", count(acked, "acknowledged write", "acknowledged writes"), c.Min)
	}
	if len(g.failed)+len(g.doubts) == 0 {
		g.note("all %d acknowledged writes are on all %d members", acked, len(last))
		if len(hashes) > 1 {
			g.note("all members have the hash %08x at revision %d", hashes[0].V.Hash, hashes[0].V.Revision)
		}
	}
	if unknown > 0 {
		g.note("%s of unknown outcome", count(unknown, "write", "writes"))
	}
	if refused > 0 {
		g.note("%d refused", refused)
	}
	if after > 0 {
		g.note("%d acknowledged after the members were read", after)
	}
	r.Observed = float64(max(len(lost), most))
	if len(g.failed) > 0 {
		around := look(h)
		for _, w := range h.Writes {
			if lost[w.V.Key] && w.V.Outcome == writeOK {
				around.evidence(&r, span{w.At, w.At + w.V.Took}, fmt.Sprintf("%s, acknowledged via %s at revision %d, is lost", w.V.Key, w.V.Endpoint, w.V.Revision))
			}
		}
	}
	g.decide(&r)
	return []Result{r}
}

// etcdMembers are the members that must hold everything: those on the control
// planes, which is where kubeadm puts them.
func etcdMembers(h *history.History) ([]string, bool) {
	here := map[string]bool{}
	for _, n := range h.Nodes {
		if strings.HasPrefix(n.V.Place, "control-plane[") {
			here[n.V.Name] = !n.V.Deleted
		}
	}
	if len(here) == 0 {
		for _, e := range h.Etcd {
			here[e.V.Node] = true
		}
	}
	var out []string
	for name, there := range here {
		if there {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, len(out) > 0
}

// some are the first few of many names.
func some(names []string) string {
	if len(names) > 3 {
		return strings.Join(names[:3], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}
