package sample

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"gameday/clusters"
	"gameday/harness/history"
)

const (
	// statsEvery is how often each etcd member is asked for its metrics: they are
	// some 100 kB, which etcd has to write and we have to read. statsFor is how
	// long that may take.
	statsEvery = 5 * time.Second
	statsFor   = 2 * time.Second
	// maxMetrics bounds what is read of them, in bytes.
	maxMetrics = 4 << 20
)

// The metrics that are wanted: https://etcd.io/docs/v3.6/metrics/.
const (
	metricStarted = "process_start_time_seconds"
	metricDBSize  = "etcd_mvcc_db_total_size_in_bytes"
	metricQuota   = "etcd_server_quota_backend_bytes"
	metricFsync   = "etcd_disk_wal_fsync_duration_seconds"
	metricCommit  = "etcd_disk_backend_commit_duration_seconds"
)

// stats records what the metrics of each etcd member say. They are served where
// clients are, to whom has a client's certificate.
type stats struct {
	record *history.Recorder
	all    []stat
}

type stat struct {
	node, url string
	rt        *http.Transport
}

func newStats(ctx context.Context, cfg Config) (*stats, error) {
	t, err := clusters.EtcdTLS(ctx, cfg.Cluster)
	if err != nil {
		return nil, fmt.Errorf("record the metrics of etcd: %w", err)
	}
	s := &stats{record: cfg.Record}
	for _, n := range clusters.ByRole(cfg.Cluster.Nodes(), clusters.ControlPlane) {
		s.all = append(s.all, stat{n.Name(), clusters.EtcdURL(n) + "/metrics", &http.Transport{TLSClientConfig: t.Clone(), IdleConnTimeout: time.Minute}})
	}
	return s, nil
}

func (s *stats) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, one := range s.all {
		all.Go(func() { one.run(ctx, s.record) })
	}
	all.Wait()
}

func (s stat) run(ctx context.Context, record *history.Recorder) {
	tick := time.NewTicker(statsEvery)
	defer tick.Stop()
	for {
		start := time.Now()
		now, err := s.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		now.Node, now.Err = s.node, explain(err)
		record.AddAt(start, history.Event{EtcdStats: &now})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s stat) ask(ctx context.Context) (history.EtcdStats, error) {
	ctx, cancel := context.WithTimeout(ctx, statsFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return history.EtcdStats{}, err
	}
	resp, err := s.rt.RoundTrip(req)
	if err != nil {
		return history.EtcdStats{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return history.EtcdStats{}, &statusError{resp.StatusCode, resp.Status}
	}
	return readStats(io.LimitReader(resp.Body, maxMetrics))
}

// readStats takes the metrics that are wanted from all that there are. Only their
// lines are parsed: they are a hundredth of the text.
func readStats(r io.Reader) (history.EtcdStats, error) {
	var some bytes.Buffer
	in := bufio.NewScanner(r)
	for in.Scan() {
		name := strings.TrimPrefix(in.Text(), "# TYPE ")
		for _, want := range []string{metricStarted, metricDBSize, metricQuota, metricFsync, metricCommit} {
			if strings.HasPrefix(name, want) {
				some.Write(in.Bytes())
				some.WriteByte('\n')
				break
			}
		}
	}
	if err := in.Err(); err != nil {
		return history.EtcdStats{}, err
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	found, err := p.TextToMetricFamilies(&some)
	if err != nil {
		return history.EtcdStats{}, fmt.Errorf("metrics of etcd: %w", err)
	}
	gauge := func(name string) float64 {
		if m := found[name].GetMetric(); len(m) == 1 {
			return m[0].GetGauge().GetValue()
		}
		return 0
	}
	return history.EtcdStats{
		Started: gauge(metricStarted), DBSize: int64(gauge(metricDBSize)), Quota: int64(gauge(metricQuota)),
		Fsync: histogram(found[metricFsync]), Commit: histogram(found[metricCommit]),
	}, nil
}

// histogram has the counts of each bucket by itself; nil if there is none.
func histogram(f *dto.MetricFamily) *history.Histogram {
	m := f.GetMetric()
	if len(m) != 1 || m[0].GetHistogram() == nil {
		return nil
	}
	var out history.Histogram
	below := uint64(0)
	for _, b := range m[0].GetHistogram().GetBucket() {
		if !math.IsInf(b.GetUpperBound(), 1) {
			out.Edges = append(out.Edges, b.GetUpperBound())
			out.Counts = append(out.Counts, b.GetCumulativeCount()-below)
			below = b.GetCumulativeCount()
		}
	}
	out.Counts = append(out.Counts, m[0].GetHistogram().GetSampleCount()-below)
	return &out
}
