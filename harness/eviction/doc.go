// Package eviction says what the node controller must do when nodes fall silent:
// which nodes it taints and when, which pods it deletes, when, and which it must
// leave alone, as windows with error bars. It is pure: it computes, and touches
// no cluster.
//
// A Case holds the settings, the nodes, the pods, the cut, when it heals, the
// lives of the controller manager's leaders and the outages of the API. Predict
// turns it into a Prediction, Compare holds a Prediction against what was seen,
// and Explain says it in words, with the settings that would prevent it:
//
//	c := eviction.Case{Settings: eviction.Defaults("v1.36.4"), Nodes: nodes, Pods: pods,
//		Cut: eviction.Cut{Nodes: []string{"n1", "n2", "n3"}, Heal: 6 * time.Minute}}
//	violations := eviction.Compare(eviction.Predict(c), seen)
//
// All times are relative to the cut, which is at 0.
//
// # Rules
//
// Every rule is a line of Rules, with the file of k8s.io/kubernetes that it was
// read from and, where reading alone cannot settle it, the mark Inferred: then an
// experiment has to confirm it. Unless a rule says otherwise the code is the same
// in v1.32.13, v1.33.13, v1.34.9, v1.36.1 and v1.37.0, whose files were compared.
//
// # What is left out
//
// A kubelet that itself reports Ready=False (its node gets the taint not-ready
// without a grace period), nodes that were not ready before the cut, nodes that
// join or leave while it lasts, and several cuts at different times.
package eviction
