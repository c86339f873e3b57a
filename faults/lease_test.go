package faults

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"gameday/clusters"
	"gameday/faults/mechanism/process"
)

// leasing is a cluster of which only the API is there, and in it one lease.
type leasing struct {
	fakeCluster
	ways []clusters.Endpoint
}

func (c leasing) Endpoints() []clusters.Endpoint { return c.ways }

func TestLed(t *testing.T) {
	var lease coordinationv1.Lease
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/it" {
			t.Errorf("asked for %s", r.URL)
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(lease); err != nil {
			t.Error(err)
		}
	}))
	defer api.Close()
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hanging.Close()
	w := &world{t: t}
	env := Env{Cluster: leasing{fakeCluster{w}, []clusters.Endpoint{
		{Name: "hangs", Config: &rest.Config{Host: hanging.URL}}, {Name: "works", Config: &rest.Config{Host: api.URL}},
	}}}
	s := service{name: "it", lease: "it"}

	alive, err := process.Of(os.Getpid())
	ok(t, err)
	dead := alive
	dead.StartTime++
	now := time.Now()
	hit := func(ref process.Ref) struck {
		return struck{
			Processes: map[string][]process.Ref{"cp0": {ref}},
			Lease:     &leaseSeen{Holder: "cp0_a", Node: "cp0", Renewed: now.Add(-30 * time.Second)},
		}
	}
	for _, tc := range []struct {
		name              string
		holder            string
		acquired, renewed time.Duration // ago
		notes             struck
		text, err         string
	}{
		{"nobody was hit", "cp1_b", time.Hour, time.Second, struck{}, "led by cp1", ""},
		{"nobody renews", "cp1_b", time.Hour, 10 * time.Second, struck{}, "", "nobody leads: the lease was renewed last 10s ago"},
		{"the dead one's lease", "cp0_a", time.Hour, time.Second, hit(dead), "", "still that of the one who was killed"},
		{"kept through a short pause", "cp0_a", time.Hour, time.Second, hit(alive), "the leader kept its lease", ""},
		{"taken from the dead", "cp1_b", 12 * time.Second, time.Second, hit(dead), "nobody led for 18.0 s, now cp1 does", ""},
		{"taken from one that is alive", "cp1_b", 12 * time.Second, time.Second, hit(alive), "", "the old leader has not noticed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lease = coordinationv1.Lease{
				TypeMeta: metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
				Spec: coordinationv1.LeaseSpec{
					HolderIdentity: &tc.holder,
					AcquireTime:    &metav1.MicroTime{Time: now.Add(-tc.acquired)}, RenewTime: &metav1.MicroTime{Time: now.Add(-tc.renewed)},
				},
			}
			text, err := s.led(t.Context(), env, tc.notes)
			if text != tc.text || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %q, %v", text, err)
			}
		})
	}
	api.Close()
	env.Cluster = leasing{fakeCluster{w}, []clusters.Endpoint{{Name: "ended", Config: &rest.Config{Host: api.URL}}}}
	if _, err := s.led(t.Context(), env, struck{}); err == nil || !strings.Contains(err.Error(), "through ended") {
		t.Errorf("nobody was asked: %v", err)
	}
	if _, err := (service{}).led(t.Context(), env, struck{}); err != nil {
		t.Errorf("without a lease: %v", err)
	}
}
