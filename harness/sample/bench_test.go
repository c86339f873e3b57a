package sample

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"gameday/harness/history"
)

// benchServer is set in the process that serves a benchmark's requests, so that
// the server's CPU is not counted as the sampler's.
const benchServer = "GAMEDAY_BENCH_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(benchServer) == "" {
		os.Exit(m.Run())
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"canary"}}`)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	fmt.Println(s.URL, base64.StdEncoding.EncodeToString(s.Certificate().Raw))
	bufio.NewReader(os.Stdin).ReadString('\n') // until the benchmark's process ends
}

// BenchmarkSample is the cost of one sample at a pace of 10 ms, waking up and
// recording included: go test -bench Sample -benchtime 500x. cpu-us/sample
// times the samples per second is the share of a core.
func BenchmarkSample(b *testing.B) {
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), benchServer+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	var url, cert string
	if _, err := fmt.Fscan(out, &url, &cert); err != nil {
		b.Fatal(err)
	}
	der, err := base64.StdEncoding.DecodeString(cert)
	if err != nil {
		b.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	cfg := &rest.Config{Host: url, TLSClientConfig: rest.TLSClientConfig{CAData: pemOf(c)}}
	for _, conn := range []string{connReused, connNew} {
		b.Run(conn, func(b *testing.B) {
			rt, err := transport(cfg, conn)
			if err != nil {
				b.Fatal(err)
			}
			record, err := history.Create(b.TempDir()+"/history.jsonl", history.Run{}, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer record.Close()
			schedule, stop := context.WithCancel(b.Context())
			defer stop()
			n := 0
			p := newProber(1, pace{Period: 10 * time.Millisecond, Fast: 10 * time.Millisecond, Suspect: time.Second, Deadline: time.Second},
				func(ctx context.Context) answer {
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
					if err != nil {
						b.Error(err)
						return answer{}
					}
					r := exchange(rt, req)
					return answer{Code: r.Code, Err: r.Err}
				},
				func(start time.Time, s history.Sample) {
					record.AddAt(start, history.Event{Sample: &s})
					if !s.OK {
						b.Errorf("%+v", s)
					}
					if n++; n == b.N {
						stop()
					}
				})
			before := SelfUsage()
			b.ResetTimer()
			p.run(schedule, b.Context(), 0)
			b.StopTimer()
			used := SelfUsage().CPU - before.CPU
			b.ReportMetric(float64(used.Microseconds())/float64(n), "cpu-us/sample")
		})
	}
}
