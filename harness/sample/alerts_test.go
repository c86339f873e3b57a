package sample

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/harness/history"
)

// monitor speaks the API of a Prometheus or of an Alertmanager, as they document
// it, and says what the test has it say.
type monitor struct {
	*httptest.Server
	mu     sync.Mutex
	bodies map[string]string // by path
	down   bool
	token  string // wanted, if not empty
	asked  []string
}

func newMonitor(t *testing.T) *monitor {
	t.Helper()
	m := &monitor{bodies: map[string]string{}}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *monitor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, r.URL.String())
	body, ok := m.bodies[r.URL.Path]
	switch {
	case m.down:
		http.Error(w, "upstream is gone", http.StatusBadGateway)
	case m.token != "" && r.Header.Get("Authorization") != "Bearer "+m.token:
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
	case !ok:
		http.NotFound(w, r)
	default:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, body)
	}
}

func (m *monitor) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// prometheusAlerts is an answer of /api/v1/alerts.
func prometheusAlerts(list ...string) string {
	var all []string
	for _, a := range list {
		name, state, _ := strings.Cut(a, " ")
		all = append(all, fmt.Sprintf(`{"activeAt":"2026-03-01T12:00:00.5+01:00","annotations":{"summary":"it"},"labels":{"alertname":%q,"severity":"page"},"state":%q,"value":"1e+00"}`, name, state))
	}
	return `{"status":"success","data":{"alerts":[` + strings.Join(all, ",") + `]}}`
}

// prometheusRules is an answer of /api/v1/rules: of a version that does not know
// rule_name[], with all rules.
func prometheusRules(health string) string {
	return `{"status":"success","data":{"groups":[{"name":"k8s","file":"/rules.yml","interval":60,"limit":0,"rules":[
		{"state":"inactive","name":"Down","query":"up == 0","duration":60,"labels":{},"annotations":{},"alerts":[],"health":"` + health + `","lastError":"","type":"alerting","evaluationTime":0.0003,"lastEvaluation":"2026-03-01T12:00:00Z"},
		{"name":"job:up:sum","query":"sum(up)","health":"ok","type":"recording"},
		{"state":"firing","name":"Watchdog","query":"vector(1)","health":"ok","type":"alerting"}]}]}}`
}

// polled runs a poller against the monitor while during goes on; until waits for
// the record.
func polled(t *testing.T, m *monitor, cfg AlertsConfig, during func(until func(what string, is func(*history.History) bool))) *history.History {
	t.Helper()
	path := filepath.Join(t.TempDir(), "history.jsonl")
	record, err := history.Create(path, history.Run{ID: "alerts"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.URL = m.URL + "/"
	a := newAlerts(cfg, record)
	a.every = 25 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { a.run(ctx) })
	load := func() *history.History {
		h, err := history.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	during(func(what string, is func(*history.History) bool) {
		for end := time.Now().Add(20 * time.Second); !is(load()); pause(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s is not in the record", what)
			}
		}
	})
	stop()
	wg.Wait()
	if err := record.Close(); err != nil {
		t.Fatal(err)
	}
	return load()
}

// states are the changes in the record.
func states(h *history.History) []string {
	var out []string
	for _, a := range h.Alerts {
		out = append(out, a.V.Name+" "+a.V.State)
	}
	return out
}

func has(state string) func(*history.History) bool {
	return func(h *history.History) bool { return slices.Contains(states(h), state) }
}

func TestPrometheusAlerts(t *testing.T) {
	m := newMonitor(t)
	m.bodies["/api/v1/alerts"] = prometheusAlerts("Watchdog firing")
	m.bodies["/api/v1/rules"] = prometheusRules("ok")
	h := polled(t, m, AlertsConfig{Names: []string{"Down"}}, func(until func(string, func(*history.History) bool)) {
		until("Watchdog", has("Watchdog firing"))
		m.set(func() { m.bodies["/api/v1/alerts"] = prometheusAlerts("Watchdog firing", "Down pending") })
		until("pending", has("Down pending"))
		m.set(func() { m.bodies["/api/v1/alerts"] = prometheusAlerts("Watchdog firing", "Down firing") })
		until("firing", has("Down firing"))
		m.set(func() { m.down = true })
		m.set(func() { m.asked = nil })
		for end := time.Now().Add(20 * time.Second); ; pause(5 * time.Millisecond) { // some polls fail
			var n int
			m.set(func() { n = len(m.asked) })
			if n > 2 || time.Now().After(end) {
				break
			}
		}
		m.set(func() { m.down, m.bodies["/api/v1/alerts"] = false, prometheusAlerts("Watchdog firing") })
		until("inactive", has("Down inactive"))
	})
	want := []string{"Watchdog firing", "Down pending", "Down firing", "Down inactive"}
	if d := cmp.Diff(want, states(h)); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	for i, a := range h.Alerts {
		if a.V.Labels["severity"] != "page" || len(a.V.Labels) != 1 || (a.V.After == 0) != (i == 0) || a.V.After >= a.At {
			t.Errorf("%+v", a)
		}
	}
	if since := h.Alerts[1].V.Since; !since.Equal(time.Date(2026, 3, 1, 11, 0, 0, 5e8, time.UTC)) {
		t.Errorf("pending since %s", since)
	}
	if len(h.Gaps) != 1 || h.Gaps[0].V.Source != "alerts" || !strings.Contains(h.Gaps[0].V.Reason, "502: upstream is gone") || h.Gaps[0].V.From >= h.Gaps[0].V.To {
		t.Errorf("gaps: %+v", h.Gaps)
	}
	if n := len(h.Sources); n != 2 || h.Sources[0].V.Kind != kindPrometheus || !h.Sources[1].V.Ended || h.Sources[1].V.Polls < 4 {
		t.Errorf("sources: %+v", h.Sources)
	}
	if d := cmp.Diff([]history.AlertRule{{Name: "Down", Health: "ok"}}, h.Sources[0].V.Rules); d != "" {
		t.Errorf("rules (-want +got):\n%s", d)
	}
	if a := m.asked[len(m.asked)-1]; a != "/api/v1/alerts" {
		t.Errorf("asked for %s", a)
	}
}

func TestAlertmanagerAlerts(t *testing.T) {
	m := newMonitor(t)
	one := func(state string) string {
		return `[{"annotations":{},"endsAt":"2026-03-01T12:05:00Z","fingerprint":"6fe5","receivers":[{"name":"pager"}],"startsAt":"2026-03-01T12:00:00Z",
			"status":{"inhibitedBy":[],"silencedBy":[],"mutedBy":[],"state":"` + state + `"},"updatedAt":"2026-03-01T12:00:10Z","generatorURL":"http://p/","labels":{"alertname":"Down","job":"etcd"}}]`
	}
	m.bodies["/api/v2/alerts"] = "[]"
	m.token = "s3cret"
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, "s3cret\n")
	h := polled(t, m, AlertsConfig{TokenFile: token, Names: []string{"Down"}}, func(until func(string, func(*history.History) bool)) {
		until("an answer", func(h *history.History) bool { return len(h.Sources) > 0 })
		m.set(func() { m.bodies["/api/v2/alerts"] = one("unprocessed") })
		until("firing", has("Down firing"))
		m.set(func() { m.bodies["/api/v2/alerts"] = one("suppressed") })
		until("suppressed", has("Down suppressed"))
		m.set(func() { m.bodies["/api/v2/alerts"] = one("active") })
		until("firing again", func(h *history.History) bool { return len(h.Alerts) == 3 })
		m.set(func() { m.bodies["/api/v2/alerts"] = "[]" })
		until("inactive", has("Down inactive"))
	})
	if d := cmp.Diff([]string{"Down firing", "Down suppressed", "Down firing", "Down inactive"}, states(h)); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	if h.Sources[0].V.Kind != kindAlertmanager || h.Sources[0].V.Rules != nil || len(h.Gaps) > 0 || h.Alerts[0].V.After == 0 || h.Alerts[0].V.Labels["job"] != "etcd" {
		t.Errorf("%+v %+v %+v", h.Sources, h.Gaps, h.Alerts[0])
	}
}

// What cannot be asked, or answers something else, is a gap from the beginning, and
// no alert.
func TestAlertsThatCannotBeAsked(t *testing.T) {
	for _, c := range []struct {
		name   string
		cfg    AlertsConfig
		bodies map[string]string
		token  string
		reason string
	}{
		{"neither", AlertsConfig{}, nil, "", "no Alertmanager, and no Prometheus either"},
		{"an error", AlertsConfig{Kind: kindPrometheus}, map[string]string{"/api/v1/alerts": `{"status":"error","errorType":"internal","error":"no"}`}, "", `status "error"`},
		{"no JSON", AlertsConfig{Kind: kindAlertmanager}, map[string]string{"/api/v2/alerts": "<html>"}, "", "no answer of such an API"},
		{"without a name", AlertsConfig{Kind: kindAlertmanager}, map[string]string{"/api/v2/alerts": `[{"labels":{},"status":{"state":"active"}}]`}, "", "without a name"},
		{"rules that fail", AlertsConfig{Kind: kindPrometheus}, map[string]string{"/api/v1/alerts": prometheusAlerts("Down firing")}, "", "/api/v1/rules"},
		{"no token", AlertsConfig{Kind: kindPrometheus}, map[string]string{"/api/v1/alerts": prometheusAlerts()}, "t", "401"},
		{"no file with the token", AlertsConfig{Kind: kindPrometheus, TokenFile: "/nonexistent/token"}, nil, "", "token: open /nonexistent/token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMonitor(t)
			m.bodies, m.token = c.bodies, c.token
			h := polled(t, m, c.cfg, func(func(string, func(*history.History) bool)) {
				for end := time.Now().Add(20 * time.Second); c.cfg.TokenFile == ""; pause(5 * time.Millisecond) {
					var n int
					m.set(func() { n = len(m.asked) })
					if n > 2 || time.Now().After(end) {
						return
					}
				}
				pause(100 * time.Millisecond) // nothing is asked at all
			})
			if len(h.Alerts) > 0 || len(h.Gaps) != 1 || !strings.Contains(h.Gaps[0].V.Reason, c.reason) {
				t.Errorf("%+v %+v", h.Alerts, h.Gaps)
			}
			if n := len(h.Sources); n != 1 || !h.Sources[0].V.Ended || h.Sources[0].V.Polls != 0 {
				t.Errorf("%+v", h.Sources)
			}
		})
	}
}
