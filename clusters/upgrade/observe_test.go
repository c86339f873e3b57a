package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	k8stesting "k8s.io/client-go/testing"

	"gameday/clusters"
)

// TestTracker feeds what was seen, one observation a line, and compares the
// phases that come out.
func TestTracker(t *testing.T) {
	for _, c := range []struct {
		name string
		in   string
		want []string
		end  Outcome // of the attempt, had the tool given up
	}{
		{name: "nothing happens", in: "m old; m old; p old", end: Blocked},
		{name: "proceeds", in: "m old; m new; down; down; p new",
			want: []string{"x began", "x ended proceeded"}, end: Failed},
		{name: "the old one is seen to serve still", in: "m old; m new; p old; p new",
			want: []string{"x began", "x ended proceeded"}, end: Failed},
		{name: "serves before it is well", in: "m old; m new; p new-sick; p new",
			want: []string{"x began", "x ended proceeded"}, end: Failed},
		{name: "never serves", in: "m old; m new; down; p new-sick",
			want: []string{"x began"}, end: Failed},
		{name: "put back", in: "m old; m new; down; m old; p old",
			want: []string{"x began", "x ended rolled back"}, end: RolledBack},
		{name: "put back after it had served", in: "m old; m new; p new; m old",
			want: []string{"x began", "x ended proceeded", "x began", "x ended rolled back"}, end: RolledBack},
		{name: "put back, and again", in: "m old; m new; m old; m new; p new",
			want: []string{"x began", "x ended rolled back", "x began", "x ended proceeded"}, end: Failed},
		{name: "was at the target before", in: "m new; down; p new",
			want: []string{"x began", "x ended skipped"}, end: Blocked},
		{name: "was at the target before and is put back", in: "m new; m old",
			want: []string{"x began", "x ended rolled back"}, end: RolledBack},
		{name: "next attempt sees it serve", in: "m old; m new; down; close; next; m new; p new",
			want: []string{"x began", "x ended failed", "x began", "x ended proceeded"}, end: Blocked},
		{name: "probes say nothing without a manifest", in: "p new; m old; p new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			tr := newTracker(Step{Phase: "s"}, "n", map[string]string{"x": "new"}, func(p Phase) {
				if p.Seen == "" || p.Node != "n" {
					t.Errorf("%+v", p)
				}
				got = append(got, strings.TrimSpace(strings.TrimPrefix(p.Path, "s/")+" "+string(p.State)+" "+string(p.Outcome)))
			})
			tr.attempt()
			for _, in := range strings.Split(c.in, "; ") {
				verb, arg, _ := strings.Cut(in, " ")
				v, sick := strings.CutSuffix(arg, "-sick")
				switch verb {
				case "m":
					tr.manifest("x", arg, time.Now())
				case "p":
					tr.probe("x", sighting{version: v, well: !sick, seen: "x serves " + arg}, time.Now())
				case "down":
					tr.missed("x", errors.New("connection refused"))
				case "close":
					tr.close(time.Now(), "gave up")
				case "next":
					tr.attempt()
				default:
					t.Fatalf("no verb %q", verb)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if c.end != "" && tr.attempted().outcome() != c.end {
				t.Errorf("outcome %s, want %s (%s)", tr.attempted().outcome(), c.end, tr.attempted())
			}
		})
	}
}

// TestObserverThroughOutage: while everything else on the node hangs, manifests
// are seen at once, and a component is seen as soon as it answers.
func TestObserverThroughOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 0)
		n := w.node("control-plane[0]")
		start := time.Now()
		at := map[string]time.Duration{}
		want := map[string]string{kubelet: to}
		for _, c := range staticPods() {
			want[c] = n.new(c)
		}
		tr := newTracker(Step{Phase: "s"}, n.name, want, func(p Phase) { at[p.Path+" "+string(p.State)] = p.At.Sub(start) })
		n.fails = map[string]bool{etcd: true, apiServer: true, kubelet: true} // black holes
		o := &observer{files: n, probes: &fakeProber{node: n, real: &probes{node: n}}, track: tr, pods: staticPods(), probed: sortedKeys(want)}
		ctx, cancel := context.WithCancel(t.Context())
		wait := o.start(ctx)
		time.Sleep(time.Second)
		n.setManifest(etcd, toEtcd)
		time.Sleep(3 * time.Second)
		n.setManifest(scheduler, to)
		n.serve(scheduler, to)
		time.Sleep(60 * time.Second)
		n.mu.Lock()
		n.fails[etcd] = false
		n.mu.Unlock()
		n.serve(etcd, toEtcd)
		time.Sleep(5 * time.Second)
		cancel()
		wait()
		for what, want := range map[string][2]time.Duration{ // at, and how much later at most
			"s/etcd began":           {time.Second, manifestEvery},
			"s/kube-scheduler began": {4 * time.Second, manifestEvery},
			"s/kube-scheduler ended": {4 * time.Second, manifestEvery + probeEvery},
			"s/etcd ended":           {64 * time.Second, probeBound + probeEvery},
		} {
			got, ok := at[what]
			if late := got - want[0]; !ok || late < 0 || late > want[1] {
				t.Errorf("%s at %s (seen: %v), want %s and at most %s more", what, got, ok, want[0], want[1])
			}
		}
		if len(at) != 4 {
			t.Errorf("seen: %v", at)
		}
	})
}

// TestAPIByAnyEndpoint: the endpoints that are down are passed over, and an
// answer about the object is an answer.
func TestAPIByAnyEndpoint(t *testing.T) {
	down := func() *fake.Clientset {
		c := fake.NewClientset()
		c.PrependReactor("*", "*", func(k8stesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("connection refused")
		})
		return c
	}
	up := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
	first := down()
	a := &api{names: []string{"lb", "cp0", "cp1"}, clients: []kubernetes.Interface{first, up, down()}}
	for range 2 {
		if n, err := a.node(t.Context(), "n"); err != nil || n.Name != "n" {
			t.Fatal(err)
		}
	}
	if len(first.Actions()) != 1 {
		t.Errorf("the endpoint that is down was asked %d times", len(first.Actions()))
	}
	if _, err := a.node(t.Context(), "m"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Error(err)
	}
	// One that hangs takes all the time of one look, and the next look passes it
	// over. The pause of the fake stands for a request that ends with its ctx.
	synctest.Test(t, func(t *testing.T) {
		hangs := fake.NewClientset()
		hangs.PrependReactor("*", "*", func(k8stesting.Action) (bool, runtime.Object, error) {
			time.Sleep(probeBound + time.Millisecond)
			return true, nil, context.DeadlineExceeded
		})
		a := &api{names: []string{"lb", "cp0"}, clients: []kubernetes.Interface{hangs, up}}
		for i, want := range []bool{false, true, true} {
			ctx, cancel := context.WithTimeout(t.Context(), probeBound)
			if _, err := a.node(ctx, "n"); (err == nil) != want {
				t.Errorf("look %d: %v", i, err)
			}
			cancel()
		}
		if len(hangs.Actions()) != 1 {
			t.Errorf("the endpoint that hangs was asked %d times", len(hangs.Actions()))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		a := &api{names: []string{"lb"}, clients: []kubernetes.Interface{down()}}
		err := a.until(t.Context(), "look", func(ctx context.Context, c kubernetes.Interface) error {
			_, err := c.CoreV1().Nodes().Get(ctx, "n", metav1.GetOptions{})
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "look: no endpoint of the API answered within 1m0s") || !strings.Contains(err.Error(), "lb: connection refused") {
			t.Error(err)
		}
	})
}

// TestProbeAPIServer: a server that has the version but is not ready, then is.
func TestProbeAPIServer(t *testing.T) {
	var readyz atomic.Int32
	readyz.Store(http.StatusInternalServerError)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/version":
			_ = json.NewEncoder(w).Encode(map[string]string{"gitVersion": to})
		case r.URL.Path == "/readyz":
			w.WriteHeader(int(readyz.Load()))
		}
	}))
	srv.StartTLS()
	defer srv.Close()
	w := newWorld(t, 1, 0)
	n := w.node("control-plane[0]")
	w.ends = []clusters.Endpoint{{Name: "lb"}, {Name: n.name, Node: n, Config: &rest.Config{
		Host: srv.URL, BearerToken: "secret", TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	}}}
	p, err := newProbes(w, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	s, err := p.probe(t.Context(), apiServer)
	if err != nil || s.well || s.version != to || s.seen != "apiserver serves v1.37.0, /readyz 500" {
		t.Error(s, err)
	}
	readyz.Store(http.StatusOK)
	if s, err = p.probe(t.Context(), apiServer); err != nil || !s.well {
		t.Error(s, err)
	}
	srv.CloseClientConnections()
	srv.Listener.Close()
	if s, err = p.probe(t.Context(), apiServer); err == nil {
		t.Error("a server that is gone was seen", s)
	}
}

func TestProbePodAndKubelet(t *testing.T) {
	w := newWorld(t, 1, 0)
	n := w.node("control-plane[0]")
	healthz := http.StatusInternalServerError
	p := &probes{node: n, api: &api{names: []string{"lb"}, clients: []kubernetes.Interface{w.cs}}, loopback: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.String() != "https://127.0.0.1:10259/healthz" {
			t.Errorf("asked %s", r.URL)
		}
		return &http.Response{StatusCode: healthz, Body: http.NoBody}, nil
	})}}
	if s, err := p.probe(t.Context(), scheduler); err == nil {
		t.Error("a pod that is not there was seen", s)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-scheduler-" + n.name, Namespace: metav1.NamespaceSystem},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Image: "registry.k8s.io/kube-scheduler:" + to}}},
	}
	set := func(st ...corev1.ContainerStatus) {
		t.Helper()
		pod.Status.ContainerStatuses = st
		_ = w.cs.CoreV1().Pods(pod.Namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{})
		if _, err := w.cs.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for i, c := range []struct {
		st   []corev1.ContainerStatus
		well bool
	}{
		{nil, false},
		{[]corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}, false},
		{[]corev1.ContainerStatus{{State: running}}, false},
		{[]corev1.ContainerStatus{{State: running, Ready: true, Image: "registry.k8s.io/kube-scheduler:" + to}}, true},
	} {
		set(c.st...)
		s, err := p.probe(t.Context(), scheduler)
		if err != nil || s.well != c.well || c.well && s.version != to || s.seen == "" {
			t.Error(fmt.Sprint(i), s, err)
		}
	}
	// Not ready by the kubelet yet, but well by its own word.
	healthz = http.StatusOK
	set(corev1.ContainerStatus{State: running, Image: "registry.k8s.io/kube-scheduler:" + to})
	if s, err := p.probe(t.Context(), scheduler); err != nil || !s.well || !strings.HasSuffix(s.seen, ", /healthz ok") {
		t.Error(s, err)
	}
	s, err := p.reported(t.Context())
	if err != nil || s.version != from || !s.well || s.seen != "kubelet reports v1.36.1, node Ready=True" {
		t.Error(s, err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRunningStatic(t *testing.T) {
	pod := func(name, source string, ready bool, running bool) corev1.Pod {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"kubernetes.io/config.source": source}}}
		st := corev1.ContainerStatus{Ready: ready}
		if running {
			st.State.Running = &corev1.ContainerStateRunning{}
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{st}
		return p
	}
	none := pod("kube-scheduler-n", "file", true, true)
	none.Status.ContainerStatuses = nil // new to the kubelet, no container yet
	got := runningStatic([]corev1.Pod{
		pod("etcd-n", "file", true, true), pod("kube-apiserver-n", "file", false, true),
		pod("kube-controller-manager-n", "file", true, false), none, pod("kube-proxy-n", "api", true, true),
	}, "n")
	if d := cmp.Diff(map[string]bool{etcd: true, apiServer: true, controllerManager: false}, got); d != "" {
		t.Error(d)
	}
}
