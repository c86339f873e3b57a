package faults

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gameday/faults/mechanism/slowfsync"
)

func TestSlowFsyncParameters(t *testing.T) {
	for _, c := range []struct {
		f  *SlowFsync
		ok bool
	}{
		{&SlowFsync{Delay: time.Second, Jitter: 100 * time.Millisecond}, true},
		{&SlowFsync{Delay: time.Second, Jitter: time.Second}, false},
		{&SlowFsync{Delay: time.Second, Jitter: -1}, false},
		{&SlowFsync{Delay: time.Second, GrowTo: 2 * time.Second, Over: time.Minute}, true},
		{&SlowFsync{Delay: time.Second, GrowTo: 2 * time.Second}, false},
		{&SlowFsync{Delay: time.Second, Over: time.Minute}, false},
		{&SlowFsync{Delay: time.Second, GrowTo: time.Millisecond, Over: time.Minute}, false},
		{&SlowFsync{Delay: time.Second, GrowTo: time.Hour, Over: time.Minute}, false},
		{&SlowFsync{Delay: time.Second, GrowTo: 2 * time.Second, Over: time.Millisecond}, false},
	} {
		if errs := c.f.Validate(); (len(errs) == 0) != c.ok {
			t.Errorf("%+v: %v", c.f.shape(time.Time{}), errs)
		}
	}
	for d, ok := range map[time.Duration]bool{0: false, -time.Second: false, time.Millisecond: false, 10 * time.Millisecond: true, time.Minute: true, time.Hour: false} {
		if errs := (&SlowFsync{Delay: d}).Validate(); (len(errs) == 0) != ok {
			t.Errorf("%s: %v", d, errs)
		}
	}
}

func TestReadFsyncs(t *testing.T) {
	const metrics = `# HELP etcd_disk_wal_fsync_duration_seconds x
# TYPE etcd_disk_wal_fsync_duration_seconds histogram
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 3
etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 10
etcd_disk_wal_fsync_duration_seconds_sum 3.5
etcd_disk_wal_fsync_duration_seconds_count 10
`
	body, code := metrics, 200
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}))
	defer s.Close()
	if f, err := readHistogramAt(t.Context(), s.URL, walFsync); err != nil || f != (histogram{10, 3.5}) {
		t.Errorf("got %+v, %v", f, err)
	}
	for b, c := range map[string]int{"": 200, "nonsense{": 200, metrics: 500, strings.ReplaceAll(metrics, "wal", "backend"): 200} {
		if body, code = b, c; true {
			if f, err := readHistogramAt(t.Context(), s.URL, walFsync); err == nil {
				t.Errorf("%d %q: got %+v", c, b, f)
			}
		}
	}
}

// TestMeanFsync lets the first fsync to end be short: it began before the fault.
func TestMeanFsync(t *testing.T) {
	var reads atomic.Int64
	l, err := net.Listen("tcp", net.JoinHostPort(loopback(3).String(), etcdMetrics))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := reads.Add(1) - 1 // one fsync for each reading
		sum := float64(n-1)*0.5 + 0.001
		if n == 0 {
			sum = 0
		}
		fmt.Fprintf(w, "# TYPE %[1]s histogram\n%[1]s_bucket{le=\"+Inf\"} %[2]d\n%[1]s_sum %[3]g\n%[1]s_count %[2]d\n", walFsync, 100+n, 7+sum)
	})}}
	s.Start()
	defer s.Close()
	n := &fakeNode{addr: loopback(3)}
	m, err := meanFsync(t.Context(), n, slowfsync.Shape{Delay: 500 * time.Millisecond})
	if err != nil || m.calls < fsyncCalls || m.mean < 0.499 || m.mean > 0.501 || m.asked != 0.5 || !m.asAsked(0) {
		t.Errorf("got %+v, %v", m, err)
	}
	// They take the same time though they should differ, or the time of another moment.
	if m.calls = jitterCalls; m.asAsked(0.1) {
		t.Error("fsyncs that are all the same pass for jitter")
	}
	began := time.Now().Add(-10 * time.Second)
	m, err = meanFsync(t.Context(), n, slowfsync.Shape{Delay: 100 * time.Millisecond, GrowTo: 2100 * time.Millisecond, Over: 20 * time.Second, Since: began})
	if err != nil || m.asked < 1.0 || m.asked > 1.2 || m.asAsked(0) {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestAsAsked(t *testing.T) {
	for _, c := range []struct {
		m      fsyncMean
		jitter float64
		want   bool
	}{
		{fsyncMean{calls: 3, mean: 0.5, asked: 0.5}, 0, true},
		{fsyncMean{calls: 3, mean: 0.536, asked: 0.5}, 0, true}, // on a busy disk
		{fsyncMean{calls: 3, mean: 0.76, asked: 0.5}, 0, false},
		{fsyncMean{calls: 3, mean: 0.484, asked: 0.5}, 0, false},
		{fsyncMean{calls: 8, mean: 0.476, asked: 0.5, least: 0.4, most: 0.6}, 0.1, true},
		{fsyncMean{calls: 8, mean: 0.47, asked: 0.5, least: 0.4, most: 0.6}, 0.1, false},
		{fsyncMean{calls: 8, mean: 0.5, asked: 0.5, least: 0.499, most: 0.501}, 0.1, false},
	} {
		if got := c.m.asAsked(c.jitter); got != c.want {
			t.Errorf("%+v, jitter %g: %v", c.m, c.jitter, got)
		}
	}
}
