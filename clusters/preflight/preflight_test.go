package preflight

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// healthy is a cluster that can be upgraded to v1.37.0 with nothing to tell.
func healthy() *Facts {
	f := &Facts{
		To: "v1.37.0", Now: now, Asked: true, Kubeadm: "v1.36.1",
		Servers: []Server{{Name: "cp", Node: "cp", Version: "v1.36.1"}},
		Nodes:   []Node{{Name: "cp", Kubelet: "v1.36.1", Cgroup: 2}, {Name: "w", Kubelet: "v1.35.0", Cgroup: 2}},
		Etcd:    []Member{{"cp", "v3.6.12"}},
		Settings: []Settings{
			{Kind: kindKubelet, Where: "ConfigMap kube-system/kubelet-config", Explicit: true, Values: map[string]any{}},
		},
		Certificates: []Certificate{
			{What: "the serving certificate", Where: "API server cp", Until: now.Add(300 * 24 * time.Hour)},
			{What: "certificate authority kubernetes", Where: "cp:/etc/kubernetes/pki/ca.crt", Until: now.Add(3000 * 24 * time.Hour), CA: true},
		},
		Definitions: []Definition{{Name: "widgets.example.com", Group: "example.com", Stored: []string{"v1"}, Storage: "v1", Served: []string{"v1"}}},
		Pods:        []corev1.Pod{pod("web-0", "web"), pod("web-1", "web")},
		Budgets:     []policyv1.PodDisruptionBudget{budget("web", "web", 2, 1)},
	}
	for _, c := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		f.Components = append(f.Components, Component{Name: c, Pod: c + "-cp", Node: "cp", Version: "v1.36.1"})
	}
	f.Components = append(f.Components, Component{Name: "kube-proxy", Pod: "kube-proxy-w", Node: "w", Version: "v1.36.1"})
	return f
}

func pod(name, app string) corev1.Pod {
	yes := true
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, Labels: map[string]string{"app": app},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: app, Controller: &yes}},
		},
		Spec:   corev1.PodSpec{NodeName: "w"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// budget is one as the disruption controller leaves it, with all pods healthy.
func budget(name, app string, pods, desired int32) policyv1.PodDisruptionBudget {
	most := intstr.FromInt32(pods - desired)
	return policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Generation: 1},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: &most, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}},
		},
		Status: policyv1.PodDisruptionBudgetStatus{
			ObservedGeneration: 1, ExpectedPods: pods, CurrentHealthy: pods, DesiredHealthy: desired, DisruptionsAllowed: pods - desired,
		},
	}
}

func gvk(version, kind string) schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(version, kind)
}

func resource(group, version, name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: name}
}

// TestHealthy is the control of all that follows.
func TestHealthy(t *testing.T) {
	r := Judge(healthy())
	for _, f := range r.Findings {
		if f.Severity != Note || !strings.Contains(f.What, "one hop: v1.36 to v1.37") {
			t.Errorf("found without cause: %s", f)
		}
	}
	if len(r.Findings) != 1 {
		t.Errorf("%d findings, want the path alone", len(r.Findings))
	}
}

func TestFindings(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(f *Facts)
		// want are the beginnings of the lines of all findings, besides the path.
		want []string
	}{
		// Skew.
		{"target older", func(f *Facts) { f.To = "v1.36.0" }, []string{
			"blocks skew an API server runs v1.36.1, newer than the target v1.36.0: cp;",
		}},
		{"servers apart", func(f *Facts) { f.Servers = append(f.Servers, Server{"cp2", "cp2", "v1.34.0"}) }, []string{
			"blocks skew API servers run v1.34 to v1.36, more than one minor version apart",
			"blocks skew kubelet v1.36 is newer than an API server (v1.34): cp (v1.36.1);",
			"blocks skew kubelet v1.35 is newer than an API server (v1.34): w (v1.35.0);",
			"blocks skew kube-proxy v1.36 is newer than an API server (v1.34): kube-proxy-w (v1.36.1);",
			"warns skew kubeadm's own record says v1.36.1, the API servers run v1.34",
			"warns skew the target is 3 minor versions away, and one is gone at a time: v1.34, then v1.35, then v1.36, then v1.37;",
		}},
		{"an upgrade under way, seen by a pod alone", func(f *Facts) {
			f.Components = append(f.Components, Component{Name: "kube-apiserver", Pod: "kube-apiserver-cp2", Node: "cp2", Version: "v1.37.0"})
		}, []string{"warns skew API servers run both v1.36 and v1.37: an upgrade is under way: cp (v1.36.1), kube-apiserver-cp2 (v1.37.0);"}},
		{"kubelet too new", func(f *Facts) { f.Nodes[1].Kubelet = "v1.37.0" }, []string{
			"blocks skew kubelet v1.37 is newer than an API server (v1.36): w (v1.37.0); mend: upgrade the API servers first",
		}},
		{"kubelet too old already", func(f *Facts) { f.Nodes[1].Kubelet, f.Components[3].Node = "v1.32.0", "gone" }, []string{
			"blocks skew kubelet v1.32 is more than 3 minor versions behind an API server (v1.36): w (v1.32.0); mend: upgrade it to v1.33 at least",
		}},
		{"kubelet too old for the hop", func(f *Facts) { f.Nodes[1].Kubelet = "v1.33.9" }, []string{
			"blocks skew kubelet v1.33 would be more than 3 minor versions behind v1.37: w (v1.33.9); mend: upgrade it to v1.34 at least before the API servers",
		}},
		{"kubelet too old for a later hop", func(f *Facts) { f.To, f.Nodes[1].Kubelet = "v1.39.0", "v1.35.0" }, []string{
			"unknown releases releases are known here up to v1.37:",
			"warns skew kubelet v1.35 would be more than 3 minor versions behind from the hop to v1.39 on: w (v1.35.0); mend: upgrade it to v1.36 at least before the hop to v1.39",
		}},
		{"kube-proxy too old", func(f *Facts) { f.Components[3].Version = "v1.33.0" }, []string{
			"blocks skew kube-proxy v1.33 would be more than 3 minor versions behind v1.37: kube-proxy-w (v1.33.0);",
		}},
		{"kube-proxy far from its kubelet", func(f *Facts) { f.Nodes[1].Kubelet = "v1.32.0" }, []string{
			"blocks skew kubelet v1.32 is more than 3 minor versions behind",
			"blocks skew kube-proxy v1.36.1 and kubelet v1.32.0 are more than 3 minor versions apart: w;",
		}},
		{"no kube-proxy", func(f *Facts) { f.Components = f.Components[:3] }, []string{
			"note skew no pod of kube-system is kube-proxy: its version was not looked at;",
		}},
		{"controller manager newer than its API server", func(f *Facts) { f.Components[1].Version = "v1.37.0" }, []string{
			"blocks skew kube-controller-manager-cp v1.37 is newer than an API server (v1.36)",
		}},
		{"controller manager old", func(f *Facts) { f.Components[1].Version = "v1.35.0" }, []string{
			"blocks skew kube-controller-manager-cp v1.35 would be more than 1 minor versions behind v1.37",
		}},
		{"scheduler too old already", func(f *Facts) { f.Components[2].Version = "v1.34.0" }, []string{
			"blocks skew kube-scheduler-cp v1.34 is more than 1 minor versions behind an API server (v1.36)",
		}},
		{"kubeadm's record", func(f *Facts) { f.Kubeadm = "v1.35.4" }, []string{
			"warns skew kubeadm's own record says v1.35.4, the API servers run v1.36: ConfigMap kube-system/kubeadm-config;",
		}},

		{"from a release long ago", func(f *Facts) {
			f.To, f.Kubeadm, f.Servers[0].Version, f.Nodes[0].Kubelet, f.Nodes[1].Kubelet = "v1.31.0", "v1.30.0", "v1.30.0", "v1.30.0", "v1.30.0"
			for i := range f.Components {
				f.Components[i].Version = "v1.30.0"
			}
		}, []string{"unknown releases releases are known here from v1.33 on:"}},

		// APIs.
		{"manifests", func(f *Facts) {
			f.Documents = []Document{
				{"a.yaml", 7, gvk("policy/v1beta1", "PodDisruptionBudget"), "old"},
				{"a.yaml", 17, gvk("policy/v1beta1", "PodSecurityPolicy"), "psp"},
				{"b.yaml", 1, gvk("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"), "crd"},
				{"b.yaml", 9, gvk("autoscaling/v2beta2", "HorizontalPodAutoscaler"), "hpa"},
				{"c.yaml", 1, gvk("networking.k8s.io/v1alpha1", "ServiceCIDR"), "never held"},
				{"c.yaml", 2, gvk("resource.k8s.io/v1beta1", "ResourceClaim"), "to go"},
				{"c.yaml", 3, gvk("v1", "Endpoints"), "deprecated for good"},
				{"kubeadm.yaml", 4, gvk("kubeadm.k8s.io/v1beta3", "ClusterConfiguration"), ""},
				{"scheduler.yaml", 1, gvk("kubescheduler.config.k8s.io/v1beta3", "KubeSchedulerConfiguration"), ""},
				{"fine.yaml", 1, gvk("policy/v1", "PodDisruptionBudget"), "new"},
				{"fine.yaml", 2, gvk("example.com/v1beta1", "Widget"), "of others"},
				{"fine.yaml", 3, gvk("v1", "Pod"), "p"},
			}
		}, []string{
			"blocks apis policy/v1beta1 PodDisruptionBudget old is not served by v1.37: a.yaml:7; removed in v1.25; mend: write policy/v1 PodDisruptionBudget;",
			"blocks apis policy/v1beta1 PodSecurityPolicy psp is not served by v1.37: a.yaml:17; removed in v1.25; mend: write Pod Security Admission;",
			"blocks apis apiextensions.k8s.io/v1beta1 CustomResourceDefinition crd is not served by v1.37: b.yaml:1; removed in v1.22;",
			"blocks apis autoscaling/v2beta2 HorizontalPodAutoscaler hpa is not served by v1.37: b.yaml:9; removed in v1.26; mend: write autoscaling/v2;",
			"blocks apis networking.k8s.io/v1alpha1 ServiceCIDR never held is not served by v1.37: c.yaml:1; removed in v1.37 or before;",
			"warns apis resource.k8s.io/v1beta1 ResourceClaim to go is deprecated: c.yaml:2; removed in v1.38;",
			"note apis v1 Endpoints deprecated for good is deprecated: c.yaml:3;",
			"blocks apis kubescheduler.config.k8s.io/v1beta3 KubeSchedulerConfiguration is not served by v1.37: scheduler.yaml:1; removed in v1.29;",
			"blocks apis kubeadm.k8s.io/v1beta3 ClusterConfiguration is not served by v1.37: kubeadm.yaml:4; removed in v1.37;",
		}},
		{"a version that is not known for an older target", func(f *Facts) {
			f.To, f.Servers[0].Version = "v1.36.2", "v1.36.1"
			f.Documents = []Document{{"c.yaml", 1, gvk("networking.k8s.io/v1alpha1", "ServiceCIDR"), "x"}}
		}, []string{"unknown apis networking.k8s.io/v1alpha1 ServiceCIDR x: whether v1.36 serves it is not known: c.yaml:1;"}},
		{"objects", func(f *Facts) {
			f.Uses = []Use{
				{GVK: gvk("networking.k8s.io/v1beta1", "ServiceCIDR"), Objects: []string{"ServiceCIDR a"}, Count: 3},
				{GVK: gvk("networking.k8s.io/v1beta1", "ServiceCIDR"), Manager: "argocd", Applied: true, Objects: []string{"ServiceCIDR b"}, Count: 1},
				{GVK: gvk("networking.k8s.io/v1beta1", "IPAddress"), Manager: "tool", Objects: []string{"IPAddress c"}, Count: 1},
				{GVK: gvk("networking.k8s.io/v1beta1", "IPAddress"), Manager: "kube-apiserver", Objects: []string{"IPAddress d"}, Count: 4},
				{GVK: gvk("policy/v1beta1", "PodDisruptionBudget"), Objects: []string{"PodDisruptionBudget default/e"}, Count: 1},
				{GVK: gvk("apps/v1", "Deployment"), Manager: "kubectl", Objects: []string{"Deployment default/f"}, Count: 1},
			}
		}, []string{
			"blocks apis networking.k8s.io/v1beta1 ServiceCIDR, last applied by kubectl, is not served by v1.37: ServiceCIDR a and 2 more; removed in v1.37; mend: apply the manifest again with networking.k8s.io/v1 ServiceCIDR;",
			"blocks apis networking.k8s.io/v1beta1 ServiceCIDR, written by field manager argocd, is not served by v1.37: ServiceCIDR b;",
			"warns apis networking.k8s.io/v1beta1 IPAddress, written by field manager tool, is not served by v1.37: IPAddress c;",
			"note apis 4 objects written by Kubernetes' own components through deprecated versions: left out",
			"note apis policy/v1beta1 PodDisruptionBudget, last applied by kubectl, is not served by v1.37, nor by the present version: PodDisruptionBudget default/e; removed in v1.25;",
		}},
		{"audit log and metrics", func(f *Facts) {
			cidr := resource("networking.k8s.io", "v1beta1", "servicecidrs")
			f.Since = now.Add(-time.Hour)
			f.Audit = []AuditLog{{Where: "cp:audit.log", Node: "cp", Requests: 100, Deprecated: []Request{
				{Resource: cidr, Removed: "1.37", User: "alice", Agent: "kubectl/v1.36", Object: "servicecidrs/a", Count: 2, Last: now},
				{Resource: cidr, Removed: "1.37", User: "bob", Agent: "kubectl/v1.36", Object: "servicecidrs/b", Count: 5, Last: now.Add(-2 * time.Hour)},
				{Resource: cidr, Removed: "1.37", User: "system:apiserver", Agent: "kube-apiserver/v1.36.1", Object: "servicecidrs/c", Count: 7, Last: now},
				{Resource: resource("resource.k8s.io", "v1beta1", "resourceclaims"), Removed: "1.38", User: "carol", Agent: "x", Object: "default/resourceclaims/d", Count: 1, Last: now},
				{Resource: resource("", "v1", "endpoints"), User: "dave", Agent: "old", Object: "default/endpoints/e", Count: 1, Last: now},
			}}}
			f.Requested = []Requested{
				{Server: "cp", Node: "cp", Resource: cidr, Removed: "1.37"},   // told by its audit log
				{Server: "cp2", Node: "cp2", Resource: cidr, Removed: "1.37"}, // not by that of another
				{Server: "cp", Node: "cp", Resource: resource("", "v1", "componentstatuses")},
			}
		}, []string{
			"blocks apis networking.k8s.io/v1beta1 servicecidrs, which v1.37 does not serve, is asked for by user alice (kubectl/v1.36), 2 times, last 2026-11-21T12:00:00Z: servicecidrs/a, cp:audit.log; removed in v1.37;",
			"note apis 5 audit-logged requests for deprecated versions before 2026-11-21T11:00:00Z: left out",
			"note apis 7 audit-logged requests by Kubernetes' own components",
			"warns apis resource.k8s.io/v1beta1 resourceclaims, deprecated, is asked for by user carol (x), 1 time,",
			"note apis v1 endpoints, deprecated, is asked for by user dave (old)",
			"blocks apis networking.k8s.io/v1beta1 servicecidrs, which v1.37 does not serve, is asked for, by whom and when its metric does not say: apiserver_requested_deprecated_apis of cp2;",
			"note apis v1 componentstatuses, deprecated, is asked for, by whom and when its metric does not say: apiserver_requested_deprecated_apis of cp;",
		}},

		// Storage.
		{"stored versions", func(f *Facts) {
			f.Definitions = []Definition{{Name: "widgets.example.com", Stored: []string{"v1alpha1", "v1beta1", "v1"}, Storage: "v1", Served: []string{"v1beta1", "v1"}}}
		}, []string{
			"warns storage objects may be stored as v1alpha1, which is not served: CustomResourceDefinition widgets.example.com; mend: write all objects anew",
			"note storage objects may be stored as v1beta1, which is not the storage version: CustomResourceDefinition widgets.example.com;",
		}},

		// Drain.
		{"maxUnavailable 0", func(f *Facts) { f.Budgets[0] = budget("web", "web", 2, 2) }, []string{
			"blocks drain no pod may ever be evicted: 2 of 2 must be healthy (maxUnavailable 0): PodDisruptionBudget default/web;",
		}},
		{"minAvailable as many as there are", func(f *Facts) {
			f.Budgets[0] = budget("web", "web", 2, 2)
			all := intstr.FromString("100%")
			f.Budgets[0].Spec.MaxUnavailable, f.Budgets[0].Spec.MinAvailable = nil, &all
		}, []string{"blocks drain no pod may ever be evicted: 2 of 2 must be healthy (minAvailable 100%): PodDisruptionBudget default/web;"}},
		{"one is sick", func(f *Facts) { f.Budgets[0].Status.CurrentHealthy, f.Budgets[0].Status.DisruptionsAllowed = 1, 0 }, []string{
			"blocks drain no pod may be evicted now: 1 of 2 are healthy, 1 must be (maxUnavailable 1): PodDisruptionBudget default/web;",
		}},
		{"not looked at by the controller", func(f *Facts) { f.Budgets[0].Generation = 2 }, []string{
			"blocks drain no pod may be evicted: the controller manager has not looked at this budget: PodDisruptionBudget default/web;",
		}},
		{"not counted", func(f *Facts) { f.Budgets[0].Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1} }, []string{
			"blocks drain no pod may be evicted: the controller manager has not counted the pods of this budget: PodDisruptionBudget default/web;",
		}},
		{"cannot be computed", func(f *Facts) {
			f.Budgets[0].Status.DisruptionsAllowed = 0
			f.Budgets[0].Status.Conditions = []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: "no scale"}}
		}, []string{"blocks drain no pod may be evicted: the budget cannot be computed: no scale: PodDisruptionBudget default/web;"}},
		{"overlapping budgets", func(f *Facts) { f.Budgets = append(f.Budgets, budget("too", "web", 2, 1)) }, []string{
			"blocks drain pods with more than one disruption budget can never be evicted: Pod default/web-0 [too web], Pod default/web-1 [too web];",
		}},
		{"bare, scratch and local", func(f *Facts) {
			bare := pod("bare", "x")
			bare.OwnerReferences = nil
			bare.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
			f.Pods[0].Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
			f.Pods = append(f.Pods, bare)
			f.Volumes = []corev1.PersistentVolume{{Spec: corev1.PersistentVolumeSpec{
				ClaimRef:               &corev1.ObjectReference{Namespace: "default", Name: "data"},
				PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{}},
			}}}
		}, []string{
			"blocks drain a drain refuses pods that no controller would make again: Pod default/bare on w;",
			"note drain a drain loses what is in emptyDir volumes, and kubectl's refuses without --delete-emptydir-data: Pod default/bare;",
			"note drain pods keep data on their node: elsewhere they lack it, or cannot be scheduled: Pod default/web-0;",
		}},
		{"what a drain leaves or may take", func(f *Facts) {
			static, daemon, done, pending := pod("static", "s"), pod("daemon", "s"), pod("done", "s"), pod("pending", "s")
			static.OwnerReferences, static.Annotations = nil, map[string]string{corev1.MirrorPodAnnotationKey: "x"}
			daemon.OwnerReferences[0].Kind = "DaemonSet"
			done.OwnerReferences, done.Status.Phase = nil, corev1.PodSucceeded
			pending.Status.Phase = corev1.PodPending
			f.Pods = append(f.Pods, static, daemon, done, pending)
			f.Budgets = append(f.Budgets, budget("s", "s", 1, 1))
		}, nil},

		// Certificates.
		{"certificates", func(f *Facts) {
			f.Certificates = []Certificate{
				{What: "a", Where: "cp:a", Until: now.Add(-time.Hour)},
				{What: "b", Where: "cp:b", Until: now.Add(time.Hour)},
				{What: "c", Where: "cp:c", Until: now.Add(3 * 24 * time.Hour)},
				{What: "d", Where: "cp:d", Until: now.Add(8 * 24 * time.Hour)},
				{What: "ca", Where: "cp:ca", Until: now.Add(100 * 24 * time.Hour), CA: true},
			}
		}, []string{
			"blocks certificates a ended 2026-11-21T11:00:00Z: cp:a;",
			"blocks certificates b ends 2026-11-21T13:00:00Z, within a day: cp:b;",
			"warns certificates c ends 2026-11-24T12:00:00Z, within a week: cp:c;",
			"warns certificates ca ends 2027-03-01T12:00:00Z: what the upgrade renews ends with it: cp:ca; mend: renew the authority by hand",
		}},

		// Kubelets.
		{"cgroup v1", func(f *Facts) { f.Nodes[1].Cgroup = 1 }, []string{
			"blocks kubelet the kubelet of v1.37 does not start on cgroup v1: w; removed in v1.35;",
		}},
		{"cgroup v1, only a node's own file allows it", func(f *Facts) {
			f.Nodes[1].Cgroup = 1
			f.Settings = append(f.Settings, Settings{Kind: kindKubelet, Node: "w", Explicit: true, Values: map[string]any{"failCgroupV1": false}})
		}, []string{"blocks kubelet the kubelet of v1.37 does not start on cgroup v1: w;"}},
		{"cgroup v1, allowed", func(f *Facts) {
			f.Nodes[1].Cgroup = 1
			f.Settings[0].Values["failCgroupV1"] = false
		}, nil},
		{"cgroup v1, before it is refused", func(f *Facts) {
			f.To, f.Kubeadm, f.Servers[0].Version, f.Nodes[0].Kubelet, f.Nodes[1].Kubelet = "v1.34.0", "v1.33.0", "v1.33.0", "v1.33.0", "v1.33.0"
			f.Nodes[1].Cgroup = 1
			for i := range f.Components {
				f.Components[i].Version = "v1.33.0"
			}
		}, nil},
		{"cgroup v1, allowed by a flag", func(f *Facts) {
			f.Nodes[1].Cgroup = 1
			f.Flags = []Flags{{"w", kubeadmFlags, []string{"--fail-cgroupv1=false"}}}
		}, nil},
		{"cgroup not known", func(f *Facts) { f.Nodes[1].Cgroup = 0 }, []string{
			"unknown kubelet which cgroup version the nodes have is not known: w;",
		}},
		{"swap", func(f *Facts) {
			f.Nodes[1].Cgroup = 1
			f.Settings[0].Values = map[string]any{"failCgroupV1": false, "memorySwap": map[string]any{"swapBehavior": "LimitedSwap"}}
			f.Settings = append(f.Settings, Settings{Kind: kindKubelet, Where: "kubelet of cp", Node: "cp", Values: map[string]any{"memorySwap": map[string]any{"swapBehavior": "UnlimitedSwap"}}})
		}, []string{
			"blocks kubelet the kubelet does not start with this memorySwap.swapBehavior: kubelet of cp (UnlimitedSwap); removed in v1.30;",
			"blocks kubelet the kubelet does not start with LimitedSwap on cgroup v1: w by ConfigMap kube-system/kubelet-config;",
		}},
		{"flags", func(f *Facts) {
			f.Flags = []Flags{{"w", "/etc/default/kubelet", []string{"--cloud-config", "/x", "--pod-infra-container-image=pause", "--storage_driver_user=x", "--housekeeping-interval=10s"}}, {"cp", kubeadmFlags, []string{"--pod-infra-container-image=pause"}}}
		}, []string{
			"blocks kubelet the kubelet of v1.37 does not start with --storage-driver-user: w:/etc/default/kubelet; removed in v1.37;",
			"blocks kubelet the kubelet of v1.37 does not start with --cloud-config: w:/etc/default/kubelet; removed in v1.34;",
			"blocks kubelet the kubelet of v1.37 does not start with --pod-infra-container-image: w:/etc/default/kubelet, cp:/var/lib/kubelet/kubeadm-flags.env; removed in v1.35;",
		}},
		{"container runtime", func(f *Facts) { f.Nodes[0].RuntimeUntil, f.Nodes[1].RuntimeUntil = "v1.37.0", "v1.38.0" }, []string{
			"blocks kubelet kubelets say that they will refuse their container runtime: cp; removed in v1.37.0;",
			"warns kubelet kubelets say that they will refuse their container runtime: w; removed in v1.38.0;",
		}},
		{"feature gates", func(f *Facts) {
			f.Settings[0].Values["featureGates"] = map[string]any{"SidecarContainers": true, "NodeSwap": false}
			f.Components[1].Args = []string{"kube-controller-manager", "--feature-gates=LogarithmicScaleDown=false,GenericWorkload=true"}
		}, []string{
			"blocks gates feature gate SidecarContainers is not known to v1.37, and what sets it does not start: ConfigMap kube-system/kubelet-config; removed in v1.37;",
			"blocks gates feature gate NodeSwap can only be true in v1.37, and what sets it to false does not start: ConfigMap kube-system/kubelet-config;",
			"blocks gates feature gate LogarithmicScaleDown is not known to v1.37, and what sets it does not start: Pod kube-system/kube-controller-manager-cp;",
		}},
		{"feature gates of a release that is not listed", func(f *Facts) {
			f.To = "v1.38.0"
			f.Settings[0].Values["featureGates"] = map[string]any{"GenericWorkload": true}
		}, []string{"unknown releases releases are known here up to v1.37:", "unknown gates whether v1.38 knows these feature gates is not known: GenericWorkload;"}},

		// etcd.
		{"etcd 3.6 to 3.7", func(f *Facts) { f.Etcd[0].Version = "v3.6.8" }, []string{
			"warns etcd etcd before v3.6.11 is no safe start for v3.7, which v1.37 brings: etcd does not promise that older ones can be upgraded one by one: cp (v3.6.8); mend: upgrade etcd to 3.6.11 or later first;",
		}},
		{"etcd 3.5 to 3.6", func(f *Facts) { f.Etcd[0].Version = "v3.5.24" }, []string{
			"blocks etcd etcd before v3.5.26 is no safe start for v3.6, which v1.34 brings:",
		}},
		{"etcd differs", func(f *Facts) { f.Etcd = append(f.Etcd, Member{"cp2", "v3.7.0"}) }, []string{
			"warns etcd etcd's members differ by a minor version: an upgrade is under way: cp (v3.6.12), cp2 (v3.7.0);",
		}},

		// What could not be read.
		{"not read", func(f *Facts) { f.Unread = []Unread{{"drain", "pods", nil, "forbidden", "ask"}} }, []string{
			"unknown drain pods could not be read: forbidden; mend: ask",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := healthy()
			tc.do(f)
			var lines []string
			for _, found := range Judge(f).Findings {
				lines = append(lines, strings.Join(strings.Fields(found.String()), " "))
			}
			for _, want := range tc.want {
				if n := count(lines, want); n != 1 {
					t.Errorf("%d lines begin with %q, want 1 of:\n%s", n, want, strings.Join(lines, "\n"))
				}
			}
			for _, l := range lines {
				path := count([]string{l}, "note skew one hop") + count([]string{l}, "note skew no hop") + count([]string{l}, "warns skew the target is")
				if path == 0 && !slices.ContainsFunc(tc.want, func(w string) bool { return strings.HasPrefix(l, w) }) {
					t.Errorf("found besides: %s", l)
				}
			}
		})
	}
}

func count(lines []string, prefix string) int {
	n := 0
	for _, l := range lines {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}

func TestReport(t *testing.T) {
	f := healthy()
	f.Nodes[1].Kubelet = "v1.33.0"
	f.Unread = []Unread{{"apis", "the audit log", []string{"cp"}, "none", ""}}
	var out strings.Builder
	r := Judge(f)
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "blocks   skew ") || !strings.HasPrefix(lines[1], "unknown  apis ") || !strings.HasPrefix(lines[2], "note     skew ") {
		t.Errorf("not the worst first, one a line:\n%s", out.String())
	}
	if want := "upgrade to v1.37.0: 1 blocks, 1 unknown, 0 warns, 1 note; looked at 1 API server, 4 component pods, 2 nodes, 1 etcd member, "; !strings.HasPrefix(lines[3], want) {
		t.Errorf("last line %q, want %q", lines[3], want)
	}
}

func TestLineNamesFewPlaces(t *testing.T) {
	f := Finding{Severity: Warns, Check: "x", What: "w", Where: []string{"1", "2", "3", "4"}, More: 6}
	if want := fmt.Sprintf("%-7s  %-12s  w: 1, 2, 3 and 7 more", Warns, "x"); f.String() != want {
		t.Errorf("%q, want %q", f, want)
	}
}

func TestCheckTarget(t *testing.T) {
	for v, ok := range map[string]bool{"v1.37.0": true, "v1.37.0-rc.1": true, "v1.37": false, "1.37.0": false, "": false, "v2.0.0": false} {
		if err := CheckTarget(v); (err == nil) != ok {
			t.Errorf("%q: %v", v, err)
		}
	}
}
