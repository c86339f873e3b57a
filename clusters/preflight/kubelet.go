package preflight

import (
	"fmt"
	"slices"
	"strings"
)

// kindKubelet is the kind of a kubelet's settings.
const kindKubelet = "KubeletConfiguration"

// cgroupV1Refused is the minor version from which a kubelet does not start on
// cgroup v1 unless its failCgroupV1 is false: k8s.io/kubernetes
// pkg/kubelet/apis/config/v1beta1/defaults.go of v1.34.9 and v1.35.8.
const cgroupV1Refused = 35

// goneFlag is a flag of the kubelet that a release removed.
type goneFlag struct {
	flag   string
	since  int
	source string
}

// goneFlags are what cmd/kubelet/app of k8s.io/kubernetes v1.32.13 to v1.37.0 lost,
// and one from before that is met still: a kubelet does not start with a flag that it
// does not know.
func goneFlags() []goneFlag {
	out := []goneFlag{
		{"container-runtime", 27, "https://github.com/kubernetes/kubernetes/pull/114017"},
		{"cloud-config", 34, "https://github.com/kubernetes/kubernetes/pull/130161"},
		{"register-schedulable", 34, "https://github.com/kubernetes/kubernetes/pull/122384"},
		// kubeadm v1.35, and only that, takes it out of kubeadmFlags itself.
		{sandboxFlag, 35, "https://github.com/kubernetes/kubernetes/pull/133779"},
	}
	for _, f := range []string{ // cAdvisor's
		"application-metrics-count-limit", "boot-id-file", "container-hints", "containerd", "containerd-namespace", "enable-load-reader",
		"event-storage-age-limit", "event-storage-event-limit", "global-housekeeping-interval", "log-cadvisor-usage", "machine-id-file",
		"storage-driver-user", "storage-driver-password", "storage-driver-host", "storage-driver-db", "storage-driver-table",
		"storage-driver-secure", "storage-driver-buffer-duration",
	} {
		out = append(out, goneFlag{f, 37, "https://github.com/kubernetes/kubernetes/pull/139870"})
	}
	return out
}

const sandboxFlag = "pod-infra-container-image"

// kubelets looks for settings with which the target's kubelet does not start.
func kubelets(f *Facts) []Finding {
	target, _ := minor(f.To)
	return slices.Concat(f.flagsGone(target), f.cgroupV1(target), f.swap(), f.runtimes(target))
}

// flagsGone are flags that the target's kubelet does not know.
func (f *Facts) flagsGone(target int) []Finding {
	present := f.present()
	var out []Finding
	for _, g := range goneFlags() {
		var where []string
		for _, fl := range f.Flags {
			if _, ok := flagOf(fl.Args, g.flag); !ok || target < g.since {
				continue
			}
			if g.flag == sandboxFlag && fl.File == kubeadmFlags && present == g.since-1 {
				continue
			}
			where = append(where, fl.Node+":"+fl.File)
		}
		if len(where) > 0 {
			out = append(out, Finding{
				Severity: Blocks, What: fmt.Sprintf("the kubelet of %s does not start with --%s", release(target), g.flag),
				Where: where, Removed: release(g.since), Mend: "take the flag out of the file", Source: g.source,
			})
		}
	}
	return out
}

// flagOf is the value of a flag among arguments. In its name _ is as good as -.
func flagOf(args []string, name string) (string, bool) {
	for i, a := range args {
		bare := strings.TrimLeft(a, "-")
		if bare == a {
			continue
		}
		key, value, has := strings.Cut(bare, "=")
		if strings.ReplaceAll(key, "_", "-") != name {
			continue
		}
		if !has && i+1 < len(args) {
			value = args[i+1]
		}
		return value, true
	}
	return "", false
}

// cgroupV1 looks at nodes with cgroup v1. kubeadm writes each kubelet's settings anew
// from the cluster's ConfigMap; a flag beats them.
func (f *Facts) cgroupV1(target int) []Finding {
	if target < cgroupV1Refused {
		return nil
	}
	var refused, unknown []string
	for _, n := range f.Nodes {
		switch {
		case n.Cgroup == 0:
			unknown = append(unknown, n.Name)
		case n.Cgroup == 1 && !f.allowsCgroupV1(n.Name):
			refused = append(refused, n.Name)
		}
	}
	var out []Finding
	if len(refused) > 0 {
		out = append(out, Finding{
			Severity: Blocks, What: fmt.Sprintf("the kubelet of %s does not start on cgroup v1", release(target)), Where: refused,
			Removed: release(cgroupV1Refused), Mend: "move the machines to cgroup v2, or set failCgroupV1: false in ConfigMap kube-system/kubelet-config",
			Source: "k8s.io/kubernetes@v1.37.0 pkg/kubelet/apis/config/validation/validation_linux.go",
		})
	}
	if len(unknown) > 0 {
		out = append(out, Finding{
			Severity: Unknown, What: "which cgroup version the nodes have is not known", Where: unknown,
			Mend: "look for /sys/fs/cgroup/cgroup.controllers on them: where it is, all is well",
		})
	}
	return out
}

func (f *Facts) allowsCgroupV1(node string) bool {
	for _, fl := range f.Flags {
		if v, ok := flagOf(fl.Args, "fail-cgroupv1"); ok && fl.Node == node {
			return v == "false"
		}
	}
	const field = "failCgroupV1"
	for _, of := range []string{"", node} { // the cluster's, else the node's own
		for _, s := range f.Settings {
			if s.Kind == kindKubelet && s.Explicit && s.Node == of {
				return s.Values[field] == false
			}
		}
	}
	return false
}

// swap looks for the kinds of swap that no kubelet of today takes.
func (f *Facts) swap() []Finding {
	const source = "k8s.io/kubernetes@v1.37.0 pkg/kubelet/apis/config/validation/validation.go"
	var bad, v1 []string
	for _, s := range f.Settings {
		memory, _ := s.Values["memorySwap"].(map[string]any)
		if s.Kind != kindKubelet {
			continue
		}
		switch behavior, _ := memory["swapBehavior"].(string); behavior {
		case "", "NoSwap":
		case "LimitedSwap":
			for _, n := range f.Nodes {
				if n.Cgroup == 1 && (s.Node == "" || s.Node == n.Name) {
					v1 = append(v1, n.Name+" by "+s.Where)
				}
			}
		default:
			bad = append(bad, fmt.Sprintf("%s (%s)", s.Where, behavior))
		}
	}
	var out []Finding
	if len(bad) > 0 {
		out = append(out, Finding{Severity: Blocks, What: "the kubelet does not start with this memorySwap.swapBehavior", Where: bad, Removed: "v1.30", Mend: "set NoSwap or LimitedSwap", Source: source})
	}
	if len(v1) > 0 {
		out = append(out, Finding{Severity: Blocks, What: "the kubelet does not start with LimitedSwap on cgroup v1", Where: v1, Mend: "set NoSwap", Source: "k8s.io/kubernetes@v1.37.0 cmd/kubelet/app/server.go"})
	}
	return out
}

// runtimes are the container runtimes that the kubelets themselves say will be
// refused.
func (f *Facts) runtimes(target int) []Finding {
	by := map[string][]string{}
	for _, n := range f.Nodes {
		if n.RuntimeUntil != "" {
			by[n.RuntimeUntil] = append(by[n.RuntimeUntil], n.Name)
		}
	}
	var out []Finding
	for until, where := range by {
		found := Finding{
			Severity: Warns, What: "kubelets say that they will refuse their container runtime", Where: where, Removed: until,
			Mend: "upgrade the container runtime", Source: "kubelet_cri_losing_support, k8s.io/kubernetes@v1.37.0 cmd/kubelet/app/server.go",
		}
		if x, ok := minor(until); ok && x <= target {
			found.Severity = Blocks
		}
		out = append(out, found)
	}
	return out
}
