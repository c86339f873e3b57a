package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"gameday/clusters"
	"gameday/faults/mechanism/process"
	"gameday/harness/history"
)

// components are the long-lived processes of a node whose CPU is told apart.
var components = []string{"kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler", "kubelet", "containerd"}

// rejected counts what priority and fairness refused with 429
// (k8s.io/apiserver@v0.37.0 pkg/util/flowcontrol/metrics/metrics.go).
const rejected = "apiserver_flowcontrol_rejected_requests_total"

const (
	// ticks a second is the unit of the times in /proc (USER_HZ, proc_pid_stat(5)); the kernel
	// gives it as 100 on every architecture that gameday runs on.
	ticks = 100
	// ask bounds one look at an API server's metrics.
	ask = 10 * time.Second
)

// meter reads what machine and cluster have used so far.
type meter struct{ cluster clusters.Cluster }

// reading is what was used up to a moment.
type reading struct {
	at          time.Duration
	cores       int
	busy, total uint64 // ticks of all cores
	procs       map[process.Ref]used
	rejected    float64
	errs        []error
	refusals    bool // rejected was read from every API server
	nodes       time.Duration
	groups      bool // nodes was read from every node
}

type used struct {
	name  string
	ticks uint64
}

// read takes a reading. What cannot be read is in it as an error: a load does not
// end for it.
func (m meter) read(ctx context.Context, now func() time.Duration) reading {
	r := reading{at: now(), procs: map[process.Ref]used{}}
	stat, err := os.ReadFile("/proc/stat")
	if err == nil {
		r.busy, r.total, r.cores, err = parseStat(stat)
	}
	r.note(err)
	r.groups = true
	for _, n := range m.cluster.Nodes() {
		if n.Role() == clusters.LoadBalancer {
			continue
		}
		spent, err := usage(ctx, n)
		r.nodes += spent
		r.groups = r.groups && err == nil
		r.note(err)
		p, ok := n.(clusters.Processes)
		if !ok {
			r.note(fmt.Errorf("%s does not show its processes", n.Name()))
			continue
		}
		r.note(r.processes(ctx, p))
	}
	r.refusals = true
	for _, e := range m.cluster.Endpoints() {
		if e.Node == nil {
			continue // the load balancer leads to one of them
		}
		n, err := refusals(ctx, e.Config)
		r.rejected += n
		r.refusals = r.refusals && err == nil
		r.note(err)
	}
	return r
}

func (r *reading) note(err error) {
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

// processes adds those of a node.
func (r *reading) processes(ctx context.Context, n clusters.Processes) error {
	pid, err := n.InitPID(ctx)
	if err != nil {
		return err
	}
	name := func(cmdline []string) string { return filepath.Base(cmdline[0]) }
	refs, err := process.Find(pid, func(cmdline []string) bool { return slices.Contains(components, name(cmdline)) })
	if err != nil {
		return err
	}
	for _, ref := range refs {
		dir := filepath.Join("/proc", strconv.Itoa(ref.PID))
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		cmdline, cmdErr := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err = errors.Join(err, cmdErr); errors.Is(err, os.ErrNotExist) || len(cmdline) == 0 && err == nil {
			continue // it ended just now
		}
		if err != nil {
			return err
		}
		t, err := parseProcess(stat)
		if err != nil {
			return err
		}
		r.procs[ref] = used{name(strings.Split(string(cmdline), "\x00")), t}
	}
	return nil
}

// usage is the CPU that a node has used, by its control group.
func usage(ctx context.Context, n clusters.Node) (time.Duration, error) {
	c, ok := n.(clusters.Cgroups)
	if !ok {
		return 0, fmt.Errorf("%s does not show its control group", n.Name())
	}
	g, err := c.Cgroup(ctx)
	if err != nil {
		return 0, err
	}
	if dir := g.Controllers["cpuacct"]; dir != "" {
		text, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage"))
		if err != nil {
			return 0, fmt.Errorf("CPU of %s: %w", n.Name(), err)
		}
		return parseUsage(string(text), "", time.Nanosecond)
	}
	text, err := os.ReadFile(filepath.Join(g.Unified, "cpu.stat"))
	if err != nil {
		return 0, fmt.Errorf("CPU of %s: %w", n.Name(), err)
	}
	return parseUsage(string(text), "usage_usec ", time.Microsecond)
}

// parseUsage reads the number of the line that begins with key: cpuacct.usage is one
// number of nanoseconds, cpu.stat of cgroup v2 has usage_usec in a line of its own
// (Documentation/admin-guide/cgroup-v1/cpuacct.rst, cgroup-v2.rst).
func parseUsage(text, key string, unit time.Duration) (time.Duration, error) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, key); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("CPU of a control group: %w", err)
			}
			return time.Duration(n) * unit, nil
		}
	}
	return 0, fmt.Errorf("CPU of a control group: no %q in %.60q", key, text)
}

// parseStat reads the first line of /proc/stat: busy is all but idle and iowait, and
// guests are in user already (proc_stat(5)).
func parseStat(text []byte) (busy, total uint64, cores int, err error) {
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		if f[0] != "cpu" {
			cores++
			continue
		}
		for i, v := range f[1:min(len(f), 9)] { // user nice system idle iowait irq softirq steal
			n, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				return 0, 0, 0, fmt.Errorf("/proc/stat: %w", err)
			}
			total += n
			if i != 3 && i != 4 {
				busy += n
			}
		}
	}
	if total == 0 || cores == 0 {
		return 0, 0, 0, fmt.Errorf("/proc/stat has an unknown format: %.60q", text)
	}
	return busy, total, cores, nil
}

// parseProcess is the time that a process has used: fields 14 and 15 of its stat.
func parseProcess(text []byte) (uint64, error) {
	// The name may hold brackets and spaces: what follows begins with the third.
	f := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(f) < 13 {
		return 0, fmt.Errorf("stat of a process has an unknown format: %.60q", text)
	}
	var sum uint64
	for _, v := range f[11:13] {
		n, err := strconv.ParseUint(string(v), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat of a process: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// refusals asks an API server how much it refused since it started.
func refusals(ctx context.Context, cfg *rest.Config) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, ask)
	defer cancel()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return 0, err
	}
	text, err := client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("metrics of %s: %w", cfg.Host, err)
	}
	return countRefused(bytes.NewReader(text))
}

// countRefused sums a counter over its labels. One that was never counted up is not
// among the metrics.
func countRefused(text io.Reader) (float64, error) {
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(text)
	if err != nil {
		return 0, fmt.Errorf("metrics of an API server: %w", err)
	}
	sum := 0.0
	for _, m := range families[rejected].GetMetric() {
		sum += m.GetCounter().GetValue()
	}
	return sum, nil
}

// since is what was used between two readings.
func (r reading) since(before reading) history.Busy {
	b := history.Busy{From: before.at, To: r.at, Cores: r.cores}
	if d := r.total - before.total; r.total > before.total && before.total > 0 {
		b.Used = float64(r.busy-before.busy) / float64(d) * float64(r.cores)
	}
	took := (r.at - before.at).Seconds()
	for ref, p := range r.procs {
		if b.By == nil {
			b.By = map[string]float64{}
		}
		if took > 0 {
			b.By[p.name] += float64(p.ticks-before.procs[ref].ticks) / ticks / took
		}
	}
	if took > 0 && r.groups && before.groups && r.nodes >= before.nodes {
		n := (r.nodes - before.nodes).Seconds() / took
		b.Nodes = &n
	}
	if n := r.rejected - before.rejected; r.refusals && before.refusals && n >= 0 {
		b.Rejected = &n
	}
	var errs []string
	for _, err := range slices.Concat(before.errs, r.errs) {
		errs = append(errs, err.Error())
	}
	b.Err = strings.Join(errs, "; ")
	return b
}
