// Package workload is what runs in the cluster under test and must survive:
// CronJobs, Deployments behind Services, StatefulSets and Jobs that run for
// long, in one namespace of the run.
//
// It behaves like software whose owners care: servers have readiness probes,
// end within seconds of a SIGTERM, are spread over the nodes and have a
// PodDisruptionBudget. Jobs must not lose work: a PodDisruptionBudget that never
// allows a disruption covers all pods of Jobs, so that a drain waits for them to
// end (bounded by the drain's own timeout: the longest Job must be shorter).
//
// Nothing is tuned for the test: tolerations, grace of eviction and controllers
// are Kubernetes' defaults.
package workload
