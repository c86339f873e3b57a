package sample

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/clusters"
	"gameday/harness/history"
)

const (
	// tellEvery is how often the pods' logs are read while the run goes on: what a
	// node holds alone is lost with it.
	tellEvery = 20 * time.Second
	// tellWithin bounds the last reading: a line comes each 5 s, and holds all that
	// began until 1 s before.
	tellWithin = 20 * time.Second
	// tellAgain is between two looks at the end.
	tellAgain = time.Second
	// overlap of two readings of a log, whose times are those of another clock.
	overlap = 10 * time.Second
)

// logLine is a line of a pod of the workload or of a probing pod, as
// harness/workload/agent prints it.
type logLine struct {
	At      int64 // wall clock of the node, ns
	Seq     int64
	Node    string
	Event   string
	Process string
	Probes  *struct {
		Period, Until, Lost, CPU int64
		Series                   []history.ProbeSeries
	}
}

// probes reads what the probing pods print. They write to their nodes' disks
// whatever becomes of the network, so that nothing is lost but what a node loses.
type probes struct {
	client    kubernetes.Interface
	record    *history.Recorder
	clocks    *clocks
	namespace string
	nodes     []string
	requests  bool // they sample, too
	began     time.Duration

	told map[string]*told // by node
}

// told is how far a node's pod was heard.
type told struct {
	seq      map[string]int64 // the last line, by process
	until    time.Duration    // all that began before is in the record
	restarts int32            // of the pod
	uid      string
	read     time.Time // when its log was read the last time
	err      error     // of the last try
}

func newProbes(client kubernetes.Interface, cfg Config, c *clocks) *probes {
	p := &probes{
		client: client, record: cfg.Record, clocks: c, namespace: cfg.Probes,
		requests: cfg.serves("service.availability"), began: cfg.Record.Now(), told: map[string]*told{},
	}
	for _, n := range cfg.Cluster.Nodes() {
		if n.Role() != clusters.LoadBalancer {
			p.nodes = append(p.nodes, n.Name())
			p.told[n.Name()] = &told{seq: map[string]int64{}, until: p.began, err: errors.New("it has no pod")}
		}
	}
	return p
}

func (p *probes) run(ctx context.Context) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		p.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// round asks every pod once. What fails is tried again the next time.
func (p *probes) round(ctx context.Context) {
	list, err := p.client.CoreV1().Pods(p.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		for _, t := range p.told {
			t.err = err
		}
		return
	}
	var all sync.WaitGroup
	for _, n := range p.nodes {
		all.Go(func() {
			// The newest of a node's pods: another may be on its way out.
			var pod *corev1.Pod
			for i := range list.Items {
				if q := &list.Items[i]; q.Spec.NodeName == n && (pod == nil || pod.CreationTimestamp.Before(&q.CreationTimestamp)) {
					pod = q
				}
			}
			if pod != nil {
				p.told[n].err = p.look(ctx, pod, p.told[n])
			}
		})
	}
	// Of a node that joined since, only its clock: the others do not ask its pod. What
	// fails is tried again in the next round, and starts there are told by the API.
	for i := range list.Items {
		if q := &list.Items[i]; q.Spec.NodeName != "" && p.told[q.Spec.NodeName] == nil {
			all.Go(func() { _ = p.clocks.measure(ctx, q) })
		}
	}
	all.Wait()
}

// look takes the time from a pod, and what it printed since the last look.
func (p *probes) look(ctx context.Context, pod *corev1.Pod, t *told) error {
	err := p.clocks.measure(ctx, pod)
	if _, ok := p.clocks.of(pod.Spec.NodeName); !ok || !p.requests {
		return err
	}
	// A clock that cannot be asked just now is as it was.
	began := time.Now()
	restarts := int32(0)
	for _, s := range pod.Status.ContainerStatuses {
		restarts += s.RestartCount
	}
	if t.uid != "" && t.uid == string(pod.UID) && t.restarts != restarts {
		if err := p.read(ctx, pod, t, &corev1.PodLogOptions{Previous: true}); err != nil && ctx.Err() == nil {
			p.gap(pod.Spec.NodeName, t.until, "what the process before had printed is gone: "+short(err.Error()))
		}
	}
	opts := &corev1.PodLogOptions{}
	if t.uid == string(pod.UID) && t.restarts == restarts {
		since := int64((time.Since(t.read) + overlap).Seconds())
		opts.SinceSeconds = &since
	}
	if err := p.read(ctx, pod, t, opts); err != nil {
		return err
	}
	t.uid, t.restarts, t.read = string(pod.UID), restarts, began
	return nil
}

// read takes the lines of a log that are new.
func (p *probes) read(ctx context.Context, pod *corev1.Pod, t *told, opts *corev1.PodLogOptions) error {
	return readLog(ctx, p.client, pod.Namespace, pod.Name, opts, func(l logLine) {
		last := t.seq[l.Process]
		if l.Seq <= last {
			return
		}
		t.seq[l.Process] = l.Seq
		i, _ := p.clocks.of(l.Node)
		if missing := l.Seq - last - 1; missing > 0 {
			p.gap(l.Node, t.until, fmt.Sprintf("%d lines of its pod are missing", missing))
		}
		if l.Probes == nil {
			return
		}
		until := p.clocks.at(l.Probes.Until, i)
		if l.Probes.Lost > 0 {
			p.gap(l.Node, t.until, fmt.Sprintf("its pod had no room for %d lines", l.Probes.Lost))
		}
		t.until = until
		p.record.Add(history.Event{Probes: &history.Probes{
			Node: l.Node, Process: l.Process, Seq: l.Seq, Period: time.Duration(l.Probes.Period), Until: until,
			Bar: i.bar(), Lost: l.Probes.Lost, CPU: time.Duration(l.Probes.CPU), Series: l.Probes.Series,
		}})
	})
}

func (p *probes) gap(node string, from time.Duration, reason string) {
	p.record.Add(history.Event{Gap: &history.Gap{Source: "probe/" + node, From: from, To: p.record.Now(), Reason: reason}})
}

// finish reads until every pod has told all up to a moment, or ctx ends: then what
// is missing is a Gap.
func (p *probes) finish(ctx context.Context, stopped time.Duration) {
	if !p.requests {
		p.round(ctx) // the clocks, once more
		return
	}
	tick := time.NewTicker(tellAgain)
	defer tick.Stop()
	for {
		p.round(ctx)
		behind := slices.DeleteFunc(slices.Clone(p.nodes), func(n string) bool { return p.told[n].until >= stopped })
		if len(behind) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			for _, n := range behind {
				why := "it said no more"
				if err := p.told[n].err; err != nil {
					why = short(err.Error())
				}
				p.gap(n, p.told[n].until, "what its pod saw could not be had: "+why)
			}
			return
		case <-tick.C:
		}
	}
}

// readLog reads a pod's log, line by line. What is no line of the agent, or not
// whole yet, is left out.
func readLog(ctx context.Context, client kubernetes.Interface, namespace, pod string, opts *corev1.PodLogOptions, take func(logLine)) error {
	body, err := client.CoreV1().Pods(namespace).GetLogs(pod, opts).Stream(ctx)
	if err != nil {
		return fmt.Errorf("the log of %s: %w", pod, err)
	}
	defer body.Close()
	in := bufio.NewReader(body)
	for {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the log of %s: %w", pod, err)
		}
		var l logLine
		if json.Unmarshal(text, &l) == nil && l.Seq > 0 {
			take(l)
		}
	}
}
