package workload

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubetesting "k8s.io/client-go/testing"

	"gameday/clusters"
	"gameday/scenarios"
)

// TestProbes: the probing pods are told whom to ask, and are no prey of the faults.
func TestProbes(t *testing.T) {
	for _, c := range []struct {
		name    string
		w       scenarios.Workload
		probing *Probing
		args    []string
		left    int
	}{
		{"none", spec, nil, nil, 0},
		{"clocks only", spec, &Probing{}, []string{"probe"}, 0},
		{"requests", spec, &Probing{Requests: true}, []string{
			"probe", "--nodes", "cp,w0,w1", "--others", "probe.gameday-r1-probe.svc.cluster.local.",
			"--service", "web-00=10.96.0.2:80", "--dns", "web-00.gameday-r1.svc.cluster.local.=10.96.0.2",
			"--service", "web-01=10.96.0.3:80",
		}, 9},
		{"no Service", scenarios.Workload{}, &Probing{Requests: true}, []string{
			"probe", "--nodes", "cp,w0,w1", "--others", "probe.gameday-r1-probe.svc.cluster.local.",
			"--dns", "kubernetes.default.svc.cluster.local.=10.96.0.1",
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, cli := newSet(t, c.w)
			s.probing, s.nodes = c.probing, []string{"cp", "w0", "w1"}
			n := 1
			cli.PrependReactor("create", "services", func(a kubetesting.Action) (bool, runtime.Object, error) {
				svc := a.(kubetesting.CreateAction).GetObject().(*corev1.Service)
				if svc.Spec.ClusterIP == "" {
					n++
					svc.Spec.ClusterIP = fmt.Sprintf("10.96.0.%d", n)
				}
				return false, nil, nil
			})
			if _, err := cli.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1"},
			}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := s.create(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s.Unprobed() != c.left {
				t.Errorf("%d Services are not asked", s.Unprobed())
			}
			d, err := cli.AppsV1().DaemonSets("gameday-r1-probe").Get(t.Context(), "probe", metav1.GetOptions{})
			if (err == nil) != (c.probing != nil) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			pod := d.Spec.Template
			if !slices.Equal(pod.Spec.Containers[0].Args, c.args) {
				t.Errorf("args %q", pod.Spec.Containers[0].Args)
			}
			if _, prey := pod.Labels[clusters.LabelRun]; prey || len(pod.Spec.Tolerations) != 2 {
				t.Errorf("%+v", pod)
			}
			if why := s.Unready(t.Context()); !strings.Contains(why, "probes are ready on 0 of 3 nodes") {
				t.Errorf("unready: %s", why)
			}
			d.Status = appsv1.DaemonSetStatus{NumberReady: 3}
			if _, err := cli.AppsV1().DaemonSets(d.Namespace).UpdateStatus(t.Context(), d, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			if why := s.Unready(t.Context()); strings.Contains(why, "probes") {
				t.Errorf("unready: %s", why)
			}
		})
	}
}
