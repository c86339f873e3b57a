package sample

import (
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"gameday/harness/history"
)

const (
	// beaconEvery is how often pods that have something to tell are asked for it, no
	// more than beaconsAtOnce of them, so that many are no load; the others wait.
	beaconEvery   = 2 * time.Second
	beaconsAtOnce = 20
)

// beacons reads what the containers of Jobs wrote of their own lives: the API cuts
// their starts to the second. A pod is asked when it is done or told to go, since
// its log goes with it, and at the end.
type beacons struct {
	client kubernetes.Interface
	record *history.Recorder
	clocks *clocks

	mu   sync.Mutex
	pods map[string]history.Pod // those not asked yet, by UID
	done map[string]bool
}

func newBeacons(client kubernetes.Interface, record *history.Recorder, c *clocks) *beacons {
	return &beacons{client: client, record: record, clocks: c, pods: map[string]history.Pod{}, done: map[string]bool{}}
}

// seen takes each state of a pod.
func (b *beacons) seen(p history.Pod) {
	if !strings.HasPrefix(p.Owner, "Job/") || p.Started.IsZero() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case p.Deleted:
		delete(b.pods, p.UID) // too late; the API's own time is left
	case !b.done[p.UID]:
		b.pods[p.UID] = p
	}
}

func (b *beacons) run(ctx context.Context) {
	tick := time.NewTicker(beaconEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			b.ask(ctx, beaconsAtOnce, func(p history.Pod) bool { return len(p.Containers) == 0 || !p.Deleting.IsZero() })
		}
	}
}

// finish asks all that were not.
func (b *beacons) finish(ctx context.Context) {
	b.ask(ctx, math.MaxInt, func(history.Pod) bool { return true })
}

// ask reads the logs of those of the pods, of so many at most; what fails is tried
// again the next time.
func (b *beacons) ask(ctx context.Context, most int, which func(history.Pod) bool) {
	b.mu.Lock()
	list := slices.Collect(maps.Values(b.pods))
	b.mu.Unlock()
	for _, p := range list {
		i, ok := b.clocks.of(p.Node)
		if !ok || !which(p) || ctx.Err() != nil || most == 0 {
			continue
		}
		most--
		if !b.read(ctx, p, i) {
			continue
		}
		b.mu.Lock()
		b.done[p.UID] = true
		delete(b.pods, p.UID)
		b.mu.Unlock()
	}
}

// read records the life of a pod.
func (b *beacons) read(ctx context.Context, p history.Pod, i interval) bool {
	var start int64
	out := history.Beacon{Namespace: p.Namespace, Pod: p.Name, UID: p.UID, Node: p.Node, Bar: i.bar()}
	err := readLog(ctx, b.client, p.Namespace, p.Name, &corev1.PodLogOptions{}, func(l logLine) {
		if l.Event == "start" && start == 0 {
			start = l.At
		}
		out.Alive = b.clocks.at(l.At, i)
		out.Ended = l.Event == "end"
	})
	if err != nil || start == 0 {
		return false
	}
	b.record.AddAt(b.record.Began().Add(b.clocks.at(start, i)), history.Event{Beacon: &out})
	return true
}
