package eviction

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Pod of the cluster. Its Tolerations are those that its author wrote; what the
// cluster adds is added by Tolerates.
type Pod struct {
	Namespace, Name, Node string
	// Owner is kind/name of its controller, empty for a bare pod, Static for one
	// that the kubelet runs from a file.
	Owner       string
	Tolerations []corev1.Toleration
	// Grace is the pod's terminationGracePeriod.
	Grace time.Duration
}

// Static is the Owner of a static pod: the API shows its node as that.
const Static = "Node"

// Key is namespace/name.
func (p Pod) Key() string { return p.Namespace + "/" + p.Name }

// kind of the pod's owner.
func (p Pod) kind() string {
	kind, _, _ := strings.Cut(p.Owner, "/")
	return kind
}

// Asked are the tolerations that the pod is created with: its author's and those
// of its owner (RuleDaemonSet, RuleStatic).
func (p Pod) Asked() []corev1.Toleration {
	out := append([]corev1.Toleration(nil), p.Tolerations...)
	forever := func(key string) {
		for i, t := range out {
			if t.Key == key && t.Operator == corev1.TolerationOpExists && t.Effect == corev1.TaintEffectNoExecute {
				out[i].TolerationSeconds = nil
				return
			}
		}
		out = append(out, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
	}
	switch p.kind() {
	case "DaemonSet":
		forever(corev1.TaintNodeNotReady)
		forever(corev1.TaintNodeUnreachable)
	case Static:
		forever("")
	}
	return out
}

// admitted are the pod's tolerations as the API has them: with what the API server
// adds for a key that none is about (RuleToleration).
func (p Pod) admitted(s Settings) []corev1.Toleration {
	out := p.Asked()
	about := func(key string) bool {
		for _, t := range out {
			if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
				return true
			}
		}
		return false
	}
	for _, d := range []struct {
		key     string
		seconds int64
	}{
		{corev1.TaintNodeNotReady, s.APIServer.DefaultNotReadyTolerationSeconds},
		{corev1.TaintNodeUnreachable, s.APIServer.DefaultUnreachableTolerationSeconds},
	} {
		if !about(d.key) {
			out = append(out, corev1.Toleration{
				Key: d.key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &d.seconds,
			})
		}
	}
	return out
}

// Tolerates is how long a pod stays with NoExecute taints: 0 if it does not
// tolerate one of them, Forever if none of the tolerations used has an end. Of
// several that match a taint the first counts (RuleToleration). tolerations are
// those of the API.
func Tolerates(tolerations []corev1.Toleration, taints ...corev1.Taint) time.Duration {
	shortest := Forever
	for _, taint := range taints {
		matched := false
		for _, t := range tolerations {
			if !matches(t, taint) {
				continue
			}
			matched = true
			if t.TolerationSeconds != nil {
				shortest = min(shortest, time.Duration(max(0, min(*t.TolerationSeconds, int64(Forever/time.Second))))*time.Second)
			}
			break
		}
		if !matched {
			return 0
		}
	}
	return shortest
}

// matches is k8s.io/api core/v1 Toleration.ToleratesTaint without the operators
// for numbers, which are behind a gate that is off.
func matches(t corev1.Toleration, taint corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case "", corev1.TolerationOpEqual:
		return t.Value == taint.Value
	case corev1.TolerationOpExists:
		return true
	}
	return false
}

// unreachable is the taint of a node that fell silent.
var unreachable = corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}

// outOfService is the taint by which a person gives a node up.
var outOfService = corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}
