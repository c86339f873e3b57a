package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// probeDeadline bounds a sample: what takes longer is bad.
	probeDeadline = time.Second
	// maxInFlight samples of a series; one that is due beyond is left out, and
	// missed by whoever reads the series.
	maxInFlight = 4
	// flushEvery is how often what was sampled is printed.
	flushEvery = 5 * time.Second
	// maxLines are kept while nobody takes what is printed (the runtime that reads
	// the pipe is down): three hours of them.
	maxLines = 2048
	// slight lateness is not told.
	slight = time.Millisecond
	// grid is what the first samples of the series are apart: waking up costs more
	// than a sample, so that several begin at a time.
	grid = 250 * time.Millisecond
)

// probes is the part of a line that holds samples: history.ProbeSeries has the
// same form.
type probes struct {
	Period int64 `json:"period"` // ns
	// Until: all samples that began before are in this line or in one before.
	Until  int64          `json:"until"` // wall clock, ns
	Lost   int64          `json:"lost,omitempty"`
	CPU    int64          `json:"cpu"` // ns
	Series []*probeSeries `json:"series"`
}

type probeSeries struct {
	Kind  string         `json:"kind"`
	Conn  string         `json:"conn,omitempty"`
	To    string         `json:"to"`
	Start []int64        `json:"start"` // us since Until
	Took  []int64        `json:"took"`  // us
	Late  map[int]int64  `json:"late,omitempty"`
	Bad   map[int]string `json:"bad,omitempty"`
}

// target is one series: a request of some kind, made again and again.
type target struct {
	kind, conn, to string
	once           func(ctx context.Context) error
}

// probed is one sample.
type probed struct {
	start, due time.Time
	took       time.Duration
	err        error
}

// prober samples its targets and prints what it saw.
type prober struct {
	print   func(probes)
	period  time.Duration
	targets []target
	lines   chan probes
	lost    int64

	mu      sync.Mutex
	flights map[*target][]time.Time // starts of the samples in flight
	done    map[*target][]probed
}

func newProber(print func(probes), period time.Duration, targets []target) *prober {
	return &prober{
		print: print, period: period, targets: targets, lines: make(chan probes, maxLines),
		flights: map[*target][]time.Time{}, done: map[*target][]probed{},
	}
}

// run samples until ctx ends, then prints what is left. What is printed waits
// for its reader apart from the sampling.
func (p *prober) run(ctx context.Context) {
	var all, printing sync.WaitGroup
	printing.Go(func() {
		for l := range p.lines {
			p.print(l)
		}
	})
	for i := range p.targets {
		t := &p.targets[i]
		all.Go(func() { p.sample(ctx, t, time.Duration(i)*grid%p.period) })
	}
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			p.flush()
		}
	}
	all.Wait()
	p.flush()
	close(p.lines)
	printing.Wait()
}

// sample starts a sample each period. What was missed is not made up for.
func (p *prober) sample(ctx context.Context, t *target, offset time.Duration) {
	var all sync.WaitGroup
	defer all.Wait()
	due := time.Now().Add(offset)
	timer := time.NewTimer(offset)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		start := time.Now()
		if p.launch(t, start) {
			was := due
			all.Go(func() {
				limited, cancel := context.WithTimeout(ctx, probeDeadline)
				defer cancel()
				err := t.once(limited)
				p.landed(t, probed{start, was, time.Since(start), err}, ctx.Err() != nil && err != nil)
			})
		}
		for !due.After(start) {
			due = due.Add(p.period)
		}
		timer.Reset(time.Until(due))
	}
}

func (p *prober) launch(t *target, start time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.flights[t]) >= maxInFlight {
		return false
	}
	p.flights[t] = append(p.flights[t], start)
	return true
}

// landed takes a sample; one that was cut off by the end is none.
func (p *prober) landed(t *target, s probed, cutOff bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flights[t] = slices.DeleteFunc(p.flights[t], s.start.Equal)
	if !cutOff {
		p.done[t] = append(p.done[t], s)
	}
}

// flush hands what was sampled since the last time to the printer.
func (p *prober) flush() {
	p.mu.Lock()
	until := time.Now()
	for _, list := range p.flights {
		for _, s := range list {
			if s.Before(until) {
				until = s
			}
		}
	}
	done := p.done
	p.done = map[*target][]probed{}
	p.mu.Unlock()

	l := probes{Period: int64(p.period), Until: wall(until), Lost: p.lost, CPU: used()}
	for i := range p.targets {
		t := &p.targets[i]
		s := &probeSeries{Kind: t.kind, Conn: t.conn, To: t.to, Start: []int64{}, Took: []int64{}, Late: map[int]int64{}, Bad: map[int]string{}}
		for n, one := range done[t] {
			s.Start = append(s.Start, one.start.Sub(until).Microseconds())
			s.Took = append(s.Took, one.took.Microseconds())
			if late := one.start.Sub(one.due); late > slight {
				s.Late[n] = late.Microseconds()
			}
			if one.err != nil {
				s.Bad[n] = brief(one.err)
			}
		}
		l.Series = append(l.Series, s)
	}
	select {
	case p.lines <- l:
		p.lost = 0
	default:
		p.lost++
	}
}

// began is when this process began; its clock is the wall clock of that moment
// and what the monotonic clock says since, so that it never steps.
var began = time.Now()

// wall is a time by the clock of this process, in ns.
func wall(t time.Time) int64 { return began.UnixNano() + int64(t.Sub(began)) }

// used is the CPU time of this process, in ns.
func used() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// brief is the cause of an error in a few words.
func brief(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer"
	}
	text := err.Error()
	var call *os.SyscallError
	var name *net.DNSError
	switch {
	case errors.As(err, &call):
		text = call.Error()
	case errors.As(err, &name):
		text = name.Err
		if i := strings.LastIndex(text, ": "); i >= 0 {
			text = text[i+2:]
		}
	}
	const most = 120
	return text[:min(len(text), most)]
}

// viaService asks a Service for its page; who answers must be one of its own
// pods, whose names begin with the Service's.
func viaService(name, addr string, kept bool) target {
	transport := &http.Transport{DisableKeepAlives: !kept, MaxIdleConnsPerHost: 1, DisableCompression: true}
	t := target{kind: "cluster-ip", conn: "new", to: name}
	if kept {
		t.conn = "kept"
	}
	t.once = func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
		if err != nil {
			return err
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		switch {
		case err != nil:
			return err
		case resp.StatusCode != http.StatusOK:
			return fmt.Errorf("answered %d", resp.StatusCode)
		case !strings.HasPrefix(string(body), name+"-"):
			return fmt.Errorf("answered by %.60q, which is no pod of %s", body, name)
		}
		return nil
	}
	return t
}

// viaDNS asks the cluster's DNS for a name by UDP. Go's resolver makes a socket
// for each question and waits longer than the deadline before it asks again. It
// does ask again what the server could not answer (SERVFAIL), as all resolvers do.
func viaDNS(name string, want netip.Addr) target {
	resolver := &net.Resolver{PreferGo: true}
	return target{kind: "dns", to: strings.TrimSuffix(name, "."), once: func(ctx context.Context) error {
		got, err := resolver.LookupNetIP(ctx, "ip4", name)
		if err != nil {
			return err
		}
		if len(got) != 1 || got[0].Unmap() != want {
			return fmt.Errorf("wrong answer: %v, not %s", got, want)
		}
		return nil
	}}
}

// probe runs until SIGTERM. It answers the datagrams of the others and, for the
// harness, says what its clock says.
func probe(ctx context.Context, p *printer, o probeOptions) error {
	ctx, stop := signalled(ctx)
	defer stop()
	p.print("start")
	defer p.print("end")
	self, err := netip.ParseAddrPort(os.Getenv("POD_IP") + o.mesh)
	if err != nil {
		return fmt.Errorf("POD_IP and --mesh: %w", err)
	}
	socket, err := net.ListenPacket("udp4", o.mesh)
	if err != nil {
		return err
	}
	m := newMesh(p.node, self, socket, o.nodes)
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(m.serve)

	mux := http.NewServeMux()
	mux.HandleFunc("/clock", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, wall(time.Now())) })
	server := &http.Server{Addr: o.listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	all.Go(func() { failed <- server.ListenAndServe() })
	// Nobody waits for what these may still have to say.
	defer func() { _ = errors.Join(server.Close(), socket.Close()) }()

	targets := m.targets()
	for _, s := range o.services {
		targets = append(targets, viaService(s.name, s.value, false), viaService(s.name, s.value, true))
	}
	for _, d := range o.names {
		want, err := netip.ParseAddr(d.value)
		if err != nil {
			return fmt.Errorf("--dns %s: %w", d.name, err)
		}
		targets = append(targets, viaDNS(d.name, want))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if len(targets) > 0 {
		all.Go(func() { m.acquaint(ctx, o.bootstrap) })
		all.Go(func() { newProber(p.printProbes, o.period, targets).run(ctx) })
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// pair is NAME=VALUE.
type pair struct{ name, value string }

type pairs []pair

func (p *pairs) String() string { return fmt.Sprint(*p) }

// Set implements flag.Value.
func (p *pairs) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("%q is not NAME=VALUE", text)
	}
	*p = append(*p, pair{name, value})
	return nil
}

type probeOptions struct {
	listen, mesh, bootstrap string
	period                  time.Duration
	nodes                   []string
	services, names         pairs
}
