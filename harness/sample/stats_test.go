package sample

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gameday/harness/history"
)

// metrics is a part of what a member of etcd 3.6 serves.
const metrics = `# HELP etcd_disk_backend_commit_duration_seconds The latency distributions of commit called by backend.
# TYPE etcd_disk_backend_commit_duration_seconds histogram
etcd_disk_backend_commit_duration_seconds_bucket{le="0.001"} 0
etcd_disk_backend_commit_duration_seconds_bucket{le="8.192"} 4
etcd_disk_backend_commit_duration_seconds_bucket{le="+Inf"} 5
etcd_disk_backend_commit_duration_seconds_sum 9.5
etcd_disk_backend_commit_duration_seconds_count 5
# HELP etcd_disk_wal_fsync_duration_seconds The latency distributions of fsync called by WAL.
# TYPE etcd_disk_wal_fsync_duration_seconds histogram
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 70
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 90
etcd_disk_wal_fsync_duration_seconds_bucket{le="8.192"} 100
etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 100
etcd_disk_wal_fsync_duration_seconds_sum 0.3
etcd_disk_wal_fsync_duration_seconds_count 100
# HELP etcd_mvcc_db_total_size_in_bytes Total size of the underlying database physically allocated in bytes.
# TYPE etcd_mvcc_db_total_size_in_bytes gauge
etcd_mvcc_db_total_size_in_bytes 3.194880e+06
# HELP etcd_server_quota_backend_bytes Current backend storage quota size in bytes.
# TYPE etcd_server_quota_backend_bytes gauge
etcd_server_quota_backend_bytes 2.147483648e+09
# TYPE go_goroutines gauge
go_goroutines 12
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.76e+09
`

func TestReadStats(t *testing.T) {
	got, err := readStats(strings.NewReader(metrics))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(history.EtcdStats{
		Started: 1.76e9, DBSize: 3194880, Quota: 2 << 30,
		Fsync:  &history.Histogram{Edges: []float64{.001, .002, 8.192}, Counts: []uint64{70, 20, 10, 0}},
		Commit: &history.Histogram{Edges: []float64{.001, 8.192}, Counts: []uint64{0, 4, 1}},
	}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// A member that does not have a metric is not taken to have zeros.
	got, err = readStats(strings.NewReader("# TYPE x gauge\nx 1\n"))
	if d := cmp.Diff(history.EtcdStats{}, got); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if _, err := readStats(strings.NewReader("# TYPE " + metricDBSize + " gauge\n" + metricDBSize + " much\n")); err == nil {
		t.Error("a number that is none was read")
	}
}

func TestStatsAreRecorded(t *testing.T) {
	code := http.StatusOK
	g := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, metrics)
	}))
	defer g.Close()
	pool := x509.NewCertPool()
	pool.AddCert(g.Certificate())
	rt := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer rt.CloseIdleConnections()
	ask := func() (got history.EtcdStats) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		record, err := history.Create(filepath.Join(t.TempDir(), "history.jsonl"), history.Run{}, func(e history.Event) {
			if e.EtcdStats != nil {
				got = *e.EtcdStats
				cancel()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer record.Close()
		(&stats{record: record, all: []stat{{"cp0", g.URL + "/metrics", rt}}}).run(ctx)
		return got
	}
	if got := ask(); got.Node != "cp0" || got.DBSize != 3194880 || got.Err != "" {
		t.Errorf("%+v", got)
	}
	code = http.StatusForbidden
	if got := ask(); got.Err != "403 Forbidden" || got.Fsync != nil {
		t.Errorf("%+v", got)
	}
}
