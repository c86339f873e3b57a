package matrix

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gameday/clusters"
	"gameday/clusters/local"
	"gameday/harness/eviction"
)

// excludedLabel keeps a node out of the state of its zone (eviction.RuleExcluded).
const excludedLabel = "node.kubernetes.io/exclude-disruption"

// Given is the cluster that settings describe: what its components are started with,
// which nodes it has. Name and Run of the spec are left to the caller.
func Given(f eviction.File) (clusters.Spec, local.Settings, error) {
	spec := clusters.Spec{Version: f.Version, ControlPlanes: 1}
	cm, api := f.ControllerManager, f.APIServer
	s := local.Settings{
		NodeLease: time.Duration(f.Kubelet.NodeLeaseDurationSeconds) * time.Second,
		ControllerManager: map[string]string{
			"node-monitor-period":          cm.NodeMonitorPeriod.String(),
			"node-monitor-grace-period":    cm.NodeMonitorGracePeriod.String(),
			"node-eviction-rate":           fmt.Sprint(cm.NodeEvictionRate),
			"secondary-node-eviction-rate": fmt.Sprint(cm.SecondaryNodeEvictionRate),
			"unhealthy-zone-threshold":     fmt.Sprint(cm.UnhealthyZoneThreshold),
			"large-cluster-size-threshold": fmt.Sprint(cm.LargeClusterSizeThreshold),
			"kube-api-qps":                 fmt.Sprint(cm.KubeAPIQPS),
			"kube-api-burst":               fmt.Sprint(cm.KubeAPIBurst),
			"leader-elect-lease-duration":  cm.LeaderElectLeaseDuration.String(),
			"leader-elect-renew-deadline":  cm.LeaderElectRenewDeadline.String(),
			"leader-elect-retry-period":    cm.LeaderElectRetryPeriod.String(),
		},
		APIServer: map[string]string{
			"default-not-ready-toleration-seconds":   fmt.Sprint(api.DefaultNotReadyTolerationSeconds),
			"default-unreachable-toleration-seconds": fmt.Sprint(api.DefaultUnreachableTolerationSeconds),
		},
	}
	c, err := f.Case("all", 0)
	if err != nil {
		return spec, s, err
	}
	planes := 0
	for _, n := range c.Nodes {
		labels := map[string]string{corev1.LabelTopologyZone: n.Zone}
		if n.Excluded {
			labels[excludedLabel] = ""
		}
		if !n.ControlPlane {
			s.WorkerLabels = append(s.WorkerLabels, labels)
			continue
		}
		if planes++; planes > 1 && fmt.Sprint(labels) != fmt.Sprint(s.ControlPlaneLabels) {
			return spec, s, fmt.Errorf("control planes can only be alike here: all in one zone, and all of them excluded or none")
		}
		s.ControlPlaneLabels = labels
	}
	spec.Workers = len(s.WorkerLabels)
	if spec.ControlPlanes = planes; planes == 0 {
		spec.ControlPlanes, s.NoControlPlaneNodes = 1, true
	}
	return spec, s, nil
}

// podOf is a pod of a case as it is created, bound to its node. All pods are bare
// ones, with the tolerations of their kind, so that nothing replaces them and each
// is seen to go.
func podOf(p eviction.Pod, node string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metaOf(p),
		Spec: corev1.PodSpec{
			NodeName: node, Tolerations: p.Asked(), TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "c", Image: "none"}}, // hollow kubelets pull nothing
		},
	}
}
