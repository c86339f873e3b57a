package sample

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"gameday/harness/history"
)

// target is a TLS endpoint on the loopback that can be broken in known ways.
type target struct {
	*httptest.Server
	addr string

	mu      sync.Mutex
	raw     net.Listener
	conns   map[*gatedConn]bool
	paused  chan struct{} // closed when nothing is paused
	reset   bool
	handler atomic.Pointer[http.HandlerFunc]
}

// gatedConn holds what arrives back while its target is paused, as a network
// that drops packets does: TCP delivers them in the end.
type gatedConn struct {
	net.Conn
	t *target
}

func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	<-c.t.gate()
	return n, err
}

func (c *gatedConn) Close() error {
	c.t.mu.Lock()
	delete(c.t.conns, c)
	c.t.mu.Unlock()
	return c.Conn.Close()
}

// gatedListener accepts for a target.
type gatedListener struct {
	net.Listener
	t *target
}

func (l gatedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		<-l.t.gate()
		l.t.mu.Lock()
		if l.t.reset {
			l.t.mu.Unlock()
			abort(c)
			continue
		}
		g := &gatedConn{c, l.t}
		l.t.conns[g] = true
		l.t.mu.Unlock()
		return g, nil
	}
}

func abort(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}

func (t *target) gate() chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.paused
}

func open() chan struct{} { c := make(chan struct{}); close(c); return c }

func newTarget(t *testing.T) *target {
	t.Helper()
	g := &target{conns: map[*gatedConn]bool{}, paused: open()}
	g.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := g.handler.Load(); h != nil {
			(*h)(w, r)
		}
	}))
	g.Config.ErrorLog = log.New(io.Discard, "", 0)
	g.EnableHTTP2 = true
	g.raw = g.Listener
	g.addr = g.raw.Addr().String()
	g.Listener = gatedListener{g.raw, g}
	g.StartTLS()
	t.Cleanup(func() {
		g.CloseClientConnections()
		g.Config.Close()
	})
	return g
}

func (t *target) config() *rest.Config {
	return &rest.Config{Host: t.URL, TLSClientConfig: rest.TLSClientConfig{CAData: pemOf(t.Certificate())}}
}

// killConns resets every connection.
func (t *target) killConns() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.conns {
		abort(c.Conn)
	}
}

// The ways to break a target: each returns how to mend it.
var breaks = map[string]func(t *testing.T, g *target) (mend func()){
	// refused: nobody listens, connections are gone, as after a kill.
	"refused": func(t *testing.T, g *target) func() {
		t.Helper()
		g.raw.Close()
		g.killConns()
		return func() {
			l, err := net.Listen("tcp", g.addr)
			if err != nil {
				t.Errorf("listen again: %v", err)
				return
			}
			g.raw = l
			go g.Config.Serve(tls.NewListener(gatedListener{l, g}, g.TLS))
		}
	},
	// reset: every connection is reset, old and new.
	"reset": func(_ *testing.T, g *target) func() {
		g.mu.Lock()
		g.reset = true
		g.mu.Unlock()
		g.killConns()
		return func() {
			g.mu.Lock()
			g.reset = false
			g.mu.Unlock()
		}
	},
	// black-holed: nothing that is sent arrives until the mend.
	"black-holed": func(_ *testing.T, g *target) func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.paused = make(chan struct{})
		return func() { close(g.gate()) }
	},
	// hung: requests are taken and never answered.
	"hung": func(_ *testing.T, g *target) func() {
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		g.handler.Store(&h)
		return func() { g.handler.Store(nil) }
	},
	// slow: requests are answered, after the sampler's deadline.
	"slow": func(_ *testing.T, g *target) func() {
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(testPace.Deadline * 3 / 2):
			case <-r.Context().Done():
			}
		})
		g.handler.Store(&h)
		return func() { g.handler.Store(nil) }
	},
	// unavailable: answered with 503.
	"unavailable": func(_ *testing.T, g *target) func() {
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		g.handler.Store(&h)
		return func() { g.handler.Store(nil) }
	},
}

// testPace is that of the densest series, but for a shorter deadline.
var testPace = pace{Period: 40 * time.Millisecond, Fast: 25 * time.Millisecond, Suspect: 100 * time.Millisecond, Deadline: 400 * time.Millisecond}

// slowAnswer is what the tests take for no answer.
const slowAnswer = 100 * time.Millisecond

type taken struct {
	start time.Time
	history.Sample
}

func (s taken) bad() bool { return !s.OK || s.Took > slowAnswer }

// film runs a prober against the target while during goes on.
func film(t *testing.T, g *target, conn string, during func()) []taken {
	t.Helper()
	rt, err := transport(g.config(), conn)
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu  sync.Mutex
		out []taken
	)
	once := func(ctx context.Context) answer {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL, nil)
		if err != nil {
			return answer{Err: err.Error()}
		}
		r := exchange(rt, req)
		return answer{Code: r.Code, Err: r.Err, AuditID: "id"}
	}
	p := newProber(1, testPace, once, func(start time.Time, s history.Sample) {
		mu.Lock()
		defer mu.Unlock()
		out = append(out, taken{start, s})
	})
	schedule, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.run(schedule, t.Context(), 0)
	}()
	during()
	stop()
	<-done
	slices.SortFunc(out, func(a, b taken) int { return a.start.Compare(b.start) })
	return out
}

// seen is one outage as a checker would take it from the samples.
type seen struct{ from, to time.Time }

func outages(samples []taken) []seen {
	var out []seen
	inside := false
	for i, s := range samples {
		switch {
		case s.bad() && !inside:
			out = append(out, seen{from: s.start})
			inside = true
		case !s.bad() && inside:
			// A stall ends when the stalled requests are answered; any other
			// outage where the next good sample starts.
			last := &out[len(out)-1]
			last.to = s.start
			if prev := samples[i-1]; prev.OK {
				last.to = prev.start.Add(prev.Took)
			}
			inside = false
		}
	}
	return out
}

// pause waits for d of the test's own time.
func pause(d time.Duration) { <-time.After(d) }

// TestKnownOutages is the positive control of the instrument: an outage of
// known kind and length is seen once, with its length right within 50 ms.
func TestKnownOutages(t *testing.T) {
	if restore, err := prioritise(samplerNice); err != nil {
		t.Logf("as in a run without the right to it: %v", err)
	} else {
		defer restore()
	}
	type known struct {
		kind, conn string
		length     time.Duration
	}
	var all []known
	for _, kind := range slices.Sorted(maps.Keys(breaks)) {
		if kind != "black-holed" { // of 50 ms: no outage, answers are that much later
			all = append(all, known{kind, connReused, 50 * time.Millisecond})
		}
		all = append(all, known{kind, connReused, 200 * time.Millisecond}, known{kind, connNew, 200 * time.Millisecond})
	}
	for _, kind := range []string{"refused", "black-holed", "hung"} {
		all = append(all, known{kind, connReused, time.Second})
	}
	// Not t.Parallel, which runs as many at once as there are CPUs: these wait.
	var together errgroup.Group
	together.SetLimit(8)
	for _, k := range all {
		together.Go(func() error {
			err := unlessStarved(func() error { return checkOutage(t, k.kind, k.conn, k.length) })
			if err != nil {
				t.Errorf("%s for %s on a %s connection: %v", k.kind, k.length, k.conn, err)
			}
			return nil
		})
	}
	together.Wait()
}

// unlessStarved makes a check again, at most four times, if it failed while this
// process did not get the CPU: it would tell of the machine.
func unlessStarved(check func() error) error {
	var err error
	for range 4 {
		stop := make(chan struct{})
		worst := make(chan time.Duration)
		go func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			var most time.Duration
			for last := time.Now(); ; {
				select {
				case <-stop:
					worst <- most
					return
				case <-tick.C:
					now := time.Now()
					most = max(most, now.Sub(last)-5*time.Millisecond)
					last = now
				}
			}
		}()
		err = check()
		close(stop)
		if starved := <-worst; err == nil || starved < 20*time.Millisecond {
			return err
		} else {
			err = fmt.Errorf("%w\n(the machine is too busy to tell: no CPU for %s)", err, starved)
		}
	}
	return err
}

func checkOutage(t *testing.T, kind, conn string, length time.Duration) error {
	t.Helper()
	g := newTarget(t)
	var began, broken, mending, mended time.Time
	samples := film(t, g, conn, func() {
		pause(200 * time.Millisecond)
		began = time.Now()
		mend := breaks[kind](t, g)
		broken = time.Now()
		pause(length)
		mending = time.Now()
		mend()
		mended = time.Now()
		pause(300 * time.Millisecond)
	})
	// The machine may be busy: what this test itself was late with, and what
	// the sampler says it was late with, is not the instrument's error.
	slack := broken.Sub(began) + mended.Sub(mending) + lateness(samples)
	got := outages(samples)
	if len(got) != 1 || got[0].to.IsZero() {
		return fmt.Errorf("%d outages seen instead of 1 that ended: %s", len(got), dump(samples, began))
	}
	truth, measured := mending.Sub(broken), got[0].to.Sub(got[0].from)
	if off := (measured - truth).Abs(); off > 50*time.Millisecond+slack {
		return fmt.Errorf("it lasted %s and was seen as %s (slack %s): %s", truth, measured, slack, dump(samples, began))
	}
	for _, s := range samples {
		if !s.OK && s.AuditID == "" {
			return fmt.Errorf("a failed sample without its Audit-ID: %+v", s)
		}
	}
	return nil
}

// TestNoOutage is the negative control: none is seen where none was made, and
// the promised number of samples is there.
func TestNoOutage(t *testing.T) {
	for _, conn := range []string{connReused, connNew} {
		t.Run(conn, func(t *testing.T) {
			t.Parallel()
			err := unlessStarved(func() error {
				const length = 800 * time.Millisecond
				samples := film(t, newTarget(t), conn, func() { pause(length) })
				for _, s := range samples {
					if s.bad() {
						return fmt.Errorf("seen on a healthy target: %+v", s)
					}
				}
				if want := int(length / testPace.Period); len(samples) > want+1 || len(samples) < want-2 {
					return fmt.Errorf("%d samples in %s at %s", len(samples), length, testPace.Period)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func lateness(samples []taken) (late time.Duration) {
	for _, s := range samples {
		late = max(late, s.Late)
	}
	return late
}

func dump(samples []taken, zero time.Time) string {
	text := ""
	for _, s := range samples {
		text += fmt.Sprintf("\n%8.1f ms ok=%v took=%s late=%s %s", s.start.Sub(zero).Seconds()*1e3, s.OK, s.Took, s.Late, s.Err)
	}
	return text
}

// TestHungTargetDoesNotPileUp lets requests outlive their deadline: the number
// in flight stays bounded, and what was due and not sent is in the record.
func TestHungTargetDoesNotPileUp(t *testing.T) {
	p := pace{Period: 20 * time.Millisecond, Fast: 10 * time.Millisecond, Deadline: 50 * time.Millisecond}
	var flying, most, notSent, sent atomic.Int64
	release := make(chan struct{})
	once := func(context.Context) answer { // deaf to its deadline
		n := flying.Add(1)
		defer flying.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		return answer{}
	}
	pr := newProber(1, p, once, func(_ time.Time, s history.Sample) {
		if s.Err == NotSent {
			notSent.Add(1)
		} else {
			sent.Add(1)
		}
	})
	schedule, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); pr.run(schedule, t.Context(), 0) }()
	pause(500 * time.Millisecond)
	stop()
	close(release)
	<-done
	if m := most.Load(); m != int64(p.limit()) {
		t.Errorf("%d requests in flight, limit %d", m, p.limit())
	}
	// 25 were due at the base period.
	if total := notSent.Load() + sent.Load(); total < 5 || total > 30 || notSent.Load() == 0 {
		t.Errorf("of 25 that were due %d were sent and %d recorded as not sent", sent.Load(), notSent.Load())
	}
}

// TestStopIsNoFailure cuts a sample off: it is not in the record.
func TestStopIsNoFailure(t *testing.T) {
	started := make(chan struct{}, 1)
	once := func(ctx context.Context) answer {
		select {
		case started <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return answer{Err: explain(ctx.Err())}
	}
	pr := newProber(1, pace{Period: time.Hour, Fast: time.Second, Deadline: time.Minute}, once,
		func(_ time.Time, s history.Sample) { t.Errorf("recorded %+v", s) })
	schedule, stop := context.WithCancel(t.Context())
	requests, cut := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); pr.run(schedule, requests, 0) }()
	<-started
	stop()
	cut()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("did not stop")
	}
}

func TestExplain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "https://" + l.Addr().String()
	l.Close()
	g := newTarget(t)
	tests := []struct {
		name, url string
		cfg       *rest.Config
		class     string
	}{
		{"nobody listens", closed, g.config(), "refused: "},
		{"unknown authority", g.URL, &rest.Config{Host: g.URL}, "tls: "},
		{"no such host", "https://127.0.0.1:99999", g.config(), "other: "},
	}
	for _, tt := range tests {
		rt, err := transport(tt.cfg, connNew)
		if err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, tt.url, nil)
		r := exchange(rt, req)
		if len(r.Err) < len(tt.class) || r.Err[:len(tt.class)] != tt.class {
			t.Errorf("%s: %q does not begin with %q", tt.name, r.Err, tt.class)
		}
		if len(r.Err) > maxErr+10 {
			t.Errorf("%s: %d bytes of error", tt.name, len(r.Err))
		}
	}
	if got := explain(fmt.Errorf("x: %w", x509.UnknownAuthorityError{})); got[:4] != "tls:" {
		t.Errorf("got %q", got)
	}
}

func TestOutcome(t *testing.T) {
	tests := []struct {
		code int
		sent bool
		want string
	}{
		{201, true, writeOK},
		{200, true, writeOK},
		{0, false, writeFail},   // refused, no route, handshake failed
		{0, true, writeUnknown}, // reset, timeout, connection closed
		{400, true, writeFail},
		{403, true, writeFail},
		{409, true, writeUnknown},
		{429, true, writeFail},
		{500, true, writeUnknown},
		{503, true, writeUnknown},
		{504, true, writeUnknown},
	}
	for _, tt := range tests {
		if got := outcome(tt.code, tt.sent); got != tt.want {
			t.Errorf("outcome(%d, sent %v) = %s, want %s", tt.code, tt.sent, got, tt.want)
		}
	}
}
