package faults

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"gameday/clusters"
)

func TestReadyz(t *testing.T) {
	var code int
	var body string
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || !r.Close {
			t.Errorf("asked for %s, close %v", r.URL, r.Close)
		}
		w.WriteHeader(code)
		if _, err := w.Write([]byte(body)); err != nil {
			t.Error(err)
		}
	}))
	defer s.Close()
	cfg := &rest.Config{Host: s.URL, TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
	}}
	code, body = 200, "ok"
	if err := readyzAt(t.Context(), cfg); err != nil {
		t.Error(err)
	}
	code, body = 500, "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nreadyz check failed\n"
	if err := readyzAt(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "500 Internal Server Error: etcd failed: reason withheld") {
		t.Errorf("got %v", err)
	}
	if err := readyzAt(t.Context(), &rest.Config{Host: s.URL}); err == nil {
		t.Error("a server with a certificate of its own making was believed")
	}
	s.Close()
	if err := readyzAt(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

func TestLookAt(t *testing.T) {
	w := &world{t: t}
	w.nodes = []*fakeNode{{w: w, i: 0}, {w: w, i: 1}}
	nodes := w.cluster().Nodes()
	broken, whole, between := seen{broken: true, evidence: "b"}, seen{whole: true, evidence: "w"}, seen{evidence: "?"}
	for _, tc := range []struct {
		a, b         seen
		active, gone bool
	}{
		{broken, broken, true, false}, {whole, whole, false, true}, {broken, whole, false, false},
		{broken, between, false, false}, {whole, between, false, false},
	} {
		e, err := lookAt(t.Context(), nodes, func(_ context.Context, n clusters.Node) (seen, error) {
			return []seen{tc.a, tc.b}[n.Index()], nil
		})
		if err != nil || e.Active != tc.active || e.Gone != tc.gone {
			t.Errorf("%+v: got %+v, %v", tc, e, err)
		}
		if want := "control-plane[0]: " + tc.a.evidence + "; control-plane[1]: " + tc.b.evidence; e.Evidence != want {
			t.Errorf("evidence %q, want %q", e.Evidence, want)
		}
	}
	blind := errors.New("cannot see")
	if e, err := lookAt(t.Context(), nodes, func(_ context.Context, n clusters.Node) (seen, error) {
		if n.Index() == 1 {
			return seen{}, blind
		}
		return broken, nil
	}); !errors.Is(err, blind) || e.Active || e.Gone {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestControl(t *testing.T) {
	w := &world{t: t}
	w.nodes = []*fakeNode{{w: w, i: 0}, {w: w, i: 1}}
	began := time.Now()
	text, err := control(t.Context(), w.cluster().Nodes(), "is well", func(ctx context.Context, n clusters.Node) error {
		if n.Index() == 0 { // hangs, which must not hold up the other
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	if err != nil || text != "control-plane[1] is well" || time.Since(began) > 5*time.Second {
		t.Errorf("got %q, %v", text, err)
	}
	if text, err := control(t.Context(), w.cluster().Nodes(), "is well", func(context.Context, clusters.Node) error {
		return errors.New("ill")
	}); err == nil || text != "" {
		t.Errorf("got %q, %v", text, err)
	}
}
