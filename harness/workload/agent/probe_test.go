package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// node is a mesh of one node on a real socket of this machine.
func node(t *testing.T, name string, all ...string) *mesh {
	t.Helper()
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	self, err := netip.ParseAddrPort(socket.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	m := newMesh(name, self, socket, all)
	var done sync.WaitGroup
	done.Go(m.serve)
	t.Cleanup(func() { socket.Close(); done.Wait() })
	return m
}

func ask(t *testing.T, m *mesh, node string, bound time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	return m.ask(ctx, node)
}

func TestMesh(t *testing.T) {
	a, b := node(t, "a", "a", "b", "c"), node(t, "b", "a", "b", "c")
	if len(a.targets()) != 2 {
		t.Fatalf("%d targets of three nodes", len(a.targets()))
	}
	if err := ask(t, a, "b", 20*time.Second); err == nil || !strings.Contains(err.Error(), "never heard") {
		t.Errorf("of a node that nobody knows: %v", err)
	}
	a.learn("b", b.self.String())
	if err := ask(t, a, "b", 20*time.Second); err != nil {
		t.Errorf("a asks b: %v", err)
	}
	// b heard of a by its question.
	if err := ask(t, b, "a", 20*time.Second); err != nil {
		t.Errorf("b asks a: %v", err)
	}
	// A pod that came back elsewhere tells so itself.
	again := node(t, "b", "a", "b")
	again.learn("a", a.self.String())
	if err := ask(t, again, "a", 20*time.Second); err != nil {
		t.Errorf("b asks a from its new address: %v", err)
	}
	if a.where["b"] != again.self {
		t.Errorf("a has b at %s, not at %s", a.where["b"], again.self)
	}
	// An address that another node has now.
	a.learn("c", b.self.String())
	if err := ask(t, a, "c", 20*time.Second); err == nil || err.Error() != "answered by b" {
		t.Errorf("the wrong node: %v", err)
	}
	// Nobody answers.
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a.learn("c", silent.LocalAddr().String())
	if err := ask(t, a, "c", 20*time.Millisecond); err == nil || brief(err) != "no answer" {
		t.Errorf("silence: %v", err)
	}
}

func TestViaService(t *testing.T) {
	answer, conns := "web-00-abc uid", map[string]bool{}
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		conns[r.RemoteAddr] = true
		fmt.Fprintln(w, answer)
	}))
	defer s.Close()
	addr := s.Listener.Addr().String()
	for _, tc := range []struct {
		kept  bool
		conns int
	}{{true, 1}, {false, 3}} {
		clear(conns)
		v := viaService("web-00", addr, tc.kept)
		for range 3 {
			if err := v.once(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(conns) != tc.conns {
			t.Errorf("kept %v: %d connections", tc.kept, len(conns))
		}
	}
	answer = "web-01-abc uid"
	if err := viaService("web-00", addr, false).once(t.Context()); err == nil || !strings.Contains(err.Error(), "no pod of web-00") {
		t.Errorf("a stranger's answer: %v", err)
	}
	s.Close()
	if err := viaService("web-00", addr, false).once(t.Context()); err == nil || brief(err) != "connect: connection refused" {
		t.Errorf("nobody there: %v", err)
	}
}

// TestProber: each sample is printed once, in its series, with how it went.
func TestProber(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	bad := fmt.Errorf("broken")
	var n atomic.Int64
	enough := make(chan struct{})
	targets := []target{
		{kind: "mesh", to: "a", once: func(context.Context) error {
			if n.Add(1) == 20 {
				close(enough)
			}
			return nil
		}},
		{kind: "dns", to: "b", once: func(context.Context) error { return bad }},
		{kind: "dns", to: "c", once: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
	}
	var lines []probes
	p := newProber(func(l probes) { lines = append(lines, l) }, 2*time.Millisecond, targets)
	go func() { <-enough; p.flush(); cancel() }()
	p.run(ctx)
	if len(lines) < 2 {
		t.Fatalf("%d lines", len(lines))
	}
	var good, broken int
	for _, l := range lines {
		if len(l.Series) != 3 || l.Lost != 0 || l.Until > wall(time.Now()) {
			t.Fatalf("line %+v", l)
		}
		for i, s := range l.Series {
			if len(s.Start) != len(s.Took) || s.To != targets[i].to {
				t.Fatalf("series %+v", s)
			}
		}
		good += len(l.Series[0].Start) - len(l.Series[0].Bad)
		broken += len(l.Series[1].Bad)
		if l.Series[1].Bad[0] != "" && l.Series[1].Bad[0] != "broken" {
			t.Errorf("cause %q", l.Series[1].Bad[0])
		}
	}
	if good < 20 || broken == 0 {
		t.Errorf("%d good and %d bad samples", good, broken)
	}
}

// TestProberWithoutReader: what cannot be printed is counted.
func TestProberWithoutReader(t *testing.T) {
	p := newProber(func(probes) {}, time.Second, nil)
	for range maxLines + 3 {
		p.flush()
	}
	<-p.lines
	p.flush()
	var last probes
	for range maxLines {
		last = <-p.lines
	}
	if last.Lost != 3 {
		t.Errorf("%d lines lost", last.Lost)
	}
}
