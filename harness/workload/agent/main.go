// Command agent is what the pods of the workload run. It is built at run time
// from this source, which is embedded in gameday, and uses the standard library
// only.
//
//	agent job --for 20s    runs so long, whatever signal comes, and exits 0
//	agent serve            serves HTTP on :8080 until SIGTERM
//	agent probe            asks pods on other nodes, Services and the DNS, until SIGTERM
//
// All print lines of JSON on stdout, each with the wall clock in nanoseconds and
// the pod's uid: one at their start, one at their end, and between them the first
// two one each second, the last what it saw, each few seconds.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// line is what is printed. Seq counts the lines of this process.
type line struct {
	At    int64  `json:"at"` // wall clock, ns
	Seq   int64  `json:"seq"`
	Pod   string `json:"pod"`
	UID   string `json:"uid"`
	Node  string `json:"node"`
	Event string `json:"event"` // start, alive, signal, end, probes
	// Process tells the processes of a container apart that was started again.
	Process string  `json:"process,omitempty"`
	Probes  *probes `json:"probes,omitempty"`
}

type printer struct {
	mu   sync.Mutex
	seq  int64
	pod  string
	uid  string
	node string
}

func (p *printer) print(event string) { p.write(line{Event: event}) }

func (p *printer) printProbes(s probes) { p.write(line{Event: "probes", Probes: &s}) }

func (p *printer) write(l line) {
	p.mu.Lock() // lines come in the order of their numbers
	defer p.mu.Unlock()
	p.seq++
	l.At, l.Seq, l.Pod, l.UID, l.Node = wall(time.Now()), p.seq, p.pod, p.uid, p.node
	l.Process = strconv.FormatInt(began.UnixNano(), 36)
	b, err := json.Marshal(l)
	if err == nil {
		_, err = os.Stdout.Write(append(b, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// alive prints a line each second until ctx ends.
func (p *printer) alive(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.print("alive")
		}
	}
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if len(os.Args) < 2 {
		return errors.New("want job, serve or probe")
	}
	p := &printer{pod: os.Getenv("POD_NAME"), uid: os.Getenv("POD_UID"), node: os.Getenv("NODE_NAME")}
	switch os.Args[1] {
	case "job":
		flags := flag.NewFlagSet("job", flag.ContinueOnError)
		long := flags.Duration("for", time.Second, "how long it runs")
		if err := flags.Parse(os.Args[2:]); err != nil {
			return err
		}
		return job(ctx, p, *long)
	case "serve":
		flags := flag.NewFlagSet("serve", flag.ContinueOnError)
		addr := flags.String("listen", ":8080", "address to serve on")
		linger := flags.Duration("linger", time.Second, "how long it serves on after SIGTERM, while it is taken out of the Service")
		if err := flags.Parse(os.Args[2:]); err != nil {
			return err
		}
		return serve(ctx, p, *addr, *linger)
	case "probe":
		var o probeOptions
		flags := flag.NewFlagSet("probe", flag.ContinueOnError)
		flags.StringVar(&o.listen, "listen", ":8080", "address to say the time on")
		flags.StringVar(&o.mesh, "mesh", ":8081", ":PORT of the pod to answer datagrams on")
		flags.StringVar(&o.bootstrap, "others", "", "name that stands for the addresses of all such pods")
		flags.DurationVar(&o.period, "every", 500*time.Millisecond, "between two samples of a series")
		nodes := flags.String("nodes", "", "nodes to ask for a sign of life, with commas between")
		flags.Var(&o.services, "service", "NAME=ADDRESS:PORT of a Service; may be given again")
		flags.Var(&o.names, "dns", "NAME.=ADDRESS that the DNS must answer; may be given again")
		if err := flags.Parse(os.Args[2:]); err != nil {
			return err
		}
		if *nodes != "" {
			o.nodes = strings.Split(*nodes, ",")
		}
		return probe(ctx, p, o)
	}
	return fmt.Errorf("unknown command %q: want job, serve or probe", os.Args[1])
}

// job runs to its end. SIGTERM is told and does not end it: work that is worth
// finishing uses the grace period.
func job(ctx context.Context, p *printer, long time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	p.print("start")
	defer p.print("end")
	go p.alive(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-signals:
			p.print("signal")
		}
	}
}

func signalled(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
}

// serve answers /readyz and / until SIGTERM; then /readyz fails, and after the
// linger it ends when the requests in flight have their answers.
func serve(alive context.Context, p *printer, addr string, linger time.Duration) error {
	ctx, stop := signalled(alive)
	defer stop()
	p.print("start")
	defer p.print("end")
	go p.alive(alive) // also while it ends
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if ctx.Err() != nil {
			http.Error(w, "terminating", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, p.pod, p.uid) })
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	p.print("signal")
	<-time.After(linger)
	end, cancel := context.WithTimeout(alive, 3*time.Second)
	defer cancel()
	return server.Shutdown(end)
}
