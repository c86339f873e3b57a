package eviction

// Rule names a rule of the model; Rules tells what it says.
type Rule string

// The rules.
const (
	RuleGrace      Rule = "grace"
	RuleRate       Rule = "rate"
	RuleExtra      Rule = "extra-period"
	RulePartial    Rule = "partial-disruption"
	RuleLarge      Rule = "large-zone"
	RuleFull       Rule = "full-disruption"
	RuleAll        Rule = "all-zones-stop"
	RuleLeak       Rule = "leak"
	RuleStraggler  Rule = "straggler"
	RuleExcluded   Rule = "exclude-disruption"
	RuleToleration Rule = "toleration"
	RuleDaemonSet  Rule = "daemonset"
	RuleStatic     Rule = "static-pod"
	RuleReturn     Rule = "returns-in-time"
	RuleEpoch      Rule = "epoch"
	RuleOutage     Rule = "api-outage"
	RuleLost       Rule = "deletion-lost"
	RuleHeartbeat  Rule = "heartbeat"
	RuleClient     Rule = "client-rate"
	RuleReachable  Rule = "reachable"
	RuleGone       Rule = "terminating"
	RuleService    Rule = "out-of-service"
	RuleOrphan     Rule = "pod-gc-orphan"
	RuleForce      Rule = "force-delete"
	RuleIdentity   Rule = "identity"
	RuleBreaker    Rule = "lease-circuit-breaker"
)

// RuleDoc is what is known of a rule.
type RuleDoc struct {
	Rule Rule   `json:"rule"`
	Says string `json:"says"`
	// Source is a file of k8s.io/kubernetes, with the function, and the versions
	// where that matters.
	Source string `json:"source"`
	// Inferred says that it follows from the source but that only an experiment
	// can show it.
	Inferred bool `json:"inferred,omitempty"`
	// Tried is what the experiment showed, if there was one (suites/eviction, label
	// experiment).
	Tried string `json:"tried,omitempty"`
}

const (
	fileNLC   = "pkg/controller/nodelifecycle/node_lifecycle_controller.go "
	fileQueue = "pkg/controller/nodelifecycle/scheduler/rate_limited_queue.go "
	fileTEC   = "pkg/controller/tainteviction/taint_eviction.go "
	fileGC    = "pkg/controller/podgc/gc_controller.go "
)

// triedLeak is from two matrices of settings as in matrix/testdata/fast.yaml.
const triedLeak = "v1.37.0, 0.5 taints a second, passes every 0.5 s: of 6 of 10 nodes that were cut off 0 to 1 was tainted before the brake held, in four cuts (predicted 0 to 3), and in the two that lasted its pod was deleted; of all 13 nodes, in two zones, 2 were tainted in each of two cuts, and were without the taint 0.5 to 1.2 s later, when the pass had seen the last become Unknown, with all pods alive. That as many leak as the bound allows was not seen"

// triedStuck is from suites/eviction, label experiment.
const triedStuck = "v1.37.0, a taint a second: 6 of 10 nodes were cut off, 1 was tainted before the brake held; 3 returned, and the other 3, Unknown in a zone that was normal again, were not tainted in the 7 s until they returned, too"

// triedClient is from suites/eviction, label experiment.
const triedClient = "v1.37.0, 10 requests a second, 10 at once: 40 pods of one node were deleted within 4 s, where 4 requests for each would take 15 s: the count of requests is an upper bound, and how many there are is not shown yet"

// triedLost is from suites/eviction, label experiment.
const triedLost = "v1.37.0: the API server was killed just before a pod was due, 5 s after the taint, and was back 8.3 s after it; the pod was still there 15 s later, tainted node and leader being the same, and was deleted 48 s after the taint by the next leader, when that had been killed"

// triedBreaker is from suites/eviction, label experiment.
const triedBreaker = "v1.37.0: two nodes were cut off and the lease of one annotated; the other became Unknown, and it was Ready three grace periods longer, until the leader was killed, and Unknown with the next. A stale watch was not tried"

// Rules lists every rule of the model.
func Rules() []RuleDoc {
	return []RuleDoc{
		{RuleGrace, "a node whose lease and status were not renewed for nodeMonitorGracePeriod becomes Ready=Unknown in the next pass; passes come every nodeMonitorPeriod after the one before ended, and time counts from the pass that saw the last renewal. A status that came after the last renewal of the lease makes the next pass count from itself: one period more", fileNLC + "tryUpdateNodeHealth, monitorNodeHealth", false, ""},
		{RuleRate, "an Unknown node waits for the NoExecute taint in a queue of its zone that gives out nodeEvictionRate tokens a second, one at once; the order is random. A token may be wasted on a node whose new taint the pass did not see yet", fileNLC + "doNoExecuteTaintingPass, markNodeForTainting; " + fileQueue + "Try (burst 1, polled every 100 ms)", false, ""},
		{RuleExtra, "up to v1.33 the queue is filled from the condition as it was before the pass: one nodeMonitorPeriod later", fileNLC + "monitorNodeHealth: observedReadyCondition (v1.33.13), currentReadyCondition (v1.34.9)", false, ""},
		{RulePartial, "a zone of which more than 2 counted nodes and at least unhealthyZoneThreshold (in float32) are not ready taints no more nodes; taints that are on stay on", fileNLC + "ComputeZoneState, ReducedQPSFunc, setLimiterInZone", false, ""},
		{RuleLarge, "a zone of more than largeClusterSizeThreshold counted nodes goes on at secondaryNodeEvictionRate instead", fileNLC + "ReducedQPSFunc", false, ""},
		{RuleFull, "a zone without any ready node taints at nodeEvictionRate while another zone has one. If it was partially disrupted on the way there, its bucket starts empty: the first taint comes 1/rate later", fileNLC + "handleDisruption, HealthyQPSFunc; " + fileQueue + "SwapLimiter", false, ""},
		{RuleAll, "when no zone has a ready node, all NoExecute taints are taken off again, once (not again if the API is away then), and no more are put on; when the first node returns, each zone goes on with an empty bucket, at the rate of its state. A nodeEvictionRate of 0 is no brake: the limiter is not changed to the rate that it has, and keeps its first token. A nodeEvictionRate of exactly 1 is never given back after any brake, of a zone or of all: the limiter that stops says that its rate is 1, so that it is not replaced, and the zone taints no more in that leader's life", fileNLC + "handleDisruption; " + fileQueue + "SwapLimiter (same QPS)", false, triedStuck},
		{RuleLeak, "zone states change at the end of a pass but taints are put on during it, and the nodes of a cut turn Unknown over several passes: before a brake holds, up to 1 + rate x (time from the first Unknown to the end of the pass that sees the last) nodes are tainted. A node that was tainted then stays so, except when all zones stop", fileNLC + "monitorNodeHealth (handleDisruption comes last), doNoExecuteTaintingPass", false, triedLeak},
		{RuleStraggler, "when nodes return one by one after a heal, a brake lets go before the last has: those still away may be tainted, the first 1/rate after the heal, until they are back", fileNLC + "handleDisruption; " + fileQueue + "SwapLimiter", true, ""},
		{RuleExcluded, "a node with the label node.kubernetes.io/exclude-disruption does not count for the state and size of its zone, but is tainted like any other. A zone of only such nodes has no brake, and may be given a new, full bucket in every pass", fileNLC + "isNodeExcludedFromDisruptionChecks, handleDisruption (delete of zoneStates), addPodEvictorForNewZone", true, ""},
		{RuleToleration, "a pod is deleted when the taint has been on, within one leader's life, for as long as the pod tolerates it: for each taint the first toleration in the pod's list that matches counts, of several taints the shortest; a taint that nothing matches deletes at once. A pod that says nothing is given the API server's defaults when it is created", fileTEC + "processPodOnNode, getMinTolerationTime; pkg/apis/core/v1/helper GetMatchingTolerations; plugin/pkg/admission/defaulttolerationseconds/admission.go", false, ""},
		{RuleDaemonSet, "a DaemonSet's pods tolerate not-ready and unreachable for ever, but not out-of-service", "pkg/controller/daemon/util/daemonset_util.go AddOrUpdateDaemonPodTolerations", false, ""},
		{RuleStatic, "static pods from files tolerate every NoExecute taint for ever", "pkg/kubelet/config/common.go applyDefaults", false, ""},
		{RuleReturn, "a node that is Ready again loses its taints in the next pass, and the timers of its pods with them", fileNLC + "processTaintBaseEviction, markNodeAsReachable; " + fileTEC + "handleNodeUpdate", false, ""},
		{RuleEpoch, "all of this is the memory of one leader. A new one takes the NoExecute taints off all nodes, gives each node that is not Unknown yet a full grace period, taints the others again from a full bucket, and starts every toleration from zero", fileNLC + "classifyNodes, monitorNodeHealth (added), tryUpdateNodeHealth (nodeHealth == nil)", false, ""},
		{RuleOutage, "a leader that cannot renew its lease for leaderElectRenewDeadline ends; a shorter outage makes every lease late, of healthy nodes too", "cmd/kube-controller-manager/app/controllermanager.go (OnStoppedLeading exits); k8s.io/client-go tools/leaderelection/leaderelection.go", false, ""},
		{RuleLost, "the deletion of a pod is tried 5 times, 10 ms apart, and never again: one that falls into an outage of the API is lost for that leader's life", fileTEC + "deletePodHandler", false, triedLost},
		{RuleHeartbeat, "nodeMonitorGracePeriod must exceed the time between two renewals that a pass sees, else healthy nodes are marked Unknown", fileNLC + "tryUpdateNodeHealth", false, ""},
		{RuleClient, "the node controller and the taint eviction controller each send kubeAPIQPS requests a second, kubeAPIBurst at once, events and the marking of pods as not ready included: the more pods are hit, the longer a pass, the leak before a brake, and the deletions take", "pkg/controller/apis/config/v1alpha1/defaults.go (20, 30); cmd/kube-controller-manager/app/core.go (a client each); pkg/controller/util/node/controller_utils.go MarkPodsNotReady", true, triedClient},
		{RuleReachable, "the pods of a node that keeps in touch are left alone", fileNLC + "processTaintBaseEviction", false, ""},
		{RuleGone, "a deleted pod stays Terminating until its node is back and has ended it", "pkg/kubelet/pod_workers.go, pkg/kubelet/status/status_manager.go", false, ""},
		{RuleService, "the taint out-of-service:NoExecute deletes at once what does not tolerate it, DaemonSets' pods too; what is Terminating on a node that is not ready and has the taint is removed within 20 s", fileTEC + "processPodOnNode; " + fileGC + "gcTerminating", false, ""},
		{RuleOrphan, "the pods of a node whose object was deleted are removed after a quarantine of 40 s, seen every 20 s", fileGC + "gcOrphaned, discoverDeletedNodes", false, ""},
		{RuleForce, "a pod that is deleted by force is gone at once, while its containers run on until the node is back", "pkg/registry/core/pod/strategy.go CheckGracefulDelete", false, ""},
		{RuleIdentity, "a ReplicaSet replaces a pod as soon as it is Terminating; a StatefulSet only when the object is gone; a DaemonSet's, a static and a bare pod have no replacement elsewhere", "pkg/controller/controller_utils.go IsPodActive; pkg/controller/statefulset/stateful_set_control.go", false, ""},
		{RuleBreaker, "from v1.37 a lease that is newer in etcd than in the informer stops every pass until the informer has caught up: a stale watch no longer makes healthy nodes Unknown. The lease of a silent node that somebody writes without renewing it (an annotation) differs for good: that node stays Ready until another leader comes", fileNLC + "tryUpdateNodeHealth, gate NodeControllerLeaseCircuitBreaker (v1.37.0)", true, triedBreaker},
	}
}

// Doc finds what is known of a rule.
func (r Rule) Doc() RuleDoc {
	for _, d := range Rules() {
		if d.Rule == r {
			return d
		}
	}
	return RuleDoc{Rule: r}
}
