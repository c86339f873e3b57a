package gate

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"

	"gameday/clusters"
)

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		look := func(context.Context) string {
			if looks++; looks < 3 {
				return "a is not well"
			}
			return ""
		}
		if err := Wait(t.Context(), "a", time.Minute, look); err != nil || looks != 3 {
			t.Errorf("%v after %d looks", err, looks)
		}
		err := Wait(t.Context(), "all", 2*time.Second, func(ctx context.Context) string {
			if ctx.Err() != nil {
				return "cut short by the bound"
			}
			return "b is not well"
		})
		if err == nil || err.Error() != "waited 2s for all: b is not well" {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Wait(ctx, "all", time.Minute, func(context.Context) string { return "no" }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

func node(name, ready, version string, cordoned bool) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{Unschedulable: cordoned}}
	n.Status.NodeInfo.KubeletVersion = version
	if ready != "" {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionStatus(ready)}}
	}
	return n
}

func taint(n *corev1.Node, key string) *corev1.Node {
	n.Spec.Taints = []corev1.Taint{{Key: key, Effect: corev1.TaintEffectNoSchedule}}
	return n
}

type fakeNode struct {
	name string
	role clusters.Role
}

func (n fakeNode) Name() string        { return n.name }
func (n fakeNode) Role() clusters.Role { return n.role }
func (n fakeNode) Index() int          { return 0 }
func (n fakeNode) IP() netip.Addr      { return netip.Addr{} }

func TestNodes(t *testing.T) {
	both := []clusters.Node{fakeNode{"a", clusters.ControlPlane}, fakeNode{"b", clusters.Worker}, fakeNode{"lb", clusters.LoadBalancer}}
	for _, tc := range []struct {
		name string
		b    *corev1.Node
		want string
	}{
		{"well", node("b", "True", "v1", false), ""},
		{"not ready", node("b", "False", "v1", false), "b Ready=False"},
		{"unknown", node("b", "", "v1", false), "b Ready=Unknown"},
		{"cordoned", node("b", "True", "v1", true), "b is cordoned"},
		{"tainted still", taint(node("b", "True", "v1", false), corev1.TaintNodeUnreachable), "b is tainted node.kubernetes.io/unreachable"},
		{"tainted by others", taint(node("b", "True", "v1", false), "example.com/x"), ""},
		{"another version", node("b", "True", "v2", false), "b runs v2"},
		{"missing", node("c", "True", "v1", false), "b is not a node of the API"},
	} {
		if got := Nodes(t.Context(), fake.NewClientset(node("a", "True", "v1", false), tc.b), both, "v1"); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestSystem(t *testing.T) {
	pod := func(name, namespace, ready string, phase corev1.PodPhase) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
		p.Status.Phase = phase
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionStatus(ready)}}
		return p
	}
	cli := fake.NewClientset(pod("a", "kube-system", "True", corev1.PodRunning), pod("done", "kube-system", "False", corev1.PodSucceeded),
		pod("theirs", "default", "False", corev1.PodPending))
	if got := System(t.Context(), cli); got != "" {
		t.Errorf("%q", got)
	}
	cli = fake.NewClientset(pod("a", "kube-system", "False", corev1.PodRunning))
	if got := System(t.Context(), cli); got != "a Ready=False" {
		t.Errorf("%q", got)
	}
}

type fakeCluster struct {
	clusters.Cluster
	ends []clusters.Endpoint
}

func (c fakeCluster) Endpoints() []clusters.Endpoint { return c.ends }

func TestEndpoints(t *testing.T) {
	code := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(code)
		if _, err := io.WriteString(w, r.URL.Path); err != nil {
			t.Error(err)
		}
	}))
	defer s.Close()
	c := fakeCluster{ends: []clusters.Endpoint{{Name: "lb", Config: &rest.Config{Host: s.URL}}, {Name: "a", Config: &rest.Config{Host: s.URL}}}}
	if got := Endpoints(t.Context(), c); got != "" {
		t.Errorf("%q", got)
	}
	code = http.StatusInternalServerError
	if got := Endpoints(t.Context(), c); !strings.Contains(got, "/readyz of lb: 500") || !strings.Contains(got, "/readyz of a: 500") {
		t.Errorf("%q", got)
	}
}
