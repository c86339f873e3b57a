package eviction

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gameday/scenarios"
)

// File is a settings file: the settings that differ from the defaults, and what
// the cluster looks like.
//
//	version: v1.36.4
//	controllerManager: {nodeMonitorGracePeriod: 40s}
//	zones: [{name: a, nodes: 5}, {name: b, nodes: 5}]
//	pods: [{owner: Deployment, perNode: 10}, {owner: StatefulSet, perNode: 1, tolerationSeconds: 60}]
type File struct {
	Settings
	// Zones of the cluster; none given: one without a name, as large as the cut
	// says.
	Zones []ZoneOf `yaml:"zones"`
	// Pods are on every node; none given: one of a Deployment.
	Pods []PodsOf `yaml:"pods"`
}

// ZoneOf describes a zone.
type ZoneOf struct {
	Name  string `yaml:"name"`
	Nodes int    `yaml:"nodes"`
	// Excluded is how many of the nodes, the last ones, have the label
	// node.kubernetes.io/exclude-disruption.
	Excluded int `yaml:"excluded"`
	// ControlPlanes is how many of the nodes, the last ones too, are control
	// planes.
	ControlPlanes int `yaml:"controlPlanes"`
}

// PodsOf describes the pods of one kind on each node.
type PodsOf struct {
	// Owner is Deployment, StatefulSet, DaemonSet, Job, Static or None.
	Owner   string `yaml:"owner"`
	PerNode int    `yaml:"perNode"`
	// TolerationSeconds for the taint unreachable; without it the API server's
	// default holds, unless Forever.
	TolerationSeconds *int64 `yaml:"tolerationSeconds"`
	Forever           bool   `yaml:"forever"`
}

// Bounds of what a file may describe.
const (
	maxNodes   = 20000
	maxPerNode = 1000
)

var owners = []string{"Deployment", "StatefulSet", "DaemonSet", "Job", "Static", "None"}

// LoadFile reads a settings file. An error is a *scenarios.Invalid that lists
// every problem with its line.
func LoadFile(data []byte, name string) (File, error) {
	f := File{Settings: Defaults("")}
	err := scenarios.Decode(data, name, "version: v1.36.4", &f, func(wrong func(field, mend, format string, args ...any)) {
		for _, p := range f.Settings.Problems() {
			wrong(p.Field, p.Mend, "%s", p.Text)
		}
		names := map[string]bool{}
		for i, z := range f.Zones {
			at := fmt.Sprintf("zones[%d]", i)
			switch {
			case z.Name == "" || names[z.Name] || strings.ContainsAny(z.Name, ":,/ "):
				wrong(at+".name", "", "%q is empty, there twice, or has one of the characters : , / or space", z.Name)
			case z.Nodes < 1 || z.Nodes > maxNodes:
				wrong(at+".nodes", "", "%d is not between 1 and %d", z.Nodes, maxNodes)
			case z.Excluded < 0 || z.Excluded > z.Nodes:
				wrong(at+".excluded", "", "%d of %d nodes", z.Excluded, z.Nodes)
			case z.ControlPlanes < 0 || z.ControlPlanes > z.Nodes:
				wrong(at+".controlPlanes", "", "%d of %d nodes", z.ControlPlanes, z.Nodes)
			}
			names[z.Name] = true
		}
		for i, p := range f.Pods {
			at := fmt.Sprintf("pods[%d]", i)
			switch {
			case !slices.Contains(owners, p.Owner):
				wrong(at+".owner", "", "unknown owner %q%s", p.Owner, scenarios.Suggest(p.Owner, owners))
			case p.PerNode < 1 || p.PerNode > maxPerNode:
				wrong(at+".perNode", "", "%d is not between 1 and %d", p.PerNode, maxPerNode)
			case p.TolerationSeconds != nil && p.Forever:
				wrong(at+".forever", "leave one out", "a toleration has seconds or is for ever")
			}
		}
	})
	return f, err
}

// Case is the cluster of the file with a cut: 3/10 (of a cluster of one zone),
// a:3,b:all (of zones that the file names) or all.
func (f File) Case(cut string, length time.Duration) (Case, error) {
	c := Case{Settings: f.Settings, Cut: Cut{Heal: length}}
	zones := slices.Clone(f.Zones)
	counts, err := cuts(cut, &zones)
	if err != nil {
		return Case{}, err
	}
	pods := f.Pods
	if len(pods) == 0 {
		pods = []PodsOf{{Owner: "Deployment", PerNode: 1}}
	}
	for zi, z := range zones {
		for i := range z.Nodes {
			n := Node{
				Name: fmt.Sprintf("%snode-%d", prefix(z.Name), i+1), Zone: z.Name,
				Excluded: i >= z.Nodes-z.Excluded, ControlPlane: i >= z.Nodes-z.ControlPlanes,
			}
			c.Nodes = append(c.Nodes, n)
			if i < counts[zi] {
				c.Cut.Nodes = append(c.Cut.Nodes, n.Name)
			}
			for pi, p := range pods {
				c.Pods = append(c.Pods, p.on(n.Name, pi)...)
			}
		}
	}
	return c, nil
}

func prefix(zone string) string {
	if zone == "" {
		return ""
	}
	return zone + "-"
}

// on are the pods of a kind on a node.
func (p PodsOf) on(node string, kind int) []Pod {
	pod := Pod{Namespace: "default", Node: node}
	switch p.Owner {
	case "None":
	case "Deployment":
		pod.Owner = "ReplicaSet/web"
	case "Static":
		pod.Owner = Static + "/" + node
	default:
		pod.Owner = p.Owner + "/" + strings.ToLower(p.Owner)
	}
	if p.TolerationSeconds != nil || p.Forever {
		pod.Tolerations = []corev1.Toleration{{
			Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: p.TolerationSeconds,
		}}
	}
	var out []Pod
	for i := range p.PerNode {
		pod.Name = fmt.Sprintf("%s-%d-%d", node, kind, i)
		out = append(out, pod)
	}
	return out
}

// cuts reads how many nodes of each zone are cut; if there are no zones it makes
// the one that the cut speaks of.
func cuts(spec string, zones *[]ZoneOf) ([]int, error) {
	const how = "say 3/10 (of one zone), a:3,b:all (of the zones that the settings name) or all"
	if len(*zones) == 0 {
		k, n, ok := strings.Cut(spec, "/")
		hit, err1 := strconv.Atoi(k)
		size, err2 := strconv.Atoi(n)
		if !ok || err1 != nil || err2 != nil || hit < 1 || size < hit || size > maxNodes {
			return nil, fmt.Errorf("cut %q: the settings name no zones: say 3/10, for 3 of 10 nodes", spec)
		}
		*zones = []ZoneOf{{Nodes: size}}
		return []int{hit}, nil
	}
	counts := make([]int, len(*zones))
	if spec == "all" {
		for i, z := range *zones {
			counts[i] = z.Nodes
		}
		return counts, nil
	}
	for part := range strings.SplitSeq(spec, ",") {
		name, k, ok := strings.Cut(part, ":")
		i := slices.IndexFunc(*zones, func(z ZoneOf) bool { return z.Name == name })
		if !ok || i < 0 || counts[i] > 0 {
			return nil, fmt.Errorf("cut %q: %q is not a zone of the settings with a number, or comes twice; %s", spec, part, how)
		}
		if counts[i] = (*zones)[i].Nodes; k != "all" {
			n, err := strconv.Atoi(k)
			if err != nil || n < 1 || n > (*zones)[i].Nodes {
				return nil, fmt.Errorf("cut %q: %q is not a number from 1 to %d; %s", spec, k, (*zones)[i].Nodes, how)
			}
			counts[i] = n
		}
	}
	return counts, nil
}
