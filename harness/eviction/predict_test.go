package eviction

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func sec(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// tolerating is a toleration of the taint unreachable for some seconds.
func tolerating(seconds int64) []corev1.Toleration {
	return []corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}}
}

// fast are the settings of a cluster that is cut and healed within a minute.
func fast(version string) Settings {
	s := Defaults(version)
	cm := &s.ControllerManager
	cm.NodeMonitorPeriod, cm.NodeMonitorGracePeriod = time.Second, 12*time.Second
	cm.NodeEvictionRate, cm.SecondaryNodeEvictionRate = 2, 0.5
	s.Kubelet.NodeLeaseDurationSeconds = 4
	s.APIServer.DefaultUnreachableTolerationSeconds = 5
	s.Reconnect = 2 * time.Second
	return s
}

// drawCase draws a case.
func drawCase(rng *rand.Rand) Case {
	versions := []string{"v1.32.13", "v1.33.13", "v1.34.9", "v1.36.4", "v1.37.0"}
	c := Case{Settings: fast(versions[rng.IntN(len(versions))])}
	cm := &c.Settings.ControllerManager
	if rng.IntN(3) == 0 {
		c.Settings = Defaults(c.Settings.Version)
		cm = &c.Settings.ControllerManager
	}
	cm.NodeEvictionRate = []float32{0, 0.1, 0.5, 1, 2, 10}[rng.IntN(6)]
	cm.SecondaryNodeEvictionRate = cm.NodeEvictionRate / 10
	cm.LargeClusterSizeThreshold = []int32{50, 5}[rng.IntN(2)]
	cm.UnhealthyZoneThreshold = []float32{0.55, 0.3, 0.9}[rng.IntN(3)]
	cm.KubeAPIQPS, cm.KubeAPIBurst = 1000, 1000 // the simulation has no such limit
	for z := range 1 + rng.IntN(3) {
		fraction := []float64{0, .2, .55, .8, 1, 1}[rng.IntN(6)]
		for i := range 1 + rng.IntN(9) {
			n := Node{Name: fmt.Sprintf("n%d-%d", z, i), Zone: fmt.Sprintf("z%d", z), Excluded: rng.IntN(8) == 0}
			c.Nodes = append(c.Nodes, n)
			if rng.Float64() < fraction {
				c.Cut.Nodes = append(c.Cut.Nodes, n.Name)
			}
			add := func(owner string, tolerations []corev1.Toleration) {
				c.Pods = append(c.Pods, Pod{Namespace: "ns", Name: fmt.Sprintf("%s-%d", n.Name, len(c.Pods)), Node: n.Name, Owner: owner, Tolerations: tolerations})
			}
			add("ReplicaSet/web", nil)
			add("StatefulSet/db", tolerating(int64(rng.IntN(30))))
			if rng.IntN(3) == 0 {
				add("DaemonSet/log", nil)
				add("Node/"+n.Name, nil)
				add("", tolerating(0))
			}
		}
	}
	g := cm.NodeMonitorGracePeriod
	tau := time.Duration(c.Settings.APIServer.DefaultUnreachableTolerationSeconds) * time.Second
	if rng.IntN(3) > 0 {
		c.Cut.Heal = time.Duration(rng.Int64N(int64(2*g+tau))) + time.Second
	}
	if rng.IntN(3) == 0 {
		end := time.Duration(rng.Int64N(int64(2*g + tau)))
		next := end + time.Duration(rng.Int64N(int64(20*time.Second)))
		slip := time.Duration(rng.Int64N(int64(3*time.Second))) + 1
		c.Epochs = []Epoch{
			{Window{longAgo, longAgo}, Window{end, end}},
			{Window{next, next + slip}, Window{Forever, Forever}},
		}
	} else if rng.IntN(4) == 0 {
		from := time.Duration(rng.Int64N(int64(2*g + tau)))
		c.Outages = []Span{{from, from + time.Duration(rng.Int64N(int64(5*time.Second))) + 1}}
	}
	return c
}

// holds simulates a drawn case and holds it against the model.
func holds(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	c := drawCase(rng)
	if errs := c.Problems(); len(errs) > 0 {
		t.Fatalf("seed %d: %v", seed, errs)
	}
	p := Predict(c)
	reports := []time.Duration{5 * time.Minute, time.Second, 7 * time.Second}[rng.IntN(3)]
	until := 4*c.Settings.ControllerManager.NodeMonitorGracePeriod + 6*time.Minute
	seen := simulate(c, rng, until, reports)
	all := Compare(p, seen)
	if len(c.Epochs) == 0 && len(c.Outages) == 0 {
		all = append(all, Hindsight(c, seen)...)
	}
	for _, v := range all {
		t.Errorf("seed %d (%s, cut %v, heal %s, epochs %v, outages %v): %s", seed, c.Settings.Version, c.Cut.Nodes, c.Cut.Heal, c.Epochs, c.Outages, v)
	}
}

// TestSimulation: whatever the simulation does lies within the model's windows.
func TestSimulation(t *testing.T) {
	for seed := range uint64(300) {
		holds(t, seed)
	}
}

// FuzzSimulation is TestSimulation without an end.
func FuzzSimulation(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(holds)
}
