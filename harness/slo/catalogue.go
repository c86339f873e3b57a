package slo

// The numbers come from what Kubernetes, etcd and the clouds themselves hold:
//
//   - API: github.com/kubernetes/community sig-scalability/slos (p99 <= 1 s in the
//     steady state); etcd's election timeout of 1 s and its request timeout of
//     5 s + 2 elections (go.etcd.io/etcd/server/v3 config, ReqTimeout), which
//     bound what a lost leader costs.
//   - Watches: HTTP/2 health checks find a dead connection after 30 s + 15 s
//     (k8s.io/apimachinery pkg/util/net/http.go), plus back-off.
//   - CronJobs: k8s.io/kubernetes@v1.37.0 pkg/controller/cronjob; a controller
//     manager's lease is taken over within 15 to 24 s, plus the pod's own start.
//   - Pods: 300 s of toleration (plugin/pkg/admission/defaulttolerationseconds),
//     5 s to start (sig-scalability/slos/pod_startup_latency.md).

// Catalogue lists every checker, in the order of `gameday list slos`.
func Catalogue() []Kind {
	return []Kind{
		{
			Name:   "alerts",
			Doc:    "the monitoring notices what is broken, and nothing else: each alert of must fires within its time after its fault was proven, none of mustNot fires (alerts.must, alerts.must-not); asked of a Prometheus or an Alertmanager at url",
			Source: "yours: scrape interval + evaluation interval (both 1 min by default: https://prometheus.io/docs/prometheus/latest/configuration/configuration/) + the rule's `for`",
			New:    newAlerts,
		},
		{
			Name:   "api.availability",
			Doc:    "the API answers reads, quorum reads, writes and watches: longest outage, p99, no event left out (api.read, api.quorum-read, api.write, api.watch, api.watch-missed); during: [{phases: [upgrade/*/etcd], after, longest, pinned, watch}] allows some phases more",
			Source: "one fault at a time: an apiserver or the etcd leader killed costs <= 5 s behind a health-checked load balancer (etcd election 1-2 s); watches <= 60 s (HTTP/2 health check 45 s + back-off)",
			New:    newAPIAvailability,
		},
		{
			Name:   "cron.start-latency",
			Doc:    "every slot of every CronJob starts a container in time, none is missed or started twice, nothing else is started; any percentile: {p99: 10s, p99.99: 20m, max: 30m} (cron.start-latency, cron.missed, cron.duplicate, cron.unscheduled, cron.overlap)",
			Source: "p99 <= 60 s while one fault is active: leader change of kube-controller-manager <= 24 s, node and API recovery; 0 missed for outages shorter than the interval less 25 s",
			New:    newCronStartLatency,
		},
		{
			Name:   "cron.job-latency",
			Doc:    "the controller makes the Job of every slot of every CronJob in time: the control plane's part of cron.start-latency, also where no container is run; max, p99, during",
			Source: "p99 <= 60 s as cron.start-latency; the controller itself waits 100 ms after the slot (k8s.io/kubernetes@v1.37.0 pkg/controller/cronjob/utils.go, nextScheduleDelta)",
			New:    newCronJobLatency,
		},
		{
			Name:   "etcd",
			Doc:    "etcd is well but for what is done to it: leader, health of each member, alarms, size of the database against its quota (etcd.leader-changes, etcd.members, etcd.alarms, etcd.db-size); how long its disks take is told, and judged if a limit is given (etcd.fsync, etcd.commit)",
			Source: "0 changes of leader and 0 alarms without a fault or an upgrade; 5 s for a member: what the loss of a leader may cost; 95 % of the quota: etcd's own alert etcdBackendQuotaLowSpace (etcd-io/etcd contrib/mixin); for fsync etcd advises p99 < 10 ms, for commit < 25 ms (https://etcd.io/docs/v3.5/faq/), its alerts begin at 500 ms and 250 ms, and from an election timeout of 1 s on leaders are lost: a disk that others use, too, is not judged unless it is asked for",
			New:    newEtcd,
		},
		{
			Name:   "evictions",
			Doc:    "the node controller evicts what its rules say and nothing else: deletions by taint in their windows, none left out, taints at the rates and not under a brake (evictions.window, evictions.missed, evictions.rate); gameday eviction explain tells the rules",
			Source: "k8s.io/kubernetes v1.32 to v1.37 pkg/controller/nodelifecycle and pkg/controller/tainteviction, rule by rule in harness/eviction; its defaults",
			New:    newEvictions,
		},
		{
			Name:   "linearizable",
			Doc:    "every quorum read, create, update and delete of an object, through any API server, takes effect at one moment between its invocation and its answer: no stale read, no lost update, no revision that goes back; operations of unknown outcome may have happened",
			Source: "0 violations: etcd promises strict serializability of all operations but watches (https://etcd.io/docs/v3.6/learning/api_guarantees/), and a read without a resourceVersion is served from it (https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-get-and-list); searched by github.com/anishathalye/porcupine",
			New:    newLinearizable,
		},
		{
			Name:   "pods.ledger",
			Doc:    "no pod is lost: every deletion has a lawful cause, nothing restarts, hangs or falls below its budget, no job is killed, or so many at most: {survival: 99.99, workLost: 10m} (pods.unexplained, pods.restarts, pods.stuck-pending, pods.stuck-terminating, pods.below-budget, jobs.killed, jobs.survival, jobs.work-lost)",
			Source: "taint eviction only after 300 s of toleration; 0 unexplained, 0 restarts; pending and terminating <= 90 s after a heal; ready replicas >= minAvailable but for those on a node under fault, back <= 60 s after the heal",
			New:    newPodsLedger,
		},
		{
			Name:   "watch.complete",
			Doc:    "the watch through each API server, and through the load balancer, tells of every change that etcd has, of what it is, once, and in the order of revisions, also after it was closed and opened again, and never of anything up to a bookmark after it (watch.complete, watch.order)",
			Source: "0 violations: a watch tells of all changes after a revision (https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes), as etcd promises its own: ordered, unique, reliable (https://etcd.io/docs/v3.6/learning/api_guarantees/#watch-apis)",
			New:    newWatchComplete,
		},
		{
			Name:   "service.availability",
			Doc:    "pods reach pods on every other node, the workload's Services, on new and kept connections, and the cluster's DNS: longest outage that no fault explains, share of good samples, p99 (service.mesh, service.cluster-ip, service.dns); during: [{phases: [upgrade/*/kubelet], faults: [ID], after, mesh, clusterIP, dns}] allows some phases and faults more",
			Source: "mesh 3 s: TCP sends again after 1 s and 3 s (RFC 6298), so that a connection lives through it; cluster-ip and dns 5 s: a resolver asks again after 5 s (resolv.conf(5), timeout), and the workload's readiness probes and kube-proxy take a pod out of a Service within that; 99 % good: who asks again fails once in 10 000; recovery 60 s: as pods.ledger",
			New:    newServiceAvailability,
		},
		{
			Name:   "writes.kept",
			Doc:    "every acknowledged write is on every etcd member, and all members hold the same data",
			Source: "etcd promises durability of what it acknowledged: 0 lost",
			New:    newWritesKept,
		},
		{
			Name:   "components",
			Doc:    "no component of the cluster ends but for a fault or a step of the upgrade that explains it, and somebody always leads kube-controller-manager and kube-scheduler (components.restarts, components.crash-loops, components.leader-gap, components.leader-changes, components.panics); during: [{phases, faults, after, restarts, leaderGap}] allows some phases or faults more",
			Source: "0 unexplained; leaderGap 24 s: 4.4 s until the last renewal is seen, 15 s lease, 4.4 s until the next try (k8s.io/component-base config/v1alpha1/defaults.go: leaseDuration 15 s, retryPeriod 2 s with jitter 1.2)",
			New:    newComponents,
		},
		{
			Name:   "logs",
			Doc:    "a pattern is not in the logs of components, kubelets and containerds, or is (logs.must-not, logs.must); mustNot: [{pattern, in, atMost, during}], must: [{pattern, in}]",
			Source: "mustNot: what Go says when a process dies of its own mistake (src/runtime/panic.go: panic, fatal error) and its race detector: 0 lines",
			New:    newLogs,
		},
		{
			Name:   "convergence",
			Doc:    "all is as before soon after each fault was healed, and after the end of the run (convergence.faults, convergence.end); during: [{phases, faults, after, within}] allows some phases or faults more",
			Source: "within 60 s: dead connections are found after 45 s (HTTP/2 health check 30 s + 15 s), a container that ended is held back for 10 and 20 s (kubelet back-off)",
			New:    newConvergence,
		},
	}
}

// Lookup finds a checker by name.
func Lookup(name string) (Kind, bool) {
	for _, k := range Catalogue() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}
