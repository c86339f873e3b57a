package sample

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/harness/history"
)

// pods is an API server as far as logs and clocks of pods go: real HTTP, two
// pods at most, each with the log of now and of the process before.
type pods struct {
	mu        sync.Mutex
	restarts  map[string]int32
	logs      map[string]string // by node, or by node + "/previous"
	unreached map[string]bool
	ahead     time.Duration // the clocks
}

func (p *pods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, path, _ := strings.Cut(r.URL.Path, "/pods")
	if path == "" {
		var list corev1.PodList
		for node, n := range p.restarts {
			list.Items = append(list.Items, corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "probes", Name: "probe-" + node, UID: "u"},
				Spec:       corev1.PodSpec{NodeName: node},
				Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{RestartCount: n}}},
			})
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list)
		return
	}
	_, node, _ := strings.Cut(path, "probe-")
	node, what, _ := strings.Cut(node, "/")
	node, _, _ = strings.Cut(node, ":")
	if p.unreached[node] {
		http.Error(w, "no way to the node", http.StatusInternalServerError)
		return
	}
	if strings.HasSuffix(what, "/clock") {
		fmt.Fprintln(w, time.Now().Add(p.ahead).UnixNano())
		return
	}
	if r.URL.Query().Get("previous") == "true" {
		node += "/previous"
	}
	log, ok := p.logs[node]
	if !ok {
		http.Error(w, "no such log", http.StatusBadRequest)
		return
	}
	fmt.Fprint(w, log)
}

// told runs the rounds and gives back the record.
func tell(t *testing.T, nodes []string, api *pods, rounds func(p *probes, record *history.Recorder)) *history.History {
	t.Helper()
	server := httptest.NewServer(api)
	defer server.Close()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "history.jsonl")
	record, err := history.Create(path, history.Run{ID: "r"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &probes{
		client: client, record: record, clocks: &clocks{client: client, record: record, known: map[string]interval{}},
		namespace: "probes", nodes: nodes, requests: true, told: map[string]*told{},
	}
	for _, n := range nodes {
		p.told[n] = &told{seq: map[string]int64{}}
	}
	rounds(p, record)
	if err := record.Close(); err != nil {
		t.Fatal(err)
	}
	h, err := history.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// printed is a line as the agent prints it.
func printed(node, process string, seq int, until time.Time) string {
	return fmt.Sprintf(`{"at":%d,"seq":%d,"node":%q,"event":"probes","process":%q,"probes":{"period":500000000,"until":%d,"cpu":7,`+
		`"series":[{"kind":"mesh","to":"b","start":[-1000000,-500000],"took":[300,1000000],"late":{"1":2000},"bad":{"1":"no answer"}}]}}`+"\n",
		until.UnixNano(), seq, node, process, until.UnixNano())
}

func started(node, process string) string {
	return fmt.Sprintf(`{"at":1,"seq":1,"node":%q,"event":"start","process":%q}`+"\n", node, process)
}

func TestProbesAreHeardOnce(t *testing.T) {
	const ahead = time.Hour
	now := time.Now().Add(ahead)
	api := &pods{ahead: ahead, restarts: map[string]int32{"a": 0}, unreached: map[string]bool{}, logs: map[string]string{
		"a": started("a", "p") + printed("a", "p", 2, now) + "not of the agent\n" + `{"at":3,"seq":3,"node":"a","ev`, // no whole line
	}}
	h := tell(t, []string{"a"}, api, func(p *probes, _ *history.Recorder) {
		p.round(t.Context())
		p.round(t.Context())
		api.unreached["a"] = true
		p.round(t.Context()) // cut off
		api.unreached["a"] = false
		api.logs["a"] = printed("a", "p", 2, now) + printed("a", "p", 3, now.Add(5*time.Second)) // after the heal
		p.round(t.Context())
		// Its node was switched off: the process before has printed on.
		api.logs["a/previous"] = printed("a", "p", 3, now.Add(5*time.Second)) + printed("a", "p", 4, now.Add(10*time.Second))
		api.restarts["a"] = 1
		api.logs["a"] = started("a", "q") + printed("a", "q", 2, now.Add(20*time.Second))
		p.finish(t.Context(), 15*time.Second)
	})
	if len(h.Gaps) > 0 {
		t.Errorf("gaps %+v", h.Gaps)
	}
	var seen []string
	for _, p := range h.Probes {
		seen = append(seen, fmt.Sprintf("%s%d", p.V.Process, p.V.Seq))
	}
	if got := strings.Join(seen, " "); got != "p2 p3 p4 q2" {
		t.Fatalf("lines %s", got)
	}
	one := h.Probes[0].V
	if since := now.Add(-ahead).Sub(h.Run.Began); (one.Until-since).Abs() > one.Bar || one.Bar > time.Minute {
		t.Errorf("until %s +-%s on the run's clock, not %s", one.Until, one.Bar, since)
	}
	s := one.Series[0]
	if s.Took[1] != 1000000 || s.Late[1] != 2000 || s.Bad[1] != "no answer" || one.Node != "a" || one.CPU != 7 {
		t.Errorf("line %+v", one)
	}
	if c := h.Clocks[0].V; c.Node != "a" || (c.Offset-ahead).Abs() > c.Bar+time.Millisecond {
		t.Errorf("clock %+v", c)
	}
}

func TestProbesTellWhatIsMissing(t *testing.T) {
	now := time.Now()
	soon, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	api := &pods{restarts: map[string]int32{"a": 0, "b": 0}, unreached: map[string]bool{}, logs: map[string]string{
		"a": started("a", "p") + printed("a", "p", 4, now),
		"b": started("b", "p") + printed("b", "p", 2, now),
	}}
	h := tell(t, []string{"a", "b", "c"}, api, func(p *probes, _ *history.Recorder) {
		p.round(t.Context())
		api.restarts["a"], api.logs["a"] = 1, printed("a", "q", 1, now.Add(time.Hour))
		api.unreached["b"] = true
		p.finish(soon, time.Hour-time.Minute)
	})
	var all []string
	for _, g := range h.Gaps {
		all = append(all, g.V.Source+" "+g.V.Reason)
	}
	got := strings.Join(all, "\n")
	for _, want := range []string{
		"probe/a 2 lines of its pod are missing",
		"probe/a what the process before had printed is gone",
		"probe/b what its pod saw could not be had: ",
		"probe/c what its pod saw could not be had: ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no gap %q in\n%s", want, got)
		}
	}
	if len(h.Gaps) != 4 {
		t.Errorf("gaps\n%s", got)
	}
}

func TestInterval(t *testing.T) {
	for _, c := range []struct{ a, b, want interval }{
		{interval{-5, 5}, interval{0, 10}, interval{0, 5}},
		{interval{-5, 5}, interval{-1, 1}, interval{-1, 1}},
		{interval{-5, 5}, interval{100, 110}, interval{-5, 110}}, // it was set
	} {
		if got := c.a.with(c.b); got != c.want {
			t.Errorf("%v with %v is %v", c.a, c.b, got)
		}
	}
}

// TestBeacons: a pod is asked when it is done, once, and again if it could not be.
func TestBeacons(t *testing.T) {
	var b *beacons
	var began time.Time
	api := &pods{restarts: map[string]int32{"n": 0}, unreached: map[string]bool{}, logs: map[string]string{}}
	pod := history.Pod{Namespace: "ns", Name: "probe-n", UID: "u1", Owner: "Job/j", Node: "n", Started: time.Now(), Containers: []string{"c"}}
	h := tell(t, []string{"n"}, api, func(p *probes, record *history.Recorder) {
		began = record.Began()
		line := func(sec int, event string) string {
			return fmt.Sprintf(`{"at":%d,"seq":%d,"uid":"u1","node":"n","event":%q}`+"\n", began.Add(time.Duration(sec)*time.Second).UnixNano(), sec, event)
		}
		api.logs["n"] = line(10, "start") + line(11, "alive") + line(12, "end")
		b = newBeacons(p.client, record, p.clocks)
		over := func(p history.Pod) bool { return len(p.Containers) == 0 }
		b.seen(pod)
		b.ask(t.Context(), 1, over) // runs still
		pod.Containers = nil
		b.seen(pod)
		b.ask(t.Context(), 1, over) // the clock is not known yet
		p.round(t.Context())
		api.unreached["n"] = true
		b.ask(t.Context(), 1, over)
		api.unreached["n"] = false
		b.ask(t.Context(), 1, over)
		b.seen(pod)
		b.finish(t.Context())
		other := pod
		other.UID, other.Owner = "u2", "ReplicaSet/web"
		b.seen(other)
		b.finish(t.Context())
	})
	if len(h.Beacons) != 1 {
		t.Fatalf("beacons %+v", h.Beacons)
	}
	one := h.Beacons[0]
	bar := one.V.Bar + time.Millisecond
	if (one.At-10*time.Second).Abs() > bar || (one.V.Alive-12*time.Second).Abs() > bar || !one.V.Ended || one.V.UID != "u1" || one.V.Bar == 0 {
		t.Errorf("beacon %+v", one)
	}
}

func TestDecodeEndpoints(t *testing.T) {
	yes, no := true, false
	a, b, c := "a", "b", "c"
	got, err := decodeEndpoints(stored(t, "discovery.k8s.io/v1", "EndpointSlice", &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-00-x", Labels: map[string]string{discoveryv1.LabelServiceName: "web-00"}},
		Endpoints: []discoveryv1.Endpoint{
			{NodeName: &b, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
			{NodeName: &a},
			{NodeName: &c, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
			{},
		},
	}))
	if err != nil || fmt.Sprint(got) != fmt.Sprint(history.Endpoints{Namespace: "ns", Slice: "web-00-x", Service: "web-00", Ready: []string{"a", "b"}, Other: []string{"c"}}) {
		t.Errorf("%+v, %v", got, err)
	}
}
