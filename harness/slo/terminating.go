package slo

import (
	"fmt"
	"strings"
	"time"
)

// terminating: a pod is gone soon after its grace period, which its
// deletionTimestamp holds already, if the kubelet of its node can say that its
// containers have ended. One whose node is gone is deleted by the pod GC within a
// minute (k8s.io/kubernetes@v1.37.0 pkg/controller/podgc/gc_controller.go,
// gcCheckPeriod 20 s and quarantineTime 40 s).
func (c *PodsLedger) terminating(b *books, _ []PodFact, g *grounds, r *Result) {
	stuck, young := 0, 0
	for _, p := range b.pods {
		if p.deleting == 0 || p.deleting >= b.stop {
			continue
		}
		due, end := p.Deleting.Sub(b.h.Run.Began), b.stop
		if p.gone > 0 {
			end = min(end, p.gone)
		}
		if p.gone == 0 && end-due <= c.Terminating {
			young++
			r.Excluded++
			continue
		}
		r.Samples++
		if end-due <= c.Terminating {
			continue
		}
		free, at := longestFree(span{due, end}, b.unreachable(p.Node))
		if free <= c.Terminating {
			continue
		}
		say := fmt.Sprintf("%s on %s was there for %s after its grace period", p, p.Node, length(free))
		if len(p.Finalizers) > 0 {
			say += ", with finalizers " + strings.Join(p.Finalizers, ", ")
		}
		if b.nodeGone(p.Node, at+free) {
			say += ", its node was gone"
		}
		in := span{at, at + free}
		b.around.evidence(r, in, say)
		switch list := gaps(b.h, in, "watch/nodes"); {
		case free-apiSecond-b.stall <= c.Terminating:
			g.doubt("%s: too close to the budget for its error bar", say)
		case len(b.nodes[p.Node]) == 0 && p.Node != "":
			g.doubt("%s, but the state of its node is not in the record", say)
		case len(list) > 0:
			g.doubt("%s, but %s", say, gapText(list))
		default:
			stuck++
		}
	}
	allowed(g, r, stuck, 0, "pod stuck terminating", "pods stuck terminating")
	r.Promise += " for longer than " + length(c.Terminating)
	if young > 0 {
		g.note("%s still terminating, too young to be judged", count(young, "pod was", "pods were"))
	}
}

// unreachable are the times in which nobody heard of a node: it was not Ready, or
// under fault. Of one that is gone nobody waits to hear.
func (b *books) unreachable(node string) []span {
	key := "unreachable/" + node
	out, ok := b.notWell[key]
	if ok {
		return out
	}
	states := b.nodes[node]
	for i, s := range states {
		end := b.h.Last
		if i+1 < len(states) {
			end = states[i+1].At
		}
		if !s.V.Deleted && s.V.Ready != "True" {
			out = append(out, span{s.At, end})
		}
	}
	for _, f := range b.around.faults {
		if f.hits(node, span{0, b.h.Last}) {
			out = append(out, f.acting)
		}
	}
	b.notWell[key] = out
	return out
}

func (b *books) nodeGone(node string, at time.Duration) bool {
	gone := false
	for _, s := range b.nodes[node] {
		if s.At <= at {
			gone = s.V.Deleted
		}
	}
	return gone
}
