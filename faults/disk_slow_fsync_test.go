package faults

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestSlowFsyncParameters(t *testing.T) {
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
	if f, err := readFsyncsAt(t.Context(), s.URL); err != nil || f != (fsyncs{10, 3.5}) {
		t.Errorf("got %+v, %v", f, err)
	}
	for b, c := range map[string]int{"": 200, "nonsense{": 200, metrics: 500, strings.ReplaceAll(metrics, "wal", "backend"): 200} {
		if body, code = b, c; true {
			if f, err := readFsyncsAt(t.Context(), s.URL); err == nil {
				t.Errorf("%d %q: got %+v", c, b, f)
			}
		}
	}
}

// TestMeanFsync lets the first fsync to end be short: it began before the fault.
func TestMeanFsync(t *testing.T) {
	var reads atomic.Int64
	l, err := net.Listen("tcp", "127.81.0.4:"+etcdMetrics)
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
	n := &fakeNode{addr: netip.MustParseAddr("127.81.0.4")}
	mean, calls, err := meanFsync(t.Context(), n, 500*time.Millisecond)
	if err != nil || calls < fsyncCalls || mean < 0.499 || mean > 0.501 {
		t.Errorf("got %g over %d, %v", mean, calls, err)
	}
}
