package slo

import (
	"strings"

	"gameday/clusters"
	"gameday/harness/history"
)

// ofContainers are the results that stand on what containers did. On nodes that run
// none and only say so ([clusters.HollowContainer]) containers start at once and
// never end of themselves, so that what is promised was not measured: such a result
// can fail, but not pass. The others are about what the control plane did, which was
// real: which Jobs it made for which slots, which pods it deleted, what it answered.
var ofContainers = map[string]bool{
	"cron.start-latency":     true,
	"pods.restarts":          true,
	"pods.below-budget":      true,
	"pods.stuck-pending":     true,
	"pods.stuck-terminating": true,
	"jobs.killed":            true,
	"jobs.survival":          true,
	"jobs.work-lost":         true,
}

// hollow withholds a pass that nothing stands behind.
func hollow(h *history.History, r *Result) {
	if r.Verdict != Pass || !ofContainers[r.Name] || !onlySaid(h) {
		return
	}
	r.Verdict = Inconclusive
	r.Reason = strings.TrimSuffix("containers were only said to run on these nodes, none was measured; "+r.Reason, "; ")
}

// onlySaid says whether any pod was said to run on such a node.
func onlySaid(h *history.History) bool {
	for _, p := range h.Pods {
		for _, id := range p.V.Containers {
			if strings.HasPrefix(id, clusters.HollowContainer) {
				return true
			}
		}
	}
	return false
}
