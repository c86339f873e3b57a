package load

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gameday/faults/mechanism/process"
	"gameday/harness/history"
	"gameday/harness/plan"
	"gameday/harness/slo"
	"gameday/scenarios"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

func TestValidate(t *testing.T) {
	good := Config{Rates: []int{10, 20, 40}, Step: time.Minute, Budget: time.Minute}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Config){
		"0 rates":                   func(c *Config) { c.Rates = nil },
		"rate 20: rates must rise":  func(c *Config) { c.Rates = []int{20, 20} },
		"rate 0":                    func(c *Config) { c.Rates = []int{0} },
		"rate 6000":                 func(c *Config) { c.Rates = []int{6000} },
		"21 rates":                  func(c *Config) { c.Rates = make21() },
		"whole minutes":             func(c *Config) { c.Step = 90 * time.Second },
		"a step of 0s":              func(c *Config) { c.Step = 0 },
		"a budget of 0s":            func(c *Config) { c.Budget = 0 },
		"about 25000 Jobs would be": func(c *Config) { c.Rates, c.Step = []int{5000}, 4*time.Minute },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}

func make21() []int {
	var out []int
	for i := range 21 {
		out = append(out, i+1)
	}
	return out
}

func TestScenarioIsOne(t *testing.T) {
	c := Config{Rates: []int{10, 20}, Step: 2 * time.Minute, Budget: 45 * time.Second}
	s, err := scenarios.Load([]byte(Scenario(c, "v1.37.0", 1, 2)), "load", plan.Known())
	if err != nil {
		t.Fatal(err)
	}
	if s.Run != c.Bound() || s.Workload.CronJobs.Count != 10 || s.SLOs[0].With.(*slo.CronStartLatency).P99 != c.Budget {
		t.Errorf("%+v", s)
	}
}

func TestPhaseNames(t *testing.T) {
	if n, ok := rateOf(phaseName(40)); !ok || n != 40 {
		t.Errorf("%d, %v", n, ok)
	}
	for _, p := range []string{"upgrade/worker[0]", "load/x-a-minute", "load/4-a-minute/more"} {
		if _, ok := rateOf(p); ok {
			t.Errorf("%s is a step", p)
		}
	}
}

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// book is a record of a load on two workers.
type book struct {
	h     *history.History
	crons int
}

func newBook() *book {
	b := &book{h: &history.History{
		Run:  history.Run{ID: "r", Began: began, From: "v1.37.0", Cores: 2},
		Last: 30 * time.Minute, End: &history.Timed[history.End]{At: 30 * time.Minute},
	}}
	for i, p := range []string{"control-plane[0]", "worker[0]", "worker[1]"} {
		add(&b.h.Nodes, 0, history.Node{Name: fmt.Sprintf("n%d", i), Place: p, Ready: "True"})
	}
	add(&b.h.Stages, 29*60, history.Stage{Name: "final", State: "began"})
	return b
}

func add[T any](to *[]history.Timed[T], s float64, v T) {
	*to = append(*to, history.Timed[T]{At: time.Duration(s * float64(time.Second)), V: v})
}

// times are when the parts of the way of a slot were done, in s after it; -1 is
// never. i counts the slots of the minute.
type times func(i int) [4]int

// step is a rate, of which the slot of one minute is judged.
func (b *book) step(minute, rate int, from, to float64, way times) *book {
	path := phaseName(rate)
	for ; b.crons < rate; b.crons++ {
		name := fmt.Sprintf("c%03d", b.crons)
		add(&b.h.CronJobs, from-5, history.CronJob{Name: name, UID: name, Schedule: "* * * * *", Policy: "Allow", Created: began.Add(time.Duration(from-5) * time.Second)})
	}
	slot := began.Add(time.Duration(minute) * time.Minute)
	at := func(s int) time.Time {
		if s < 0 {
			return time.Time{}
		}
		return slot.Add(time.Duration(s) * time.Second)
	}
	add(&b.h.Phases, from, history.Phase{Path: path, State: "began"})
	for i := range rate {
		w, name := way(i), fmt.Sprintf("c%03d-%d", i, minute)
		if w[0] < 0 {
			continue
		}
		add(&b.h.Jobs, float64(minute*60+w[0]), history.Job{UID: name, Name: name, CronJob: fmt.Sprintf("c%03d", i), CronJobUID: fmt.Sprintf("c%03d", i), Slot: slot, Created: at(w[0])})
		if w[1] >= 0 {
			add(&b.h.Pods, float64(minute*60+w[1]), history.Pod{UID: name + "p", Owner: "Job/" + name, OwnerUID: name, Created: at(w[1]), Scheduled: at(w[2]), Started: at(w[3])})
		}
	}
	add(&b.h.Phases, to, history.Phase{Path: path, State: "ended", Outcome: "proceeded"})
	return b
}

func (b *book) busy(from, to, used float64, rejected float64, errText string) *book {
	sec := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	nodes := used - 0.3
	add(&b.h.Busy, to, history.Busy{From: sec(from), To: sec(to), Cores: 2, Used: used, Nodes: &nodes, By: map[string]float64{"kubelet": 0.4, "etcd": 0.1}, Rejected: &rejected, Err: errText})
	return b
}

func quick(i int) [4]int { return [4]int{0, 1, 1, 2 + i%3} }

const budget = time.Minute

func TestAnalyse(t *testing.T) {
	// A step that breaks goes on until its slot is older than the budget.
	broken := func(way times) *book {
		return newBook().step(2, 10, 110, 126, quick).step(3, 40, 150, 242, way)
	}
	starve := func(hop int) times {
		return func(i int) [4]int {
			w := [4]int{1, 2, 3, 4}
			for h := hop; h < 4; h++ {
				if w[h] += 2 * i; w[h] > 61 {
					w[h] = -1
				}
			}
			return w
		}
	}
	evenly := func(i int) [4]int { w := i * 17 / 40; return [4]int{w, 2 * w, 3 * w, 4 * w} }
	for _, tc := range []struct {
		name            string
		book            *book
		verdict         slo.Verdict
		held            int
		reason, because string // because: what was saturated
		why             string
	}{
		{"all held", newBook().step(2, 10, 110, 126, quick).step(3, 20, 150, 186, quick), slo.Pass, 20, "above 20", "nothing: every rate was held", ""},
		{"the scheduler", broken(starve(2)).busy(180, 242, 1.1, 0, ""), slo.Pass, 10, "between 10 and 40", "scheduler", "CPU of the machine: 1.10 of 2 cores (the cluster's nodes 0.80: kubelet 0.40, etcd 0.10, starters of containers and all else 0.30)"},
		{"the kubelet", broken(starve(3)).busy(180, 242, 1.1, 0, ""), slo.Pass, 10, "between 10 and 40", "kubelet and container runtime", "kubelet and container runtime: node to container: "},
		{"the CronJob controller", broken(starve(0)).busy(180, 242, 1.1, 0, ""), slo.Pass, 10, "between 10 and 40", "CronJob controller", ""},
		{"the machine, seen at the kubelet", broken(starve(3)).busy(180, 242, 1.95, 0, ""), slo.Pass, 10, "between 10 and 40", "CPU of the machine; pods waited longest for kubelet and container runtime", ""},
		{"the machine, full of others", func() *book {
			b := broken(starve(3)).busy(180, 242, 1.95, 0, "")
			few := 0.5
			b.h.Busy[0].V.Nodes = &few
			return b
		}(), slo.Pass, 10, "", "CPU of the machine (most of it used by others than the cluster: measure on a machine of its own); pods waited longest for kubelet and container runtime", "the cluster's nodes 0.50"},
		{"the machine, whoever filled it", func() *book {
			b := broken(starve(3)).busy(180, 242, 1.95, 0, "")
			b.h.Busy[0].V.Nodes = nil
			return b
		}(), slo.Pass, 10, "", "CPU of the machine (how much of it was the cluster's is not known); pods waited longest for kubelet and container runtime", "the rest of the machine too, 1.45"},
		{"the API server", broken(evenly).busy(180, 242, 1, 17, ""), slo.Pass, 10, "", "API server", "refused (429): 17"},
		{"nothing stands out", broken(evenly).busy(180, 242, 1, 0, ""), slo.Pass, 10, "", "not known", ""},
		{"nothing was read of the machine", broken(starve(3)), slo.Pass, 10, "", "kubelet and container runtime", "CPU of the machine: not known"},
		{"broken from the start", newBook().step(3, 40, 150, 242, starve(3)), slo.Pass, 0, "below 40", "kubelet and container runtime", ""},
		{"a step without an end", func() *book {
			b := newBook().step(2, 10, 110, 126, quick).step(3, 20, 150, 186, quick)
			b.h.Phases = b.h.Phases[:3]
			return b
		}(), slo.Inconclusive, 10, "load/20-a-minute did not end", "not known", ""},
		{"a gap", func() *book {
			b := newBook().step(2, 10, 110, 126, quick)
			add(&b.h.Gaps, 120, history.Gap{Source: "watch/pods", From: 119 * time.Second, To: 121 * time.Second, Reason: "compacted"})
			return b
		}(), slo.Inconclusive, 0, "the record has a gap: watch/pods: compacted", "not known", ""},
		{"too close to tell", newBook().step(2, 10, 110, 182, func(int) [4]int { return [4]int{0, 0, 0, 60} }), slo.Inconclusive, 0, "too close to the budget for its error bar", "not known", ""},
		{"interrupted", func() *book {
			b := newBook().step(2, 10, 110, 126, quick)
			b.h.End.V = history.End{Interrupted: true, Reason: "Ctrl-C"}
			return b
		}(), slo.Inconclusive, 10, "the run ended early: Ctrl-C", "not known", ""},
		{"no step at all", newBook(), slo.Inconclusive, 0, "no step is in the record", "not known", ""},
		{"CronJobs that are not in the record", func() *book {
			b := newBook().step(2, 10, 110, 126, quick)
			b.h.CronJobs = b.h.CronJobs[:5]
			return b
		}(), slo.Inconclusive, 0, "no slot of it is in the record", "not known", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := Analyse(tc.book.h, budget)
			if d.Verdict != tc.verdict || d.Held != tc.held || !strings.Contains(d.Reason, tc.reason) {
				t.Errorf("%s, held %d: %s", d.Verdict, d.Held, d.Reason)
			}
			if d.Saturated != tc.because || !strings.Contains(strings.Join(d.Why, "\n"), tc.why) {
				t.Errorf("saturated %s: %q", d.Saturated, d.Why)
			}
			if broke := len(d.Why) > 0; (d.Broke != nil) != broke {
				t.Errorf("broke: %v, with grounds: %v", d.Broke, broke)
			}
		})
	}
}

// Pods that no node has room for are told apart from a scheduler that is slow.
func TestNoRoom(t *testing.T) {
	b := newBook().step(3, 40, 150, 242, func(i int) [4]int {
		if i < 20 {
			return [4]int{0, 1, 1, 2}
		}
		return [4]int{0, 1, -1, -1}
	})
	for i := range b.h.Pods {
		if b.h.Pods[i].V.Scheduled.IsZero() {
			b.h.Pods[i].V.Unschedulable = "0/3 nodes are available: 2 Too many pods."
		}
	}
	d := Analyse(b.h, budget)
	if d.Saturated != "room on the nodes" || !strings.Contains(strings.Join(d.Why, "\n"), "20 pods, such as: 0/3 nodes are available") {
		t.Errorf("%s: %q", d.Saturated, d.Why)
	}
	if s := d.Steps[0]; s.Started != 20 || *s.PerSecond != 20.0/3 || *s.PerNode != 20.0/6 {
		t.Errorf("%+v, %v a second, %v of each node", s, *s.PerSecond, *s.PerNode)
	}
}

// The minute that begins while the last starts are waited for is not judged: it had
// no time.
func TestYoungMinute(t *testing.T) {
	b := newBook().step(2, 10, 110, 182, func(i int) [4]int { return [4]int{0, 0, 0, 5 + 6*i} })
	b.h.Phases[1].At = 182 * time.Second
	d := Analyse(b.h, budget)
	if s := d.Steps[0]; s.Slots != 10 || s.Started != 10 || *s.P99 != 59 {
		t.Errorf("%+v", s)
	}
}

func TestTable(t *testing.T) {
	b := newBook().step(2, 10, 110, 126, quick).busy(120, 126, 0.8, 0, "").step(3, 40, 150, 242, func(i int) [4]int { return [4]int{0, 1, 2, 4 + 2*i} }).busy(180, 242, 1.93, 0, "n0: gone")
	d := Analyse(b.h, budget)
	var got bytes.Buffer
	if err := d.Text(&got); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "table.golden")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	page, err := d.HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"between 10 and 40", `class="limit"`, "Where the time went", "1.9 of 2 cores", `<section class="banner pass"`} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(string(page), "<script") {
		t.Error("the page holds a script")
	}
}

func TestReadings(t *testing.T) {
	busy, total, cores, err := parseStat([]byte("cpu  100 5 20 300 40 1 2 3 9 9\ncpu0 50 0 0 0 0 0 0 0\ncpu1 50 0 0 0 0 0 0 0\nintr 5\n"))
	if err != nil || busy != 131 || total != 471 || cores != 2 {
		t.Errorf("%d of %d on %d: %v", busy, total, cores, err)
	}
	if _, _, _, err := parseStat([]byte("nonsense")); err == nil {
		t.Error("nonsense was read")
	}
	n, err := parseProcess([]byte("12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 99"))
	if err != nil || n != 300 {
		t.Errorf("%d: %v", n, err)
	}
	if _, err := parseProcess([]byte("12 (a) S")); err == nil {
		t.Error("half a line was read")
	}
	sum, err := countRefused(strings.NewReader("# TYPE " + rejected + " counter\n" + rejected + "{reason=\"a\"} 3\n" + rejected + "{reason=\"b\"} 4\nother 5\n"))
	if err != nil || sum != 7 {
		t.Errorf("%v: %v", sum, err)
	}
}

func TestUsage(t *testing.T) {
	v1, err := parseUsage("1500000000\n", "", time.Nanosecond)
	if err != nil || v1 != 1500*time.Millisecond {
		t.Errorf("%s: %v", v1, err)
	}
	v2, err := parseUsage("nr_periods 3\nusage_usec 2500000\nuser_usec 1\n", "usage_usec ", time.Microsecond)
	if err != nil || v2 != 2500*time.Millisecond {
		t.Errorf("%s: %v", v2, err)
	}
	for _, text := range []string{"", "user_usec 1\n", "usage_usec much\n"} {
		if _, err := parseUsage(text, "usage_usec ", time.Microsecond); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestSince(t *testing.T) {
	ref := func(pid int) process.Ref { return process.Ref{PID: pid} }
	a := reading{at: 10 * time.Second, cores: 2, busy: 1000, total: 5000, refusals: true, rejected: 3, groups: true, nodes: 3 * time.Second, procs: map[process.Ref]used{ref(1): {"etcd", 100}}}
	b := reading{at: 20 * time.Second, cores: 2, busy: 2500, total: 7000, refusals: true, rejected: 5, groups: true, nodes: 9 * time.Second, procs: map[process.Ref]used{ref(1): {"etcd", 300}, ref(2): {"etcd", 100}, ref(3): {"kubelet", 50}}}
	got := b.since(a)
	two, most := 2.0, 0.6
	want := history.Busy{From: 10 * time.Second, To: 20 * time.Second, Cores: 2, Used: 1.5, Nodes: &most, By: map[string]float64{"etcd": 0.3, "kubelet": 0.05}, Rejected: &two}
	if d := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	// What could not be read is no zero.
	b.groups = false
	b.refusals, b.errs, b.total, b.procs = false, []error{errors.New("no answer")}, 0, nil
	got = b.since(a)
	if got.Rejected != nil || got.Nodes != nil || got.Used != 0 || got.By != nil || got.Err != "no answer" || machine(&got) != "not known" {
		t.Errorf("%+v", got)
	}
}

func TestUntil(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if err := until(ctx, time.Now().Add(time.Hour), nil); err == nil || err.Error() != "enough" {
		t.Error(err)
	}
	if err := until(t.Context(), time.Now().Add(time.Hour), func() (bool, error) { return true, nil }); err != nil {
		t.Error(err)
	}
	if err := until(t.Context(), time.Now(), nil); err != nil {
		t.Error(err)
	}
}
