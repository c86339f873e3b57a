package slo

import (
	"cmp"
	"slices"
	"time"

	"gameday/harness/history"
)

// commits tell when something was written that is known by its revision: after
// the last canary write that has an earlier one began, before the first that has
// a later one was acknowledged.
type commits struct {
	revisions    []int64
	began, acked []time.Duration // latest beginning up to, earliest acknowledgement from each
}

func commitsOf(h *history.History) commits {
	writes := acknowledged(h)
	slices.SortFunc(writes, func(a, b ack) int { return cmp.Compare(a.revision, b.revision) })
	c := commits{make([]int64, len(writes)), make([]time.Duration, len(writes)), make([]time.Duration, len(writes))}
	for i, w := range writes {
		c.revisions[i], c.began[i], c.acked[i] = w.revision, w.began, w.at
		if i > 0 {
			c.began[i] = max(c.began[i], c.began[i-1])
		}
	}
	for i := len(writes) - 2; i >= 0; i-- {
		c.acked[i] = min(c.acked[i], c.acked[i+1])
	}
	return c
}

// of is when something was written that was told at a moment; a revision of 0 is
// not known.
func (c commits) of(revision int64, told time.Duration) span {
	s := span{0, told}
	if revision == 0 {
		return s
	}
	i, _ := slices.BinarySearch(c.revisions, revision)
	if i < len(c.acked) {
		s.to = min(s.to, c.acked[i])
	}
	if i > 0 {
		s.from = min(c.began[i-1], s.to)
	}
	return s
}
